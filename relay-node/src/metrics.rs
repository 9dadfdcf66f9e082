//! What the relay tells about itself; `docs/metrics.md` says when each number moves.
//!
//! Names are those of the metric set. Nothing here carries a room, member, address or token as a label.

mod cluster;
mod hot;
mod probes;
mod process;
mod quality;
mod shed;
mod text;

pub(crate) use process::{cpu_time, packet_threads};
pub(crate) use text::CONTENT_TYPE;

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use wzp_relay_core::{admission, lifecycle::Lifecycle, overload::Overload, probe::Probe, stats};
use wzp_wire::signal::{Reason, Role, proto::QualityReport};

use crate::{
    config::{Forward, Target},
    doors::Door,
    lanes::NoLane,
    outbox::Slow,
    relay::{Loops, Shared},
    session,
    upstream::Upstream,
};
use probes::Probes;
use quality::Quality;
use shed::Shedding;

type Label = [(&'static str, String); 1];
type Ratio = Gauge<f64, AtomicU64>;

const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];
const LONG_SECONDS: [f64; 9] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];

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
    slow_readers: Family<Label, Counter>,
    refusals: Family<Label, Counter>,
    no_lanes: Family<Label, Counter>,
    messages: Counter,
    peer_messages_lost: Counter,
    rooms: Gauge,
    members: Gauge,
    lanes: Gauge,
    load: Family<Label, Ratio>,
    state: Family<Label, Gauge>,
    /// Of the packet threads, and of those for QUIC.
    busy: [Ratio; 2],
    upstream: Gauge,
    upstream_waiting: Gauge,
    quality: Quality,
    probes: Probes,
    cluster: cluster::Cluster,
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

fn label(name: &'static str, value: &str) -> Label {
    [(name, value.to_owned())]
}

impl Metrics {
    pub(crate) fn new(probes: &[Target], forward: Option<&Forward>, overload: &Arc<Overload>) -> Self {
        let mut registry = Registry::default();
        let rtts = Arc::<Rtts>::default();
        let hot = Arc::new(HotPath {
            rtts: Arc::clone(&rtts),
            ..HotPath::default()
        });
        registry.register_collector(Box::new(Arc::clone(&hot)));
        registry.register_collector(Box::new(process::Process::new()));
        registry.register_collector(Box::new(Shedding(Arc::clone(overload))));
        let mut metrics = Self {
            hot,
            rtts,
            handshakes: Family::default(),
            handshake_seconds: Histogram::new(SECONDS),
            sessions: Family::default(),
            session_seconds: Histogram::new(LONG_SECONDS),
            session_ends: Family::default(),
            slow_readers: Family::default(),
            refusals: Family::default(),
            no_lanes: Family::default(),
            messages: Counter::default(),
            peer_messages_lost: Counter::default(),
            rooms: Gauge::default(),
            members: Gauge::default(),
            lanes: Gauge::default(),
            load: Family::default(),
            state: Family::default(),
            busy: Default::default(),
            upstream: Gauge::default(),
            upstream_waiting: Gauge::default(),
            quality: Quality::new(),
            probes: Probes::default(),
            cluster: cluster::Cluster::default(),
            registry,
        };
        metrics.register();
        if forward.is_some() {
            metrics.register_upstream();
        }
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
            "wzp_relay_slow_readers",
            "Sessions ended because signalling was not read, by what was too much",
            self.slow_readers.clone(),
        );
        r.register(
            "wzp_relay_refusals",
            "Requests and connections refused, by the reason given",
            self.refusals.clone(),
        );
        r.register(
            "wzp_relay_lanes_refused",
            "Offers of a lane that came to nothing, by why",
            self.no_lanes.clone(),
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
        let build = Family::<Label, Gauge>::default();
        build
            .get_or_create(&label("version", env!("CARGO_PKG_VERSION")))
            .set(1);
        r.register("wzp_build_info", "1; the version is the label", build);
    }

    fn register_upstream(&mut self) {
        let r = &mut self.registry;
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
        for why in Slow::LABELS {
            let _ = self.slow_readers.get_or_create(&label("why", why));
        }
        for reason in (1..).map_while(|number| Reason::try_from(number).ok()) {
            let _ = self
                .refusals
                .get_or_create(&label("reason", &admission::label(reason)));
        }
        for reason in NoLane::LABELS {
            let _ = self.no_lanes.get_or_create(&label("reason", reason));
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

    pub(crate) fn no_lane(&self, why: NoLane) {
        self.no_lanes.get_or_create(&label("reason", why.label())).inc();
    }

    /// The busiest packet thread, and the QUIC threads together: parts of the time they had.
    pub(crate) fn busy(&self, io: f64, quic: f64) {
        let [of_io, of_quic] = &self.busy;
        of_io.set(io);
        of_quic.set(quic);
    }

    pub(crate) fn slow_reader(&self, slow: Slow) {
        self.slow_readers.get_or_create(&label("why", slow.label())).inc();
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
            Role::Peer => "peer",
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
        self.peers(relay.hall.peer_count());
        self.moved(relay.hall.take_moved());
        let waiting = relay.upstream.as_ref().map_or(0, Upstream::waiting);
        self.upstream_waiting.set(gauge(waiting));
        let lane_load = lanes as f64 / relay.max_lanes.max(1) as f64;
        let room_load = occupancy.rooms as f64 / relay.max_rooms.max(1) as f64;
        let [io, quic] = &self.busy;
        let loads = [
            ("conns", connections),
            ("lanes", lane_load),
            ("rooms", room_load),
            ("io", io.get()),
            ("quic", quic.get()),
            ("queues", relay.budget.load()),
        ];
        let most = loads.iter().map(|&(_, load)| load).fold(0.0, f64::max);
        for (resource, load) in loads.into_iter().chain([("max", most)]) {
            self.load.get_or_create(&label("resource", resource)).set(load);
        }
        let now = relay.lifecycle().label();
        for state in Lifecycle::LABELS {
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
