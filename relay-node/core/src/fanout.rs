//! One room as the packet loops see it: an immutable snapshot, replaced whole on every change of membership.

use std::sync::Arc;

use wzp_wire::{Instant, SenderId};

use crate::{rooms::TrunkId, speakers::Speakers};

/// Where packets of a room can go and from whom they can come.
#[derive(Debug)]
pub struct FanOut<P> {
    /// Sorted by sender.
    sources: Box<[Source]>,
    /// Members who carry here, standby members, trunks.
    outlets: Box<[Outlet<P>]>,
    bounds: Bounds,
    speakers: Option<Arc<Speakers>>,
    is_large: bool,
    is_fenced: bool,
}

/// Where one kind of outlets ends and the next begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// So many outlets are members who hear the room here.
    pub(crate) carrying: u16,
    /// So many are members, standby ones included; behind them are trunks.
    pub(crate) direct: u16,
}

/// From where a packet reaches this relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A member of ours, or the trunk of a relay in forward mode.
    #[default]
    Here,
    /// The trunk of a relay of the same cluster, which serves the same rooms.
    Peer,
}

/// A member as a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its id in this room.
    pub sender: SenderId,
    /// The outlet through which it is reached itself; none has this number if it is only behind peers.
    pub outlet: u16,
    /// It gets its own packets back.
    pub echo: bool,
    /// What stands for it in the trunks that this relay sends.
    pub handle: Option<u16>,
    /// Until then standby members hear it as well: it may be on its way from another relay to this one.
    pub fresh_until: Instant,
}

/// A place to send packets of the room to, once each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlet<P> {
    /// The shell's way to it.
    pub port: P,
    /// Who is there.
    pub to: To,
}

/// Who is behind an outlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// One member, connected to this relay.
    Member(SenderId),
    /// Another relay, with all of its members in this room.
    Trunk(TrunkId),
}

impl<P> FanOut<P> {
    /// A room without anybody.
    pub fn empty() -> Self {
        Self {
            sources: Box::default(),
            outlets: Box::default(),
            bounds: Bounds::default(),
            speakers: None,
            is_large: false,
            is_fenced: false,
        }
    }

    pub(crate) fn new(
        mut sources: Vec<Source>,
        outlets: Vec<Outlet<P>>,
        bounds: Bounds,
        speakers: Arc<Speakers>,
        is_large: bool,
    ) -> Self {
        sources.sort_unstable_by_key(|source| source.sender);
        Self {
            sources: sources.into_boxed_slice(),
            outlets: outlets.into_boxed_slice(),
            bounds,
            speakers: Some(speakers),
            is_large,
            is_fenced: false,
        }
    }

    /// The same members, and nothing goes anywhere.
    pub(crate) fn fenced(self) -> Self {
        Self {
            outlets: Box::default(),
            bounds: Bounds::default(),
            is_fenced: true,
            ..self
        }
    }

    /// Another relay serves the room under a newer lease, so nothing is forwarded here.
    pub fn is_fenced(&self) -> bool {
        self.is_fenced
    }

    /// The outlets that hear `source`: those before the first number, and those from the second one on.
    pub(crate) fn reach(&self, source: &Source, origin: Origin, now: Instant) -> (u16, u16) {
        let all = self.outlet_count();
        let Bounds { carrying, direct } = self.bounds;
        match origin {
            Origin::Peer => (carrying, all),
            Origin::Here if carrying == direct || now < source.fresh_until => (all, all),
            Origin::Here => (carrying, direct),
        }
    }

    /// The member `sender`, if it is in the room.
    pub fn source(&self, sender: SenderId) -> Option<&Source> {
        let at = self
            .sources
            .binary_search_by_key(&sender, |source| source.sender)
            .ok()?;
        self.sources.get(at)
    }

    /// Everybody who can send.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Every place to send to; [`crate::Targets`] are indices into it.
    pub fn outlets(&self) -> &[Outlet<P>] {
        &self.outlets
    }

    /// Rooms are limited to far fewer outlets than 2^16.
    pub(crate) fn outlet_count(&self) -> u16 {
        u16::try_from(self.outlets.len()).unwrap_or(u16::MAX)
    }

    pub(crate) fn speakers(&self) -> Option<&Speakers> {
        self.speakers.as_deref()
    }

    /// Only the loudest are forwarded here, whether load is shed or not.
    pub(crate) fn is_large(&self) -> bool {
        self.is_large
    }
}
