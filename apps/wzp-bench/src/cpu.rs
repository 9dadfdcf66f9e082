//! CPU time, as the scheduler counts it.

use std::time::Duration;

use anyhow::Context;

/// CPU time that the calling thread has used, to the nanosecond. What the kernel does for its system calls on the
/// loopback interface, including the delivery to the receiver, is part of it.
///
/// # Errors
/// When the system does not tell, which Linux with schedstats does.
pub(crate) fn of_this_thread() -> anyhow::Result<Duration> {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").context("reading the thread's schedstat")?;
    parse(&text).context("parsing the thread's schedstat")
}

fn parse(schedstat: &str) -> Option<Duration> {
    schedstat
        .split_whitespace()
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_is_nanoseconds_on_a_cpu() {
        assert_eq!(parse("1500 20 3\n"), Some(Duration::from_nanos(1_500)));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn working_costs_time() {
        let before = of_this_thread().unwrap();
        let work: u64 = (0..3_000_000u64).map(std::hint::black_box).sum();
        assert!(work > 0 && of_this_thread().unwrap() > before);
    }
}
