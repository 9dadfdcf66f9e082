//! `--sweep`: what loss and jitter do to speech in every tier, with every jitter buffer, over a simulated link.
//!
//! The sending and receiving halves are those of a call; only the link and the clock are made up, so a minute of sound
//! takes a second and the same seed gives the same table.

mod simulate;
mod svg;
mod table;

use std::{
    fmt,
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use serde::Serialize;
use wzp_sdk::{Tier, core::voice::jitter, wav};

use crate::{
    call::unreadable,
    exit::{Failure, chain},
    replacement::Replacement,
    report::{Event, Notice, Report},
    speech::SpeechLike,
};

/// Sound that each case hears unless the user says otherwise.
pub(crate) const TIME: Duration = Duration::from_secs(10);
/// Where `make setup` puts recorded speech.
const RECORDED: &str = "target/speech/48k";
const RATE_HZ: usize = 48_000;
const SAMPLES_PER_MS: usize = RATE_HZ / 1_000;

/// What to try.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) speech: Option<PathBuf>,
    pub(crate) time: Duration,
    pub(crate) tiers: Vec<Tier>,
    pub(crate) loss_percent: Vec<u8>,
    pub(crate) jitter_ms: Vec<u16>,
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) seed: u64,
    pub(crate) csv: Option<PathBuf>,
    pub(crate) svg: Option<PathBuf>,
}

/// A jitter buffer to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Buffer {
    /// As in a call.
    Auto,
    /// One delay beyond the fastest packet, in milliseconds.
    Fixed(u16),
}

impl Buffer {
    fn config(self) -> jitter::Config {
        match self {
            Self::Auto => jitter::Config::default(),
            Self::Fixed(ms) => {
                let delay = Duration::from_millis(ms.into());
                // It starts at its largest delay and rests there for longer than any sweep.
                jitter::Config {
                    start: delay,
                    cap: delay,
                    rest: Duration::from_secs(86_400),
                    ..jitter::Config::default()
                }
            }
        }
    }
}

impl fmt::Display for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Fixed(ms) => f.pad(&format!("{ms} ms")),
        }
    }
}

impl FromStr for Buffer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match (text, text.parse::<u16>()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(ms @ 10..=1_000)) => Ok(Self::Fixed(ms)),
            _ => Err("a buffer is auto, or a delay from 10 to 1000 ms"),
        }
    }
}

/// One case.
#[derive(Debug, Clone, Copy)]
struct Case {
    tier: Tier,
    loss_percent: u8,
    jitter_ms: u16,
    buffer: Buffer,
}

/// What became of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    #[serde(serialize_with = "name")]
    tier: Tier,
    loss_percent: u8,
    jitter_ms: u16,
    #[serde(serialize_with = "name")]
    buffer: Buffer,
    /// With repair, headers, tags, lane, UDP and IPv4.
    wire_kbps: f64,
    /// Source packets that the link took.
    lost_percent: f64,
    /// Frames that repair brought back, in percent of what was sent.
    recovered_percent: f64,
    late_percent: f64,
    concealed_percent: f64,
    longest_gap_ms: u64,
    /// Mean delay of the buffer, beyond the fastest packet.
    delay_ms: f64,
    /// By the E-model, for a path of 50 ms.
    mos: f64,
}

