//! Measuring the ways to the relays of the probe plan.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::task::JoinHandle;
use wzp_proto::control::{self as proto, relay_event::Kind};
use wzp_relay_core::probe::Standing;
use wzp_socket::clock;
use wzp_wire::RelayId;

use super::events::millis;
use crate::{
    cluster::{Cluster, Listed},
    config::Target,
    outbound::Caller,
    probes,
    relay::Shared,
};

/// Keeps to the plan for as long as the relay runs.
pub(super) async fn run(relay: Arc<Shared>, caller: Arc<Caller>) {
    let Some(cluster) = relay.cluster.clone() else {
        return;
    };
    let mut running: BTreeMap<RelayId, Running> = BTreeMap::new();
    loop {
        let (listed, wanted) = (cluster.listed(), cluster.plan().relays.clone());
        let known = |id: &RelayId| listed.get(id).filter(|_| id != cluster.id());
        let wanted: BTreeMap<_, _> = wanted.iter().filter_map(|id| Some((id, known(id)?))).collect();
        // Whoever was started anew, or is reached elsewhere, is measured anew.
        running.retain(|id, run| wanted.get(id).is_some_and(|listed| **listed == run.listed));
        cluster.plan().probes.retain(|id, _| running.contains_key(id));
        for (id, listed) in wanted {
            if !running.contains_key(id)
                && let Some(run) = Running::start(&relay, &caller, &cluster, id, listed)
            {
                running.insert(id.clone(), run);
            }
        }
        cluster.plan_changed.notified().await;
    }
}

struct Running {
    listed: Listed,
    task: JoinHandle<()>,
}

impl Running {
    fn start(
        relay: &Arc<Shared>,
        caller: &Arc<Caller>,
        cluster: &Cluster,
        id: &RelayId,
        listed: &Listed,
    ) -> Option<Self> {
        let address = listed.addresses.first()?;
        let target = Target {
            name: id.to_string(),
            host: address.ip().to_string(),
            port: address.port(),
        };
        let probe = Arc::default();
        cluster.plan().probes.insert(id.clone(), Arc::clone(&probe));
        let probing = probes::run(Arc::clone(relay), Arc::clone(caller), target, probe);
        Some(Self {
            listed: listed.clone(),
            task: tokio::spawn(probing),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was measured; `None` if there is nothing to tell.
pub(super) fn report(cluster: &Cluster) -> Option<Kind> {
    let (now, plan) = (clock::now(), cluster.plan());
    let probes: Vec<_> = plan
        .probes
        .iter()
        .filter_map(|(id, probe)| {
            let probe = probe.lock().unwrap_or_else(PoisonError::into_inner);
            let estimate = probe.estimate();
            if probe.standing() == Standing::Unknown {
                return None;
            }
            let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
            Some(proto::Probe {
                relay_id: id.to_string(),
                unreachable: probe.standing() != Standing::Reachable,
                rtt_us: micros(estimate.rtt.unwrap_or_default()),
                jitter_us: micros(estimate.jitter),
                loss_permille: (probe.loss().unwrap_or_default() * 1_000.0).round() as u32,
                age_ms: millis(now.duration_since(probe.heard().unwrap_or(now))),
            })
        })
        .collect();
    (!probes.is_empty()).then_some(Kind::Probes(proto::ProbeReport { probes }))
}
