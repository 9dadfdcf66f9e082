//! Which of its members a downstream relay has brought to its upstream, and whose turn it is.
//!
//! ```text
//!                    turn, within the rate             TrunkJoined
//!   waiting ───────────────────────────────▶ asked ──────────────────▶ there
//!      ▲  ▲                                    │                         │
//!      │  └──── refused for now: 1 s to 30 s ──┘                         │
//!      └──────────────────────── trunk lost ─────────────────────────────┘
//! ```
//!
//! After an outage everybody waits at once, and the upstream takes so many joins a second of one relay: whoever came
//! too fast would be refused. The rate here stays below that one, and is kept over outages.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use wzp_wire::{Instant, signal::Reason};

use crate::limits::{Bucket, Rate};

/// How fast members are brought.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Joins, below what an upstream takes (50 a second, 1,000 at once). Default 40 a second, 800 at once.
    pub joins: Rate,
    /// Before a member that was refused for now is brought again; twice as long each time. Default 1 s.
    pub retry: Duration,
    /// The longest of these times. Default 30 s.
    pub longest_retry: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            joins: Rate::new(40, 800),
            retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(30),
        }
    }
}

/// What a member has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// There is no upstream relay now.
    Lost,
    /// The upstream relay is there, and the member's turn is not.
    Waiting,
    /// It has been brought after [`Self::Lost`].
    Restored,
    /// It has been brought after [`Self::Waiting`].
    Brought,
}

/// Whether somebody who was refused gets in without doing anything about it.
pub fn passes_by_itself(reason: Reason) -> bool {
    matches!(reason, Reason::TooManyJoins | Reason::Overloaded)
}

/// The members of a downstream relay by their handles, each with what the upstream is told of it.
#[derive(Debug)]
pub struct Uplink<V> {
    config: Config,
    bucket: Bucket,
    /// Until then the bucket is empty.
    empty_until: Instant,
    is_connected: bool,
    members: BTreeMap<u16, Entry<V>>,
    /// When, in which order, who.
    queue: BTreeSet<(Instant, u64, u16)>,
    next: u64,
}

#[derive(Debug)]
struct Entry<V> {
    what: V,
    turn: Option<(Instant, u64)>,
    told: Option<Tell>,
    refusals: u32,
}

