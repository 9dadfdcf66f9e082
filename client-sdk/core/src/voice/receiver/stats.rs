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
    /// Longest stretch of invented sound that ended, milliseconds.
    pub longest_gap_ms: u64,
    /// Sound added by playing slower, milliseconds.
    pub expanded_ms: u64,
    /// Sound removed by playing faster, milliseconds.
    pub accelerated_ms: u64,
    /// Interarrival jitter (RFC 3550), milliseconds.
    pub jitter_ms: f64,
    /// Delay that the jitter buffer aims at, beyond the fastest path, milliseconds.
    pub target_ms: f64,
    /// Mean delay of what was played, beyond the fastest path, milliseconds.
    pub delay_ms: f64,
    /// Mean opinion score by the E-model, 1.0 to 4.5; 0.0 before anything was played.
    pub mos: f64,
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
    concealed: u64,
    played: u64,
    gap: u64,
    longest_gap: u64,
    /// The longest that ended since [`Tally::take_gap`].
    recent_gap: u64,
    added: u64,
    removed: u64,
    delay_us: f64,
    delays: u64,
    reported: Snapshot,
}

/// What the last report covered up to.
#[derive(Debug, Default, Clone, Copy)]
struct Snapshot {
    received: u64,
    expected: u64,
    late: u64,
    concealed: u64,
    played: u64,
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
                self.played += samples;
                self.end_gap();
            }
            Sound::Concealed => {
                self.played += samples;
                self.concealed += samples;
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

    pub(super) fn delay(&mut self, delay: Duration) {
        self.delay_us += delay.as_micros() as f64;
        self.delays += 1;
    }

    pub(super) fn stats(&self, buffer: &Buffer, codec: Option<Codec>, path: Duration) -> Stats {
        let counts = buffer.counts();
        Stats {
            received: self.received,
            lost: self.expected().saturating_sub(self.received),
            recovered: counts.recovered,
            late: counts.late,
            malformed: self.malformed,
            concealed_ms: self.concealed / 48,
            played_ms: self.played / 48,
            longest_gap_ms: self.longest_gap / 48,
            expanded_ms: self.added / 48,
            accelerated_ms: self.removed / 48,
            jitter_ms: self.jitter_us / 1e3,
            target_ms: buffer.target().as_secs_f64() * 1e3,
            delay_ms: self.delay_us / self.delays.max(1) as f64 / 1e3,
            mos: opinion(codec, path + buffer.target(), self.concealed, self.played),
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
            concealed: self.concealed,
            played: self.played,
        };
        let was = std::mem::replace(&mut self.reported, now);
        let expected = now.expected.saturating_sub(was.expected);
        let received = now.received.saturating_sub(was.received);
        let (concealed, played) = (now.concealed - was.concealed, now.played - was.played);
        ReceiverReport {
            about,
            loss_permille: permille(expected.saturating_sub(received), expected),
            late_permille: permille(now.late - was.late, expected),
            concealed_permille: permille(concealed, played),
            jitter_ms: (self.jitter_us / 1e3) as u16,
            rtt_ms: 0,
            delay_ms: u16::try_from(buffer.target().as_millis()).unwrap_or(u16::MAX),
            mos_centi: (opinion(codec, path + buffer.target(), concealed, played) * 100.0) as u16,
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

fn opinion(codec: Option<Codec>, delay: Duration, concealed: u64, played: u64) -> f64 {
    let Some(codec) = codec else { return 0.0 };
    let delay = delay + codec.frame_duration() + DEVICES;
    let concealed = concealed as f64 / played.max(1) as f64;
    mos(&Impairment {
        codec,
        delay,
        concealed,
        burst: 1.0,
    })
}
