//! Whatever arrives on a lane: what was sealed opens once and whole, nothing else opens, and a packet that does not
//! open keeps the bytes that tell a stateless reset.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wzp_lane::{Aead, LaneId, OpenError, Opener, Sealer, Secret};

struct Lane {
    sealer: Sealer,
    opener: Opener,
}

impl Lane {
    fn new(options: u8) -> Self {
        let aead = if options & 1 == 0 {
            Aead::Aes128Gcm
        } else {
            Aead::ChaCha20Poly1305
        };
        let id_len = usize::from(options >> 1) % LaneId::MAX_LEN + 1;
        let id = LaneId::from_random(&[0x5a; LaneId::MAX_LEN][..id_len]).expect("1 to 20 bytes");
        let secret = || Secret::from([7; Secret::LEN]);
        Self {
            sealer: Sealer::new(secret(), aead, id),
            opener: Opener::new(secret(), aead, id_len),
        }
    }

    fn seal(&self, datagram: &[u8]) -> Option<(u64, Vec<u8>)> {
        let mut packet = vec![0; self.sealer.overhead() + datagram.len()];
        packet[self.sealer.header_len()..][..datagram.len()].copy_from_slice(datagram);
        let counter = self.sealer.next_counter();
        self.sealer
            .seal(&mut packet, datagram.len(), counter & 2 == 0)
            .ok()?;
        Some((counter, packet))
    }

    fn refuse(&self, packet: &[u8]) -> OpenError {
        let mut tried = packet.to_vec();
        let error = self
            .opener
            .open(&mut tried)
            .expect_err("the peer did not seal this");
        assert_eq!(tried.first(), packet.first());
        assert!(tried.iter().rev().take(16).eq(packet.iter().rev().take(16)));
        error
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((options, mut rest)) = bytes.split_first() else {
        return;
    };
    let lane = Lane::new(*options);
    while let [operation, length, tail @ ..] = rest {
        let (chunk, after) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = after;
        match operation % 4 {
            0 => {
                lane.refuse(chunk);
            }
            1 => {
                for _ in 0..usize::from(*length) * 16 {
                    lane.seal(b"lost");
                }
            }
            _ => {
                let Some((counter, packet)) = lane.seal(chunk) else {
                    continue;
                };
                let mut changed = packet.clone();
                let bit = usize::from(*operation >> 2) * 7 % (changed.len() * 8);
                changed[bit / 8] ^= 1 << (bit % 8);
                // The lane id is the demux's business; but it is authenticated all the same.
                lane.refuse(&changed);
                let mut opening = packet.clone();
                let opened = lane
                    .opener
                    .open(&mut opening)
                    .expect("sealed by the peer and not lost");
                assert_eq!((opened.counter, opened.newest), (counter, true));
                assert_eq!(&opening[opened.range], chunk);
                assert_eq!(lane.refuse(&packet), OpenError::Replay);
                lane.sealer.confirm(counter);
            }
        }
    }
});
