//! What one replica knows, together.

use std::time::Duration;

use rand_core::Rng;
use wzp_wire::{Instant, RelayId, RoomName};

use crate::{
    drain,
    leases::{Decision, Lease, Table, Write},
    placement::{NoRelay, Request},
    registry::{Config, Registry},
};

/// Relays and rooms, as one replica knows them. Relay events go to `registry`, and those of rooms to the methods here.
#[derive(Debug)]
pub struct World {
    /// The relays.
    pub registry: Registry,
    /// The rooms.
    pub leases: Table,
}

impl World {
    /// Knows nothing.
    pub fn new(config: Config, unix_ms: u64) -> Self {
        Self {
            registry: Registry::new(config, unix_ms),
            leases: Table::default(),
        }
    }

    /// A row of the database as it was read, or written by anybody, or what a relay carries.
    pub fn handle_lease(&mut self, now: Instant, lease: &Lease) -> crate::leases::Learnt {
        self.leases.handle_lease(now, lease)
    }

    /// A relay has that many direct members in a room.
    pub fn handle_members(&mut self, now: Instant, relay: &RelayId, room: &RoomName, members: u32) {}

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
        Err(NoRelay)
    }

    /// A member was let into the room under this lease, which is a row: it is on its way to each relay of it.
    pub fn handle_joined(&mut self, now: Instant, lease: &Lease, request: &Request) {}

    /// What to write when a relay is lost, the rooms with most members first.
    pub fn plan_lost(&self, now: Instant, relay: &RelayId, rng: &mut impl Rng) -> Vec<Write> {
        Vec::new()
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
            std::iter::empty(),
            self.registry.snapshot(now),
            deadline,
            rng,
        )
    }

    /// What to write so that relays which have too much to do get rid of some of it; at most `most` rooms.
    pub fn plan_rebalance(&self, now: Instant, most: usize, rng: &mut impl Rng) -> Vec<Write> {
        Vec::new()
    }
}
