//! The receiving half for one remote sender: packets in, 10 ms of sound out.
//!
//! Packets arrive in [`Receiver::handle_packet`] (authenticated, opened, duplicates already removed); a device
//! pulls sound by [`Receiver::pull`] at its own pace. Between them stand forward error correction, the
//! [jitter buffer](super::jitter), the decoders and time-stretching. In steady state neither call allocates:
//! the only allocations are a decoder when a codec is first used, and the repair of the first blocks.

mod opinion;
mod stats;
mod synth;

use std::time::Duration;

pub use opinion::{Impairment, mos};
use stats::Tally;
pub use stats::{LastSecond, Stats};
use synth::Synth;
use wzp_wire::{Header, Instant, Kind, ReceiverReport, SenderId};

use super::{
    codec::Codecs,
    drift::{Drift, Estimator},
    fec,
    jitter::{self, Buffer, Input, Steer, Step},
    stretch::{self, Pcm},
};

/// Samples in a pull.
pub const PULL: usize = jitter::STEP;

/// Bits of a packet counter.
const COUNTER_BITS: u32 = 48;
/// How often the clocks are compared.
const DRIFT_EVERY: Duration = Duration::from_secs(5);
/// Drift known worse than this, parts per million, is not acted upon.
const DRIFT_ERROR_MAX: f64 = 100.0;

/// What a pull consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sound {
    /// What the sender said.
    Speech,
    /// Invented in the place of something missing.
    Concealed,
    /// Background noise of a pause, or silence before the first packet.
    Comfort,
}

/// What [`Receiver::pull`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Playout {
    /// What most recently went into the sound.
    pub kind: Sound,
    /// Samples added (or removed) to play slower (or faster).
    pub stretched: i32,
}

/// Plays one remote sender.
pub struct Receiver<C: Codecs> {
    about: SenderId,
    fec: fec::Decoder,
    buffer: Buffer,
    synth: Synth<C>,
    pcm: Pcm,
    drift: Estimator,
    tally: Tally,
    rtt: Duration,
    kind: Sound,
    offset: Option<i64>,
    drift_due: Instant,
    /// Newest key epoch, unwrapped.
    epoch: Option<u64>,
}

impl<C: Codecs> Receiver<C> {
    /// A receiver for the packets of `about`, that makes its decoders with `codecs`.
    pub fn new(about: SenderId, codecs: C, config: jitter::Config) -> Self {
        Self {
            about,
            fec: fec::Decoder::new(),
            buffer: Buffer::new(config),
            synth: Synth::new(codecs),
            pcm: Pcm::new(),
            drift: Estimator::new(),
            tally: Tally::default(),
            rtt: Duration::ZERO,
            kind: Sound::Comfort,
            offset: None,
            drift_due: Instant::ZERO,
            epoch: None,
        }
    }

