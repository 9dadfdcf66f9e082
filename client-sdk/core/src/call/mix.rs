//! Adds voices without clipping.

use crate::voice::receiver::PULL;

/// Above this the sum is bent instead of cut.
const KNEE: f32 = 0.8;

/// Mixes the voices of one tick.
#[derive(Debug, Default)]
pub(super) struct Mixer {
    voice: Voice,
}

#[derive(Debug)]
struct Voice([f32; PULL]);

impl Default for Voice {
    fn default() -> Self {
        Self([0.0; PULL])
    }
}

impl Mixer {
    pub(super) fn begin(&mut self, out: &mut [f32; PULL]) {
        out.fill(0.0);
    }

    /// Adds a voice that `fill` writes.
    pub(super) fn add(&mut self, out: &mut [f32; PULL], fill: impl FnOnce(&mut [f32])) {
        fill(&mut self.voice.0);
        for (sum, sample) in out.iter_mut().zip(&self.voice.0) {
            *sum += sample;
        }
    }

    pub(super) fn finish(&self, out: &mut [f32; PULL]) {
        for sample in out {
            *sample = bend(*sample);
        }
    }
}

/// The identity up to the knee, then a curve that reaches 1 only at infinity.
fn bend(sample: f32) -> f32 {
    let over = sample.abs() - KNEE;
    if over <= 0.0 {
        return sample;
    }
    let room = 1.0 - KNEE;
    sample.signum() * (KNEE + room * over / (over + room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_voice_is_left_alone_and_many_never_clip() {
        let mut mixer = Mixer::default();
        let mut out = [0.3; PULL];
        mixer.begin(&mut out);
        mixer.add(&mut out, |voice| voice.fill(0.5));
        mixer.finish(&mut out);
        assert_eq!(out, [0.5; PULL]);

        mixer.begin(&mut out);
        for _ in 0..10 {
            mixer.add(&mut out, |voice| voice.fill(-0.9));
        }
        mixer.finish(&mut out);
        assert!(out.iter().all(|&sample| sample > -1.0 && sample < -0.95));
    }

    #[test]
    fn bend_is_continuous_and_rising() {
        let steps: Vec<_> = (0..400).map(|n| bend(n as f32 / 100.0)).collect();
        assert!(
            steps
                .windows(2)
                .all(|pair| pair[0] < pair[1] && pair[1] - pair[0] < 0.0101)
        );
    }
}
