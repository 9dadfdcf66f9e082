//! Who serves a room, since which epoch; what changes that, as pure decisions.
//!
//! A lease is true once it is a row. Every decision is a [`Write`] with the epoch that the row must still have; whoever
//! comes second finds another epoch, reads the row and decides again. Epochs of a room only rise, over its deletion too.

mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rand_core::Rng;
use wzp_wire::{Epoch, RelayId, RoomName};

use crate::placement::{self, Explanation, NoRelay, Placement, Request, Snapshot};

pub use table::{Learnt, Table};

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

/// How far the farthest member of a relay is from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Far {
    /// Which relay.
    pub relay: RelayId,
    /// Measured by the member when it joined.
    pub rtt: Duration,
}

/// What a join does with the row as the database has it. A room that lost relays or its standby is mended on the way;
/// one that is far from the client may get another carrying relay, if `far` says how far the others are.
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
    let Some(current) = current.filter(|lease| !lease.seats.is_empty()) else {
        let placement = placement::place(snapshot, request, rng)?;
        let expected = current.map_or(Epoch::NONE, |lease| lease.epoch);
        return Ok(written(room, expected, placement, Cause::Join));
    };
    let left: Vec<_> = current
        .seats
        .iter()
        .filter(|seat| !snapshot.is_lost(&seat.relay))
        .cloned()
        .collect();
    if left.len() < current.seats.len() {
        let placement = placement::refill(snapshot, &left, &near(request, &left, snapshot), rng)?;
        return Ok(written(room, current.epoch, placement, Cause::RelayLost));
    }
    if let Some(placement) = placement::cascade(snapshot, &left, far, request, rng) {
        return Ok(written(room, current.epoch, placement, Cause::Join));
    }
    if left.iter().all(|seat| seat.carries) && left.iter().all(|seat| snapshot.relay(&seat.relay).is_some()) {
        let placement = placement::refill(snapshot, &left, request, rng)?;
        if placement.seats.iter().any(|seat| !seat.carries) {
            return Ok(written(room, current.epoch, placement, Cause::Standby));
        }
    }
    Ok(Decision::Keep(
        current.clone(),
        placement::keep(snapshot, &current.seats, request),
    ))
}

fn written(room: &RoomName, expected: Epoch, placement: Placement, cause: Cause) -> Decision {
    let Placement { seats, explanation } = placement;
    Decision::Write(write(room, expected, seats, cause), explanation)
}

fn write(room: &RoomName, expected: Epoch, seats: Vec<Seat>, cause: Cause) -> Write {
    Write {
        expected,
        lease: Lease {
            room: room.clone(),
            epoch: expected.next(),
            seats,
        },
        cause,
    }
}

/// The request, or for want of any knowledge of the client where the room is now.
fn near(request: &Request, seats: &[Seat], snapshot: &Snapshot<'_>) -> Request {
    if *request != Request::default() {
        return request.clone();
    }
    let place = seats
        .iter()
        .find_map(|seat| Some(snapshot.relay(&seat.relay)?.place));
    Request::in_region(place.map_or("", |place| &place.region))
}

/// What is written when a relay is lost: the standby carries if it has to, another one stands by. `None`: the relay has
/// no seat.
///
/// # Errors
/// [`NoRelay`] if no relay is left; the row stays as it is.
pub fn on_lost(
    current: &Lease,
    lost: &RelayId,
    snapshot: &Snapshot<'_>,
    rng: &mut impl Rng,
) -> Result<Option<Write>, NoRelay> {
    if !current.seats_relay(lost) {
        return Ok(None);
    }
    let gone = |seat: &Seat| seat.relay == *lost || snapshot.is_lost(&seat.relay);
    let left: Vec<_> = current.seats.iter().filter(|seat| !gone(seat)).cloned().collect();
    let near = near(&Request::default(), &left, snapshot);
    let placement = placement::refill(&snapshot.without(lost), &left, &near, rng)?;
    Ok(Some(write(
        &current.room,
        current.epoch,
        placement.seats,
        Cause::RelayLost,
    )))
}

/// What is written when a relay is emptied, or of some of its rooms: its standby carries if it has room for `members`.
/// `None`: the relay has no seat, or there is no better place for the room.
pub fn on_vacate(
    current: &Lease,
    relay: &RelayId,
    members: u32,
    cause: Cause,
    snapshot: &Snapshot<'_>,
    rng: &mut impl Rng,
) -> Option<Write> {
    if !current.seats_relay(relay) {
        return None;
    }
    let others = snapshot.without(relay);
    let fits = |seat: &&Seat| {
        seat.relay != *relay
            && match others.relay(&seat.relay) {
                Some(candidate) => seat.carries || candidate.has_room_for(members),
                None => !snapshot.is_lost(&seat.relay),
            }
    };
    let left: Vec<_> = current.seats.iter().filter(fits).cloned().collect();
    let near = near(&Request::default(), &current.seats, snapshot);
    let placement = placement::refill(&others, &left, &near, rng).ok()?;
    // Where nothing but other relays on their way out is left, staying is as good.
    let added = || {
        placement
            .seats
            .iter()
            .filter(|seat| !current.seats.contains(seat))
    };
    let better = added().all(|seat| {
        others
            .relay(&seat.relay)
            .is_some_and(placement::Candidate::is_of_use)
    });
    better.then(|| write(&current.room, current.epoch, placement.seats.clone(), cause))
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

/// Serializes a relay's name.
pub(crate) fn relay_as_str<S: serde::Serializer>(relay: &RelayId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(relay.as_str())
}
