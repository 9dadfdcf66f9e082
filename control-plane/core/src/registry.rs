//! The relays as this replica hears of them.
//!
//! A relay is *joining* (its carried state is on the way), *checking* (its addresses are being verified), *listed*,
//! *silent* (off the list, its rooms stay) or *lost* (its rooms move). It is lost when three heartbeats are missing
//! **and** no living relay reached it for as long, one of them saying so or none being able to tell. A broken stream
//! alone moves nothing. When nobody at all is heard any more it is this replica that is deaf, and everything stays.

use std::{net::SocketAddr, time::Duration};

use wzp_wire::{Instant, RelayId};

use crate::{
    load::Load,
    mesh::Mesh,
    placement::Snapshot,
    relay::{AddressReport, BootId, Capacity, Heartbeat, Hello, Place, Probe, StreamId},
};

/// What the registry goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often relays are told to be heard; three missing are too many. 2 s.
    pub heartbeat: Duration,
    /// How long an order to check addresses may take. 1.5 s.
    pub check_timeout: Duration,
    /// After the start, relays that rows of the database name are waited for. 10 s.
    pub settle: Duration,
    /// A clock off by more is noted. 2 s.
    pub clock_noted: Duration,
    /// A relay whose clock is off by more is refused: grants would mean nothing to it. 5 min.
    pub clock_refused: Duration,
    /// The protocol versions that this replica speaks.
    pub protocol: std::ops::RangeInclusive<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(2),
            check_timeout: Duration::from_millis(1_500),
            settle: Duration::from_secs(10),
            clock_noted: Duration::from_secs(2),
            clock_refused: Duration::from_secs(300),
            protocol: 1..=1,
        }
    }
}

/// Where a relay stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// Awaits [`Registry::handle_synced`].
    Joining,
    /// Awaits that somebody reaches each of its addresses.
    Checking {
        /// What is in the way, for people.
        why_not: Option<String>,
    },
    /// Clients are told of it.
    Listed {
        /// How it is to be taken.
        offer: Offer,
    },
    /// Off the list: its stream is gone, or it says nothing, and nobody reaches it; its rooms are still its own.
    Silent,
    /// Its rooms are given to others. It is forgotten after a while.
    Lost,
}

/// How a listed relay is to be taken by clients and placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Offer {
    /// Without restraint.
    Active,
    /// Only if others are worse: highly loaded, often lost lately, or heard of by its peers only.
    Avoid,
    /// Only if there is no other: it is being emptied.
    Draining,
}

/// What is to be done, or told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Have these addresses tried, and give the result to [`Registry::handle_address_report`].
    CheckAddress {
        /// Who tries.
        by: Checker,
        /// Whose they are.
        relay: RelayId,
        /// Each one.
        addresses: Vec<SocketAddr>,
        /// SHA-256 of those that it may show.
        certificates: Vec<[u8; 32]>,
    },
    /// A relay stands elsewhere than before.
    StateChanged {
        /// Which one.
        relay: RelayId,
        /// Where it stands now.
        state: State,
    },
    /// What clients and relays are told of relays is another from now on.
    ListChanged {
        /// Of the list as it is now; rises, over restarts as well.
        generation: u64,
    },
    /// Rooms that this relay serves are to be given to others.
    RelayLost {
        /// Which one.
        relay: RelayId,
        /// Which process of it; `None` when only the database knew it.
        boot: Option<BootId>,
        /// What makes us sure.
        why: WhyLost,
    },
}

/// Who tries an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checker {
    /// Another relay, over its stream.
    Relay(RelayId),
    /// This process, because there is nobody else.
    Control,
}

/// What made a relay lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyLost {
    /// Silent, and a living relay says that it does not answer.
    PeersCannotReachIt,
    /// Silent, and no living relay can tell.
    NobodyCanTell,
    /// Another process came up under its name.
    Restarted,
    /// It said that it is empty and leaves.
    Left,
}

/// Why a relay may not attach. It is at fault, except that a lost one may wait its turn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// See [`Config::protocol`].
    #[error("it speaks protocol {min} to {max}, the control plane {ours_min} to {ours_max}")]
    Protocol {
        /// The relay's lowest.
        min: u32,
        /// The relay's highest.
        max: u32,
        /// Our lowest.
        ours_min: u32,
        /// Our highest.
        ours_max: u32,
    },
    /// Two processes under one name.
    #[error("relay {relay} is alive under boot id {alive}")]
    DuplicateId {
        /// The name.
        relay: RelayId,
        /// Who has it.
        alive: BootId,
    },
    /// See [`Config::clock_refused`].
    #[error("its clock is off by {off_ms} ms")]
    Clock {
        /// Its clock minus ours.
        off_ms: i64,
    },
}

