//! Rooms that go from one relay to another: because it was lost, because it is drained, because they are deleted.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time;
use tracing::{info, warn};
use wzp_control_core::{
    Cause, Lease,
    drain::{DEADLINE, Drain, Plan, Progress, Step},
    leases::{self, Write},
};
use wzp_wire::{Instant, RelayId, RoomName};

use super::{Command, Inner, Lost, Order, Plane};
use crate::{
    clock,
    random::SystemRng,
    store::{Changed, StoreError},
};

/// Changes of one room in a row by others, after which it is left to them.
const ROUNDS: usize = 8;
/// A drain takes that long, however little time there is said to be.
const SHORTEST: Duration = Duration::from_secs(1);
/// Until a database that is away is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// A drain as it is told to people.
#[derive(Clone, Debug)]
pub(crate) struct DrainView {
    pub(crate) plan: Plan,
    pub(crate) progress: Progress,
}

/// Why a relay is not drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DrainError {
    #[error("no relay of this name is known")]
    Unknown,
}

impl Plane {
    /// What a drain would do.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub(crate) fn plan_drain(&self, relay: &RelayId, deadline: Duration) -> Result<DrainView, DrainError> {
        self.look(|inner, now| {
            inner.world.registry.relay(relay).ok_or(DrainError::Unknown)?;
            let plan = inner.world.plan_drain(now, relay, deadline, &mut SystemRng);
            let progress = Drain::new(now, plan.clone()).progress(now);
            Ok(DrainView { plan, progress })
        })
    }

    /// Begins to empty a relay; one that is being emptied goes on.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub(crate) fn drain(&self, relay: &RelayId, deadline: Duration) -> Result<DrainView, DrainError> {
        self.with(|inner, now| {
            if !inner.world.registry.handle_drain(now, relay) {
                return Err(DrainError::Unknown);
            }
            if !inner.drains.contains_key(relay) {
                let plan = inner
                    .world
                    .plan_drain(now, relay, deadline.max(SHORTEST), &mut SystemRng);
                info!(%relay, rooms = plan.steps.len(), stuck = plan.stuck.len(), "drain begins");
                inner.drains.insert(relay.clone(), Drain::new(now, plan));
                inner.send(relay, Command::Drain { deadline });
            }
            inner.drain_view(relay, now).ok_or(DrainError::Unknown)
        })
    }

    /// Uses a relay again; rooms that have moved stay where they are. Returns how many were not yet ordered to.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub(crate) fn undrain(&self, relay: &RelayId) -> Result<usize, DrainError> {
        self.with(|inner, now| {
            if !inner.world.registry.handle_undrain(now, relay) {
                return Err(DrainError::Unknown);
            }
            inner.send(relay, Command::Undrain);
            let stayed = inner.drains.remove(relay).map_or(0, Drain::undo);
            info!(%relay, stayed, "drain undone");
            Ok(stayed)
        })
    }

    /// Takes the room from everybody. `false`: nobody had it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(crate) async fn delete_room(&self, room: &RoomName) -> Result<bool, StoreError> {
        let Some(before) = self.store.lease(room).await? else {
            return Ok(false);
        };
        let Some(gone) = self.store.delete_room(room, clock::unix_seconds()).await? else {
            return Ok(false);
        };
        self.with(|inner, now| {
            let before = inner.world.leases().lease(room).unwrap_or(before);
            inner.world.handle_lease(now, &gone);
            for seat in &before.seats {
                let room = room.clone();
                inner.send(
                    &seat.relay,
                    Command::Revoke {
                        room,
                        epoch: gone.epoch,
                    },
                );
            }
        });
        Ok(true)
    }

    /// Gives the rooms of a lost relay to others, until each has one.
    pub(super) async fn replace(self: Arc<Self>, lost: Lost) {
        let Lost { relay, boot, why } = lost;
        let writes = self.with(|inner, now| {
            let writes = inner.world.plan_lost(now, &relay, &mut SystemRng);
            inner.world.handle_lost(now, &relay);
            inner.presence.forget(&relay);
            writes
        });
        warn!(%relay, ?boot, ?why, rooms = writes.len(), "relay lost");
        self.metrics.relays_lost.inc();
        for write in writes {
            let order = |lease: Lease, cause| Order {
                lease,
                deadline: Duration::ZERO,
                spread: Duration::ZERO,
                cause,
            };
            let again = |inner: &Inner, now: Instant, row: &Lease| {
                let snapshot = inner.world.registry.snapshot(now);
                leases::on_lost(row, &relay, &snapshot, &mut SystemRng)
                    .ok()
                    .flatten()
            };
            self.write(write, &order, &again).await;
        }
    }

    /// Moves a room from a relay that has too much to do; if somebody else was faster, it is left to them.
    pub(super) async fn rebalance_one(&self, write: &Write) {
        let order = |lease: Lease, cause| Order {
            lease,
            deadline: DEADLINE,
            spread: DEADLINE / 4,
            cause,
        };
        self.write_once(write, &order).await;
    }

    /// Carries out the steps of all drains that are due.
    pub(super) async fn step_drains(&self) {
        while let Some((relay, deadline, step)) = self.with(|inner, now| inner.next_step(now)) {
            let mut step = Some(step);
            for _ in 0..ROUNDS {
                let Some(due) = step.take() else { break };
                let order = |lease: Lease, cause| Order {
                    lease,
                    deadline: deadline.saturating_sub(due.after).max(due.spread),
                    spread: due.spread,
                    cause,
                };
                step = self.write_step(&relay, &due, &order).await;
            }
        }
    }

    async fn write_step(
        &self,
        relay: &RelayId,
        step: &Step,
        order: &impl Fn(Lease, Cause) -> Order,
    ) -> Option<Step> {
        let row = self.write_once(&step.write, order).await?;
        self.with(|inner, now| {
            let drain = inner.drains.get(relay)?;
            let snapshot = inner.world.registry.snapshot(now);
            drain.handle_conflict(&row, &snapshot, &mut SystemRng)
        })
    }

    /// Writes until it is written, or there is nothing left to write.
    async fn write(
        &self,
        write: Write,
        order: &impl Fn(Lease, Cause) -> Order,
        again: &impl Fn(&Inner, Instant, &Lease) -> Option<Write>,
    ) {
        let mut next = Some(write);
        for _ in 0..ROUNDS {
            let Some(write) = next.take() else { return };
            if let Some(row) = self.write_once(&write, order).await {
                next = self.look(|inner, now| again(inner, now, &row));
            }
        }
    }

    /// Writes once and tells the relays of both sets; the row as it is, if somebody else was faster.
    async fn write_once(&self, write: &Write, order: &impl Fn(Lease, Cause) -> Order) -> Option<Lease> {
        let room = &write.lease.room;
        let changed = loop {
            match self.store.change(room, write, clock::unix_seconds()).await {
                Ok(changed) => break changed,
                // What is known goes on: the database decides, and it comes back.
                Err(StoreError::Unreachable(_)) => time::sleep(PAUSE).await,
                Err(error) => {
                    warn!(%room, error = &error as &dyn std::error::Error, "cannot write a lease");
                    return None;
                }
            }
        };
        match changed {
            Changed::Written(lease) => {
                self.with(|inner, now| inner.order(now, &order(lease, write.cause)));
                self.metrics.assigned(write.cause);
                None
            }
            Changed::Lost(row) => {
                self.with(|inner, now| inner.world.handle_lease(now, &row));
                Some(row)
            }
            Changed::Gone => None,
        }
    }
}

impl Inner {
    /// Tells a new lease to the relays that have it, and to those that had it.
    fn order(&mut self, now: Instant, order: &Order) {
        let before = self.world.leases().lease(&order.lease.room);
        self.world.handle_lease(now, &order.lease);
        let seats = before
            .iter()
            .flat_map(|before| &before.seats)
            .chain(&order.lease.seats);
        let relays: BTreeSet<RelayId> = seats.map(|seat| seat.relay.clone()).collect();
        for relay in relays {
            self.send(&relay, Command::Lease(order.clone()));
        }
    }

    fn next_step(&mut self, now: Instant) -> Option<(RelayId, Duration, Step)> {
        self.drains.iter_mut().find_map(|(relay, drain)| {
            let step = drain.poll_step(now)?;
            Some((relay.clone(), drain.plan().deadline, step))
        })
    }

    /// A drain that goes on, or has not been forgotten.
    pub(crate) fn drain_view(&self, relay: &RelayId, now: Instant) -> Option<DrainView> {
        let drain = self.drains.get(relay)?;
        Some(DrainView {
            plan: drain.plan().clone(),
            progress: drain.progress(now),
        })
    }
}
