//! Which relays serve a room, and members who are told to move to others.

use std::time::Duration;

use wzp_relay_core::{
    admission::Refusal,
    leases::{Lease, Seat, Standing},
};
use wzp_socket::clock;
use wzp_wire::{
    Epoch, Instant, RoomName,
    signal::{Kind, MAX_SEATS, Move, Reason, RelaySeat},
};

use super::{Hall, Moved, State};
use crate::{frames, port::Port};

/// Members of a relay that is emptied start within half the time they have, and within this.
const LONGEST_SPREAD: Duration = Duration::from_secs(6);

/// A room as the control plane is told of it.
pub(crate) struct RoomState {
    pub(crate) epoch: Epoch,
    pub(crate) members: usize,
    pub(crate) seats: Vec<Seat>,
    /// This relay has nothing to do with it any more.
    pub(crate) is_closed: bool,
}

impl Hall {
    /// The control plane says which relays serve `room`.
    pub(crate) fn handle_lease(&self, room: &RoomName, lease: Lease, deadline: Duration) {
        self.with(|state, now| {
            if let Some(together) = &mut state.together {
                let decision = together.leases.handle_lease(now, room, lease, deadline);
                state.follow(now, room, decision);
            }
        });
    }

    /// The room was deleted.
    pub(crate) fn handle_revoke(&self, room: &RoomName, epoch: Epoch) {
        self.with(|state, now| {
            if let Some(together) = &mut state.together {
                let decision = together.leases.handle_revoke(now, room, epoch);
                state.follow(now, room, decision);
            }
        });
    }

    /// Nobody says where our members go: they go to the other relays of their rooms.
    pub(crate) fn drain_alone(&self, deadline: Duration) {
        self.with(|state, now| {
            let Some(together) = &mut state.together else {
                return;
            };
            for room in together.leases.handle_drain_alone(now, deadline) {
                state.tell_move(now, &room);
            }
        });
    }

    /// This relay goes on to serve after all.
    pub(crate) fn undrain(&self) {
        self.with(|state, now| {
            let Some(together) = &mut state.together else {
                return;
            };
            for room in together.leases.handle_undrain(now) {
                state.tell_move(now, &room);
            }
        });
    }

    /// Addresses of other relays have come: whoever waits for them is told.
    pub(crate) fn relisted(&self) {
        self.with(|state, now| {
            let Some(together) = &mut state.together else {
                return;
            };
            for room in std::mem::take(&mut together.unmoved) {
                state.tell_move(now, &room);
            }
        });
    }

    /// Whoever had to have moved by now is told goodbye.
    pub(crate) fn keep_leases(&self) {
        let refusal = Refusal::new(Reason::Moved, "other relays serve this room now");
        self.with(|state, now| {
            while let Some(room) = state.together.as_mut().and_then(|it| it.leases.poll_over(now)) {
                let stragglers = state.dismiss(now, &room, &refusal);
                if let Some(together) = &mut state.together {
                    together.moved.stragglers += stragglers;
                }
                state.room_changed(now, &room);
            }
        });
    }

    /// Rooms long unused are forgotten. It looks at all of them.
    pub(crate) fn forget_leases(&self) {
        self.with(|state, now| {
            while let Some(room) = state
                .together
                .as_mut()
                .and_then(|it| it.leases.poll_forgotten(now))
            {
                state.room_changed(now, &room);
            }
        });
    }

    /// Members who were told to move since this was asked last.
    pub(crate) fn take_moved(&self) -> Moved {
        let mut state = self.lock();
        let together = state.together.as_mut();
        together.map_or_else(Moved::default, |together| std::mem::take(&mut together.moved))
    }

    /// Sessions with other relays of the cluster.
    pub(crate) fn peer_count(&self) -> usize {
        self.lock()
            .together
            .as_ref()
            .map_or(0, |together| together.peers.len())
    }

