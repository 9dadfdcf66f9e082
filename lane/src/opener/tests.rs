use proptest::prelude::*;

use super::*;
use crate::protect::PacketKey;
use crate::{SealError, Sealer};

const AEADS: [Aead; 2] = [Aead::Aes128Gcm, Aead::ChaCha20Poly1305];

fn sealer(aead: Aead) -> Sealer {
    Sealer::new(Secret::from([1; 32]), aead, LaneId::from_random(&[1, 2]).unwrap())
}

fn opener(aead: Aead) -> Opener {
    Opener::new(Secret::from([1; 32]), aead, 2)
}

fn seal(sealer: &Sealer, datagram: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; sealer.overhead() + datagram.len()];
    buf[sealer.header_len()..][..datagram.len()].copy_from_slice(datagram);
    assert_eq!(sealer.seal(&mut buf, datagram.len(), false), Ok(buf.len()));
    buf
}

/// A packet as another sender could write it: any first byte and 1 to 4 counter bytes.
fn craft(aead: Aead, first: u8, counter: u64, counter_len: usize, datagram: &[u8]) -> Vec<u8> {
    let secret = Secret::from([1; 32]);
    let mut packet = vec![first | (counter_len as u8 - 1), 0x81, 2];
    packet.extend_from_slice(&counter.to_be_bytes()[8 - counter_len..]);
    let mut sealed = datagram.to_vec();
    let tag = PacketKey::new(aead, &secret)
        .seal(counter, &packet, &mut sealed)
        .unwrap();
    packet.extend(sealed);
    packet.extend(tag);
    if let Some(mask) = HeaderKey::new(aead, &secret).mask(&packet, 3) {
        let (first, rest) = packet.split_first_mut().unwrap();
        apply_mask(mask, first, &mut rest[2..2 + counter_len]);
    }
    packet
}

#[test]
fn accepts_one_to_four_counter_bytes() {
    for aead in AEADS {
        for counter_len in 1..=4 {
            let opener = opener(aead);
            let mut packet = craft(aead, 0x40, 100, counter_len, b"hello");
            let opened = opener.open(&mut packet).unwrap();
            assert_eq!(
                (opened.counter, &packet[opened.range]),
                (100, b"hello".as_slice())
            );
        }
    }
}

#[test]
fn refuses_packets_without_room_for_a_datagram() {
    let opener = opener(Aead::Aes128Gcm);
    for len in 0..min_packet(2) {
        assert_eq!(opener.open(&mut vec![0x40; len]), Err(OpenError::Short));
    }
    for len in 0..2 {
        assert_eq!(
            opener.open(&mut craft(Aead::Aes128Gcm, 0x40, 0, 4, &[0; 2][..len])),
            Err(OpenError::Short)
        );
    }
    assert!(
        opener
            .open(&mut craft(Aead::Aes128Gcm, 0x40, 0, 4, &[0; 2]))
            .is_ok()
    );
}

#[test]
fn drops_reserved_bits_only_after_they_proved_to_be_the_peers() {
    for bits in [0x08, 0x10, 0x18] {
        let opener = opener(Aead::Aes128Gcm);
        assert_eq!(
            opener.open(&mut craft(Aead::Aes128Gcm, 0x40 | bits, 0, 2, b"hello")),
            Err(OpenError::Reserved)
        );
        assert_eq!(opener.expected_counter(), 0);
    }
}

#[test]
fn a_wrong_key_phase_is_not_even_tried() {
    let opener = opener(Aead::Aes128Gcm);
    let mut packet = craft(Aead::Aes128Gcm, 0x44, 0, 2, b"hello");
    assert_eq!(opener.open(&mut packet), Err(OpenError::KeyPhase));
    let mut far = craft(Aead::Aes128Gcm, 0x40, 2 << 16, 4, b"hello");
    assert_eq!(
        opener.open(&mut far),
        Err(OpenError::KeyPhase),
        "its generation has no key yet"
    );
    assert_eq!(opener.failures(), 0);
}

