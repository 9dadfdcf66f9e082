//! Lane ids: the connection-id field of a lane packet.

use std::fmt;

/// The id a receiver gave to a lane: 1 to 20 bytes, kept inline.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaneId {
    len: u8,
    bytes: [u8; Self::MAX_LEN],
}

impl LaneId {
    /// The longest connection id of QUIC v1.
    pub const MAX_LEN: usize = 20;

    /// An id as a peer sent it; `None` when it is not 1 to 20 bytes long.
    pub fn new(id: &[u8]) -> Option<Self> {
        let len = u8::try_from(id.len()).ok().filter(|len| *len > 0)?;
        let mut bytes = [0; Self::MAX_LEN];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self { len, bytes })
    }

    /// An id for a lane that is received here, from random bytes: its first bit is set, which is what tells it
    /// from a QUIC connection id by [`Rule::first_bit`](crate::demux::Rule::first_bit).
    pub fn from_random(random: &[u8]) -> Option<Self> {
        let mut id = Self::new(random)?;
        let [first, ..] = &mut id.bytes;
        *first |= crate::demux::LANE_BIT;
        Some(id)
    }

    /// The first `len` of `bytes`; `len` is 1 to 20.
    pub(crate) fn cut(mut bytes: [u8; Self::MAX_LEN], len: usize) -> Self {
        // Equal ids have equal bytes, those behind their end too.
        bytes.iter_mut().skip(len).for_each(|byte| *byte = 0);
        Self {
            len: len.clamp(1, Self::MAX_LEN) as u8,
            bytes,
        }
    }

    /// Whether [`Rule::first_bit`](crate::demux::Rule::first_bit) finds packets with this id to be lane packets.
    pub fn is_marked(&self) -> bool {
        let [first, ..] = self.bytes;
        first & crate::demux::LANE_BIT != 0
    }

    /// The bytes as they stand in the packet.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or_default()
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "an id is never empty")]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }
}

impl fmt::Debug for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.as_slice() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_lengths_that_quic_cannot_carry() {
        assert_eq!(LaneId::new(&[]), None);
        assert_eq!(LaneId::new(&[0; 21]), None);
        assert_eq!(LaneId::new(&[7; 20]).unwrap().as_slice(), [7; 20]);
    }

    #[test]
    fn own_ids_carry_the_mark() {
        let id = LaneId::from_random(&[0x12, 0x34]).unwrap();
        assert_eq!(id.as_slice(), [0x92, 0x34]);
        assert!(id.is_marked());
        assert_eq!(format!("{id:?}"), "9234");
    }
}
