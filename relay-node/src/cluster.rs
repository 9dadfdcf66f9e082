//! What a relay of a cluster has besides what every relay has.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use wzp_identity::{GrantPublicKey, TrustedKeys};
use wzp_relay_core::{admission::Policy, meter::Meter, newest::Newest, probe::Probe};
use wzp_wire::RelayId;

use crate::{
    bulletin::Bulletin,
    config::{self, Advertise},
    keys::Keys,
};

/// Shared by everything that has to do with the cluster.
pub(crate) struct Cluster {
    pub(crate) config: config::Cluster,
    pub(crate) keys: Arc<Keys>,
    pub(crate) bulletin: Bulletin,
    /// Where clients reach this relay.
    pub(crate) addresses: ArcSwap<Vec<SocketAddr>>,
    /// The port that was bound.
    pub(crate) port: u16,
    /// Where it is bound, unless that is everywhere.
    bound: Option<SocketAddr>,
    /// Where Prometheus finds its metrics.
    pub(crate) metrics: Option<SocketAddr>,
    /// Every listed relay, this one too.
    listed: ArcSwap<BTreeMap<RelayId, Listed>>,
    /// The list, or the rooms that relays share, have changed.
    pub(crate) peers_changed: Notify,
    pub(crate) draining: AtomicBool,
    /// Streams that have their Welcome.
    pub(crate) attached: AtomicUsize,
    pub(crate) meter: Mutex<Meter>,
    pub(crate) plan: Mutex<Plan>,
    pub(crate) plan_changed: Notify,
    words: Mutex<Words>,
}

/// Another relay, as the control plane lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) boot: [u8; 8],
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) certificates: Vec<[u8; 32]>,
    pub(crate) draining: bool,
}

/// Whom to measure.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) relays: Vec<RelayId>,
    pub(crate) every: std::time::Duration,
    /// What was measured, by the relays that are being measured.
    pub(crate) probes: BTreeMap<RelayId, Arc<Mutex<Probe>>>,
}

/// Whose word counts, of each kind.
#[derive(Default)]
struct Words {
    keys: Newest,
    peers: Newest,
    plan: Newest,
}

/// What replicas number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Keys,
    Peers,
    Plan,
}

impl Cluster {
    pub(crate) fn new(
        config: config::Cluster,
        keys: Arc<Keys>,
        bound: SocketAddr,
        metrics: Option<SocketAddr>,
        meter: Meter,
    ) -> Self {
        let port = bound.port();
        let advertised = config
            .advertise
            .iter()
            .map(|&Advertise { ip, port: said }| SocketAddr::new(ip, said.unwrap_or(port)));
        let advertised: Vec<_> = advertised.collect();
        let bound = (!bound.ip().is_unspecified()).then_some(bound);
        let addresses = if advertised.is_empty() {
            bound.into_iter().collect()
        } else {
            advertised
        };
        Self {
            addresses: ArcSwap::from_pointee(addresses),
            port,
            bound,
            metrics,
            config,
            keys,
            bulletin: Bulletin::default(),
            listed: ArcSwap::default(),
            peers_changed: Notify::new(),
            draining: AtomicBool::new(false),
            attached: AtomicUsize::new(0),
            meter: Mutex::new(meter),
            plan: Mutex::default(),
            plan_changed: Notify::new(),
            words: Mutex::default(),
        }
    }

    pub(crate) fn id(&self) -> &RelayId {
        &self.config.id
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Whether the addresses were given on the command line.
    pub(crate) fn advertises(&self) -> bool {
        !self.config.advertise.is_empty()
    }

    /// The way to the control plane begins at `local`: where nothing else is known, that is where clients come.
    pub(crate) fn handle_local_address(&self, local: std::net::IpAddr) {
        if !self.advertises() && self.bound.is_none() {
            let found = SocketAddr::new(local.to_canonical(), self.port);
            if **self.addresses.load() != [found] {
                self.addresses.store(Arc::new(vec![found]));
            }
        }
    }

    /// Whether what the replica on `stream` says counts.
    pub(crate) fn counts(&self, word: Word, stream: u64, generation: u64) -> bool {
        self.words().of(word).handle_word(stream, generation)
    }

    pub(crate) fn detached(&self, stream: u64) {
        let mut words = self.words();
        for word in [Word::Keys, Word::Peers, Word::Plan] {
            words.of(word).handle_detached(stream);
        }
    }

    /// The relays that the control plane listed last.
    pub(crate) fn listed(&self) -> Arc<BTreeMap<RelayId, Listed>> {
        self.listed.load_full()
    }

    pub(crate) fn set_listed(&self, listed: BTreeMap<RelayId, Listed>) {
        self.listed.store(Arc::new(listed));
        self.peers_changed.notify_one();
        self.plan_changed.notify_one();
    }

    pub(crate) fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Words {
    fn of(&mut self, word: Word) -> &mut Newest {
        match word {
            Word::Keys => &mut self.keys,
            Word::Peers => &mut self.peers,
            Word::Plan => &mut self.plan,
        }
    }
}

/// Whoever has a grant of one of these, the first of which signs now; `None` if there are none.
pub(crate) fn policy(keys: &[GrantPublicKey]) -> Option<Policy> {
    let trusted = match keys {
        [] => return None,
        [only] => TrustedKeys::new(only.clone()),
        [current, other, ..] => TrustedKeys::overlapping(current.clone(), other.clone()),
    };
    Some(Policy::Cluster(Some(Box::new(trusted))))
}
