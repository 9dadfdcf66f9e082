//! When somebody speaks, and what to send while nobody does.
//!
//! The probability of speech comes from the noise suppressor. Alone it opens late on a soft onset, so a clear rise
//! of the level opens too, and the sender looks back a little ([`LOOK_BACK_TICKS`]) when it does.

/// 10 ms blocks for which speech goes on after the last one with a voice in it: 240 ms, so that the stop of a
/// plosive or a breath between words is not a pause.
pub const HANG_OVER_TICKS: u8 = 24;

/// 10 ms blocks before the first one with a voice in it that are sent as well.
///
/// Three: with the block itself they make one 40 ms frame or two of 20 ms, so that the first packet of a word is
/// at most 20 ms late, within what every jitter buffer has in hand.
pub const LOOK_BACK_TICKS: usize = 3;

/// Probability from which silence becomes speech.
const START: f32 = 0.4;
/// Probability from which speech goes on.
const KEEP: f32 = 0.2;
/// What a rise of the level needs beside it: the least sign of a voice.
const HINT: f32 = 0.1;
/// How far above the noise floor that is, in dB, and how loud at least, in dBov.
const RISE: f32 = 12.0;
const AUDIBLE: f32 = -60.0;

/// What a 10 ms block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Nobody speaks.
    Silence,
    /// The first block with a voice in it.
    Onset,
    /// Speech, or less than the hang-over after it.
    Talk,
}

/// Decides for each block of 10 ms whether it is speech.
#[derive(Clone, Debug)]
pub struct Detector {
    left: u8,
    floor: f32,
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            left: 0,
            floor: AUDIBLE,
        }
    }
}

impl Detector {
    /// Takes the next block: its probability of speech (0 to 1) and its level in dBov.
    pub fn update(&mut self, speech: f32, level: f32) -> Activity {
        let talking = self.left > 0;
        let rise = speech >= HINT && level >= AUDIBLE && level >= self.floor + RISE;
        let voice = rise || speech >= if talking { KEEP } else { START };
        self.follow(level, speech >= START);
        if voice {
            self.left = HANG_OVER_TICKS;
            return if talking { Activity::Talk } else { Activity::Onset };
        }
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            Activity::Talk
        } else {
            Activity::Silence
        }
    }

    /// The block that was looked at last had a voice in it, not just hang-over.
    #[must_use]
    pub const fn has_voice(&self) -> bool {
        self.left == HANG_OVER_TICKS
    }

    /// The noise floor falls with the level at once and rises by 3 dB a second unless somebody surely speaks.
    fn follow(&mut self, level: f32, speech: bool) {
        if !level.is_finite() {
            return;
        }
        if level < self.floor {
            self.floor += 0.3 * (level - self.floor);
        } else if !speech {
            self.floor = level.min(self.floor + 0.03);
        }
        self.floor = self.floor.clamp(-90.0, -30.0);
    }
}

/// When to describe the background noise to the listeners: at the start of a pause, then every 400 ms, or after
/// 100 ms when it changed by 6 dB.
///
/// The payload is one byte, the level as RFC 3389 has it: `-level` dBov, 0 to 127. Bytes after it are for later and
/// ignored.
#[derive(Clone, Debug)]
pub struct Background {
    /// Smoothed mean square of the blocks without a voice.
    power: f32,
    ticks: u8,
    told: Option<u8>,
}

const EVERY_TICKS: u8 = 40;
const SOONEST_TICKS: u8 = 10;
const CHANGE_DB: u8 = 6;

impl Default for Background {
    fn default() -> Self {
        Self {
            power: 0.0,
            ticks: 0,
            told: None,
        }
    }
}

impl Background {
    /// Listens to a block without a voice in it: its mean square.
    pub fn listen(&mut self, power: f32) {
        if power.is_finite() {
            let weight = if self.power > 0.0 { 0.1 } else { 1.0 };
            self.power += weight * (power - self.power);
        }
    }

    /// A pause begins: the next [`Background::poll`] has something to tell.
    pub const fn pause(&mut self) {
        self.told = None;
    }

