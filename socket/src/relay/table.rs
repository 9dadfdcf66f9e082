//! The lanes that a relay receives on, found by id without a lock.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwapOption, Guard};
use wzp_lane::{LaneId, Opener};
use wzp_wire::Instant;

use crate::clock;
use crate::ids::{Retired, random_u64};

/// Bytes of a relay's lane ids, as of its QUIC connection ids.
pub const ID_LEN: usize = 8;

/// Of a lane id's first bit: it tells lanes from QUIC.
const LANE_BIT: u64 = 1 << 63;

/// A fixed number of slots; the low bits of a lane's id name its slot.
///
/// Look-up is one load and a comparison, from any thread. Opening and closing lanes takes a lock, which packets
/// never do.
pub struct LaneTable<T> {
    slots: Box<[ArcSwapOption<Entry<T>>]>,
    max_lanes: usize,
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    count: usize,
    retired: Retired,
}

/// One lane that we receive on.
pub struct Entry<T> {
    id: u64,
    /// Its keys and replay window.
    pub opener: Opener,
    /// What the handler keeps with it.
    pub state: T,
}

/// The table holds as many lanes as it may: the join is to be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lane table is full")]
pub struct Full;

impl<T> LaneTable<T> {
    /// A table for up to `max_lanes` lanes. Takes 16 to 32 bytes a lane at once.
    pub fn new(max_lanes: usize) -> Arc<Self> {
        // Twice as many slots as lanes: a draw hits a free slot at least every second time.
        let slots = max_lanes.max(1).saturating_mul(2).next_power_of_two();
        Arc::new(Self {
            slots: (0..slots).map(|_| ArcSwapOption::empty()).collect(),
            max_lanes,
            registry: Mutex::default(),
        })
    }

    /// Opens a lane: draws its id, makes its state from it and enters it. From then on its packets are opened, so
    /// tell the id to the sender afterwards.
    ///
    /// # Errors
    /// [`Full`] when the table holds `max_lanes`.
    pub fn open(self: &Arc<Self>, opener: Opener, state: impl FnOnce(LaneId) -> T) -> Result<Lane<T>, Full> {
        let now = clock::now();
        let mut registry = self.registry();
        if registry.count >= self.max_lanes {
            return Err(Full);
        }
        let id = self.draw(&mut registry, now);
        let entry = Arc::new(Entry {
            id,
            opener,
            state: state(lane_id(id)),
        });
        self.slot(id).store(Some(Arc::clone(&entry)));
        registry.count += 1;
        Ok(Lane {
            table: Arc::clone(self),
            entry,
        })
    }

    fn draw(&self, registry: &mut Registry, now: Instant) -> u64 {
        loop {
            let id = random_u64() | LANE_BIT;
            if self.slot(id).load().is_none() && !registry.retired.contains(now, id) {
                return id;
            }
        }
    }

    /// The lane with this id, if it is open.
    pub fn find(&self, id: &[u8]) -> Option<Found<T>> {
        let id = u64::from_be_bytes(id.try_into().ok()?);
        let guard = self.slot(id).load();
        Found::new(guard).filter(|found| found.entry().id == id)
    }

    /// Lanes open now.
    pub fn len(&self) -> usize {
        self.registry().count
    }

    /// Whether no lane is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slot(&self, id: u64) -> &ArcSwapOption<Entry<T>> {
        // The number of slots is a power of two, so the mask never leaves the table.
        let mask = self.slots.len() - 1;
        &self.slots[id as usize & mask]
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, id: u64) {
        let mut registry = self.registry();
        self.slot(id).store(None);
        registry.count = registry.count.saturating_sub(1);
        registry.retired.retire(clock::now(), id);
    }
}

fn lane_id(id: u64) -> LaneId {
    #[expect(clippy::expect_used, reason = "8 bytes are within 1 to 20")]
    LaneId::new(&id.to_be_bytes()).expect("8 bytes are an id")
}

impl<T> Entry<T> {
    /// The id that senders write.
    pub fn id(&self) -> LaneId {
        lane_id(self.id)
    }
}

/// A lane found in the table. Short-lived: keep the entry, not this.
pub struct Found<T>(Guard<Option<Arc<Entry<T>>>>);

impl<T> Found<T> {
    fn new(guard: Guard<Option<Arc<Entry<T>>>>) -> Option<Self> {
        guard.is_some().then_some(Self(guard))
    }

    /// The lane's entry.
    pub fn entry(&self) -> &Arc<Entry<T>> {
        #[expect(
            clippy::expect_used,
            reason = "the only constructor checks it, and a guard never changes"
        )]
        self.0.as_ref().expect("the slot was taken")
    }
}

/// An open lane. Dropping it closes the lane: keep it exactly as long as its QUIC connection lives.
pub struct Lane<T> {
    table: Arc<LaneTable<T>>,
    entry: Arc<Entry<T>>,
}

impl<T> Lane<T> {
    /// Keeps the lane open until `connection` is closed, reset or idle, then closes it.
    pub async fn until_closed(self, connection: &quinn::Connection) {
        connection.closed().await;
    }

    /// The entry, for keeping a reference where the lane is sent from.
    pub fn entry(&self) -> &Arc<Entry<T>> {
        &self.entry
    }
}

impl<T> Deref for Lane<T> {
    type Target = Entry<T>;

    fn deref(&self) -> &Entry<T> {
        &self.entry
    }
}

impl<T> Drop for Lane<T> {
    fn drop(&mut self) {
        self.table.close(self.entry.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wzp_lane::{Aead, Secret};

    fn opener() -> Opener {
        Opener::new(Secret::from([1; 32]), Aead::Aes128Gcm, ID_LEN)
    }

    #[test]
    fn finds_each_lane_by_its_whole_id_only() {
        let table = LaneTable::new(100);
        let lanes: Vec<_> = (0..100).map(|i| table.open(opener(), |_| i).unwrap()).collect();
        assert_eq!(table.open(opener(), |_| 100).err(), Some(Full));
        for lane in &lanes {
            assert_eq!(lane.id().as_slice()[0] & 0x80, 0x80);
            let found = table.find(lane.id().as_slice()).unwrap();
            assert_eq!(found.entry().state, lane.state);
            let mut other = lane.id;
            other ^= 1 << 40;
            assert!(table.find(&other.to_be_bytes()).is_none());
        }
        assert!(table.find(&[0x80; 7]).is_none());
    }

    #[test]
    fn a_dropped_lane_is_gone() {
        let table = LaneTable::new(1);
        let lane = table.open(opener(), |_| ()).unwrap();
        let id = lane.id();
        drop(lane);
        assert!(table.find(id.as_slice()).is_none());
        assert!(table.is_empty());
        table.open(opener(), |_| ()).unwrap();
    }
}
