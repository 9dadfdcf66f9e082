//! Playing a little faster or slower without a change of pitch.
//!
//! Pitch-synchronous overlap-add: one pitch period (2.5 to 15 ms) is faded out of the signal, or faded in
//! once more, at a lag where the signal resembles itself, so that the seam falls between two equal periods.
//! Works in place on the samples waiting in [`Pcm`] and allocates nothing.

mod pcm;

pub use pcm::Pcm;

/// Shortest and longest lag in samples at 48 kHz: 400 Hz and 67 Hz, the range of speaking voices.
const LAG_MIN: usize = 120;
const LAG_MAX: usize = 720;
/// Stretch of signal that is compared at each lag.
const WINDOW: usize = 480;
/// The coarse search runs at 8 kHz.
const DECIMATION: usize = 6;
const COARSE_WINDOW: usize = WINDOW / DECIMATION;
const COARSE: usize = (LAG_MAX + WINDOW) / DECIMATION;
/// Mean square below which a seam is inaudible whatever the correlation (-50 dBov).
const QUIET: f32 = 1e-5;

/// Samples that must wait in [`Pcm`] for [`accelerate`] to have a choice of lags.
pub const ACCELERATE_NEEDS: usize = LAG_MAX + WINDOW;

/// How good a seam must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Only where nothing can be heard: in a pause.
    Quiet,
    /// Only where it cannot be heard: high self-similarity, or quiet.
    Low,
    /// A slight roughness is better than the wrong delay.
    High,
    /// The delay is so wrong that any seam will do.
    Must,
}

impl Urgency {
    fn correlation(self) -> f32 {
        match self {
            Self::Quiet => f32::INFINITY,
            Self::Low => 0.9,
            Self::High => 0.6,
            Self::Must => -1.0,
        }
    }
}

/// Shortens the waiting signal by one pitch period, or not at all where no lag of at most `limit` samples
/// makes a good enough seam. Returns the samples removed.
pub fn accelerate(pcm: &mut Pcm, urgency: Urgency, limit: usize) -> usize {
    let queued = pcm.queued();
    if queued < ACCELERATE_NEEDS || limit < LAG_MIN {
        return 0;
    }
    let Some(lag) = best_lag(pcm.queue(), 0, urgency, limit, Direction::Later) else {
        return 0;
    };
    let fade = lag.min(WINDOW);
    let signal = pcm.queue_mut();
    for n in 0..fade {
        signal[n] += ramp(n, fade) * (signal[n + lag] - signal[n]);
    }
    pcm.cut(fade, lag);
    lag
}

/// Lengthens the waiting signal by one pitch period taken from what was just played, or not at all where no
/// lag of at most `limit` samples makes a good enough seam. Returns the samples added.
pub fn expand(pcm: &mut Pcm, urgency: Urgency, limit: usize) -> usize {
    if pcm.queued() < WINDOW || pcm.history() < LAG_MAX || limit < LAG_MIN || pcm.room() < LAG_MAX {
        return 0;
    }
    let (signal, head) = pcm.with_history(LAG_MAX);
    let Some(lag) = best_lag(signal, head, urgency, limit, Direction::Earlier) else {
        return 0;
    };
    let fade = lag.min(WINDOW);
    // The queue moves back by `lag`; what then stands in the gap is the period before the seam, and its
    // beginning is blended with the old beginning of the queue, which now starts `lag` later.
    let signal = pcm.insert_past(lag);
    for n in 0..fade {
        let ahead = signal[n + lag];
        signal[n] = ahead + ramp(n, fade) * (signal[n] - ahead);
    }
    lag
}

/// Whether what is heard next is so quiet that no seam in it is heard.
pub fn is_quiet(pcm: &Pcm) -> bool {
    let power = |window: &[f32]| window.iter().map(|sample| sample * sample).sum::<f32>() / WINDOW as f32;
    pcm.queue()
        .get(..WINDOW)
        .is_some_and(|window| power(window) < QUIET)
}

/// Rises from just above 0 to just below 1 over `len` steps, flat at both ends.
fn ramp(n: usize, len: usize) -> f32 {
    let x = (n as f32 + 0.5) / len as f32;
    x * x * (3.0 - 2.0 * x)
}

#[derive(Clone, Copy)]
enum Direction {
    /// Compare with the signal after `at`.
    Later,
    /// Compare with the signal before `at`.
    Earlier,
}

impl Direction {
    fn shift(self, at: usize, lag: usize) -> usize {
        match self {
            Self::Later => at + lag,
            Self::Earlier => at - lag,
        }
    }
}

/// The lag at which `signal[at..]` resembles itself best, if that is good enough.
fn best_lag(signal: &[f32], at: usize, urgency: Urgency, limit: usize, way: Direction) -> Option<usize> {
    let limit = limit.min(LAG_MAX);
    let (coarse, coarse_at) = decimate(signal, at, way);
    let rough = (LAG_MIN / DECIMATION..=limit / DECIMATION)
        .map(|lag| {
            (
                lag,
                similarity(&coarse, coarse_at, way.shift(coarse_at, lag), COARSE_WINDOW).0,
            )
        })
        .max_by(|a, b| a.1.total_cmp(&b.1))?
        .0
        * DECIMATION;
    let (lag, (correlation, energy)) = (rough.saturating_sub(DECIMATION)..=rough + DECIMATION)
        .filter(|lag| (LAG_MIN..=limit).contains(lag))
        .map(|lag| (lag, similarity(signal, at, way.shift(at, lag), WINDOW)))
        .max_by(|a, b| a.1.0.total_cmp(&b.1.0))?;
    (correlation >= urgency.correlation() || energy < QUIET).then_some(lag)
}

/// The part of the signal that the search looks at, averaged down to 8 kHz.
fn decimate(signal: &[f32], at: usize, way: Direction) -> ([f32; COARSE], usize) {
    let (from, coarse_at) = match way {
        Direction::Later => (at, 0),
        Direction::Earlier => (at - LAG_MAX, LAG_MAX / DECIMATION),
    };
    let mut out = [0.0; COARSE];
    for (sample, group) in out.iter_mut().zip(signal[from..].chunks_exact(DECIMATION)) {
        *sample = group.iter().sum::<f32>() / DECIMATION as f32;
    }
    (out, coarse_at)
}

/// Normalised correlation of two windows, and the larger of their mean squares.
fn similarity(signal: &[f32], a: usize, b: usize, len: usize) -> (f32, f32) {
    let (a, b) = (&signal[a..a + len], &signal[b..b + len]);
    let (mut aa, mut bb, mut ab) = (0.0_f32, 0.0_f32, 0.0_f32);
    for (x, y) in a.iter().zip(b) {
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    // The floor keeps near-silence from looking perfectly correlated by rounding.
    (ab / (aa * bb).sqrt().max(1e-9), aa.max(bb) / len as f32)
}

#[cfg(test)]
mod tests;
