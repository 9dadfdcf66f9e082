//! Which relays serve a room: a pure function of a [`Snapshot`], with its reasons.

mod explain;

use std::time::Duration;

use rand_core::Rng;
use wzp_wire::{Instant, RelayId};

use crate::{leases::Seat, mesh::Mesh, registry::Offer, relay::Place};

pub use explain::{Explanation, Role, Rule, Scored, Terms};

/// What a client measured to one relay before it asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// To whom.
    pub relay: RelayId,
    /// There and back.
    pub rtt: Duration,
    /// Of the probes, 0 to 1,000.
    pub loss_permille: u16,
}

/// What is known of the client that asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// At most [`Request::MAX_MEASUREMENTS`] count.
    pub measurements: Vec<Measurement>,
    /// Where it says it is, or its address does; empty: not known.
    pub region: Box<str>,
}

impl Request {
    /// What is beyond is not looked at.
    pub const MAX_MEASUREMENTS: usize = 16;
}

/// One relay as placement sees it.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Which one.
    pub relay: &'a RelayId,
    /// Where it runs.
    pub place: &'a Place,
    /// How it is offered; `None`: it is not listed (being checked, or silent), and taken only for want of any other.
    pub offer: Option<Offer>,
    /// Corrected; see [`crate::load::Load::corrected`].
    pub load: f32,
    /// What one more member that is carried adds to `load`.
    pub member_cost: f32,
    /// Members carried, those on their way included.
    pub carried: u32,
    /// Members for whom it stands by, those on their way included.
    pub standby: u32,
    /// How often it was lost lately, decaying.
    pub failures: f32,
    /// Runs an older version than the newest listed relay.
    pub outdated: bool,
}

/// What placement goes by. Relays that are lost are not in it.
#[derive(Clone, Debug)]
pub struct Snapshot<'a> {
    now: Instant,
    relays: Vec<Candidate<'a>>,
    mesh: &'a Mesh,
}

impl<'a> Snapshot<'a> {
    /// Of these relays, sorted by name.
    pub fn new(now: Instant, mut relays: Vec<Candidate<'a>>, mesh: &'a Mesh) -> Self {
        if !relays.is_sorted_by_key(|candidate| candidate.relay) {
            relays.sort_by_key(|candidate| candidate.relay);
        }
        Self { now, relays, mesh }
    }

    /// By name.
    pub fn relays(&self) -> &[Candidate<'a>] {
        &self.relays
    }

    /// That relay, unless it is lost.
    pub fn relay(&self, relay: &RelayId) -> Option<&Candidate<'a>> {
        let at = self
            .relays
            .binary_search_by_key(&relay, |candidate| candidate.relay)
            .ok()?;
        self.relays.get(at)
    }

    /// When it was taken.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// What relays measured to each other.
    pub fn mesh(&self) -> &'a Mesh {
        self.mesh
    }
}

/// There is no relay at all. Nobody is at fault but whoever runs the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no relay is attached")]
pub struct NoRelay;

/// The choice, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The carrying ones first.
    pub seats: Vec<Seat>,
    /// What decided.
    pub explanation: Explanation,
}

/// Chooses a relay that carries a new room, and one that stands by.
///
/// # Errors
/// [`NoRelay`] only if the snapshot is empty.
pub fn place(snapshot: &Snapshot<'_>, request: &Request, rng: &mut impl Rng) -> Result<Placement, NoRelay> {
    Err(NoRelay)
}

/// The seats of a room in the order in which this client should prefer them: carrying ones first, the nearest first.
pub fn order_for(snapshot: &Snapshot<'_>, request: &Request, seats: &mut [Seat]) {}
