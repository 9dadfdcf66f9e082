//! What this replica knows and decides: the core's world behind one lock, the streams of relays, and the store.
//!
//! Whatever comes in is handled under the lock and never waits there; what comes out of the core is carried out by
//! the tasks of [`work`].

mod join;
mod list;
mod messages;
mod moves;
mod presence;
mod streams;
mod work;

pub(crate) use join::{JoinError, JoinRequest, Place, Ticket};
pub(crate) use list::{List, Listed};
pub(crate) use messages::{Command, Event, Order, Peer, Peers};
pub(crate) use moves::{DrainError, DrainView};
pub(crate) use streams::{Attached, Outgoing};

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, mpsc, watch};
use tracing::{debug, info};
use wzp_control_core::{
    BootId, World,
    drain::Drain,
    registry::{self, Checker, Output, WhyLost},
};
use wzp_wire::{Instant, RelayId};

use crate::{authority::Authority, clock, metrics::Metrics, random::random, store::Store};
use join::Emergency;
use presence::Presence;
use streams::Streams;
use work::Check;

/// What the operator decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) grant_ttl: Duration,
    pub(crate) rooms: wzp_control_core::policy::RoomPolicy,
}

/// One replica.
pub(crate) struct Plane {
    pub(crate) store: Store,
    pub(crate) authority: Authority,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) settings: Settings,
    /// Of this process.
    pub(crate) control_id: [u8; 8],
    pub(crate) heartbeat: Duration,
    inner: Mutex<Inner>,
    lost: mpsc::UnboundedSender<Lost>,
    checks: mpsc::UnboundedSender<Check>,
    /// The list is to be made anew.
    list_changed: Notify,
    /// Something is due at another time than before.
    rescheduled: Notify,
    /// Rooms of draining relays are to be moved.
    steps_due: Notify,
    list: watch::Sender<Arc<List>>,
}

/// What is behind the lock.
pub(crate) struct Inner {
    pub(crate) world: World,
    pub(crate) drains: BTreeMap<RelayId, Drain>,
    streams: Streams,
    emergency: Emergency,
    presence: Presence,
}

/// Rooms of this relay need others.
#[derive(Debug)]
struct Lost {
    relay: RelayId,
    boot: Option<BootId>,
    why: WhyLost,
}

/// What the tasks of a plane take out of it.
pub(crate) struct Tasks {
    lost: mpsc::UnboundedReceiver<Lost>,
    checks: mpsc::UnboundedReceiver<Check>,
}

impl Plane {
    pub(crate) fn new(
        store: Store,
        authority: Authority,
        metrics: Arc<Metrics>,
        settings: Settings,
    ) -> (Arc<Self>, Tasks) {
        let config = registry::Config::default();
        let (lost, lost_receiver) = mpsc::unbounded_channel();
        let (checks, checks_receiver) = mpsc::unbounded_channel();
        let heartbeat = config.heartbeat;
        let inner = Inner {
            world: World::new(config, clock::unix_ms()),
            drains: BTreeMap::new(),
            streams: Streams::default(),
            emergency: Emergency::default(),
            presence: Presence::default(),
        };
        let plane = Self {
            store,
            authority,
            metrics,
            settings,
            control_id: random(),
            heartbeat,
            inner: Mutex::new(inner),
            lost,
            checks,
            list_changed: Notify::new(),
            rescheduled: Notify::new(),
            steps_due: Notify::new(),
            list: watch::Sender::new(Arc::default()),
        };
        let tasks = Tasks {
            lost: lost_receiver,
            checks: checks_receiver,
        };
        (Arc::new(plane), tasks)
    }

    /// Does something with what is known, and carries out what the core makes of it.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Inner, Instant) -> R) -> R {
        let mut inner = self.lock();
        let now = clock::now();
        let result = act(&mut inner, now);
        while let Some(output) = inner.world.registry.poll_output() {
            self.carry_out(&mut inner, output);
        }
        drop(inner);
        self.rescheduled.notify_one();
        result
    }

    /// Looks at what is known.
    pub(crate) fn look<R>(&self, act: impl FnOnce(&Inner, Instant) -> R) -> R {
        act(&self.lock(), clock::now())
    }

    /// The list as it was last made.
    pub(crate) fn list(&self) -> Arc<List> {
        Arc::clone(&self.list.borrow())
    }

    /// Told of every new list.
    pub(crate) fn list_updates(&self) -> watch::Receiver<Arc<List>> {
        self.list.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry_out(&self, inner: &mut Inner, output: Output) {
        match output {
            Output::CheckAddress {
                by,
                relay,
                addresses,
                certificates,
            } => match by {
                Checker::Relay(by) => inner.order_check(&by, relay, &addresses, certificates),
                // The receiver lives as long as the process serves.
                Checker::Control => drop(self.checks.send(Check {
                    relay,
                    addresses,
                    certificates,
                })),
            },
            Output::StateChanged { relay, state } => {
                info!(%relay, ?state, "relay changed its state");
            }
            Output::ListChanged { generation } => {
                debug!(generation, "relay list changed");
                self.list_changed.notify_one();
            }
            Output::RelayLost { relay, boot, why } => {
                drop(self.lost.send(Lost { relay, boot, why }));
            }
        }
    }
}

impl std::fmt::Debug for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plane").finish_non_exhaustive()
    }
}
