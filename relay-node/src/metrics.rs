//! What the relay tells about itself; `docs/metrics.md` says when each number moves.
//!
//! Names are those of the metric set. Nothing here carries a room, member, address or token as a label.

mod hot;
mod process;
mod text;

pub(crate) use text::CONTENT_TYPE;

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use wzp_relay_core::{
    admission,
    lifecycle::Lifecycle,
    probe::{Probe, Standing},
    stats,
};
use wzp_wire::signal::{Reason, Role, proto::QualityReport};

use crate::{
    config::Target,
    doors::Door,
    relay::{Loops, Shared},
    session,
    upstream::Upstream,
};

type Label = [(&'static str, String); 1];
type Ratio = Gauge<f64, AtomicU64>;

const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];
const LONG_SECONDS: [f64; 9] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];
const RATIOS: [f64; 10] = [0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0];
const MOS: [f64; 8] = [1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.25, 4.5];
const GAPS: [f64; 8] = [0.02, 0.04, 0.1, 0.2, 0.4, 1.0, 3.0, 10.0];

/// Everything that is not counted by the packet loops, and the door to what is.
pub(crate) struct Metrics {
    registry: Registry,
    hot: Arc<HotPath>,
    rtts: Arc<Rtts>,
    handshakes: Family<Label, Counter>,
    handshake_seconds: Histogram,
    sessions: Family<Label, Gauge>,
    session_seconds: Histogram,
    session_ends: Family<Label, Counter>,
    refusals: Family<Label, Counter>,
    messages: Counter,
    peer_messages_lost: Counter,
    rooms: Gauge,
    members: Gauge,
    lanes: Gauge,
    load: Family<Label, Ratio>,
    state: Family<Label, Gauge>,
    overload: Gauge,
    upstream: Gauge,
    upstream_waiting: Gauge,
    quality: Quality,
    probes: Probes,
}

/// What the packet loops count.
#[derive(Debug, Default)]
struct HotPath {
    loops: Mutex<Loops>,
    doors: OnceLock<Vec<Weak<Door>>>,
    rtts: Arc<Rtts>,
}

/// Round trips of members, measured by PINGs on their lanes.
#[derive(Debug)]
pub(crate) struct Rtts(stats::Histogram<12>);

impl Default for Rtts {
    fn default() -> Self {
        Self(stats::Histogram::new([
            1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
            5_000_000,
        ]))
    }
}

impl Rtts {
    pub(crate) fn observe(&self, rtt: Duration) {
        self.0
            .observe(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX), 1);
    }
}

/// What members report of what they hear.
struct Quality {
    loss: Family<Label, Histogram, fn() -> Histogram>,
    late: Histogram,
    concealed: Histogram,
    jitter: Histogram,
    mos: Histogram,
    gap: Family<Label, Histogram, fn() -> Histogram>,
    fec_recovered: Counter,
    fec_unrecovered: Counter,
    key_mismatch: Counter,
}

/// The ways to other relays.
#[derive(Default)]
struct Probes {
    rtt: Family<Label, Ratio>,
    jitter: Family<Label, Ratio>,
    loss: Family<Label, Ratio>,
    reachable: Family<Label, Gauge>,
}

fn label(name: &'static str, value: &str) -> Label {
    [(name, value.to_owned())]
}

