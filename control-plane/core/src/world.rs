//! What one replica knows, together.

#[cfg(test)]
mod tests;

use std::time::Duration;

use rand_core::Rng;
use wzp_wire::{Instant, RelayId, RoomName};

use crate::{
    drain,
    leases::{self, Cause, Decision, Learnt, Lease, Table, Write},
    load::Duty,
    placement::{NoRelay, Request},
    registry::{Config, Registry, State},
};

/// A relay loaded by more gives rooms away.
const OVERLOADED: f32 = 0.95;

/// Relays and rooms, as one replica knows them. What relays say of themselves goes to `registry`; leases and members go
/// through the methods here, which keep the relays' loads true.
#[derive(Debug)]
pub struct World {
    /// The relays.
    pub registry: Registry,
    leases: Table,
}

impl World {
    /// Knows nothing.
    pub fn new(config: Config, unix_ms: u64) -> Self {
        Self {
            registry: Registry::new(config, unix_ms),
            leases: Table::default(),
        }
    }

    /// The rooms.
    pub fn leases(&self) -> &Table {
        &self.leases
    }

    /// A row of the database as it was read, or written by anybody, or what a relay carries.
    pub fn handle_lease(&mut self, now: Instant, lease: &Lease) -> Learnt {
        let before = self.leases.lease(&lease.room);
        let there: Vec<_> = before
            .iter()
            .flat_map(|old| &old.seats)
            .map(|seat| (seat, self.members(lease, &seat.relay)))
            .collect();
        let moved: Vec<_> = there
            .into_iter()
            .filter(|(old, _)| !lease.seats.contains(old))
            .map(|(old, members)| (old.clone(), members, lease.seats_relay(&old.relay)))
            .collect();
        let learnt = self.leases.handle_lease(now, lease);
        if learnt == Learnt::New {
            for (old, members, stays) in moved {
                let Some(relay) = self.registry.relay_mut(&old.relay) else {
                    continue;
                };
                relay.load.leave(duty(old.carries), members);
                if stays {
                    relay.load.arrive(duty(!old.carries), members);
                }
            }
        }
        learnt
    }

    /// A relay has that many direct members in a room. `false`: it has no seat there by what is known.
    pub fn handle_members(&mut self, now: Instant, relay: &RelayId, room: &RoomName, members: u32) -> bool {
        let Some((before, carries)) = self.leases.members_at(room, relay) else {
            return false;
        };
        self.leases.handle_members(now, relay, room, members);
        if let Some(record) = self.registry.relay_mut(relay) {
            record.load.arrive(duty(carries), members.saturating_sub(before));
            record.load.leave(duty(carries), before.saturating_sub(members));
        }
        true
    }

    /// The row is gone from the database for good.
    pub fn handle_forgotten(&mut self, now: Instant, room: &RoomName) {
        for seat in self
            .leases
            .lease(room)
            .map(|lease| lease.seats)
            .unwrap_or_default()
        {
            self.handle_members(now, &seat.relay, room, 0);
        }
        self.leases.forget(room);
    }

    /// The registry says that a relay is lost: whoever was there is not any more.
    pub fn handle_lost(&mut self, now: Instant, relay: &RelayId) {
        let rooms: Vec<_> = self.leases.rooms_of(relay).map(|(lease, _)| lease.room).collect();
        for room in rooms {
            self.handle_members(now, relay, &room, 0);
        }
    }

    /// What a join does with the row as the database has it (`None`: no row).
    ///
    /// # Errors
    /// [`NoRelay`] only if no relay at all is attached.
    pub fn decide_join(
        &self,
        now: Instant,
        room: &RoomName,
        row: Option<&Lease>,
        request: &Request,
        rng: &mut impl Rng,
    ) -> Result<Decision, NoRelay> {
        leases::on_join(
            room,
            row,
            &self.leases.far(room),
            &self.registry.snapshot(now),
            request,
            rng,
        )
    }

