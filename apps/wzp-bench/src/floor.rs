//! What the kernel alone costs per packet out: the floor that forwarding is compared with.

mod forward;
mod sendto;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::load::Shape;
use crate::report::Format;

/// Measures the floor.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds per scenario
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Bytes of each datagram: a voice packet on a lane to a client
    #[arg(long, default_value_t = 137, value_parser = clap::value_parser!(u16).range(8..=1_472))]
    datagram_bytes: u16,
    #[command(flatten)]
    format: Format,
}

/// One scenario's result.
#[derive(Debug, Serialize)]
pub(crate) struct Floor {
    scenario: &'static str,
    seconds: f64,
    packets_in: u64,
    packets_out: u64,
    packets_received: u64,
    lost_percent: f64,
    cpu_us_per_packet_out: f64,
}

/// What a thread under test did, and what that cost.
#[derive(Debug, Default, Clone, Copy)]
struct Work {
    packets_in: u64,
    packets_out: u64,
    cpu: Duration,
}

impl Floor {
    fn new(scenario: &'static str, elapsed: Duration, work: Work, received: u64) -> Self {
        let out = work.packets_out.max(1) as f64;
        Self {
            scenario,
            seconds: elapsed.as_secs_f64(),
            packets_in: work.packets_in,
            packets_out: work.packets_out,
            packets_received: received,
            lost_percent: work.packets_out.saturating_sub(received) as f64 / out * 100.0,
            cpu_us_per_packet_out: work.cpu.as_secs_f64() * 1e6 / out,
        }
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<28} {:>6.2} µs CPU per packet out  {:>8.0} out/s  {:.2} % lost",
            self.scenario,
            self.cpu_us_per_packet_out,
            self.packets_out as f64 / self.seconds,
            self.lost_percent,
        )
    }
}

/// Runs every scenario in turn.
///
/// # Errors
/// When the system gives no socket or no thread.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Args {
        seconds,
        datagram_bytes,
        format,
    } = args;
    let (seconds, bytes) = (Duration::from_secs(seconds.max(1)), usize::from(datagram_bytes));
    format.print(&sendto::run(seconds, bytes)?)?;
    for (scenario, shape) in [
        (
            "forward, 1 room of 20",
            Shape {
                rooms: 1,
                members: 20,
                talkers: 2,
            },
        ),
        (
            "forward, 100 rooms of 10",
            Shape {
                rooms: 100,
                members: 10,
                talkers: 2,
            },
        ),
    ] {
        format.print(&forward::run(scenario, shape, seconds, bytes)?)?;
    }
    Ok(())
}
