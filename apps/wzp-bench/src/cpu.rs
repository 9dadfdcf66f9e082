//! CPU time, as the scheduler counts it, and who runs where. What the kernel does for system calls on the loopback interface, including
//! the delivery to the receiver, is part of it.

#![expect(
    unsafe_code,
    reason = "the C library's clocks of CPU time, and its sets of cores"
)]

use std::io;
use std::process::{Child, Command};
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

/// A core for the process that is measured, and the others for whoever measures it.
///
/// Where the scheduler puts both is a matter of luck otherwise, and stays so for a whole measurement.
pub(crate) struct Cores {
    measured: libc::cpu_set_t,
    others: libc::cpu_set_t,
}

impl Cores {
    /// Keeps the calling thread, and the threads that it starts, off the first core; `None` where there is only one.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn split() -> anyhow::Result<Option<Self>> {
        // SAFETY: all zeroes is the empty set.
        let mut all: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `all` is a live set of the length that is passed.
        let code = unsafe { libc::sched_getaffinity(0, size_of_val(&all), &raw mut all) };
        if code != 0 {
            return Err(io::Error::last_os_error()).context("asking for the cores to run on");
        }
        // SAFETY: the number is below the size of a set.
        let first = (0..libc::CPU_SETSIZE as usize).find(|core| unsafe { libc::CPU_ISSET(*core, &all) });
        let Some(first) = first else { return Ok(None) };
        // SAFETY: as above.
        let mut measured: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        let mut others = all;
        // SAFETY: `first` is below the size of a set.
        unsafe {
            libc::CPU_SET(first, &mut measured);
            libc::CPU_CLR(first, &mut others);
        }
        // SAFETY: only counts.
        if unsafe { libc::CPU_COUNT(&others) } == 0 {
            return Ok(None);
        }
        run_on(&others)?;
        Ok(Some(Self { measured, others }))
    }

    /// Starts a process on the core for it. Call it from the thread that called [`Cores::split`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn spawn(&self, command: &mut Command) -> anyhow::Result<Child> {
        // A process begins where the thread is that starts it.
        run_on(&self.measured)?;
        let child = command.spawn().context("starting a process on its core");
        run_on(&self.others)?;
        child
    }
}

fn run_on(cores: &libc::cpu_set_t) -> anyhow::Result<()> {
    // SAFETY: `cores` is a live set of the length that is passed; 0 is the calling thread.
    if unsafe { libc::sched_setaffinity(0, size_of_val(cores), cores) } != 0 {
        return Err(io::Error::last_os_error()).context("choosing cores to run on");
    }
    Ok(())
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
