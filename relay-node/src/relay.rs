//! A relay, put together from its parts.

mod gate;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time,
};
use tracing::info;
use wzp_identity::{GrantKey, Identity, Phrase};
use wzp_lane::Aead;
use wzp_relay_core::{
    admission::{Policy, Refusal},
    lifecycle::Lifecycle,
    meter::{Capacity, Meter},
    overload::Overload,
    stats::Counters,
};
use wzp_socket::{
    clock, quic,
    relay::{self as sockets, LaneTable},
};
use wzp_wire::signal::Reason;

use crate::{
    banner::Banner,
    beside::Beside,
    cert::Certificate,
    cluster::Cluster,
    config::{Config, Limits},
    control,
    doors::{Door, DoorKind},
    drain,
    hall::Hall,
    http,
    keys::{self, Keys},
    lanes::Lanes,
    load,
    media::Media,
    metrics::Metrics,
    outbound::Caller,
    outbox::Budget,
    peers,
    port::Port,
    probes,
    random::{SystemRng, random},
    refusals::Complaints,
    session, signals, tls,
    upstream::Upstream,
};
use gate::Gate;
pub(crate) use gate::Ticket;

/// Forwarders for QUIC datagrams; more tasks than this at once wait for each other.
const BESIDE: usize = 2;

/// How long closed connections may take to be told so.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What all parts of a relay share.
pub(crate) struct Shared {
    pub(crate) hall: Hall,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) aeads: &'static [Aead],
    /// Which members may enter, here or behind another relay.
    pub(crate) policy: ArcSwap<Policy>,
    /// Which relays may bring them.
    pub(crate) relay_policy: Policy,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) boot_id: [u8; 8],
    pub(crate) reflect_port: Option<u16>,
    /// This relay is itself downstream of another, so nobody can be downstream of it.
    pub(crate) forwards: bool,
    /// Others may be downstream of this one.
    pub(crate) takes_relays: bool,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) max_lanes: usize,
    pub(crate) max_rooms: usize,
    /// Whether the packet loops keep up.
    pub(crate) overload: Arc<Overload>,
    /// For handshakes that end in a refusal.
    pub(crate) refusals: Semaphore,
    /// What the log was told of them.
    pub(crate) complaints: Complaints,
    /// What all signalling queues take.
    pub(crate) budget: Arc<Budget>,
    beside: Vec<Beside>,
    gate: Mutex<Gate>,
    lifecycle: watch::Sender<Lifecycle>,
}

/// A relay whose ports are bound.
pub struct Relay {
    shared: Arc<Shared>,
    doors: Vec<Arc<Door>>,
    http: Option<tokio::net::TcpListener>,
    probes: Vec<crate::config::Target>,
    caller: Caller,
    banner: Banner,
}

