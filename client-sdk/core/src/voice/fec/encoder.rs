//! From source packets to repair packets.

use wzp_wire::{Codec, FecFields};

use super::{Layout, MAX_SYMBOL_BYTES, Scheme, gf256, raptorq};

/// Makes repair packets of one sender's source packets. Allocates only when the layout changes.
///
/// Everything about time is in samples of 48 kHz, the same that are counted in packet timestamps, so that repair
/// packets of the last block before a pause come out without waiting for the next word.
#[derive(Debug)]
pub struct Encoder {
    layout: Layout,
    open: Block,
    /// Source packets in the open block so far.
    filled: u8,
    closed: Block,
    /// Repair packets of the closed block that were handed out.
    sent: u8,
}

/// A repair packet: what its header needs, and the length of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Timestamp of the first frame of the block.
    pub timestamp: u32,
    /// Codec of the block.
    pub codec: Codec,
    /// Frames in each source packet of the block.
    pub frames: u8,
    /// Its place among the repair packets of its block.
    pub fec: FecFields,
    /// Bytes of payload.
    pub len: usize,
}

#[derive(Debug)]
struct Block {
    layout: Layout,
    codec: Codec,
    frames: u8,
    base: u32,
    size: usize,
    /// `r` repair symbols of `size` bytes.
    repairs: Vec<u8>,
}

impl Encoder {
    /// An encoder for `frames` frames of `codec` a packet, protected by `layout`.
    #[must_use]
    pub fn new(codec: Codec, frames: u8, layout: Layout) -> Self {
        Self {
            layout,
            open: Block::new(codec, frames, layout),
            filled: 0,
            closed: Block::new(codec, frames, Layout::NONE),
            sent: 0,
        }
    }

    /// Protects packets from now on in another way. A block that is not complete gets no repair packets, so wait for
    /// [`Encoder::is_between_blocks`]; repair packets of the last complete block still come out.
    pub fn set(&mut self, codec: Codec, frames: u8, layout: Layout) {
        self.layout = layout;
        self.filled = 0;
        self.open.codec = codec;
        self.open.frames = frames;
        self.open.layout = layout;
    }

    /// Takes the payload of one source packet (without a report) and says what belongs into its header.
    ///
    /// Packets of a block follow each other without a gap in their timestamps and have one length. The first that
    /// does not fit starts a new block, and the one before it is left without repair packets.
    pub fn push(&mut self, timestamp: u32, symbol: &[u8]) -> FecFields {
        let Layout { scheme, k, r, .. } = self.layout;
        if scheme == Scheme::None || symbol.is_empty() || symbol.len() > MAX_SYMBOL_BYTES {
            self.filled = 0;
            return FecFields::default();
        }
        let expected = self
            .open
            .base
            .wrapping_add(u32::from(self.filled) * self.open.step());
        if self.filled > 0 && (timestamp != expected || symbol.len() != self.open.size) {
            self.filled = 0;
        }
        if self.filled == 0 {
            self.open.begin(timestamp, symbol.len());
        }
        let index = self.filled;
        self.open.add(index, symbol);
        self.filled += 1;
        if self.filled == k {
            std::mem::swap(&mut self.open, &mut self.closed);
            self.open.adopt(&self.closed);
            self.filled = 0;
            self.sent = 0;
        }
        FecFields {
            scheme: scheme.to_wire(),
            k,
            r,
            index,
        }
    }

    /// Writes the payload of the next repair packet that is due into `out`; `clock` is the number of samples captured.
    ///
    /// Repair packets that nobody asked for by the end of the next block are forgotten.
    pub fn poll_repair(&mut self, clock: u32, out: &mut [u8]) -> Option<Repair> {
        let Layout { scheme, k, r, .. } = self.closed.layout;
        if self.sent >= r || scheme == Scheme::None || self.closed.size == 0 {
            return None;
        }
        // The sign of the wrapped difference: is the moment in the past?
        if clock.wrapping_sub(self.closed.due(self.sent)) > u32::MAX / 2 {
            return None;
        }
        let size = self.closed.size;
        let symbol = self
            .closed
            .repairs
            .chunks_exact(size)
            .nth(usize::from(self.sent))?;
        out.get_mut(..size)?.copy_from_slice(symbol);
        let index = self.sent;
        self.sent += 1;
        Some(Repair {
            timestamp: self.closed.base,
            codec: self.closed.codec,
            frames: self.closed.frames,
            fec: FecFields {
                scheme: scheme.to_wire(),
                k,
                r,
                index,
            },
            len: size,
        })
    }

    /// No block is waiting for more source packets.
    #[must_use]
    pub const fn is_between_blocks(&self) -> bool {
        self.filled == 0
    }
}

impl Block {
    fn new(codec: Codec, frames: u8, layout: Layout) -> Self {
        Self {
            layout,
            codec,
            frames,
            base: 0,
            size: 0,
            repairs: Vec::new(),
        }
    }

    fn adopt(&mut self, other: &Self) {
        self.layout = other.layout;
        self.codec = other.codec;
        self.frames = other.frames;
    }

    fn begin(&mut self, timestamp: u32, size: usize) {
        self.base = timestamp;
        self.size = size;
        self.repairs.clear();
        self.repairs.resize(usize::from(self.layout.r) * size, 0);
    }

    fn add(&mut self, index: u8, symbol: &[u8]) {
        let Some(rows) = raptorq::rows(self.layout.k) else {
            return;
        };
        for (repair, row) in self.repairs.chunks_exact_mut(self.size).zip(rows) {
            gf256::add_scaled(repair, symbol, row[usize::from(index)]);
        }
    }

    const fn step(&self) -> u32 {
        self.frames as u32 * self.codec.frame_samples()
    }

    fn due(&self, index: u8) -> u32 {
        let Layout {
            k,
            first_repair,
            repair_gap,
            ..
        } = self.layout;
        let end = self.base.wrapping_add(u32::from(k) * self.step());
        end.wrapping_add(super::samples(first_repair))
            .wrapping_add(u32::from(index) * super::samples(repair_gap))
    }
}
