//! A call: a member's stay in a room.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc;
use wzp_identity::{Fingerprint, PublicIdentity};
use wzp_sdk_core::{
    call::{self as core, TierChoice},
    carrier::{Carrier, Why},
    paths::{Cause, Role},
    voice::{
        drift::Drift,
        mode::Tier,
        receiver::{self, LastSecond},
    },
};
use wzp_wire::{
    RoomName, SenderId,
    signal::{Reason, proto::NoticeKind},
};

use crate::{
    audio::{Sink, Source},
    client::Stay,
    media::Command,
};

/// What happens to captured sound before it is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processing {
    /// Take noise out (RNNoise). Default on.
    pub denoise: bool,
    /// Take out what the loudspeaker plays, and even out the level. Default off: only a device needs it.
    pub echo_canceller: bool,
    /// Send next to nothing while nobody speaks. Halves the bytes, and shows who watches the link when somebody
    /// speaks. Default on.
    pub suppress_pauses: bool,
}

impl Default for Processing {
    fn default() -> Self {
        Self {
            denoise: true,
            echo_canceller: false,
            suppress_pauses: true,
        }
    }
}

/// How to join a room.
pub struct JoinOptions {
    /// Which room.
    pub room: RoomName,
    /// Which tier to send in.
    pub tier: TierChoice,
    /// The relay returns our own media, and nobody needs to be there.
    pub echo: bool,
    /// What we say.
    pub source: Box<dyn Source>,
    /// What we hear goes there.
    pub sink: Box<dyn Sink>,
    /// What happens to what we say.
    pub processing: Processing,
}

/// Why a call is over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// We left.
    Left,
    /// The relay ended it.
    Refused {
        /// Why, for programs.
        reason: Reason,
        /// Why, for people.
        text: String,
    },
    /// The connection to the relay is gone.
    RelayLost,
    /// The relay did not answer any more, over whichever carrier: it was killed, or the network is gone.
    RelaySilent {
        /// How long it was waited for.
        after: Duration,
    },
}

/// What happens in a call.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Media takes this path from now on.
    Path {
        /// `relay`.
        kind: &'static str,
        /// How datagrams travel on it.
        carrier: Carrier,
        /// Why it does.
        why: Why,
        /// The relay, by its name in its cluster.
        relay: Option<String>,
        /// Why this path carries.
        cause: Cause,
        /// Media takes the path of the standby as well, for now.
        both: bool,
        /// The relay that would take over, by its name in its cluster.
        standby: Option<String>,
    },
    /// One relay of the set that serves the room refused us; the call goes on over the others.
    PathRefused {
        /// Its name in its cluster.
        relay: String,
        /// Why, for programs.
        reason: Reason,
        /// Why, for people.
        text: String,
    },
    /// One relay of the set gave us another sender id than the one that carries, and is not used.
    Disagreement {
        /// Its name in its cluster.
        relay: String,
        /// What it gave us.
        sender: SenderId,
    },
    /// The room is served by other relays, and the call moves to them.
    Moving {
        /// The number of the change; it only rises.
        epoch: u64,
        /// The new set, by their names in the cluster.
        relays: Vec<String>,
    },
    /// A member proved its identity.
    MemberJoined {
        /// Its sender id.
        sender: SenderId,
        /// Who it is.
        fingerprint: Fingerprint,
    },
    /// A member is gone.
    MemberLeft {
        /// Its sender id.
        sender: SenderId,
        /// Who it was.
        fingerprint: Fingerprint,
    },
    /// We send in another tier.
    Tier {
        /// Before.
        from: Tier,
        /// From now on.
        to: Tier,
        /// Why.
        why: &'static str,
    },
    /// We can't open packets of a member; its key was asked for again.
    KeyMismatch {
        /// Whose packets.
        sender: SenderId,
        /// How many so far.
        count: u32,
    },
    /// A member can't open our packets; it got the key again.
    Unheard {
        /// Who.
        sender: SenderId,
        /// How many packets, by its own count.
        count: u32,
    },
    /// A member, or the relay in its name, did what an honest one does not. It was refused.
    Misbehaviour {
        /// Under whose id.
        sender: SenderId,
        /// What it was.
        why: String,
    },
    /// The relay wants users to know something; the call goes on.
    Notice {
        /// What it is about.
        kind: NoticeKind,
        /// For people.
        text: String,
    },
    /// The relay was cut off from the one behind it for long, and the room was entered anew: members proved their
    /// identity before and do so again.
    Rejoined {
        /// Our sender id from now on.
        sender: SenderId,
        /// How many others are there.
        members: usize,
    },
    /// The relay does not answer, over whichever carrier. The call goes on, and ends with [`EndReason::RelaySilent`] when
    /// that lasts for 10 s.
    RelaySilent {
        /// How long nothing has come from it: 3 s, or a little more.
        since: Duration,
    },
    /// The relay answers again after [`Event::RelaySilent`].
    RelayAnswers {
        /// How long nothing had come from it.
        after: Duration,
    },
    /// The source gave everything it had. The call goes on in silence.
    SourceEnded,
    /// The call is over; nothing follows. Its source and sink are dropped by then.
    Ended {
        /// Why.
        reason: EndReason,
    },
}

