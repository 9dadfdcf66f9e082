//! Who probes whom: O(N·k) pairs, the same on every replica, rotating.
//!
//! A plan follows from the relays, the matrix and the hour alone, so that replicas need not agree on one. Each relay
//! probes its 3 nearest, and 5 others that stand at certain distances from it on a ring; the distances change with
//! every round, so that everybody is probed by 5 others, and among up to 50 relays each pair within a minute. Of each
//! two regions one pair is probed in any case. Of larger clusters the rest is estimated ([`crate::mesh`]).

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use wzp_wire::RelayId;

use crate::{mesh::Mesh, relay::Place};

/// How long one plan is valid.
pub const ROUND: Duration = Duration::from_secs(10);
/// Between two probes of one pair.
pub const INTERVAL: Duration = Duration::from_secs(1);
const NEAREST: usize = 3;
const OTHERS: usize = 5;
/// So few relays all probe each other.
const FEW: usize = NEAREST + OTHERS + 1;

/// Whom each relay probes in a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Rises with the round; equal on all replicas.
    pub generation: u64,
    /// For each relay, by name.
    pub targets: BTreeMap<RelayId, Vec<RelayId>>,
}

/// The plan of the round that `unix_ms` is in, for relays that are attached and not lost.
pub fn plan(relays: &[(&RelayId, &Place)], mesh: &Mesh, unix_ms: u64) -> Plan {
    let round = unix_ms / ROUND.as_millis() as u64;
    let mut ring = relays.to_vec();
    ring.sort_by_key(|(id, _)| (hash(id), *id));
    ring.dedup_by_key(|(id, _)| *id);
    let mut pairs: BTreeMap<&RelayId, BTreeSet<&RelayId>> = BTreeMap::new();
    for (at, (id, place)) in ring.iter().enumerate() {
        let targets = pairs.entry(id).or_default();
        if ring.len() <= FEW {
            targets.extend(ring.iter().map(|(other, _)| *other));
        } else {
            targets.extend(around(&ring, at, round));
            targets.extend(nearest(&ring, at, place, mesh));
        }
    }
    for (a, b) in region_pairs(&ring, round) {
        pairs.entry(a).or_default().insert(b);
    }
    let listed = |(id, targets): (&RelayId, BTreeSet<&RelayId>)| {
        (
            id.clone(),
            targets
                .into_iter()
                .filter(|target| *target != id)
                .cloned()
                .collect(),
        )
    };
    Plan {
        generation: round,
        targets: pairs.into_iter().map(listed).collect(),
    }
}

type Ring<'a> = [(&'a RelayId, &'a Place)];

/// Those at this round's distances. A pair at distance d one way is at n - d the other way: half of them will do.
fn around<'a>(ring: &Ring<'a>, at: usize, round: u64) -> impl Iterator<Item = &'a RelayId> {
    let half = ring.len() / 2;
    let first = (round % half as u64) as usize * OTHERS;
    let distances = (0..OTHERS.min(half)).map(move |nth| 1 + (first + nth) % half);
    distances.filter_map(move |distance| Some(ring.get((at + distance) % ring.len())?.0))
}

/// Those with the smallest RTT; as long as few were measured, those next on the ring in the same region.
fn nearest<'a>(ring: &Ring<'a>, at: usize, place: &Place, mesh: &'a Mesh) -> Vec<&'a RelayId> {
    let Some((id, _)) = ring.get(at) else {
        return Vec::new();
    };
    let known = |other: &RelayId| {
        ring.binary_search_by_key(&(hash(other), other), |(id, _)| (hash(id), *id))
            .is_ok()
    };
    let mut near: Vec<_> = mesh
        .links_from(id)
        .filter(|(other, link)| link.reachable && known(other))
        .collect();
    near.sort_by_key(|(other, link)| (link.rtt, *other));
    let mut near: Vec<_> = near.into_iter().map(|(other, _)| other).take(NEAREST).collect();
    if near.len() < NEAREST {
        let after = (1..ring.len()).filter_map(|distance| ring.get((at + distance) % ring.len()));
        near.extend(
            after
                .filter(|(_, other)| other.region == place.region)
                .map(|(id, _)| *id)
                .take(NEAREST),
        );
    }
    near
}

/// One relay of each two regions, another one in each round.
fn region_pairs<'a>(ring: &Ring<'a>, round: u64) -> Vec<(&'a RelayId, &'a RelayId)> {
    let mut regions: BTreeMap<&str, Vec<&RelayId>> = BTreeMap::new();
    for (id, place) in ring {
        regions.entry(&place.region).or_default().push(id);
    }
    let turn = |relays: &[&'a RelayId], round: u64| {
        relays.get((round % relays.len().max(1) as u64) as usize).copied()
    };
    let regions: Vec<_> = regions.into_values().collect();
    let mut pairs = Vec::new();
    for (at, from) in regions.iter().enumerate() {
        for to in regions.iter().skip(at + 1) {
            pairs.extend(turn(from, round).zip(turn(to, round / from.len() as u64)));
        }
    }
    pairs
}

/// FNV-1a, with its bits mixed: a place on the ring that does not depend on who else is there.
fn hash(id: &RelayId) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    let hash = id.as_str().as_bytes().iter().fold(0xCBF2_9CE4_8422_2325, fnv);
    (hash ^ hash >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
