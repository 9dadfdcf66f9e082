//! Who serves a room, since which epoch; what changes that, as pure decisions.
//!
//! A lease is true once it is a row. Every decision is a [`Write`] with the epoch that the row must still have; whoever
//! comes second finds another epoch, reads the row and decides again. Epochs of a room only rise, over its deletion too.

use std::time::Duration;

use rand_core::Rng;
use wzp_wire::{Epoch, Instant, RelayId, RoomName};

use crate::placement::{Explanation, NoRelay, Request, Snapshot};

/// One relay of a room's set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Seat {
    /// Which one.
    #[serde(serialize_with = "relay_as_str")]
    pub relay: RelayId,
    /// Otherwise it is a warm standby.
    pub carries: bool,
}

/// This set of relays serves the room from this epoch on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which room.
    pub room: RoomName,
    /// Since when.
    pub epoch: Epoch,
    /// The carrying ones first; empty: the room was deleted.
    pub seats: Vec<Seat>,
}

impl Lease {
    /// Whether the relay has a seat.
    pub fn seats_relay(&self, relay: &RelayId) -> bool {
        self.seats.iter().any(|seat| seat.relay == *relay)
    }

    /// Fencing: whether whoever knows this lease must act under `other` instead.
    pub fn gives_way_to(&self, other: &Self) -> bool {
        self.room == other.room && other.epoch > self.epoch
    }
}

/// What made a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Somebody joined.
    Join,
    /// A relay is being emptied.
    Drain,
    /// A relay was lost.
    RelayLost,
    /// A relay had too much to do.
    Rebalance,
    /// The room was without a standby.
    Standby,
    /// The room was deleted.
    Deleted,
}

/// A row to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The epoch that the row has now; [`Epoch::NONE`]: there is no row yet.
    pub expected: Epoch,
    /// As it is to be; its epoch is the one after `expected`.
    pub lease: Lease,
    /// What for.
    pub cause: Cause,
}

/// What a join does with the row.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing: the lease is good.
    Keep(Lease, Explanation),
    /// This is to be written; if the row has changed meanwhile, decide again.
    Write(Write, Explanation),
}

/// What a join does with the row as the database has it.
///
/// # Errors
/// [`NoRelay`] only if no relay at all is attached.
pub fn on_join(
    room: &RoomName,
    current: Option<&Lease>,
    far: &[Far],
    snapshot: &Snapshot<'_>,
    request: &Request,
    rng: &mut impl Rng,
) -> Result<Decision, NoRelay> {
    Err(NoRelay)
}

/// How far the farthest member of a carrying relay is from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Far {
    /// Which relay.
    pub relay: RelayId,
    /// Measured by the member when it joined.
    pub rtt: Duration,
}

/// What is written when relays are lost: a standby carries, another one stands by. `None`: none of them had a seat.
///
/// # Errors
/// [`NoRelay`] if no relay is left; the row stays as it is.
pub fn on_lost(
    current: &Lease,
    lost: &RelayId,
    snapshot: &Snapshot<'_>,
    rng: &mut impl Rng,
) -> Result<Option<Write>, NoRelay> {
    Err(NoRelay)
}

/// What is written when a relay is emptied: its standby carries if it has the headroom. `None`: it had no seat.
///
/// # Errors
/// [`NoRelay`] if no other relay can serve.
pub fn on_vacate(
    current: &Lease,
    relay: &RelayId,
    snapshot: &Snapshot<'_>,
    rng: &mut impl Rng,
) -> Result<Option<Write>, NoRelay> {
    Err(NoRelay)
}

/// What is written when the room is deleted. Its epoch goes on.
pub fn on_delete(current: &Lease) -> Write {
    Write {
        expected: current.epoch,
        lease: Lease {
            room: current.room.clone(),
            epoch: current.epoch.next(),
            seats: Vec::new(),
        },
        cause: Cause::Deleted,
    }
}

/// What became of a lease that was told to a [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// It is the highest so far.
    New,
    /// It was known.
    Known,
    /// A higher one is known.
    Stale,
}

/// Every room this replica knows, in at most 300 bytes each.
#[derive(Debug, Default)]
pub struct Table {}

impl Table {
    /// A row of the database, or what a relay carries. The highest epoch stays.
    pub fn handle_lease(&mut self, now: Instant, lease: &Lease) -> Learnt {
        Learnt::Known
    }

    /// A relay has that many direct members in the room. `false`: not a room in which it has a seat.
    pub fn handle_members(&mut self, now: Instant, relay: &RelayId, room: &RoomName, members: u32) -> bool {
        false
    }

    /// A member that joins is that far from a relay of the room.
    pub fn handle_measured(&mut self, room: &RoomName, relay: &RelayId, rtt: Duration) {}

    /// The row is gone from the database for good.
    pub fn forget(&mut self, room: &RoomName) {}

    /// The lease of a room; without seats if the room was deleted.
    pub fn lease(&self, room: &RoomName) -> Option<Lease> {
        None
    }

    /// The largest number of members that a relay has in the room: all members are at each relay of the set.
    pub fn members(&self, room: &RoomName) -> u32 {
        0
    }

    /// See [`Far`].
    pub fn far(&self, room: &RoomName) -> Vec<Far> {
        Vec::new()
    }

    /// Rooms in which a relay has a seat, with their members. Looks at every room.
    pub fn rooms_of(&self, relay: &RelayId) -> impl Iterator<Item = (Lease, u32)> {
        std::iter::empty()
    }

    /// Rooms after `after` by name, with their members.
    pub fn rooms(&self, after: Option<&RoomName>) -> impl Iterator<Item = (Lease, u32)> {
        std::iter::empty()
    }

    /// Rooms that have been empty for `idle`, or were deleted that long ago.
    pub fn idle(&self, now: Instant, idle: Duration) -> impl Iterator<Item = RoomName> {
        std::iter::empty()
    }

    /// Rooms that are known.
    pub fn len(&self) -> usize {
        0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        true
    }
}

/// Serializes a relay's name.
pub(crate) fn relay_as_str<S: serde::Serializer>(relay: &RelayId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(relay.as_str())
}
