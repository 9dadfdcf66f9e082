//! Handles: what stands for (room, member) in the trunks between two relays.
//!
//! Each relay numbers the members it tells the other of: the downstream one with the top bit 0, the upstream one with
//! the top bit 1, so that a handle says by itself whose it is. Numbers are given out round and round, which makes the
//! time until one is used again as long as it can be.

mod listing;

use std::collections::BTreeMap;

#[cfg(test)]
pub(crate) use listing::tests::whole;
pub use listing::{Listing, Whole};

const TOP: u16 = 1 << 15;

/// The end of a trunk at which a relay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Started with `--forward`: carries its members to the other.
    Downstream,
    /// Takes in the members of others.
    Upstream,
}

impl Side {
    /// Whether `handle` is one that this side gives out.
    pub fn owns(self, handle: u16) -> bool {
        (handle & TOP != 0) == (self == Self::Upstream)
    }

    /// `handle` as this side gives it out: relays of a cluster number a member once for all of their trunks.
    pub fn mark(self, handle: u16) -> u16 {
        match self {
            Self::Downstream => handle & !TOP,
            Self::Upstream => handle | TOP,
        }
    }

    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Downstream => Self::Upstream,
            Self::Upstream => Self::Downstream,
        }
    }

    /// A handle of the *other* side out of a protobuf field.
    pub fn parse_peer(self, field: u32) -> Option<u16> {
        u16::try_from(field).ok().filter(|&handle| !self.owns(handle))
    }
}

/// Gives out the handles of one relay, at most 32,768 at a time, and knows what each stands for.
#[derive(Debug)]
pub struct Handles<V> {
    side: Side,
    next: u16,
    used: BTreeMap<u16, V>,
}

impl<V> Handles<V> {
    /// None given out yet.
    pub fn new(side: Side) -> Self {
        Self {
            side,
            next: 0,
            used: BTreeMap::new(),
        }
    }

    /// The side whose handles these are.
    pub fn side(&self) -> Side {
        self.side
    }

    /// A handle that was free and stands for `value` from now on; `None` when there is none left.
    pub fn take(&mut self, value: V) -> Option<u16> {
        if self.used.len() >= usize::from(TOP) {
            return None;
        }
        while self.used.contains_key(&self.next) {
            self.next = (self.next + 1) % TOP;
        }
        let number = self.next;
        self.next = (self.next + 1) % TOP;
        self.used.insert(number, value);
        Some(self.side.mark(number))
    }

    /// What `handle` stands for.
    pub fn find(&self, handle: u16) -> Option<&V> {
        self.used.get(&(handle & !TOP)).filter(|_| self.side.owns(handle))
    }

    /// Makes `handle` free again.
    pub fn give_back(&mut self, handle: u16) {
        self.used.remove(&(handle & !TOP));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn handles_are_unique_marked_and_reused_as_late_as_possible() {
        for side in [Side::Downstream, Side::Upstream] {
            let mut handles = Handles::new(side);
            let first = handles.take(()).unwrap();
            handles.give_back(first);
            let all: BTreeSet<u16> = std::iter::from_fn(|| handles.take(())).collect();
            assert_eq!(all.len(), 32_768);
            assert!(all.iter().all(|&handle| side.owns(handle)));
            handles.give_back(first);
            assert_eq!(handles.find(first), None);
            assert_eq!(handles.take(()), Some(first));
            assert_eq!(handles.find(first), Some(&()));
            assert_eq!(handles.take(()), None);
        }
    }

    #[test]
    fn a_handle_of_the_wrong_side_is_not_parsed() {
        assert_eq!(Side::Upstream.parse_peer(5), Some(5));
        assert_eq!(Side::Upstream.parse_peer(0x8005), None);
        assert_eq!(Side::Downstream.parse_peer(0x8005), Some(0x8005));
        assert_eq!(Side::Downstream.parse_peer(5), None);
        assert_eq!(Side::Downstream.parse_peer(0x1_8005), None);
    }
}
