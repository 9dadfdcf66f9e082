//! The only notion of time that the cores know: a number handed in by the shell.

use std::{
    fmt,
    ops::{Add, AddAssign, Sub},
    time::Duration,
};

/// Monotonic microseconds since an arbitrary start of the process.
///
/// Arithmetic saturates: a deadline far in the future is never one in the past.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The start of the process's clock.
    pub const ZERO: Self = Self(0);

    /// The instant `micros` microseconds after [`Instant::ZERO`].
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since [`Instant::ZERO`].
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero when `earlier` is in fact later.
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(micros(rhs)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(micros(rhs)))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let late = Instant::from_micros(u64::MAX - 1);
        assert_eq!((late + Duration::from_secs(1)).as_micros(), u64::MAX);
        assert_eq!((late + Duration::MAX).as_micros(), u64::MAX);
        assert_eq!(Instant::from_micros(5) - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(Instant::ZERO.duration_since(late), Duration::ZERO);
    }

    #[test]
    fn a_difference_added_again_gives_the_later_instant() {
        let (a, b) = (Instant::from_micros(1_500), Instant::from_micros(4_000_000));
        let mut c = a;
        c += b.duration_since(a);
        assert_eq!(c, b);
        assert_eq!(format!("{b:?}"), "4.000000s");
    }
}
