//! The lanes that a client receives on.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use wzp_lane::demux::Rule;
use wzp_lane::{LaneId, Opener};
use wzp_wire::Instant;

use crate::address::canonical;
use crate::clock;
use crate::ids::{Retired, random_u64};

/// Names a lane that we receive on for as long as the process lives, unlike its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey(u64);

impl LaneKey {
    #[cfg(test)]
    pub(crate) fn test(key: u64) -> Self {
        Self(key)
    }
}

/// How long a client's lane ids are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdLen {
    /// 2 bytes: 6 bytes less in every packet that comes down. The default.
    #[default]
    Short,
    /// 8 bytes, as our QUIC connection ids: blends in better.
    AsQuic,
}

impl IdLen {
    /// Bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Short => 2,
            Self::AsQuic => 8,
        }
    }
}

/// Every lane taken by id: a client has few, and changes them rarely.
pub(crate) struct Lanes {
    id_len: IdLen,
    snapshot: ArcSwap<Snapshot>,
    registry: Mutex<Registry>,
}

#[derive(Default, Clone)]
pub(crate) struct Snapshot {
    lanes: HashMap<LaneId, Arc<Receiver>>,
    peers: HashSet<SocketAddr>,
}

/// One lane that we receive on.
pub(crate) struct Receiver {
    pub(crate) key: LaneKey,
    pub(crate) opener: Opener,
    peer: SocketAddr,
}

#[derive(Default)]
struct Registry {
    next_key: u64,
    retired: Retired,
}

/// Every id is taken or in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no lane id is free")]
pub struct NoFreeId;

impl Lanes {
    /// Of 32,768 short ids: beyond that drawing a free one takes long.
    const MAX: usize = 16_384;

    pub(crate) fn new(id_len: IdLen) -> Arc<Self> {
        Arc::new(Self {
            id_len,
            snapshot: ArcSwap::default(),
            registry: Mutex::default(),
        })
    }

    pub(crate) fn id_len(&self) -> usize {
        self.id_len.bytes()
    }

    pub(crate) fn rule(&self) -> Rule {
        Rule::first_bit(self.id_len())
    }

    pub(crate) fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    pub(crate) fn open(
        self: &Arc<Self>,
        opener: Opener,
        peer: SocketAddr,
    ) -> Result<ReceivingLane, NoFreeId> {
        let mut registry = self.registry();
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        let id = self
            .draw(&mut registry, &snapshot, clock::now())
            .ok_or(NoFreeId)?;
        let key = LaneKey(registry.next_key);
        registry.next_key += 1;
        let peer = canonical(peer);
        snapshot
            .lanes
            .insert(id, Arc::new(Receiver { key, opener, peer }));
        snapshot.peers.insert(peer);
        self.snapshot.store(Arc::new(snapshot));
        Ok(ReceivingLane {
            lanes: Arc::clone(self),
            id,
            key,
        })
    }

    fn replace(&self, id: LaneId, opener: Opener) {
        let _registry = self.registry();
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        if let Some(lane) = snapshot.lanes.get_mut(&id) {
            let (key, peer) = (lane.key, lane.peer);
            *lane = Arc::new(Receiver { key, opener, peer });
        }
        self.snapshot.store(Arc::new(snapshot));
    }

    fn draw(&self, registry: &mut Registry, snapshot: &Snapshot, now: Instant) -> Option<LaneId> {
        if snapshot.lanes.len() + registry.retired.len(now) >= Self::MAX {
            return None;
        }
        loop {
            let random = random_u64().to_ne_bytes();
            let id = LaneId::from_random(random.get(..self.id_len())?)?;
            if !snapshot.lanes.contains_key(&id) && !registry.retired.contains(now, number(&id)) {
                return Some(id);
            }
        }
    }

    fn close(&self, id: LaneId) {
        let mut registry = self.registry();
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        snapshot.lanes.remove(&id);
        snapshot.peers = snapshot.lanes.values().map(|lane| lane.peer).collect();
        registry.retired.retire(clock::now(), number(&id));
        self.snapshot.store(Arc::new(snapshot));
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    pub(crate) fn find(&self, id: &LaneId) -> Option<&Receiver> {
        self.lanes.get(id).map(Arc::as_ref)
    }

    /// Whether some lane's QUIC connection is with this address.
    pub(crate) fn knows(&self, peer: SocketAddr) -> bool {
        self.peers.contains(&peer)
    }
}

fn number(id: &LaneId) -> u64 {
    id.as_slice()
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A lane that we receive on. Dropping it closes it: keep it exactly as long as its session lives.
pub struct ReceivingLane {
    lanes: Arc<Lanes>,
    id: LaneId,
    key: LaneKey,
}

impl ReceivingLane {
    /// The id to tell to the sender.
    pub fn id(&self) -> LaneId {
        self.id
    }

    /// What its datagrams are marked with.
    pub fn key(&self) -> LaneKey {
        self.key
    }

    /// The same lane with other keys: its sender chose another protection than was expected.
    #[must_use]
    pub fn reopened(self, opener: Opener) -> Self {
        self.lanes.replace(self.id, opener);
        self
    }

    /// Keeps the lane open until `connection` is closed, reset or idle, then closes it.
    pub async fn until_closed(self, connection: &quinn::Connection) {
        connection.closed().await;
    }
}

impl Drop for ReceivingLane {
    fn drop(&mut self) {
        self.lanes.close(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wzp_lane::{Aead, Secret};

    #[test]
    fn ids_are_not_given_out_again_soon() {
        let lanes = Lanes::new(IdLen::Short);
        let peer: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let mut seen = HashSet::new();
        for _ in 0..200 {
            let opener = Opener::new(Secret::from([1; 32]), Aead::Aes128Gcm, 2);
            let lane = lanes.open(opener, peer).unwrap();
            assert!(seen.insert(lane.id()), "{:?} came twice", lane.id());
            assert!(lane.id().is_marked());
            assert!(lanes.snapshot().find(&lane.id()).is_some());
            assert!(lanes.snapshot().knows(peer));
        }
        assert!(!lanes.snapshot().knows(peer));
    }
}
