//! The tasks of a replica.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{self, MissedTickBehavior},
};
use tracing::{info, warn};
use wzp_control_core::{
    AddressReport,
    drain::Drain,
    probes,
    registry::{Checker, State},
};
use wzp_wire::{Epoch, Instant, RelayId, RoomName};

use super::{Command, Inner, Plane, Tasks};
use crate::{check, clock, random::SystemRng, store::StoreError};

/// Leases read at once at the start.
const PAGE: u32 = 1_000;
/// Keys that another replica has rotated are noticed after this.
const KEYS: Duration = Duration::from_secs(15);
const TIDY: Duration = Duration::from_secs(60);
const REBALANCE: Duration = Duration::from_secs(10);
/// Rooms moved in one go because their relay has too much to do.
const REBALANCED: usize = 2;
/// A grant is good a little longer than it says, for clocks that differ.
const LEEWAY: Duration = Duration::from_secs(600);
/// Leases that are forgotten in one go.
const FORGOTTEN: usize = 1_000;
/// Nothing is due for so long.
const BREATH: Duration = Duration::from_millis(10);
const IDLE: Duration = Duration::from_secs(3_600);

/// Addresses that this process has to try itself.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) relay: RelayId,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) certificates: Vec<[u8; 32]>,
}

impl Plane {
    /// Reads what the database knows of rooms.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(crate) async fn load(&self) -> Result<(), StoreError> {
        let (mut after, mut rooms) = (String::new(), 0);
        loop {
            let page = self.store.leases(&after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.room.to_string();
            rooms += page.len();
            self.with(|inner, now| {
                for lease in &page {
                    inner.world.handle_lease(now, lease);
                }
            });
        }
        if rooms > 0 {
            info!(rooms, "rooms of before");
        }
        self.with(|inner, now| {
            let relays: Vec<RelayId> = inner.world.leases().relays().cloned().collect();
            for relay in relays {
                inner.world.registry.handle_expected(now, &relay);
            }
        });
        self.publish_now();
        Ok(())
    }

    /// Everything that goes on by itself, until it is dropped.
    pub(crate) async fn work(self: Arc<Self>, tasks: Tasks) {
        let Tasks { mut lost, mut checks } = tasks;
        let mut set = JoinSet::new();
        let plane = || Arc::clone(&self);
        let one = plane();
        set.spawn(async move { one.keep_time().await });
        let one = plane();
        set.spawn(async move { one.keep_draining().await });
        let one = plane();
        set.spawn(async move { one.publish().await });
        let one = plane();
        set.spawn(async move { one.tell_peers().await });
        let one = plane();
        set.spawn(async move { one.plan_probes().await });
        let one = plane();
        set.spawn(async move { one.refresh_keys().await });
        let one = plane();
        set.spawn(async move { one.tidy().await });
        let one = plane();
        set.spawn(async move { one.rebalance().await });
        loop {
            tokio::select! {
                Some(lost) = lost.recv() => { set.spawn(plane().replace(lost)); }
                Some(check) = checks.recv() => { set.spawn(plane().check(check)); }
                // None of them ends; what panicked is a bug that was logged.
                Some(ended) = set.join_next() => if let Err(error) = ended {
                    warn!(%error, "a task broke");
                },
                else => return,
            }
        }
    }

    /// What time alone changes: dead relays, drains that are over. It never waits for the database.
    async fn keep_time(&self) {
        loop {
            let due = self.look(|inner, _| inner.due());
            let wait = due.map_or(IDLE, |due| due.duration_since(clock::now()));
            tokio::select! {
                () = time::sleep(wait) => {}
                () = self.rescheduled.notified() => {}
            }
            if self.look(|inner, now| inner.due().is_some_and(|due| due <= now)) {
                self.steps_due.notify_one();
                self.handle_timeout();
                // What is due and not done yet, because the database is slow or away, stays due; others get their turn.
                time::sleep(BREATH).await;
            }
        }
    }

    /// Orders rooms of draining relays to move, each in its time.
    async fn keep_draining(&self) {
        loop {
            self.steps_due.notified().await;
            self.step_drains().await;
        }
    }

    fn handle_timeout(&self) {
        self.with(|inner, now| {
            inner.world.registry.handle_timeout(now);
            inner.drains.retain(|relay, drain| {
                // Steps that are late, because the database was, are not forgotten.
                let progress = drain.progress(now);
                let over =
                    drain.is_over(now) && progress.rooms_ordered + drain.plan().stuck.len() == progress.rooms;
                if over {
                    info!(%relay, ?progress, "drain is over");
                }
                !over
            });
        });
    }

