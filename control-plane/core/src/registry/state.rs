//! Where relays stand, and what the registry asks for.

use std::net::SocketAddr;

use wzp_wire::RelayId;

#[cfg(doc)]
use super::{Config, Registry};
use crate::relay::{BootId, StreamId};

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

/// Why a relay may not attach. Whoever started it is at fault; one that came back before its old process was taken to be
/// gone is let in a little later.
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
