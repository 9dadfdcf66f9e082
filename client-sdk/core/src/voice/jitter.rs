//! The jitter buffer: frames in, in any order and at any time; out, every 10 ms, what to play.
//!
//! The buffer decides and never touches sound. Each pull asks [`Buffer::steer`] whether to play faster or
//! slower, then [`Buffer::step`] as often as samples are missing. Two things make it better than waiting a
//! fixed time: the delay follows the link ([`Delay`]), and a frame that is late is not thrown away while
//! nothing after it was played; playing simply goes on later, and catches up by stretching.

mod delay;
mod histogram;
mod slots;
mod steer;

use std::time::Duration;

pub use delay::{Config, Delay};
use slots::{Content, Slots};
pub use steer::Steer;
use steer::Steering;
use wzp_wire::{Codec, Instant};

use crate::voice::stretch::Urgency;

/// Samples in one step of concealment or comfort noise: 10 ms.
pub const STEP: usize = 480;

/// A difference to the expected time of this much means that the sender's timeline is a new one.
const DISCONTINUITY: i64 = 1_500_000;
/// Packets in a row that seem to be from before a restart, after which they are one.
const STRAGGLERS: u8 = 16;
/// Concealment without any packet after which the sender is taken to be silent.
const STARVED: i64 = 19_200;
/// Longest gap before comfort noise that is concealed as if it had been speech.
const GAP_BEFORE_COMFORT: i64 = 2_880;
/// Frames from the beginning of a talk spurt that tell nothing about the link: 200 ms.
const ONSET: i64 = 9_600;
/// Playing starts when the target is nearer than half a pull, microseconds.
const START_TOLERANCE: i64 = 5_000;
/// Overdraft in which a frame that fills a hole may still be played, microseconds.
const HOLE_TOLERANCE: i64 = 10_000;

/// A frame as it becomes known.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A coded frame that arrived.
    Arrived(Codec, &'a [u8]),
    /// A coded frame that was lost and worked out.
    Recovered(Codec, &'a [u8]),
    /// A description of noise at `-level` dBov, standing for the pause that begins here.
    Comfort(u8),
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It waits for its turn.
    Stored,
    /// Its place was played already.
    Late,
    /// It is there already.
    Duplicate,
    /// It is longer than any frame can be.
    TooLong,
}

/// What to put into the playout queue next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Decode this frame.
    Decode(Codec, &'a [u8]),
    /// Invent [`STEP`] samples in the place of a missing frame.
    Conceal,
    /// [`STEP`] samples of background noise, of a new level if one is given.
    Comfort(Option<u8>),
}

/// What the buffer counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Frames that came when their place was played, or had to be given up to catch up.
    pub late: u64,
    /// Frames that came twice.
    pub duplicates: u64,
    /// Recovered frames that came in time.
    pub recovered: u64,
    /// Times the sender's timeline began anew.
    pub restarts: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing to play: before the first frame, in a pause, or (`starved`) without knowing why.
    Silence { starved: bool },
    /// Frames follow one another.
    Talk {
        /// Samples concealed since the frame that is due was missing.
        waited: i64,
        /// Later frames were there already, so it is a hole and not a stall.
        hole: bool,
    },
}

/// Frames of one sender between arrival and playout.
#[derive(Debug)]
pub struct Buffer {
    slots: Slots,
    delay: Delay,
    mode: Mode,
    /// Place of the next frame to play; anything before it is late.
    next: i64,
    /// Length of the last frame played, microseconds.
    frame_us: i64,
    newest: Option<i64>,
    /// The newest packet described a pause.
    pausing: bool,
    onset_until: i64,
    newest_order: u64,
    /// Packets in a row that seemed to be from before a restart.
    stragglers: u8,
    steering: Steering,
    counts: Counts,
}

