//! Messages whose fields have been checked: what the protobuf types cannot promise, these do.

mod cluster;
mod room;
mod trunk;

pub use cluster::{MAX_SEATS, Move, RelaySeat};
pub use room::{Join, Joined, Member, PeerMessage, Welcome};
pub use trunk::{TrunkJoin, TrunkJoined, TrunkMember, TrunkPeerMessage};

use super::{Reason, Role, proto};
use crate::{RoomName, SenderId};

/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;
/// The longest grant that is looked at.
pub const MAX_GRANT: usize = 4_096;
const MAX_SOFTWARE: usize = 64;
const MAX_AEADS: usize = 8;

/// A message with a field that cannot be. The peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is out of its range")]
pub struct Invalid {
    /// The field, as in the `.proto` file.
    pub field: &'static str,
    /// What to refuse the message with.
    pub reason: Reason,
}

impl Invalid {
    const fn new(field: &'static str) -> Self {
        Self {
            field,
            reason: Reason::Malformed,
        }
    }
}

/// From `MIN` to `MAX` bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Blob<const MIN: usize, const MAX: usize>(Vec<u8>);

impl<const MIN: usize, const MAX: usize> Blob<MIN, MAX> {
    /// Takes `bytes` if there are neither too few nor too many.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (MIN..=MAX).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The bytes, to be sent.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }

    fn field(bytes: Vec<u8>, field: &'static str) -> Result<Self, Invalid> {
        Self::new(bytes).ok_or_else(|| Invalid::new(field))
    }
}

impl<const MIN: usize, const MAX: usize> std::ops::Deref for Blob<MIN, MAX> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// The id of a lane as it is signalled.
pub type LaneIdBytes = Blob<1, 20>;
/// What a member shows of itself when it joins.
pub type Announcement = Blob<1, 256>;
/// A sealed message from member to member.
pub type Payload = Blob<1, 4_096>;

/// See [`proto::Hello`].
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// Printable ASCII.
    pub software: String,
    /// Ed25519 public key.
    pub identity_key: [u8; 32],
    /// Ed25519 signature of the connection.
    pub proof: [u8; 64],
    /// Empty where none is needed.
    pub grant: String,
    /// Never [`Role::Unspecified`].
    pub role: Role,
    /// Absent when the client wants no lane.
    pub lane: Option<LaneOffer>,
}

impl TryFrom<proto::Hello> for Hello {
    type Error = Invalid;

    fn try_from(hello: proto::Hello) -> Result<Self, Invalid> {
        let role = hello.role();
        let proto::Hello {
            version,
            software,
            identity_key,
            proof,
            grant,
            role: _,
            lane,
        } = hello;
        if version != VERSION {
            return Err(Invalid {
                field: "version",
                reason: Reason::Version,
            });
        }
        if role == Role::Unspecified {
            return Err(Invalid {
                field: "role",
                reason: Reason::Role,
            });
        }
        if grant.len() > MAX_GRANT {
            return Err(Invalid {
                field: "grant",
                reason: Reason::GrantInvalid,
            });
        }
        Ok(Self {
            software: software_name(software)?,
            identity_key: array(&identity_key, "identity_key")?,
            proof: array(&proof, "proof")?,
            grant,
            role,
            lane: lane.map(LaneOffer::try_from).transpose()?,
        })
    }
}

impl From<Hello> for proto::Hello {
    fn from(hello: Hello) -> Self {
        let Hello {
            software,
            identity_key,
            proof,
            grant,
            role,
            lane,
        } = hello;
        Self {
            version: VERSION,
            software,
            identity_key: identity_key.into(),
            proof: proof.into(),
            grant,
            role: role.into(),
            lane: lane.map(Into::into),
        }
    }
}

/// See [`proto::LaneOffer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneOffer {
    /// Higher than any before on the connection.
    pub number: u16,
    /// Where the other end shall send.
    pub lane_id: LaneIdBytes,
    /// 1 to 8 of them, most wanted first; unknown ones are kept.
    pub aeads: Vec<u32>,
}

impl TryFrom<proto::LaneOffer> for LaneOffer {
    type Error = Invalid;

    fn try_from(offer: proto::LaneOffer) -> Result<Self, Invalid> {
        let proto::LaneOffer {
            number,
            lane_id,
            aeads,
        } = offer;
        if !(1..=MAX_AEADS).contains(&aeads.len()) {
            return Err(Invalid::new("aeads"));
        }
        Ok(Self {
            number: short(number, "number")?,
            lane_id: Blob::field(lane_id, "lane_id")?,
            aeads,
        })
    }
}

impl From<LaneOffer> for proto::LaneOffer {
    fn from(offer: LaneOffer) -> Self {
        Self {
            number: offer.number.into(),
            lane_id: offer.lane_id.into_vec(),
            aeads: offer.aeads,
        }
    }
}

/// See [`proto::LaneAccept`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneAccept {
    /// That of the offer.
    pub number: u16,
    /// Where the client shall send.
    pub lane_id: LaneIdBytes,
    /// One of those offered; the caller knows which.
    pub aead: u32,
}

impl TryFrom<proto::LaneAccept> for LaneAccept {
    type Error = Invalid;

    fn try_from(accept: proto::LaneAccept) -> Result<Self, Invalid> {
        let proto::LaneAccept {
            number,
            lane_id,
            aead,
        } = accept;
        Ok(Self {
            number: short(number, "number")?,
            lane_id: Blob::field(lane_id, "lane_id")?,
            aead,
        })
    }
}

impl From<LaneAccept> for proto::LaneAccept {
    fn from(accept: LaneAccept) -> Self {
        Self {
            number: accept.number.into(),
            lane_id: accept.lane_id.into_vec(),
            aead: accept.aead,
        }
    }
}

fn software_name(name: String) -> Result<String, Invalid> {
    let printable = name.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if name.len() <= MAX_SOFTWARE && printable {
        Ok(name)
    } else {
        Err(Invalid::new("software"))
    }
}

fn array<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], Invalid> {
    bytes.try_into().map_err(|_| Invalid::new(field))
}

fn short(number: u32, field: &'static str) -> Result<u16, Invalid> {
    u16::try_from(number).map_err(|_| Invalid::new(field))
}

fn sender(raw: u32, field: &'static str) -> Result<SenderId, Invalid> {
    SenderId::from_field(raw).ok_or_else(|| Invalid::new(field))
}

fn room_name(name: &str) -> Result<RoomName, Invalid> {
    RoomName::parse(name).map_err(|_| Invalid {
        field: "room",
        reason: Reason::RoomName,
    })
}
