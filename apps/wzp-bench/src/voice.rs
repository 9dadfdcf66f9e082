//! Recorded speech through every tier and loss, in virtual time: quality, intelligibility, rate and delay.

mod call;
mod chart;
mod judge;

use std::fmt::{self, Write as _};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use wzp_sdk_core::voice::mode::Tier;
use wzp_sdk_core::voice::receiver::Stats;
use wzp_sdk_core::voice::sender::Pauses;

use crate::report::Format;
use crate::speech;
use call::{Call, Outcome};
use judge::Judge;

/// Measures what is left of recorded speech.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with recorded speech, mono WAV files
    #[arg(long, default_value = "target/speech/48k")]
    speech: PathBuf,
    /// Where to put what was heard
    #[arg(long, default_value = "target/bench/voice")]
    out: PathBuf,
    /// Python with PESQ and STOI, as `make setup` makes it
    #[arg(long, default_value = ".venv/bin/python")]
    python: PathBuf,
    /// The script that compares recordings
    #[arg(long, default_value = "tools/quality.py")]
    judge: PathBuf,
    /// One-way delay of the link
    #[arg(long, default_value_t = 20)]
    delay_ms: u64,
    /// Standard deviation of that delay
    #[arg(long, default_value_t = 0)]
    jitter_ms: u64,
    /// The same seed loses the same packets
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Capture goes through the noise suppressor first, as in a call
    #[arg(long)]
    denoise: bool,
    /// Pauses are not sent, as in a call
    #[arg(long)]
    suppress: bool,
    /// A new call for each recording, judged from its first word on
    #[arg(long)]
    fresh: bool,
    /// Only this tier
    #[arg(long, value_parser = tier)]
    tier: Option<Tier>,
    /// Only this share of packets lost, in percent
    #[arg(long)]
    loss: Option<f64>,
    /// Mean number of packets lost in a row; up to 1, each packet is lost on its own
    #[arg(long, value_name = "PACKETS", requires = "loss", default_value_t = 1.0)]
    burst: f64,
    /// Only the first so many recordings
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    clips: usize,
    /// Also write the table as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Also draw the table
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

/// Share of packets lost in percent, and the mean number lost in a row (1: each on its own).
const LINKS: [(f64, f64); 7] = [
    (0.0, 1.0),
    (5.0, 1.0),
    (10.0, 1.0),
    (20.0, 1.0),
    (30.0, 1.0),
    (10.0, 3.0),
    (20.0, 3.0),
];

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
struct Row {
    tier: &'static str,
    loss_percent: f64,
    burst_packets: f64,
    pesq_wb: f64,
    stoi: f64,
    estoi: f64,
    /// With repair, headers, tags, lane, UDP and IPv4.
    wire_kbps: f64,
    codec_kbps: f64,
    /// From mouth to ear, the link's delay included.
    delay_ms: f64,
    /// The part of it that the jitter buffer makes.
    buffer_ms: f64,
    frames_recovered_percent: f64,
    concealed_percent: f64,
    clips: usize,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<13} {:>6.0} {:>6.0} {:>8.2} {:>6.3} {:>6.3} {:>10.1} {:>11.1} {:>9.0} {:>10.0} {:>11.1} {:>11.2}",
            self.tier,
            self.loss_percent,
            self.burst_packets,
            self.pesq_wb,
            self.stoi,
            self.estoi,
            self.wire_kbps,
            self.codec_kbps,
            self.delay_ms,
            self.buffer_ms,
            self.frames_recovered_percent,
            self.concealed_percent,
        )
    }
}

const HEAD: &str = "tier          loss %  burst  PESQ-WB   STOI  ESTOI  wire kbps  codec kbps  delay ms  buffer ms  \
                    recovered %  concealed %";