impl Buffer {
    /// An empty buffer.
    pub fn new(config: Config) -> Self {
        Self {
            slots: Slots::new(),
            delay: Delay::new(config),
            mode: Mode::Silence { starved: false },
            next: i64::MIN,
            frame_us: 20_000,
            newest: None,
            pausing: false,
            onset_until: 0,
            newest_order: 0,
            stragglers: 0,
            steering: Steering::default(),
            counts: Counts::default(),
        }
    }

    /// Takes a frame. `order` grows with the sending of the packets that carry frames; that of a recovered frame
    /// does not matter.
    pub fn insert(&mut self, now: Instant, timestamp: u32, order: u64, input: Input<'_>) -> Outcome {
        let (content, bytes) = match input {
            Input::Arrived(codec, bytes) | Input::Recovered(codec, bytes) => (Content::Coded(codec), bytes),
            Input::Comfort(level) => (Content::Comfort(level), &[][..]),
        };
        let recovered = matches!(input, Input::Recovered(..));
        let len = match content {
            Content::Coded(codec) => i64::from(codec.frame_samples()),
            Content::Comfort(_) => 0,
        };
        let mut position = self.unwrap(timestamp);
        let offset = offset_us(now, position + len);
        if self
            .delay
            .base()
            .is_some_and(|base| (offset - base).abs() > DISCONTINUITY)
        {
            // A straggler from before a restart must not undo it.
            if recovered || (order <= self.newest_order && self.stragglers < STRAGGLERS) {
                self.stragglers += u8::from(!recovered);
                self.counts.late += 1;
                return Outcome::Late;
            }
            self.restart();
            position = self.unwrap(timestamp);
        }
        if self.slots.contains(position, len > 0) {
            self.counts.duplicates += 1;
            return Outcome::Duplicate;
        }
        let offset = offset_us(now, position + len);
        if !recovered {
            self.newest_order = self.newest_order.max(order);
            self.stragglers = 0;
            self.learn(now, offset, position, len);
        }
        self.newest = Some(self.newest.map_or(position, |newest| newest.max(position)));
        self.store(position, len, content, bytes, recovered)
    }

    /// Learns how long repair takes: `recovered` frames of the block of `frames` frames of `len` samples that begins
    /// at `timestamp` have just been worked out. Chance alone decided which of them were lost, so one block tells
    /// what waiting for any of them takes, and playing slows down once for all.
    pub fn repaired(&mut self, now: Instant, timestamp: u32, frames: u32, len: u32, recovered: u32) {
        let begin = self.unwrap(timestamp);
        let weight = recovered as f32 / frames.max(1) as f32;
        for frame in 1..=i64::from(frames) {
            let offset = offset_us(now, begin + frame * i64::from(len));
            let base = self.delay.base();
            if base.is_some_and(|base| (offset - base).abs() <= DISCONTINUITY) {
                self.delay.repaired(offset, weight);
            }
        }
        self.delay.aim(now);
    }

