//! Waiting times between attempts, so that a thousand relays that lost the same server do not come back at once.

use std::time::Duration;

use rand_core::Rng;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Full jitter: each time a moment at random within a span that doubles from 0.1 s to 5 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after one more failure.
    pub fn next<R: Rng + ?Sized>(&mut self, rng: &mut R) -> Duration {
        let span = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        span.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX))
    }

    /// It worked.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::Seeded;

    #[test]
    fn spans_double_up_to_five_seconds_and_all_of_a_span_is_used() {
        let mut rng = Seeded(7);
        for (failures, span) in [(0, 100), (1, 200), (3, 800), (6, 5_000), (40, 5_000)] {
            let mut waits = Vec::new();
            for _ in 0..1_000 {
                let mut backoff = Backoff { failures };
                waits.push(backoff.next(&mut rng).as_millis());
            }
            assert!(waits.iter().all(|&wait| wait <= span));
            assert!(waits.iter().any(|&wait| wait < span / 10));
            assert!(waits.iter().any(|&wait| wait > span * 9 / 10));
        }
        let mut backoff = Backoff { failures: 9 };
        backoff.reset();
        assert_eq!(backoff, Backoff::default());
    }
}
