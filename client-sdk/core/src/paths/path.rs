//! What paths are called, where they lead and what they are for.

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
    /// The first carries, or did; the second may take over.
    Both(PathId, PathId),
}

/// Why a path carries, or why media goes out on two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It was the first.
    First,
    /// Two PINGs over the path that carried were not answered in time.
    Unanswered,
    /// Nothing was heard over the path that carried, although something was due.
    Silent,
    /// The connection under the path that carried is gone.
    Lost,
    /// The room is served by other relays.
    Moved,
}

impl Cause {
    /// The name in statistics and `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Unanswered => "unanswered",
            Self::Silent => "silent",
            Self::Lost => "lost",
            Self::Moved => "moved",
        }
    }
}

/// What a path is for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Media goes out on it.
    Carries,
    /// It can take over at any moment.
    Standby,
    /// Not before it has answered again, or at all.
    Waits,
}

impl Role {
    /// The name in statistics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Carries => "carries",
            Self::Standby => "standby",
            Self::Waits => "waits",
        }
    }
}
