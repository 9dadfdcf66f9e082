//! One room as the packet loops see it: an immutable snapshot, replaced whole on every change of membership.

use std::sync::Arc;

use wzp_wire::SenderId;

use crate::{rooms::TrunkId, speakers::Speakers};

/// Where packets of a room can go and from whom they can come.
#[derive(Debug)]
pub struct FanOut<P> {
    /// Sorted by sender.
    sources: Box<[Source]>,
    outlets: Box<[Outlet<P>]>,
    speakers: Option<Arc<Speakers>>,
    is_large: bool,
}

/// A member as a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its id in this room.
    pub sender: SenderId,
    /// The outlet through which it is reached itself.
    pub outlet: u16,
    /// It gets its own packets back.
    pub echo: bool,
    /// What stands for it in the trunks that this relay sends.
    pub handle: Option<u16>,
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
            speakers: None,
            is_large: false,
        }
    }

    pub(crate) fn new(
        mut sources: Vec<Source>,
        outlets: Vec<Outlet<P>>,
        speakers: Arc<Speakers>,
        is_large: bool,
    ) -> Self {
        sources.sort_unstable_by_key(|source| source.sender);
        Self {
            sources: sources.into_boxed_slice(),
            outlets: outlets.into_boxed_slice(),
            speakers: Some(speakers),
            is_large,
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
