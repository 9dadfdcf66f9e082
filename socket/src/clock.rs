//! The one place where this process reads its monotonic clock for lanes.

use std::sync::OnceLock;
use std::time::Instant as StdInstant;

use wzp_wire::Instant;

/// Now, in microseconds since the first call in this process. All sockets of a process share this clock.
pub fn now() -> Instant {
    static START: OnceLock<StdInstant> = OnceLock::new();
    let elapsed = START.get_or_init(StdInstant::now).elapsed();
    Instant::from_micros(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}