impl Metrics {
    pub(crate) fn new(probes: &[Target]) -> Self {
        let mut registry = Registry::default();
        let rtts = Arc::<Rtts>::default();
        let hot = Arc::new(HotPath {
            rtts: Arc::clone(&rtts),
            ..HotPath::default()
        });
        registry.register_collector(Box::new(Arc::clone(&hot)));
        registry.register_collector(Box::new(process::Process::new()));
        let mut metrics = Self {
            hot,
            rtts,
            handshakes: Family::default(),
            handshake_seconds: Histogram::new(SECONDS),
            sessions: Family::default(),
            session_seconds: Histogram::new(LONG_SECONDS),
            session_ends: Family::default(),
            refusals: Family::default(),
            messages: Counter::default(),
            peer_messages_lost: Counter::default(),
            rooms: Gauge::default(),
            members: Gauge::default(),
            lanes: Gauge::default(),
            load: Family::default(),
            state: Family::default(),
            overload: Gauge::default(),
            upstream: Gauge::default(),
            upstream_waiting: Gauge::default(),
            quality: Quality::new(),
            probes: Probes::default(),
            registry,
        };
        metrics.register();
        metrics.begin_at_zero();
        metrics.quality.register(&mut metrics.registry);
        if !probes.is_empty() {
            metrics.probes.register(&mut metrics.registry);
            for target in probes {
                metrics.probes.set(&target.name, &Probe::default());
            }
        }
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "wzp_relay_handshakes",
            "QUIC handshakes by how they ended",
            self.handshakes.clone(),
        );
        r.register(
            "wzp_relay_handshake_seconds",
            "First packet to finished handshake",
            self.handshake_seconds.clone(),
        );
        r.register(
            "wzp_relay_sessions",
            "Sessions open now, by role",
            self.sessions.clone(),
        );
        r.register(
            "wzp_relay_session_duration_seconds",
            "Welcome to end of session",
            self.session_seconds.clone(),
        );
        r.register(
            "wzp_relay_session_ends",
            "Sessions ended, by reason",
            self.session_ends.clone(),
        );
        r.register(
            "wzp_relay_refusals",
            "Requests and connections refused, by the reason given",
            self.refusals.clone(),
        );
        r.register(
            "wzp_relay_signal_messages",
            "Signalling messages received in sessions",
            self.messages.clone(),
        );
        r.register(
            "wzp_relay_peer_messages_dropped",
            "Messages from member to member that a slow reader had no room for",
            self.peer_messages_lost.clone(),
        );
        r.register(
            "wzp_relay_rooms",
            "Rooms with at least one member",
            self.rooms.clone(),
        );
        r.register(
            "wzp_relay_members",
            "Members in rooms, those behind trunks among them",
            self.members.clone(),
        );
        r.register("wzp_relay_lanes", "Lanes received on", self.lanes.clone());
        r.register(
            "wzp_relay_load_ratio",
            "Use of a limited resource, 1 is full",
            self.load.clone(),
        );
        r.register(
            "wzp_relay_state",
            "1 for the state the relay is in",
            self.state.clone(),
        );
        r.register(
            "wzp_relay_overload_level",
            "How much is shed because the packet loops cannot keep up, 0 to 3",
            self.overload.clone(),
        );
        r.register(
            "wzp_relay_upstream_connected",
            "1 while the upstream relay is connected",
            self.upstream.clone(),
        );
        r.register(
            "wzp_relay_upstream_waiting",
            "Members whom the upstream relay has not been told of",
            self.upstream_waiting.clone(),
        );
        let build = Family::<Label, Gauge>::default();
        build
            .get_or_create(&label("version", env!("CARGO_PKG_VERSION")))
            .set(1);
        r.register("wzp_build_info", "1; the version is the label", build);
    }

    /// A series that is not there cannot be told from one that does not move.
    fn begin_at_zero(&self) {
        for result in ["ok", "failed", "timeout", "refused", "retry"] {
            let _ = self.handshakes.get_or_create(&label("result", result));
        }
        for role in ["member", "relay", "probe"] {
            let _ = self.sessions.get_or_create(&label("role", role));
        }
        for reason in session::End::LABELS {
            let _ = self.session_ends.get_or_create(&label("reason", reason));
        }
        for reason in (1..).map_while(|number| Reason::try_from(number).ok()) {
            let _ = self
                .refusals
                .get_or_create(&label("reason", &admission::label(reason)));
        }
        let _ = self.quality.loss.get_or_create(&label("dir", "down"));
        let _ = self.quality.gap.get_or_create(&label("cause", "network"));
    }

    /// The counters of one more packet loop.
    pub(crate) fn counters(&self) -> Arc<stats::Counters> {
        let counters = Arc::<stats::Counters>::default();
        self.hot
            .loops
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&counters));
        counters
    }

    pub(crate) fn rtts(&self) -> Arc<Rtts> {
        Arc::clone(&self.rtts)
    }

    /// The ports, whose sockets count for themselves.
    pub(crate) fn set_doors(&self, doors: &[Arc<Door>]) {
        // There is one set of ports in the life of a relay.
        let _ = self.hot.doors.set(doors.iter().map(Arc::downgrade).collect());
    }

    pub(crate) fn handshake(&self, result: &str) {
        self.handshakes.get_or_create(&label("result", result)).inc();
    }

    pub(crate) fn handshake_took(&self, time: Duration) {
        self.handshake_seconds.observe(time.as_secs_f64());
    }

    pub(crate) fn refused(&self, reason: Reason) {
        self.refusals
            .get_or_create(&label("reason", &admission::label(reason)))
            .inc();
    }

    pub(crate) fn message(&self) {
        self.messages.inc();
    }

    pub(crate) fn peer_message_lost(&self) {
        self.peer_messages_lost.inc();
    }

    pub(crate) fn upstream(&self, connected: bool) {
        self.upstream.set(i64::from(connected));
    }

    /// Counts a session until [`Session::ended`].
    pub(crate) fn session(&self, role: Role) -> Session<'_> {
        let role = match role {
            Role::Relay => "relay",
            Role::Probe => "probe",
            Role::Member | Role::Unspecified => "member",
        };
        let open = self.sessions.get_or_create_owned(&label("role", role));
        open.inc();
        Session { metrics: self, open }
    }

    pub(crate) fn quality(&self, report: &QualityReport) {
        self.quality.observe(report);
    }

    pub(crate) fn probe(&self, target: &str, probe: &Probe) {
        self.probes.set(target, probe);
    }

    /// Everything in the text format of Prometheus.
    pub(crate) fn render(&self, relay: &Shared) -> String {
        let occupancy = relay.hall.occupancy();
        let (_, connections) = relay.open_connections();
        let lanes = relay.lanes.len();
        self.rooms.set(gauge(occupancy.rooms));
        self.members.set(gauge(occupancy.members));
        self.lanes.set(gauge(lanes));
        self.overload.set(relay.overload.shed().level().into());
        let waiting = relay.upstream.as_ref().map_or(0, Upstream::waiting);
        self.upstream_waiting.set(gauge(waiting));
        let lane_load = lanes as f64 / relay.max_lanes.max(1) as f64;
        let room_load = occupancy.rooms as f64 / relay.max_rooms.max(1) as f64;
        let loads = [("conns", connections), ("lanes", lane_load), ("rooms", room_load)];
        let most = loads.iter().map(|&(_, load)| load).fold(0.0, f64::max);
        for (resource, load) in loads.into_iter().chain([("max", most)]) {
            self.load.get_or_create(&label("resource", resource)).set(load);
        }
        let now = relay.lifecycle().label();
        for state in [Lifecycle::Serving.label(), Lifecycle::Over.label()] {
            self.state
                .get_or_create(&label("state", state))
                .set(i64::from(state == now));
        }
        text::render(&self.registry)
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// An open session.
pub(crate) struct Session<'a> {
    metrics: &'a Metrics,
    open: Gauge,
}

