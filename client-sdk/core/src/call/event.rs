//! What a call tells its owner.

use wzp_identity::Fingerprint;
use wzp_wire::{
    SenderId,
    signal::{Reason, proto},
};

use crate::{
    carrier::{self, Carrier},
    e2ee,
    paths::{self, PathId},
    voice::{mode::Tier, quality},
};

/// What happened in a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// What we say takes another path, or another carrier on the same one.
    Path {
        /// Which one.
        id: PathId,
        /// Where it leads.
        kind: paths::Kind,
        /// How datagrams travel on it.
        carrier: Carrier,
        /// Why they travel so.
        why: carrier::Why,
    },
    /// The relay let us into the room: at first, and again when a call came back that was cut off from others for long.
    Joined {
        /// Our sender id.
        sender: SenderId,
        /// Everybody else who is there, verified or not.
        members: usize,
    },
    /// A member proved its identity and the keys to it are set.
    MemberJoined {
        /// Its sender id.
        sender: SenderId,
        /// Who it is.
        fingerprint: Fingerprint,
    },
    /// A verified member is gone.
    MemberLeft {
        /// Its sender id.
        sender: SenderId,
        /// Who it was.
        fingerprint: Fingerprint,
    },
    /// The tier in which we send changed.
    Tier {
        /// Before.
        from: Tier,
        /// From now on.
        to: Tier,
        /// Why.
        why: quality::Why,
    },
    /// Packets of a member can't be opened; its key was asked for again.
    KeyMismatch {
        /// Whose packets.
        sender: SenderId,
        /// How many since the call began.
        count: u32,
    },
    /// A member says that it cannot open our packets; it got the key again.
    Unheard {
        /// Who cannot hear us.
        sender: SenderId,
        /// How many packets, by its own count.
        count: u32,
    },
    /// A member, or the relay in its name, did what an honest one does not; it was refused.
    Misbehaviour {
        /// Under whose id.
        sender: SenderId,
        /// What it was.
        why: e2ee::Misbehaviour,
    },
    /// The relay said something that users should hear of.
    Notice {
        /// What it is about.
        kind: proto::NoticeKind,
        /// For people.
        text: String,
    },
    /// The relay refused the join, or ended the call.
    Refused {
        /// Why.
        reason: Reason,
        /// For people.
        text: String,
    },
}
