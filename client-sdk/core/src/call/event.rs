//! What a call tells its owner.

use wzp_identity::Fingerprint;
use wzp_wire::{
    Epoch, RelayId, SenderId,
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
    /// What we say takes another path, or another carrier on the same one, or another path would take over.
    Path {
        /// Which one.
        id: PathId,
        /// Where it leads.
        kind: paths::Kind,
        /// How datagrams travel on it.
        carrier: Carrier,
        /// Why they travel so.
        why: carrier::Why,
        /// The relay; `None`: one that is in no cluster.
        relay: Option<RelayId>,
        /// Why this path carries.
        cause: paths::Cause,
        /// What we say goes out on the standby as well, for now.
        both: bool,
        /// The relay that would take over.
        standby: Option<RelayId>,
    },
    /// A relay of the set refused us or said goodbye; the call goes on over the others.
    PathRefused {
        /// Which one.
        relay: Option<RelayId>,
        /// Why.
        reason: Reason,
        /// For people.
        text: String,
    },
    /// A relay of the set gave us another sender id than the one that carries. It is not used.
    Disagreement {
        /// Which one.
        relay: Option<RelayId>,
        /// What it gave us.
        sender: SenderId,
    },
    /// The room is served by other relays, and the call moves to them.
    Moving {
        /// Since when.
        epoch: Epoch,
        /// The new set.
        relays: Vec<RelayId>,
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
