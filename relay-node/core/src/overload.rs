//! Shedding load before it is shed by accident: how far a relay that cannot keep up has to narrow what it forwards.
//!
//! ```text
//!            behind for 100 ms           another sign 500 ms later, or the kernel dropped
//!   normal ────────────────────▶ 1 ────────────────────▶ 2 ────────────────────▶ 3
//!      ▲                         │  ▲                    │  ▲                    │
//!      └───────── 5 s quiet ─────┘  └───── 5 s quiet ────┘  └───── 5 s quiet ────┘
//! ```
//!
//! Each packet loop watches itself ([`Watch`]); all of them share one word ([`Overload`]), which costs a packet one
//! load.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use wzp_wire::Instant;

/// When to shed, and when to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a loop may find a full batch at every turn before that is a sign of overload. Default 100 ms: a burst,
    /// or a pause of the scheduler, is made good for sooner.
    pub behind: Duration,
    /// How long a level has to help before the next one. Default 500 ms.
    pub step: Duration,
    /// Without a sign for so long, the level goes down by one. Default 5 s.
    pub relax: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            behind: Duration::from_millis(100),
            step: Duration::from_millis(500),
            relax: Duration::from_secs(5),
        }
    }
}

/// How much is shed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shed(u8);

impl Shed {
    /// Nothing: the relay keeps up.
    pub const NOTHING: Self = Self(0);
    /// As much as can be without silencing a room.
    pub const MOST: Self = Self(3);

    /// 0 (nothing) to 3.
    pub fn level(self) -> u8 {
        self.0
    }

    /// Whether newcomers are taken.
    pub fn admits(self) -> bool {
        self == Self::NOTHING
    }

    /// How many are heard at once in a room, where `loudest` is for large rooms; `None`: everybody in a small one.
    pub(crate) fn loudest(self, is_large: bool, loudest: usize) -> Option<usize> {
        match self.0 {
            0 => is_large.then_some(loudest),
            1 => Some(loudest),
            2 => Some(loudest.div_ceil(2)),
            _ => Some(1),
        }
    }

    /// Whether a large room, too, hears fewer than it would otherwise.
    pub(crate) fn narrows_large(self) -> bool {
        self.0 > 1
    }
}

/// What a turn of a packet loop has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Turns in a row, this one included, that found as much as they could take.
    pub full_batches_in_a_row: u32,
    /// Datagrams that the kernel has ever dropped for want of room in this loop's receive buffer.
    pub kernel_dropped: u64,
}

/// What one packet loop knows of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    behind: Option<Behind>,
}

#[derive(Clone, Copy, Debug)]
struct Behind {
    since: Instant,
    kernel_dropped: u64,
}

impl Watch {
    /// Tells `shared` how a turn went that began at `now`.
    pub fn handle_turn(&mut self, now: Instant, turn: Turn, shared: &Overload) {
        if turn.full_batches_in_a_row == 0 {
            self.behind = None;
            return shared.relax(now);
        }
        let behind = *self.behind.get_or_insert(Behind {
            since: now,
            kernel_dropped: turn.kernel_dropped,
        });
        if now.duration_since(behind.since) < shared.config.behind {
            return shared.relax(now);
        }
        let floor = if turn.kernel_dropped == behind.kernel_dropped {
            1
        } else {
            2
        };
        shared.raise(now, floor);
    }
}

/// The level of a relay, shared by its packet loops. Neither locks nor allocates.
#[derive(Debug)]
pub struct Overload {
    config: Config,
    /// `level 8 ‖ time 56`: when the level last rose, was kept up by a sign, or fell, in microseconds.
    word: AtomicU64,
    /// How often the level became each of them.
    changes: [AtomicU64; LEVELS],
}

/// 0 (nothing is shed) to 3.
pub const LEVELS: usize = 4;
const TIME_BITS: u32 = 56;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

impl Overload {
    /// Nothing is shed yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            word: AtomicU64::new(0),
            changes: Default::default(),
        }
    }

    /// How much to shed now.
    pub fn shed(&self) -> Shed {
        unpack(self.word.load(Relaxed)).0
    }

    /// How often the level has changed to 0, 1, 2 and 3.
    pub fn changes(&self) -> [u64; LEVELS] {
        self.changes.each_ref().map(|count| count.load(Relaxed))
    }

    /// When somebody who is refused now may try again.
    pub fn retry_after(&self) -> Duration {
        self.config.relax
    }

    /// One level up, at least to `floor`; within [`Config::step`] of the last time it counts as the same sign.
    fn raise(&self, now: Instant, floor: u8) {
        self.update(|shed, at| {
            let is_new = shed == Shed::NOTHING || now.duration_since(at) >= self.config.step;
            let level = if is_new { shed.0 + 1 } else { shed.0 };
            let raised = Shed(level.max(floor).min(Shed::MOST.0));
            (is_new || raised != shed).then_some((raised, now))
        });
    }

    fn relax(&self, now: Instant) {
        self.update(|shed, at| {
            let quiet = shed != Shed::NOTHING && now.duration_since(at) >= self.config.relax;
            quiet.then(|| (Shed(shed.0 - 1), now))
        });
    }

    /// A lost race is another loop's change at the same moment: as good as ours.
    fn update(&self, change: impl Fn(Shed, Instant) -> Option<(Shed, Instant)>) {
        let old = self.word.load(Relaxed);
        let (before, at) = unpack(old);
        let Some((shed, at)) = change(before, at) else {
            return;
        };
        let new = u64::from(shed.0) << TIME_BITS | at.as_micros() & TIME_MASK;
        let is_ours = self.word.compare_exchange(old, new, Relaxed, Relaxed).is_ok();
        if let Some(count) = self.changes.get(usize::from(shed.0))
            && is_ours
            && shed != before
        {
            count.fetch_add(1, Relaxed);
        }
    }
}

