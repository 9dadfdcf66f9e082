//! Forward error correction: lost packets are worked out from others, without asking for them again.
//!
//! A block is `k` consecutive source packets of one length. Its `r` repair packets each carry one repair symbol, as
//! long as a source packet's frames and not a byte longer, and are sent while the next block is already on its way,
//! so that one burst of losses does not take a block together with its repair. A source packet is played as it
//! arrives; only what was lost waits for repair. Receiver reports in front of the frames are not part of a symbol.
//!
//! A block is never cut short: a pause in speech and a change of mode wait for its end (at most 200 ms), so that all
//! packets of a block agree on `k` and `r`, and one that does not is a forgery.

mod decoder;
mod encoder;
mod gf256;
mod raptorq;
mod solve;

use std::time::Duration;

pub use decoder::{Decoder, Frame, Refused, Stats};
pub use encoder::{Encoder, Repair};

/// Longest payload of frames that can be protected: four frames of the fastest codec are 240 bytes.
pub const MAX_SYMBOL_BYTES: usize = 256;

/// How repair packets are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Nothing is protected.
    None,
    /// RFC 6330 blocks.
    RaptorQ,
}

impl Scheme {
    /// The number in the media header.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::None => 0,
            Self::RaptorQ => 1,
        }
    }

    /// The scheme of a media header; `None` when this version does not know it.
    #[must_use]
    pub const fn from_wire(raw: u8) -> Option<Self> {
        match raw {
            0 => Some(Self::None),
            1 => Some(Self::RaptorQ),
            _ => None,
        }
    }
}

/// The shape of blocks and when their repair packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How repair symbols are made.
    pub scheme: Scheme,
    /// Source packets in a block, 1 to 15.
    pub k: u8,
    /// Repair packets of a block, 0 to 15.
    pub r: u8,
    /// From the end of the block to its first repair packet.
    pub first_repair: Duration,
    /// From one repair packet to the next.
    pub repair_gap: Duration,
}

impl Layout {
    /// No blocks at all.
    pub const NONE: Self = Self {
        scheme: Scheme::None,
        k: 0,
        r: 0,
        first_repair: Duration::ZERO,
        repair_gap: Duration::ZERO,
    };

    /// RaptorQ blocks; `None` unless `k` is 1 to 15 and `r` at most 15.
    #[must_use]
    pub const fn raptorq(k: u8, r: u8, first_repair: Duration, repair_gap: Duration) -> Option<Self> {
        if k == 0 || k as usize > raptorq::MAX_K || r as usize > raptorq::MAX_R {
            return None;
        }
        Some(Self {
            scheme: Scheme::RaptorQ,
            k,
            r,
            first_repair,
            repair_gap,
        })
    }

    /// How long after its own sending a packet's last chance of repair leaves, for packets of `packet` length: the
    /// playout delay that makes use of every repair packet on a link without jitter.
    #[must_use]
    pub fn longest_repair(&self, packet: Duration) -> Duration {
        if self.r == 0 {
            return Duration::ZERO;
        }
        packet * (u32::from(self.k) - 1) + self.first_repair + self.repair_gap * (u32::from(self.r) - 1)
    }
}

fn samples(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros() * 48 / 1_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
