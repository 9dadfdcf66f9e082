//! The lanes that a relay receives on, found by id without a lock.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwapOption, Guard};
use wzp_lane::ids::{Kind, Layout};
use wzp_lane::{LaneId, Opener};
use wzp_wire::Instant;

use crate::clock;
use crate::ids::{Retired, random_id};

/// A fixed number of slots; the low bits of a lane's id name its slot.
///
/// Look-up is one load and a comparison, from any thread. Opening and closing lanes takes a lock, which packets
/// never do.
pub struct LaneTable<T> {
    slots: Box<[ArcSwapOption<Entry<T>>]>,
    max_lanes: usize,
    layout: Layout,
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    count: usize,
    retired: Retired,
}

/// One lane that we receive on.
pub struct Entry<T> {
    id: LaneId,
    /// The end of it: all of an id of 8 bytes, and never the same in two lanes.
    tail: u64,
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
    /// A table for up to `max_lanes` lanes, whose ids look as `layout` says. Takes 16 to 32 bytes a lane at once.
    pub fn new(max_lanes: usize, layout: Layout) -> Arc<Self> {
        // Twice as many slots as lanes: a draw hits a free slot at least every second time.
        let slots = max_lanes.max(1).saturating_mul(2).next_power_of_two();
        Arc::new(Self {
            slots: (0..slots).map(|_| ArcSwapOption::empty()).collect(),
            max_lanes,
            layout,
            registry: Mutex::default(),
        })
    }

    /// How the ids look; openers need to know how long they are.
    pub fn layout(&self) -> &Layout {
        &self.layout
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
        let (id, tail) = self.draw(&mut registry, now);
        let entry = Arc::new(Entry {
            id,
            tail,
            opener,
            state: state(id),
        });
        self.slot(tail).store(Some(Arc::clone(&entry)));
        registry.count += 1;
        Ok(Lane {
            table: Arc::clone(self),
            entry,
        })
    }

    fn draw(&self, registry: &mut Registry, now: Instant) -> (LaneId, u64) {
        loop {
            let id = self.layout.id(Kind::Lane, random_id());
            let (_, tail) = split(id.as_slice()).unwrap_or_default();
            if self.slot(tail).load().is_none() && !registry.retired.contains(now, tail) {
                return (id, tail);
            }
        }
    }

    /// The lane with this id, if it is open.
    pub fn find(&self, id: &[u8]) -> Option<Found<T>> {
        let (head, tail) = split(id)?;
        let guard = self.slot(tail).load();
        Found::new(guard).filter(|found| found.entry().is(head, tail))
    }

    /// Lanes open now.
    pub fn len(&self) -> usize {
        self.registry().count
    }

    /// Whether no lane is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slot(&self, tail: u64) -> &ArcSwapOption<Entry<T>> {
        // The number of slots is a power of two, so the mask never leaves the table.
        let mask = self.slots.len() - 1;
        &self.slots[tail as usize & mask]
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, tail: u64) {
        let mut registry = self.registry();
        self.slot(tail).store(None);
        registry.count = registry.count.saturating_sub(1);
        registry.retired.retire(clock::now(), tail);
    }
}

/// The end of an id, which is random in every layout, as a number, and what is before it.
#[inline]
fn split(id: &[u8]) -> Option<(&[u8], u64)> {
    let (head, tail) = id.split_last_chunk()?;
    Some((head, u64::from_be_bytes(*tail)))
}

impl<T> Entry<T> {
    /// The id that senders write.
    pub fn id(&self) -> LaneId {
        self.id
    }

    /// Whether this is its whole id. Two comparisons of numbers where ids have 8 bytes.
    #[inline]
    fn is(&self, head: &[u8], tail: u64) -> bool {
        let same_len = self.id.len() == head.len() + size_of::<u64>();
        self.tail == tail && same_len && (head.is_empty() || self.id.as_slice().starts_with(head))
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

    /// The same lane with other keys: its sender chose another protection than was expected.
    #[must_use]
    pub fn reopened(mut self, opener: Opener) -> Self
    where
        T: Clone,
    {
        self.entry = Arc::new(Entry {
            id: self.entry.id,
            tail: self.entry.tail,
            opener,
            state: self.entry.state.clone(),
        });
        self.table
            .slot(self.entry.tail)
            .store(Some(Arc::clone(&self.entry)));
        self
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
        self.table.close(self.entry.tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wzp_lane::{Aead, Secret};

    fn opener(layout: Layout) -> Opener {
        Opener::new(Secret::from([1; 32]), Aead::Aes128Gcm, layout.len())
    }

    fn layouts() -> [Layout; 3] {
        let routable = |server: &str, len| Layout::routable(&server.parse().unwrap(), 1, len).unwrap();
        [
            Layout::default(),
            routable("7b", None),
            routable("0123456789abcdef", Some(20)),
        ]
    }

    #[test]
    fn finds_each_lane_by_its_whole_id_only() {
        for layout in layouts() {
            let table = LaneTable::new(100, layout);
            let open = |state| table.open(opener(layout), |_| state);
            let lanes: Vec<_> = (0..100).map(|i| open(i).unwrap()).collect();
            assert_eq!(open(100).err(), Some(Full));
            for lane in &lanes {
                let id = lane.id();
                assert_eq!(layout.kind(id.as_slice()), Some(Kind::Lane));
                let found = table.find(id.as_slice()).unwrap();
                assert_eq!(found.entry().state, lane.state);
                for bit in 0..id.len() * 8 {
                    let mut other = id.as_slice().to_vec();
                    other[bit / 8] ^= 1 << (bit % 8);
                    assert!(
                        table
                            .find(&other)
                            .is_none_or(|found| found.entry().state != lane.state)
                    );
                }
                for part in 1..id.len() {
                    assert!(table.find(&id.as_slice()[part..]).is_none());
                    assert!(table.find(&id.as_slice()[..part]).is_none());
                }
                assert!(table.find(&[&[0], id.as_slice()].concat()).is_none());
            }
        }
    }

    #[test]
    fn a_reopened_lane_has_its_id_and_the_new_keys() {
        let layout = Layout::default();
        let table = LaneTable::new(1, layout);
        let lane = table.open(opener(layout), |_| 7).unwrap();
        let (id, before) = (lane.id(), Arc::clone(lane.entry()));
        let lane = lane.reopened(opener(layout));
        assert_eq!((lane.id(), lane.state, table.len()), (id, 7, 1));
        assert!(!Arc::ptr_eq(table.find(id.as_slice()).unwrap().entry(), &before));
        drop(lane);
        assert!(table.find(id.as_slice()).is_none() && table.is_empty());
    }

    #[test]
    fn a_dropped_lane_is_gone() {
        let layout = Layout::default();
        let table = LaneTable::new(1, layout);
        let lane = table.open(opener(layout), |_| ()).unwrap();
        let id = lane.id();
        drop(lane);
        assert!(table.find(id.as_slice()).is_none());
        assert!(table.is_empty());
        table.open(opener(layout), |_| ()).unwrap();
    }
}
