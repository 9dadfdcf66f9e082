//! The voice packet of the load: well-formed as far as a relay reads it, with the time of sending behind that.

use wzp_socket::clock;
use wzp_wire::{Datagram, Instant, SenderId};

/// Ciphertext and tag of a frame of 60 bytes.
const SEALED_BYTES: usize = 76;
const HEADER_BYTES: usize = 4;
const PACKET: usize = HEADER_BYTES + SEALED_BYTES;
/// MEDIA datagram: header, packet.
pub(super) const DATAGRAM: usize = Datagram::MEDIA_HEADER + PACKET;
const STAMP: usize = Datagram::MEDIA_HEADER + HEADER_BYTES;

/// A datagram of `sender`, sent now.
pub(super) fn datagram(sender: SenderId) -> [u8; DATAGRAM] {
    let mut packet = [0x5a; PACKET];
    // A mini header of context 1, as loud as can be.
    packet[..HEADER_BYTES].copy_from_slice(&[0x81, 0xf0, 0, 0]);
    let mut datagram = [0; DATAGRAM];
    let media = Datagram::Media {
        sender,
        packet: &packet,
    };
    // It has exactly the length it needs.
    let _ = media.encode(&mut datagram);
    datagram[STAMP..STAMP + 8].copy_from_slice(&clock::now().as_micros().to_be_bytes());
    datagram
}

/// How long ago a datagram was sent, in microseconds.
pub(super) fn age_us(datagram: &[u8]) -> Option<u32> {
    let stamp = datagram.get(STAMP..)?.first_chunk::<8>()?;
    let sent = Instant::from_micros(u64::from_be_bytes(*stamp));
    u32::try_from(clock::now().duration_since(sent).as_micros()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_a_loud_media_packet_that_knows_its_age() {
        let sender = SenderId::new(7).unwrap();
        let bytes = datagram(sender);
        let Ok(Datagram::Media {
            sender: found,
            packet,
        }) = Datagram::decode(&bytes)
        else {
            unreachable!()
        };
        assert_eq!((found, packet.len()), (sender, PACKET));
        assert_eq!(packet[1] >> 4, 15);
        assert!(age_us(&bytes).unwrap() < 1_000_000);
    }
}
