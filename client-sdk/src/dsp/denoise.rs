//! RNNoise: less noise, and how likely it is that somebody speaks.

use nnnoiseless::DenoiseState;

use super::{BLOCK, finite};

const FULL_SCALE: f32 = 32_768.0;

/// Takes noise out of captured sound and tells speech from it.
pub struct Denoiser {
    state: Box<DenoiseState<'static>>,
}

impl Denoiser {
    /// The output lags the input by this many samples.
    pub const DELAY: usize = BLOCK;

    /// A denoiser that has heard nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: DenoiseState::new(),
        }
    }

    /// Replaces `block` by the cleaned block before it; returns the probability that `block` is speech.
    pub fn process(&mut self, block: &mut [f32; BLOCK]) -> f32 {
        // RNNoise takes floats in the range of 16-bit integers.
        let input = block.map(|sample| finite(sample) * FULL_SCALE);
        let probability = self.state.process_frame(block, &input);
        for sample in block {
            *sample = finite(*sample / FULL_SCALE);
        }
        probability.clamp(0.0, 1.0)
    }
}

impl Default for Denoiser {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Denoiser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Denoiser").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: &mut u32) -> [f32; BLOCK] {
        std::array::from_fn(|_| {
            *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (f32::from((*seed >> 16) as u16) / 65_536.0 - 0.5) * 0.1
        })
    }

    fn energy(block: &[f32]) -> f32 {
        block.iter().map(|s| s * s).sum()
    }

    #[test]
    fn steady_noise_is_taken_out_and_is_not_speech() {
        let (mut denoiser, mut seed) = (Denoiser::new(), 1);
        let (mut before, mut after, mut speech) = (0.0, 0.0, 0.0);
        for round in 0..300 {
            let mut block = noise(&mut seed);
            let loud = energy(&block);
            let probability = denoiser.process(&mut block);
            if round >= 100 {
                before += loud;
                after += energy(&block);
                speech += probability / 200.0;
            }
        }
        assert!(after < before / 2.0, "{before} became {after}");
        assert!(speech < 0.3, "white noise passes for speech: {speech}");
    }

    #[test]
    fn one_bad_sample_does_not_deafen_it() {
        let (mut denoiser, mut seed) = (Denoiser::new(), 1);
        for round in 0..50 {
            let mut block = noise(&mut seed);
            if round == 10 {
                block[7] = f32::NAN;
                block[8] = f32::INFINITY;
            }
            denoiser.process(&mut block);
            assert!(block.iter().all(|s| s.is_finite() && s.abs() <= 1.0));
        }
    }
}