impl Relay {
    /// Binds every port. Call it inside tokio.
    ///
    /// # Errors
    /// What could not be read, made or bound.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        let Config {
            listen,
            cluster,
            certificate,
            access,
            reflect_port,
            forward,
            forward_key,
            takes_relays,
            probes,
            metrics: metrics_address,
            io_threads,
            quic_threads: _,
            max_lanes,
            ids,
            aeads,
            rooms,
            limits,
            log: _,
        } = config;
        let kept = certificate.is_some();
        let certificate = Certificate::obtain(certificate.as_ref())?;
        let keys = match &cluster {
            Some(cluster) => Some(Arc::new(Keys::new(cluster.token.authority, &certificate)?)),
            None => None,
        };
        let server = match &keys {
            Some(keys) => tls::server_of(keys::server(keys)?),
            None => tls::server(&certificate)?,
        };
        let first = SocketAddr::new(listen.ip, listen.first);
        let main = sockets::bind_range(first, listen.first..=listen.last, &socket_config(io_threads))?;
        let reflect = match reflect_port {
            Some(port) => Some(sockets::bind(
                SocketAddr::new(listen.ip, port),
                &socket_config(1),
            )?),
            None => None,
        };
        let http = match metrics_address {
            Some(address) => {
                let bound = tokio::net::TcpListener::bind(address).await;
                Some(bound.with_context(|| format!("cannot bind {address}"))?)
            }
            None => None,
        };
        let banner = Banner {
            address: main.local_addr(),
            cluster: cluster.as_ref().map(|it| (it.id.clone(), it.control.clone())),
            fingerprint: certificate.fingerprint(),
            kept,
            access: Banner::access(&access),
            reflect: reflect.as_ref().map(sockets::Bound::local_addr),
            forward: forward.clone(),
            metrics: http.as_ref().and_then(|http| http.local_addr().ok()),
        };
        let overload = Arc::new(Overload::new(limits.overload));
        let mut metrics = Metrics::new(&probes, forward.as_ref(), &overload);
        if let Some(cluster) = &cluster {
            metrics.register_cluster(cluster);
        }
        let metrics = Arc::new(metrics);
        let cluster = cluster.zip(keys).map(|(config, keys)| {
            let meter = Meter::new(capacity(&limits));
            Arc::new(Cluster::new(config, keys, banner.address, banner.metrics, meter))
        });
        let policy = match &cluster {
            Some(_) => Policy::Cluster(None),
            None => Policy::of(access.key().map(GrantKey::public)),
        };
        let beside = (0..BESIDE).map(|_| {
            let counters = metrics.counters();
            Beside::new(
                &main.sender(),
                counters,
                metrics.rtts(),
                Arc::clone(&overload),
                &limits,
            )
        });
        let shared = Arc::new(Shared {
            hall: Hall::new(rooms, cluster.as_ref()),
            lanes: LaneTable::new(max_lanes, ids),
            aeads,
            policy: ArcSwap::from_pointee(policy),
            relay_policy: Policy::of(forward_key.as_deref().map(GrantKey::public)),
            limits,
            boot_id: random(),
            reflect_port: reflect.as_ref().map(|bound| bound.local_addr().port()),
            forwards: forward.is_some(),
            takes_relays,
            max_lanes,
            max_rooms: rooms.rooms,
            upstream: forward.map(Upstream::new),
            cluster,
            overload: Arc::clone(&overload),
            refusals: Semaphore::new(limits.polite_refusals),
            complaints: Complaints::default(),
            budget: Budget::new(limits.queues),
            beside: beside.collect(),
            gate: Mutex::new(Gate::new(&limits)),
            lifecycle: watch::Sender::new(Lifecycle::Serving),
            metrics,
        });
        let mut doors = vec![open(&shared, main, DoorKind::Main, &server)?];
        if let Some(reflect) = reflect {
            doors.push(open(&shared, reflect, DoorKind::Reflect, &server)?);
        }
        shared.metrics.set_doors(&doors);
        let door = doors.first().context("no port")?;
        let caller = Caller {
            endpoint: door.endpoint.clone(),
            sessions: Arc::clone(&door.sessions),
            sender: door.running.sender().clone(),
            lanes: Arc::clone(&shared.lanes),
            aeads,
            identity: Identity::from_phrase(&Phrase::generate(&mut SystemRng)),
            grant_key: forward_key,
            budget: Arc::clone(&shared.budget),
            patience: limits.patience,
        };
        Ok(Self {
            shared,
            doors,
            http,
            probes,
            caller,
            banner,
        })
    }

    /// Where it listens, and with which certificate.
    pub fn banner(&self) -> &Banner {
        &self.banner
    }

    /// Serves until a signal says stop: then members get a goodbye, and the relay ends within 2 s.
    ///
    /// # Errors
    /// When the system gives no signal handlers.
    pub async fn run(self) -> anyhow::Result<()> {
        let stop = signals::stop().context("cannot listen for signals")?;
        self.run_until(stop).await;
        Ok(())
    }

    /// As [`Self::run`], with `stop` for the signals: each value is one.
    pub async fn run_until(self, mut stop: tokio::sync::mpsc::Receiver<()>) {
        let Self {
            shared,
            doors,
            http,
            probes,
            caller,
            banner: _,
        } = self;
        let caller = Arc::new(caller);
        let mut tasks = JoinSet::new();
        for door in &doors {
            tasks.spawn(Arc::clone(door).accept(Arc::clone(&shared)));
        }
        let hall = Arc::clone(&shared);
        tasks.spawn(async move { hall.hall.publish().await });
        tasks.spawn(load::watch(Arc::clone(&shared)));
        let budget = Arc::clone(&shared.budget);
        tasks.spawn(async move { budget.keep().await });
        if let Some(listener) = http {
            tasks.spawn(http::serve(listener, Arc::clone(&shared), doors.clone()));
        }
        if shared.upstream.is_some() {
            tasks.spawn(crate::upstream::run(Arc::clone(&shared), Arc::clone(&caller)));
        }
        for target in probes {
            let probe = Arc::default();
            tasks.spawn(probes::run(
                Arc::clone(&shared),
                Arc::clone(&caller),
                target,
                probe,
            ));
        }
        if shared.cluster.is_some() {
            tasks.spawn(control::run(Arc::clone(&shared), Arc::clone(&caller)));
            tasks.spawn(peers::run(Arc::clone(&shared), Arc::clone(&caller)));
            tasks.spawn(drain::keep(Arc::clone(&shared)));
        }
        shared.wait_for_end(&mut stop).await;
        tasks.abort_all();
        for door in doors {
            door.endpoint
                .close(session::code(Reason::ShuttingDown), b"the relay stops");
            // For those who have not taken their goodbye; it has until then to leave.
            let _ = time::timeout(LAST_WORDS, door.endpoint.wait_idle()).await;
        }
    }
}