    /// Every room of which the control plane is to know.
    pub(crate) fn lease_rooms(&self) -> Vec<RoomName> {
        let state = self.lock();
        let rooms = state.together.iter().flat_map(|together| together.leases.rooms());
        rooms.map(|(room, _)| room.clone()).collect()
    }

    /// A room as it is now.
    pub(crate) fn room_state(&self, room: &RoomName) -> RoomState {
        let (now, state) = (clock::now(), self.lock());
        let members = state.rooms.direct_count(room);
        let leases = state.together.as_ref().map(|together| &together.leases);
        let standing = leases.map_or(Standing::Unknown, |leases| leases.standing(now, room));
        let gone = matches!(standing, Standing::Unknown | Standing::Left | Standing::Revoked);
        RoomState {
            epoch: leases.map_or(Epoch::NONE, |leases| leases.seen(room)),
            members,
            seats: leases
                .and_then(|leases| leases.lease(room))
                .map_or_else(Vec::new, |lease| lease.seats().to_vec()),
            is_closed: gone && members == 0,
        }
    }

    /// Members with connections to this relay, of all rooms that it knows.
    pub(crate) fn own_member_count(&self) -> usize {
        let state = self.lock();
        let rooms = state.together.iter().flat_map(|together| together.leases.rooms());
        rooms.map(|(room, _)| state.rooms.direct_count(room)).sum()
    }

    fn with(&self, act: impl FnOnce(&mut State, Instant)) {
        act(&mut self.lock(), clock::now());
        self.changed.notify_one();
    }
}

impl State {
    /// Tells our members in `room` which relays serve it now.
    pub(super) fn tell_move(&mut self, now: Instant, room: &RoomName) {
        if self.rooms.direct_count(room) == 0 {
            return;
        }
        let Some(frame) = self.move_of(now, room) else {
            return;
        };
        let mut told = 0;
        for (port, _) in self.own_members(room) {
            port.outbox.push(frame.clone());
            told += 1;
        }
        if let Some(together) = &mut self.together {
            together.moved.told += told;
        }
    }

    /// The same to one of them.
    pub(super) fn tell_move_to(&mut self, now: Instant, room: &RoomName, port: &Port) {
        if let Some(frame) = self.move_of(now, room) {
            port.outbox.push(frame);
        }
    }

    /// `None` while the way to some relay is not known; then it is told when it is.
    fn move_of(&mut self, now: Instant, room: &RoomName) -> Option<bytes::Bytes> {
        let together = self.together.as_mut()?;
        let left = match together.leases.standing(now, room) {
            Standing::Leaves { until } => until.duration_since(now),
            _ => Duration::ZERO,
        };
        let lease = together.leases.lease(room)?;
        let (me, cluster) = (together.leases.me(), &together.cluster);
        let listed = cluster.listed();
        let go_on = lease
            .seats()
            .iter()
            .filter(|seat| left.is_zero() || seat.relay != *me);
        let mut is_whole = true;
        let seats = go_on.filter_map(|seat| {
            let (addresses, certificates) = if seat.relay == *me {
                (cluster.addresses.load().to_vec(), cluster.keys.announced())
            } else {
                let found = listed.get(&seat.relay);
                is_whole &= found.is_some();
                found.map(|relay| (relay.addresses.clone(), relay.certificates.clone()))?
            };
            let known = !addresses.is_empty() && !certificates.is_empty();
            known.then(|| RelaySeat {
                relay: seat.relay.clone(),
                addresses,
                certificates,
                carries: seat.carries,
            })
        });
        let seats: Vec<_> = seats.take(MAX_SEATS).collect();
        let spread = (left / 2).min(LONGEST_SPREAD);
        let order = Move {
            room: room.clone(),
            epoch: lease.epoch(),
            seats,
            deadline_ms: millis(left),
            spread_ms: millis(spread),
        };
        if !is_whole {
            together.unmoved.insert(room.clone());
        }
        let is_empty = order.seats.is_empty();
        (!is_empty).then(|| frames::frame(Kind::Move(order.into())))
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
