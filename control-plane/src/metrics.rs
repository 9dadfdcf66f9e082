//! What the control plane tells about itself; `docs/metrics.md` says when each number moves.
//!
//! No room, member, address or key is a label. Relays are, by name, and pairs of relays up to so many.

mod process;
mod text;

pub(crate) use text::CONTENT_TYPE;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use wzp_control_core::Cause;

use crate::plane::Plane;

type Labels<const N: usize> = [(&'static str, String); N];
type Counts<const N: usize> = Family<Labels<N>, Counter>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge<f64, AtomicU64>>;
type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;

const SECONDS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];
/// More relays than this have no gauges for each pair.
const PAIRS_UP_TO: usize = 50;

/// Counters and gauges of one replica.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Counts<3>,
    request_seconds: Histograms,
    joins: Counts<1>,
    join_seconds: Histogram,
    assignments: Counts<1>,
    list_requests: Counts<1>,
    limited: Counts<1>,
    db_seconds: Histograms,
    db_errors: Counts<1>,
    enrollments: Counts<1>,
    rejections: Counts<1>,
    handshakes_failed: Counts<1>,
    pub(crate) relays_lost: Counter,
    scraped: Scraped,
}

/// Read from the plane when somebody asks.
#[derive(Default)]
struct Scraped {
    streams: Gauge,
    generation: Gauge,
    rooms: Gauge,
    reachable: Gauge,
    relays: Gauges<1>,
    heartbeat_age: Gauges<1>,
    pool: Gauges<1>,
    rtt: Gauges<2>,
    loss: Gauges<2>,
    pair_reachable: Gauges<2>,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(histogram),
            joins: Family::default(),
            join_seconds: histogram(),
            assignments: Family::default(),
            list_requests: Family::default(),
            limited: Family::default(),
            db_seconds: Family::new_with_constructor(histogram),
            db_errors: Family::default(),
            enrollments: Family::default(),
            rejections: Family::default(),
            handshakes_failed: Family::default(),
            relays_lost: Counter::default(),
            scraped: Scraped::default(),
        };
        metrics.register();
        Arc::new(metrics)
    }

    #[rustfmt::skip]
    fn register(&mut self) {
        let Self {
            registry, requests, request_seconds, joins, join_seconds, assignments, list_requests, limited, db_seconds,
            db_errors, enrollments, rejections, handshakes_failed, relays_lost, scraped,
        } = self;
        let Scraped {
            streams, generation, rooms, reachable, relays, heartbeat_age, pool, rtt, loss, pair_reachable,
        } = scraped;
        let version = [("version", env!("CARGO_PKG_VERSION").to_owned())];
        let info: Gauges<1> = Family::default();
        info.get_or_create(&version).set(1.0);
        registry.register("wzp_build_info", "What runs here", info);
        registry.register("wzp_control_http_requests", "HTTP requests answered", requests.clone());
        registry.register("wzp_control_http_request_seconds", "Time to answer an HTTP request", request_seconds.clone());
        registry.register("wzp_control_join_attempts", "Joins, by what became of them", joins.clone());
        registry.register("wzp_control_join_seconds", "Time to let a member into a room", join_seconds.clone());
        registry.register("wzp_control_assignments", "Leases written, by cause", assignments.clone());
        registry.register("wzp_control_list_requests", "Requests for the relay list", list_requests.clone());
        registry.register("wzp_control_ratelimited", "Requests refused for their rate", limited.clone());
        registry.register("wzp_control_db_seconds", "Time of an operation of the database", db_seconds.clone());
        registry.register("wzp_control_db_errors", "Operations of the database that failed", db_errors.clone());
        registry.register("wzp_control_enrollments", "Certificates asked for by relays", enrollments.clone());
        registry.register("wzp_control_attach_rejections", "Streams of relays that were rejected", rejections.clone());
        registry.register("wzp_control_tls_failures", "TLS handshakes of relays that failed", handshakes_failed.clone());
        registry.register("wzp_control_relays_lost", "Relays whose rooms were given to others", relays_lost.clone());
        registry.register("wzp_control_grpc_streams", "Relays attached", streams.clone());
        registry.register("wzp_control_list_generation", "Generation of the relay list", generation.clone());
        registry.register("wzp_control_rooms", "Rooms known", rooms.clone());
        registry.register("wzp_control_db_reachable", "Whether the last operation reached the database", reachable.clone());
        registry.register("wzp_control_relays", "Relays by state", relays.clone());
        registry.register("wzp_control_heartbeat_age_seconds", "Since a relay was heard", heartbeat_age.clone());
        registry.register("wzp_control_db_pool_connections", "Connections to the database", pool.clone());
        registry.register("wzp_mesh_rtt_seconds", "Round trip between two relays", rtt.clone());
        registry.register("wzp_mesh_loss_ratio", "Loss between two relays", loss.clone());
        registry.register("wzp_mesh_reachable", "Whether a relay reaches another one", pair_reachable.clone());
        registry.register_collector(Box::new(process::Process::new()));
    }

    /// Everything as text.
    pub(crate) fn render(&self, plane: &Plane) -> String {
        self.scrape(plane);
        text::render(&self.registry)
    }

    #[expect(clippy::cast_possible_wrap, reason = "counts of relays and rooms")]
    fn scrape(&self, plane: &Plane) {
        let scraped = &self.scraped;
        let (streams, rooms) = plane.look(|inner, _| (inner.attached(), inner.world.leases().len()));
        scraped.streams.set(streams as i64);
        scraped.rooms.set(rooms as i64);
        scraped.generation.set(plane.list().generation as i64);
        scraped.reachable.set(plane.store.is_reachable().into());
        for (state, count) in plane.count_relays() {
            set(&scraped.relays, [("state", state.to_owned())], count as f64);
        }
        let (open, idle) = plane.store.connections();
        let used = f64::from(open) - idle as f64;
        set(&scraped.pool, [("state", "idle".to_owned())], idle as f64);
        set(&scraped.pool, [("state", "used".to_owned())], used.max(0.0));
        scraped.heartbeat_age.clear();
        for (relay, age) in plane.heard() {
            set(
                &scraped.heartbeat_age,
                [("relay", relay.to_string())],
                age.as_secs_f64(),
            );
        }
        for family in [&scraped.rtt, &scraped.loss, &scraped.pair_reachable] {
            family.clear();
        }
        plane.look(|inner, _| {
            let registry = &inner.world.registry;
            if registry.relays().count() > PAIRS_UP_TO {
                return;
            }
            for (src, dst, link) in registry.mesh().links() {
                let pair = || [("src", src.to_string()), ("dst", dst.to_string())];
                set(&scraped.rtt, pair(), link.rtt.as_secs_f64());
                set(&scraped.loss, pair(), f64::from(link.loss_permille) / 1_000.0);
                set(
                    &scraped.pair_reachable,
                    pair(),
                    f64::from(u8::from(link.reachable)),
                );
            }
        });
    }

    pub(crate) fn request(&self, route: &str, method: &str, code: u16, took: Duration) {
        let labels = [
            ("route", route.to_owned()),
            ("method", method.to_owned()),
            ("code", code.to_string()),
        ];
        self.requests.get_or_create(&labels).inc();
        let route = [("route", route.to_owned())];
        self.request_seconds
            .get_or_create(&route)
            .observe(took.as_secs_f64());
    }

    pub(crate) fn joined(&self, result: &str, took: Duration) {
        self.joins.get_or_create(&[("result", result.to_owned())]).inc();
        self.join_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn assigned(&self, cause: Cause) {
        let name = match cause {
            Cause::Join => "join",
            Cause::Drain => "drain",
            Cause::RelayLost => "relay_lost",
            Cause::Rebalance => "rebalance",
            Cause::Standby => "standby",
            Cause::Deleted => "deleted",
        };
        self.assignments
            .get_or_create(&[("cause", name.to_owned())])
            .inc();
    }

    pub(crate) fn listed(&self, cache: &'static str) {
        self.list_requests
            .get_or_create(&[("cache", cache.to_owned())])
            .inc();
    }

    pub(crate) fn limited(&self, class: &'static str) {
        self.limited.get_or_create(&[("class", class.to_owned())]).inc();
    }

    pub(crate) fn database(&self, op: &'static str, took: Duration, succeeded: bool) {
        let op = [("op", op.to_owned())];
        self.db_seconds.get_or_create(&op).observe(took.as_secs_f64());
        if !succeeded {
            self.db_errors.get_or_create(&op).inc();
        }
    }

    pub(crate) fn enrolled(&self, refused: Option<&'static str>) {
        let result = refused.unwrap_or("granted").to_owned();
        self.enrollments.get_or_create(&[("result", result)]).inc();
    }

    pub(crate) fn rejected(&self, reason: &str) {
        let reason = reason.trim_start_matches("REJECT_REASON_").to_lowercase();
        self.rejections.get_or_create(&[("reason", reason)]).inc();
    }

    pub(crate) fn handshake_failed(&self, reason: &'static str) {
        self.handshakes_failed
            .get_or_create(&[("reason", reason.to_owned())])
            .inc();
    }
}

fn set<const N: usize>(family: &Gauges<N>, labels: Labels<N>, value: f64) {
    family.get_or_create(&labels).set(value);
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
