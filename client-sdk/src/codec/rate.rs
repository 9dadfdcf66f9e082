//! 48 kHz to 8 kHz and back for the narrowband vocoder.
//!
//! One linear-phase filter for both directions: flat to 3.3 kHz, 60 dB down at 4.1 kHz, 2.5 ms of delay each
//! way. A fixed factor of six needs no general resampler, and this one has no block to wait for.

use std::f32::consts::PI;

/// Samples at 48 kHz for one at 8 kHz.
pub(super) const FACTOR: usize = 6;
const TAPS: usize = 240;
/// Taps that meet a sample when the other five in six are zero.
const PHASE_TAPS: usize = TAPS / FACTOR;
const CUTOFF_HZ: f32 = 3_700.0;
const RATE_HZ: f32 = 48_000.0;
const KAISER_BETA: f32 = 5.65;

/// Keeps every sixth sample of the filtered input.
#[derive(Clone, Debug)]
pub(super) struct Down {
    taps: [f32; TAPS],
    /// Twice the input still under the filter, so that a window of it is always contiguous.
    history: [f32; 2 * TAPS],
    position: usize,
}

impl Down {
    pub(super) fn new() -> Self {
        Self {
            taps: low_pass(),
            history: [0.0; 2 * TAPS],
            position: 0,
        }
    }

    /// Fills `output` from `FACTOR` times as many input samples.
    pub(super) fn process(&mut self, input: &[f32], output: &mut [f32]) {
        for (six, output) in input.chunks_exact(FACTOR).zip(output) {
            for &sample in six {
                remember::<TAPS>(&mut self.history, &mut self.position, sample);
            }
            *output = dot(&self.taps, &self.history[self.position..]);
        }
    }
}

/// Puts five zeroes behind every sample and filters away the images.
#[derive(Clone, Debug)]
pub(super) struct Up {
    phases: [[f32; PHASE_TAPS]; FACTOR],
    history: [f32; 2 * PHASE_TAPS],
    position: usize,
}

impl Up {
    pub(super) fn new() -> Self {
        let taps = low_pass();
        let mut phases = [[0.0; PHASE_TAPS]; FACTOR];
        for (index, tap) in taps.into_iter().enumerate() {
            // The output phases go forward in time while the filter runs backwards over the history.
            phases[FACTOR - 1 - index % FACTOR][index / FACTOR] = tap * FACTOR as f32;
        }
        Self {
            phases,
            history: [0.0; 2 * PHASE_TAPS],
            position: 0,
        }
    }

    /// Fills `output` with `FACTOR` times as many samples as there are in `input`.
    pub(super) fn process(&mut self, input: &[f32], output: &mut [f32]) {
        for (&sample, six) in input.iter().zip(output.chunks_exact_mut(FACTOR)) {
            remember::<PHASE_TAPS>(&mut self.history, &mut self.position, sample);
            for (taps, output) in self.phases.iter().zip(six) {
                *output = dot(taps, &self.history[self.position..]);
            }
        }
    }
}

/// Writes `sample` twice, half a buffer apart: the `N` samples from `position` on are then the last `N`.
fn remember<const N: usize>(history: &mut [f32], position: &mut usize, sample: f32) {
    history[*position] = sample;
    history[*position + N] = sample;
    *position = (*position + 1) % N;
}

fn dot(taps: &[f32], samples: &[f32]) -> f32 {
    taps.iter().zip(samples).map(|(tap, sample)| tap * sample).sum()
}

/// A windowed sinc of unit gain.
fn low_pass() -> [f32; TAPS] {
    let middle = (TAPS - 1) as f32 / 2.0;
    let mut taps: [f32; TAPS] = std::array::from_fn(|index| {
        let offset = index as f32 - middle;
        let angle = 2.0 * PI * CUTOFF_HZ / RATE_HZ * offset;
        let edge = offset / middle;
        bessel(KAISER_BETA * (1.0 - edge * edge).max(0.0).sqrt()) * angle.sin() / angle
    });
    let gain: f32 = taps.iter().sum();
    for tap in &mut taps {
        *tap /= gain;
    }
    taps
}

/// The modified Bessel function of order 0, by its power series.
fn bessel(x: f32) -> f32 {
    let (mut sum, mut term) = (1.0, 1.0);
    for order in 1..=24 {
        let factor = x / (2.0 * order as f32);
        term *= factor * factor;
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f32, samples: usize) -> Vec<f32> {
        (0..samples)
            .map(|n| (2.0 * PI * hz * n as f32 / RATE_HZ).sin())
            .collect()
    }

    fn rms(samples: &[f32]) -> f32 {
        (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt()
    }

    fn through_both(input: &[f32]) -> Vec<f32> {
        let (mut down, mut up) = (Down::new(), Up::new());
        let mut narrow = vec![0.0; input.len() / FACTOR];
        let mut wide = vec![0.0; input.len()];
        for ((input, narrow), wide) in input
            .chunks(1_920)
            .zip(narrow.chunks_mut(320))
            .zip(wide.chunks_mut(1_920))
        {
            down.process(input, narrow);
            up.process(narrow, wide);
        }
        wide
    }

    #[test]
    fn speech_band_comes_back_five_milliseconds_later() {
        for hz in [100.0, 1_000.0, 3_200.0] {
            let input = tone(hz, 9_600);
            let output = through_both(&input);
            let delay = TAPS - 1 - (FACTOR - 1);
            let error: Vec<f32> = output[1_920..]
                .iter()
                .zip(&input[1_920 - delay..])
                .map(|(o, i)| o - i)
                .collect();
            assert!(
                rms(&error) < 0.02,
                "{hz} Hz comes back with an error of {}",
                rms(&error)
            );
        }
    }

    #[test]
    fn what_8_khz_cannot_hold_does_not_alias() {
        for hz in [4_300.0, 5_000.0, 7_000.0, 12_000.0] {
            let output = through_both(&tone(hz, 9_600));
            assert!(
                rms(&output[1_920..]) < 0.002,
                "{hz} Hz leaves {}",
                rms(&output[1_920..])
            );
        }
    }
}
