//! Frames that wait for their turn, in a fixed number of preallocated slots.

use std::ops::Range;

use wzp_wire::Codec;

use crate::voice::fec::MAX_SYMBOL_BYTES;

/// Frames that can wait: 1.28 s of the shortest.
pub(super) const SLOTS: usize = 64;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A coded frame.
    Coded(Codec),
    /// The beginning of a pause, or news from one: the level of the noise.
    Comfort(u8),
}

/// One frame at its place on the sender's timeline.
#[derive(Debug)]
pub(super) struct Slot {
    /// First sample, 48 kHz, unwrapped.
    pub(super) position: i64,
    /// Samples.
    pub(super) len: i64,
    pub(super) content: Content,
    used: bool,
    bytes: [u8; MAX_SYMBOL_BYTES],
    bytes_len: usize,
}

/// The slots.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Box<[Slot]>,
    used: usize,
}

impl Slots {
    pub(super) fn new() -> Self {
        let empty = |_| Slot {
            position: 0,
            len: 0,
            content: Content::Comfort(127),
            used: false,
            bytes: [0; MAX_SYMBOL_BYTES],
            bytes_len: 0,
        };
        Self {
            slots: (0..SLOTS).map(empty).collect(),
            used: 0,
        }
    }

    /// Stores a frame; the caller has made room and knows that it is not there yet. `bytes` beyond the
    /// longest frame there can be are refused.
    pub(super) fn put(&mut self, position: i64, len: i64, content: Content, bytes: &[u8]) -> bool {
        self.drop_comfort(position..position + len);
        let Some(slot) = self.slots.iter_mut().find(|slot| !slot.used) else {
            return false;
        };
        let Some(room) = slot.bytes.get_mut(..bytes.len()) else {
            return false;
        };
        room.copy_from_slice(bytes);
        slot.bytes_len = bytes.len();
        (slot.position, slot.len, slot.content, slot.used) = (position, len, content, true);
        self.used += 1;
        true
    }

    /// The earliest frame.
    pub(super) fn earliest(&self) -> Option<&Slot> {
        self.slots
            .iter()
            .filter(|slot| slot.used)
            .min_by_key(|slot| slot.position)
    }

    /// Takes out the frame at `position`. Its bytes stay readable until the next [`Slots::put`].
    pub(super) fn take(&mut self, position: i64) -> &[u8] {
        let Some(slot) = self
            .slots
            .iter_mut()
            .find(|slot| slot.used && slot.position == position)
        else {
            return &[];
        };
        slot.used = false;
        self.used -= 1;
        slot.bytes.get(..slot.bytes_len).unwrap_or(&[])
    }

    /// There is a frame at `position`; a coded one if `coded`, of either kind otherwise.
    pub(super) fn contains(&self, position: i64, coded: bool) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.used && slot.position == position && (slot.len > 0 || !coded))
    }

    /// Where there is sound there is no pause.
    fn drop_comfort(&mut self, span: Range<i64>) {
        for slot in self.slots.iter_mut().filter(|slot| slot.used && slot.len == 0) {
            if span.contains(&slot.position) {
                slot.used = false;
                self.used -= 1;
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.used == self.slots.len()
    }

    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.used = false);
        self.used = 0;
    }
}
