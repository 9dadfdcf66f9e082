//! What replicas are told, made into messages.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use wzp_proto::control::{self as proto, relay_event::Kind};
use wzp_relay_core::leases::Seat;
use wzp_wire::{RelayId, RoomName};

use crate::{cluster::Cluster, relay::Shared, session::unix_now};

/// Of `control.proto`; older and newer ones may differ by one.
const PROTOCOL: u32 = 1;

pub(super) fn hello(relay: &Shared, cluster: &Cluster) -> Kind {
    let place = &cluster.config.place;
    let capacity = cluster.meter().capacity();
    let source = match cluster.advertises() {
        true => proto::AddressSource::Explicit,
        false => proto::AddressSource::Bound,
    };
    let addresses = cluster.addresses.load();
    Kind::Hello(proto::Hello {
        relay_id: cluster.id().to_string(),
        boot_id: relay.boot_id.into(),
        region: place.region.clone(),
        zone: place.zone.clone(),
        node: place.node.clone(),
        addresses: addresses.iter().map(|at| address(*at, source)).collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol_min: PROTOCOL,
        protocol_max: PROTOCOL,
        capacity: Some(proto::Capacity {
            egress_bits_per_second: capacity.bits,
            packets_per_second: capacity.packets,
            cores: capacity.cores,
            connections: capacity.connections,
        }),
        certificates: cluster.keys.announced().into_iter().map(Into::into).collect(),
        draining: cluster.is_draining(),
        unix_ms: unix_ms(),
        metrics_address: cluster.metrics.map(|at| at.to_string()).unwrap_or_default(),
    })
}

pub(super) fn heartbeat(relay: &Shared, cluster: &Cluster) -> Kind {
    let (connections, _) = relay.open_connections();
    let occupancy = relay.hall.occupancy();
    let meter = cluster.meter();
    let load = meter.load();
    Kind::Heartbeat(proto::Heartbeat {
        egress_bits_per_second: load.bits as u64,
        packets_per_second: load.packets as u64,
        cpu_permille: permille(load.cpu),
        connections: u64::try_from(connections).unwrap_or(u64::MAX),
        rooms: u32::try_from(occupancy.rooms).unwrap_or(u32::MAX),
        members: u32::try_from(relay.hall.own_member_count()).unwrap_or(u32::MAX),
        draining: cluster.is_draining(),
        unix_ms: unix_ms(),
        load_permille: permille(meter.ratio(connections)),
    })
}

pub(super) fn room(relay: &Shared, room: &RoomName) -> Kind {
    let state = relay.hall.room_state(room);
    Kind::Room(proto::RoomEvent {
        room: room.to_string(),
        epoch: state.epoch.0,
        members: u32::try_from(state.members).unwrap_or(u32::MAX),
        closed: state.is_closed,
        seats: state.seats.iter().map(seat).collect(),
    })
}

pub(super) fn presence(cluster: &Cluster, person: &[u8; 16]) -> Kind {
    let presence = cluster.bulletin.presence(person);
    Kind::Presence(proto::Presence {
        fingerprint: person.to_vec(),
        room: presence.room.map(|room| room.to_string()).unwrap_or_default(),
        online: presence.online,
    })
}

pub(super) fn peer_down(relay: &RelayId, boot: [u8; 8], silent: Duration) -> Kind {
    Kind::PeerDown(proto::PeerDown {
        relay_id: relay.to_string(),
        boot_id: boot.to_vec(),
        silent_ms: millis(silent),
    })
}

pub(super) fn drain_request(deadline: Duration) -> Kind {
    Kind::DrainRequest(proto::DrainRequest {
        deadline_ms: millis(deadline),
    })
}

pub(super) fn ack(command: u64, error: String) -> Kind {
    Kind::Ack(proto::Ack { command, error })
}

pub(super) fn attached(relay: &Shared, cluster: &Cluster, change: isize) {
    let before = match change {
        1.. => cluster.attached.fetch_add(1, Relaxed) + 1,
        _ => cluster.attached.fetch_sub(1, Relaxed).saturating_sub(1),
    };
    relay.metrics.control_streams(before);
}

pub(super) fn address(address: SocketAddr, source: proto::AddressSource) -> proto::Address {
    proto::Address {
        ip: match address.ip().to_canonical() {
            IpAddr::V4(ip) => ip.octets().into(),
            IpAddr::V6(ip) => ip.octets().into(),
        },
        port: address.port().into(),
        source: source.into(),
    }
}

fn seat(seat: &Seat) -> proto::Seat {
    proto::Seat {
        relay_id: seat.relay.to_string(),
        carries: seat.carries,
    }
}

pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn permille(part: f64) -> u32 {
    (part * 1_000.0).round().clamp(0.0, f64::from(u32::MAX)) as u32
}

fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or_else(
        |_| unix_now().saturating_mul(1_000),
        |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    )
}
