//! The set of paths of a call, and which of them media goes out on now, as a value.
//!
//! Media packets are sealed end to end and numbered, so any path may carry any packet, and the receiver's replay window
//! drops what comes twice. Switching is therefore nothing but another value of [`Sending`].

use wzp_wire::Instant;

use crate::carrier::{Carrier, Why};

/// A path of this call; ids are not given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathId(pub u32);

/// Where a path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Over a relay.
    Relay,
}

impl Kind {
    /// The name in statistics and `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
        }
    }
}

/// One way that media can take now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// Its name in this call.
    pub id: PathId,
    /// Where it leads.
    pub kind: Kind,
    /// How datagrams travel on it.
    pub carrier: Carrier,
    /// Why they travel so.
    pub why: Why,
    /// When something last came over it.
    pub heard: Option<Instant>,
}

/// Where outgoing media goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// There is no path.
    Nowhere,
    /// One path carries.
    On(PathId),
}

/// All paths of a call.
#[derive(Debug, Default)]
pub struct Set {
    paths: Vec<Path>,
    next: u32,
}

impl Set {
    /// Adds a path; the first one carries until it is removed.
    pub fn add(&mut self, kind: Kind, carrier: Carrier, why: Why) -> PathId {
        let id = PathId(self.next);
        self.next += 1;
        self.paths.push(Path {
            id,
            kind,
            carrier,
            why,
            heard: None,
        });
        id
    }

    /// Forgets a path.
    pub fn remove(&mut self, id: PathId) {
        self.paths.retain(|path| path.id != id);
    }

    /// Something authentic came over this path.
    pub fn handle_heard(&mut self, now: Instant, id: PathId) {
        if let Some(path) = self.find(id) {
            path.heard = Some(now);
        }
    }

    /// The carrier of a path changed.
    pub fn set_carrier(&mut self, id: PathId, carrier: Carrier, why: Why) {
        if let Some(path) = self.find(id) {
            path.carrier = carrier;
            path.why = why;
        }
    }

    /// Which path media goes out on.
    pub fn sending(&self) -> Sending {
        self.paths
            .first()
            .map_or(Sending::Nowhere, |path| Sending::On(path.id))
    }

    /// The path of this name, unless it was removed.
    pub fn path(&self, id: PathId) -> Option<&Path> {
        self.paths.iter().find(|path| path.id == id)
    }

    /// Every path, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter()
    }

    fn find(&mut self, id: PathId) -> Option<&mut Path> {
        self.paths.iter_mut().find(|path| path.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_path_carries_and_the_next_takes_over_when_it_goes() {
        let mut set = Set::default();
        assert_eq!(set.sending(), Sending::Nowhere);
        let a = set.add(Kind::Relay, Carrier::Lane, Why::Waiting);
        let b = set.add(Kind::Relay, Carrier::Lane, Why::Waiting);
        assert_eq!(set.sending(), Sending::On(a));
        set.remove(a);
        assert_eq!(set.sending(), Sending::On(b));
        set.remove(b);
        assert_eq!(set.sending(), Sending::Nowhere);
        assert_ne!(
            set.add(Kind::Relay, Carrier::Lane, Why::Waiting),
            a,
            "ids are not given out again"
        );
    }

    #[test]
    fn unknown_path_is_passed_over() {
        let mut set = Set::default();
        let a = set.add(Kind::Relay, Carrier::Lane, Why::Waiting);
        set.handle_heard(Instant::from_micros(5), PathId(99));
        set.handle_heard(Instant::from_micros(7), a);
        set.set_carrier(PathId(99), Carrier::Lane, Why::Answered);
        set.set_carrier(a, Carrier::QuicDatagram, Why::FellSilent);
        let path = set.path(a).unwrap();
        assert_eq!(path.heard, Some(Instant::from_micros(7)));
        assert_eq!((path.carrier, path.why), (Carrier::QuicDatagram, Why::FellSilent));
        assert_eq!(set.path(PathId(99)), None);
    }
}