fn unpack(word: u64) -> (Shed, Instant) {
    let [level, ..] = word.to_be_bytes();
    (Shed(level), Instant::from_micros(word & TIME_MASK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(1_000_000 + ms * 1_000)
    }

    /// A loop that is behind from `from` to `to`, with a turn every 10 ms; the level afterwards.
    fn behind(watch: &mut Watch, shared: &Overload, from: u64, to: u64) -> u8 {
        for (ms, full_batches_in_a_row) in (from..=to).step_by(10).zip(1..) {
            let turn = Turn {
                full_batches_in_a_row,
                kernel_dropped: 0,
            };
            watch.handle_turn(at(ms), turn, shared);
        }
        shared.shed().level()
    }

    fn quiet(watch: &mut Watch, shared: &Overload, ms: u64) -> u8 {
        watch.handle_turn(at(ms), Turn::default(), shared);
        shared.shed().level()
    }

    #[test]
    fn a_burst_sheds_nothing_and_being_behind_does_at_once() {
        let (mut watch, shared) = (Watch::default(), Overload::new(Config::default()));
        assert_eq!(behind(&mut watch, &shared, 0, 90), 0);
        assert_eq!(quiet(&mut watch, &shared, 100), 0);
        assert_eq!(behind(&mut watch, &shared, 110, 200), 0);
        assert_eq!(behind(&mut watch, &shared, 210, 210), 1);
        assert!(!shared.shed().admits());
    }

    #[test]
    fn each_level_has_its_time_to_help_and_there_is_a_last_one() {
        let (mut watch, shared) = (Watch::default(), Overload::new(Config::default()));
        assert_eq!(behind(&mut watch, &shared, 0, 590), 1);
        assert_eq!(behind(&mut watch, &shared, 600, 1_090), 2);
        assert_eq!(behind(&mut watch, &shared, 1_100, 1_100), 3);
        assert_eq!(behind(&mut watch, &shared, 1_110, 9_000), 3);
    }

    #[test]
    fn it_relaxes_a_level_after_5_s_quiet_each_and_a_sign_brings_it_back() {
        let (mut watch, shared) = (Watch::default(), Overload::new(Config::default()));
        assert_eq!(behind(&mut watch, &shared, 0, 1_100), 3);
        assert_eq!(quiet(&mut watch, &shared, 6_090), 3);
        assert_eq!(quiet(&mut watch, &shared, 6_100), 2);
        assert_eq!(quiet(&mut watch, &shared, 11_090), 2);
        assert_eq!(quiet(&mut watch, &shared, 11_100), 1);
        assert_eq!(behind(&mut watch, &shared, 12_000, 12_100), 2);
        assert_eq!(quiet(&mut watch, &shared, 17_100), 1);
        assert_eq!(quiet(&mut watch, &shared, 22_100), 0);
        assert_eq!(quiet(&mut watch, &shared, 99_000), 0);
        // What kept a level up is no change.
        assert_eq!(shared.changes(), [1, 3, 3, 1]);
    }

    #[test]
    fn datagrams_lost_while_behind_count_twice_and_while_keeping_up_not_at_all() {
        let (mut watch, shared) = (Watch::default(), Overload::new(Config::default()));
        let turn = |full_batches_in_a_row, kernel_dropped| Turn {
            full_batches_in_a_row,
            kernel_dropped,
        };
        watch.handle_turn(at(0), turn(0, 50), &shared);
        watch.handle_turn(at(10), turn(1, 60), &shared);
        assert_eq!(shared.shed(), Shed::NOTHING);
        watch.handle_turn(at(110), turn(2, 61), &shared);
        assert_eq!(shared.shed().level(), 2);
    }

    #[test]
    fn one_loop_that_is_behind_sheds_for_all_and_another_that_is_not_takes_nothing_back() {
        let shared = Overload::new(Config::default());
        let (mut busy, mut idle) = (Watch::default(), Watch::default());
        behind(&mut busy, &shared, 0, 100);
        assert_eq!(quiet(&mut idle, &shared, 110), 1);
        behind(&mut busy, &shared, 4_000, 4_200);
        assert_eq!(quiet(&mut idle, &shared, 5_200), 2);
    }

    #[test]
    fn rooms_narrow_from_everybody_to_one() {
        let heard = |level, is_large| Shed(level).loudest(is_large, 3);
        assert_eq!(heard(0, false), None);
        assert_eq!(
            (0..4).map(|level| heard(level, true)).collect::<Vec<_>>(),
            [3, 3, 2, 1].map(Some)
        );
        assert_eq!(heard(1, false), Some(3));
        assert_eq!(Shed(2).loudest(false, 1), Some(1));
    }
}