    /// What to put into the playout queue, which holds `queued` samples now.
    pub fn step(&mut self, now: Instant, queued: usize) -> Step<'_> {
        loop {
            let Mode::Talk { waited, hole } = self.mode else {
                return self.step_in_silence(now, queued);
            };
            let Some(slot) = self.slots.earliest() else {
                return self.stall(waited, hole);
            };
            let (position, len, content) = (slot.position, slot.len, slot.content);
            let gap = position - self.next;
            let missing = gap > waited && gap > 0;
            if let Content::Comfort(level) = content {
                if gap < 0 {
                    self.slots.take(position);
                    continue;
                }
                if missing && waited < GAP_BEFORE_COMFORT {
                    return self.conceal(waited, true);
                }
                return self.pause(position, level);
            }
            let offset = play_offset(now, position + len, queued);
            let overdue = offset > self.delay.limit().saturating_add(50_000);
            if missing && !overdue {
                return self.conceal(waited, true);
            }
            if overdue || (gap <= 0 && waited > 0 && offset > self.latest_offset(hole)) {
                self.give_up(now, queued, position, len, waited);
                continue;
            }
            return self.play(position, len);
        }
    }

    /// Whether the frame that follows is there, so that decoding ahead costs nothing.
    pub fn is_next_ready(&self) -> bool {
        let next = self.slots.earliest();
        matches!(self.mode, Mode::Talk { waited: 0, .. })
            && next
                .is_some_and(|slot| slot.position == self.next && matches!(slot.content, Content::Coded(_)))
    }

    /// Whether to play faster or slower. Call once a pull, before [`Buffer::step`].
    pub fn steer(&mut self, now: Instant, queued: usize) -> Steer {
        let Some(offset) = self.offset(now, queued) else {
            self.steering.forget();
            return Steer::Hold;
        };
        self.steering.push(offset, self.delay.target())
    }

    /// Tells that the queue became `samples` longer (or shorter) by stretching, and whether more may follow at once,
    /// because nobody hears it.
    pub fn stretched(&mut self, samples: i64, hurry: bool) {
        self.steering.shifted(micros(samples), hurry);
    }

    /// Delay aimed at, beyond the fastest path.
    pub fn target(&self) -> Duration {
        let base = self.delay.base().unwrap_or(0);
        let target = if self.delay.base().is_some() {
            self.delay.target() - base
        } else {
            0
        };
        Duration::from_micros(target.max(0).unsigned_abs())
    }

    /// Delay of what is played now, beyond the fastest path; `None` in a pause or a stall.
    pub fn current(&self, now: Instant, queued: usize) -> Option<Duration> {
        let offset = self.offset(now, queued)?;
        Some(Duration::from_micros(
            (offset - self.delay.base()?).max(0).unsigned_abs(),
        ))
    }

    /// Offset (see [`Delay`]) at which the queue's first sample would be played now.
    pub fn offset(&self, now: Instant, queued: usize) -> Option<i64> {
        let Mode::Talk { waited: 0, .. } = self.mode else {
            return None;
        };
        self.delay.base()?;
        Some(offset_us(now, self.next - queued as i64) - self.frame_us)
    }

    /// Tells by how many parts per million the sender's clock is fast, where that is known.
    pub fn set_drift(&mut self, ppm: f64) {
        self.delay.set_drift(ppm);
    }

    /// What was counted since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Frames that wait.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sender said nothing about why nothing comes.
    pub fn is_starved(&self) -> bool {
        self.mode == Mode::Silence { starved: true }
    }

    /// Unwrapped place of a timestamp, nearest to the newest one.
    pub fn unwrap(&self, timestamp: u32) -> i64 {
        match self.newest {
            Some(newest) => newest + i64::from(timestamp.wrapping_sub(newest as u32) as i32),
            None => i64::from(timestamp),
        }
    }

    /// Learns from an arrival, except from the onset of a talk spurt: a sender sends at once what it kept back
    /// while it made up its mind about the onset, and that is no delay of the link.
    fn learn(&mut self, now: Instant, offset: i64, position: i64, len: i64) {
        if len == 0 {
            self.pausing = true;
            return;
        }
        if self.pausing && self.newest.is_none_or(|newest| position > newest - ONSET) {
            self.pausing = false;
            self.onset_until = position + ONSET;
        }
        if self.delay.base().is_none() || !(self.onset_until - ONSET..self.onset_until).contains(&position) {
            self.delay.arrived(now, offset);
        }
    }

    fn store(&mut self, position: i64, len: i64, content: Content, bytes: &[u8], recovered: bool) -> Outcome {
        if position < self.next {
            self.counts.late += 1;
            return Outcome::Late;
        }
        if self.slots.is_full() {
            self.drop_earliest();
        }
        if !self.slots.put(position, len, content, bytes) {
            return Outcome::TooLong;
        }
        self.counts.recovered += u64::from(recovered);
        Outcome::Stored
    }

    fn step_in_silence(&mut self, now: Instant, queued: usize) -> Step<'_> {
        loop {
            let Some(slot) = self.slots.earliest() else {
                return Step::Comfort(None);
            };
            let (position, len) = (slot.position, slot.len);
            if let Content::Comfort(level) = slot.content {
                return self.pause(position, level);
            }
            let offset = play_offset(now, position + len, queued);
            if offset > self.delay.limit() {
                self.skip_to_target(now, queued);
                continue;
            }
            if offset + START_TOLERANCE < self.delay.target() {
                return Step::Comfort(None);
            }
            return self.play(position, len);
        }
    }

    fn play(&mut self, position: i64, len: i64) -> Step<'_> {
        self.mode = Mode::Talk {
            waited: 0,
            hole: false,
        };
        self.next = position + len;
        self.frame_us = micros(len);
        let content = self.slots.earliest().map(|slot| slot.content);
        match content {
            Some(Content::Coded(codec)) => Step::Decode(codec, self.slots.take(position)),
            _ => Step::Conceal,
        }
    }

    fn pause(&mut self, position: i64, level: u8) -> Step<'_> {
        // Not `next`: a talk spurt may begin before the last description of the pause it ends.
        self.slots.take(position);
        self.mode = Mode::Silence { starved: false };
        Step::Comfort(Some(level))
    }

    fn conceal(&mut self, waited: i64, hole: bool) -> Step<'_> {
        self.mode = Mode::Talk {
            waited: waited + STEP as i64,
            hole,
        };
        Step::Conceal
    }

    fn stall(&mut self, waited: i64, hole: bool) -> Step<'_> {
        if waited >= STARVED {
            self.mode = Mode::Silence { starved: true };
            return Step::Comfort(None);
        }
        self.conceal(waited, hole)
    }

    /// How late the missing frame may be played after all: a hole is filled only within the target, after a
    /// stall everything is late and playing may fall behind as far as the cap.
    fn latest_offset(&self, hole: bool) -> i64 {
        if hole {
            self.delay.target().saturating_add(HOLE_TOLERANCE)
        } else {
            self.delay.limit()
        }
    }

    /// Leaves out frames: one that came too late to fill its hole, or all that stand between us and the
    /// target after the caller did not pull for a while.
    fn give_up(&mut self, now: Instant, queued: usize, position: i64, len: i64, waited: i64) {
        self.slots.take(position);
        self.counts.late += 1;
        let concealed = (waited - (position + len - self.next)).max(0);
        self.next = position + len;
        self.mode = Mode::Talk {
            waited: concealed,
            hole: true,
        };
        if waited == 0 {
            self.skip_to_target(now, queued);
            self.steering.forget();
        }
    }

    /// Leaves out every frame that is later than the target.
    fn skip_to_target(&mut self, now: Instant, queued: usize) {
        while let Some(slot) = self.slots.earliest() {
            let (position, len) = (slot.position, slot.len);
            if len == 0 || play_offset(now, position + len, queued) <= self.delay.target() {
                break;
            }
            self.slots.take(position);
            self.counts.late += 1;
            self.next = position + len;
        }
    }

    fn drop_earliest(&mut self) {
        if let Some(slot) = self.slots.earliest() {
            let (position, end) = (slot.position, slot.position + slot.len);
            self.slots.take(position);
            self.next = self.next.max(end);
            self.counts.late += 1;
        }
    }

    fn restart(&mut self) {
        self.slots.clear();
        self.delay.reset();
        self.steering.forget();
        self.mode = Mode::Silence { starved: false };
        self.next = i64::MIN;
        self.newest = None;
        self.pausing = false;
        self.newest_order = 0;
        self.stragglers = 0;
        self.counts.restarts += 1;
    }
}

/// Now, minus the time of a place on the sender's timeline, microseconds.
fn offset_us(now: Instant, position: i64) -> i64 {
    now.as_micros() as i64 - micros(position)
}

/// Offset at which a frame ending at `end` plays if it goes into the queue now.
fn play_offset(now: Instant, end: i64, queued: usize) -> i64 {
    offset_us(now, end) + micros(queued as i64)
}

/// Duration of samples at 48 kHz in microseconds.
fn micros(samples: i64) -> i64 {
    samples * 125 / 6
}

#[cfg(test)]
mod tests;