/// Runs every tier over every link.
///
/// # Errors
/// When speech or the judging script is missing, or a file cannot be written.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Args {
        speech,
        out,
        python,
        judge,
        delay_ms,
        jitter_ms,
        seed,
        denoise,
        suppress,
        fresh,
        tier,
        loss,
        burst,
        clips,
        csv,
        svg,
        format,
    } = args;
    let judge = Judge::new(python, judge)?;
    let mut recordings = speech::clips(&speech)?;
    recordings.truncate(clips.max(1));
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    if !format.is_json() {
        println!("{HEAD}");
    }
    let mut rows = Vec::new();
    let tiers = tier.map_or_else(|| Tier::ALL.to_vec(), |one| vec![one]);
    let links = loss.map_or_else(|| LINKS.to_vec(), |loss| vec![(loss, burst)]);
    for tier in tiers {
        for &(loss_percent, burst_packets) in &links {
            let call = Call {
                tier,
                loss: loss_percent / 100.0,
                burst_packets,
                delay: Duration::from_millis(delay_ms),
                jitter: Duration::from_millis(jitter_ms),
                seed,
                denoise,
                pauses: if suppress { Pauses::Suppress } else { Pauses::Send },
                fresh,
            };
            let folder = out.join(format!("{tier}-{loss_percent}-{burst_packets}"));
            let outcome = call.run(&recordings, &folder)?;
            let row = row(&call, &outcome, &judge)?;
            format.print(&row)?;
            rows.push(row);
        }
    }
    if let Some(path) = csv {
        fs::write(&path, table(&rows)?).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = svg {
        fs::write(&path, chart::draw(&rows)?).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn tier(text: &str) -> Result<Tier, String> {
    let known = Tier::ALL.into_iter().find(|tier| tier.name() == text);
    known.ok_or_else(|| "expected good, degraded or catastrophic".to_owned())
}

fn row(call: &Call, outcome: &Outcome, judge: &Judge) -> anyhow::Result<Row> {
    let scores = judge.mean(&outcome.pairs)?;
    let seconds = outcome.spoken.as_secs_f64();
    let sum = |figure: fn(&Stats) -> u64| outcome.stats.iter().map(figure).sum::<u64>();
    let share = |part, whole| sum(part) as f64 * 100.0 / sum(whole).max(1) as f64;
    let buffer_ms = outcome
        .stats
        .iter()
        .filter_map(|stats| stats.delay_ms)
        .sum::<f64>();
    Ok(Row {
        tier: call.tier.name(),
        loss_percent: call.loss * 100.0,
        burst_packets: call.burst_packets,
        pesq_wb: scores.pesq_wb,
        stoi: scores.stoi,
        estoi: scores.estoi,
        wire_kbps: outcome.wire_bytes as f64 * 8.0 / seconds / 1e3,
        codec_kbps: f64::from(call.tier.codec_bitrate()) / 1e3,
        delay_ms: scores.delay_ms,
        buffer_ms: buffer_ms / outcome.stats.len().max(1) as f64,
        frames_recovered_percent: share(|stats| stats.recovered, |stats| stats.lost),
        concealed_percent: share(|stats| stats.concealed_ms, |stats| stats.played_ms),
        clips: outcome.pairs.len(),
    })
}

fn table(rows: &[Row]) -> anyhow::Result<String> {
    let mut csv = String::new();
    for (index, row) in rows.iter().enumerate() {
        let serde_json::Value::Object(fields) = serde_json::to_value(row).context("writing a row")? else {
            continue;
        };
        if index == 0 {
            let names: Vec<_> = fields.keys().cloned().collect();
            writeln!(csv, "{}", names.join(",")).context("writing a row")?;
        }
        let values: Vec<_> = fields
            .values()
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect();
        writeln!(csv, "{}", values.join(",")).context("writing a row")?;
    }
    Ok(csv)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        LINKS
            .iter()
            .map(|&(loss_percent, burst_packets)| Row {
                tier: "good",
                loss_percent,
                burst_packets,
                pesq_wb: 4.0,
                stoi: 0.9,
                estoi: 0.8,
                wire_kbps: 61.2,
                codec_kbps: 24.0,
                delay_ms: 120.0,
                buffer_ms: 80.0,
                frames_recovered_percent: 50.0,
                concealed_percent: 1.0,
                clips: 10,
            })
            .collect()
    }

    #[test]
    fn the_csv_has_a_head_and_a_line_a_row() {
        let csv = table(&rows()).unwrap();
        let mut lines = csv.lines();
        let head = lines.next().unwrap();
        assert!(head.split(',').any(|name| name == "pesq_wb"));
        assert_eq!(lines.clone().count(), LINKS.len());
        assert!(lines.all(|line| line.split(',').count() == head.split(',').count()));
    }

    #[test]
    fn the_picture_is_well_formed_enough_to_have_a_line_a_tier() {
        let svg = chart::draw(&rows()).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert_eq!(svg.matches("<polyline").count(), 2);
    }
}
