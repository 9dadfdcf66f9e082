//! What moves in a cluster only.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{Label, label};
use crate::{
    config::{self, Place},
    hall::Moved,
};

/// Sessions with peers and streams to the control plane.
#[derive(Default)]
pub(super) struct Cluster {
    attached: Gauge,
    streams: Family<Label, Counter>,
    commands: Family<Label, Counter>,
    peers: Gauge,
    peers_down: Counter,
    moves: Counter,
    stragglers: Counter,
    certificate_seconds: Gauge,
}

impl Cluster {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "wzp_relay_control_streams",
            "Replicas of the control plane that this relay is attached to",
            self.attached.clone(),
        );
        r.register(
            "wzp_relay_control_attempts",
            "Attempts to attach to a replica, by how they ended",
            self.streams.clone(),
        );
        r.register(
            "wzp_relay_control_commands",
            "Commands of the control plane, by kind",
            self.commands.clone(),
        );
        r.register(
            "wzp_relay_peers",
            "Relays of the cluster with which a session is open",
            self.peers.clone(),
        );
        r.register(
            "wzp_relay_moves",
            "Times that a member was told to move to other relays",
            self.moves.clone(),
        );
        r.register(
            "wzp_migration_stragglers",
            "Members told goodbye because they had not moved in time",
            self.stragglers.clone(),
        );
        r.register(
            "wzp_relay_peers_down",
            "Times that a peer stopped answering",
            self.peers_down.clone(),
        );
        r.register(
            "wzp_cert_expiry_seconds",
            "Until this relay's certificate expires",
            self.certificate_seconds.clone(),
        );
        for result in ["attached", "unreachable", "rejected"] {
            let _ = self.streams.get_or_create(&label("result", result));
        }
        for kind in ["lease", "revoke", "drain", "undrain"] {
            let _ = self.commands.get_or_create(&label("kind", kind));
        }
    }
}

impl super::Metrics {
    /// Adds the series of a relay in a cluster.
    pub(crate) fn register_cluster(&mut self, config: &config::Cluster) {
        self.cluster.register(&mut self.registry);
        let Place { region, zone, .. } = &config.place;
        let labels = [
            ("relay", config.id.to_string()),
            ("region", region.clone()),
            ("zone", zone.clone()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let info = Family::<Vec<(&'static str, String)>, Gauge>::default();
        info.get_or_create(&labels.to_vec()).set(1);
        self.registry
            .register("wzp_relay_info", "1; which relay this is", info);
        let _ = self.sessions.get_or_create(&label("role", "peer"));
    }

    pub(crate) fn control_streams(&self, attached: usize) {
        self.cluster.attached.set(super::gauge(attached));
    }

    pub(crate) fn control_attempt(&self, result: &str) {
        self.cluster.streams.get_or_create(&label("result", result)).inc();
    }

    pub(crate) fn control_command(&self, kind: &'static str) {
        self.cluster.commands.get_or_create(&label("kind", kind)).inc();
    }

    pub(crate) fn peers(&self, open: usize) {
        self.cluster.peers.set(super::gauge(open));
    }

    pub(crate) fn moved(&self, told: Moved) {
        self.cluster.moves.inc_by(told.told);
        self.cluster.stragglers.inc_by(told.stragglers);
    }

    pub(crate) fn peer_down(&self) {
        self.cluster.peers_down.inc();
    }

    pub(crate) fn certificate_expires_in(&self, seconds: u64) {
        self.cluster
            .certificate_seconds
            .set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// Media bytes and packets sent since the start.
    pub(crate) fn sent(&self) -> (u64, u64) {
        let loops = self
            .hot
            .loops
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let sent = loops.iter().flat_map(|counters| &counters.sent);
        sent.fold((0, 0), |(bytes, packets), leg| {
            (bytes + leg.bytes.get(), packets + leg.packets.get())
        })
    }
}