impl Session<'_> {
    pub(crate) fn ended(self, reason: &str, after: Duration) {
        self.metrics
            .session_ends
            .get_or_create(&label("reason", reason))
            .inc();
        self.metrics.session_seconds.observe(after.as_secs_f64());
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Quality {
    fn new() -> Self {
        Self {
            loss: Family::new_with_constructor(|| Histogram::new(RATIOS)),
            late: Histogram::new(RATIOS),
            concealed: Histogram::new(RATIOS),
            jitter: Histogram::new(SECONDS),
            mos: Histogram::new(MOS),
            gap: Family::new_with_constructor(|| Histogram::new(GAPS)),
            fec_recovered: Counter::default(),
            fec_unrecovered: Counter::default(),
            key_mismatch: Counter::default(),
        }
    }

    fn register(&self, r: &mut Registry) {
        r.register(
            "wzp_client_loss_ratio",
            "Packets lost on the way to a member, as it reports",
            self.loss.clone(),
        );
        r.register(
            "wzp_client_late_ratio",
            "Packets that came too late to be played, as reported",
            self.late.clone(),
        );
        r.register(
            "wzp_client_concealed_ratio",
            "Playing time that was concealed, as reported",
            self.concealed.clone(),
        );
        r.register(
            "wzp_client_jitter_seconds",
            "Jitter of arrival, as reported",
            self.jitter.clone(),
        );
        r.register(
            "wzp_mos_estimate",
            "Estimated mean opinion score of what is heard, as reported",
            self.mos.clone(),
        );
        r.register(
            "wzp_media_gap_seconds",
            "Longest gap since the report before",
            self.gap.clone(),
        );
        r.register(
            "wzp_fec_recovered",
            "Packets recovered by repair packets, as reported",
            self.fec_recovered.clone(),
        );
        r.register(
            "wzp_fec_unrecovered",
            "Packets lost in spite of repair, as reported",
            self.fec_unrecovered.clone(),
        );
        r.register(
            "wzp_key_mismatch",
            "Packets for which a member lacked the key, as reported",
            self.key_mismatch.clone(),
        );
    }

    fn observe(&self, report: &QualityReport) {
        let QualityReport {
            loss_permille,
            late_permille,
            concealed_permille,
            jitter_ms,
            // Measured by our own PINGs.
            rtt_ms: _,
            mos_centi,
            fec_recovered,
            fec_unrecovered,
            key_mismatch,
            longest_gap_ms,
        } = *report;
        let ratio = |permille: u32| f64::from(permille.min(1_000)) / 1_000.0;
        // Who heard nothing has no estimate, and zeros that would count as a good link.
        if (100..=500).contains(&mos_centi) {
            self.mos.observe(f64::from(mos_centi) / 100.0);
            self.loss
                .get_or_create(&label("dir", "down"))
                .observe(ratio(loss_permille));
            self.late.observe(ratio(late_permille));
            self.concealed.observe(ratio(concealed_permille));
            self.jitter.observe(f64::from(jitter_ms.min(60_000)) / 1_000.0);
        }
        if longest_gap_ms > 0 {
            let gap = f64::from(longest_gap_ms.min(600_000)) / 1_000.0;
            self.gap.get_or_create(&label("cause", "network")).observe(gap);
        }
        // A report says at most what ten seconds of a large room can hold, whatever it claims.
        let most = 100_000;
        self.fec_recovered.inc_by(fec_recovered.min(most).into());
        self.fec_unrecovered.inc_by(fec_unrecovered.min(most).into());
        self.key_mismatch.inc_by(key_mismatch.min(most).into());
    }
}

impl Probes {
    fn register(&self, r: &mut Registry) {
        r.register(
            "wzp_probe_rtt_seconds",
            "Smoothed round trip to a probed relay",
            self.rtt.clone(),
        );
        r.register(
            "wzp_probe_jitter_seconds",
            "Smoothed change between round trips",
            self.jitter.clone(),
        );
        r.register(
            "wzp_probe_loss_ratio",
            "Lost among the last 100 PINGs",
            self.loss.clone(),
        );
        r.register(
            "wzp_probe_reachable",
            "1 while the probed relay answers PINGs",
            self.reachable.clone(),
        );
    }

    fn set(&self, target: &str, probe: &Probe) {
        let label = label("target", target);
        let estimate = probe.estimate();
        if let Some(rtt) = estimate.rtt {
            self.rtt.get_or_create(&label).set(rtt.as_secs_f64());
            self.jitter
                .get_or_create(&label)
                .set(estimate.jitter.as_secs_f64());
        } else {
            // A number from before would look like a measurement.
            self.rtt.remove(&label);
            self.jitter.remove(&label);
        }
        if let Some(loss) = probe.loss() {
            self.loss.get_or_create(&label).set(loss);
        }
        // Last, so that no scrape finds round trips of a target that is said to be unreachable.
        self.reachable
            .get_or_create(&label)
            .set(i64::from(probe.standing() == Standing::Reachable));
    }
}
