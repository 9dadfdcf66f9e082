//! How often anybody may ask, in memory that does not grow with the number of those who do.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use wzp_wire::Instant;

/// The part of an address that one customer of a network is taken to have: all of IPv4, /64 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpAddr);

impl Prefix {
    /// That of `address`; an IPv4-mapped one counts as IPv4.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self(IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into())),
            v4 => Self(v4),
        }
    }
}

/// So many in a window, evenly; as many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// At least 1.
    pub requests: u32,
    /// At least 1 ms.
    pub window: Duration,
}

/// What a limiter says, in the words of the `RateLimit` header fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of one window.
    pub limit: u32,
    /// That may follow at once.
    pub remaining: u32,
    /// Until all of the quota is there again.
    pub reset: Duration,
    /// `Some`: refused; it is worth trying again after that.
    pub retry_after: Option<Duration>,
}

/// One quota for each key. A key that was not used for a window is the same as a new one, and is forgotten.
#[derive(Clone, Debug)]
pub struct Limiter<K> {
    quota: Quota,
    most: usize,
    /// When all of the quota is there again.
    full_again: BTreeMap<K, Instant>,
}

impl<K: Ord + Clone> Limiter<K> {
    /// Remembers at most `most` keys (at least 1); beyond that, the one that asked least is taken to be new.
    pub fn new(quota: Quota, most: usize) -> Self {
        Self {
            quota,
            most: most.max(1),
            full_again: BTreeMap::new(),
        }
    }

    /// Counts a request of `key`; one that is refused costs nothing.
    pub fn take(&mut self, now: Instant, key: &K) -> Verdict {
        let limit = self.quota.requests.max(1);
        let window = self.quota.window.max(Duration::from_millis(1));
        let interval = window / limit;
        let full = self.full_again.get(key).copied().unwrap_or(now).max(now) + interval;
        let used = full.duration_since(now);
        if used > window {
            return Verdict {
                limit,
                remaining: 0,
                reset: used - interval,
                retry_after: Some(used - window),
            };
        }
        self.make_place(now, key);
        self.full_again.insert(key.clone(), full);
        let remaining = (window - used).as_nanos() / interval.as_nanos().max(1);
        Verdict {
            limit,
            remaining: u32::try_from(remaining).unwrap_or(limit),
            reset: used,
            retry_after: None,
        }
    }

    fn make_place(&mut self, now: Instant, key: &K) {
        if self.full_again.len() < self.most || self.full_again.contains_key(key) {
            return;
        }
        self.full_again.retain(|_, full| *full > now);
        if self.full_again.len() >= self.most {
            let least = self
                .full_again
                .iter()
                .min_by_key(|(_, full)| **full)
                .map(|(key, _)| key.clone());
            least.map(|key| self.full_again.remove(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, ms};

    #[test]
    fn a_quota_at_once_then_evenly_and_others_are_not_affected() {
        let quota = Quota {
            requests: 4,
            window: ms(1_000),
        };
        let mut limiter = Limiter::new(quota, 10);
        let left: Vec<_> = (0..4).map(|_| limiter.take(at(0), &"a").remaining).collect();
        assert_eq!(left, [3, 2, 1, 0]);
        let refused = limiter.take(at(0), &"a");
        assert_eq!((refused.retry_after, refused.reset), (Some(ms(250)), ms(1_000)));
        assert_eq!(limiter.take(at(0), &"b").retry_after, None);
        assert_eq!(limiter.take(at(250), &"a").retry_after, None);
        assert!(limiter.take(at(251), &"a").retry_after.is_some());
    }

    #[test]
    fn memory_is_bounded_and_who_asks_most_stays_known() {
        let mut limiter = Limiter::new(
            Quota {
                requests: 2,
                window: ms(1_000),
            },
            8,
        );
        for _ in 0..2 {
            limiter.take(at(0), &0);
        }
        for key in 1..1_000 {
            limiter.take(at(0), &key);
        }
        assert!(limiter.full_again.len() <= 8);
        assert!(limiter.take(at(0), &0).retry_after.is_some());
    }

    #[test]
    fn prefixes() {
        let of = |address: &str| Prefix::of(address.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.2"), of("192.0.2.1"));
    }
}
