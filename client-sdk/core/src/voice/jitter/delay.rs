//! How long frames must wait: the target delay and what it is learnt from.
//!
//! An *offset* is when a frame was there minus when it was captured (the end of the frame, on the sender's
//! clock), in microseconds with an arbitrary zero. Only differences of offsets mean anything: the smallest
//! recent one is the fastest path ([`Delay::base`]), and a frame that waits until `offset` has the delay
//! `offset - base`. Working in offsets instead of delays keeps a route change or a drifting clock from
//! turning everything learnt into nonsense.

use std::time::Duration;

use wzp_wire::Instant;

use super::histogram::{BUCKET, Histogram};

/// Arrivals are judged by the slowest of each interval, as NetEq does.
const INTERVAL: Duration = Duration::from_millis(500);
/// Weight that the past keeps at each interval: half of it is forgotten in 20 s.
const FORGET: f32 = 0.983;
/// Share of the slowest arrivals that must be in time.
const ARRIVED: f32 = 0.95;
/// Share of the recovered frames whose repair must be in time.
const REPAIRED: f32 = 0.97;
/// Share that must still be in time for the target to shrink: where blocks are repaired all the time, the share above
/// comes and goes by a frame, and each change of delay is heard.
const KEPT: f32 = 0.99;
/// Share of frames that must owe their being there to repair before anybody waits for it: below, concealing
/// them is cheaper than delay for all.
const REPAIR_WORTH: f32 = 0.005;
/// Margin for the 10 ms grid of playout, microseconds.
const MARGIN: i64 = 5_000;
/// Arrivals in a row that must all be slow to count as the path's new normal at once.
const RECENT: usize = 6;
/// Intervals that the fastest path is taken from: 10 s.
const MINIMA: usize = 20;

/// Bounds and speed of the target delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Target before anything is known. Default 40 ms.
    pub start: Duration,
    /// Largest target, beyond the fastest path. Default 400 ms.
    pub cap: Duration,
    /// How much the target shrinks at once. Default 20 ms.
    pub step: Duration,
    /// How long it rests between two such steps. Default 5 s.
    pub rest: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            start: Duration::from_millis(40),
            cap: Duration::from_millis(400),
            step: Duration::from_millis(20),
            rest: Duration::from_secs(5),
        }
    }
}

/// The target delay of one sender.
#[derive(Debug)]
pub struct Delay {
    config: Config,
    arrivals: Histogram,
    repairs: Histogram,
    /// Frames arrived, forgotten at the same pace as `repairs`.
    frames: f32,
    intervals: u32,
    interval_end: Instant,
    /// Slowest and fastest offset of the running interval.
    extremes: Option<(i64, i64)>,
    minima: [i64; MINIMA],
    recent: [i64; RECENT],
    arrived: usize,
    target: i64,
    rested: Instant,
    /// How far offsets move in an interval because of the clocks.
    trend: i64,
}

