//! What the program says on standard output: lines for people, or one JSON object a line.

mod notice;
#[cfg(test)]
mod tests;
mod text;

use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use serde::Serialize;
use wzp_sdk::{RemoteStats, Stats};

pub(crate) use self::notice::Notice;
use crate::status::{self, Status};

/// Who reads standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Writes events as they happen.
#[derive(Debug)]
pub(crate) struct Report {
    format: Format,
    status: Status,
}

impl Report {
    pub(crate) fn new(format: Format) -> Self {
        let status = match format {
            Format::Text => Status::new(),
            Format::Json => Status::hidden(),
        };
        Self { format, status }
    }

    /// Writes one event, if whoever reads wants it.
    pub(crate) fn event(&self, event: &Event<'_>) {
        let line = match self.format {
            Format::Json => serde_json::to_string(event).ok(),
            Format::Text => text::lines(event),
        };
        let Some(line) = line else { return };
        self.status.clear();
        // A reader that went away ends nothing: a call goes on until it is told to end.
        let _ = writeln!(io::stdout(), "{line}");
    }

    /// Writes what people should know.
    pub(crate) fn notice(&self, notice: Notice) {
        let text = notice.to_string();
        self.event(&Event::Notice { notice, text });
    }

    /// One second of a call: an event, and the status line.
    pub(crate) fn second(&self, second: &Second) {
        self.event(&Event::Stats(second));
        self.status.show(&status::line(second));
    }

    /// What is being done now, on a terminal only.
    pub(crate) fn progress(&self, text: &str) {
        self.status.show(text);
    }
}

