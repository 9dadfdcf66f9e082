//! How much of the relay anybody may use, in memory that does not grow with the number of those who try.
//!
//! Rates are token buckets in the form of one word ("theoretical arrival time"): a bucket that was not used for long
//! is the same as a new one, so that tables need no clean-up.

mod counts;
mod table;

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use wzp_wire::Instant;

pub use counts::{Admitted, Connections, ConnectionsConfig, ConnectionsError};
pub use table::Buckets;

/// What a bucket lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    interval_us: u64,
    depth_us: u64,
}

impl Rate {
    /// `per_second` (1 to 1,000,000) in the long run, `burst` at once; both at least 1.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let interval_us = (1_000_000 / u64::from(per_second.max(1))).max(1);
        Self {
            interval_us,
            depth_us: interval_us * u64::from(burst.max(1)),
        }
    }

    /// `per_minute` in the long run, `burst` at once; both at least 1.
    pub fn per_minute(per_minute: u32, burst: u32) -> Self {
        let interval_us = (60_000_000 / u64::from(per_minute.max(1))).max(1);
        Self {
            interval_us,
            depth_us: interval_us * u64::from(burst.max(1)),
        }
    }

    /// The word of a bucket after taking `n`, or how long to wait for that.
    fn take(self, word: u64, now: Instant, n: u32) -> Result<u64, Duration> {
        let now = now.as_micros();
        let next = word
            .max(now)
            .saturating_add(self.interval_us.saturating_mul(u64::from(n)));
        let latest = now.saturating_add(self.depth_us);
        if next > latest {
            return Err(Duration::from_micros(next - latest));
        }
        Ok(next)
    }
}

/// A bucket with one user.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket(u64);

impl Bucket {
    /// Takes `n` tokens.
    ///
    /// # Errors
    /// The time after which they would be there; none has been taken.
    pub fn take(&mut self, rate: Rate, now: Instant, n: u32) -> Result<(), Duration> {
        self.0 = rate.take(self.0, now, n)?;
        Ok(())
    }
}

/// A bucket that several threads draw from.
#[derive(Debug, Default)]
pub struct SharedBucket(AtomicU64);

impl SharedBucket {
    /// Takes `n` tokens; `false`, and none taken, if they are not there. Neither locks nor allocates.
    pub fn take(&self, rate: Rate, now: Instant, n: u32) -> bool {
        self.0
            .fetch_update(Relaxed, Relaxed, |word| rate.take(word, now, n).ok())
            .is_ok()
    }
}

/// The part of an address that one customer of a network is taken to have: /24 of IPv4, /56 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(u64);

impl Prefix {
    /// The prefix of `address`; an IPv4-mapped one counts as IPv4.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits() >> 8) | 1 << 63),
            // 56 bits, so that the top one never meets that of IPv4.
            IpAddr::V6(v6) => Self(u64::try_from(v6.to_bits() >> 72).unwrap_or_default()),
        }
    }

    /// Whether it is of this very machine: 127.0.0.0/8, or the one around `::1`, where nobody else can be.
    pub fn is_loopback(self) -> bool {
        self.0 == 0 || self.0 >> 16 == (1 << 63 | 127 << 16) >> 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate::new(10, 5);
        let mut bucket = Bucket::default();
        for _ in 0..5 {
            assert_eq!(bucket.take(rate, at(0), 1), Ok(()));
        }
        assert_eq!(bucket.take(rate, at(0), 1), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(rate, at(100), 1), Ok(()));
        assert_eq!(bucket.take(rate, at(100), 1), Err(Duration::from_millis(100)));
    }

    #[test]
    fn a_rest_fills_the_bucket_but_not_beyond_its_depth() {
        let rate = Rate::new(10, 5);
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(rate, at(0), 5), Ok(()));
        assert_eq!(bucket.take(rate, at(60_000), 5), Ok(()));
        assert!(bucket.take(rate, at(60_000), 1).is_err());
    }

    #[test]
    fn more_than_the_depth_is_never_there() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(Rate::new(10, 5), at(1_000_000), 6).is_err());
    }

    #[test]
    fn a_refused_draw_takes_nothing_from_a_shared_bucket() {
        let rate = Rate::new(1, 2);
        let bucket = SharedBucket::default();
        assert!(!bucket.take(rate, at(0), 3));
        assert!(bucket.take(rate, at(0), 2));
        assert!(!bucket.take(rate, at(999), 1));
        assert!(bucket.take(rate, at(1_000), 1));
    }

    #[test]
    fn prefixes_are_24_and_56_bits() {
        let prefix = |text: &str| Prefix::of(text.parse().unwrap());
        assert_eq!(prefix("192.0.2.1"), prefix("192.0.2.254"));
        assert_ne!(prefix("192.0.2.1"), prefix("192.0.3.1"));
        assert_eq!(prefix("192.0.2.1"), prefix("::ffff:192.0.2.9"));
        assert_eq!(prefix("2001:db8:0:100::1"), prefix("2001:db8:0:1ff::1"));
        assert_ne!(prefix("2001:db8:0:100::1"), prefix("2001:db8:0:200::1"));
        assert_ne!(prefix("::"), prefix("0.0.0.0"));
        for text in ["127.0.0.1", "127.200.1.1", "::1", "::ffff:127.0.0.1"] {
            assert!(prefix(text).is_loopback(), "{text}");
        }
        for text in [
            "126.255.255.255",
            "128.0.0.1",
            "0.0.0.0",
            "2001:db8::1",
            "0:0:0:100::1",
        ] {
            assert!(!prefix(text).is_loopback(), "{text}");
        }
    }
}