impl Delay {
    /// Knows nothing; the first offset decides where zero is.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            arrivals: Histogram::new(),
            repairs: Histogram::new(),
            frames: 0.0,
            intervals: 0,
            interval_end: Instant::ZERO,
            extremes: None,
            minima: [i64::MAX; MINIMA],
            recent: [i64::MAX; RECENT],
            arrived: 0,
            target: i64::MIN,
            rested: Instant::ZERO,
            trend: 0,
        }
    }

    /// Forgets everything, as after a restart of the sender.
    pub fn reset(&mut self) {
        self.arrivals.clear(0);
        self.repairs.clear(0);
        self.frames = 0.0;
        self.intervals = 0;
        self.extremes = None;
        self.minima = [i64::MAX; MINIMA];
        self.recent = [i64::MAX; RECENT];
        self.arrived = 0;
        self.target = i64::MIN;
        self.trend = 0;
    }

    /// Notes a frame that arrived by itself.
    pub fn arrived(&mut self, now: Instant, offset: i64) {
        if self.arrived == 0 {
            self.begin(now, offset);
        }
        if now >= self.interval_end {
            self.close_interval();
            self.interval_end = now + INTERVAL;
            self.aim(now);
        }
        let (slowest, fastest) = self.extremes.get_or_insert((offset, offset));
        *slowest = offset.max(*slowest);
        *fastest = offset.min(*fastest);
        self.recent[self.arrived % RECENT] = offset;
        self.arrived += 1;
        self.frames += 1.0;
        self.follow_slow_route(now);
    }

    /// Notes when a lost frame is worked out, `weight` times. [`Delay::aim`] then makes use of it.
    pub fn repaired(&mut self, offset: i64, weight: f32) {
        if self.arrived > 0 {
            self.repairs.add(offset, weight);
        }
    }

    /// Offset of the fastest path, or `None` before the first arrival.
    pub fn base(&self) -> Option<i64> {
        let running = self.extremes.map_or(i64::MAX, |(_, fastest)| fastest);
        let base = self.minima.iter().copied().min()?.min(running);
        (base != i64::MAX).then_some(base)
    }

    /// Offset at which frames should be played.
    pub fn target(&self) -> i64 {
        let normal = self
            .recent
            .iter()
            .copied()
            .min()
            .filter(|_| self.arrived >= RECENT);
        self.target
            .max(normal.map_or(i64::MIN, |slow| slow + MARGIN))
            .min(self.cap())
    }

    /// Largest offset at which a frame may still be played, if all are that slow: twice the cap. Playing
    /// catches up from there as fast as it can.
    pub fn limit(&self) -> i64 {
        self.base()
            .map_or(i64::MAX, |base| base.saturating_add(2 * micros(self.config.cap)))
    }

    /// Tells by how much the sender's clock is fast, so that what was learnt ages well.
    pub fn set_drift(&mut self, ppm: f64) {
        // Parts per million of an interval are as many microseconds per million intervals' microseconds.
        self.trend = -(ppm.clamp(-1_000.0, 1_000.0) * INTERVAL.as_secs_f64()) as i64;
    }

    fn cap(&self) -> i64 {
        self.base()
            .map_or(i64::MAX, |base| base.saturating_add(micros(self.config.cap)))
    }

    /// When nothing comes in time to be played at all any more, the fastest path is gone for good.
    fn follow_slow_route(&mut self, now: Instant) {
        let Some(floor) = self
            .recent
            .iter()
            .copied()
            .min()
            .filter(|_| self.arrived >= RECENT)
        else {
            return;
        };
        if floor > self.limit() {
            self.minima = [i64::MAX; MINIMA];
            self.intervals = 0;
            self.extremes = None;
            self.begin(now, floor);
        }
    }

    fn begin(&mut self, now: Instant, offset: i64) {
        self.arrivals.clear(offset - 50_000);
        self.repairs.clear(offset - 50_000);
        self.arrivals
            .add(offset + micros(self.config.start) - MARGIN - BUCKET, 1.0);
        self.target = offset + micros(self.config.start);
        self.rested = now;
        self.interval_end = now + INTERVAL;
        self.extremes = Some((offset, offset));
    }

    fn close_interval(&mut self) {
        let Some((slowest, fastest)) = self.extremes.take() else {
            return;
        };
        // Early on the past is short, and is weighed as what it is: a few intervals.
        let n = self.intervals as f32;
        let keep = FORGET.min((n + 1.0) / (n + 2.0));
        self.arrivals.scale(keep);
        self.arrivals.add(slowest, 1.0 - keep);
        self.repairs.scale(FORGET);
        self.arrivals.origin += self.trend;
        self.repairs.origin += self.trend;
        for minimum in self.minima.iter_mut().filter(|minimum| **minimum != i64::MAX) {
            *minimum += self.trend;
        }
        self.frames *= FORGET;
        self.minima[self.intervals as usize % MINIMA] = fastest;
        self.intervals = self.intervals.saturating_add(1);
        if let Some(base) = self.base() {
            self.arrivals.follow(base);
            self.repairs.follow(base);
        }
    }

    /// Moves the target towards what the histograms say: up at once, down by steps.
    pub fn aim(&mut self, now: Instant) {
        if self.arrived == 0 {
            return;
        }
        let wanted = self.wanted(REPAIRED);
        if wanted >= self.target {
            self.target = wanted;
            self.rested = now;
        } else if now.duration_since(self.rested) >= self.config.rest {
            let kept = self.wanted(KEPT).min(self.target);
            self.target = kept.max(self.target - micros(self.config.step));
            self.rested = now;
        }
    }

    /// The offset at which enough arrivals, and this share of what is repaired, are in time.
    fn wanted(&self, repaired: f32) -> i64 {
        let mut wanted = self
            .arrivals
            .quantile(ARRIVED)
            .map_or(self.target, |q| q + MARGIN);
        if self.repairs.total >= REPAIR_WORTH * self.frames {
            wanted = wanted.max(self.repairs.quantile(repaired).map_or(i64::MIN, |q| q + MARGIN));
        }
        wanted.min(self.cap())
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    /// Feeds one offset each 20 ms from `from` ms on.
    fn feed(delay: &mut Delay, from: u64, offsets: impl IntoIterator<Item = i64>) -> u64 {
        let mut now = from;
        for offset in offsets {
            delay.arrived(at(now), offset);
            now += 20;
        }
        now
    }

    #[test]
    fn starts_at_the_default_and_shrinks_by_a_step_each_five_seconds() {
        let mut delay = Delay::new(Config::default());
        let mut now = feed(&mut delay, 1_000, [0; 1]);
        assert_eq!(delay.target(), 40 * MS);
        let mut changes = Vec::new();
        let mut last = delay.target();
        for _ in 0..3_000 {
            now = feed(&mut delay, now, [0]);
            if delay.target() != last {
                changes.push((now, last - delay.target()));
                last = delay.target();
            }
        }
        assert!(last <= 10 * MS, "{last}");
        assert!(
            changes.iter().all(|(_, step)| (1..=20 * MS).contains(step)),
            "{changes:?}"
        );
        assert!(
            changes.windows(2).all(|w| w[1].0 - w[0].0 >= 5_000),
            "{changes:?}"
        );
    }

    #[test]
    fn a_slower_route_is_followed_at_once() {
        let mut delay = Delay::new(Config::default());
        let now = feed(&mut delay, 1_000, [0; 2_000]);
        feed(&mut delay, now, [100 * MS; 6]);
        assert!(delay.target() >= 100 * MS);
    }

    #[test]
    fn a_route_slower_than_anything_playable_is_the_new_normal() {
        let mut delay = Delay::new(Config::default());
        let now = feed(&mut delay, 1_000, [0; 2_000]);
        feed(&mut delay, now, [1_200 * MS; 6]);
        assert_eq!(delay.base(), Some(1_200 * MS));
        assert_eq!(delay.target(), 1_240 * MS);
    }

    #[test]
    fn one_spike_is_not_worth_waiting_for_but_many_are() {
        let mut delay = Delay::new(Config::default());
        let spiky = |n: usize, every: usize| (0..n).map(move |i| if i % every == 0 { 150 * MS } else { 0 });
        let mut now = feed(&mut delay, 1_000, spiky(3_000, 3_000));
        assert!(delay.target() < 30 * MS, "{}", delay.target());
        now = feed(&mut delay, now, spiky(1_000, 50));
        assert!(delay.target() >= 150 * MS, "{}", delay.target());
        feed(&mut delay, now, [0; 6_000]);
        assert!(delay.target() < 30 * MS, "{}", delay.target());
    }

    #[test]
    fn waits_for_repair_when_there_is_enough_of_it() {
        let mut delay = Delay::new(Config::default());
        let mut now = feed(&mut delay, 1_000, [0; 1_000]);
        for _ in 0..100 {
            now = feed(&mut delay, now, [0; 9]);
            delay.repaired(110 * MS, 1.0);
            delay.aim(at(now));
        }
        assert!((110 * MS..130 * MS).contains(&delay.target()));
        for _ in 0..40 {
            now = feed(&mut delay, now, [0; 400]);
            delay.repaired(110 * MS, 1.0);
            delay.aim(at(now));
        }
        assert!(
            delay.target() < 30 * MS,
            "1 in 400 is not worth 110 ms: {}",
            delay.target()
        );
    }

    #[test]
    fn keeps_what_some_repair_still_needs_instead_of_going_down_and_up() {
        let mut delay = Delay::new(Config::default());
        let mut now = feed(&mut delay, 1_000, [0; 100]);
        for block in 0..1_000 {
            now = feed(&mut delay, now, [0; 9]);
            let late = block % 60 == 0;
            delay.repaired(if late { 150 * MS } else { 110 * MS }, 1.0);
            delay.aim(at(now));
            assert!(
                block < 60 || delay.target() >= 150 * MS,
                "{block}: {}",
                delay.target()
            );
        }
    }

    #[test]
    fn never_beyond_the_cap() {
        let mut delay = Delay::new(Config::default());
        let offsets = (0..2_000).map(|i| if i % 10 == 0 { 900 * MS } else { 0 });
        feed(&mut delay, 1_000, offsets);
        assert_eq!(delay.target(), 400 * MS);
    }

    #[test]
    fn follows_a_drifting_clock_for_an_hour() {
        for per_frame in [-4, 4] {
            let mut delay = Delay::new(Config::default());
            feed(&mut delay, 1_000, (0..180_000).map(|i| i * per_frame));
            let waiting = delay.target() - delay.base().unwrap();
            assert!((0..40 * MS).contains(&waiting), "{waiting}");
        }
    }
}
