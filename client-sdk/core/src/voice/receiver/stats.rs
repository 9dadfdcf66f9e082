//! Counting what was received and what was heard.

use std::time::Duration;

use wzp_wire::{Codec, Instant, ReceiverReport, SenderId};

use super::{
    COUNTER_BITS, Sound,
    opinion::{Impairment, mos},
};
use crate::voice::jitter::Buffer;

/// What a device adds at both ends, for the mouth-to-ear delay.
const DEVICES: Duration = Duration::from_millis(20);
/// Pulls between two marks, and marks that are kept: one second.
const MARK_EVERY: u32 = 10;
const MARKS: usize = 10;

/// Figures of one sender since the start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Source and comfort-noise packets that came.
    pub received: u64,
    /// Such packets that did not, as told by the gaps in their numbers.
    pub lost: u64,
    /// Lost frames that repair brought back in time.
    pub recovered: u64,
    /// Frames that came too late to be played.
    pub late: u64,
    /// Packets whose content made no sense.
    pub malformed: u64,
    /// Sound that was invented for want of a frame, milliseconds.
    pub concealed_ms: u64,
    /// Sound altogether, pauses not counted, milliseconds.
    pub played_ms: u64,
    /// Longest stretch of invented sound, also of one that goes on, milliseconds.
    pub longest_gap_ms: u64,
    /// Sound added by playing slower, milliseconds.
    pub expanded_ms: u64,
    /// Sound removed by playing faster, milliseconds.
    pub accelerated_ms: u64,
    /// Interarrival jitter (RFC 3550), milliseconds; `None` before the second packet.
    pub jitter_ms: Option<f64>,
    /// Delay that the jitter buffer aims at, beyond the fastest path, milliseconds.
    pub target_ms: f64,
    /// Mean delay of what was played, beyond the fastest path, milliseconds; `None` before any speech was.
    pub delay_ms: Option<f64>,
    /// Mean opinion score by the E-model, 1.0 to 4.5; `None` before any speech was played.
    pub mos: Option<f64>,
    /// The same of the last second alone.
    pub last_second: LastSecond,
}

/// Figures of the last second, or a little more.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct LastSecond {
    /// Mean delay of what was played, beyond the fastest path, milliseconds; `None` when that was no speech.
    pub delay_ms: Option<f64>,
    /// Mean opinion score by the E-model, 1.0 to 4.5; `None` in a pause, and before any speech.
    pub mos: Option<f64>,
}

/// Running counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) malformed: u64,
    received: u64,
    /// Packets of earlier runs of the counter, and where the current run began.
    expected_before: u64,
    first: Option<u64>,
    highest: u64,
    last_transit: Option<i64>,
    jitter_us: f64,
    heard: Heard,
    /// [`Tally::heard`] as it was, a mark each [`MARK_EVERY`].
    marks: [Heard; MARKS],
    pulls: u32,
    gap: u64,
    longest_gap: u64,
    /// The longest that ended since [`Tally::take_gap`].
    recent_gap: u64,
    added: u64,
    removed: u64,
    reported: Snapshot,
}

/// What was heard, in samples, and how late.
#[derive(Debug, Default, Clone, Copy)]
struct Heard {
    concealed: u64,
    played: u64,
    delay_us: f64,
    delays: u64,
}

impl Heard {
    fn since(&self, before: &Self) -> Self {
        Self {
            concealed: self.concealed - before.concealed,
            played: self.played - before.played,
            delay_us: self.delay_us - before.delay_us,
            delays: self.delays - before.delays,
        }
    }

    fn delay_ms(&self) -> Option<f64> {
        (self.delays > 0).then(|| self.delay_us / self.delays as f64 / 1e3)
    }
}

/// What the last report covered up to.
#[derive(Debug, Default, Clone, Copy)]
struct Snapshot {
    received: u64,
    expected: u64,
    late: u64,
    heard: Heard,
}

impl Tally {
    /// A packet of the source stream came, whose frames begin at `position`. The upper bits of `order` are the
    /// key epoch, the lower ones the packet counter.
    pub(super) fn packet(&mut self, now: Instant, order: u64, position: i64) {
        self.received += 1;
        match self.first {
            Some(first) if order >> COUNTER_BITS == self.highest >> COUNTER_BITS => {
                self.first = Some(first.min(order));
                self.highest = self.highest.max(order);
            }
            // A straggler of the last epoch was expected then.
            Some(_) if order < self.highest => {}
            _ => {
                self.expected_before = self.expected();
                (self.first, self.highest) = (Some(order), order);
            }
        }
        let transit = now.as_micros() as i64 - position * 125 / 6;
        if let Some(last) = self.last_transit.replace(transit) {
            // A pause or a restart is no jitter.
            let change = (transit - last).abs().min(1_000_000) as f64;
            self.jitter_us += (change - self.jitter_us) / 16.0;
        }
    }

