//! From whatever arrived to frames: source frames at once, recovered frames as soon as they can be.

use wzp_wire::{Codec, Header, Kind};

use super::{
    MAX_SYMBOL_BYTES, Scheme,
    raptorq::{self, MAX_K, MAX_R},
    solve::System,
};

/// Blocks in flight at most: 0.8 s of the shortest mode, longer than any playout delay.
const WINDOW_BLOCKS: usize = 8;

/// Late packets in a row after which it is the sender's clock that moved.
const LATE_RUN: u8 = 32;

/// One coded frame, in the order in which it became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its first sample, in samples of 48 kHz.
    pub timestamp: u32,
    /// How it is coded.
    pub codec: Codec,
    /// The frame as the encoder made it.
    pub bytes: &'a [u8],
    /// It was lost and has been worked out.
    pub recovered: bool,
}

/// Why a packet gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It carries no frames and no repair.
    #[error("not a coded packet")]
    NotCoded,
    /// Its payload is empty, too long or no multiple of its frames. The sender is at fault.
    #[error("payload of an impossible length")]
    Length,
    /// Its FEC fields contradict each other. The sender is at fault.
    #[error("impossible position in a block")]
    Position,
    /// It contradicts other packets of its block. The sender is at fault.
    #[error("does not fit the block it claims")]
    Contradiction,
    /// Its block was given up.
    #[error("too late")]
    Late,
    /// It is known already, received or recovered.
    #[error("known already")]
    Known,
}

/// What a decoder did so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    /// Frames that were lost and worked out.
    pub recovered: u64,
    /// Packets of blocks that were given up.
    pub late: u64,
    /// Packets whose content was known already.
    pub known: u64,
    /// Packets that no honest sender makes.
    pub refused: u64,
}

/// Puts the packets of one sender back together. Memory is bounded; nothing is allocated once every block of the
/// window has been used by the same mode.
#[derive(Debug, Default)]
pub struct Decoder {
    blocks: [Block; WINDOW_BLOCKS],
    /// Timestamps before this one belong to blocks that were given up.
    floor: Option<u32>,
    late_run: u8,
    system: System,
    stats: Stats,
}

/// What all packets of a block have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    base: u32,
    codec: Codec,
    frames: u8,
    k: u8,
    r: u8,
    size: usize,
}

#[derive(Debug, Default)]
struct Block {
    shape: Option<Shape>,
    /// Bit `i`: symbol `i` is known, source symbols first.
    present: u32,
    symbols: Vec<u8>,
}

impl Decoder {
    /// A decoder that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        // So that the factors are worked out now and not when the first packet is lost.
        let _ = raptorq::rows(1);
        Self::default()
    }

    /// Takes a packet that authenticated, without its receiver report, and hands each frame that it makes known to
    /// `sink`, no frame of a block twice.
    ///
    /// # Errors
    /// [`Refused`] says why it gave nothing; the decoder goes on as if the packet had been lost.
    pub fn push(
        &mut self,
        header: &Header,
        payload: &[u8],
        sink: &mut impl FnMut(Frame<'_>),
    ) -> Result<(), Refused> {
        let outcome = self.accept(header, payload, sink);
        match outcome {
            Ok(()) => self.late_run = 0,
            Err(Refused::Late) => self.stats.late += 1,
            Err(Refused::Known) => self.stats.known += 1,
            Err(_) => self.stats.refused += 1,
        }
        outcome
    }

    /// Counts since the start.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    fn accept(
        &mut self,
        header: &Header,
        payload: &[u8],
        sink: &mut impl FnMut(Frame<'_>),
    ) -> Result<(), Refused> {
        if header.kind == Kind::ComfortNoise {
            return Err(Refused::NotCoded);
        }
        let frames = usize::from(header.frames);
        if payload.is_empty()
            || payload.len() > MAX_SYMBOL_BYTES
            || payload.len().checked_rem(frames) != Some(0)
        {
            return Err(Refused::Length);
        }
        let Some((shape, symbol)) = Shape::read(header, payload.len())? else {
            emit(
                header.timestamp,
                header.codec,
                header.frames,
                payload,
                false,
                sink,
            );
            return Ok(());
        };
        let slot = self.slot(shape)?;
        let block = &mut self.blocks[slot];
        block.insert(symbol, payload)?;
        if symbol < usize::from(shape.k) {
            emit(
                header.timestamp,
                header.codec,
                header.frames,
                payload,
                false,
                sink,
            );
        }
        let recovered = block.recover(shape, &mut self.system, sink);
        self.stats.recovered += u64::from(recovered) * u64::from(shape.frames);
        Ok(())
    }

    /// Where the block of `shape` is, made if need be.
    fn slot(&mut self, shape: Shape) -> Result<usize, Refused> {
        if self.floor.is_some_and(|floor| is_before(shape.base, floor)) {
            self.late_run += 1;
            if self.late_run < LATE_RUN {
                return Err(Refused::Late);
            }
            self.forget();
        }
        let live = |block: &Block| block.shape.is_some_and(|other| other.overlaps(&shape));
        if let Some(slot) = self.blocks.iter().position(live) {
            let same = self.blocks[slot].shape == Some(shape);
            return if same {
                Ok(slot)
            } else {
                Err(Refused::Contradiction)
            };
        }
        let slot = self.free_slot(shape.base)?;
        self.blocks[slot].open(shape);
        Ok(slot)
    }

    /// A slot for a block at `base`, where necessary that of the oldest block.
    fn free_slot(&mut self, base: u32) -> Result<usize, Refused> {
        let mut oldest: Option<(usize, Shape)> = None;
        for (slot, block) in self.blocks.iter().enumerate() {
            let Some(shape) = block.shape else {
                return Ok(slot);
            };
            if oldest.is_none_or(|(_, other)| is_before(shape.base, other.base)) {
                oldest = Some((slot, shape));
            }
        }
        let (slot, shape) = oldest.ok_or(Refused::Late)?;
        if is_before(base, shape.base) {
            return Err(Refused::Late);
        }
        self.floor = Some(shape.end());
        Ok(slot)
    }

    fn forget(&mut self) {
        self.late_run = 0;
        self.floor = None;
        for block in &mut self.blocks {
            block.shape = None;
        }
    }
}

