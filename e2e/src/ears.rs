//! Hearing tones.

use std::{
    f32::consts::TAU,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use wzp_sdk::audio::{FRAME, Frame, Read, Sink, Source};

/// How loud members of these tests speak.
pub const AMPLITUDE: f32 = 0.2;
/// A tone is there when this much of it is.
const THERE: f32 = AMPLITUDE / 4.0;
/// Listened to at once: 200 ms, which tells tones apart that are 20 Hz apart.
const WINDOW: usize = 20 * FRAME;
/// The step in which gaps are looked for.
const STEP: usize = 2 * FRAME;
const STEP_MS: u64 = 20;

/// Keeps everything that is heard.
#[derive(Clone, Debug, Default)]
pub struct Ears(Arc<Mutex<Vec<f32>>>);

impl Sink for Ears {
    fn write(&mut self, frame: &Frame) {
        self.heard().extend_from_slice(frame);
    }
}

impl Ears {
    /// Whether the tone is to be heard just now.
    pub fn hear(&self, hertz: f32) -> bool {
        let heard = self.heard();
        heard.len() >= WINDOW && amplitude(&heard[heard.len() - WINDOW..], hertz) > THERE
    }

    /// Whether there is any sound just now.
    pub fn hear_anything(&self) -> bool {
        let heard = self.heard();
        let last = &heard[heard.len().saturating_sub(WINDOW)..];
        let power = last.iter().map(|sample| sample * sample).sum::<f32>() / WINDOW as f32;
        power.sqrt() > THERE / 4.0
    }

    /// How long the tone was to be heard, all together.
    pub fn heard_ms(&self, hertz: f32) -> u64 {
        let heard = self.heard();
        let steps = heard.chunks_exact(STEP);
        steps.filter(|step| amplitude(step, hertz) > THERE).count() as u64 * STEP_MS
    }

    /// How many samples were heard so far: a moment, for [`Self::longest_gap_ms`].
    pub fn moment(&self) -> usize {
        self.heard().len()
    }

    /// The longest stretch without the tone since `moment`, in time as it was played.
    pub fn longest_gap_ms(&self, hertz: f32, moment: usize) -> u64 {
        let heard = self.heard();
        let (mut gap, mut longest) = (0, 0);
        for step in heard.get(moment..).unwrap_or_default().chunks_exact(STEP) {
            gap = if amplitude(step, hertz) > THERE {
                0
            } else {
                gap + STEP_MS
            };
            longest = longest.max(gap);
        }
        longest
    }

    fn heard(&self) -> MutexGuard<'_, Vec<f32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goertzel: how much of a tone there is.
fn amplitude(samples: &[f32], hertz: f32) -> f32 {
    let step = TAU * hertz / 48_000.0;
    let coefficient = 2.0 * step.cos();
    let (mut last, mut before) = (0.0, 0.0);
    for sample in samples {
        (last, before) = (sample + coefficient * last - before, last);
    }
    let power = last * last + before * before - coefficient * last * before;
    2.0 * power.max(0.0).sqrt() / samples.len() as f32
}

/// A tone without end.
#[derive(Clone, Debug)]
pub struct Voice {
    amplitude: f32,
    phase: f32,
    step: f32,
}

impl Voice {
    /// A tone of so many hertz, as loud as everybody's.
    pub fn new(hertz: f32) -> Self {
        Self::as_loud_as(AMPLITUDE, hertz)
    }

    /// A tone of this amplitude.
    pub fn as_loud_as(amplitude: f32, hertz: f32) -> Self {
        Self {
            amplitude,
            phase: 0.0,
            step: TAU * hertz / 48_000.0,
        }
    }
}

impl Source for Voice {
    fn read(&mut self, frame: &mut Frame) -> Read {
        for sample in frame {
            *sample = self.amplitude * self.phase.sin();
            self.phase = (self.phase + self.step) % TAU;
        }
        Read::Sound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tones_are_told_apart_and_gaps_measured() {
        let mut ears = Ears::default();
        let (mut low, mut high) = (Voice::new(440.0), Voice::new(700.0));
        for n in 0..100 {
            let (mut a, mut b) = ([0.0; FRAME], [0.0; FRAME]);
            low.read(&mut a);
            if !(40..50).contains(&n) {
                high.read(&mut b);
            }
            let mixed: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
            ears.write(&mixed.try_into().unwrap());
        }
        assert!(ears.hear(440.0) && ears.hear(700.0) && !ears.hear(1_100.0));
        assert_eq!((ears.heard_ms(440.0), ears.heard_ms(700.0)), (1_000, 900));
        assert_eq!(ears.longest_gap_ms(440.0, 0), 0);
        assert_eq!(ears.longest_gap_ms(700.0, 0), 100);
        assert_eq!(ears.longest_gap_ms(700.0, 50 * FRAME), 0);
    }
}
