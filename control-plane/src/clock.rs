//! The two clocks: one that only goes forward, and that of the calendar.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use wzp_socket::clock::now;

/// Since 1970.
pub(crate) fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    unix().as_secs()
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    u64::try_from(unix().as_millis()).unwrap_or(u64::MAX)
}
