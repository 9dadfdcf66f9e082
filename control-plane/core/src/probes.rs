//! Who probes whom: O(N·k) pairs, the same on every replica, rotating.

use std::{collections::BTreeMap, time::Duration};

use wzp_wire::RelayId;

use crate::{mesh::Mesh, relay::Place};

/// How long one plan is valid.
pub const ROUND: Duration = Duration::from_secs(10);

/// Whom each relay probes in a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Rises with the round; equal on all replicas.
    pub generation: u64,
    /// For each relay.
    pub targets: BTreeMap<RelayId, Vec<RelayId>>,
    /// Between two probes of one pair.
    pub interval: Duration,
}

/// The plan of the round that `unix_ms` is in.
pub fn plan(relays: &[(&RelayId, &Place)], mesh: &Mesh, unix_ms: u64) -> Plan {
    Plan {
        generation: 0,
        targets: BTreeMap::new(),
        interval: Duration::from_secs(1),
    }
}
