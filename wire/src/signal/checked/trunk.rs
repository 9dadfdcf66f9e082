//! Relay to relay: rooms of a downstream relay carried by its upstream.

use super::{Announcement, Blob, Invalid, MAX_GRANT, Payload, Reason, array, room_name, sender, short};
use crate::{RoomName, SenderId, signal::proto};

/// See [`proto::TrunkJoin`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkJoin {
    /// Chosen by the downstream: top bit 0.
    pub handle: u16,
    /// The room.
    pub room: RoomName,
    /// Opaque to relays.
    pub announcement: Announcement,
    /// Ed25519 public key of the member.
    pub identity_key: [u8; 32],
    /// Of the member; empty where none is needed.
    pub grant: String,
    /// Kept if it is free.
    pub preferred_sender: Option<SenderId>,
    /// When the member entered downstream, in Unix seconds; 0: just now.
    pub entered: u64,
}

impl TryFrom<proto::TrunkJoin> for TrunkJoin {
    type Error = Invalid;

    fn try_from(join: proto::TrunkJoin) -> Result<Self, Invalid> {
        let proto::TrunkJoin {
            handle,
            room,
            announcement,
            identity_key,
            grant,
            preferred_sender,
            entered,
        } = join;
        if grant.len() > MAX_GRANT {
            return Err(Invalid {
                field: "grant",
                reason: Reason::GrantInvalid,
            });
        }
        let preferred_sender = match preferred_sender {
            0 => None,
            id => Some(sender(id, "preferred_sender")?),
        };
        Ok(Self {
            handle: downstream_handle(handle, "handle")?,
            room: room_name(&room)?,
            announcement: Blob::field(announcement, "announcement")?,
            identity_key: array(&identity_key, "identity_key")?,
            grant,
            preferred_sender,
            entered,
        })
    }
}

impl From<TrunkJoin> for proto::TrunkJoin {
    fn from(join: TrunkJoin) -> Self {
        let TrunkJoin {
            handle,
            room,
            announcement,
            identity_key,
            grant,
            preferred_sender,
            entered,
        } = join;
        Self {
            handle: handle.into(),
            room: room.to_string(),
            announcement: announcement.into_vec(),
            identity_key: identity_key.into(),
            grant,
            preferred_sender: preferred_sender.map_or(0, |id| id.get().into()),
            entered,
        }
    }
}

/// See [`proto::TrunkJoined`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkJoined {
    /// That of the join.
    pub handle: u16,
    /// The member's id in the room upstream.
    pub sender: SenderId,
    /// The others, or some of them.
    pub members: Vec<TrunkMember>,
    /// Another message with more of them follows.
    pub more: bool,
    /// All messages of this answer together name everybody else in the room.
    pub whole: bool,
}

impl TryFrom<proto::TrunkJoined> for TrunkJoined {
    type Error = Invalid;

    fn try_from(joined: proto::TrunkJoined) -> Result<Self, Invalid> {
        let proto::TrunkJoined {
            handle,
            sender: id,
            members,
            more,
            whole,
        } = joined;
        let members = members
            .into_iter()
            .map(TrunkMember::try_from)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            handle: downstream_handle(handle, "handle")?,
            sender: sender(id, "sender")?,
            members,
            more,
            whole,
        })
    }
}

impl From<TrunkJoined> for proto::TrunkJoined {
    fn from(joined: TrunkJoined) -> Self {
        let TrunkJoined {
            handle,
            sender,
            members,
            more,
            whole,
        } = joined;
        let members = members.into_iter().map(Into::into).collect();
        Self {
            handle: handle.into(),
            sender: sender.get().into(),
            members,
            more,
            whole,
        }
    }
}

/// See [`proto::TrunkMember`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkMember {
    /// Chosen by the upstream: top bit 1.
    pub handle: u16,
    /// Its id in the room.
    pub sender: SenderId,
    /// What it showed when it joined.
    pub announcement: Announcement,
}

impl TryFrom<proto::TrunkMember> for TrunkMember {
    type Error = Invalid;

    fn try_from(member: proto::TrunkMember) -> Result<Self, Invalid> {
        let proto::TrunkMember {
            handle,
            sender: id,
            announcement,
        } = member;
        let handle = short(handle, "handle")?;
        if handle & 0x8000 == 0 {
            return Err(Invalid::new("handle"));
        }
        Ok(Self {
            handle,
            sender: sender(id, "sender")?,
            announcement: Blob::field(announcement, "announcement")?,
        })
    }
}

impl From<TrunkMember> for proto::TrunkMember {
    fn from(member: TrunkMember) -> Self {
        let TrunkMember {
            handle,
            sender,
            announcement,
        } = member;
        Self {
            handle: handle.into(),
            sender: sender.get().into(),
            announcement: announcement.into_vec(),
        }
    }
}

/// See [`proto::TrunkPeerMessage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkPeerMessage {
    /// Handle of the one who sends.
    pub from: u16,
    /// Handle of the one who receives.
    pub to: u16,
    /// Opaque to relays.
    pub payload: Payload,
}

impl TryFrom<proto::TrunkPeerMessage> for TrunkPeerMessage {
    type Error = Invalid;

    fn try_from(message: proto::TrunkPeerMessage) -> Result<Self, Invalid> {
        let proto::TrunkPeerMessage { from, to, payload } = message;
        Ok(Self {
            from: short(from, "from")?,
            to: short(to, "to")?,
            payload: Blob::field(payload, "payload")?,
        })
    }
}

impl From<TrunkPeerMessage> for proto::TrunkPeerMessage {
    fn from(message: TrunkPeerMessage) -> Self {
        let TrunkPeerMessage { from, to, payload } = message;
        Self {
            from: from.into(),
            to: to.into(),
            payload: payload.into_vec(),
        }
    }
}

fn downstream_handle(raw: u32, field: &'static str) -> Result<u16, Invalid> {
    let handle = short(raw, field)?;
    if handle & 0x8000 == 0 {
        Ok(handle)
    } else {
        Err(Invalid::new(field))
    }
}
