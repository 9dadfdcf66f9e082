//! Virtual time, and clocks that run too fast or too slow.

use std::time::Duration;

use wzp_wire::Instant;

/// Time that moves only when told to, and never backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    now: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock at one second after zero, so that a little can be subtracted from its first reading.
    pub fn new() -> Self {
        Self {
            now: Instant::from_micros(1_000_000),
        }
    }

    /// Moves on by `step` and returns the new time.
    pub fn advance(&mut self, step: Duration) -> Instant {
        self.now += step;
        self.now
    }

    /// Moves on to `to`, or stays when that lies in the past.
    pub fn advance_to(&mut self, to: Instant) -> Instant {
        self.now = self.now.max(to);
        self.now
    }

    /// The current virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }
}

/// How a device's crystal differs from true time: `ppm` parts per million fast (positive) or slow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Skew {
    ppm: f64,
}

impl Skew {
    /// A crystal that is `ppm` parts per million fast.
    pub fn new(ppm: f64) -> Self {
        Self { ppm }
    }

    /// True time that passes while this device counts `local`.
    pub fn true_time(&self, local: Duration) -> Duration {
        Duration::from_nanos((local.as_nanos() as f64 / (1.0 + self.ppm * 1e-6)).round() as u64)
    }

    /// What this device counts while `elapsed` true time passes.
    pub fn local_time(&self, elapsed: Duration) -> Duration {
        Duration::from_nanos((elapsed.as_nanos() as f64 * (1.0 + self.ppm * 1e-6)).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_never_goes_back() {
        let mut clock = Clock::new();
        let start = clock.now();
        let later = clock.advance(Duration::from_millis(5));
        assert_eq!(later.duration_since(start), Duration::from_millis(5));
        assert_eq!(clock.advance_to(start), later);
    }

    #[test]
    fn fast_crystal_counts_more() {
        let skew = Skew::new(200.0);
        let hour = Duration::from_secs(3600);
        assert_eq!(skew.local_time(hour), hour + Duration::from_millis(720));
        let back = skew.true_time(skew.local_time(hour));
        assert!(back.abs_diff(hour) < Duration::from_micros(1));
    }
}