/// Everything that standard output can say. The names of variants and fields are those in JSON.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// We are in the room.
    Connected {
        room: &'a str,
        fingerprint: String,
        sender: u16,
        relay: &'a str,
        address: String,
        carrier: &'a str,
        /// Others in the room.
        members: usize,
    },
    /// Media travels another way from now on.
    Path {
        kind: &'a str,
        relay: &'a str,
        address: String,
        carrier: &'a str,
        why: &'a str,
        /// In a cluster: why this relay carries.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<&'a str>,
        /// In a cluster: whether the standby carries as well, for now.
        #[serde(skip_serializing_if = "Option::is_none")]
        both: Option<bool>,
        /// In a cluster: which relay would take over.
        #[serde(skip_serializing_if = "Option::is_none")]
        standby: Option<&'a str>,
    },
    /// Somebody came (`"joined": true`) or went (`"left": true`).
    Member {
        fingerprint: String,
        sender: u16,
        #[serde(skip_serializing_if = "Option::is_none")]
        joined: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        left: Option<bool>,
    },
    Tier {
        from: &'a str,
        to: &'a str,
        why: &'a str,
    },
    /// Once a second.
    Stats(&'a Second),
    /// At the end, also of a call that failed.
    Summary(&'a Summary),
    /// Something that people should know; the call goes on.
    Notice {
        #[serde(flatten)]
        notice: Notice,
        text: String,
    },
    /// One second of an echo test.
    Quality {
        second: u64,
        rtt_ms: Option<f64>,
        /// From mouth to ear and back, codecs and jitter buffer included.
        echo_ms: Option<u32>,
        loss_percent: f64,
        jitter_ms: Option<f64>,
        delay_ms: Option<f64>,
        concealed_ms: u64,
        mos: Option<f64>,
    },
    /// How fast a member's clock runs; positive is faster than ours.
    Drift {
        fingerprint: String,
        own: bool,
        ppm: f64,
        error_ppm: f64,
    },
    /// What a test amounts to.
    Verdict { verdict: &'a str, text: String },
    Identity {
        fingerprint: String,
        public_key: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<&'a Path>,
        #[serde(skip_serializing_if = "Option::is_none")]
        phrase: Option<&'a str>,
    },
    SafetyNumber {
        fingerprint: String,
        own_fingerprint: String,
        safety_number: String,
    },
    /// A row of a sweep.
    Sweep(&'a crate::sweep::Row),
    /// All rows of a sweep, for people.
    #[serde(skip)]
    Table { text: &'a str },
    /// Why the program ends with this exit code; also said on standard error.
    Error { text: &'a str, exit_code: u8 },
}

/// Figures of the second that just passed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Second {
    #[serde(rename = "elapsed_ms", serialize_with = "millis")]
    pub(crate) elapsed: Duration,
    pub(crate) level_dbov: f64,
    pub(crate) rtt_ms: Option<f64>,
    /// Lost before repair, in this second.
    pub(crate) loss_percent: f64,
    pub(crate) jitter_ms: Option<f64>,
    /// In this second, like what follows; nobody may have said anything.
    pub(crate) delay_ms: Option<f64>,
    pub(crate) concealed_ms: u64,
    pub(crate) mos: Option<f64>,
    pub(crate) tier: &'static str,
    pub(crate) carrier: &'static str,
}

fn millis<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

impl Second {
    /// What changed from one second to the next. Of several members the worst is told.
    pub(crate) fn between(before: &Stats, now: &Stats) -> Self {
        let is = Heard::of(now);
        let grown = |count| grown(count, before, now);
        let (lost, received) = (grown(|remote| remote.lost), grown(|remote| remote.received));
        Self {
            elapsed: now.elapsed,
            level_dbov: tenths(now.level_dbov.max(-100.0).into()),
            rtt_ms: rtt_ms(now),
            loss_percent: tenths(100.0 * lost as f64 / (lost + received).max(1) as f64),
            jitter_ms: is.jitter_ms.map(tenths),
            delay_ms: is.last_delay_ms.map(tenths),
            concealed_ms: grown(|remote| remote.concealed_ms),
            mos: is.last_mos.map(tenths),
            tier: now.tier.name(),
            carrier: now.carrier.name(),
        }
    }
}

/// By how much a count of those who are there grew, for each by itself: whoever left takes nothing from the others.
fn grown(count: fn(&RemoteStats) -> u64, before: &Stats, now: &Stats) -> u64 {
    let of = |is: &RemoteStats| {
        // An id that begins anew belongs to somebody else.
        let goes_on = |was: &&RemoteStats| was.sender == is.sender && was.received <= is.received;
        let was = before.remotes.iter().find(goes_on);
        count(is).saturating_sub(was.map_or(0, count))
    };
    now.remotes.iter().map(of).sum()
}

/// All members that are heard, taken together: counts are added, of everything else the worst counts.
#[derive(Debug, Default)]
struct Heard {
    received: u64,
    lost: u64,
    recovered: u64,
    late: u64,
    concealed_ms: u64,
    longest_gap_ms: u64,
    jitter_ms: Option<f64>,
    delay_ms: Option<f64>,
    last_delay_ms: Option<f64>,
    last_mos: Option<f64>,
}

impl Heard {
    fn of(stats: &Stats) -> Self {
        let mut heard = Self::default();
        for remote in &stats.remotes {
            heard.received += remote.received;
            heard.lost += remote.lost;
            heard.recovered += remote.recovered;
            heard.late += remote.late;
            heard.concealed_ms += remote.concealed_ms;
            heard.longest_gap_ms = heard.longest_gap_ms.max(remote.longest_gap_ms);
            worst(&mut heard.jitter_ms, remote.jitter_ms, f64::max);
            worst(&mut heard.delay_ms, remote.delay_ms, f64::max);
            worst(&mut heard.last_delay_ms, remote.last_second.delay_ms, f64::max);
            worst(&mut heard.last_mos, remote.last_second.mos, f64::min);
        }
        heard
    }
}

/// Of whom nothing is known is not the worst.
fn worst(of_all: &mut Option<f64>, of_one: Option<f64>, pick: fn(f64, f64) -> f64) {
    *of_all = [*of_all, of_one].into_iter().flatten().reduce(pick);
}

/// The whole call.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// Source packets, like all counts but those of repair.
    sent: u64,
    repair_sent: u64,
    received: u64,
    repair_received: u64,
    lost: u64,
    recovered: u64,
    concealed_ms: u64,
    late: u64,
    rtt_ms: Option<f64>,
    jitter_ms: Option<f64>,
    /// Mean delay of the jitter buffer.
    delay_ms: Option<f64>,
    wire_kbps_up: f64,
    wire_kbps_down: f64,
    tier: &'static str,
    room: String,
    fingerprint: String,
    longest_gap_ms: u64,
}

impl Summary {
    pub(crate) fn new(stats: &Stats, room: &str, fingerprint: String) -> Self {
        let heard = Heard::of(stats);
        Self {
            sent: stats.sent.saturating_sub(stats.repair_sent),
            repair_sent: stats.repair_sent,
            // Of those who are counted in `lost`, no more and no less.
            received: heard.received,
            repair_received: stats.repair_received,
            lost: heard.lost,
            recovered: heard.recovered,
            concealed_ms: heard.concealed_ms,
            late: heard.late,
            rtt_ms: rtt_ms(stats),
            jitter_ms: heard.jitter_ms.map(tenths),
            delay_ms: heard.delay_ms.map(tenths),
            wire_kbps_up: tenths(stats.wire_kbps_up),
            wire_kbps_down: tenths(stats.wire_kbps_down),
            tier: stats.tier.name(),
            room: room.to_owned(),
            fingerprint,
            longest_gap_ms: heard.longest_gap_ms,
        }
    }
}

/// Round trip to the relay; on one machine it is a few hundredths.
fn rtt_ms(stats: &Stats) -> Option<f64> {
    stats.rtt.map(|rtt| (rtt.as_secs_f64() * 1e5).round() / 100.0)
}

/// More digits than were measured only hide what was.
pub(crate) fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
