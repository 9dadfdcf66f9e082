//! Faster or slower: compares the delay of what is played with the target.

use super::Urgency;

/// Pulls that the delay is observed for; their smallest counts, since a device that pulls two blocks at once
/// needs the second one early.
const PULLS: usize = 8;
/// How far above the target playing may be before it is made faster, microseconds.
const ABOVE: i64 = 8_000;
/// How far below the target playing may be before it is made slower, microseconds.
const BELOW: i64 = 2_000;
/// Pulls between two stretches, and when there is much to catch up.
const PAUSE: u8 = 5;
const SHORT_PAUSE: u8 = 2;
/// What much is, microseconds.
const MUCH: i64 = 40_000;
/// Pulls without a good seam after which a worse one will do.
const PATIENCE: u16 = 200;

/// What to do about the delay in this pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    /// Nothing.
    Hold,
    /// Play faster: remove at most so many samples.
    Accelerate(Urgency, usize),
    /// Play slower: repeat at most so many samples.
    Expand(Urgency, usize),
}

/// Remembers the delay of the last pulls.
#[derive(Debug, Default)]
pub(super) struct Steering {
    offsets: [i64; PULLS],
    seen: usize,
    pause: u8,
    wrong_for: u16,
    /// Pulls since the delay became too short.
    short_for: u16,
}

impl Steering {
    /// Starts again after a jump. A hole in the speech is one, so how long the delay has been too short is kept.
    pub(super) fn forget(&mut self) {
        self.seen = 0;
        self.wrong_for = 0;
    }

    /// Notes the offset of this pull and says what to do.
    pub(super) fn push(&mut self, offset: i64, target: i64) -> Steer {
        self.offsets[self.seen % PULLS] = offset;
        self.seen = self.seen.wrapping_add(1);
        self.pause = self.pause.saturating_sub(1);
        if self.seen < PULLS {
            return Steer::Hold;
        }
        let above = self.offsets.iter().copied().min().unwrap_or(offset) - target;
        self.short_for = if above < -BELOW {
            self.short_for.saturating_add(1)
        } else {
            0
        };
        if (-BELOW..=ABOVE).contains(&above) {
            self.wrong_for = 0;
            return Steer::Hold;
        }
        self.wrong_for = self.wrong_for.saturating_add(1);
        if self.pause > if above > MUCH { PAUSE - SHORT_PAUSE } else { 0 } {
            return Steer::Hold;
        }
        let urgency = self.urgency(above);
        if above > 0 {
            let limit = usize::try_from(above * 6 / 125).unwrap_or(usize::MAX);
            Steer::Accelerate(urgency, limit)
        } else {
            let limit = usize::try_from((-above + ABOVE) * 6 / 125).unwrap_or(usize::MAX);
            Steer::Expand(urgency, limit)
        }
    }

    /// The queue was stretched by `micros`; in a `hurry`, the next stretch follows at once.
    pub(super) fn shifted(&mut self, micros: i64, hurry: bool) {
        self.offsets.iter_mut().for_each(|offset| *offset += micros);
        self.pause = if hurry { 0 } else { PAUSE };
        self.wrong_for = 0;
    }

    fn urgency(&self, above: i64) -> Urgency {
        let wrong_by = above.abs();
        // Too short a delay only makes the next loss worse, while slowing down in a word is heard for sure.
        if above < 0 && self.short_for < PATIENCE {
            Urgency::Quiet
        } else if wrong_by > 120_000 || self.wrong_for > 3 * PATIENCE {
            Urgency::Must
        } else if wrong_by > MUCH || self.wrong_for > PATIENCE {
            Urgency::High
        } else {
            Urgency::Low
        }
    }
}