impl Event {
    /// `None` for what a call answers its owner by other means.
    pub(crate) fn from_core(event: core::Event) -> Option<Self> {
        Some(match event {
            core::Event::Path {
                kind,
                carrier,
                why,
                relay,
                cause,
                both,
                standby,
                ..
            } => Self::Path {
                kind: kind.name(),
                carrier,
                why,
                relay: relay.map(|relay| relay.to_string()),
                cause,
                both,
                standby: standby.map(|relay| relay.to_string()),
            },
            core::Event::PathRefused { relay, reason, text } => Self::PathRefused {
                relay: relay?.to_string(),
                reason,
                text,
            },
            core::Event::Disagreement { relay, sender } => Self::Disagreement {
                relay: relay?.to_string(),
                sender,
            },
            core::Event::Moving { epoch, relays } => Self::Moving {
                epoch: epoch.0,
                relays: relays.iter().map(ToString::to_string).collect(),
            },
            core::Event::MemberJoined { sender, fingerprint } => Self::MemberJoined { sender, fingerprint },
            core::Event::MemberLeft { sender, fingerprint } => Self::MemberLeft { sender, fingerprint },
            core::Event::Tier { from, to, why } => Self::Tier {
                from,
                to,
                why: why.name(),
            },
            core::Event::KeyMismatch { sender, count } => Self::KeyMismatch { sender, count },
            core::Event::Unheard { sender, count } => Self::Unheard { sender, count },
            core::Event::Misbehaviour { sender, why } => Self::Misbehaviour {
                sender,
                why: why.to_string(),
            },
            core::Event::Notice { kind, text } => Self::Notice { kind, text },
            core::Event::Joined { .. } | core::Event::Refused { .. } => return None,
        })
    }
}

/// Figures of a call since it began, brought up to date five times a second.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Media packets sent, repair included.
    pub sent: u64,
    /// Repair packets among them.
    pub repair_sent: u64,
    /// Bytes of the media datagrams sent, without carrier, UDP and IP.
    pub sent_bytes: u64,
    /// Media packets received and opened, repair included.
    pub received: u64,
    /// Repair packets among them.
    pub repair_received: u64,
    /// Bytes of the media datagrams received.
    pub received_bytes: u64,
    /// Packets that could not be opened.
    pub unopened: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// What we put on the wire, everything included: media, repair, signalling, lane or QUIC, UDP and IP.
    pub wire_kbps_up: f64,
    /// What we took from the wire, counted alike.
    pub wire_kbps_down: f64,
    /// Round trip to the relay; `None` while it is silent.
    pub rtt: Option<Duration>,
    /// Level of what we say, in dBov: 0 is the loudest.
    pub level_dbov: f32,
    /// The tier in which we send.
    pub tier: Tier,
    /// What carries.
    pub carrier: Carrier,
    /// Why it does.
    pub carrier_why: Why,
    /// Every relay that the call is connected to, and what for.
    pub paths: Vec<PathStats>,
    /// Since the call began.
    pub elapsed: Duration,
    /// Everybody who was heard and is still there, and everybody whose packets could not be opened: of one who was never
    /// heard, all counts but `key_mismatch` are zero.
    pub remotes: Vec<RemoteStats>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            sent: 0,
            repair_sent: 0,
            sent_bytes: 0,
            received: 0,
            repair_received: 0,
            received_bytes: 0,
            unopened: 0,
            duplicates: 0,
            wire_kbps_up: 0.0,
            wire_kbps_down: 0.0,
            rtt: None,
            level_dbov: -96.0,
            tier: Tier::Good,
            carrier: Carrier::Lane,
            carrier_why: Why::Waiting,
            paths: Vec::new(),
            elapsed: Duration::ZERO,
            remotes: Vec::new(),
        }
    }
}

