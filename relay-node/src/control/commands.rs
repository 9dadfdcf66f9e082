//! What replicas say: parsed, and carried out. All of it may come twice.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use rustls_pki_types::CertificateDer;
use wzp_identity::GrantPublicKey;
use wzp_proto::control::{self as proto, relay_command::Kind};
use wzp_relay_core::leases::{Lease, Seat};
use wzp_wire::{Epoch, RelayId, RoomName};

use crate::{
    cluster::{Cluster, Listed, Word, policy},
    config::Fingerprint,
    drain,
    relay::Shared,
};

const MOST_PEERS: usize = 10_000;
const LEAST_PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// A command that cannot be carried out, ever. The control plane is told so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unheard(pub(super) &'static str);

/// Addresses of another relay that this one is to try.
pub(super) struct Check {
    pub(super) relay: RelayId,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) certificates: Vec<Fingerprint>,
}

/// Carries out a command of the replica on `stream`. What takes long is returned, to be done beside.
pub(super) fn handle(
    relay: &Shared,
    cluster: &Cluster,
    stream: u64,
    kind: Kind,
) -> Result<Option<Check>, Unheard> {
    relay.metrics.control_command(name(&kind));
    match kind {
        Kind::TrustedKeys(keys) => trust(relay, cluster, stream, keys)?,
        Kind::Peers(peers) => {
            let listed = listed(&peers)?;
            if cluster.counts(Word::Peers, stream, peers.generation) {
                cluster.set_listed(listed);
                relay.hall.relisted();
            }
        }
        Kind::ProbePlan(plan) => {
            let relays: Result<_, _> = plan.relay_ids.iter().map(|id| relay_id(id)).collect();
            let (relays, every) = (relays?, Duration::from_millis(plan.interval_ms.into()));
            if cluster.counts(Word::Plan, stream, plan.generation) {
                let mut known = cluster.plan();
                (known.relays, known.every) = (relays, every.max(LEAST_PROBE_INTERVAL));
                drop(known);
                cluster.plan_changed.notify_one();
            }
        }
        Kind::Lease(lease) => {
            let deadline = Duration::from_millis(lease.deadline_ms.into());
            let (room, lease) = parse_lease(&lease)?;
            relay.hall.handle_lease(&room, lease, deadline);
        }
        Kind::Revoke(revoke) => relay
            .hall
            .handle_revoke(&room(&revoke.room)?, Epoch(revoke.epoch)),
        Kind::Drain(_) => cluster.draining.store(true, Relaxed),
        Kind::Undrain(_) => drain::undo(relay, cluster),
        Kind::CheckAddress(check) => return Ok(Some(parse_check(&check)?)),
        Kind::Call(_) => return Err(Unheard("this relay carries no calls")),
        // The stream has read them.
        Kind::Welcome(_) | Kind::Rejected(_) => {}
    }
    Ok(None)
}

fn trust(relay: &Shared, cluster: &Cluster, stream: u64, keys: proto::TrustedKeys) -> Result<(), Unheard> {
    let parse = |key: &Vec<u8>| {
        let bytes = key.as_slice().try_into().ok()?;
        GrantPublicKey::from_bytes(bytes).ok()
    };
    let grant_keys: Option<Vec<_>> = keys.grant_keys.iter().map(parse).collect();
    let grant_keys = grant_keys.ok_or(Unheard("a grant key is none"))?;
    if !cluster.counts(Word::Keys, stream, keys.generation) {
        return Ok(());
    }
    let authorities = keys.authorities.into_iter().map(CertificateDer::from).collect();
    cluster.keys.believe(authorities, None);
    if let Some(policy) = policy(&grant_keys) {
        relay.policy.store(Arc::new(policy));
    }
    Ok(())
}

fn listed(peers: &proto::Peers) -> Result<BTreeMap<RelayId, Listed>, Unheard> {
    if peers.relays.len() > MOST_PEERS {
        return Err(Unheard("there are more relays than this one can know"));
    }
    let peer = |peer: &proto::PeerRelay| {
        let listed = Listed {
            boot: peer.boot_id.as_slice().try_into().unwrap_or_default(),
            addresses: peer.addresses.iter().filter_map(address).take(16).collect(),
            certificates: peer
                .certificates
                .iter()
                .filter_map(|hash| hash.as_slice().try_into().ok())
                .take(4)
                .collect(),
            draining: peer.draining,
        };
        Ok((relay_id(&peer.relay_id)?, listed))
    };
    peers.relays.iter().map(peer).collect()
}

fn parse_lease(lease: &proto::Lease) -> Result<(RoomName, Lease), Unheard> {
    let seat = |seat: &proto::Seat| {
        Ok(Seat {
            relay: relay_id(&seat.relay_id)?,
            carries: seat.carries,
        })
    };
    let seats: Result<Vec<_>, _> = lease.seats.iter().map(seat).collect();
    let parsed = Lease::new(Epoch(lease.epoch), seats?).map_err(|_| Unheard("the lease is malformed"))?;
    Ok((room(&lease.room)?, parsed))
}

fn parse_check(check: &proto::CheckAddress) -> Result<Check, Unheard> {
    let hash = |hash: &Vec<u8>| Some(Fingerprint(hash.as_slice().try_into().ok()?));
    let certificates: Vec<_> = check.certificates.iter().filter_map(hash).collect();
    if certificates.is_empty() {
        return Err(Unheard("there is no certificate to expect"));
    }
    Ok(Check {
        relay: relay_id(&check.relay_id)?,
        addresses: check.addresses.iter().filter_map(address).take(16).collect(),
        certificates,
    })
}

fn address(address: &proto::Address) -> Option<SocketAddr> {
    let ip = match address.ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(address.ip.as_slice()).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(address.ip.as_slice()).ok()?).to_canonical(),
    };
    let port = u16::try_from(address.port).ok().filter(|&port| port != 0)?;
    Some(SocketAddr::new(ip, port))
}

fn relay_id(id: &str) -> Result<RelayId, Unheard> {
    RelayId::parse(id).map_err(|_| Unheard("a relay's name is none"))
}

fn room(name: &str) -> Result<RoomName, Unheard> {
    RoomName::parse(name).map_err(|_| Unheard("a room's name is none"))
}

/// The value of the label `kind`.
fn name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Welcome(_) => "welcome",
        Kind::TrustedKeys(_) => "trusted_keys",
        Kind::Peers(_) => "peers",
        Kind::ProbePlan(_) => "probe_plan",
        Kind::Lease(_) => "lease",
        Kind::Revoke(_) => "revoke",
        Kind::Drain(_) => "drain",
        Kind::Undrain(_) => "undrain",
        Kind::Call(_) => "call",
        Kind::Rejected(_) => "rejected",
        Kind::CheckAddress(_) => "check_address",
    }
}
