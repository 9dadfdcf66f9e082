//! Who may be heard in a large room: the loudest few, and for 300 ms more whoever was just one of them.
//!
//! ```text
//!            louder than the weakest floor, or that one silent for 300 ms
//!   waiting ───────────────────────────────────────────────────────────▶ has a floor
//!      ▲                                                                     │ overtaken
//!      └──────────────────── 300 ms later ◀──── leaving, still heard ◀───────┘
//! ```
//!
//! While the relay sheds load the floors behind the first few are out of use, and every room has this table.
//!
//! The tables have a fixed size and are shared by every snapshot of a room, so that a membership change does not
//! silence anybody. Words are swapped whole: a lost race costs one packet's update, never a wrong word.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use wzp_wire::{Instant, Level, SenderId};

use crate::forward::Heard;

/// How long somebody goes on being heard after being overtaken, and how long a silent floor is kept.
pub const HANG_OVER: Duration = Duration::from_millis(300);

/// When a room forwards only its loudest members, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Rooms of up to this many members forward everybody. Default 8.
    pub above: usize,
    /// How many are forwarded at once in larger rooms, hang-over aside; at least 1. Default 3.
    pub loudest: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { above: 8, loudest: 3 }
    }
}

/// The floors of one room and those who have just lost theirs.
#[derive(Debug)]
pub struct Speakers {
    floors: Box<[AtomicU64]>,
    leaving: Box<[AtomicU64]>,
}

impl Speakers {
    /// Free floors for `loudest` speakers.
    pub fn new(loudest: usize) -> Self {
        let free = || (0..loudest.max(1)).map(|_| AtomicU64::new(0)).collect();
        Self {
            floors: free(),
            leaving: free(),
        }
    }

    /// How many floors there are.
    pub fn loudest(&self) -> usize {
        self.floors.len()
    }

    /// Whether a packet of `from` is forwarded while the first `floors` floors are in use; takes one for it where that
    /// is due.
    ///
    /// Comfort noise and silence never take a floor. A sender that has one keeps it through them until another wants
    /// it, so that receivers get the noise that belongs to whoever spoke last.
    pub fn admit(&self, from: SenderId, heard: Heard, now: Instant, floors: usize) -> bool {
        let now_ms = millis(now);
        if self.keeps_floor(from, heard, now_ms, floors) {
            return true;
        }
        if heard.speaks() && self.takes_floor(from, heard.level, now_ms, floors) {
            return true;
        }
        let leaving = self
            .leaving
            .iter()
            .take(floors)
            .filter_map(|word| Floor::unpack(word.load(Relaxed)));
        leaving
            .into_iter()
            .any(|floor| floor.sender == from && !floor.is_stale(now_ms))
    }

    fn keeps_floor(&self, from: SenderId, heard: Heard, now_ms: u64, floors: usize) -> bool {
        for word in self.floors.iter().take(floors) {
            let old = word.load(Relaxed);
            let Some(floor) = Floor::unpack(old).filter(|floor| floor.sender == from) else {
                continue;
            };
            let heard_ms = if heard.speaks() { now_ms } else { floor.heard_ms };
            // A step of 4 dB a packet: long enough for the pauses between syllables.
            let level = heard.level.get().max(floor.level.saturating_sub(1));
            let new = Floor {
                level,
                heard_ms,
                ..floor
            };
            // Whoever took the floor in between has it; this packet still counts as its holder's.
            let _ = word.compare_exchange(old, new.pack(), Relaxed, Relaxed);
            return true;
        }
        false
    }

    fn takes_floor(&self, from: SenderId, level: Level, now_ms: u64, floors: usize) -> bool {
        let strength = |word: u64| Floor::unpack(word).map_or(0, |floor| floor.strength(now_ms));
        let words = self
            .floors
            .iter()
            .take(floors)
            .zip(&self.leaving)
            .map(|(floor, leaving)| (floor, floor.load(Relaxed), leaving));
        let Some((floor, old, leaving)) = words.min_by_key(|&(_, word, _)| strength(word)) else {
            return false;
        };
        if level.get() <= strength(old) {
            return false;
        }
        let new = Floor {
            sender: from,
            level: level.get(),
            heard_ms: now_ms,
        };
        if floor.compare_exchange(old, new.pack(), Relaxed, Relaxed).is_err() {
            return false;
        }
        if let Some(overtaken) = Floor::unpack(old).filter(|floor| !floor.is_stale(now_ms)) {
            let until = Floor {
                heard_ms: now_ms,
                ..overtaken
            };
            leaving.store(until.pack(), Relaxed);
        }
        true
    }
}

/// `sender 16 ‖ level 8 ‖ heard_ms 40`; 0 is a free floor, since nobody has sender id 0.
#[derive(Clone, Copy)]
struct Floor {
    sender: SenderId,
    level: u8,
    heard_ms: u64,
}

const HEARD_BITS: u32 = 40;
const HEARD_MASK: u64 = (1 << HEARD_BITS) - 1;

impl Floor {
    fn unpack(word: u64) -> Option<Self> {
        let [high, low, level, ..] = word.to_be_bytes();
        Some(Self {
            sender: SenderId::new(u16::from_be_bytes([high, low]))?,
            level,
            heard_ms: word & HEARD_MASK,
        })
    }

    fn pack(self) -> u64 {
        u64::from(self.sender.get()) << 48 | u64::from(self.level) << HEARD_BITS | self.heard_ms & HEARD_MASK
    }

    fn is_stale(self, now_ms: u64) -> bool {
        u128::from(now_ms.saturating_sub(self.heard_ms)) >= HANG_OVER.as_millis()
    }

    /// What a newcomer has to be louder than.
    fn strength(self, now_ms: u64) -> u8 {
        if self.is_stale(now_ms) {
            0
        } else {
            self.level.max(1)
        }
    }
}

fn millis(now: Instant) -> u64 {
    (now.as_micros() / 1_000) & HEARD_MASK
}

#[cfg(test)]
mod tests {
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
            let admitted =
                |&&(id, level): &&(u16, u8)| speakers.admit(sender(id), speech(level), at(ms), floors);
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
}
