//! Who is in the room, as several relays tell it: whoever is known to one of them is there.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use wzp_wire::{Instant, SenderId};

use crate::paths::PathId;

/// Members that only a lost relay knew may come back with it, or by another.
const GRACE: Duration = Duration::from_secs(15);
/// Stays that ended lately and that a slow relay may still tell of.
const ENDED: usize = 1_024;

/// What tells one stay of a member from another: a digest of its announcement.
type Stay = [u8; 16];

#[derive(Debug, Default)]
pub(super) struct Roster {
    known: BTreeMap<SenderId, Stay>,
    told: Vec<(PathId, BTreeMap<SenderId, Stay>)>,
    orphans: VecDeque<(Instant, SenderId, Stay)>,
    ended: VecDeque<(SenderId, Stay)>,
}

/// What the word of one relay changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Somebody is there, maybe known already.
    There,
    /// This relay has not heard of the end of this stay yet, which another told.
    Stale,
}

impl Roster {
    pub(super) fn handle_joined(&mut self, path: PathId, sender: SenderId, announcement: &[u8]) -> News {
        let stay = stay(announcement);
        let is_known = self.known.get(&sender) == Some(&stay);
        self.table(path).insert(sender, stay);
        if !is_known && self.told.len() > 1 && self.ended.contains(&(sender, stay)) {
            return News::Stale;
        }
        if !is_known && let Some(before) = self.known.insert(sender, stay) {
            self.end(sender, before);
        }
        News::There
    }

    /// Says whether it is gone from every relay.
    pub(super) fn handle_left(&mut self, path: PathId, sender: SenderId) -> bool {
        self.table(path).remove(&sender);
        self.settle(sender)
    }

    /// The relay at the end of this path tells nothing any more. Whom only it knew is kept for a while.
    pub(super) fn drop_path(&mut self, now: Instant, path: PathId) {
        let Some(at) = self.told.iter().position(|(of, _)| *of == path) else {
            return;
        };
        let (_, members) = self.told.swap_remove(at);
        for (sender, stay) in members {
            if self.known.get(&sender) == Some(&stay) && !self.is_told(sender, stay) {
                self.orphans.push_back((now + GRACE, sender, stay));
            }
        }
    }

    /// The next one whom nobody has told of for too long.
    pub(super) fn poll_expired(&mut self, now: Instant) -> Option<SenderId> {
        while let Some(&(at, sender, _)) = self.orphans.front().filter(|(at, ..)| *at <= now) {
            debug_assert!(at <= now, "the oldest stands first");
            self.orphans.pop_front();
            if self.settle(sender) {
                return Some(sender);
            }
        }
        None
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.orphans.front().map(|(at, ..)| *at)
    }

    /// The room was left.
    pub(super) fn clear(&mut self) -> Vec<SenderId> {
        let known = std::mem::take(&mut self.known);
        *self = Self::default();
        known.into_keys().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = SenderId> {
        self.known.keys().copied()
    }

    /// Forgets a member that no relay tells of.
    fn settle(&mut self, sender: SenderId) -> bool {
        let Some(&stay) = self.known.get(&sender) else {
            return false;
        };
        let waits = self
            .orphans
            .iter()
            .any(|(_, of, its)| (*of, *its) == (sender, stay));
        if waits || self.is_told(sender, stay) {
            return false;
        }
        self.known.remove(&sender);
        self.end(sender, stay);
        true
    }

    fn end(&mut self, sender: SenderId, stay: Stay) {
        if self.ended.len() >= ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((sender, stay));
    }

    fn is_told(&self, sender: SenderId, stay: Stay) -> bool {
        self.told
            .iter()
            .any(|(_, members)| members.get(&sender) == Some(&stay))
    }

    fn table(&mut self, path: PathId) -> &mut BTreeMap<SenderId, Stay> {
        let at = self.told.iter().position(|(of, _)| *of == path);
        let at = at.unwrap_or_else(|| {
            self.told.push((path, BTreeMap::new()));
            self.told.len() - 1
        });
        &mut self.told[at].1
    }
}

fn stay(announcement: &[u8]) -> Stay {
    let mut stay = Stay::default();
    for (to, from) in stay.iter_mut().zip(Sha256::digest(announcement)) {
        *to = from;
    }
    stay
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PathId = PathId(0);
    const B: PathId = PathId(1);
    const T0: Instant = Instant::ZERO;

    fn id(id: u16) -> SenderId {
        SenderId::new(id).unwrap()
    }

    #[test]
    fn a_member_is_gone_when_every_relay_says_so() {
        let mut roster = Roster::default();
        for path in [A, B] {
            assert_eq!(roster.handle_joined(path, id(1), b"x"), News::There);
        }
        assert!(!roster.handle_left(A, id(1)));
        assert_eq!(roster.len(), 1);
        assert!(roster.handle_left(B, id(1)));
        assert!(!roster.handle_left(B, id(1)), "once");
        assert_eq!(roster.len(), 0);
    }

    #[test]
    fn whom_only_a_lost_relay_knew_has_time_to_come_back() {
        let mut roster = Roster::default();
        roster.handle_joined(A, id(1), b"x");
        roster.handle_joined(A, id(2), b"y");
        roster.handle_joined(B, id(2), b"y");
        roster.drop_path(T0, A);
        assert_eq!(roster.poll_timeout(), Some(T0 + GRACE));
        assert_eq!(roster.poll_expired(T0 + GRACE - Duration::from_secs(1)), None);
        roster.handle_joined(B, id(1), b"x");
        assert_eq!(roster.poll_expired(T0 + GRACE), None);
        roster.handle_left(B, id(1));
        roster.handle_joined(A, id(3), b"z");
        roster.drop_path(T0, A);
        assert_eq!(roster.poll_expired(T0 + GRACE), Some(id(3)));
        assert_eq!(roster.iter().collect::<Vec<_>>(), [id(2)]);
    }

    #[test]
    fn a_slow_relay_brings_nobody_back_and_takes_nobody_away() {
        let mut roster = Roster::default();
        for path in [A, B] {
            roster.handle_joined(path, id(1), b"old");
        }
        assert!(!roster.handle_left(A, id(1)));
        assert_eq!(roster.handle_joined(A, id(1), b"new"), News::There);
        assert_eq!(roster.handle_joined(B, id(1), b"old"), News::Stale);
        assert!(
            !roster.handle_left(B, id(1)),
            "it left under its old announcement"
        );
        assert_eq!(roster.handle_joined(B, id(1), b"new"), News::There);
        assert_eq!(roster.len(), 1);
    }

    #[test]
    fn what_a_single_relay_replays_is_judged_by_the_keys() {
        let mut roster = Roster::default();
        roster.handle_joined(A, id(1), b"x");
        assert!(roster.handle_left(A, id(1)));
        assert_eq!(roster.handle_joined(A, id(1), b"x"), News::There);
    }
}