    /// So many samples went into the playout queue.
    pub(super) fn played(&mut self, kind: Sound, samples: u64) {
        match kind {
            Sound::Speech => {
                self.heard.played += samples;
                self.end_gap();
            }
            Sound::Concealed => {
                self.heard.played += samples;
                self.heard.concealed += samples;
                self.gap += samples;
            }
            Sound::Comfort => self.end_gap(),
        }
    }

    pub(super) fn stretched(&mut self, samples: i64) {
        if samples > 0 {
            self.added += samples.unsigned_abs();
        } else {
            self.removed += samples.unsigned_abs();
        }
    }

    /// A pull ended; what it played was so late, where that is known.
    pub(super) fn pulled(&mut self, delay: Option<Duration>) {
        if let Some(delay) = delay {
            self.heard.delay_us += delay.as_micros() as f64;
            self.heard.delays += 1;
        }
        self.pulls += 1;
        if self.pulls == MARK_EVERY {
            self.pulls = 0;
            self.marks.rotate_left(1);
            self.marks[MARKS - 1] = self.heard;
        }
    }

    pub(super) fn stats(&self, buffer: &Buffer, codec: Option<Codec>, path: Duration) -> Stats {
        let counts = buffer.counts();
        let last = self.heard.since(&self.marks[0]);
        Stats {
            received: self.received,
            lost: self.expected().saturating_sub(self.received),
            recovered: counts.recovered,
            late: counts.late,
            malformed: self.malformed,
            concealed_ms: self.heard.concealed / 48,
            played_ms: self.heard.played / 48,
            longest_gap_ms: self.longest_gap.max(self.gap) / 48,
            expanded_ms: self.added / 48,
            accelerated_ms: self.removed / 48,
            jitter_ms: (self.received > 1).then_some(self.jitter_us / 1e3),
            target_ms: buffer.target().as_secs_f64() * 1e3,
            delay_ms: self.heard.delay_ms(),
            mos: opinion(codec, path + buffer.target(), &self.heard),
            last_second: LastSecond {
                delay_ms: last.delay_ms(),
                mos: opinion(codec, path + buffer.target(), &last),
            },
        }
    }

    pub(super) fn report(
        &mut self,
        buffer: &Buffer,
        codec: Option<Codec>,
        path: Duration,
        about: SenderId,
    ) -> ReceiverReport {
        let now = Snapshot {
            received: self.received,
            expected: self.expected(),
            late: buffer.counts().late,
            heard: self.heard,
        };
        let was = std::mem::replace(&mut self.reported, now);
        let expected = now.expected.saturating_sub(was.expected);
        let received = now.received.saturating_sub(was.received);
        let heard = now.heard.since(&was.heard);
        ReceiverReport {
            about,
            loss_permille: permille(expected.saturating_sub(received), expected),
            late_permille: permille(now.late - was.late, expected),
            concealed_permille: permille(heard.concealed, heard.played),
            jitter_ms: (self.jitter_us / 1e3) as u16,
            rtt_ms: 0,
            delay_ms: u16::try_from(buffer.target().as_millis()).unwrap_or(u16::MAX),
            mos_centi: opinion(codec, path + buffer.target(), &heard).map_or(0, |mos| (mos * 100.0) as u16),
            key_mismatch: 0,
            highest_tier: 0,
        }
    }

    /// The longest gap since the last call; one that goes on counts as far as it has come.
    pub(super) fn take_gap(&mut self) -> Duration {
        let samples = std::mem::take(&mut self.recent_gap).max(self.gap);
        Duration::from_millis(samples / 48)
    }

    fn expected(&self) -> u64 {
        let run = self.first.map_or(0, |first| self.highest - first + 1);
        self.expected_before.saturating_add(run)
    }

    fn end_gap(&mut self) {
        self.longest_gap = self.longest_gap.max(self.gap);
        self.recent_gap = self.recent_gap.max(self.gap);
        self.gap = 0;
    }
}

fn permille(part: u64, whole: u64) -> u16 {
    u16::try_from(part.saturating_mul(1_000) / whole.max(1))
        .unwrap_or(1_000)
        .min(1_000)
}

/// `None` of a pause.
fn opinion(codec: Option<Codec>, delay: Duration, heard: &Heard) -> Option<f64> {
    let codec = codec.filter(|_| heard.played > 0)?;
    let delay = delay + codec.frame_duration() + DEVICES;
    let concealed = heard.concealed as f64 / heard.played as f64;
    Some(mos(&Impairment {
        codec,
        delay,
        concealed,
        burst: 1.0,
    }))
}
