//! A bad link to test with: a UDP proxy that loses, delays, jitters, reorders and limits the rate.

mod flow;
mod proxy;

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use wzp_testkit::{Grade, Jitter, Loss, Profile};

use crate::report::Format;

/// Time constant of the jitter, and the shortest detour, where no grade says otherwise.
const MEMORY: Duration = Duration::from_millis(60);
const DETOUR: Duration = Duration::from_millis(20);
const QUEUE: Duration = Duration::from_millis(250);

/// Carries UDP datagrams between clients and one server, over a bad link each.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where clients send to; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The server behind the link
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// Which way is bad; the other one is perfect
    #[arg(long, value_enum, default_value_t = Direction::Both)]
    direction: Direction,
    /// The same seed loses the same packets
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    badness: Badness,
    #[command(flatten)]
    format: Format,
}

/// Which way is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Direction {
    /// Both, independently
    Both,
    /// From clients to the server
    Up,
    /// From the server to clients
    Down,
}

/// What the link does; each flag replaces what the grade says.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
struct Badness {
    /// A named link quality: good-wifi, congested-wifi, weak-4g, slow-3g, congested-cellular, very-bad, satellite,
    /// barely-usable, absurd
    #[arg(long)]
    grade: Option<Grade>,
    /// Packets lost, in percent
    #[arg(long, value_parser = percent)]
    loss: Option<f64>,
    /// Mean number of packets lost in a row; up to 1, each packet is lost on its own
    #[arg(long, value_name = "PACKETS", requires = "loss", value_parser = run_length)]
    burst: Option<f64>,
    /// One-way delay
    #[arg(long)]
    delay_ms: Option<u64>,
    /// Standard deviation of the delay
    #[arg(long)]
    jitter_ms: Option<u64>,
    /// Packets that take a detour and may be overtaken, in percent
    #[arg(long, value_parser = percent)]
    reorder: Option<f64>,
    /// Rate limit, with a queue of 250 ms in front of it
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate_kbps: Option<u64>,
}

impl Badness {
    fn profile(self) -> Profile {
        let Self {
            grade,
            loss,
            burst,
            delay_ms,
            jitter_ms,
            reorder,
            rate_kbps,
        } = self;
        let mut profile = grade.map(Grade::profile).unwrap_or_default();
        if let Some(loss) = loss {
            profile.loss = match burst {
                Some(mean_run) if mean_run > 1.0 => Loss::Burst {
                    share: loss,
                    mean_run,
                },
                _ => Loss::Independent(loss),
            };
        }
        if let Some(ms) = delay_ms {
            profile.delay = Duration::from_millis(ms);
        }
        if let Some(ms) = jitter_ms {
            profile.jitter = Jitter {
                deviation: Duration::from_millis(ms),
                memory: MEMORY,
                ..Jitter::default()
            };
        }
        if let Some(share) = reorder {
            profile.reorder = share;
            profile.reorder_by = DETOUR.max(profile.jitter.deviation * 2);
        }
        if let Some(kbps) = rate_kbps {
            profile.rate_bps = Some(kbps.saturating_mul(1_000));
            profile.queue = QUEUE;
        }
        profile
    }
}

/// What became of the packets of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Counts {
    sent: u64,
    delivered: u64,
    lost: u64,
    /// Dropped by the rate limit, or because the link holds all it may.
    overflowed: u64,
    reordered: u64,
    duplicated: u64,
}

/// What the proxy says.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    /// Clients can send.
    Listening { address: SocketAddr, to: SocketAddr },
    /// It was told to end.
    Summary { clients: u64, up: Counts, down: Counts },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening { address, to } => write!(f, "listening on {address}, to {to}"),
            Self::Summary { clients, up, down } => {
                write!(f, "clients {clients}\nup      {up}\ndown    {down}")
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            delivered,
            lost,
            overflowed,
            reordered,
            duplicated,
        } = self;
        write!(
            f,
            "{sent} sent, {delivered} delivered, {lost} lost, {overflowed} overflowed, {reordered} reordered, \
             {duplicated} duplicated"
        )
    }
}

/// Carries datagrams until SIGTERM or SIGINT, then prints counts.
///
/// # Errors
/// When an address cannot be found or bound.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Args {
        listen,
        to,
        direction,
        seed,
        badness,
        format,
    } = args;
    let to = to
        .to_socket_addrs()
        .with_context(|| format!("looking up {to}"))?
        .find(|to| to.is_ipv4() == listen.is_ipv4())
        .with_context(|| format!("{to} has no address of the family of {listen}"))?;
    let bad = badness.profile();
    let (up, down) = match direction {
        Direction::Both => (bad, bad),
        Direction::Up => (bad, Profile::default()),
        Direction::Down => (Profile::default(), bad),
    };
    let config = proxy::Config {
        listen,
        to,
        up,
        down,
        seed,
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?
        .block_on(proxy::run(config, |event| format.print(&event)))
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("expected a number from 0 to 100".to_owned()),
    }
}

fn run_length(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(packets) if (0.0..=1_000.0).contains(&packets) => Ok(packets),
        _ => Err("expected a number of packets".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_replace_what_the_grade_says() {
        let badness = Badness {
            grade: Some(Grade::Slow3g),
            loss: Some(0.2),
            burst: Some(3.0),
            ..Badness::default()
        };
        let profile = badness.profile();
        assert_eq!(
            profile,
            Profile {
                loss: Loss::Burst {
                    share: 0.2,
                    mean_run: 3.0
                },
                ..Grade::Slow3g.profile()
            }
        );
    }

    #[test]
    fn no_flags_are_a_perfect_link() {
        assert_eq!(Badness::default().profile(), Profile::default());
    }

    #[test]
    fn percentages_are_percentages() {
        assert_eq!(percent("12.5"), Ok(0.125));
        assert!(percent("101").is_err() && percent("-1").is_err() && percent("NaN").is_err());
    }
}
