//! The control plane of a cluster, as a client sees it: which relays there are, which of them are near, and which of
//! them serve a room.

mod api;
mod http;
mod measure;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use wzp_identity::Identity;
use wzp_socket::client::Socket;
use wzp_wire::{Epoch, RoomName, signal::RelaySeat};

use self::api::{Api, Measurement};
use crate::error::ControlError;

/// What was measured is good for so long: a join that measures takes longer.
const FRESH: Duration = Duration::from_secs(600);
/// Between the first try and the second, when the control plane was not there.
const AGAIN: Duration = Duration::from_millis(250);

/// What lets us into rooms, besides being who we are.
#[derive(Clone, Default)]
pub(crate) enum Access {
    /// The room's policy lets in whoever proves an identity.
    #[default]
    Identity,
    /// An API key, or a token of an identity provider that the control plane knows.
    Bearer(String),
    /// Something that only the service behind the control plane can judge.
    Token(String),
}

/// What lets one identity into one room, and by which relays. Kept in memory by a client; an application that keeps it
/// itself gets back into the room although the control plane is gone ([`Builder::ticket`](crate::Builder::ticket)).
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) room: RoomName,
    pub(crate) epoch: Epoch,
    pub(crate) grant: String,
    /// Of the grant, in Unix seconds, if that was said.
    pub(crate) expires: Option<u64>,
    pub(crate) relays: Vec<RelaySeat>,
}

impl Ticket {
    /// The room.
    pub fn room(&self) -> &RoomName {
        &self.room
    }

    /// The number of the set of relays; it only rises.
    pub fn epoch(&self) -> u64 {
        self.epoch.0
    }

    /// Whether it opens nothing any more, now or in a minute.
    pub(crate) fn is_over(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let soon = now.map_or(0, |since| since.as_secs()) + 60;
        self.expires.is_some_and(|expires| expires <= soon)
    }

    /// The relays that serve the room, by their names in the cluster, those that carry first.
    pub fn relays(&self) -> impl Iterator<Item = &str> {
        self.relays.iter().map(|seat| seat.relay.as_str())
    }
}

/// Without the grant.
impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("room", &self.room)
            .field("epoch", &self.epoch)
            .field("relays", &self.relays().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// A ticket that a call keeps up to date while the room moves.
pub(crate) type Kept = Arc<Mutex<Ticket>>;

/// The cluster of one client.
pub(crate) struct Cluster {
    api: Api,
    access: Access,
    region: Option<String>,
    measured: Mutex<Measured>,
    tickets: Mutex<BTreeMap<String, Kept>>,
}

#[derive(Default)]
struct Measured {
    at: Option<std::time::Instant>,
    relays: Vec<Measurement>,
}

impl Cluster {
    pub(crate) fn new(
        url: &str,
        access: Access,
        region: Option<String>,
        tickets: Vec<Ticket>,
    ) -> Result<Self, ControlError> {
        let tickets = tickets
            .into_iter()
            .map(|ticket| (ticket.room.to_string(), Arc::new(Mutex::new(ticket))));
        Ok(Self {
            api: Api::new(url)?,
            access,
            region,
            measured: Mutex::default(),
            tickets: Mutex::new(tickets.collect()),
        })
    }

    /// Asks which relays there are and measures the best of them. Whoever has a ticket can do without.
    pub(crate) async fn explore(&self, socket: &Socket) -> Result<(), ControlError> {
        match self.measure(socket).await {
            Err(error) if error.is_absence() && !lock(&self.tickets).is_empty() => Ok(()),
            outcome => outcome,
        }
    }

    async fn measure(&self, socket: &Socket) -> Result<(), ControlError> {
        let listed = match self.api.relays().await {
            Err(error) if error.is_absence() => {
                tokio::time::sleep(AGAIN).await;
                self.api.relays().await?
            }
            listed => listed?,
        };
        let candidates = measure::candidates(listed, self.region.as_deref());
        let relays = measure::measure(socket, candidates).await;
        *lock(&self.measured) = Measured {
            at: Some(std::time::Instant::now()),
            relays,
        };
        Ok(())
    }

    /// The way into a room: what the control plane says now or, while it is gone, what it said before.
    pub(crate) async fn admit(
        &self,
        socket: &Socket,
        identity: &Identity,
        room: &RoomName,
    ) -> Result<Kept, ControlError> {
        let is_old = lock(&self.measured).at.is_none_or(|at| at.elapsed() > FRESH);
        if is_old {
            // The control plane places us by region then.
            let _ = self.measure(socket).await;
        }
        match self.ask(identity, room).await {
            Ok(ticket) => {
                let ticket = Arc::new(Mutex::new(ticket));
                lock(&self.tickets).insert(room.to_string(), Arc::clone(&ticket));
                Ok(ticket)
            }
            Err(error) if error.is_absence() => {
                let known = lock(&self.tickets).get(room.as_str()).map(Arc::clone);
                known.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn ticket(&self, room: &RoomName) -> Option<Ticket> {
        let known = lock(&self.tickets).get(room.as_str()).map(Arc::clone);
        known.map(|ticket| lock(&ticket).clone())
    }

    /// What the control plane says now.
    pub(crate) async fn ask(&self, identity: &Identity, room: &RoomName) -> Result<Ticket, ControlError> {
        let measured = lock(&self.measured).relays.clone();
        let join = || {
            self.api
                .join(identity, &self.access, room, &measured, self.region.as_deref())
        };
        match join().await {
            Err(error) if error.is_absence() => {
                tokio::time::sleep(AGAIN).await;
                join().await
            }
            outcome => outcome,
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A relay as the control plane lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    id: String,
    region: String,
    state: String,
    load: String,
    addresses: Vec<SocketAddr>,
    certificates: Vec<[u8; 32]>,
}

#[cfg(test)]
mod tests;
