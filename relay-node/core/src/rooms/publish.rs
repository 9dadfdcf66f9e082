//! Gathers changes of membership, so that a thousand joins a second do not make a thousand snapshots.

use std::{collections::BTreeSet, time::Duration};

use wzp_wire::{Instant, RoomName};

/// Least time between two publications, and so the longest that a change waits.
const GATHER: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
pub(super) struct Publications {
    changed: BTreeSet<RoomName>,
    due: Option<Instant>,
    last: Option<Instant>,
}

impl Publications {
    /// The first change after a quiet time is due at once.
    pub(super) fn changed(&mut self, now: Instant, room: &RoomName) {
        if !self.changed.contains(room) {
            self.changed.insert(room.clone());
        }
        let next = self.last.map_or(now, |last| now.max(last + GATHER));
        self.due.get_or_insert(next);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<RoomName> {
        self.due.filter(|&due| due <= now)?;
        self.last = Some(now);
        let room = self.changed.pop_first();
        if self.changed.is_empty() {
            self.due = None;
        }
        room
    }
}
