//! Packets that wait to be sealed, in memory that is there from the start.

use wzp_wire::{Codec, FecFields, Header, Kind, Level};

use crate::voice::fec::MAX_SYMBOL_BYTES;

/// Packets at most: what the most talkative tick makes (look-back and repair packets) several times over.
const CAPACITY: usize = 16;
const SLOTS: usize = CAPACITY + 1;

#[derive(Debug)]
pub(super) struct Queue {
    /// One more than may wait, so that there is always one to fill.
    slots: Box<[Packet; SLOTS]>,
    first: usize,
    len: usize,
    dropped: u64,
}

#[derive(Debug)]
pub(super) struct Packet {
    pub(super) header: Header,
    pub(super) len: usize,
    pub(super) payload: [u8; MAX_SYMBOL_BYTES],
}

impl Packet {
    const fn new() -> Self {
        let header = Header {
            kind: Kind::Source,
            report: false,
            codec: Codec::Opus24k,
            level: Level::SILENCE,
            frames: 1,
            seq: 0,
            timestamp: 0,
            epoch: 0,
            context: 0,
            fec: FecFields {
                scheme: 0,
                k: 0,
                r: 0,
                index: 0,
            },
        };
        Self {
            header,
            len: 0,
            payload: [0; MAX_SYMBOL_BYTES],
        }
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            slots: Box::new([const { Packet::new() }; SLOTS]),
            first: 0,
            len: 0,
            dropped: 0,
        }
    }

    /// The slot behind the last packet, to be filled and then [`Queue::commit`]ted.
    pub(super) fn slot(&mut self) -> &mut Packet {
        &mut self.slots[(self.first + self.len) % SLOTS]
    }

    /// Queues what is in the slot. When nobody takes packets, the oldest goes: old speech is worth the least.
    pub(super) const fn commit(&mut self) {
        self.len += 1;
        if self.len > CAPACITY {
            self.pop();
            self.dropped += 1;
        }
    }

    pub(super) fn front(&self) -> Option<&Packet> {
        (self.len > 0).then(|| &self.slots[self.first])
    }

    pub(super) const fn pop(&mut self) {
        if self.len > 0 {
            self.first = (self.first + 1) % SLOTS;
            self.len -= 1;
        }
    }

    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }
}
