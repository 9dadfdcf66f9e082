//! What relays are told, made into messages.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use wzp_control_core::{Address, AddressSource, Cause, Lease, registry::Refused};
use wzp_proto::control::{self as proto, relay_command::Kind};
use wzp_wire::RelayId;

use crate::plane::{Command, Order, Peer};

/// The command without its number.
pub(super) fn message(command: Command, control_id: [u8; 8], unix_ms: u64, heartbeat: Duration) -> Kind {
    match command {
        Command::Welcome { protocol, observed } => Kind::Welcome(proto::Welcome {
            control_id: control_id.to_vec(),
            protocol,
            heartbeat_ms: millis(heartbeat),
            unix_ms,
            observed_ip: observed.map(octets).unwrap_or_default(),
        }),
        Command::TrustedKeys(trusted) => Kind::TrustedKeys(proto::TrustedKeys {
            grant_keys: trusted
                .grant_keys
                .iter()
                .map(|key| key.to_bytes().to_vec())
                .collect(),
            authorities: trusted.authorities.iter().map(|ca| ca.to_vec()).collect(),
            generation: trusted.generation,
        }),
        Command::Peers(peers) => Kind::Peers(proto::Peers {
            generation: peers.generation,
            relays: peers.relays.iter().map(peer).collect(),
        }),
        Command::ProbePlan {
            generation,
            relays,
            interval,
        } => Kind::ProbePlan(proto::ProbePlan {
            generation,
            relay_ids: relays.iter().map(RelayId::to_string).collect(),
            interval_ms: millis(interval),
        }),
        Command::Lease(order) => Kind::Lease(lease(&order)),
        Command::Revoke { room, epoch } => Kind::Revoke(proto::Revoke {
            room: room.to_string(),
            epoch: epoch.0,
        }),
        Command::Drain { deadline } => Kind::Drain(proto::Drain {
            deadline_ms: millis(deadline),
        }),
        Command::Undrain => Kind::Undrain(proto::Undrain {}),
        Command::CheckAddress {
            relay,
            addresses,
            certificates,
        } => Kind::CheckAddress(proto::CheckAddress {
            relay_id: relay.to_string(),
            addresses: addresses.iter().map(address).collect(),
            certificates: certificates.iter().map(|hash| hash.to_vec()).collect(),
        }),
    }
}

/// The last message of a stream that is refused.
pub(super) fn rejected(reason: proto::RejectReason, text: String) -> Kind {
    Kind::Rejected(proto::Rejected {
        reason: reason.into(),
        text,
    })
}

pub(super) fn reason(refused: &Refused) -> proto::RejectReason {
    match refused {
        Refused::Protocol { .. } => proto::RejectReason::Protocol,
        Refused::DuplicateId { .. } => proto::RejectReason::DuplicateId,
        Refused::Clock { .. } => proto::RejectReason::Clock,
    }
}

fn lease(order: &Order) -> proto::Lease {
    let Order {
        lease: Lease { room, epoch, seats },
        deadline,
        spread,
        cause,
    } = order;
    let seats = seats.iter().map(|seat| proto::Seat {
        relay_id: seat.relay.to_string(),
        carries: seat.carries,
    });
    let cause = match cause {
        Cause::Join => proto::LeaseCause::Join,
        Cause::Drain => proto::LeaseCause::Drain,
        Cause::RelayLost => proto::LeaseCause::RelayLost,
        Cause::Rebalance => proto::LeaseCause::Rebalance,
        Cause::Standby => proto::LeaseCause::Standby,
        Cause::Deleted => proto::LeaseCause::Unspecified,
    };
    proto::Lease {
        room: room.to_string(),
        epoch: epoch.0,
        seats: seats.collect(),
        deadline_ms: millis(*deadline),
        spread_ms: millis(*spread),
        cause: cause.into(),
    }
}

fn peer(peer: &Peer) -> proto::PeerRelay {
    proto::PeerRelay {
        relay_id: peer.relay.to_string(),
        boot_id: peer.boot.0.to_vec(),
        region: peer.place.region.to_string(),
        zone: peer.place.zone.to_string(),
        addresses: peer.addresses.iter().map(address).collect(),
        certificates: peer.certificates.iter().map(|hash| hash.to_vec()).collect(),
        draining: peer.draining,
        load_permille: peer.load_permille,
    }
}

fn address(address: &Address) -> proto::Address {
    let Address { socket, source } = address;
    let source = match source {
        AddressSource::Explicit => proto::AddressSource::Explicit,
        AddressSource::Service => proto::AddressSource::Service,
        AddressSource::Node => proto::AddressSource::Node,
        AddressSource::Observed => proto::AddressSource::Observed,
        AddressSource::Bound => proto::AddressSource::Bound,
    };
    proto::Address {
        ip: octets(SocketAddr::ip(socket)),
        port: socket.port().into(),
        source: source.into(),
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
