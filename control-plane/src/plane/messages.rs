//! What relays say and are told, in the words of the core.

use std::{net::IpAddr, sync::Arc, time::Duration};

use wzp_control_core::{Address, AddressReport, BootId, Cause, Heartbeat, Hello, Lease, Place, Probe};
use wzp_identity::Fingerprint;
use wzp_wire::{Epoch, RelayId, RoomName};

use crate::authority::Trusted;

/// From a relay.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Hello(Box<Hello>),
    Heartbeat(Heartbeat),
    /// What it carries; `None` when it has forgotten the room.
    Room {
        lease: Lease,
        members: Option<u32>,
    },
    Presence {
        fingerprint: Fingerprint,
        online: bool,
    },
    Probes(Vec<Probe>),
    Ack {
        command: u64,
        error: String,
    },
    PeerDown {
        relay: RelayId,
        boot: BootId,
    },
    AddressReport(AddressReport),
    DrainRequest {
        deadline: Duration,
    },
    Synced,
    /// Of a newer version, or not for us.
    Unknown,
}

/// To a relay.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Welcome {
        protocol: u32,
        observed: Option<IpAddr>,
    },
    TrustedKeys(Trusted),
    Peers(Arc<Peers>),
    ProbePlan {
        generation: u64,
        relays: Vec<RelayId>,
        interval: Duration,
    },
    Lease(Order),
    Revoke {
        room: RoomName,
        epoch: Epoch,
    },
    Drain {
        deadline: Duration,
    },
    Undrain,
    CheckAddress {
        relay: RelayId,
        addresses: Vec<Address>,
        certificates: Vec<[u8; 32]>,
    },
}

/// A lease, and how fast members are moved to it.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) lease: Lease,
    /// Zero: at once.
    pub(crate) deadline: Duration,
    pub(crate) spread: Duration,
    pub(crate) cause: Cause,
}

/// Every listed relay, for relays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers {
    pub(crate) generation: u64,
    pub(crate) relays: Vec<Peer>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) relay: RelayId,
    pub(crate) boot: BootId,
    pub(crate) place: Place,
    pub(crate) addresses: Vec<Address>,
    pub(crate) certificates: Vec<[u8; 32]>,
    pub(crate) draining: bool,
    pub(crate) load_permille: u32,
}