    /// Takes an opened packet: its header, the 48-bit counter of its stream and its payload. Returns the
    /// receiver report that it carried, if any. Whatever is malformed is counted and ignored.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        header: &Header,
        counter: u64,
        payload: &[u8],
    ) -> Option<ReceiverReport> {
        let (report, payload) = match header.report.then(|| ReceiverReport::decode(payload)) {
            None => (None, payload),
            Some(Ok((report, rest))) => (Some(report), rest),
            Some(Err(_)) => {
                self.tally.malformed += 1;
                return None;
            }
        };
        let order = self.order(header.epoch, counter);
        if header.kind != Kind::Repair {
            self.tally
                .packet(now, order, self.buffer.unwrap(header.timestamp));
        }
        match (header.kind, payload) {
            (Kind::ComfortNoise, [level, ..]) => {
                self.buffer
                    .insert(now, header.timestamp, order, Input::Comfort(*level));
            }
            (Kind::ComfortNoise, []) => self.tally.malformed += 1,
            (Kind::Source | Kind::Repair, _) => self.handle_coded(now, header, order, payload),
        }
        report
    }

    /// Fills `out` (at most [`PULL`] samples are used, the rest becomes silence) with what is to be heard
    /// next. Call every 10 ms, whatever arrives.
    pub fn pull(&mut self, now: Instant, out: &mut [f32]) -> Playout {
        let wanted = out.len().min(PULL);
        let steer = self.buffer.steer(now, self.pcm.queued());
        while self.pcm.queued() < wanted {
            self.fill(now);
        }
        let stretched = self.stretch(now, steer);
        self.pcm.pop(out);
        // What this pull played is the first thing that was queued.
        let played = self.pcm.queued() + wanted;
        self.tally.pulled(self.buffer.current(now, played));
        self.offset = self.buffer.offset(now, played);
        Playout {
            kind: self.kind,
            stretched,
        }
    }

    /// Figures since the start.
    pub fn stats(&self) -> Stats {
        let path = self.rtt / 2;
        self.tally.stats(&self.buffer, self.synth.codec(), path)
    }

    /// What to tell the sender about how it is heard, over the time since the last report.
    pub fn report(&mut self) -> ReceiverReport {
        let path = self.rtt / 2;
        let mut report = self
            .tally
            .report(&self.buffer, self.synth.codec(), path, self.about);
        report.rtt_ms = u16::try_from(self.rtt.as_millis()).unwrap_or(u16::MAX);
        report
    }

    /// The longest stretch of invented sound since the last call. One that goes on counts as far as it has come, and
    /// again the next time.
    pub fn take_gap(&mut self) -> Duration {
        self.tally.take_gap()
    }

    /// Round trip of the path in use, for the report and the estimate of quality; zero is unknown.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
    }

    /// The sender's clock against ours, once there is enough to tell.
    pub fn drift(&mut self) -> Option<Drift> {
        self.drift.estimate()
    }

    /// Offset at which the last pull played, for comparing with an ideal buffer.
    pub(super) fn offset(&self) -> Option<i64> {
        self.offset
    }

    /// A number that grows with sending, though counters begin anew with each key epoch.
    fn order(&mut self, epoch: u8, counter: u64) -> u64 {
        let newest = *self.epoch.get_or_insert_with(|| u64::from(epoch) + 256);
        let ahead = i64::from(epoch.wrapping_sub(newest as u8) as i8);
        let epoch = newest.saturating_add_signed(ahead);
        self.epoch = Some(newest.max(epoch));
        (epoch << COUNTER_BITS) | (counter & ((1 << COUNTER_BITS) - 1))
    }

    fn handle_coded(&mut self, now: Instant, header: &Header, order: u64, payload: &[u8]) {
        let Self {
            fec, buffer, drift, ..
        } = self;
        let restarts = buffer.counts().restarts;
        let mut recovered = 0;
        let pushed = fec.push(header, payload, &mut |frame: fec::Frame<'_>| {
            let input = if frame.recovered {
                recovered += 1;
                Input::Recovered(frame.codec, frame.bytes)
            } else {
                drift.push(now, buffer.unwrap(frame.timestamp));
                Input::Arrived(frame.codec, frame.bytes)
            };
            buffer.insert(now, frame.timestamp, order, input);
        });
        if recovered > 0 {
            let before = match header.kind {
                Kind::Source => u32::from(header.fec.index),
                _ => 0,
            };
            let begin = header.timestamp.wrapping_sub(before * header.samples());
            let frames = u32::from(header.fec.k) * u32::from(header.frames);
            buffer.repaired(now, begin, frames, header.codec.frame_samples(), recovered);
        }
        if matches!(
            pushed,
            Err(fec::Refused::Length | fec::Refused::Position | fec::Refused::Contradiction)
        ) {
            self.tally.malformed += 1;
        }
        if self.buffer.counts().restarts != restarts {
            self.drift.reset();
        }
        if now >= self.drift_due {
            self.drift_due = now + DRIFT_EVERY;
            let sure = self
                .drift
                .estimate()
                .filter(|drift| drift.error_ppm < DRIFT_ERROR_MAX);
            self.buffer.set_drift(sure.map_or(0.0, |drift| drift.ppm));
        }
    }

    /// Puts at least one block into the queue.
    fn fill(&mut self, now: Instant) {
        let was_starved = self.buffer.is_starved();
        let queued = self.pcm.queued();
        let step = self.buffer.step(now, queued);
        self.kind = match step {
            Step::Decode(codec, bytes) => {
                if self.synth.decode(codec, bytes, &mut self.pcm) {
                    Sound::Speech
                } else {
                    Sound::Concealed
                }
            }
            Step::Conceal => {
                self.synth.conceal(&mut self.pcm);
                Sound::Concealed
            }
            Step::Comfort(level) => {
                self.synth.comfort(level, &mut self.pcm);
                if was_starved {
                    Sound::Concealed
                } else {
                    Sound::Comfort
                }
            }
        };
        self.tally.played(self.kind, (self.pcm.queued() - queued) as u64);
    }

    fn stretch(&mut self, now: Instant, steer: Steer) -> i32 {
        let samples = match steer {
            Steer::Hold => return 0,
            Steer::Accelerate(urgency, limit) => {
                while self.pcm.queued() < stretch::ACCELERATE_NEEDS && self.buffer.is_next_ready() {
                    self.fill(now);
                }
                -(stretch::accelerate(&mut self.pcm, urgency, limit) as i64)
            }
            Steer::Expand(urgency, limit) => stretch::expand(&mut self.pcm, urgency, limit) as i64,
        };
        if samples != 0 {
            let hurry = samples > 0 && stretch::is_quiet(&self.pcm);
            self.buffer.stretched(samples, hurry);
            self.tally.stretched(samples);
        }
        samples as i32
    }
}

#[cfg(test)]
mod tests;
