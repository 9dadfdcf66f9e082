//! What relays say, made into the words of the core. What breaks the form is the relay's fault, and ends its stream.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use wzp_control_core::{
    Address, AddressReport, AddressSource, BootId, Capacity, Heartbeat, Hello, Lease, Place, Probe, Seat,
};
use wzp_identity::Fingerprint;
use wzp_proto::control as proto;
use wzp_wire::{Epoch, RelayId, RoomName};

use crate::plane::Event;

const MAX_ADDRESSES: usize = 16;
const MAX_CERTIFICATES: usize = 4;
const MAX_PROBES: usize = 1_024;
const MAX_SEATS: usize = 16;
/// Of texts that are for people, or become labels.
const MAX_TEXT: usize = 128;

/// A message that breaks the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is malformed")]
pub(super) struct Malformed(pub(super) &'static str);

/// The event without its number.
pub(super) fn parse(kind: Option<proto::relay_event::Kind>) -> Result<Event, Malformed> {
    use proto::relay_event::Kind;
    Ok(match kind {
        Some(Kind::Hello(hello)) => Event::Hello(Box::new(self::hello(hello)?)),
        Some(Kind::Heartbeat(beat)) => Event::Heartbeat(heartbeat(&beat)),
        Some(Kind::Room(event)) => room(event)?,
        Some(Kind::Presence(presence)) => Event::Presence {
            fingerprint: Fingerprint::from_bytes(fixed(&presence.fingerprint, "fingerprint")?),
            online: presence.online,
        },
        Some(Kind::Probes(report)) => Event::Probes(probes(&report)?),
        Some(Kind::Ack(ack)) => Event::Ack {
            command: ack.command,
            error: shortened(ack.error),
        },
        Some(Kind::PeerDown(down)) => Event::PeerDown {
            relay: relay(&down.relay_id)?,
            boot: BootId(fixed(&down.boot_id, "boot_id")?),
        },
        Some(Kind::AddressReport(report)) => Event::AddressReport(address_report(report)?),
        Some(Kind::DrainRequest(request)) => Event::DrainRequest {
            deadline: millis(request.deadline_ms),
        },
        Some(Kind::Synced(_)) => Event::Synced,
        Some(Kind::Call(_)) | None => Event::Unknown,
    })
}

pub(super) fn relay(id: &str) -> Result<RelayId, Malformed> {
    RelayId::parse(id).map_err(|_| Malformed("relay_id"))
}

pub(super) fn fixed<const N: usize>(bytes: &[u8], name: &'static str) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| Malformed(name))
}

fn hello(hello: proto::Hello) -> Result<Hello, Malformed> {
    let addresses = atmost(&hello.addresses, MAX_ADDRESSES, "addresses")?;
    let certificates = atmost(&hello.certificates, MAX_CERTIFICATES, "certificates")?;
    let capacity = hello.capacity.unwrap_or_default();
    if hello.protocol_min > hello.protocol_max {
        return Err(Malformed("protocol_min"));
    }
    Ok(Hello {
        relay: relay(&hello.relay_id)?,
        boot: BootId(fixed(&hello.boot_id, "boot_id")?),
        place: Place {
            region: text(hello.region, "region")?,
            zone: text(hello.zone, "zone")?,
            node: text(hello.node, "node")?,
        },
        addresses: addresses.iter().map(address).collect::<Result<_, _>>()?,
        version: text(hello.version, "version")?,
        protocol: hello.protocol_min..=hello.protocol_max,
        capacity: Capacity {
            egress_bits_per_second: capacity.egress_bits_per_second,
            packets_per_second: capacity.packets_per_second,
            cores: capacity.cores,
            connections: capacity.connections,
        },
        certificates: certificates
            .iter()
            .map(|hash| fixed(hash, "certificates"))
            .collect::<Result<_, _>>()?,
        draining: hello.draining,
        unix_ms: hello.unix_ms,
        metrics_address: text(hello.metrics_address, "metrics_address")?,
    })
}

fn address(said: &proto::Address) -> Result<Address, Malformed> {
    let ip = match said.ip.len() {
        4 => IpAddr::from(fixed::<4>(&said.ip, "ip")?),
        16 => IpAddr::from(fixed::<16>(&said.ip, "ip")?).to_canonical(),
        _ => return Err(Malformed("ip")),
    };
    let port = u16::try_from(said.port).ok().filter(|port| *port != 0);
    let source = match said.source() {
        proto::AddressSource::Explicit => AddressSource::Explicit,
        proto::AddressSource::Service => AddressSource::Service,
        proto::AddressSource::Node => AddressSource::Node,
        proto::AddressSource::Observed => AddressSource::Observed,
        proto::AddressSource::Bound | proto::AddressSource::Unspecified => AddressSource::Bound,
    };
    Ok(Address {
        socket: SocketAddr::new(ip, port.ok_or(Malformed("port"))?),
        source,
    })
}

fn heartbeat(beat: &proto::Heartbeat) -> Heartbeat {
    Heartbeat {
        egress_bits_per_second: beat.egress_bits_per_second,
        packets_per_second: beat.packets_per_second,
        cpu_permille: beat.cpu_permille,
        connections: beat.connections,
        rooms: beat.rooms,
        members: beat.members,
        draining: beat.draining,
        unix_ms: beat.unix_ms,
        load_permille: beat.load_permille,
    }
}

fn room(event: proto::RoomEvent) -> Result<Event, Malformed> {
    let seats = atmost(&event.seats, MAX_SEATS, "seats")?.iter().map(|seat| {
        Ok(Seat {
            relay: relay(&seat.relay_id)?,
            carries: seat.carries,
        })
    });
    let lease = Lease {
        room: RoomName::parse(&event.room).map_err(|_| Malformed("room"))?,
        epoch: Epoch(event.epoch),
        seats: seats.collect::<Result<_, _>>()?,
    };
    let members = (!event.closed).then_some(event.members);
    Ok(Event::Room { lease, members })
}

fn probes(report: &proto::ProbeReport) -> Result<Vec<Probe>, Malformed> {
    let micros = |us: u32| Duration::from_micros(us.into());
    let one = |probe: &proto::Probe| {
        Ok(Probe {
            relay: relay(&probe.relay_id)?,
            unreachable: probe.unreachable,
            rtt: micros(probe.rtt_us),
            jitter: micros(probe.jitter_us),
            loss_permille: u16::try_from(probe.loss_permille.min(1_000)).unwrap_or(1_000),
            age: millis(probe.age_ms),
        })
    };
    atmost(&report.probes, MAX_PROBES, "probes")?
        .iter()
        .map(one)
        .collect()
}

fn address_report(report: proto::AddressReport) -> Result<AddressReport, Malformed> {
    let said = report.address.as_ref().ok_or(Malformed("address"))?;
    Ok(AddressReport {
        relay: relay(&report.relay_id)?,
        address: address(said)?.socket,
        outcome: if report.reachable {
            Ok(())
        } else {
            Err(shortened(report.why_not))
        },
    })
}

fn atmost<'a, T>(list: &'a [T], most: usize, name: &'static str) -> Result<&'a [T], Malformed> {
    if list.len() <= most {
        Ok(list)
    } else {
        Err(Malformed(name))
    }
}

fn text(text: String, name: &'static str) -> Result<Box<str>, Malformed> {
    if text.len() <= MAX_TEXT && !text.chars().any(char::is_control) {
        Ok(text.into())
    } else {
        Err(Malformed(name))
    }
}

/// For logs.
fn shortened(text: String) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(MAX_TEXT)
        .collect()
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}
