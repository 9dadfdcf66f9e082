//! How much faster a sender's clock runs than ours.
//!
//! A packet's timestamp is the sender's clock, its arrival is ours; their difference drifts with the clocks,
//! under noise that only ever adds delay. So each stretch of time is represented by its fastest packet, and
//! the drift is the median of the slopes between all pairs of stretches (Theil and Sen), which a route change
//! or a congested minute hardly moves. The error is the half-width of Sen's 95 % confidence interval.

use wzp_wire::Instant;

/// Most stretches kept; when there are more, neighbours are merged and stretches get twice as long.
const POINTS: usize = 64;
/// First length of a stretch in microseconds.
const STRETCH: u64 = 500_000;
/// Fewest stretches that make an estimate.
const ENOUGH: usize = 8;

/// A sender's clock against ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// Parts per million by which the sender's clock is fast (negative: slow).
    pub ppm: f64,
    /// Half-width of the 95 % confidence interval, parts per million.
    pub error_ppm: f64,
}

/// Collects arrivals and estimates the drift. Bounded, and allocates only when made.
#[derive(Debug, Clone)]
pub struct Estimator {
    points: Vec<Point>,
    slopes: Vec<f64>,
    stretch: u64,
    current: Option<(u64, Point)>,
}

/// The fastest packet of a stretch.
#[derive(Debug, Clone, Copy)]
struct Point {
    /// Arrival, microseconds of our clock.
    at: u64,
    /// Arrival minus timestamp, microseconds; its zero is arbitrary.
    offset: f64,
}

impl Default for Estimator {
    fn default() -> Self {
        Self::new()
    }
}

impl Estimator {
    /// An estimator that knows nothing.
    pub fn new() -> Self {
        Self {
            points: Vec::with_capacity(POINTS),
            slopes: Vec::with_capacity(POINTS * (POINTS - 1) / 2),
            stretch: STRETCH,
            current: None,
        }
    }

    /// Notes a packet: `position` is its timestamp in samples at 48 kHz, unwrapped to 64 bits.
    pub fn push(&mut self, now: Instant, position: i64) {
        let at = now.as_micros();
        let point = Point {
            at,
            offset: at as f64 - position as f64 * (1_000_000.0 / 48_000.0),
        };
        match &mut self.current {
            Some((end, fastest)) if at < *end => {
                if point.offset < fastest.offset {
                    *fastest = point;
                }
            }
            current => {
                let done = current.replace((at.saturating_add(self.stretch), point));
                if let Some((_, fastest)) = done {
                    self.keep(fastest);
                }
            }
        }
    }

    /// The drift since the start, or `None` while there is too little to go by (about four seconds).
    pub fn estimate(&mut self) -> Option<Drift> {
        if self.points.len() < ENOUGH {
            return None;
        }
        self.slopes.clear();
        for (i, a) in self.points.iter().enumerate() {
            for b in &self.points[i + 1..] {
                self.slopes
                    .push((a.offset - b.offset) / (b.at - a.at).max(1) as f64);
            }
        }
        self.slopes.sort_unstable_by(f64::total_cmp);
        let (n, pairs) = (self.points.len() as f64, self.slopes.len());
        let spread = 1.96 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
        let low = ((pairs as f64 - spread) / 2.0).max(0.0) as usize;
        let high = (((pairs as f64 + spread) / 2.0) as usize).min(pairs - 1);
        Some(Drift {
            ppm: self.slopes[pairs / 2] * 1e6,
            error_ppm: (self.slopes[high] - self.slopes[low]) / 2.0 * 1e6,
        })
    }

    /// Starts again, as after a restart of the sender.
    pub fn reset(&mut self) {
        self.points.clear();
        self.current = None;
        self.stretch = STRETCH;
    }

    fn keep(&mut self, point: Point) {
        if self.points.len() == POINTS {
            for i in 0..POINTS / 2 {
                let (a, b) = (self.points[2 * i], self.points[2 * i + 1]);
                self.points[i] = if a.offset <= b.offset { a } else { b };
            }
            self.points.truncate(POINTS / 2);
            self.stretch = self.stretch.saturating_mul(2);
        }
        self.points.push(point);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wzp_testkit::{Grade, Link, Skew};

    use super::*;

    /// A sender whose clock is `ppm` fast, seen through a link of `grade` for `seconds`.
    fn through(grade: Grade, ppm: f64, seconds: u64, seed: u64) -> Drift {
        let mut link: Link<i64> = Link::new(grade.profile(), seed);
        let mut estimator = Estimator::new();
        let frame = Skew::new(ppm).true_time(Duration::from_millis(20));
        let start = Instant::from_micros(5_000_000);
        for n in 0..seconds * 50 {
            let now = start + Duration::from_nanos(frame.as_nanos() as u64 * n);
            link.send_sized(now, n as i64 * 960, 120);
            while let Some((at, position)) = link.poll_timed(now) {
                estimator.push(at, position);
            }
        }
        estimator.estimate().unwrap()
    }

    #[test]
    fn a_quiet_link_gives_the_drift_within_seconds() {
        for ppm in [-200.0, -35.0, 0.0, 120.0] {
            let drift = through(Grade::GoodWifi, ppm, 20, 3);
            println!("{ppm} -> {drift:?}");
            assert!((drift.ppm - ppm).abs() < 40.0, "{ppm}: {drift:?}");
        }
    }

    #[test]
    fn error_covers_the_truth_on_bad_links_and_shrinks() {
        for grade in [Grade::CongestedWifi, Grade::Slow3g, Grade::VeryBad] {
            let short = through(grade, 150.0, 60, 5);
            let long = through(grade, 150.0, 1_200, 5);
            println!("{grade}: {short:?} then {long:?}");
            assert!(long.error_ppm <= short.error_ppm);
            assert!(
                (long.ppm - 150.0).abs() < 3.0 * long.error_ppm + 2.0,
                "{grade}: {long:?}"
            );
            assert!((long.ppm - 150.0).abs() < 15.0, "{grade}: {long:?}");
        }
    }

    #[test]
    fn too_little_is_no_estimate() {
        let mut estimator = Estimator::new();
        for n in 0..100 {
            estimator.push(Instant::from_micros(n * 20_000), n as i64 * 960);
        }
        assert_eq!(estimator.estimate(), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut estimator = Estimator::new();
        for n in 0..2_000_000_u64 {
            estimator.push(Instant::from_micros(n * 20_000), n as i64 * 960);
        }
        assert!(estimator.points.len() <= POINTS && estimator.points.capacity() == POINTS);
        assert!(estimator.estimate().unwrap().ppm.abs() < 0.01);
    }
}
