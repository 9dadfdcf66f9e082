//! The clear part of a media packet: what it is, where it belongs, and nothing about what is said.
//!
//! A packet is `header ‖ ciphertext ‖ 16-byte tag`. The header is full (12 bytes, [`Header`]) or mini (4 bytes); the
//! *full* one is the additional data of the seal in both cases, so that a mini header that was expanded wrongly fails
//! to open instead of playing wrongly.

mod context;
mod header;

use std::time::Duration;

pub use context::{Compressor, Decompressor, WriteError};
pub use header::{FULL_LEN, FecFields, Field, Header, HeaderError, MINI_LEN};

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Coded frames.
    Source,
    /// Repair symbols for a block of source packets.
    Repair,
    /// A description of the background noise, instead of frames, while nobody speaks.
    ComfortNoise,
}

impl Kind {
    /// The stream whose counter, key and replay window the packet uses.
    pub const fn stream(self) -> Stream {
        match self {
            Self::Source | Self::ComfortNoise => Stream::Source,
            Self::Repair => Stream::Repair,
        }
    }

    const fn to_bits(self) -> u8 {
        match self {
            Self::Source => 0,
            Self::Repair => 1,
            Self::ComfortNoise => 2,
        }
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Source),
            1 => Some(Self::Repair),
            2 => Some(Self::ComfortNoise),
            _ => None,
        }
    }
}

/// One of the two packet streams of a sender, each with its own 48-bit counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// [`Kind::Source`] and [`Kind::ComfortNoise`]; contexts 0 to 63.
    Source,
    /// [`Kind::Repair`]; contexts 64 to 127.
    Repair,
}

impl Stream {
    /// The stream to which a context id (0 to 127) belongs.
    pub const fn of_context(context: u8) -> Self {
        if context & 0x40 == 0 {
            Self::Source
        } else {
            Self::Repair
        }
    }

    /// The context id that promises nothing: a full header with it starts no context.
    pub const fn no_context(self) -> u8 {
        match self {
            Self::Source => 0x3f,
            Self::Repair => 0x7f,
        }
    }
}

/// How frames are coded; 4 bits on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// Opus at 24 kbit/s, frames of 20 ms.
    Opus24k = 1,
    /// Opus at 6 kbit/s, frames of 40 ms.
    Opus6k = 2,
    /// Codec2 at 1,200 bit/s, frames of 40 ms.
    Codec2_1200 = 3,
}

impl Codec {
    /// Every codec there is.
    pub const ALL: [Self; 3] = [Self::Opus24k, Self::Opus6k, Self::Codec2_1200];

    /// How long one frame sounds.
    pub const fn frame_duration(self) -> Duration {
        match self {
            Self::Opus24k => Duration::from_millis(20),
            Self::Opus6k | Self::Codec2_1200 => Duration::from_millis(40),
        }
    }

    /// How far one frame moves the timestamp: its samples at 48 kHz.
    pub const fn frame_samples(self) -> u32 {
        match self {
            Self::Opus24k => 960,
            Self::Opus6k | Self::Codec2_1200 => 1_920,
        }
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            1 => Some(Self::Opus24k),
            2 => Some(Self::Opus6k),
            3 => Some(Self::Codec2_1200),
            _ => None,
        }
    }
}

/// How loud a packet is, in steps of 4 dB: 0 is silence, 15 the loudest.
///
/// Level `n` says "at least `-4·(15 - n)` dBov", so 0 is everything below -56 dBov.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Level(u8);

impl Level {
    /// Nothing to be heard.
    pub const SILENCE: Self = Self(0);
    /// Full scale.
    pub const MAX: Self = Self(15);

    /// The level `raw`; `None` above 15.
    pub const fn new(raw: u8) -> Option<Self> {
        if raw <= 15 { Some(Self(raw)) } else { None }
    }

    /// The level of a signal of `dbov` decibels relative to full scale (0 is the loudest; not a number is silence).
    pub fn from_dbov(dbov: f32) -> Self {
        let loudest = (1..=15).rev().find(|level| dbov >= -4.0 * f32::from(15 - level));
        Self(loudest.unwrap_or(0))
    }

    /// 0 to 15.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// Reads the level of a media packet without looking at anything else; `None` when it is too short to have one.
///
/// This is all that a relay ever reads of a packet. It sits at the same place in full and mini headers.
pub const fn clear_level(packet: &[u8]) -> Option<Level> {
    match packet {
        [_, second, ..] => Some(Level(*second >> 4)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_steps_of_four_decibels() {
        assert_eq!(Level::from_dbov(0.0), Level::MAX);
        assert_eq!(Level::from_dbov(3.0), Level::MAX);
        assert_eq!(Level::from_dbov(-4.0).get(), 14);
        assert_eq!(Level::from_dbov(-4.1).get(), 13);
        assert_eq!(Level::from_dbov(-56.0).get(), 1);
        assert_eq!(Level::from_dbov(-56.1), Level::SILENCE);
        assert_eq!(Level::from_dbov(f32::NEG_INFINITY), Level::SILENCE);
        assert_eq!(Level::from_dbov(f32::NAN), Level::SILENCE);
        assert_eq!(Level::new(16), None);
    }

    #[test]
    fn level_is_read_without_knowing_the_form() {
        assert_eq!(clear_level(&[0x00, 0xa1]), Level::new(10));
        assert_eq!(clear_level(&[0x85, 0xa0, 0, 1]), Level::new(10));
        assert_eq!(clear_level(&[0x85]), None);
        assert_eq!(clear_level(&[]), None);
    }

    #[test]
    fn samples_and_durations_of_a_frame_agree() {
        for codec in Codec::ALL {
            assert_eq!(
                u128::from(codec.frame_samples()) * 1_000,
                codec.frame_duration().as_millis() * 48_000
            );
        }
    }
}