#[test]
fn a_failure_leaves_what_a_stateless_reset_needs() {
    for aead in AEADS {
        let opener = opener(aead);
        for i in 0..2_000_u32 {
            let mut packet: Vec<u8> = (0..43)
                .map(|n| (i.wrapping_mul(2_654_435_761) >> (n % 24)) as u8)
                .collect();
            packet[0] = 0x40 | (packet[0] & 0x3f);
            let before = packet.clone();
            assert!(opener.open(&mut packet).is_err());
            assert_eq!(packet[0], before[0]);
            assert_eq!(packet[packet.len() - 16..], before[before.len() - 16..]);
        }
        assert!(opener.failures() > 0);
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    for aead in AEADS {
        let packet = seal(&sealer(aead), b"hello");
        let opener = opener(aead);
        for bit in 0..packet.len() * 8 {
            let mut changed = packet.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(opener.open(&mut changed).is_err(), "bit {bit}");
        }
        assert!(opener.open(&mut packet.clone()).is_ok());
    }
}

#[test]
fn failures_close_the_lane_at_their_limit() {
    let opener = opener(Aead::Aes128Gcm);
    let sealer = sealer(Aead::Aes128Gcm);
    opener.failures.store(FAILURE_LIMIT - 1, Ordering::Relaxed);
    let mut broken = seal(&sealer, b"hello");
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(opener.open(&mut broken), Err(OpenError::Failed));
    assert_eq!(opener.open(&mut seal(&sealer, b"hello")), Err(OpenError::Closed));
}

#[test]
fn several_threads_open_each_packet_once() {
    let (sealer, opener) = (sealer(Aead::Aes128Gcm), opener(Aead::Aes128Gcm));
    let packets: Vec<_> = (0..1_000).map(|_| seal(&sealer, b"hello")).collect();
    let opened: usize = std::thread::scope(|scope| {
        let work = || {
            packets
                .iter()
                .filter(|packet| opener.open(&mut packet.to_vec()).is_ok())
                .count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(opened, packets.len());
}

#[test]
fn lanes_do_not_open_each_others_packets() {
    let other = Opener::new(Secret::from([2; 32]), Aead::Aes128Gcm, 2);
    assert!(other.open(&mut seal(&sealer(Aead::Aes128Gcm), b"hello")).is_err());
    assert!(
        opener(Aead::ChaCha20Poly1305)
            .open(&mut seal(&sealer(Aead::Aes128Gcm), b"hello"))
            .is_err()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn loss_reordering_and_copies_never_mix_up_counters(
        steps in prop::collection::vec((1_usize..12_000, 0_usize..900, any::<bool>()), 1..40),
    ) {
        let (sealer, opener) = (sealer(Aead::Aes128Gcm), opener(Aead::Aes128Gcm));
        let mut highest = None;
        for (gap, back, copy) in steps {
            let mut sent: Vec<Vec<u8>> = Vec::new();
            for _ in 0..gap {
                sent.push(seal(&sealer, &sealer.next_counter().to_be_bytes()));
            }
            let newest = sealer.next_counter() - 1;
            let first = newest + 1 - sent.len() as u64;
            for position in [sent.len() - 1, (sent.len() - 1).saturating_sub(back)] {
                let counter = first + position as u64;
                let mut packet = sent[position].clone();
                let seen = highest == Some(counter);
                match opener.open(&mut packet) {
                    Ok(opened) => {
                        prop_assert!(!seen);
                        prop_assert_eq!(opened.counter, counter);
                        prop_assert!(packet[opened.range] == counter.to_be_bytes());
                    }
                    Err(error) => prop_assert!(seen && error == OpenError::Replay),
                }
                highest = highest.max(Some(counter));
                if copy {
                    prop_assert_eq!(opener.open(&mut sent[position].clone()), Err(OpenError::Replay));
                }
            }
            sealer.confirm(newest);
        }
    }

    #[test]
    fn nothing_that_was_not_sealed_opens(mut packet in prop::collection::vec(any::<u8>(), 0..200)) {
        let before = packet.clone();
        prop_assert!(opener(Aead::ChaCha20Poly1305).open(&mut packet).is_err());
        prop_assert_eq!(packet.first(), before.first());
        prop_assert_eq!(packet.iter().rev().take(16).eq(before.iter().rev().take(16)), true);
    }
}

#[test]
fn an_unconfirmed_sender_stops_before_its_receiver_is_deaf() {
    let (sealer, opener) = (sealer(Aead::Aes128Gcm), opener(Aead::Aes128Gcm));
    opener.open(&mut seal(&sealer, b"hello")).unwrap();
    let mut buf = vec![0; 64];
    while sealer.seal(&mut buf, 2, false) != Err(SealError::Unconfirmed) {}
    let (len, counter) = sealer
        .seal_ping(wzp_wire::Instant::ZERO, &mut buf, 8, false)
        .unwrap();
    assert_eq!(
        opener.open(&mut buf[..len]).map(|opened| opened.counter),
        Ok(counter)
    );
}
