//! The relays that serve a room, and the move from some of them to others.

use std::net::{IpAddr, SocketAddr};

use super::{Invalid, array, room_name, short};
use crate::{Epoch, RelayId, RoomName, signal::proto};

/// A room has no more relays.
pub const MAX_SEATS: usize = 16;
const MAX_ADDRESSES: usize = 16;
const MAX_CERTIFICATES: usize = 4;

/// See [`proto::RelaySeat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelaySeat {
    /// Which relay.
    pub relay: RelayId,
    /// 1 to 16, IPv4 never written as IPv6.
    pub addresses: Vec<SocketAddr>,
    /// 1 to 4 SHA-256.
    pub certificates: Vec<[u8; 32]>,
    /// Otherwise it is a warm standby.
    pub carries: bool,
}

impl TryFrom<proto::RelaySeat> for RelaySeat {
    type Error = Invalid;

    fn try_from(seat: proto::RelaySeat) -> Result<Self, Invalid> {
        let proto::RelaySeat {
            relay,
            addresses,
            certificates,
            carries,
        } = seat;
        if !(1..=MAX_ADDRESSES).contains(&addresses.len()) {
            return Err(Invalid::new("addresses"));
        }
        if !(1..=MAX_CERTIFICATES).contains(&certificates.len()) {
            return Err(Invalid::new("certificates"));
        }
        Ok(Self {
            relay: RelayId::parse(&relay).map_err(|_| Invalid::new("relay"))?,
            addresses: addresses.iter().map(relay_address).collect::<Result<_, _>>()?,
            certificates: certificates
                .iter()
                .map(|hash| array(hash, "certificates"))
                .collect::<Result<_, _>>()?,
            carries,
        })
    }
}

impl From<RelaySeat> for proto::RelaySeat {
    fn from(seat: RelaySeat) -> Self {
        let RelaySeat {
            relay,
            addresses,
            certificates,
            carries,
        } = seat;
        let address = |address: SocketAddr| proto::RelayAddress {
            ip: match address.ip().to_canonical() {
                IpAddr::V4(ip) => ip.octets().into(),
                IpAddr::V6(ip) => ip.octets().into(),
            },
            port: address.port().into(),
        };
        Self {
            relay: relay.to_string(),
            addresses: addresses.into_iter().map(address).collect(),
            certificates: certificates.into_iter().map(Into::into).collect(),
            carries,
        }
    }
}

fn relay_address(address: &proto::RelayAddress) -> Result<SocketAddr, Invalid> {
    let ip = match address.ip.len() {
        4 => IpAddr::from(array::<4>(&address.ip, "ip")?),
        _ => IpAddr::from(array::<16>(&address.ip, "ip")?).to_canonical(),
    };
    match short(address.port, "port")? {
        0 => Err(Invalid::new("port")),
        port => Ok(SocketAddr::new(ip, port)),
    }
}

/// See [`proto::Move`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The room.
    pub room: RoomName,
    /// Since when they serve it.
    pub epoch: Epoch,
    /// 1 to [`MAX_SEATS`].
    pub seats: Vec<RelaySeat>,
    /// 0: the relay that says it stays in the set.
    pub deadline_ms: u32,
    /// How long members take to start, so that they do not all come at once.
    pub spread_ms: u32,
}

impl TryFrom<proto::Move> for Move {
    type Error = Invalid;

    fn try_from(order: proto::Move) -> Result<Self, Invalid> {
        let proto::Move {
            room,
            epoch,
            seats,
            deadline_ms,
            spread_ms,
        } = order;
        if !(1..=MAX_SEATS).contains(&seats.len()) {
            return Err(Invalid::new("seats"));
        }
        Ok(Self {
            room: room_name(&room)?,
            epoch: Epoch(epoch),
            seats: seats
                .into_iter()
                .map(RelaySeat::try_from)
                .collect::<Result<_, _>>()?,
            deadline_ms,
            spread_ms,
        })
    }
}

impl From<Move> for proto::Move {
    fn from(order: Move) -> Self {
        let Move {
            room,
            epoch,
            seats,
            deadline_ms,
            spread_ms,
        } = order;
        Self {
            room: room.to_string(),
            epoch: epoch.0,
            seats: seats.into_iter().map(Into::into).collect(),
            deadline_ms,
            spread_ms,
        }
    }
}