impl<V> Uplink<V> {
    /// Nobody, and no upstream relay yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            bucket: Bucket::default(),
            empty_until: Instant::ZERO,
            is_connected: false,
            members: BTreeMap::new(),
            queue: BTreeSet::new(),
            next: 0,
        }
    }

    /// A member of ours has come in.
    pub fn handle_join(&mut self, now: Instant, handle: u16, what: V) {
        self.handle_leave(handle);
        let entry = Entry {
            what,
            turn: None,
            told: None,
            refusals: 0,
        };
        self.members.insert(handle, entry);
        self.enqueue(now, handle);
    }

    /// A member of ours is gone.
    pub fn handle_leave(&mut self, handle: u16) {
        if let Some((due, order)) = self.members.remove(&handle).and_then(|entry| entry.turn) {
            self.queue.remove(&(due, order, handle));
        }
    }

    /// There is an upstream relay, which knows nobody.
    pub fn handle_connected(&mut self) {
        self.is_connected = true;
    }

    /// There is no upstream relay any more. Everybody waits, and is to be told.
    pub fn handle_lost(&mut self, now: Instant) -> Vec<u16> {
        self.is_connected = false;
        self.queue.clear();
        let handles: Vec<u16> = self.members.keys().copied().collect();
        for &handle in &handles {
            if let Some(entry) = self.members.get_mut(&handle) {
                (entry.told, entry.refusals) = (Some(Tell::Lost), 0);
            }
            self.enqueue(now, handle);
        }
        handles
    }

    /// The upstream relay has taken a member in; what that member is to be told, if anything.
    pub fn handle_joined(&mut self, handle: u16) -> Option<Tell> {
        let entry = self.members.get_mut(&handle)?;
        entry.refusals = 0;
        match entry.told.take()? {
            Tell::Lost => Some(Tell::Restored),
            _ => Some(Tell::Brought),
        }
    }

    /// The upstream relay has not taken a member for now: it is brought again later.
    pub fn handle_refused(&mut self, now: Instant, handle: u16) {
        let Some(entry) = self.members.get_mut(&handle).filter(|entry| entry.turn.is_none()) else {
            return;
        };
        let Config {
            retry, longest_retry, ..
        } = self.config;
        let wait = retry
            .saturating_mul(1 << entry.refusals.min(16))
            .min(longest_retry);
        entry.refusals += 1;
        self.enqueue(now + wait, handle);
    }

    /// Whose turn it is, and what the upstream relay is to be told of it.
    pub fn poll(&mut self, now: Instant) -> Option<(u16, &V)> {
        let &(due, order, handle) = self.queue.first().filter(|_| self.is_connected)?;
        if due > now {
            return None;
        }
        if let Err(wait) = self.bucket.take(self.config.joins, now, 1) {
            self.empty_until = now + wait;
            return None;
        }
        self.queue.remove(&(due, order, handle));
        let entry = self.members.get_mut(&handle)?;
        entry.turn = None;
        Some((handle, &entry.what))
    }

    /// When [`Self::poll`] has something next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let &(due, ..) = self.queue.first().filter(|_| self.is_connected)?;
        Some(due.max(self.empty_until))
    }

    /// After [`Self::poll`] has nothing more: what a member that still waits is to be told, once.
    pub fn poll_tell(&mut self, handle: u16) -> Option<Tell> {
        let tell = if self.is_connected {
            Tell::Waiting
        } else {
            Tell::Lost
        };
        let entry = self.members.get_mut(&handle)?;
        if entry.turn.is_none() || entry.told.is_some() {
            return None;
        }
        entry.told = Some(tell);
        entry.told
    }

    /// How many wait for their turn.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn enqueue(&mut self, due: Instant, handle: u16) {
        let order = self.next;
        self.next += 1;
        if let Some(entry) = self.members.get_mut(&handle) {
            entry.turn = Some((due, order));
            self.queue.insert((due, order, handle));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SharedBucket;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(1_000_000 + ms * 1_000)
    }

    fn turns(uplink: &mut Uplink<()>, now: Instant) -> Vec<u16> {
        std::iter::from_fn(|| uplink.poll(now).map(|(handle, ())| handle)).collect()
    }

    fn connected() -> Uplink<()> {
        let mut uplink = Uplink::new(Config::default());
        uplink.handle_connected();
        uplink
    }

    #[test]
    fn a_join_goes_up_at_once_and_nobody_is_told_anything() {
        let mut uplink = connected();
        uplink.handle_join(at(1), 7, ());
        assert_eq!(turns(&mut uplink, at(1)), [7]);
        assert_eq!(uplink.poll_tell(7), None);
        assert_eq!(uplink.handle_joined(7), None);
        assert_eq!(uplink.poll_timeout(), None);
    }

    /// What the upstream relay grants one downstream relay: `trunk_joins` in the shell's limits.
    #[test]
    fn after_outages_thousands_come_back_without_ever_meeting_the_upstreams_limit() {
        let (upstream, limit) = (SharedBucket::default(), Rate::new(50, 1_000));
        let mut uplink = connected();
        for handle in 0..3_000 {
            uplink.handle_join(at(0), handle, ());
        }
        let (mut ms, mut taken) = (0, BTreeSet::new());
        for lost_after in [700, 1_500, u64::MAX] {
            taken.clear();
            let began = ms;
            uplink.handle_connected();
            while let Some(due) = uplink.poll_timeout().filter(|_| ms - began < lost_after) {
                ms = ms.max(due.duration_since(at(0)).as_micros().div_ceil(1_000) as u64);
                for handle in turns(&mut uplink, at(ms)) {
                    assert!(upstream.take(limit, at(ms), 1), "{ms}");
                    assert!(taken.insert(handle));
                }
            }
            uplink.handle_lost(at(ms));
        }
        assert_eq!(taken.len(), 3_000);
        assert!(ms < 90_000, "{ms}");
    }

    #[test]
    fn whoever_waits_is_told_so_and_when_it_is_over() {
        let mut uplink = Uplink::new(Config {
            joins: Rate::new(1, 1),
            ..Config::default()
        });
        uplink.handle_join(at(0), 1, ());
        assert!(turns(&mut uplink, at(0)).is_empty());
        assert_eq!(uplink.poll_tell(1), Some(Tell::Lost));
        assert_eq!(uplink.poll_tell(1), None);
        uplink.handle_connected();
        uplink.handle_join(at(10), 2, ());
        assert_eq!(turns(&mut uplink, at(10)), [1]);
        assert_eq!(uplink.poll_tell(2), Some(Tell::Waiting));
        assert_eq!(uplink.handle_joined(1), Some(Tell::Restored));
        assert_eq!(uplink.poll_timeout(), Some(at(1_010)));
        assert_eq!(turns(&mut uplink, at(1_010)), [2]);
        assert_eq!(uplink.handle_joined(2), Some(Tell::Brought));
        assert_eq!(uplink.handle_joined(2), None);
        assert_eq!(uplink.handle_lost(at(2_000)), [1, 2]);
        assert_eq!((uplink.waiting(), uplink.poll_timeout()), (2, None));
    }

    #[test]
    fn whoever_is_refused_for_now_is_brought_again_at_growing_distances() {
        let mut uplink = connected();
        uplink.handle_join(at(0), 1, ());
        let (mut ms, mut waits) = (0, Vec::new());
        for _ in 0..7 {
            assert_eq!(turns(&mut uplink, at(ms)), [1]);
            uplink.handle_refused(at(ms), 1);
            let due = uplink.poll_timeout().unwrap();
            waits.push(due.duration_since(at(ms)).as_secs());
            ms += due.duration_since(at(ms)).as_millis() as u64;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(uplink.poll_tell(1), Some(Tell::Waiting));
        uplink.handle_refused(at(ms), 1);
        assert_eq!(
            turns(&mut uplink, at(ms)),
            [1],
            "a second refusal changes no turn"
        );
    }

    #[test]
    fn whoever_leaves_is_not_brought() {
        let mut uplink = connected();
        uplink.handle_join(at(0), 1, ());
        uplink.handle_leave(1);
        assert!(turns(&mut uplink, at(0)).is_empty());
        uplink.handle_refused(at(0), 1);
        assert_eq!((uplink.handle_joined(1), uplink.poll_timeout()), (None, None));
    }
}
