//! One relay, as known.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use wzp_wire::{Instant, RelayId};

use super::{Checker, Offer, State};
use crate::{
    list::Band,
    load::Load,
    relay::{Address, Capacity, Heartbeat, Hello, Place, StreamId},
};

/// After which a failure counts half.
const FORGIVE: f32 = 120.0;
/// More failures than that, and a relay is to be avoided.
const TOO_MANY_FAILURES: f32 = 1.5;

/// A relay as this replica knows it.
#[derive(Clone, Debug)]
pub struct Relay {
    /// As last introduced.
    pub hello: Hello,
    /// Where it stands.
    pub state: State,
    /// Its stream; `None` while there is none.
    pub stream: Option<StreamId>,
    /// When anything last came from it.
    pub heard: Instant,
    /// The last one, and when.
    pub heartbeat: Option<(Instant, Heartbeat)>,
    /// What it carries, and what it was given lately.
    pub load: Load,
    /// Its clock minus ours in ms, when that is worth a note.
    pub clock_off_ms: Option<i64>,
    pub(super) band: Band,
    pub(super) synced: bool,
    pub(super) lost: bool,
    /// Somebody asked for it to be emptied.
    pub(super) drain_ordered: bool,
    /// The relay itself says that it is being emptied.
    pub(super) drain_said: bool,
    pub(super) failures: Failures,
    /// What others said of it last.
    pub(super) words: Words,
    pub(super) checks: Checks,
    /// When others were last asked whether they reach it.
    pub(super) asked: Option<Instant>,
    /// What the list says of it.
    pub(super) shown: Option<Shown>,
    pub(super) version: [u32; 3],
}

/// What the list says of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    offer: Offer,
    band: Band,
    place: Place,
    addresses: Vec<Address>,
    certificates: Vec<[u8; 32]>,
}

impl Relay {
    pub(super) fn new(now: Instant, stream: StreamId, hello: Hello) -> Self {
        Self {
            state: State::Joining,
            stream: Some(stream),
            heard: now,
            heartbeat: None,
            load: Load::default(),
            clock_off_ms: None,
            band: Band::default(),
            synced: false,
            lost: false,
            drain_ordered: false,
            drain_said: hello.draining,
            failures: Failures::default(),
            words: Words::default(),
            checks: Checks::default(),
            asked: None,
            shown: None,
            version: version(&hello.version),
            hello,
        }
    }

    /// Where it runs.
    pub fn place(&self) -> &Place {
        &self.hello.place
    }

    /// What it can carry.
    pub fn capacity(&self) -> Capacity {
        self.hello.capacity
    }

    /// How it is offered; `None`: it is not on the list.
    pub fn offer(&self) -> Option<Offer> {
        match self.state {
            State::Listed { offer } => Some(offer),
            _ => None,
        }
    }

    /// It is being emptied.
    pub fn is_draining(&self) -> bool {
        self.drain_ordered || self.drain_said
    }

    /// Addresses at which somebody reached it, in the order in which it gave them.
    pub fn verified(&self) -> impl Iterator<Item = Address> {
        let reached = |address: &Address| self.checks.verified.contains(&address.socket);
        self.hello.addresses.iter().copied().filter(reached)
    }

    /// How loaded it is, coarsely.
    pub fn band(&self) -> Band {
        self.band
    }

    /// How often it was lost lately; each time counts half after two minutes.
    pub fn failures(&self, now: Instant) -> f32 {
        self.failures.at(now)
    }

    pub(super) fn unverified(&self) -> Vec<SocketAddr> {
        let sockets = self.hello.addresses.iter().map(|address| address.socket);
        sockets
            .filter(|socket| !self.checks.verified.contains(socket))
            .collect()
    }

    pub(super) fn offer_now(&self, now: Instant, cut_off: bool) -> Offer {
        if self.is_draining() {
            Offer::Draining
        } else if cut_off || self.band == Band::High || self.failures(now) > TOO_MANY_FAILURES {
            Offer::Avoid
        } else {
            Offer::Active
        }
    }

    pub(super) fn shown_now(&self) -> Option<Shown> {
        Some(Shown {
            offer: self.offer()?,
            band: self.band,
            place: self.hello.place.clone(),
            addresses: self.verified().collect(),
            certificates: self.hello.certificates.clone(),
        })
    }
}

/// A number of failures that fades.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failures {
    count: f32,
    since: Instant,
}

impl Failures {
    pub(super) fn add(&mut self, now: Instant) {
        *self = Self {
            count: self.at(now) + 1.0,
            since: now,
        };
    }

    fn at(self, now: Instant) -> f32 {
        self.count * (-now.duration_since(self.since).as_secs_f32() / FORGIVE).exp2()
    }
}

/// Whether others reach a relay, by who said so, and when that was.
#[derive(Clone, Debug, Default)]
pub(super) struct Words(BTreeMap<RelayId, (Instant, bool)>);

impl Words {
    /// Words are kept that long.
    const KEPT: Duration = Duration::from_secs(60);

    pub(super) fn say(&mut self, by: &RelayId, at: Instant, reached: bool) {
        self.0
            .retain(|_, (said, _)| at.duration_since(*said) < Self::KEPT);
        match self.0.get(by) {
            // A probe that was on its way is older than what is known.
            Some((said, _)) if *said > at => {}
            _ => {
                self.0.insert(by.clone(), (at, reached));
            }
        }
    }

    pub(super) fn reached_since(&self, since: Instant) -> bool {
        self.0.values().any(|(at, reached)| *reached && *at > since)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&RelayId, Instant, bool)> {
        self.0.iter().map(|(by, (at, reached))| (by, *at, *reached))
    }
}

/// The verification of a relay's addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Checks {
    pub(super) verified: BTreeSet<SocketAddr>,
    pub(super) open: Option<Open>,
    /// Who tried in this round, without reaching all.
    pub(super) tried: Vec<Checker>,
    /// Rounds in which nobody reached all.
    pub(super) rounds: u32,
    pub(super) not_before: Option<Instant>,
    pub(super) why_not: Option<String>,
}

/// An order to try addresses that was not answered in full.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) by: Checker,
    pub(super) since: Instant,
    pub(super) waiting: BTreeSet<SocketAddr>,
}

/// The numbers of a version; what is no number counts as 0.
fn version(text: &str) -> [u32; 3] {
    let mut numbers = text.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    [0; 3].map(|_: u32| numbers.next().unwrap_or(0))
}
