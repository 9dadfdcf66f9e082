//! The signalling queue of a connection: filled by everybody, drained by its session.

mod budget;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use wzp_relay_core::{
    admission::Refusal,
    outbox::{Config, Next, Share},
};
use wzp_socket::clock;
use wzp_wire::signal::Role;

use crate::frames::Roster;
pub(crate) use budget::Budget;

/// Answers of the relay's own that may wait for a member, and their bytes: it is the member who asks for them.
const MEMBER: Config = Config {
    messages: 2_048,
    bytes: 256 << 10,
};
/// For a relay, which is told of a thousand members with their grants at once.
const RELAY: Config = Config {
    messages: 4_096,
    bytes: 5 << 20,
};

type Queue = wzp_relay_core::outbox::Queue<Bytes, Roster>;

/// The sending end of a connection's signalling queue.
pub(crate) struct Outbox(Arc<Shared>);

/// The receiving end; with it the queue ends, and what is sent then is lost.
pub(crate) struct Outgoings(Arc<Shared>);

struct Shared {
    id: u64,
    budget: Arc<Budget>,
    /// `None` once nobody takes anything any more.
    queue: Mutex<Option<Queue>>,
    more: Notify,
    cut: OnceLock<Cut>,
    told: Notify,
}

/// Why a session is ended from elsewhere.
#[derive(Clone, Debug)]
pub(crate) enum Cut {
    /// It does not read, or not enough.
    SlowReader(Slow),
    /// With a goodbye.
    Goodbye(Refusal),
}

/// How somebody was too slow a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slow {
    /// Too many of the answers that it asked for wait.
    Full,
    /// Nothing of what waits has been taken for long.
    Stalled,
    /// All queues together take too much, and this is one of the worst.
    Memory,
}

impl Slow {
    /// Every value of the label `why`.
    pub(crate) const LABELS: [&str; 3] = ["full", "stalled", "memory"];

    /// The value of the label `why`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Stalled => "stalled",
            Self::Memory => "memory",
        }
    }
}

/// A queue for somebody who came as `role`, its bytes counted in `budget`.
pub(crate) fn outbox(role: Role, budget: &Arc<Budget>) -> (Outbox, Outgoings) {
    let config = match role {
        Role::Relay | Role::Peer => RELAY,
        _ => MEMBER,
    };
    let shared = Arc::new(Shared {
        id: budget.next_id(),
        budget: Arc::clone(budget),
        queue: Mutex::new(Some(Queue::new(config))),
        more: Notify::new(),
        cut: OnceLock::new(),
        told: Notify::new(),
    });
    budget.enter(shared.id, &shared);
    (Outbox(Arc::clone(&shared)), Outgoings(shared))
}

impl Outbox {
    /// Queues a framed message of the relay's own. Whoever lets the queue fill up is cut off; nobody waits for it.
    pub(crate) fn push(&self, frame: Bytes) {
        if self.0.put(|queue| queue.push(clock::now(), frame)) == Some(Err(wzp_relay_core::outbox::Full)) {
            self.cut(Cut::SlowReader(Slow::Full));
        }
    }

    /// Queues a framed message of the member `from`; `false`, and it is lost, if too much of that member, or of all
    /// members, waits already.
    pub(crate) fn push_peer(&self, from: u16, share: Share, frame: Bytes) -> bool {
        let put = self
            .0
            .put(|queue| queue.push_peer(clock::now(), from, share, frame));
        put.unwrap_or(false)
    }

    /// The member `key` came, as `frame` says.
    pub(crate) fn push_came(&self, key: u16, frame: Bytes) {
        self.0.put(|queue| queue.push_came(clock::now(), key, frame));
    }

    /// The member `key` left, as `frame` says.
    pub(crate) fn push_left(&self, key: u16, frame: Bytes) {
        self.0.put(|queue| queue.push_left(clock::now(), key, frame));
    }

    /// Queues the list of those who are in a room.
    pub(crate) fn push_roster(&self, roster: Roster) {
        let keys = roster.keys();
        self.0.put(|queue| queue.push_list(clock::now(), keys, roster));
    }

    /// Whoever reads this has left its room: who comes and goes there is news no more.
    pub(crate) fn leave_room(&self) {
        self.0.change(Queue::leave_room);
    }

    /// Ends the session; the first reason counts.
    pub(crate) fn cut(&self, why: Cut) {
        self.0.cut(why);
    }
}

impl Shared {
    fn put<R>(&self, put: impl FnOnce(&mut Queue) -> R) -> Option<R> {
        let put = self.change(put);
        self.more.notify_one();
        put
    }

    /// Changes the queue, if it is still there, and keeps count of its bytes.
    fn change<R>(&self, change: impl FnOnce(&mut Queue) -> R) -> Option<R> {
        let mut queue = self.queue();
        let queue = queue.as_mut()?;
        let before = queue.bytes();
        let changed = change(queue);
        self.budget.changed(before, queue.bytes());
        Some(changed)
    }

    fn end(&self) {
        if let Some(queue) = self.queue().take() {
            self.budget.changed(queue.bytes(), 0);
        }
    }

    fn cut(&self, why: Cut) {
        if let Cut::SlowReader(_) = &why {
            // It gets none of that any more, and memory may be short.
            self.end();
        }
        if self.cut.set(why).is_ok() {
            self.told.notify_one();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Option<Queue>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outgoings {
    /// The next message. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Bytes {
        loop {
            if let Some(frame) = self.try_next() {
                return frame;
            }
            self.0.more.notified().await;
        }
    }

    pub(crate) fn try_next(&mut self) -> Option<Bytes> {
        let next = self.0.change(|queue| queue.pop(clock::now())).flatten()?;
        Some(match next {
            Next::Frame(frame) => frame,
            // Others may put something into the queue while this is written down.
            Next::Part(part) => part.frame(),
        })
    }

    /// Resolves once the session is to end.
    pub(crate) fn cut(&self) -> impl Future<Output = Cut> + use<> {
        let shared = Arc::clone(&self.0);
        async move {
            loop {
                if let Some(why) = shared.cut.get() {
                    return why.clone();
                }
                shared.told.notified().await;
            }
        }
    }
}

impl Drop for Outgoings {
    fn drop(&mut self) {
        self.0.end();
        self.0.budget.leave(self.0.id);
    }
}
