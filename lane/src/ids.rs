//! How the ids look that a relay gives out: QUIC connection ids and lane ids alike (`docs/wire.md` section 6.1).
//!
//! ```text
//! default    | mark 1 bit, nonce ..                                         |   8 bytes
//! routable   | rotation 3 bits, free 5 | server id 1 to 12 | mark, nonce .. |   server id + 8 to 20 bytes
//! ```
//!
//! The second one is the plaintext form of QUIC-LB (draft-ietf-quic-load-balancers-21): a load balancer that routes
//! by connection id finds the server id behind the first byte. The mark is 0 in QUIC connection ids, 1 in lane ids.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::LaneId;
use crate::demux::{LANE_BIT, Rule};

/// Random bytes from which an id is made.
pub type Random = [u8; LaneId::MAX_LEN];

/// How the ids of one endpoint look, 8 to 20 bytes long. The default is 8 bytes without a server id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    len: usize,
    mark_at: usize,
    /// The bits that every id shares, except the mark, and their values.
    shared: [u8; LaneId::MAX_LEN],
    values: [u8; LaneId::MAX_LEN],
}

/// What an id is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A QUIC connection.
    Quic,
    /// A lane.
    Lane,
}

/// No such layout. Who configured it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// 7 marks ids that nobody routes, and there are 3 bits.
    #[error("the configuration of a load balancer is 0 to 6, not {0}")]
    Rotation(u8),
    /// Too short for the server id and a nonce, or longer than QUIC allows.
    #[error("ids with a server id of {server} bytes are {least} to 20 bytes long, not {len}")]
    Length {
        /// What was asked for.
        len: usize,
        /// Bytes of the server id.
        server: usize,
        /// The least that is possible.
        least: usize,
    },
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            len: Self::MIN_LEN,
            mark_at: 0,
            shared: [0; LaneId::MAX_LEN],
            values: [0; LaneId::MAX_LEN],
        }
    }
}

impl Layout {
    /// The shortest id.
    pub const MIN_LEN: usize = 8;
    /// What a QUIC connection id's keyed check takes of its end, never the mark.
    pub const CHECK_LEN: usize = 4;
    /// With the five free bits of the first byte that leaves 28 bits to tell connections apart, and a check.
    const MIN_NONCE: usize = 7;

    /// Ids that carry `server`, for configuration `rotation` of the load balancer; as short as possible without `len`.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn routable(server: &ServerId, rotation: u8, len: Option<usize>) -> Result<Self, LayoutError> {
        if rotation > 6 {
            return Err(LayoutError::Rotation(rotation));
        }
        let server = server.as_slice();
        let mark_at = 1 + server.len();
        let least = mark_at + Self::MIN_NONCE;
        let len = len.unwrap_or(least);
        if !(least..=LaneId::MAX_LEN).contains(&len) {
            return Err(LayoutError::Length {
                len,
                server: server.len(),
                least,
            });
        }
        let mut layout = Self {
            len,
            mark_at,
            ..Self::default()
        };
        let fixed =
            std::iter::once((0b1110_0000, rotation << 5)).chain(server.iter().map(|byte| (0xff, *byte)));
        let bytes = layout.shared.iter_mut().zip(&mut layout.values);
        for ((shared, value), (mask, bits)) in bytes.zip(fixed) {
            (*shared, *value) = (mask, bits);
        }
        Ok(layout)
    }

    /// Length of every id, in bytes.
    #[expect(clippy::len_without_is_empty, reason = "an id is never empty")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// How a receiver tells packets to these ids apart.
    pub fn rule(&self) -> Rule {
        Rule::marked_at(self.mark_at, self.len)
    }

    /// An id for `kind`; as unpredictable as `random`, except the bits that all ids share.
    pub fn id(&self, kind: Kind, random: Random) -> LaneId {
        let mut bytes = random;
        for ((byte, shared), value) in bytes.iter_mut().zip(self.shared).zip(self.values) {
            *byte = *byte & !shared | value;
        }
        if let Some(byte) = bytes.get_mut(self.mark_at) {
            match kind {
                Kind::Quic => *byte &= !LANE_BIT,
                Kind::Lane => *byte |= LANE_BIT,
            }
        }
        LaneId::cut(bytes, self.len)
    }

    /// What `id` is for, if it can be one of ours: right length, and the shared bits as they should be.
    pub fn kind(&self, id: &[u8]) -> Option<Kind> {
        let fixed = self.shared.iter().zip(self.values);
        let ours = id.len() == self.len
            && id
                .iter()
                .zip(fixed)
                .all(|(byte, (mask, bits))| byte & mask == bits);
        let mark = id.get(self.mark_at).filter(|_| ours)? & LANE_BIT;
        Some(if mark == 0 { Kind::Quic } else { Kind::Lane })
    }
}

/// What a load balancer routes by: 1 to 12 bytes, opaque.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ServerId {
    len: usize,
    bytes: [u8; Self::MAX_LEN],
}

/// Not a server id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected 1 to 12 bytes as pairs of hex digits, with or without 0x before them")]
pub struct BadServerId;

impl ServerId {
    /// A first byte and the shortest nonce fit beside it.
    pub const MAX_LEN: usize = LaneId::MAX_LEN - 1 - Layout::MIN_NONCE;

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl FromStr for ServerId {
    type Err = BadServerId;

    fn from_str(text: &str) -> Result<Self, BadServerId> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let len = digits.len() / 2;
        if !digits.len().is_multiple_of(2) || !(1..=Self::MAX_LEN).contains(&len) {
            return Err(BadServerId);
        }
        let mut bytes = [0; Self::MAX_LEN];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            for digit in pair {
                let digit = char::from(*digit).to_digit(16).ok_or(BadServerId)?;
                *byte = *byte << 4 | u8::try_from(digit).map_err(|_| BadServerId)?;
            }
        }
        Ok(Self { len, bytes })
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests;