/// One relay that a call is connected to.
#[derive(Debug, Clone, PartialEq)]
pub struct PathStats {
    /// Its name in its cluster; `None`: it is in none.
    pub relay: Option<String>,
    /// Where it is.
    pub address: SocketAddr,
    /// How datagrams travel.
    pub carrier: Carrier,
    /// Why they do.
    pub carrier_why: Why,
    /// What it is for.
    pub role: Role,
    /// Round trip; `None` while it is silent.
    pub rtt: Option<Duration>,
}

/// How one member is heard.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteStats {
    /// Its sender id.
    pub sender: SenderId,
    /// Who it is, once it proved that.
    pub fingerprint: Option<Fingerprint>,
    /// Packets with frames or comfort noise that came.
    pub received: u64,
    /// Such packets that did not.
    pub lost: u64,
    /// Frames that repair brought back in time.
    pub recovered: u64,
    /// Frames that came too late.
    pub late: u64,
    /// Sound that was invented for want of a frame.
    pub concealed_ms: u64,
    /// Longest stretch of it, also of one that goes on.
    pub longest_gap_ms: u64,
    /// Interarrival jitter (RFC 3550); `None` before the second packet.
    pub jitter_ms: Option<f64>,
    /// Mean delay of the jitter buffer, beyond the fastest path; `None` before it said anything.
    pub delay_ms: Option<f64>,
    /// Mean opinion score by the E-model, 1.0 to 4.5; `None` before it said anything.
    pub mos: Option<f64>,
    /// Delay and score of the last second alone; `None` in a pause.
    pub last_second: LastSecond,
    /// Its clock against ours and the error of that, in parts per million.
    pub drift: Option<(f64, f64)>,
    /// Packets of it that could not be opened.
    pub key_mismatch: u32,
    /// The tier that it asks us for, or needs by its loss, where that is less than we send: in rooms of more than three,
    /// one member alone does not get it.
    pub asks_for: Option<Tier>,
}

impl RemoteStats {
    /// Figures of a member of whom nothing came.
    pub fn new(sender: SenderId) -> Self {
        let remote = core::RemoteStats {
            sender,
            stats: receiver::Stats::default(),
            drift: None,
            key_mismatch: 0,
            asks_for: None,
        };
        Self::from_core(None, &remote)
    }

    pub(crate) fn from_core(public: Option<&PublicIdentity>, remote: &core::RemoteStats) -> Self {
        let stats = &remote.stats;
        Self {
            sender: remote.sender,
            fingerprint: public.map(PublicIdentity::fingerprint),
            received: stats.received,
            lost: stats.lost,
            recovered: stats.recovered,
            late: stats.late,
            concealed_ms: stats.concealed_ms,
            longest_gap_ms: stats.longest_gap_ms,
            jitter_ms: stats.jitter_ms,
            delay_ms: stats.delay_ms,
            mos: stats.mos,
            last_second: stats.last_second,
            drift: remote
                .drift
                .as_ref()
                .map(|&Drift { ppm, error_ppm }| (ppm, error_ppm)),
            key_mismatch: remote.key_mismatch,
            asks_for: remote.asks_for,
        }
    }
}

/// A stay in a room. Dropping it leaves the room.
pub struct Call {
    pub(crate) stay: Stay,
    pub(crate) sender: SenderId,
    pub(crate) members: usize,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) stats: Arc<Mutex<Stats>>,
}

impl Call {
    /// Our sender id in the room, as of the events that were taken so far.
    pub fn sender(&self) -> SenderId {
        self.sender
    }

    /// How many others were there when we came.
    pub fn members_at_join(&self) -> usize {
        self.members
    }

    /// The next thing that happens; `None` after [`Event::Ended`]. Cancel-safe.
    pub async fn event(&mut self) -> Option<Event> {
        let event = self.events.recv().await;
        if let Some(Event::Rejoined { sender, .. }) = event {
            self.sender = sender;
        }
        event
    }

    /// Figures since the call began.
    pub fn stats(&self) -> Stats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends in another tier from now on.
    pub fn set_tier(&self, tier: TierChoice) {
        self.stay.0.media.tell(Command::SetTier(tier));
    }

    /// Leaves the room and returns the last figures. Not cancel-safe: the call is over either way.
    ///
    /// At once: who wants the last words repaired where they were lost waits half a second after
    /// [`Event::SourceEnded`].
    pub async fn leave(mut self) -> Stats {
        self.stay.0.media.tell(Command::Leave);
        while let Some(event) = self.events.recv().await {
            if matches!(event, Event::Ended { .. }) {
                break;
            }
        }
        self.stats()
    }
}
