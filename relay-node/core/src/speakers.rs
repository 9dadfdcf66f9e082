//! Who may be heard in a large room: the loudest few, and for 300 ms more whoever was just one of them.
//!
//! ```text
//!            louder than the weakest floor, or that one silent for 300 ms
//!   waiting ───────────────────────────────────────────────────────────▶ has a floor
//!      ▲                                                                     │ overtaken
//!      └──────────────────── 300 ms later ◀──── leaving, still heard ◀───────┘
//! ```
//!
//! Levels are what senders claim, so nobody keeps a floor by loudness alone: held for longer than 4 s, a floor counts for
//! no more than level 6 (-36 dBov). Speech is above that, what is around a speaker below, so a monologue goes on. Who
//! gets a floor because its holder had it too long keeps it for 4 s against everybody while it speaks; who lost it so
//! takes none but a silent one for 4 s. Taking one again soon after losing it goes on with the time it was held before.
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

/// For how long a floor counts as loud as its holder, and how long its loss by age is felt.
const TURN_MS: u64 = 4_000;
/// What is louder than this speaks, in a room or in its background.
const AGED: u8 = 6;
/// Louder than anybody.
const KEPT: u8 = 16;

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
    /// Who had the floor of the same index before.
    leaving: Box<[AtomicU64]>,
    /// Who lost it because it had it too long.
    resting: Box<[AtomicU64]>,
}

impl Speakers {
    /// Free floors for `loudest` speakers.
    pub fn new(loudest: usize) -> Self {
        let free = || (0..loudest.max(1)).map(|_| AtomicU64::new(0)).collect();
        Self {
            floors: free(),
            leaving: free(),
            resting: free(),
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
            let mut new = floor;
            // A step of 4 dB a packet: long enough for the pauses between syllables.
            new.level = heard.level.get().max(floor.level.saturating_sub(1));
            if heard.speaks() {
                let held_ms = if floor.is_stale(now_ms) {
                    floor.carried_ms(now_ms)
                } else {
                    floor.held_ms(now_ms)
                };
                new.since_ms = now_ms.saturating_sub(held_ms.min(HELD_MS));
                new.heard_ms = now_ms;
            }
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
            .zip(&self.resting);
        let words = words.map(|((floor, leaving), resting)| (floor, floor.load(Relaxed), leaving, resting));
        let Some((word, old, leaving, resting)) = words.min_by_key(|&(_, word, ..)| strength(word)) else {
            return false;
        };
        let weakest = strength(old);
        if level.get() <= weakest || weakest > 0 && self.rests(from, now_ms) {
            return false;
        }
        let holder = Floor::unpack(old);
        let spoke = holder.filter(|holder| !holder.is_stale(now_ms));
        let is_turn = spoke.is_some_and(|holder| level.get() <= holder.level);
        let held_ms = if is_turn { 0 } else { self.carried_ms(from, now_ms) };
        let new = Floor {
            sender: from,
            level: level.get(),
            is_turn,
            heard_ms: now_ms,
            since_ms: now_ms.saturating_sub(held_ms),
        };
        if word.compare_exchange(old, new.pack(), Relaxed, Relaxed).is_err() {
            return false;
        }
        let Some(holder) = holder else { return true };
        let left = Floor {
            heard_ms: if spoke.is_some() { now_ms } else { holder.heard_ms },
            ..holder
        };
        leaving.store(left.pack(), Relaxed);
        if is_turn {
            resting.store(left.pack(), Relaxed);
        }
        true
    }

    /// It lost a floor a moment ago because it had it too long.
    fn rests(&self, from: SenderId, now_ms: u64) -> bool {
        let resting = self
            .resting
            .iter()
            .filter_map(|word| Floor::unpack(word.load(Relaxed)));
        resting
            .into_iter()
            .any(|floor| floor.sender == from && floor.silent_ms(now_ms) < TURN_MS)
    }

    /// How long it had the floor that it lost, less the time since: pauses and quarrels do not make it new.
    fn carried_ms(&self, from: SenderId, now_ms: u64) -> u64 {
        let left = self
            .leaving
            .iter()
            .filter_map(|word| Floor::unpack(word.load(Relaxed)));
        let left = left.filter(|floor| floor.sender == from);
        left.map(|floor| floor.carried_ms(now_ms)).max().unwrap_or(0)
    }
}

/// `sender 16 ‖ level 4 ‖ turn 1 ‖ heard_ms 22 ‖ since_ms 21`; 0 is a free floor, since nobody has sender id 0.
///
/// Times wrap: a floor that was silent for 70 minutes is taken for a fresh one for a second.
#[derive(Clone, Copy)]
struct Floor {
    sender: SenderId,
    level: u8,
    /// Taken from somebody who had it too long.
    is_turn: bool,
    heard_ms: u64,
    since_ms: u64,
}

const SINCE_BITS: u32 = 21;
const HEARD_BITS: u32 = 22;
const TURN_BIT: u32 = SINCE_BITS + HEARD_BITS;
const LEVEL_BIT: u32 = TURN_BIT + 1;
const SENDER_BIT: u32 = LEVEL_BIT + 4;
/// Held for longer is the same as held for this long, which is well within the bits.
const HELD_MS: u64 = 1 << (SINCE_BITS - 1);
/// How far the clocks of two threads may be apart.
const SKEW_MS: u64 = 1_000;

impl Floor {
    fn unpack(word: u64) -> Option<Self> {
        let [high, low, ..] = word.to_be_bytes();
        Some(Self {
            sender: SenderId::new(u16::from_be_bytes([high, low]))?,
            level: u8::try_from(word >> LEVEL_BIT & 0xf).unwrap_or(0),
            is_turn: word >> TURN_BIT & 1 == 1,
            heard_ms: word >> SINCE_BITS & mask(HEARD_BITS),
            since_ms: word & mask(SINCE_BITS),
        })
    }

