//! CPU time, as the scheduler counts it. What the kernel does for system calls on the loopback interface, including
//! the delivery to the receiver, is part of it.

#![expect(unsafe_code, reason = "the C library's clocks of CPU time")]

use std::io;
use std::time::Duration;

use anyhow::Context;

/// CPU time that the calling thread has used.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn of_this_thread() -> anyhow::Result<Duration> {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time that all threads of this process have used.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn of_this_process() -> anyhow::Result<Duration> {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time that all threads of process `pid` have used.
///
/// # Errors
/// When there is no such process.
pub(crate) fn of_process(pid: u32) -> anyhow::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).context("numbering a process")?;
    let mut clock = 0;
    // SAFETY: `clock` is a live `clockid_t` for the time of the call.
    let code = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code)).context("finding the clock of a process");
    }
    read(clock)
}

fn read(clock: libc::clockid_t) -> anyhow::Result<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a live `timespec` for the time of the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error()).context("reading a clock of CPU time");
    }
    let (seconds, nanos) = (u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?);
    Ok(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn working_costs_time_of_the_thread_and_of_its_process() {
        let (thread, process) = (of_this_thread().unwrap(), of_this_process().unwrap());
        let work: u64 = (0..3_000_000u64).map(std::hint::black_box).sum();
        assert!(work > 0 && of_this_thread().unwrap() > thread);
        assert!(of_this_process().unwrap() > process);
        assert!(of_process(std::process::id()).unwrap() > process);
    }

    #[test]
    fn a_process_that_is_not_there_has_no_time() {
        // Linux numbers at most 2^22 processes.
        assert!(of_process(5_000_000).is_err());
    }
}
