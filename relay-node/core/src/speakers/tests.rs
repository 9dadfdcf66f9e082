//! Who is heard, in steps of 20 ms.

use std::collections::BTreeSet;

use super::*;

fn sender(id: u16) -> SenderId {
    SenderId::new(id).unwrap()
}

fn speech(level: u8) -> Heard {
    Heard {
        level: Level::new(level).unwrap(),
        comfort_noise: false,
    }
}

const NOISE: Heard = Heard {
    level: Level::MAX,
    comfort_noise: true,
};

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1_000)
}

/// Everybody speaks once every 20 ms from `from` to `to`; who was heard in the last of these rounds.
fn rounds(speakers: &Speakers, levels: &[(u16, u8)], from: u64, to: u64) -> BTreeSet<u16> {
    let mut heard = BTreeSet::new();
    for ms in (from..to).step_by(20) {
        heard = levels
            .iter()
            .filter(|&&(id, level)| speakers.admit(sender(id), speech(level), at(ms), 3))
            .map(|&(id, _)| id)
            .collect();
    }
    heard
}

#[test]
fn the_three_loudest_are_heard_once_the_hang_over_has_passed() {
    let speakers = Speakers::new(3);
    let levels: Vec<_> = (1..=12).map(|id| (id, id as u8)).collect();
    assert_eq!(rounds(&speakers, &levels, 0, 1_000), BTreeSet::from([10, 11, 12]));
}

#[test]
fn the_overtaken_is_heard_for_300_ms_more_and_not_longer() {
    let speakers = Speakers::new(1);
    assert!(speakers.admit(sender(1), speech(5), at(0), 3));
    assert!(speakers.admit(sender(2), speech(9), at(100), 3));
    for ms in (100..400).step_by(20) {
        assert!(speakers.admit(sender(2), speech(9), at(ms), 3));
        assert!(speakers.admit(sender(1), speech(5), at(ms), 3), "{ms}");
    }
    assert!(!speakers.admit(sender(1), speech(5), at(400), 3));
}

#[test]
fn a_pause_shorter_than_the_hang_over_keeps_the_floor() {
    let speakers = Speakers::new(1);
    assert!(speakers.admit(sender(1), speech(9), at(0), 3));
    assert!(!speakers.admit(sender(2), speech(8), at(299), 3));
    assert!(speakers.admit(sender(2), speech(1), at(300), 3));
}

#[test]
fn comfort_noise_and_silence_take_no_floor_but_follow_whoever_has_it() {
    let speakers = Speakers::new(1);
    assert!(!speakers.admit(sender(1), NOISE, at(0), 3));
    assert!(!speakers.admit(sender(1), speech(0), at(0), 3));
    assert!(speakers.admit(sender(1), speech(4), at(20), 3));
    assert!(speakers.admit(sender(1), NOISE, at(1_000), 3));
    assert!(speakers.admit(sender(2), speech(1), at(1_020), 3));
    assert!(!speakers.admit(sender(1), NOISE, at(1_040), 3));
}

#[test]
fn noise_of_a_holder_does_not_defend_its_floor() {
    let speakers = Speakers::new(1);
    assert!(speakers.admit(sender(1), speech(15), at(0), 3));
    for ms in (20..300).step_by(20) {
        assert!(speakers.admit(sender(1), NOISE, at(ms), 3));
    }
    assert!(speakers.admit(sender(2), speech(1), at(300), 3));
}

#[test]
fn never_more_than_twice_the_floors_at_once() {
    let speakers = Speakers::new(3);
    for id in 1..=1_000u16 {
        let level = 1 + (id % 15) as u8;
        speakers.admit(sender(id), speech(level), at(u64::from(id)), 3);
    }
    let silent = Heard {
        level: Level::SILENCE,
        comfort_noise: true,
    };
    let heard = (1..=1_000)
        .filter(|&id| speakers.admit(sender(id), silent, at(1_001), 3))
        .count();
    assert!(heard <= 6, "{heard}");
}

#[test]
fn narrowing_silences_at_once_and_widening_lets_them_speak_again() {
    let speakers = Speakers::new(3);
    let levels: Vec<_> = (1..=5).map(|id| (id, id as u8)).collect();
    rounds(&speakers, &levels, 0, 1_000);
    let heard = |floors, ms| {
        let admitted = |&&(id, level): &&(u16, u8)| speakers.admit(sender(id), speech(level), at(ms), floors);
        levels.iter().filter(admitted).count()
    };
    let narrowed: Vec<_> = (1_000..1_400).step_by(20).map(|ms| heard(1, ms)).collect();
    assert!(narrowed.iter().all(|&heard| heard <= 2), "{narrowed:?}");
    assert_eq!(narrowed.last(), Some(&1));
    assert!(speakers.admit(sender(5), speech(5), at(1_400), 1));
    assert_eq!(
        rounds(&speakers, &levels, 1_400, 2_400),
        BTreeSet::from([3, 4, 5])
    );
}

