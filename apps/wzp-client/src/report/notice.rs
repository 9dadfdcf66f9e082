//! What people should know while a call goes on, with its facts as fields for programs.

use std::fmt;

use serde::Serialize;
use wzp_sdk::Event as Happened;
use wzp_wire::signal::proto::NoticeKind;

/// What happened. The names of variants and fields are those in JSON; `Display` is the text for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Notice {
    /// There is no identity file.
    Identity,
    FirstVisit {
        relay: String,
        certificate: String,
    },
    KeyMismatch {
        sender: u16,
        count: u32,
    },
    Unheard {
        sender: u16,
        count: u32,
    },
    Misbehaviour {
        sender: u16,
        why: String,
    },
    UpstreamLost {
        #[serde(skip)]
        said: String,
    },
    UpstreamRestored {
        #[serde(skip)]
        said: String,
    },
    /// The relay said something that this program does not know.
    Relay {
        #[serde(skip)]
        said: String,
    },
    Rejoined {
        sender: u16,
        members: usize,
    },
    RelaySilent {
        relay: String,
        silent_ms: u64,
    },
    RelayAnswers {
        relay: String,
        silent_ms: u64,
    },
    /// One relay of a cluster does not want us; the call goes on.
    PathRefused {
        relay: String,
        why: String,
    },
    /// The room is served by other relays.
    Moving {
        epoch: u64,
        relays: Vec<String>,
    },
    Recording {
        file: String,
        why: String,
    },
    /// What a sweep hears.
    Sweep {
        speech: String,
        speech_ms: u64,
    },
}

impl Notice {
    /// What people should know of what happened in a call by this relay; `None` for what other events tell.
    pub(crate) fn of(happened: Happened, relay: &str) -> Option<Self> {
        let relay = relay.to_owned();
        Some(match happened {
            Happened::KeyMismatch { sender, count } => Self::KeyMismatch {
                sender: sender.get(),
                count,
            },
            Happened::Unheard { sender, count } => Self::Unheard {
                sender: sender.get(),
                count,
            },
            Happened::Misbehaviour { sender, why } => Self::Misbehaviour {
                sender: sender.get(),
                why,
            },
            Happened::Rejoined { sender, members } => Self::Rejoined {
                sender: sender.get(),
                members,
            },
            Happened::RelaySilent { since } => Self::RelaySilent {
                relay,
                silent_ms: since.as_millis() as u64,
            },
            Happened::RelayAnswers { after } => Self::RelayAnswers {
                relay,
                silent_ms: after.as_millis() as u64,
            },
            Happened::PathRefused { relay, text, .. } => Self::PathRefused { relay, why: text },
            Happened::Disagreement { relay, sender } => Self::PathRefused {
                relay,
                why: format!("it gave us another number, s{sender}"),
            },
            Happened::Moving { epoch, relays } => Self::Moving { epoch, relays },
            Happened::Notice { text, .. } if text.is_empty() => return None,
            Happened::Notice { kind, text: said } => match kind {
                NoticeKind::UpstreamLost => Self::UpstreamLost { said },
                NoticeKind::UpstreamRestored => Self::UpstreamRestored { said },
                NoticeKind::Unspecified => Self::Relay { said },
            },
            // What the other events tell of.
            _ => return None,
        })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => f.write_str(
                "no identity file: this call has an identity of its own (`wzp-client identity new` makes one that stays)",
            ),
            Self::FirstVisit { relay, certificate } => write!(
                f,
                "first visit to relay {relay}, its certificate {certificate} is remembered"
            ),
            Self::KeyMismatch { sender, count } => write!(
                f,
                "{count} packets of s{sender} cannot be opened yet; its key was asked for again"
            ),
            Self::Unheard { sender, count } => write!(
                f,
                "s{sender} could not open {count} of our packets; it got the key again"
            ),
            Self::Misbehaviour { sender, why } => write!(f, "s{sender} was refused: {why}"),
            Self::UpstreamLost { said } | Self::UpstreamRestored { said } | Self::Relay { said } => {
                f.write_str(said)
            }
            Self::Rejoined { members, .. } => write!(
                f,
                "entered the room anew, with {members} other(s): the relay was cut off from the one behind it"
            ),
            Self::RelaySilent { relay, silent_ms } => {
                write!(f, "relay {relay} has not answered for {} s", silent_ms / 1_000)
            }
            Self::RelayAnswers { relay, silent_ms } => {
                let secs = *silent_ms as f64 / 1_000.0;
                write!(f, "relay {relay} answers again, after {secs:.1} s")
            }
            Self::PathRefused { relay, why } => {
                write!(f, "relay {relay} is not used: {why}; the call goes on over the others")
            }
            Self::Moving { relays, .. } => write!(f, "the room moves to {}", relays.join(", ")),
            Self::Recording { file, why } => write!(
                f,
                "recording into {file} stopped: {why}; what was written until then can be played"
            ),
            Self::Sweep { speech, speech_ms } => {
                write!(f, "speech: {speech}, {:.1} s", *speech_ms as f64 / 1_000.0)
            }
        }
    }
}