/// What a welcomed relay is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcomed {
    /// The highest protocol version that both speak.
    pub protocol: u32,
    /// It was attached, or lost, under this boot id before: its rooms are known.
    pub known: bool,
    /// The stream that this one takes the place of; it is to be ended.
    pub replaces: Option<StreamId>,
}

/// A relay as this replica knows it.
#[derive(Clone, Debug)]
pub struct Relay {
    /// As last introduced.
    pub hello: Hello,
    /// Where it stands.
    pub state: State,
    /// Its stream; `None` while there is none.
    pub stream: Option<StreamId>,
    /// When anything last came from it.
    pub heard: Instant,
    /// The last one, and when.
    pub heartbeat: Option<(Instant, Heartbeat)>,
    /// What it carries, and what it was given lately.
    pub load: Load,
    /// Its clock minus ours in ms, when that is worth a note.
    pub clock_off_ms: Option<i64>,
}

impl Relay {
    /// Where it runs.
    pub fn place(&self) -> &Place {
        &self.hello.place
    }

    /// What it can carry.
    pub fn capacity(&self) -> Capacity {
        self.hello.capacity
    }
}

/// See the module. One per replica.
#[derive(Debug)]
pub struct Registry {
    config: Config,
    mesh: Mesh,
    generation: u64,
}

impl Registry {
    /// Knows nobody. The list generation starts at `unix_ms`, so that it rises over restarts.
    pub fn new(config: Config, unix_ms: u64) -> Self {
        Self {
            config,
            mesh: Mesh::default(),
            generation: unix_ms,
        }
    }

    /// A row of the database names a relay, at the start of this process: it is waited for [`Config::settle`] long,
    /// and lost when it did not come and peers do not reach it.
    pub fn handle_expected(&mut self, now: Instant, relay: &RelayId) {}

    /// A relay opened a stream.
    ///
    /// # Errors
    /// See [`Refused`]; the stream is to be ended.
    pub fn handle_hello(
        &mut self,
        now: Instant,
        unix_ms: u64,
        stream: StreamId,
        hello: Hello,
    ) -> Result<Welcomed, Refused> {
        Err(Refused::Clock { off_ms: 0 })
    }

    /// All carried state of the stream was told.
    pub fn handle_synced(&mut self, now: Instant, stream: StreamId) {}

    /// A heartbeat.
    pub fn handle_heartbeat(&mut self, now: Instant, unix_ms: u64, stream: StreamId, heartbeat: Heartbeat) {}

    /// Anything else came over the stream: the relay lives.
    pub fn handle_heard(&mut self, now: Instant, stream: StreamId) {}

    /// Another replica has heard from a relay at `now`: it is not dead, whatever we hear.
    pub fn handle_heard_elsewhere(&mut self, now: Instant, relay: &RelayId) {}

    /// A stream ended, whoever ended it.
    pub fn handle_stream_lost(&mut self, now: Instant, stream: StreamId) {}

    /// What a relay measured to others.
    pub fn handle_probe_report(&mut self, now: Instant, stream: StreamId, probes: &[Probe]) {}

    /// A peer to which a relay holds a connection has stopped answering.
    pub fn handle_peer_down(
        &mut self,
        now: Instant,
        stream: StreamId,
        peer: &RelayId,
        boot: BootId,
        silent: Duration,
    ) {
    }

    /// An address was tried.
    pub fn handle_address_report(&mut self, now: Instant, by: &Checker, report: &AddressReport) {}

    /// The relay is to be emptied (by SIGTERM, by a person). `false`: there is no such relay.
    pub fn handle_drain(&mut self, now: Instant, relay: &RelayId) -> bool {
        false
    }

    /// The relay is to be used again. `false`: there is no such relay.
    pub fn handle_undrain(&mut self, now: Instant, relay: &RelayId) -> bool {
        false
    }

    /// What time alone changes. To be called at [`Registry::poll_timeout`], and may be called at any time.
    pub fn handle_timeout(&mut self, now: Instant) {}

    /// What is to be done; to be asked until `None` after every `handle_*`.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// When [`Registry::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// That relay.
    pub fn relay(&self, relay: &RelayId) -> Option<&Relay> {
        None
    }

    /// That relay, to note what it was given.
    pub fn relay_mut(&mut self, relay: &RelayId) -> Option<&mut Relay> {
        None
    }

    /// The relay at the end of a stream.
    pub fn relay_of(&self, stream: StreamId) -> Option<&RelayId> {
        None
    }

    /// Every relay that is known, the lost ones too, by name.
    pub fn relays(&self) -> impl Iterator<Item = &Relay> {
        std::iter::empty()
    }

    /// What relays measured to each other.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Of the list as it is now.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Nobody was heard for so long that this replica takes itself to be cut off.
    pub fn is_deaf(&self) -> bool {
        false
    }

    /// What placement goes by.
    pub fn snapshot(&self, now: Instant) -> Snapshot<'_> {
        Snapshot::new(now, Vec::new(), &self.mesh)
    }
}
