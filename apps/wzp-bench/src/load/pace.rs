//! When the next packet is due.

use std::time::{Duration, Instant};

/// Turns of a fixed length, spread evenly, caught up with when late.
#[derive(Debug)]
pub(crate) struct Pace {
    start: Instant,
    interval: Duration,
    done: u64,
}

impl Pace {
    /// `per_second` turns a second from now on.
    pub(crate) fn per_second(per_second: u32) -> Self {
        Self {
            start: Instant::now(),
            interval: Duration::from_secs(1) / per_second.max(1),
            done: 0,
        }
    }

    /// Turns that have become due since the last call.
    pub(crate) fn due(&mut self) -> u64 {
        let total = self.start.elapsed().as_nanos() / self.interval.as_nanos().max(1);
        let total = u64::try_from(total).unwrap_or(u64::MAX);
        let due = total.saturating_sub(self.done);
        self.done = total;
        due
    }

    /// Time since the first turn.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
