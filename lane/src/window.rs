//! The replay window: 1,024 packets, usable from any thread.
//!
//! 64 words of tag(32) ‖ bits(32): packet `c` is bit `c & 31` of word `(c >> 5) & 63`, whose tag is `c >> 11`.
//! Each word is whole in itself, so relaxed order suffices; and of two threads with the same packet, the
//! compare-exchange after opening lets one through. A word is only taken over by a packet that is 2,048 or more
//! ahead of what it held, so nothing within 1,024 of the newest is ever forgotten.

#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};

use crate::counter;

const WORDS: usize = 64;
const WORD_BITS: u32 = 5;
const TAG_SHIFT: u32 = 11;

/// Packets older than this many before the expected one are not accepted.
const SPAN: u64 = 1_024;

pub(crate) struct Window {
    words: [AtomicU64; WORDS],
    /// One more than the highest counter that opened; 0: none yet.
    next: AtomicU64,
}

/// Why the window refuses a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Replay,
    TooOld,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            next: AtomicU64::new(0),
        }
    }

    /// The counter that is expected next: the one after the highest that opened.
    pub(crate) fn expected(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Looks a counter up before its packet is opened.
    pub(crate) fn look_up(&self, counter: u64) -> Result<(), Refusal> {
        if counter + SPAN < self.expected() {
            return Err(Refusal::TooOld);
        }
        let Some(word) = self.word(counter) else {
            return Err(Refusal::TooOld);
        };
        place(word.load(Ordering::Relaxed), counter).map(|_| ())
    }

    /// Marks the counter of a packet that opened; `Ok(true)` when it is the newest so far.
    pub(crate) fn mark(&self, counter: u64) -> Result<bool, Refusal> {
        let Some(word) = self.word(counter) else {
            return Err(Refusal::TooOld);
        };
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let marked = place(seen, counter)?;
            match word.compare_exchange(seen, marked, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        Ok(self.next.fetch_max(counter + 1, Ordering::Relaxed) <= counter)
    }

    fn word(&self, counter: u64) -> Option<&AtomicU64> {
        if counter >= counter::LIMIT {
            return None;
        }
        self.words.get((counter >> WORD_BITS) as usize % WORDS)
    }
}

/// The word with the counter's bit added.
fn place(word: u64, counter: u64) -> Result<u64, Refusal> {
    let tag = counter >> TAG_SHIFT;
    let bit = 1 << (counter & 31);
    let held = word >> 32;
    if held > tag {
        Err(Refusal::TooOld)
    } else if held < tag {
        Ok(tag << 32 | bit)
    } else if word & bit != 0 {
        Err(Refusal::Replay)
    } else {
        Ok(word | bit)
    }
}

#[cfg(all(test, loom))]
#[path = "window/loom_tests.rs"]
mod loom_tests;

#[cfg(all(test, not(loom)))]
#[path = "window/tests.rs"]
mod tests;
