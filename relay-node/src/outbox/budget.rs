//! What all signalling queues of the relay may take together.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;
use wzp_relay_core::outbox::{Load, victims};
use wzp_socket::clock;

use super::{Cut, Shared, Slow};

/// The bytes of all queues, and where they are.
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
    over: Notify,
    ids: AtomicU64,
    queues: Mutex<BTreeMap<u64, Weak<Shared>>>,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
            over: Notify::new(),
            ids: AtomicU64::new(0),
            queues: Mutex::default(),
        })
    }

    /// What is used, as a part of what may be.
    pub(crate) fn load(&self) -> f64 {
        self.used.load(Relaxed) as f64 / self.limit.max(1) as f64
    }

    /// Cuts off the worst readers whenever queues take too much, for ever.
    pub(crate) async fn keep(&self) {
        loop {
            self.over.notified().await;
            self.relieve();
        }
    }

    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Relaxed)
    }

    pub(super) fn enter(&self, id: u64, queue: &Arc<Shared>) {
        self.queues().insert(id, Arc::downgrade(queue));
    }

    pub(super) fn leave(&self, id: u64) {
        self.queues().remove(&id);
    }

    pub(super) fn changed(&self, before: usize, after: usize) {
        if after <= before {
            self.used.fetch_sub(before - after, Relaxed);
            return;
        }
        let more = after - before;
        if self.used.fetch_add(more, Relaxed) + more > self.limit {
            self.over.notify_one();
        }
    }

    /// Frees an eighth more than needs be, or the next message would be one too many again.
    pub(super) fn relieve(&self) {
        let used = self.used.load(Relaxed);
        if used <= self.limit {
            return;
        }
        let queues: Vec<_> = self.queues().values().filter_map(Weak::upgrade).collect();
        let loads = queues.into_iter().map(|queue| {
            let load = queue.queue().as_ref().map(|queue| Load {
                bytes: queue.bytes(),
                stalled_since: queue.stalled_since(),
            });
            (queue, load)
        });
        let loads = loads.filter_map(|(queue, load)| Some((queue, load?))).collect();
        let excess = used - (self.limit - self.limit / 8);
        for queue in victims(clock::now(), excess, loads) {
            queue.cut(Cut::SlowReader(Slow::Memory));
        }
    }

    pub(super) fn queues(&self) -> MutexGuard<'_, BTreeMap<u64, Weak<Shared>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