    /// Whom each relay probes: the same on every replica, anew in every round.
    async fn plan_probes(&self) {
        let mut round = time::interval(probes::ROUND);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lists = self.list_updates();
        loop {
            tokio::select! {
                _ = round.tick() => {}
                changed = lists.changed() => if changed.is_err() { return },
            }
            self.with(|inner, _| {
                let registry = &inner.world.registry;
                let alive = registry.relays().filter(|relay| relay.stream.is_some());
                let relays: Vec<_> = alive.map(|relay| (&relay.hello.relay, relay.place())).collect();
                let plan = probes::plan(&relays, registry.mesh(), clock::unix_ms());
                for (relay, targets) in plan.targets {
                    let command = Command::ProbePlan {
                        generation: plan.generation,
                        relays: targets,
                        interval: probes::INTERVAL,
                    };
                    inner.send(&relay, command);
                }
            });
        }
    }

    /// Another replica may have rotated the keys, and new ones begin to sign.
    async fn refresh_keys(&self) {
        let mut every = time::interval(KEYS);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            match self.authority.refresh(&self.store, clock::unix_seconds()).await {
                Ok(true) => self.tell_keys(),
                Ok(false) => {}
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot read the keys; those of before are used"
                    );
                }
            }
        }
    }

    /// Tells every relay whom to believe.
    pub(crate) fn tell_keys(&self) {
        let trusted = self.authority.trusted();
        info!(generation = trusted.generation, "keys have changed");
        self.with(|inner, _| inner.broadcast(&Command::TrustedKeys(trusted)));
        self.publish_now();
    }

    /// Forgets rooms in which nobody has been for longer than any grant is good.
    async fn tidy(&self) {
        let mut every = time::interval(TIDY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let idle = self.settings.grant_ttl + LEEWAY;
            let rooms: Vec<(RoomName, Epoch)> = self.look(|inner, now| {
                let leases = inner.world.leases();
                let rooms = leases.idle(now, idle).take(FORGOTTEN);
                rooms.map(|room| (room.clone(), leases.epoch(room))).collect()
            });
            for (room, epoch) in rooms {
                if self.store.forget_room(&room, epoch).await.unwrap_or(false) {
                    self.with(|inner, now| inner.world.handle_forgotten(now, &room));
                }
            }
        }
    }

    /// Takes rooms from relays that have too much to do.
    async fn rebalance(&self) {
        let mut every = time::interval(REBALANCE);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let writes = self.look(|inner, now| inner.world.plan_rebalance(now, REBALANCED, &mut SystemRng));
            for write in writes {
                self.rebalance_one(&write).await;
            }
        }
    }

    /// Tries addresses itself, because there is nobody else.
    async fn check(self: Arc<Self>, check: Check) {
        let Check {
            relay,
            addresses,
            certificates,
        } = check;
        let mut tries = JoinSet::new();
        for address in addresses {
            let certificates = certificates.clone();
            tries.spawn(async move { (address, check::reach(address, certificates).await) });
        }
        while let Some(Ok((address, outcome))) = tries.join_next().await {
            if let Err(why) = &outcome {
                info!(%relay, %address, why, "address cannot be reached");
            }
            let report = AddressReport {
                relay: relay.clone(),
                address,
                outcome,
            };
            self.with(|inner, now| {
                inner
                    .world
                    .registry
                    .handle_address_report(now, &Checker::Control, &report)
            });
        }
    }

    /// Relays by what they are.
    pub(crate) fn count_relays(&self) -> [(&'static str, usize); 5] {
        self.look(|inner, _| {
            let count = |which: fn(&State) -> bool| {
                inner
                    .world
                    .registry
                    .relays()
                    .filter(|relay| which(&relay.state))
                    .count()
            };
            [
                ("joining", count(|state| matches!(state, State::Joining))),
                ("checking", count(|state| matches!(state, State::Checking { .. }))),
                ("listed", count(|state| matches!(state, State::Listed { .. }))),
                ("silent", count(|state| matches!(state, State::Silent))),
                ("lost", count(|state| matches!(state, State::Lost))),
            ]
        })
    }

    /// When a relay was last heard.
    pub(crate) fn heard(&self) -> Vec<(RelayId, Duration)> {
        self.look(|inner, now: Instant| {
            let relays = inner
                .world
                .registry
                .relays()
                .filter(|relay| relay.stream.is_some());
            relays
                .map(|relay| (relay.hello.relay.clone(), now.duration_since(relay.heard)))
                .collect()
        })
    }

    /// Makes relays go elsewhere, because this process ends.
    pub(crate) fn end_streams(&self) {
        self.with(|inner, _| inner.end_streams());
    }
}

impl Inner {
    /// When something is to be done though nobody says anything.
    fn due(&self) -> Option<Instant> {
        let drains = self.drains.values().map(Drain::poll_timeout);
        self.world.registry.poll_timeout().into_iter().chain(drains).min()
    }
}
