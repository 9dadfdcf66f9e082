//! Comfort noise: what fills a pause so that the line does not sound dead.
//!
//! The level comes from the sender's comfort-noise packets (one byte, RFC 3389: the noise is at `-byte`
//! dBov) or, when those were lost, from the quietest sound heard lately. The noise is low-passed like a
//! room's, and its level glides, so a new value is never heard as a step.

/// Loudest comfort noise we are willing to play (-30 dBov), whatever a peer asks for.
const LOUDEST: f32 = 0.0316;
/// Loudest background we believe to have heard ourselves (-48 dBov): in somebody who talks without a pause the
/// quietest sound is still speech.
const LEARNT: f32 = 0.004;
/// Per sample, how much of the way to the wanted level is gone (time constant about 40 ms).
const GLIDE: f32 = 1.0 / 2_000.0;
/// One-pole low-pass at about 1.5 kHz, and the gain that makes its output as strong as its input was.
const POLE: f32 = 0.82;
const MAKE_UP: f32 = 3.18;

/// A generator of comfort noise.
#[derive(Debug, Clone)]
pub struct Noise {
    state: u32,
    colour: f32,
    level: f32,
    wanted: f32,
    floor: Floor,
}

impl Default for Noise {
    fn default() -> Self {
        Self::new()
    }
}

impl Noise {
    /// A generator that is silent until a level is known.
    pub fn new() -> Self {
        Self {
            state: 0x2545_f491,
            colour: 0.0,
            level: 0.0,
            wanted: 0.0,
            floor: Floor::default(),
        }
    }

    /// Takes the level of a comfort-noise packet: `-dbov` decibels (127 and above are silence).
    pub fn set_level(&mut self, dbov: u8) {
        self.wanted = amplitude(dbov);
    }

    /// Listens to 10 ms of decoded sound, to know the background should comfort-noise packets be lost.
    pub fn listen(&mut self, block: &[f32]) {
        if let Some(background) = self.floor.push(block) {
            self.wanted = background.min(LEARNT);
        }
    }

    /// Adds noise to `out`, its gain going from `from` to `to` (0.0 to 1.0) over the block.
    pub fn add(&mut self, out: &mut [f32], from: f32, to: f32) {
        let step = (to - from) / out.len().max(1) as f32;
        let mut gain = from;
        for sample in out {
            gain += step;
            *sample += gain * self.next();
        }
    }

    fn next(&mut self) -> f32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        let white = (self.state >> 8) as f32 / (1 << 23) as f32 - 1.0;
        self.colour += (1.0 - POLE) * (white - self.colour);
        self.level += GLIDE * (self.wanted - self.level);
        // White noise, uniform in -1..1, has an RMS of 1/sqrt(3).
        self.colour * self.level * MAKE_UP * 1.732
    }
}

/// RMS amplitude of `-dbov` decibels.
fn amplitude(dbov: u8) -> f32 {
    if dbov >= 127 {
        0.0
    } else {
        10.0_f32.powf(-f32::from(dbov) / 20.0).min(LOUDEST)
    }
}

/// The quietest 10 ms in each of the last few stretches of half a second.
#[derive(Debug, Clone)]
struct Floor {
    minima: [f32; 6],
    at: usize,
    blocks: u8,
    current: f32,
}

impl Default for Floor {
    fn default() -> Self {
        Self {
            minima: [f32::INFINITY; 6],
            at: 0,
            blocks: 0,
            current: f32::INFINITY,
        }
    }
}

impl Floor {
    /// Returns the RMS of the background each time a stretch is complete.
    fn push(&mut self, block: &[f32]) -> Option<f32> {
        let energy = block.iter().map(|s| s * s).sum::<f32>() / block.len().max(1) as f32;
        if energy.is_finite() {
            self.current = self.current.min(energy);
        }
        self.blocks += 1;
        if self.blocks < 50 {
            return None;
        }
        self.minima[self.at] = self.current;
        self.at = (self.at + 1) % self.minima.len();
        self.blocks = 0;
        self.current = f32::INFINITY;
        let quietest = self.minima.iter().copied().fold(f32::INFINITY, f32::min);
        quietest.is_finite().then(|| quietest.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rms(block: &[f32]) -> f32 {
        (block.iter().map(|s| s * s).sum::<f32>() / block.len() as f32).sqrt()
    }

    fn steady(noise: &mut Noise) -> Vec<f32> {
        let mut out = vec![0.0; 48_000];
        noise.add(&mut out, 1.0, 1.0);
        out.split_off(24_000)
    }

    #[test]
    fn noise_has_the_level_asked_for() {
        for dbov in [40, 50, 65, 80] {
            let mut noise = Noise::new();
            noise.set_level(dbov);
            let measured = 20.0 * rms(&steady(&mut noise)).log10();
            assert!(
                (measured + f32::from(dbov)).abs() < 1.5,
                "{measured} dBov for -{dbov}"
            );
        }
    }

    #[test]
    fn no_peer_makes_it_loud_and_127_is_silence() {
        let mut noise = Noise::new();
        noise.set_level(0);
        assert!(rms(&steady(&mut noise)) < 0.04);
        noise.set_level(127);
        let mut out = vec![0.0; 96_000];
        noise.add(&mut out, 1.0, 1.0);
        assert!(rms(&out[90_000..]) < 1e-6);
    }

    #[test]
    fn a_new_level_is_reached_smoothly() {
        let mut noise = Noise::new();
        noise.set_level(60);
        steady(&mut noise);
        noise.set_level(35);
        let mut out = vec![0.0; 9_600];
        noise.add(&mut out, 1.0, 1.0);
        let early = rms(&out[..240]);
        let late = rms(&out[9_000..]);
        assert!(early < 0.4 * late, "{early} then {late}");
    }

    #[test]
    fn background_is_learnt_from_the_pauses_of_speech() {
        let mut noise = Noise::new();
        let mut background = Noise::new();
        background.set_level(55);
        for block in 0..400 {
            let mut pcm = [0.0; 480];
            background.add(&mut pcm, 1.0, 1.0);
            if block % 40 < 30 {
                pcm.iter_mut()
                    .enumerate()
                    .for_each(|(i, s)| *s += 0.3 * (i as f32 * 0.05).sin());
            }
            noise.listen(&pcm);
        }
        let measured = 20.0 * rms(&steady(&mut noise)).log10();
        assert!((-62.0..-52.0).contains(&measured), "{measured}");
    }

    #[test]
    fn gain_fades_over_the_block() {
        let mut noise = Noise::new();
        noise.set_level(40);
        steady(&mut noise);
        let mut out = vec![0.0; 4_800];
        noise.add(&mut out, 1.0, 0.0);
        assert!(rms(&out[4_500..]) < 0.15 * rms(&out[..600]));
    }
}
