//! Entering a room and what is heard of the others in it.

use std::net::{IpAddr, SocketAddr};

use super::{
    Announcement, Blob, Invalid, LaneAccept, Payload, array, room_name, sender, short, software_name,
};
use crate::{Epoch, RelayId, RoomName, SenderId, signal::proto};

/// See [`proto::Welcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Another one means that the relay was started anew.
    pub relay_boot_id: [u8; 8],
    /// Printable ASCII.
    pub software: String,
    /// Absent when there is no lane.
    pub lane: Option<LaneAccept>,
    /// The client as the relay sees it, IPv4 never written as IPv6.
    pub observed: SocketAddr,
    /// Absent when the relay has no second port.
    pub reflect_port: Option<u16>,
    /// Absent when the relay is in no cluster.
    pub relay_id: Option<RelayId>,
}

impl TryFrom<proto::Welcome> for Welcome {
    type Error = Invalid;

    fn try_from(welcome: proto::Welcome) -> Result<Self, Invalid> {
        let proto::Welcome {
            relay_boot_id,
            software,
            lane,
            observed_ip,
            observed_port,
            reflect_port,
            relay_id,
        } = welcome;
        let ip = match observed_ip.len() {
            4 => IpAddr::from(array::<4>(&observed_ip, "observed_ip")?),
            _ => IpAddr::from(array::<16>(&observed_ip, "observed_ip")?).to_canonical(),
        };
        let reflect_port = short(reflect_port, "reflect_port")?;
        Ok(Self {
            relay_boot_id: array(&relay_boot_id, "relay_boot_id")?,
            software: software_name(software)?,
            lane: lane.map(LaneAccept::try_from).transpose()?,
            observed: SocketAddr::new(ip, short(observed_port, "observed_port")?),
            reflect_port: (reflect_port != 0).then_some(reflect_port),
            relay_id: match relay_id.as_str() {
                "" => None,
                name => Some(RelayId::parse(name).map_err(|_| Invalid::new("relay_id"))?),
            },
        })
    }
}

impl From<Welcome> for proto::Welcome {
    fn from(welcome: Welcome) -> Self {
        let Welcome {
            relay_boot_id,
            software,
            lane,
            observed,
            reflect_port,
            relay_id,
        } = welcome;
        let observed_ip = match observed.ip().to_canonical() {
            IpAddr::V4(ip) => ip.octets().into(),
            IpAddr::V6(ip) => ip.octets().into(),
        };
        Self {
            relay_boot_id: relay_boot_id.into(),
            software,
            lane: lane.map(Into::into),
            observed_ip,
            observed_port: observed.port().into(),
            reflect_port: reflect_port.unwrap_or(0).into(),
            relay_id: relay_id.map(|id| id.to_string()).unwrap_or_default(),
        }
    }
}

/// See [`proto::Join`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Comes back in the answer.
    pub request: u32,
    /// The room.
    pub room: RoomName,
    /// Opaque to relays.
    pub announcement: Announcement,
    /// The member hears itself.
    pub echo: bool,
    /// The member hears the room through another relay.
    pub standby: bool,
}

impl TryFrom<proto::Join> for Join {
    type Error = Invalid;

    fn try_from(join: proto::Join) -> Result<Self, Invalid> {
        let proto::Join {
            request,
            room,
            announcement,
            echo,
            standby,
        } = join;
        Ok(Self {
            request,
            room: room_name(&room)?,
            announcement: Blob::field(announcement, "announcement")?,
            echo,
            standby,
        })
    }
}

impl From<Join> for proto::Join {
    fn from(join: Join) -> Self {
        let Join {
            request,
            room,
            announcement,
            echo,
            standby,
        } = join;
        Self {
            request,
            room: room.to_string(),
            announcement: announcement.into_vec(),
            echo,
            standby,
        }
    }
}

/// See [`proto::Joined`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// That of the join.
    pub request: u32,
    /// Who the receiver is from now on.
    pub sender: SenderId,
    /// The others, or some of them.
    pub members: Vec<Member>,
    /// Another message with more of them follows.
    pub more: bool,
    /// Of the room's lease; [`Epoch::NONE`] where the relay is in no cluster.
    pub epoch: Epoch,
}

impl TryFrom<proto::Joined> for Joined {
    type Error = Invalid;

    fn try_from(joined: proto::Joined) -> Result<Self, Invalid> {
        let proto::Joined {
            request,
            sender: id,
            members,
            more,
            epoch,
        } = joined;
        let members = members
            .into_iter()
            .map(Member::try_from)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            request,
            sender: sender(id, "sender")?,
            members,
            more,
            epoch: Epoch(epoch),
        })
    }
}

impl From<Joined> for proto::Joined {
    fn from(joined: Joined) -> Self {
        let Joined {
            request,
            sender,
            members,
            more,
            epoch,
        } = joined;
        let members = members.into_iter().map(Into::into).collect();
        Self {
            request,
            sender: sender.get().into(),
            members,
            more,
            epoch: epoch.0,
        }
    }
}

/// See [`proto::Member`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id in the room.
    pub sender: SenderId,
    /// What it showed when it joined.
    pub announcement: Announcement,
}

impl TryFrom<proto::Member> for Member {
    type Error = Invalid;

    fn try_from(member: proto::Member) -> Result<Self, Invalid> {
        let proto::Member {
            sender: id,
            announcement,
        } = member;
        Ok(Self {
            sender: sender(id, "sender")?,
            announcement: Blob::field(announcement, "announcement")?,
        })
    }
}

impl From<Member> for proto::Member {
    fn from(member: Member) -> Self {
        Self {
            sender: member.sender.get().into(),
            announcement: member.announcement.into_vec(),
        }
    }
}

/// See [`proto::PeerMessage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    /// To the relay: for whom. From the relay: from whom.
    pub sender: SenderId,
    /// Opaque to relays.
    pub payload: Payload,
}

impl TryFrom<proto::PeerMessage> for PeerMessage {
    type Error = Invalid;

    fn try_from(message: proto::PeerMessage) -> Result<Self, Invalid> {
        let proto::PeerMessage { sender: id, payload } = message;
        Ok(Self {
            sender: sender(id, "sender")?,
            payload: Blob::field(payload, "payload")?,
        })
    }
}

impl From<PeerMessage> for proto::PeerMessage {
    fn from(message: PeerMessage) -> Self {
        Self {
            sender: message.sender.get().into(),
            payload: message.payload.into_vec(),
        }
    }
}
