//! What Prometheus wants to know of every process, from `/proc/self`.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// `_SC_CLK_TCK` of Linux on every architecture of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Read at each scrape.
#[derive(Debug)]
pub(super) struct Process {
    start_seconds: f64,
}

impl Process {
    pub(super) fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            start_seconds: now.map_or(0.0, |since| since.as_secs_f64()),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let cpu = ConstCounter::new(cpu_seconds().unwrap_or_default());
        let metric =
            encoder.encode_descriptor("process_cpu_seconds", "CPU time used", None, cpu.metric_type())?;
        cpu.encode(metric)?;
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let most = max_fds().unwrap_or_default();
        for (name, help, value) in [
            (
                "process_start_time_seconds",
                "Start of the process since 1970",
                self.start_seconds,
            ),
            (
                "process_resident_memory_bytes",
                "Resident memory",
                resident_bytes().unwrap_or_default(),
            ),
            ("process_open_fds", "Open file descriptors", open as f64),
            ("process_max_fds", "Most file descriptors that may be open", most),
            (
                "wzp_relay_open_fds_ratio",
                "Open file descriptors as a part of what may be",
                open as f64 / most.max(1.0),
            ),
        ] {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

fn cpu_seconds() -> Option<f64> {
    times("/proc/self/stat").map(|(_, seconds)| seconds)
}

/// CPU time of this process so far.
pub(crate) fn cpu_time() -> std::time::Duration {
    std::time::Duration::from_secs_f64(cpu_seconds().unwrap_or_default())
}

/// CPU seconds of each thread that moves packets, by thread id.
pub(crate) fn packet_threads() -> BTreeMap<u32, f64> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let times = threads.filter_map(|thread| {
        let id = thread.file_name().to_str()?.parse().ok()?;
        let (name, seconds) = times(thread.path().join("stat"))?;
        name.starts_with("io-").then_some((id, seconds))
    });
    times.collect()
}

/// Name and CPU seconds of a process or thread.
fn times(stat: impl AsRef<Path>) -> Option<(String, f64)> {
    let stat = fs::read_to_string(stat).ok()?;
    // The name in brackets may hold spaces; what follows it does not.
    let (name, behind) = stat.rsplit_once(") ")?;
    let (_, name) = name.split_once('(')?;
    let mut fields = behind.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((name.to_owned(), (user + system) / TICKS_PER_SECOND))
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    resident(&status)
}

/// In KiB, whatever the size of a page.
fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1_024.0)
}

fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn resident_memory_is_what_the_system_says_whatever_the_size_of_a_page() {
        let status = "Name:\twzp-relay\nVmHWM:\t   99999 kB\nVmRSS:\t   12345 kB\nThreads:\t3\n";
        assert_eq!(super::resident(status), Some(12_345.0 * 1_024.0));
        assert!(super::resident_bytes().is_some_and(|bytes| bytes > 100_000.0));
    }
}