    fn pack(self) -> u64 {
        u64::from(self.sender.get()) << SENDER_BIT
            | u64::from(self.level & 0xf) << LEVEL_BIT
            | u64::from(self.is_turn) << TURN_BIT
            | (self.heard_ms & mask(HEARD_BITS)) << SINCE_BITS
            | self.since_ms & mask(SINCE_BITS)
    }

    fn silent_ms(self, now_ms: u64) -> u64 {
        passed(now_ms, self.heard_ms, HEARD_BITS)
    }

    fn held_ms(self, now_ms: u64) -> u64 {
        passed(now_ms, self.since_ms, SINCE_BITS)
    }

    /// How long it was held until it was last heard, less the time since.
    fn carried_ms(self, now_ms: u64) -> u64 {
        let held = passed(self.heard_ms, self.since_ms, SINCE_BITS);
        held.saturating_sub(self.silent_ms(now_ms))
    }

    fn is_stale(self, now_ms: u64) -> bool {
        u128::from(self.silent_ms(now_ms)) >= HANG_OVER.as_millis()
    }

    /// Up to 255 ms more, so that the end of a turn favours nobody whose packets come at regular times.
    fn spread_ms(self) -> u64 {
        (self.since_ms ^ u64::from(self.sender.get())).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56
    }

    /// What a newcomer has to be louder than.
    fn strength(self, now_ms: u64) -> u8 {
        if self.is_stale(now_ms) {
            return 0;
        }
        let is_old = self.held_ms(now_ms) >= TURN_MS + self.spread_ms();
        let most = if is_old { AGED } else { KEPT };
        if self.is_turn && !is_old {
            return KEPT;
        }
        self.level.max(1).min(most)
    }
}

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// Milliseconds between two times of which that many bits are known.
fn passed(now_ms: u64, then_ms: u64, bits: u32) -> u64 {
    let passed = now_ms.wrapping_sub(then_ms) & mask(bits);
    if passed > mask(bits) - SKEW_MS { 0 } else { passed }
}

fn millis(now: Instant) -> u64 {
    now.as_micros() / 1_000
}

#[cfg(test)]
mod tests;
