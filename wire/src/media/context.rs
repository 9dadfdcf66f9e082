//! Mini headers: 4 bytes that stand for 12, because the rest follows from a full header seen before.
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-------+-------+-------------------------------+
//! |1|   context   | level |0 0 0 0|              seq              |
//! +-+-+-+-+-+-+-+-+-------+-------+-------------------------------+
//! ```
//!
//! Within a context only seq, level, timestamp and FEC index change, and the last two follow linearly from seq. The
//! rules that make it impossible to expand a mini header by the wrong context are in `docs/wire.md`, "Contexts".

use std::time::Duration;

use super::{FULL_LEN, Field, Header, HeaderError, Kind, Level, MINI_LEN, Stream};
use crate::Instant;

/// A context is forgotten, in effect, this many packets away from its newest full header.
const REACH: i16 = 1_024;
/// Packets of the stream that pass before an id is used for another context: more than twice [`REACH`], so that
/// a receiver with the old context never takes a packet of the new one for its own, nor the other way round.
const REUSE_AFTER: u64 = 2_560;
/// Ids of one stream, without the one that stands for no context.
const IDS: usize = 63;
/// Packets at the start of a context that have the full header.
const FULL_FIRST: u8 = 4;
/// Between two full headers of a context, at most.
const REFRESH: Duration = Duration::from_millis(500);

/// The header of packet `seq` in the context of `anchor`, or `None` when it is too far away to say.
fn project(anchor: &Header, seq: u16, level: Level) -> Option<Header> {
    let distance = seq.wrapping_sub(anchor.seq).cast_signed();
    if !(-REACH..=REACH).contains(&distance) {
        return None;
    }
    let position = i16::from(anchor.fec.index) + distance;
    let (steps, index) = match anchor.kind.stream() {
        Stream::Source => (
            distance,
            position.checked_rem_euclid(i16::from(anchor.fec.k)).unwrap_or(0),
        ),
        Stream::Repair => {
            let r = i16::from(anchor.fec.r);
            let blocks = position.checked_div_euclid(r)?;
            (blocks * i16::from(anchor.fec.k), position.checked_rem_euclid(r)?)
        }
    };
    let samples = anchor.samples().cast_signed() * i32::from(steps);
    let mut header = Header {
        seq,
        level,
        timestamp: anchor.timestamp.wrapping_add_signed(samples),
        ..*anchor
    };
    [header.fec.index, _] = index.to_le_bytes();
    Some(header)
}

/// The sending side of one stream: chooses between the full and the mini header.
#[derive(Clone, Debug)]
pub struct Compressor {
    stream: Stream,
    current: Option<Current>,
    /// Packets written so far.
    written: u64,
    /// The id that is tried for the next context.
    next: usize,
    /// By id: from which packet on it may be used for another context.
    free_from: [u64; IDS],
}

#[derive(Clone, Debug)]
struct Current {
    /// The newest full header, without its report flag.
    anchor: Header,
    id: usize,
    full_left: u8,
    refresh_at: Instant,
}

/// A header that could not be written. The caller is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The buffer has less than [`FULL_LEN`] bytes, even if fewer would be used.
    #[error("buffer is too small for a media header")]
    BufferTooSmall,
    /// The header belongs to the other stream.
    #[error("header belongs to the other stream")]
    Stream,
    /// A field is out of its range.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

impl Compressor {
    /// For the stream of one sender; both streams of it need one each.
    pub const fn new(stream: Stream) -> Self {
        Self {
            stream,
            current: None,
            written: 0,
            next: 0,
            free_from: [0; IDS],
        }
    }

    /// Writes the header of the next packet, fills in its context, and returns its length: 4 or 12.
    ///
    /// Packets come in the order of their seq. The additional data of the seal is `h.encode()` afterwards.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing has changed then but `h.context`.
    pub fn write(&mut self, now: Instant, h: &mut Header, out: &mut [u8]) -> Result<usize, WriteError> {
        if h.kind.stream() != self.stream {
            return Err(WriteError::Stream);
        }
        let out = out
            .first_chunk_mut::<FULL_LEN>()
            .ok_or(WriteError::BufferTooSmall)?;
        h.context = self.stream.no_context();
        h.encode()?;
        let mini = self.assign(now, h);
        self.written += 1;
        if mini {
            let (front, _) = out.split_at_mut(MINI_LEN);
            let [s0, s1] = h.seq.to_be_bytes();
            front.copy_from_slice(&[0x80 | h.context, h.level.0 << 4, s0, s1]);
            return Ok(MINI_LEN);
        }
        *out = h.encode()?;
        Ok(FULL_LEN)
    }

