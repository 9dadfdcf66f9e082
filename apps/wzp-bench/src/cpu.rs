//! CPU time, as the scheduler counts it, and who runs where. What the kernel does for system calls on the loopback interface, including
//! the delivery to the receiver, is part of it.

use std::process::{Child, Command};
use std::time::Duration;

use anyhow::Context;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::ClockId;
use nix::unistd::Pid;

/// The calling thread, as the scheduler takes it.
const THIS_THREAD: Pid = Pid::from_raw(0);

/// CPU time that the calling thread has used.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn of_this_thread() -> anyhow::Result<Duration> {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time that all threads of this process have used.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn of_this_process() -> anyhow::Result<Duration> {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time that all threads of process `pid` have used.
///
/// # Errors
/// When there is no such process.
pub(crate) fn of_process(pid: u32) -> anyhow::Result<Duration> {
    let pid = Pid::from_raw(pid.try_into().context("numbering a process")?);
    read(ClockId::pid_cpu_clock_id(pid).context("finding the clock of a process")?)
}

fn read(clock: ClockId) -> anyhow::Result<Duration> {
    Ok(clock.now().context("reading a clock of CPU time")?.into())
}

/// A core for the process that is measured, and the others for whoever measures it.
///
/// Where the scheduler puts both is a matter of luck otherwise, and stays so for a whole measurement.
pub(crate) struct Cores {
    measured: CpuSet,
    others: CpuSet,
}

impl Cores {
    /// Keeps the calling thread, and the threads that it starts, off the first core; `None` where there is only one.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn split() -> anyhow::Result<Option<Self>> {
        let all = sched_getaffinity(THIS_THREAD).context("asking for the cores to run on")?;
        let mut cores = (0..CpuSet::count()).filter(|&core| all.is_set(core) == Ok(true));
        let (Some(first), Some(_)) = (cores.next(), cores.next()) else {
            return Ok(None);
        };
        let (mut measured, mut others) = (CpuSet::new(), all);
        measured.set(first)?;
        others.unset(first)?;
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

fn run_on(cores: &CpuSet) -> anyhow::Result<()> {
    sched_setaffinity(THIS_THREAD, cores).context("choosing cores to run on")
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