/// What the load is compared with.
fn capacity(limits: &Limits) -> Capacity {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Capacity {
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        connections: u64::try_from(limits.connections.total).unwrap_or(u64::MAX),
        ..Capacity::default()
    }
}

fn socket_config(io_threads: usize) -> sockets::Config {
    sockets::Config {
        io_threads,
        ..sockets::Config::default()
    }
}

fn open(
    shared: &Arc<Shared>,
    bound: sockets::Bound,
    kind: DoorKind,
    server: &quinn::ServerConfig,
) -> anyhow::Result<Arc<Door>> {
    let limits = &shared.limits;
    // Lanes work at their own door only, and flooding the second one does not make the first shed load.
    let (lanes, overload) = match kind {
        DoorKind::Main => (Arc::clone(&shared.lanes), Arc::clone(&shared.overload)),
        DoorKind::Reflect => (
            LaneTable::new(limits.connections.probes, *shared.lanes.layout()),
            Arc::new(Overload::new(limits.overload)),
        ),
    };
    // A secret for each door: with one for both, either would make the stateless resets of the other's connections.
    let config = quic::endpoint_config_with(&quic::EndpointSecret::random(), *lanes.layout());
    let endpoint = bound.endpoint(config, Some(server.clone()))?;
    let sessions = Arc::clone(bound.sessions());
    let handler = |_| {
        let (counters, rtts) = (shared.metrics.counters(), shared.metrics.rtts());
        Media::new(counters, rtts, Arc::clone(&overload), limits)
    };
    let running = bound
        .start(&lanes, handler)
        .context("cannot start the packet threads")?;
    Ok(Arc::new(Door {
        kind,
        endpoint,
        sessions,
        lanes,
        running,
    }))
}

impl Shared {
    /// Resolves when the relay stops.
    pub(crate) async fn stopping(&self) {
        let mut lifecycle = self.lifecycle.subscribe();
        // The sender lives in `self`, so this cannot fail before it resolves.
        let _ = lifecycle.wait_for(|state| !state.admits()).await;
    }

    pub(crate) fn lifecycle(&self) -> Lifecycle {
        *self.lifecycle.borrow()
    }

    /// Whether there is time for newcomers.
    ///
    /// # Errors
    /// [`Refusal`] with `REASON_OVERLOADED`.
    pub(crate) fn keeps_up(&self) -> Result<(), Refusal> {
        if self.overload.shed().admits() {
            return Ok(());
        }
        let text = "the relay is overloaded and takes nobody for now; try another one, or again";
        Err(Refusal::for_now(
            Reason::Overloaded,
            text,
            self.overload.retry_after(),
        ))
    }

    /// The forwarder for QUIC datagrams of `port`.
    pub(crate) fn beside(&self, port: &Port) -> &Beside {
        let at = usize::try_from(port.id.0).unwrap_or_default() % BESIDE;
        #[expect(clippy::indexing_slicing, reason = "there are BESIDE of them")]
        &self.beside[at]
    }

    fn handle_signal(&self) {
        let now = clock::now();
        match &self.cluster {
            Some(cluster) if cluster.keys.is_enrolled() => {
                if let Lifecycle::Draining { .. } = self.set(|state| state.handle_drain_signal(now)) {
                    drain::begin(cluster);
                }
            }
            _ => {
                self.set(|state| state.handle_signal(now));
            }
        }
    }

    pub(crate) fn set(&self, change: impl FnOnce(Lifecycle) -> Lifecycle) -> Lifecycle {
        let mut now = Lifecycle::Over;
        self.lifecycle.send_modify(|state| {
            *state = change(*state);
            now = *state;
        });
        now
    }

    async fn wait_for_end(&self, stop: &mut tokio::sync::mpsc::Receiver<()>) {
        let mut changed = self.lifecycle.subscribe();
        loop {
            let state = *changed.borrow_and_update();
            if state == Lifecycle::Over {
                return;
            }
            let timeout = async {
                match state.poll_timeout() {
                    Some(at) => time::sleep(at.duration_since(clock::now())).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                signal = stop.recv() => {
                    info!("stopping");
                    self.handle_signal();
                    let open = self.open_connections().0;
                    self.set(|state| state.handle_open(open));
                    if signal.is_none() {
                        return;
                    }
                }
                () = timeout => { self.set(|state| state.handle_timeout(clock::now())); }
                _ = changed.changed() => {}
            }
        }
    }
}

/// Counters of every packet loop, those beside the IO threads among them.
pub(crate) type Loops = Vec<Arc<Counters>>;
