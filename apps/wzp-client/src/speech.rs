//! Sound that codecs take for speech: voiced syllables of changing pitch, vowel and length, with pauses between them.
//!
//! For tests of links on machines that hold no recording. The rhythm never repeats, so that what comes back can be
//! found in what was sent.

use std::f32::consts::TAU;

use wzp_sdk::audio::{Frame, Read, Source};
use wzp_testkit::Rng;

const RATE_HZ: f32 = 48_000.0;
/// Formants of a, e, i, o, u in hertz.
const VOWELS: [[f32; 3]; 5] = [
    [730.0, 1_090.0, 2_440.0],
    [530.0, 1_840.0, 2_480.0],
    [270.0, 2_290.0, 3_010.0],
    [570.0, 840.0, 2_410.0],
    [300.0, 870.0, 2_240.0],
];
const BANDWIDTH_HZ: f32 = 90.0;
/// About as loud as telephone speech: -26 dBov over the syllables.
const GAIN: f32 = 0.02;
/// Samples in which a syllable swells and fades.
const EDGE: u32 = 960;

/// Makes it, the same for the same seed.
#[derive(Debug)]
pub(crate) struct SpeechLike {
    rng: Rng,
    /// Samples of the syllable that are left, how many it has, and the pause behind it.
    left: u32,
    length: u32,
    pause: u32,
    phase: f32,
    pitch_hz: f32,
    resonators: [Resonator; 3],
}

impl SpeechLike {
    pub(crate) fn new(seed: u64) -> Self {
        let resonators = [Resonator::default(); 3];
        Self {
            rng: Rng::new(seed),
            left: 0,
            length: 0,
            pause: 0,
            phase: 0.0,
            pitch_hz: 110.0,
            resonators,
        }
    }

    /// The next 10 ms.
    pub(crate) fn fill(&mut self, frame: &mut Frame) {
        for sample in frame {
            *sample = self.next();
        }
    }

    fn next(&mut self) -> f32 {
        if self.left == 0 {
            if self.pause > 0 {
                self.pause -= 1;
                return self.resonate(0.0);
            }
            self.begin_syllable();
        }
        let (done, left) = (self.length - self.left, self.left);
        self.left -= 1;
        let envelope = (done.min(left).min(EDGE)) as f32 / EDGE as f32;
        self.phase += self.pitch_hz / RATE_HZ;
        // A pulse at each beginning of a period is what vocal folds make.
        let pulse = if self.phase >= 1.0 {
            self.phase -= 1.0;
            1.0
        } else {
            0.0
        };
        let breath = 0.02 * (self.rng.unit() as f32 - 0.5);
        self.resonate(envelope * (pulse + breath))
    }

    fn begin_syllable(&mut self) {
        let millis = |rng: &mut Rng, from: u64, to: u64| (from + rng.below(to - from)) as u32 * 48;
        self.length = millis(&mut self.rng, 90, 280);
        self.left = self.length;
        // Every few syllables a breath, longer than any gap inside a word.
        let pause = if self.rng.chance(0.15) {
            (200, 450)
        } else {
            (20, 120)
        };
        self.pause = millis(&mut self.rng, pause.0, pause.1);
        self.pitch_hz = 95.0 + 50.0 * self.rng.unit() as f32;
        let vowel = VOWELS[self.rng.below(VOWELS.len() as u64) as usize];
        for (resonator, hertz) in self.resonators.iter_mut().zip(vowel) {
            resonator.tune(hertz);
        }
    }

    fn resonate(&mut self, input: f32) -> f32 {
        let sum: f32 = self
            .resonators
            .iter_mut()
            .map(|resonator| resonator.step(input))
            .sum();
        (GAIN * sum).clamp(-0.9, 0.9)
    }
}

impl Source for SpeechLike {
    fn read(&mut self, frame: &mut Frame) -> Read {
        self.fill(frame);
        Read::Sound
    }
}

/// A formant: two poles.
#[derive(Debug, Clone, Copy, Default)]
struct Resonator {
    a1: f32,
    a2: f32,
    y1: f32,
    y2: f32,
}

impl Resonator {
    fn tune(&mut self, hertz: f32) {
        let radius = (-std::f32::consts::PI * BANDWIDTH_HZ / RATE_HZ).exp();
        self.a1 = 2.0 * radius * (TAU * hertz / RATE_HZ).cos();
        self.a2 = -radius * radius;
    }

    fn step(&mut self, input: f32) -> f32 {
        let y = input + self.a1 * self.y1 + self.a2 * self.y2;
        (self.y2, self.y1) = (self.y1, y);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_loud_as_speech_and_has_pauses() {
        let mut speech = SpeechLike::new(1);
        let mut frame = [0.0; wzp_sdk::audio::FRAME];
        let powers: Vec<f32> = (0..1_000)
            .map(|_| {
                speech.fill(&mut frame);
                frame.iter().map(|s| s * s).sum::<f32>() / frame.len() as f32
            })
            .collect();
        let loud = powers.iter().filter(|p| **p > 1e-5).count();
        let mean_db = 10.0 * (powers.iter().sum::<f32>() / powers.len() as f32).log10();
        assert!((500..950).contains(&loud), "{loud} of 1,000 blocks are loud");
        assert!((-34.0..-18.0).contains(&mean_db), "{mean_db} dBov");
    }
}