    /// A member was let into the room under this lease, which is a row: it is on its way to each relay of it.
    pub fn handle_joined(&mut self, now: Instant, lease: &Lease, request: &Request) {
        self.handle_lease(now, lease);
        for seat in &lease.seats {
            if let Some(relay) = self.registry.relay_mut(&seat.relay) {
                relay.load.assign(now, duty(seat.carries), 1);
            }
        }
        let carrying = |relay: &RelayId| {
            lease
                .seats
                .iter()
                .any(|seat| seat.carries && seat.relay == *relay)
        };
        let measured = request.measurements.iter().take(Request::MAX_MEASUREMENTS);
        // It will use the nearest one only.
        if let Some(near) = measured.filter(|m| carrying(&m.relay)).min_by_key(|m| m.rtt) {
            self.leases.handle_measured(&lease.room, &near.relay, near.rtt);
        }
    }

    /// What to write when a relay is lost, the rooms with most members first.
    pub fn plan_lost(&self, now: Instant, relay: &RelayId, rng: &mut impl Rng) -> Vec<Write> {
        let mut snapshot = self.registry.snapshot(now);
        let mut rooms: Vec<_> = self.leases.rooms_of(relay).collect();
        rooms.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.room.cmp(&b.room)));
        let mut writes = Vec::new();
        for (lease, members) in rooms {
            let Ok(Some(write)) = leases::on_lost(&lease, relay, &snapshot, rng) else {
                continue;
            };
            for seat in write
                .lease
                .seats
                .iter()
                .filter(|seat| !lease.seats.contains(seat))
            {
                snapshot.assign(&seat.relay, duty(seat.carries), members);
            }
            writes.push(write);
        }
        writes
    }

    /// How to empty a relay.
    pub fn plan_drain(
        &self,
        now: Instant,
        relay: &RelayId,
        deadline: Duration,
        rng: &mut impl Rng,
    ) -> drain::Plan {
        drain::plan(
            relay,
            self.leases.rooms_of(relay),
            self.registry.snapshot(now),
            deadline,
            rng,
        )
    }

    /// What to write so that relays which have too much to do get rid of some of it: of each, at most `most` rooms, and
    /// no more than brings it to where others may be filled to.
    pub fn plan_rebalance(&self, now: Instant, most: usize, rng: &mut impl Rng) -> Vec<Write> {
        let mut snapshot = self.registry.snapshot(now);
        let mut writes = Vec::new();
        let listed = self
            .registry
            .relays()
            .filter(|relay| matches!(relay.state, State::Listed { .. }));
        for relay in listed.filter(|relay| relay.load.reported() > OVERLOADED && !relay.is_draining()) {
            let id = &relay.hello.relay;
            let carried = |lease: &Lease| lease.seats.iter().any(|seat| seat.carries && seat.relay == *id);
            let rooms = self
                .leases
                .rooms_of(id)
                .filter(|(lease, members)| *members > 0 && carried(lease));
            let mut excess = relay.load.reported() - crate::placement::Candidate::LIMIT;
            for (lease, members) in rooms.take(most) {
                if excess <= 0.0 {
                    break;
                }
                let write = leases::on_vacate(&lease, id, members, Cause::Rebalance, &snapshot, rng);
                let target = |write: &Write| {
                    let seat = write.lease.seats.first()?;
                    snapshot
                        .relay(&seat.relay)
                        .filter(|target| target.has_room_for(members))
                };
                let Some(write) = write.filter(|write| target(write).is_some()) else {
                    continue;
                };
                for seat in write
                    .lease
                    .seats
                    .iter()
                    .filter(|seat| !lease.seats.contains(seat))
                {
                    snapshot.assign(&seat.relay, duty(seat.carries), members);
                }
                excess -= members as f32 * relay.load.member_cost();
                writes.push(write);
            }
        }
        writes
    }

    fn members(&self, lease: &Lease, relay: &RelayId) -> u32 {
        self.leases
            .members_at(&lease.room, relay)
            .map_or(0, |(members, _)| members)
    }
}

fn duty(carries: bool) -> Duty {
    if carries { Duty::Carry } else { Duty::Standby }
}
