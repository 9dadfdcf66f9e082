//! The full header, 12 bytes, big endian:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-------+-------+-------------------------------+
//! |0|V V|K K|R|F F| level | codec |              seq              |
//! +-+-+-+-+-+-+-+-+-------+-------+-------------------------------+
//! |                           timestamp                           |
//! +---------------+-+-------------+-------+-------+-------+-------+
//! |     epoch     |0|   context   |   k   |   r   |scheme | index |
//! +---------------+-+-------------+-------+-------+-------+-------+
//! ```
//!
//! V version (0), K kind, R a receiver report leads the sealed payload, F frames - 1.

use super::{Codec, Kind, Level, Stream};

/// Length of a full header.
pub const FULL_LEN: usize = 12;
/// Length of a mini header.
pub const MINI_LEN: usize = 4;

/// Everything that is known about a packet without its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it carries.
    pub kind: Kind,
    /// A [receiver report](crate::ReceiverReport) leads the sealed payload.
    pub report: bool,
    /// How the frames are coded.
    pub codec: Codec,
    /// How loud it is.
    pub level: Level,
    /// Frames in the packet, 1 to 4.
    pub frames: u8,
    /// Low 16 bits of the stream's packet counter.
    pub seq: u16,
    /// 48 kHz samples at the first frame; of a repair packet, at the first frame of its block.
    pub timestamp: u32,
    /// Low 8 bits of the key epoch.
    pub epoch: u8,
    /// 0 to 127, of the half that belongs to the stream; see [`Stream::no_context`].
    pub context: u8,
    /// Its place in forward error correction.
    pub fec: FecFields,
}

/// How a packet takes part in forward error correction; all zero when it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FecFields {
    /// 0 none, 1 RaptorQ.
    pub scheme: u8,
    /// Source packets in a block, 1 to 15 (0 without a scheme).
    pub k: u8,
    /// Repair packets in a block, 0 to 15.
    pub r: u8,
    /// Position in the block among the packets of its stream: below `k` for source, below `r` for repair.
    pub index: u8,
}

/// A header that this version does not understand. The sender of the packet is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Fewer bytes than the header has.
    #[error("media header is cut off")]
    Truncated,
    /// Made for another version of the protocol.
    #[error("media header of another version")]
    Version,
    /// A field has a value that means nothing.
    #[error("media header has a reserved value in {0}")]
    Reserved(Field),
    /// A mini header whose full one was not seen, or too long ago.
    #[error("context {0} is not known")]
    UnknownContext(u8),
}

/// A field of a header, for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Kind 3.
    Kind,
    /// Codec 0 or 4 to 15.
    Codec,
    /// Frames other than 1 to 4.
    Frames,
    /// A context above 127, or of the other stream.
    Context,
    /// FEC fields that contradict each other.
    Fec,
    /// Bits of a mini header that must be 0.
    Mini,
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kind => "kind",
            Self::Codec => "codec",
            Self::Frames => "frames",
            Self::Context => "context",
            Self::Fec => "fec",
            Self::Mini => "mini bits",
        })
    }
}

impl Header {
    /// Reads a full header and gives back what follows it.
    ///
    /// # Errors
    /// Everything in [`HeaderError`]; a mini header is [`HeaderError::UnknownContext`], since nothing is known here.
    pub fn decode(packet: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let first = *packet.first().ok_or(HeaderError::Truncated)?;
        if first & 0x80 != 0 {
            return Err(HeaderError::UnknownContext(first & 0x7f));
        }
        if first & 0x60 != 0 {
            return Err(HeaderError::Version);
        }
        let (bytes, rest) = packet
            .split_first_chunk::<FULL_LEN>()
            .ok_or(HeaderError::Truncated)?;
        let [b0, b1, s0, s1, t0, t1, t2, t3, epoch, context, b10, b11] = *bytes;
        let header = Self {
            kind: Kind::from_bits(b0 >> 3 & 3).ok_or(HeaderError::Reserved(Field::Kind))?,
            report: b0 & 4 != 0,
            frames: (b0 & 3) + 1,
            level: Level(b1 >> 4),
            codec: Codec::from_bits(b1 & 0x0f).ok_or(HeaderError::Reserved(Field::Codec))?,
            seq: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            epoch,
            context,
            fec: FecFields {
                k: b10 >> 4,
                r: b10 & 0x0f,
                scheme: b11 >> 4,
                index: b11 & 0x0f,
            },
        };
        header.well_formed()?;
        Ok((header, rest))
    }

    /// The full header as bytes, which are also the additional data of the seal.
    ///
    /// # Errors
    /// [`HeaderError::Reserved`] when a field is out of its range; never for a header that was decoded.
    pub fn encode(&self) -> Result<[u8; FULL_LEN], HeaderError> {
        self.well_formed()?;
        let [s0, s1] = self.seq.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let FecFields { scheme, k, r, index } = self.fec;
        Ok([
            self.kind.to_bits() << 3 | u8::from(self.report) << 2 | (self.frames - 1),
            self.level.0 << 4 | self.codec as u8,
            s0,
            s1,
            t0,
            t1,
            t2,
            t3,
            self.epoch,
            self.context,
            k << 4 | r,
            scheme << 4 | index,
        ])
    }

    /// How many samples at 48 kHz all frames of the packet sound.
    pub fn samples(&self) -> u32 {
        u32::from(self.frames) * self.codec.frame_samples()
    }

    fn well_formed(&self) -> Result<(), HeaderError> {
        if !(1..=4).contains(&self.frames) {
            return Err(HeaderError::Reserved(Field::Frames));
        }
        if self.context > 0x7f || Stream::of_context(self.context) != self.kind.stream() {
            return Err(HeaderError::Reserved(Field::Context));
        }
        let FecFields { scheme, k, r, index } = self.fec;
        let fits = match (scheme, self.kind.stream()) {
            (0, Stream::Source) => k == 0 && r == 0 && index == 0,
            (1, Stream::Source) => k <= 15 && r <= 15 && index < k,
            (1, Stream::Repair) => (1..=15).contains(&k) && r <= 15 && index < r,
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err(HeaderError::Reserved(Field::Fec))
        }
    }
}
