//! From connecting to the first decrypted and decoded sound, with the SDK, in a room that is full already.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use tokio::sync::mpsc;
use wzp_sdk::audio::{Discard, Frame, Silence, Sink, Source, Tone};
use wzp_sdk::{Call, Client, JoinOptions, Processing, RoomName, Tier, TierChoice, Trust};

use crate::relay::{self, Process};
use crate::report::Format;

/// A tone is heard when a sample of it is as loud as this.
const AUDIBLE: f32 = 0.02;
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two newcomers: others take a new key when somebody leaves, at most once a second.
const REST: Duration = Duration::from_millis(1_200);

/// Measures how fast one is in a call.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The relay's program [default: wzp-relay beside this one]
    #[arg(long, value_name = "FILE")]
    relay: Option<PathBuf>,
    /// Members of the room, the newcomer included
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=200))]
    members: u32,
    /// Members who talk
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    talkers: u32,
    /// How often to join
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    #[command(flatten)]
    format: Format,
}

/// What joining took, in milliseconds since connecting began.
#[derive(Debug, Serialize)]
struct Row {
    members: u32,
    talkers: u32,
    times: usize,
    connected_p50_ms: f64,
    joined_p50_ms: f64,
    first_sound_p50_ms: f64,
    first_sound_p95_ms: f64,
    first_sound_max_ms: f64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "room of {} with {} talkers, {} joins: connected {:.1} ms, joined {:.1} ms, first sound p50 {:.1} ms, \
             p95 {:.1} ms, at most {:.1} ms",
            self.members,
            self.talkers,
            self.times,
            self.connected_p50_ms,
            self.joined_p50_ms,
            self.first_sound_p50_ms,
            self.first_sound_p95_ms,
            self.first_sound_max_ms
        )
    }
}

/// Fills a room and joins it again and again.
///
/// # Errors
/// When the relay is missing, refuses, or nothing is heard.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let program = relay::program(args.relay.clone())?;
    let process = Process::relay(&program, None)?;
    let known = std::env::temp_dir().join(format!("wzp-bench-known-relays-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the event loop")?;
    let row = runtime.block_on(measure(&args, &process.address.to_string(), &known));
    // The file was ours alone; if it is not there, nobody connected.
    let _ = std::fs::remove_file(&known);
    args.format.print(&row?)
}

async fn measure(args: &Args, relay: &str, known: &Path) -> anyhow::Result<Row> {
    let mut room = Vec::new();
    for number in 1..args.members {
        let source: Box<dyn Source> = if number <= args.talkers {
            Box::new(Tone::new(300.0 + 100.0 * number as f32, 0.3, u64::MAX))
        } else {
            Box::new(Silence)
        };
        let pauses = number > args.talkers;
        let client = connect(relay, known).await?;
        let call = join(&client, source, Box::new(Discard), pauses).await?;
        room.push((client, call));
    }
    let (mut connected, mut joined, mut heard) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.times {
        tokio::time::sleep(REST).await;
        let (ear, mut first) = Ear::new();
        let began = Instant::now();
        let client = connect(relay, known).await?;
        connected.push(ms(began, Instant::now()));
        let call = join(&client, Box::new(Silence), Box::new(ear), true).await?;
        joined.push(ms(began, Instant::now()));
        let at = tokio::time::timeout(PATIENCE, first.recv())
            .await
            .context("nothing was heard within ten seconds")?
            .context("the call ended before anything was heard")?;
        heard.push(ms(began, at));
        call.leave().await;
        client.close().await;
    }
    for times in [&mut connected, &mut joined, &mut heard] {
        times.sort_by(f64::total_cmp);
    }
    Ok(Row {
        members: args.members,
        talkers: args.talkers,
        times: heard.len(),
        connected_p50_ms: percentile(&connected, 0.5),
        joined_p50_ms: percentile(&joined, 0.5),
        first_sound_p50_ms: percentile(&heard, 0.5),
        first_sound_p95_ms: percentile(&heard, 0.95),
        first_sound_max_ms: percentile(&heard, 1.0),
    })
}

async fn connect(relay: &str, known: &Path) -> anyhow::Result<Client> {
    Client::builder()
        .relay(relay)
        .trust(Trust::KnownRelays(known.to_owned()))
        .connect()
        .await
        .context("connecting")
}

async fn join(
    client: &Client,
    source: Box<dyn Source>,
    sink: Box<dyn Sink>,
    suppress_pauses: bool,
) -> anyhow::Result<Call> {
    let options = JoinOptions {
        room: RoomName::parse("bench").context("naming a room")?,
        tier: TierChoice::Fixed(Tier::Good),
        echo: false,
        source,
        sink,
        processing: Processing {
            // A tone is noise to the suppressor.
            denoise: false,
            suppress_pauses,
            ..Processing::default()
        },
    };
    client.join(options).await.context("joining")
}

/// Says when it first hears something.
struct Ear(Option<mpsc::UnboundedSender<Instant>>);

impl Ear {
    fn new() -> (Self, mpsc::UnboundedReceiver<Instant>) {
        let (say, first) = mpsc::unbounded_channel();
        (Self(Some(say)), first)
    }
}

impl Sink for Ear {
    fn write(&mut self, frame: &Frame) {
        if frame.iter().any(|sample| sample.abs() > AUDIBLE)
            && let Some(say) = self.0.take()
        {
            // Whoever waited has given up.
            let _ = say.send(Instant::now());
        }
    }
}

fn ms(from: Instant, to: Instant) -> f64 {
    to.duration_since(from).as_secs_f64() * 1e3
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}
