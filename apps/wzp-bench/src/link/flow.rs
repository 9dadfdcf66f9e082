//! One client's two directions. Decides only: time is an argument, and nothing is sent here.

use wzp_testkit::{Link, Profile};
use wzp_wire::Instant;

use super::Counts;

/// IPv4 and UDP headers, which take their share of a rate limit.
const HEADERS: usize = 28;
/// Packets under way in one direction at most: ten seconds of 200 a second.
const MOST_UNDER_WAY: usize = 2_048;

/// One direction of a flow.
pub(super) struct Way {
    link: Link,
}

impl Way {
    pub(super) fn new(profile: Profile, seed: u64) -> Self {
        Self {
            link: Link::new(profile, seed).holding_at_most(MOST_UNDER_WAY),
        }
    }

    pub(super) fn send(&mut self, now: Instant, packet: &[u8]) {
        self.link.send_sized(now, packet.to_vec(), packet.len() + HEADERS);
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.link.poll(now)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.link.poll_timeout()
    }

    pub(super) fn counts(&self) -> Counts {
        let stats = self.link.stats();
        Counts {
            sent: stats.sent,
            delivered: stats.delivered,
            lost: stats.lost,
            overflowed: stats.overflowed,
            reordered: stats.reordered,
            duplicated: stats.duplicated,
        }
    }
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        let Self {
            sent,
            delivered,
            lost,
            overflowed,
            reordered,
            duplicated,
        } = other;
        self.sent += sent;
        self.delivered += delivered;
        self.lost += lost;
        self.overflowed += overflowed;
        self.reordered += reordered;
        self.duplicated += duplicated;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wzp_testkit::Loss;

    use super::*;

    #[test]
    fn memory_is_bounded_and_what_does_not_fit_is_counted() {
        let profile = Profile {
            delay: Duration::from_secs(60),
            ..Profile::default()
        };
        let mut way = Way::new(profile, 1);
        for _ in 0..3_000 {
            way.send(Instant::ZERO, b"packet");
        }
        assert_eq!(
            (way.counts().sent, way.counts().overflowed),
            (3_000, 3_000 - 2_048)
        );
        let later = Instant::from_micros(61_000_000);
        assert_eq!(std::iter::from_fn(|| way.poll(later)).count(), 2_048);
    }

    #[test]
    fn the_same_seed_loses_the_same_packets() {
        let survivors = |seed| {
            let profile = Profile {
                loss: Loss::Independent(0.3),
                ..Profile::default()
            };
            let mut way = Way::new(profile, seed);
            (0..100_u8).for_each(|n| way.send(Instant::ZERO, &[n]));
            std::iter::from_fn(|| way.poll(Instant::ZERO)).collect::<Vec<_>>()
        };
        assert_eq!(survivors(7), survivors(7));
        assert_ne!(survivors(7), survivors(8));
        assert!((50..90).contains(&survivors(7).len()));
    }
}
