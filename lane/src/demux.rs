//! Telling lane packets from QUIC packets on one socket.
//!
//! Receivers choose both kinds of connection id, so the rule is theirs alone: the top bit of a short header's
//! first id byte is 0 for QUIC and 1 for a lane.

use wzp_wire::Instant;

use crate::{LaneId, min_packet};

/// The bit of an id's first byte that marks a lane.
pub const LANE_BIT: u8 = 0x80;

const LONG_HEADER: u8 = 0x80;
const FIXED_BIT: u8 = 0x40;

/// Where a datagram belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// To the QUIC endpoint, whole.
    Quic,
    /// Looks like a lane packet: look its id up. If that is unknown, or the packet does not open, it may still
    /// be a stateless reset: see [`ResetQuota`].
    Lane,
    /// To nobody.
    Drop(DropReason),
}

/// Why a datagram is for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// It has no bytes.
    Empty,
    /// The fixed bit is 0, which no peer of ours sends: greasing is off.
    FixedBit,
}

/// Sorts a datagram received by an endpoint whose ids are `id_len` bytes long.
///
/// A datagram that starts with a short header is one packet: coalesced packets have long headers before it.
pub fn classify(datagram: &[u8], id_len: usize) -> Class {
    let [first, rest @ ..] = datagram else {
        return Class::Drop(DropReason::Empty);
    };
    if first & LONG_HEADER != 0 {
        return Class::Quic;
    }
    if first & FIXED_BIT == 0 {
        return Class::Drop(DropReason::FixedBit);
    }
    match rest.first() {
        Some(id) if id & LANE_BIT != 0 && datagram.len() >= min_packet(id_len) => Class::Lane,
        _ => Class::Quic,
    }
}

/// The lane id of a datagram that [`classify`] found to be a lane packet.
pub fn lane_id(datagram: &[u8], id_len: usize) -> Option<LaneId> {
    datagram.get(1..1 + id_len).and_then(LaneId::new)
}

/// How many lane-like packets that no lane opened one thread hands to QUIC, which looks for stateless resets.
///
/// Half of all stateless resets look like lane packets, but checking each stray packet would let anyone load the
/// QUIC endpoint. Ask only for packets from an address of a live session.
#[derive(Debug, Default)]
pub struct ResetQuota {
    since: Instant,
    used: u32,
}

impl ResetQuota {
    /// Packets a second.
    pub const PER_SECOND: u32 = 100;

    /// Whether one more packet may go to QUIC now.
    pub fn take(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since).as_secs() >= 1 {
            *self = Self { since: now, used: 0 };
        }
        if self.used >= Self::PER_SECOND {
            return false;
        }
        self.used += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(first: u8, id: u8, len: usize) -> Vec<u8> {
        let mut datagram = vec![0; len];
        datagram[0] = first;
        datagram[1] = id;
        datagram
    }

    #[test]
    fn long_headers_go_to_quic_whatever_follows() {
        assert_eq!(classify(&[0xc0], 8), Class::Quic);
        assert_eq!(classify(&short(0x80, 0xff, 1_200), 8), Class::Quic);
    }

    #[test]
    fn short_headers_go_by_the_top_bit_of_the_id() {
        assert_eq!(classify(&short(0x40, 0x7f, 100), 8), Class::Quic);
        assert_eq!(classify(&short(0x40, 0x80, 100), 8), Class::Lane);
        assert_eq!(classify(&short(0x7f, 0xff, 65_507), 8), Class::Lane);
    }

    #[test]
    fn what_is_too_short_for_a_lane_goes_to_quic() {
        for id_len in [2, 8, 20] {
            assert_eq!(classify(&short(0x40, 0x80, 20 + id_len), id_len), Class::Quic);
            assert_eq!(classify(&short(0x40, 0x80, 21 + id_len), id_len), Class::Lane);
        }
        assert_eq!(classify(&[0x40], 8), Class::Quic);
    }

    #[test]
    fn nothing_and_a_cleared_fixed_bit_are_dropped() {
        assert_eq!(classify(&[], 8), Class::Drop(DropReason::Empty));
        assert_eq!(
            classify(&short(0x3f, 0x80, 100), 8),
            Class::Drop(DropReason::FixedBit)
        );
    }

    #[test]
    fn every_length_of_a_datagram_is_sorted() {
        let bytes = short(0x40, 0x80, 65_507);
        for len in 0..=bytes.len() {
            assert_eq!(classify(&bytes[..len], 8) == Class::Lane, len >= 29);
        }
    }

    #[test]
    fn the_quota_refills_every_second() {
        let mut quota = ResetQuota::default();
        let now = Instant::from_micros(500);
        assert_eq!((0..1_000).filter(|_| quota.take(now)).count(), 100);
        assert!(!quota.take(Instant::from_micros(999_999)));
        assert!(quota.take(Instant::from_micros(2_000_000)));
    }
}
