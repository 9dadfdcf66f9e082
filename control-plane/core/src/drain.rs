//! Emptying a relay: first a plan that can be looked at, then room by room, with a way back until it is over.

use std::time::Duration;

use rand_core::Rng;
use wzp_wire::{Instant, RelayId, RoomName};

use crate::{
    leases::{Lease, Write},
    placement::Snapshot,
};

/// All members are moved within this time, unless the drain says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Whoever is left then is told goodbye.
pub const HARD_STOP: Duration = Duration::from_secs(12);

/// One room of a drain.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is to be written, if the row is still as it was.
    pub write: Write,
    /// Members who will move.
    pub members: u32,
    /// Since the start of the drain.
    pub after: Duration,
    /// How long members take to start.
    pub spread: Duration,
}

/// What a drain would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Whom it empties.
    pub relay: RelayId,
    /// In order.
    pub steps: Vec<Step>,
    /// Rooms that have nowhere to go.
    pub stuck: Vec<RoomName>,
    /// When the last member has moved, as far as can be told.
    pub eta: Duration,
    /// When whoever is left is told goodbye.
    pub deadline: Duration,
}

/// Plans to empty a relay of its `rooms` (with their members) within `deadline`.
pub fn plan(
    relay: &RelayId,
    rooms: impl Iterator<Item = (Lease, u32)>,
    snapshot: Snapshot<'_>,
    deadline: Duration,
    rng: &mut impl Rng,
) -> Plan {
    Plan {
        relay: relay.clone(),
        steps: Vec::new(),
        stuck: Vec::new(),
        eta: Duration::ZERO,
        deadline,
    }
}

/// How far a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// In the plan.
    pub rooms: usize,
    /// Ordered to move, or gone by themselves.
    pub rooms_ordered: usize,
    /// Without a member on the relay.
    pub rooms_done: usize,
    /// In the plan.
    pub members: u32,
    /// Still on the relay.
    pub members_left: u32,
    /// Until everybody has moved, as far as can be told.
    pub eta_ms: u64,
}

/// A drain that goes on.
#[derive(Clone, Debug)]
pub struct Drain {
    plan: Plan,
    started: Instant,
}

impl Drain {
    /// Begins.
    pub fn new(now: Instant, plan: Plan) -> Self {
        Self { plan, started: now }
    }

    /// The next room whose time has come.
    pub fn poll_step(&mut self, now: Instant) -> Option<Step> {
        None
    }

    /// When [`Drain::poll_step`] or [`Drain::is_over`] has something new.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// A row could not be written because it had changed: here is what to write instead, if the relay is still in it.
    pub fn handle_conflict(
        &mut self,
        now: Instant,
        row: &Lease,
        snapshot: &Snapshot<'_>,
        rng: &mut impl Rng,
    ) -> Option<Step> {
        None
    }

    /// The relay has that many direct members left in the room.
    pub fn handle_members(&mut self, room: &RoomName, members: u32) {}

    /// How far it is.
    pub fn progress(&self, now: Instant) -> Progress {
        Progress {
            rooms: 0,
            rooms_ordered: 0,
            rooms_done: 0,
            members: 0,
            members_left: 0,
            eta_ms: 0,
        }
    }

    /// Everybody has moved, or the deadline has passed.
    pub fn is_over(&self, now: Instant) -> bool {
        true
    }

    /// What was planned.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Ends it: rooms that were not yet ordered to move stay. Returns how many.
    pub fn undo(self) -> usize {
        0
    }
}