impl Shape {
    /// The block of a packet and the packet's symbol in it; `None` for a source packet without protection.
    fn read(header: &Header, size: usize) -> Result<Option<(Self, usize)>, Refused> {
        let fec = header.fec;
        let source = header.kind == Kind::Source;
        if Scheme::from_wire(fec.scheme) != Some(Scheme::RaptorQ) {
            // A scheme of a later version: its source packets can be played all the same.
            return if source { Ok(None) } else { Err(Refused::Position) };
        }
        let (k, r, index) = (usize::from(fec.k), usize::from(fec.r), usize::from(fec.index));
        if k > MAX_K || r > MAX_R || index >= if source { k } else { r } || k == 0 {
            return Err(Refused::Position);
        }
        let before = if source {
            u32::from(fec.index) * header.samples()
        } else {
            0
        };
        let shape = Self {
            base: header.timestamp.wrapping_sub(before),
            codec: header.codec,
            frames: header.frames,
            k: fec.k,
            r: fec.r,
            size,
        };
        Ok(Some((shape, if source { index } else { k + index })))
    }

    const fn step(&self) -> u32 {
        self.frames as u32 * self.codec.frame_samples()
    }

    const fn end(&self) -> u32 {
        self.base.wrapping_add(self.k as u32 * self.step())
    }

    const fn overlaps(&self, other: &Self) -> bool {
        is_before(self.base, other.end()) && is_before(other.base, self.end())
    }
}

impl Block {
    fn open(&mut self, shape: Shape) {
        self.shape = Some(shape);
        self.present = 0;
        self.symbols.clear();
        self.symbols
            .resize((usize::from(shape.k) + usize::from(shape.r)) * shape.size, 0);
    }

    fn insert(&mut self, symbol: usize, payload: &[u8]) -> Result<(), Refused> {
        if self.present >> symbol & 1 == 1 {
            return Err(Refused::Known);
        }
        let slot = self.symbols.chunks_exact_mut(payload.len()).nth(symbol);
        slot.ok_or(Refused::Position)?.copy_from_slice(payload);
        self.present |= 1 << symbol;
        Ok(())
    }

    /// Works out what can be, and returns the number of symbols that became known.
    fn recover(&mut self, shape: Shape, system: &mut System, sink: &mut impl FnMut(Frame<'_>)) -> u32 {
        let k = u32::from(shape.k);
        let lost = k - (self.present & ((1 << k) - 1)).count_ones();
        let repairs = (self.present >> k).count_ones();
        let Some(rows) = raptorq::rows(shape.k).filter(|_| lost > 0 && repairs >= lost) else {
            return 0;
        };
        system.load(
            rows,
            usize::from(shape.k),
            shape.size,
            &self.symbols,
            self.present,
        );
        let mut recovered = 0;
        system.solve(|index, bytes| {
            let from = usize::from(index) * shape.size;
            self.symbols[from..][..shape.size].copy_from_slice(bytes);
            self.present |= 1 << index;
            recovered += 1;
            let timestamp = shape.base.wrapping_add(u32::from(index) * shape.step());
            emit(timestamp, shape.codec, shape.frames, bytes, true, sink);
        });
        recovered
    }
}

/// Timestamps wrap: `a` is before `b` when that is the shorter way round.
const fn is_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) > u32::MAX / 2
}

fn emit(
    timestamp: u32,
    codec: Codec,
    frames: u8,
    payload: &[u8],
    recovered: bool,
    sink: &mut impl FnMut(Frame<'_>),
) {
    let size = payload.len() / usize::from(frames.max(1));
    let steps = (0..u32::from(frames)).map(|frame| frame * codec.frame_samples());
    for (bytes, step) in payload.chunks_exact(size.max(1)).zip(steps) {
        sink(Frame {
            timestamp: timestamp.wrapping_add(step),
            codec,
            bytes,
            recovered,
        });
    }
}