    /// Call once for each block of a pause: the payload of a comfort-noise packet when one is due.
    pub fn poll(&mut self) -> Option<[u8; 1]> {
        self.ticks = self.ticks.saturating_add(1);
        // 0 to 127 by the clamp; a cast of a float saturates anyway.
        let level = (-dbov(self.power)).clamp(0.0, 127.0) as u8;
        let due = self.told.is_none_or(|told| {
            self.ticks >= EVERY_TICKS || self.ticks >= SOONEST_TICKS && told.abs_diff(level) >= CHANGE_DB
        });
        if !due {
            return None;
        }
        self.told = Some(level);
        self.ticks = 0;
        Some([level])
    }
}

/// Mean square of a block of sound.
#[must_use]
pub fn power(pcm: &[f32]) -> f32 {
    pcm.iter().map(|sample| sample * sample).sum::<f32>() / pcm.len().max(1) as f32
}

/// The level of a mean square in decibels relative to full scale; silence is -127.
#[must_use]
pub fn dbov(power: f32) -> f32 {
    if power > 0.0 {
        (10.0 * power.log10()).max(-127.0)
    } else {
        -127.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(detector: &mut Detector, blocks: &[(f32, f32)]) -> Vec<Activity> {
        blocks
            .iter()
            .map(|(speech, level)| detector.update(*speech, *level))
            .collect()
    }

    #[test]
    fn speech_goes_on_for_the_hang_over() {
        let mut detector = Detector::default();
        assert_eq!(
            run(&mut detector, &[(0.0, -70.0), (0.9, -30.0)]),
            [Activity::Silence, Activity::Onset]
        );
        let after = run(&mut detector, &[(0.0, -70.0); 30]);
        let talk = after
            .iter()
            .take_while(|activity| **activity == Activity::Talk)
            .count();
        assert_eq!(talk, usize::from(HANG_OVER_TICKS) - 1);
        assert!(
            after[talk..]
                .iter()
                .all(|activity| *activity == Activity::Silence)
        );
    }

    #[test]
    fn a_pause_shorter_than_the_hang_over_is_none() {
        let mut detector = Detector::default();
        run(&mut detector, &[(0.9, -30.0)]);
        for _ in 0..20 {
            assert!(!run(&mut detector, &[(0.0, -70.0); 20]).contains(&Activity::Silence));
            assert_eq!(run(&mut detector, &[(0.3, -30.0)]), [Activity::Talk]);
        }
    }

    #[test]
    fn a_soft_onset_opens_by_its_level_and_steady_noise_does_not() {
        let mut detector = Detector::default();
        // A fan at -45 dBov that the noise suppressor is not quite sure about.
        let noise = run(&mut detector, &[(0.15, -45.0); 1_000]);
        assert!(noise[400..].iter().all(|activity| *activity == Activity::Silence));
        assert_eq!(run(&mut detector, &[(0.15, -30.0)]), [Activity::Onset]);
        // The same rise without the least sign of a voice is a door.
        let mut detector = Detector::default();
        run(&mut detector, &[(0.0, -70.0); 100]);
        assert_eq!(run(&mut detector, &[(0.02, -20.0)]), [Activity::Silence]);
    }

    #[test]
    fn levels_that_are_no_numbers_change_nothing() {
        let mut detector = Detector::default();
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(detector.update(0.0, value), Activity::Silence);
            assert_eq!(detector.update(f32::NAN, value), Activity::Silence);
            Background::default().listen(value);
        }
        assert_eq!(detector.update(1.0, -30.0), Activity::Onset);
    }

    #[test]
    fn noise_is_described_at_the_start_then_every_400_ms_or_on_a_change() {
        let mut background = Background::default();
        (0..200).for_each(|_| background.listen(1e-5));
        background.pause();
        let told: Vec<_> = (0..100)
            .filter_map(|tick| background.poll().map(|level| (tick, level)))
            .collect();
        assert_eq!(told, [(0, [50]), (40, [50]), (80, [50])]);
        (0..200).for_each(|_| background.listen(1e-4));
        let told: Vec<_> = (0..30)
            .filter_map(|tick| background.poll().map(|level| (tick, level)))
            .collect();
        assert_eq!(told, [(0, [40])], "20 ticks after the last");
    }

    #[test]
    fn silence_is_as_quiet_as_the_byte_can_say() {
        assert_eq!(dbov(power(&[0.0; 480])), -127.0);
        assert_eq!(dbov(power(&[1.0; 480])), 0.0);
        assert_eq!(Background::default().poll(), Some([127]));
    }
}