/// What somebody says: syllables, words and pauses between sentences. 0 is nothing.
struct Talk {
    level: u8,
    pauses: bool,
    rng: u64,
    until: u64,
    talks: bool,
}

impl Talk {
    fn new(level: u8, pauses: bool, seed: u64) -> Self {
        Self {
            level,
            pauses,
            rng: seed * 2 + 1,
            until: 0,
            talks: false,
        }
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.rng = self
            .rng
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.rng >> 33) % below
    }

    fn level(&mut self, ms: u64) -> u8 {
        if ms >= self.until {
            self.talks = !self.talks || !self.pauses;
            self.until = ms
                + if self.talks {
                    2_000 + self.roll(4_000)
                } else {
                    500 + self.roll(2_000)
                };
        }
        let dip = self.roll(3) as u8;
        match (self.talks, ms % 300 < 200) {
            (false, _) => 0,
            (true, true) => self.level.saturating_sub(dip),
            (true, false) => 1 + dip,
        }
    }
}

/// Of what each says beside `junk` in ten minutes, how many percent are heard.
fn shares(junk: u16, every_ms: u64, talks: &mut [Talk], floors: usize) -> Vec<u64> {
    let speakers = Speakers::new(floors);
    let mut counts = vec![(0, 0); talks.len()];
    for ms in 0..600_000 {
        for attacker in (0..junk).filter(|_| ms % every_ms == 0) {
            speakers.admit(sender(1_000 + attacker), speech(15), at(ms), floors);
        }
        for (id, (talk, (said, heard))) in talks.iter_mut().zip(&mut counts).enumerate() {
            if ms % 20 != id as u64 % 20 {
                continue;
            }
            let level = talk.level(ms);
            if level > 0 {
                *said += 1;
                *heard += u64::from(speakers.admit(sender(id as u16 + 1), speech(level), at(ms), floors));
            }
        }
    }
    counts.iter().map(|(said, heard)| heard * 100 / said).collect()
}

#[test]
fn those_who_claim_to_be_the_loudest_leave_everybody_a_fair_part_of_the_time() {
    for seed in 0..20 {
        for (every_ms, floors) in [(20, 3), (5, 3), (20, 1)] {
            let mut talks: Vec<_> = (0..4)
                .map(|id| Talk::new(8 + id, true, seed * 10 + u64::from(id)))
                .collect();
            let heard = shares(floors as u16, every_ms, &mut talks, floors);
            let fair = 100 * floors as u64 / (floors as u64 + 4);
            assert!(
                heard.iter().all(|&percent| percent >= fair / 3),
                "seed {seed}, {floors} floors: {heard:?}"
            );
        }
    }
}

#[test]
fn a_monologue_is_not_disturbed_by_what_is_around_it() {
    for (seed, floors) in (0..20).flat_map(|seed| [(seed, 1), (seed, 3)]) {
        let mut talks: Vec<_> = (0..12)
            .map(|id| Talk::new(2 + id % 5, false, seed * 20 + u64::from(id)))
            .collect();
        talks.push(Talk::new(10, true, seed * 20 + 19));
        let heard = shares(0, 20, &mut talks, floors);
        assert!(
            heard.last().is_some_and(|&percent| percent >= 99),
            "seed {seed}, {floors} floors: {heard:?}"
        );
    }
}

#[test]
fn pausing_for_a_moment_does_not_make_a_floor_new() {
    let speakers = Speakers::new(1);
    let heard = (0..60_000_u64).step_by(20).filter(|ms| {
        if ms % 4_200 < 3_900 {
            speakers.admit(sender(1), speech(15), at(*ms), 1);
        }
        speakers.admit(sender(2), speech(9), at(*ms), 1)
    });
    let percent = heard.count() / 30;
    assert!(percent >= 25, "{percent}");
}

#[test]
fn times_wrap_without_harm() {
    let speakers = Speakers::new(1);
    for hour in 0..30 {
        let ms = hour * 3_600_000;
        assert!(speakers.admit(sender(1), speech(9), at(ms), 1));
        assert!(!speakers.admit(sender(2), speech(8), at(ms + 100), 1));
        assert!(speakers.admit(sender(2), speech(1), at(ms + 300), 1));
        assert!(speakers.admit(sender(2), NOISE, at(ms + 320), 1));
    }
}