fn name<S: serde::Serializer>(value: &impl fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// Runs every case and prints, writes and draws what became of it.
///
/// # Errors
/// [`Failure`] for a file that cannot be read or written.
pub(crate) fn run(options: &Options, report: &Report) -> Result<(), Failure> {
    let csv = options
        .csv
        .as_deref()
        .map(|file| create("--csv", file))
        .transpose()?;
    let svg = options
        .svg
        .as_deref()
        .map(|file| create("--svg", file))
        .transpose()?;
    let (speech, origin) = load(options)?;
    report.notice(Notice::Sweep {
        speech: origin,
        speech_ms: (speech.len() / SAMPLES_PER_MS) as u64,
    });
    let rows = simulate::all(&cases(options), &speech, options.seed, |done, of| {
        report.progress(&format!("case {done} of {of}"));
    })?;
    for row in &rows {
        report.event(&Event::Sweep(row));
    }
    let text = table::text(&rows);
    report.event(&Event::Table { text: &text });
    for (file, content) in [(csv, table::csv as fn(&[Row]) -> String), (svg, svg::draw)] {
        let Some(Output {
            path,
            mut file,
            mut replacement,
        }) = file
        else {
            continue;
        };
        let written = file
            .write_all(content(&rows).as_bytes())
            .and_then(|()| file.flush())
            .and_then(|()| replacement.keep());
        written.map_err(|e| Failure::failed(format!("{} cannot be written: {e}", path.display())))?;
    }
    Ok(())
}

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    for &tier in &options.tiers {
        for &jitter_ms in &options.jitter_ms {
            for &loss_percent in &options.loss_percent {
                let case = |&buffer| Case {
                    tier,
                    loss_percent,
                    jitter_ms,
                    buffer,
                };
                cases.extend(options.buffers.iter().map(case));
            }
        }
    }
    cases
}

struct Output {
    path: PathBuf,
    file: BufWriter<File>,
    replacement: Replacement,
}

/// Opened before the work, so that nothing is computed in vain; what is there stays until there is something better.
fn create(flag: &str, path: &Path) -> Result<Output, Failure> {
    let unwritable = |e| Failure::usage(format!("{flag} {}: {e}", path.display()));
    let replacement = Replacement::begin(path).map_err(unwritable)?;
    let file = File::create(replacement.path()).map_err(unwritable)?;
    Ok(Output {
        path: path.into(),
        file: BufWriter::new(file),
        replacement,
    })
}

/// The sound to send, and what it is.
fn load(options: &Options) -> Result<(Vec<f32>, String), Failure> {
    let samples = usize::try_from(options.time.as_secs())
        .unwrap_or(usize::MAX)
        .saturating_mul(RATE_HZ);
    let recorded = match &options.speech {
        Some(file) => vec![file.clone()],
        None => recordings(Path::new(RECORDED)),
    };
    let mut speech = Vec::new();
    for file in &recorded {
        if speech.len() >= samples {
            break;
        }
        append(file, samples, &mut speech).map_err(|e| unreadable(file, &e))?;
    }
    let origin = match (&options.speech, speech.is_empty()) {
        (Some(file), _) => file.display().to_string(),
        (None, false) => format!("recordings in {RECORDED}"),
        (None, true) => {
            speech = speech_like(samples);
            format!("made, because there are no recordings in {RECORDED}; --send-file names one")
        }
    };
    Ok((speech, origin))
}

fn recordings(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|ext| ext == "wav"))
        .collect();
    files.sort();
    files
}

fn append(file: &Path, samples: usize, speech: &mut Vec<f32>) -> Result<(), wav::ReadError> {
    let mut reader = wav::Reader::open(file)?;
    let mut piece = [0.0; 480];
    while speech.len() < samples {
        let read = reader.read(&mut piece)?;
        if read == 0 {
            break;
        }
        speech.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
    Ok(())
}

fn speech_like(samples: usize) -> Vec<f32> {
    let mut source = SpeechLike::new(1);
    let mut speech = Vec::with_capacity(samples);
    while speech.len() < samples {
        let mut frame = [0.0; 480];
        source.fill(&mut frame);
        speech.extend_from_slice(&frame);
    }
    speech
}

/// A codec library that refuses its own modes is a fault of this program.
fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::failed(chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_auto_or_a_delay() {
        assert_eq!("auto".parse(), Ok(Buffer::Auto));
        assert_eq!("60".parse(), Ok(Buffer::Fixed(60)));
        for bad in ["", "9", "1001", "60ms", "-1"] {
            assert!(bad.parse::<Buffer>().is_err(), "{bad}");
        }
    }
}
