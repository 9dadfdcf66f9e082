//! Telling lane packets from QUIC packets on one socket.
//!
//! Receivers choose both kinds of connection id, so the rule is theirs alone: one bit of the id in a short header is
//! 0 for QUIC and 1 for a lane. Which one that is, the receiver's [`Layout`](crate::ids::Layout) says.

use wzp_wire::Instant;

use crate::min_packet;

/// The bit that marks a lane, of the byte that a [`Rule`] names.
pub const LANE_BIT: u8 = 0x80;

const LONG_HEADER: u8 = 0x80;
const FIXED_BIT: u8 = 0x40;

/// Where a datagram belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// To the QUIC endpoint, whole.
    Quic,
    /// Looks like a lane packet: look [its id](Rule::id) up. If that is unknown, or the packet does not open, it may still
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

/// How one receiver tells the packets apart that come to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Where the byte with the mark stands in a packet.
    mark: usize,
    /// Where the id ends in a packet.
    end: usize,
    min_packet: usize,
}

impl Rule {
    /// Lane ids are `id_len` bytes long, and the first bit of an id is the mark.
    pub const fn first_bit(id_len: usize) -> Self {
        Self::marked_at(0, id_len)
    }

    /// Lane ids are `id_len` bytes long, and the first bit of byte `at` is the mark.
    pub(crate) const fn marked_at(at: usize, id_len: usize) -> Self {
        Self {
            mark: 1 + at,
            end: 1 + id_len,
            min_packet: min_packet(id_len),
        }
    }

    /// Sorts a datagram.
    ///
    /// One that starts with a short header is one packet: coalesced packets have long headers before it.
    #[inline]
    pub fn classify(&self, datagram: &[u8]) -> Class {
        let Some(first) = datagram.first() else {
            return Class::Drop(DropReason::Empty);
        };
        if first & LONG_HEADER != 0 {
            return Class::Quic;
        }
        if first & FIXED_BIT == 0 {
            return Class::Drop(DropReason::FixedBit);
        }
        match datagram.get(self.mark) {
            Some(byte) if byte & LANE_BIT != 0 && datagram.len() >= self.min_packet => Class::Lane,
            _ => Class::Quic,
        }
    }

    /// The id in a datagram with a short header, as long as ours are.
    #[inline]
    pub fn id<'a>(&self, datagram: &'a [u8]) -> Option<&'a [u8]> {
        datagram.get(1..self.end)
    }
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

    const EIGHT: Rule = Rule::first_bit(8);

    fn short(first: u8, id: u8, len: usize) -> Vec<u8> {
        let mut datagram = vec![0; len];
        datagram[0] = first;
        datagram[1] = id;
        datagram
    }

    #[test]
    fn long_headers_go_to_quic_whatever_follows() {
        assert_eq!(EIGHT.classify(&[0xc0]), Class::Quic);
        assert_eq!(EIGHT.classify(&short(0x80, 0xff, 1_200)), Class::Quic);
    }

    #[test]
    fn short_headers_go_by_the_top_bit_of_the_id() {
        assert_eq!(EIGHT.classify(&short(0x40, 0x7f, 100)), Class::Quic);
        assert_eq!(EIGHT.classify(&short(0x40, 0x80, 100)), Class::Lane);
        assert_eq!(EIGHT.classify(&short(0x7f, 0xff, 65_507)), Class::Lane);
    }

    #[test]
    fn what_is_too_short_for_a_lane_goes_to_quic() {
        for id_len in [2, 8, 20] {
            let rule = Rule::first_bit(id_len);
            assert_eq!(rule.classify(&short(0x40, 0x80, 20 + id_len)), Class::Quic);
            assert_eq!(rule.classify(&short(0x40, 0x80, 21 + id_len)), Class::Lane);
        }
        assert_eq!(EIGHT.classify(&[0x40]), Class::Quic);
    }

    #[test]
    fn nothing_and_a_cleared_fixed_bit_are_dropped() {
        assert_eq!(EIGHT.classify(&[]), Class::Drop(DropReason::Empty));
        assert_eq!(
            EIGHT.classify(&short(0x3f, 0x80, 100)),
            Class::Drop(DropReason::FixedBit)
        );
    }

    #[test]
    fn every_length_of_a_datagram_is_sorted() {
        let bytes = short(0x40, 0x80, 65_507);
        for len in 0..=bytes.len() {
            assert_eq!(EIGHT.classify(&bytes[..len]) == Class::Lane, len >= 29);
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
