//! A relay as its own process under load, beside a forwarder without crypto that is driven the same way.

mod lanes;
mod measure;
mod members;
mod packet;
mod process;
mod quic;
mod raw;
mod seat;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use crate::cpu::Cores;
use crate::load::Shape;
use crate::report::Format;
pub(crate) use process::Process;

/// Measures a relay.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The relay's program [default: wzp-relay beside this one]
    #[arg(long, value_name = "FILE")]
    relay: Option<PathBuf>,
    /// Seconds for each measurement of CPU time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Only this carrier
    #[arg(long, value_enum)]
    carrier: Option<Carrier>,
    /// Only this shape
    #[arg(long, value_enum)]
    shape: Option<ShapeName>,
    /// Without looking for the rate at which loss starts
    #[arg(long)]
    no_ramp: bool,
    /// Forward without crypto instead: what this program starts as its own process to compare with
    #[arg(long, hide = true)]
    raw: bool,
    #[command(flatten)]
    format: Format,
}

/// How datagrams reach the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Carrier {
    /// Lanes beside QUIC.
    Lane,
    /// QUIC datagrams.
    Quic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ShapeName {
    /// One room of 20.
    #[value(name = "1x20")]
    One,
    /// 100 rooms of 10.
    #[value(name = "100x10")]
    Hundred,
}

impl ShapeName {
    const ALL: [Self; 2] = [Self::One, Self::Hundred];

    const fn name(self) -> &'static str {
        match self {
            Self::One => "1x20",
            Self::Hundred => "100x10",
        }
    }

    const fn shape(self) -> Shape {
        let (rooms, members) = match self {
            Self::One => (1, 20),
            Self::Hundred => (100, 10),
        };
        Shape {
            rooms,
            members,
            talkers: 2,
        }
    }
}

/// One shape over one carrier.
#[derive(Debug, Serialize)]
struct Row {
    shape: &'static str,
    carrier: Carrier,
    /// CPU time of the relay's process for each packet that a member received.
    us_per_packet: f64,
    /// The same of the forwarder without crypto, at the same rate.
    raw_us_per_packet: f64,
    ratio: f64,
    /// Packets a second out of the relay during that.
    load_packets_per_second: f64,
    /// Share lost during that.
    loss: f64,
    /// Most packets a second out of one IO thread before one in 200 is lost.
    packets_per_second: Option<f64>,
    /// What gave way first when that was looked for.
    limit: Option<&'static str>,
    raw_packets_per_second: Option<f64>,
    /// From a talker's socket to a listener's, at half of that rate.
    latency_p50_us: Option<f64>,
    latency_p99_us: Option<f64>,
    raw_latency_p50_us: Option<f64>,
    raw_latency_p99_us: Option<f64>,
    /// Growth of the relay's memory for each member that joined and said nothing; only where there are many.
    idle_member_bytes: Option<u64>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
        write!(
            f,
            "{:<7} {:<5} {:>6.2} µs CPU a packet, raw {:>5.2}, ratio {:>5.2} at {:>6.0} packets/s, {:.2} % lost; \
             loss from {} packets/s (raw {}); latency p50 {} µs p99 {} µs (raw {}, {}); {} bytes an idle member",
            self.shape,
            match self.carrier {
                Carrier::Lane => "lane",
                Carrier::Quic => "quic",
            },
            self.us_per_packet,
            self.raw_us_per_packet,
            self.ratio,
            self.load_packets_per_second,
            self.loss * 100.0,
            or_dash(self.packets_per_second),
            or_dash(self.raw_packets_per_second),
            or_dash(self.latency_p50_us),
            or_dash(self.latency_p99_us),
            or_dash(self.raw_latency_p50_us),
            or_dash(self.raw_latency_p99_us),
            self.idle_member_bytes
                .map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
        )
    }
}

/// Measures every shape over every carrier.
///
/// # Errors
/// When the relay's program is missing or does not do what it should.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Args {
        relay,
        seconds,
        carrier,
        shape,
        no_ramp,
        raw,
        format,
    } = args;
    if raw {
        return raw::serve();
    }
    let bench = measure::Bench {
        program: program(relay)?,
        duration: Duration::from_secs(seconds),
        ramp: !no_ramp,
        cores: Cores::split()?,
    };
    for carrier in [Carrier::Lane, Carrier::Quic]
        .into_iter()
        .filter(|it| carrier.is_none_or(|wanted| wanted == *it))
    {
        for shape in ShapeName::ALL
            .into_iter()
            .filter(|it| shape.is_none_or(|wanted| wanted == *it))
        {
            format.print(&bench.measure(shape, carrier)?)?;
        }
    }
    Ok(())
}

/// The relay that was named, or the one beside this program.
///
/// # Errors
/// When it is not there.
pub(crate) fn program(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let program = match named {
        Some(program) => program,
        None => std::env::current_exe()
            .context("finding this program")?
            .with_file_name("wzp-relay"),
    };
    anyhow::ensure!(
        program.exists(),
        "{} is missing: run `cargo build --release` first, or name the relay with --relay",
        program.display()
    );
    Ok(program)
}