    /// Puts the packet into a context and says whether the mini header will do.
    fn assign(&mut self, now: Instant, h: &mut Header) -> bool {
        if h.kind == Kind::ComfortNoise {
            return false;
        }
        if self.current.as_ref().is_none_or(|current| !current.covers(h)) {
            self.current = self.start(now, h);
        }
        let Some(current) = &mut self.current else {
            return false;
        };
        h.context = current.anchor.context;
        if let Some(free_from) = self.free_from.get_mut(current.id) {
            *free_from = self.written + REUSE_AFTER;
        }
        if !h.report && current.full_left == 0 && now < current.refresh_at {
            return true;
        }
        current.full_left = current.full_left.saturating_sub(1);
        current.refresh_at = now + REFRESH;
        current.anchor = Header { report: false, ..*h };
        false
    }

    /// A new context at `h`; none when its id was in use too recently.
    fn start(&mut self, now: Instant, h: &Header) -> Option<Current> {
        let id = self.next;
        if *self.free_from.get(id)? > self.written {
            return None;
        }
        self.next = (id + 1) % IDS;
        let base = self.stream.no_context() & 0x40;
        let anchor = Header {
            report: false,
            context: base | u8::try_from(id).ok()?,
            ..*h
        };
        Some(Current {
            anchor,
            id,
            full_left: FULL_FIRST,
            refresh_at: now,
        })
    }
}

impl Current {
    fn covers(&self, h: &Header) -> bool {
        // A step back would leave the receiver with a newer anchor than this side has.
        if h.seq.wrapping_sub(self.anchor.seq).cast_signed() <= 0 {
            return false;
        }
        let wanted = Header {
            report: false,
            context: self.anchor.context,
            ..*h
        };
        project(&self.anchor, h.seq, h.level) == Some(wanted)
    }
}

/// The receiving side, one for both streams of a remote sender.
#[derive(Clone, Debug)]
pub struct Decompressor {
    anchors: [Option<Header>; 128],
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Decompressor {
    /// Knows no context yet.
    pub const fn new() -> Self {
        Self { anchors: [None; 128] }
    }

    /// Reads the header in front of `packet`: the header as if it were full, what follows it, and its length.
    ///
    /// # Errors
    /// See [`HeaderError`]; a mini header of a context without a full header nearby is
    /// [`HeaderError::UnknownContext`], never a guess.
    pub fn read<'a>(&self, packet: &'a [u8]) -> Result<(Header, &'a [u8], usize), HeaderError> {
        match packet {
            [] => Err(HeaderError::Truncated),
            [first, ..] if first & 0x80 == 0 => {
                Header::decode(packet).map(|(header, rest)| (header, rest, FULL_LEN))
            }
            [first, second, s0, s1, rest @ ..] => {
                let header = self.expand(first & 0x7f, *second, u16::from_be_bytes([*s0, *s1]))?;
                Ok((header, rest, MINI_LEN))
            }
            _ => Err(HeaderError::Truncated),
        }
    }

    /// Learns from a full header whose packet was authenticated; any other must not get here.
    pub fn accept(&mut self, h: &Header) {
        let Some(slot) = self.anchors.get_mut(usize::from(h.context)) else {
            return;
        };
        if h.kind == Kind::ComfortNoise || h.context == h.kind.stream().no_context() {
            return;
        }
        // A late full header says nothing new about a context that is already known further on.
        let late =
            slot.is_some_and(|anchor| (-REACH..0).contains(&h.seq.wrapping_sub(anchor.seq).cast_signed()));
        if !late {
            *slot = Some(Header { report: false, ..*h });
        }
    }

    fn expand(&self, context: u8, second: u8, seq: u16) -> Result<Header, HeaderError> {
        if second & 0x0f != 0 {
            return Err(HeaderError::Reserved(Field::Mini));
        }
        if context == Stream::of_context(context).no_context() {
            return Err(HeaderError::Reserved(Field::Context));
        }
        let anchor = self.anchors.get(usize::from(context)).copied().flatten();
        anchor
            .and_then(|anchor| project(&anchor, seq, Level(second >> 4)))
            .ok_or(HeaderError::UnknownContext(context))
    }
}
