//! Relays of one cluster in memory and members who are connected to several of them, in virtual time.

use std::{collections::BTreeMap, time::Duration};

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use wzp_identity::{Identity, Phrase};
use wzp_sdk_core::{
    call::{Call, Event, MAX_DATAGRAM},
    carrier::{Carrier, Why},
    paths::{PathId, Sending},
    voice::{receiver::PULL, sim::Tones},
};
use wzp_wire::{
    Epoch, Instant, RelayId, SenderId,
    signal::{
        Announcement, Join, Joined, Kind, Member, Move, PeerMessage, RelaySeat, SignalMessage, message, proto,
    },
};

use crate::room::{TICK, config, id};

/// One way, for everything.
const DELAY: Duration = Duration::from_millis(20);
/// A member who began to carry so lately is told to everybody.
const NEW_HERE: Duration = Duration::from_secs(2);

pub(crate) struct Cluster {
    pub(crate) now: Instant,
    pub(crate) people: Vec<Person>,
    pub(crate) relays: Vec<Relay>,
    rng: ChaCha8Rng,
    flying: BTreeMap<(Instant, u64), Flight>,
    order: u64,
}

pub(crate) struct Relay {
    pub(crate) dead: bool,
    pub(crate) epoch: u64,
    /// Gives out other ids than the others do.
    pub(crate) contrary: bool,
    /// Lets nobody in.
    pub(crate) closed: bool,
    inside: BTreeMap<usize, Seat>,
}

struct Seat {
    announcement: Announcement,
    carries: Option<Instant>,
}

pub(crate) struct Person {
    pub(crate) call: Call<Tones>,
    /// To which relay each path leads.
    pub(crate) paths: Vec<(PathId, usize)>,
    pub(crate) talks: bool,
    /// Reaches no relay, and none reaches it.
    pub(crate) cut: bool,
    pub(crate) events: Vec<Event>,
    /// When something new was heard.
    pub(crate) heard: Vec<Instant>,
    /// What was said, to which relay.
    pub(crate) said: Vec<(usize, Kind)>,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            dead: false,
            epoch: 1,
            contrary: false,
            closed: false,
            inside: BTreeMap::new(),
        }
    }
}

enum Flight {
    Up(usize, usize, Kind),
    Down(usize, usize, Kind),
    MediaUp(usize, usize, Vec<u8>),
    /// From one relay to another.
    Trunk(usize, usize, Vec<u8>),
    MediaDown(usize, usize, Vec<u8>),
    Ping(usize, usize, Instant),
    Pong(usize, usize, Instant),
}

impl Flight {
    /// Between whom and a relay.
    fn of(&self) -> Option<usize> {
        match *self {
            Self::Up(who, ..) | Self::MediaUp(who, ..) | Self::Ping(who, ..) => Some(who),
            Self::Down(_, who, _) | Self::MediaDown(_, who, _) | Self::Pong(_, who, _) => Some(who),
            Self::Trunk(..) => None,
        }
    }
}

pub(crate) fn relay_id(relay: usize) -> RelayId {
    RelayId::parse(&format!("relay-{relay}")).unwrap()
}

pub(crate) fn seat(relay: usize, carries: bool) -> RelaySeat {
    RelaySeat {
        relay: relay_id(relay),
        addresses: vec![([127, 0, 0, 1], 4_433 + relay as u16).into()],
        certificates: vec![[relay as u8; 32]],
        carries,
    }
}

impl Person {
    pub(crate) fn carries(&self) -> Option<usize> {
        self.relay(self.call.carrying()?)
    }

    pub(crate) fn gap(&self, from: Instant) -> Duration {
        let mut last = self
            .heard
            .iter()
            .rev()
            .find(|at| **at <= from)
            .copied()
            .unwrap_or(from);
        let mut longest = Duration::ZERO;
        for &at in self.heard.iter().filter(|at| **at > from) {
            longest = longest.max(at.duration_since(last));
            last = at;
        }
        longest
    }

    pub(crate) fn saw(&self, event: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(event)
    }

    fn relay(&self, path: PathId) -> Option<usize> {
        self.paths
            .iter()
            .find(|(id, _)| *id == path)
            .map(|(_, relay)| *relay)
    }

    pub(crate) fn path(&self, relay: usize) -> Option<PathId> {
        self.paths
            .iter()
            .find(|(_, of)| *of == relay)
            .map(|(path, _)| *path)
    }
}

impl Cluster {
    pub(crate) fn new(relays: usize) -> Self {
        Self {
            now: Instant::from_micros(1_000_000),
            people: Vec::new(),
            relays: (0..relays).map(|_| Relay::default()).collect(),
            rng: ChaCha8Rng::seed_from_u64(3),
            flying: BTreeMap::new(),
            order: 0,
        }
    }

    /// Somebody who talks comes by these relays, the first of which carries.
    pub(crate) fn join(&mut self, relays: &[usize]) -> usize {
        let who = self.people.len();
        let identity = Identity::from_phrase(&Phrase::from_seed(&[who as u8 + 1; 32]));
        let mut call = Call::new(self.now, config(), &identity, Tones, &mut self.rng).unwrap();
        let seats = relays.iter().map(|&relay| seat(relay, relay == relays[0]));
        call.set_relays(Epoch(1), seats.collect());
        call.join(self.now);
        self.people.push(Person {
            call,
            paths: Vec::new(),
            talks: true,
            cut: false,
            events: Vec::new(),
            heard: Vec::new(),
            said: Vec::new(),
        });
        for &relay in relays {
            self.connect(who, relay);
        }
        who
    }

    pub(crate) fn run(&mut self, seconds: f64) {
        for _ in 0..(seconds * 100.0).round() as u32 {
            self.now += TICK;
            self.land();
            for who in 0..self.people.len() {
                self.step(who);
            }
        }
    }

    /// What a relay says to a member.
    pub(crate) fn say(&mut self, relay: usize, to: usize, kind: Kind) {
        if !self.relays[relay].dead {
            self.fly(DELAY, Flight::Down(relay, to, kind));
        }
    }

    pub(crate) fn order_move(&mut self, relay: usize, epoch: u64, seats: Vec<RelaySeat>, spread_ms: u32) {
        // They were told first.
        for known in &mut self.relays {
            known.epoch = known.epoch.max(epoch);
        }
        let order = Move {
            room: config().room,
            epoch: Epoch(epoch),
            seats,
            deadline_ms: 8_000,
            spread_ms,
        };
        for to in self.relays[relay].inside.keys().copied().collect::<Vec<_>>() {
            self.say(relay, to, Kind::Move(order.clone().into()));
        }
    }

    /// A relay misses a member for so long that it tells the others.
    pub(crate) fn expel(&mut self, relay: usize, who: usize) {
        self.obey(relay, who, Kind::Leave(proto::Leave {}));
    }

    pub(crate) fn inside(&self, relay: usize) -> Vec<usize> {
        self.relays[relay].inside.keys().copied().collect()
    }

    fn connect(&mut self, who: usize, relay: usize) {
        let person = &mut self.people[who];
        let path = person
            .call
            .add_relay(self.now, &relay_id(relay), Carrier::Lane, Why::Answered);
        person.paths.push((path, relay));
    }

    fn step(&mut self, who: usize) {
        let now = self.now;
        let person = &mut self.people[who];
        let call = &mut person.call;
        call.handle_tick(now);
        if call.poll_timeout().is_some_and(|at| at <= now) {
            call.handle_timeout(now, &mut self.rng);
        }
        call.pull(now, &mut [0.0; PULL]);
        if call.sender_id().is_some() {
            let strength = if person.talks { 1.0 } else { 0.0 };
            let pcm: [f32; PULL] = std::array::from_fn(|i| strength * Tones::sample(i as u32));
            call.handle_capture(now, &pcm, strength);
        }
        let mut flights = Vec::new();
        let mut out = [0; MAX_DATAGRAM];
        while let Some((sending, len)) = person.call.poll_packet(now, &mut out) {
            let on = match sending {
                Sending::Nowhere => vec![],
                Sending::On(path) => vec![path],
                Sending::Both(path, other) => vec![path, other],
            };
            for relay in on.into_iter().filter_map(|path| person.relay(path)) {
                flights.push(Flight::MediaUp(who, relay, out[..len].to_vec()));
            }
        }
        for (path, relay) in person.paths.clone() {
            if person.call.ping_due(now, path) {
                person.call.handle_ping(now, path);
                flights.push(Flight::Ping(who, relay, now));
            }
        }
        while let Some((path, SignalMessage { kind: Some(kind) })) = person.call.poll_signal() {
            let Some(relay) = person.relay(path) else { continue };
            person.said.push((relay, kind.clone()));
            flights.push(Flight::Up(who, relay, kind));
        }
        while let Some(path) = person.call.poll_hangup() {
            person.call.remove_path(now, path);
            person.paths.retain(|(id, _)| *id != path);
        }
        while let Some(event) = person.call.poll_event() {
            person.events.push(event);
        }
        let mut dials = Vec::new();
        while let Some(seat) = person.call.poll_dial(now) {
            dials.push(seat.relay);
        }
        flights.into_iter().for_each(|flight| self.fly(DELAY, flight));
        for relay in dials {
            let index = (0..self.relays.len())
                .find(|index| relay_id(*index) == relay)
                .unwrap();
            if self.relays[index].dead || self.people[who].cut {
                self.people[who].call.handle_unreachable(now, &relay);
            } else {
                self.connect(who, index);
            }
        }
    }

    fn fly(&mut self, after: Duration, flight: Flight) {
        self.order += 1;
        self.flying.insert((self.now + after, self.order), flight);
    }

    fn land(&mut self) {
        while let Some(first) = self
            .flying
            .first_entry()
            .filter(|first| first.key().0 <= self.now)
        {
            let now = self.now;
            let flight = first.remove();
            if flight.of().is_some_and(|who| self.people[who].cut) {
                continue;
            }
            match flight {
                Flight::Up(who, relay, kind) if !self.relays[relay].dead => self.obey(relay, who, kind),
                Flight::Ping(who, relay, sent) if !self.relays[relay].dead => {
                    self.fly(DELAY, Flight::Pong(relay, who, sent));
                }
                Flight::MediaUp(who, relay, bytes) if !self.relays[relay].dead => {
                    self.forward(relay, who, &bytes);
                }
                Flight::Trunk(relay, from, bytes) if !self.relays[relay].dead => {
                    let seats = self.relays[relay].inside.iter();
                    let to = seats.filter(|(to, seat)| **to != from && seat.carries.is_some());
                    for to in to.map(|(to, _)| *to).collect::<Vec<_>>() {
                        self.fly(DELAY, Flight::MediaDown(relay, to, bytes.clone()));
                    }
                }
                Flight::Up(..) | Flight::Ping(..) | Flight::MediaUp(..) | Flight::Trunk(..) => {}
                Flight::Down(relay, who, kind) => {
                    let person = &mut self.people[who];
                    if let Some(path) = person.path(relay) {
                        person.call.handle_signal(now, path, message(kind));
                    }
                }
                Flight::MediaDown(relay, who, mut bytes) => {
                    let person = &mut self.people[who];
                    let Some(path) = person.path(relay) else { continue };
                    let before = person.call.counts().received;
                    person.call.handle_datagram(now, path, &mut bytes);
                    if person.call.counts().received > before {
                        person.heard.push(now);
                    }
                }
                Flight::Pong(relay, who, sent) => {
                    let person = &mut self.people[who];
                    if let Some(path) = person.path(relay) {
                        person.call.handle_pong(now, path, now.duration_since(sent));
                    }
                }
            }
        }
    }

    fn forward(&mut self, relay: usize, from: usize, bytes: &[u8]) {
        let Some(seat) = self.relays[relay].inside.get(&from) else {
            return;
        };
        let settled = seat.carries.is_some_and(|since| self.now >= since + NEW_HERE);
        let others = self.relays[relay].inside.iter().filter(|(to, _)| **to != from);
        let to = others.filter(|(_, seat)| !settled || seat.carries.is_some());
        for to in to.map(|(to, _)| *to).collect::<Vec<_>>() {
            self.fly(DELAY, Flight::MediaDown(relay, to, bytes.to_vec()));
        }
        for peer in (0..self.relays.len()).filter(|peer| *peer != relay) {
            self.fly(DELAY, Flight::Trunk(peer, from, bytes.to_vec()));
        }
    }

    fn obey(&mut self, relay: usize, who: usize, kind: Kind) {
        match kind {
            Kind::Join(join) => self.admit(relay, who, Join::try_from(join).unwrap()),
            Kind::Carry(proto::Carry { here }) => {
                let now = self.now;
                if let Some(seat) = self.relays[relay].inside.get_mut(&who) {
                    seat.carries = here.then(|| seat.carries.unwrap_or(now));
                }
            }
            Kind::Leave(_) => {
                self.relays[relay].inside.remove(&who);
                let sender = id(who).get().into();
                for to in self.inside(relay) {
                    self.say(relay, to, Kind::MemberLeft(proto::MemberLeft { sender }));
                }
            }
            Kind::PeerMessage(peer) => {
                let PeerMessage { sender: to, payload } = PeerMessage::try_from(peer).unwrap();
                let peer = PeerMessage {
                    sender: id(who),
                    payload,
                };
                self.say(relay, usize::from(to.get()) - 1, Kind::PeerMessage(peer.into()));
            }
            Kind::QualityReport(_) => {}
            other => panic!("a call never says {other:?}"),
        }
    }

    fn admit(&mut self, relay: usize, who: usize, join: Join) {
        let now = self.now;
        if self.relays[relay].closed {
            let refused = proto::Refused {
                request: join.request,
                reason: proto::Reason::NotServed.into(),
                ..proto::Refused::default()
            };
            self.say(relay, who, Kind::Refused(refused));
            return;
        }
        let Relay {
            inside,
            epoch,
            contrary,
            ..
        } = &mut self.relays[relay];
        let member = |who: usize, announcement: &Announcement| Member {
            sender: id(who),
            announcement: announcement.clone(),
        };
        let others = inside.iter().filter(|(other, _)| **other != who);
        let members = others.map(|(other, seat)| member(*other, &seat.announcement));
        let joined = Joined {
            request: join.request,
            sender: if *contrary {
                SenderId::new(999).unwrap()
            } else {
                id(who)
            },
            members: members.collect(),
            more: false,
            epoch: Epoch(*epoch),
        };
        let newcomer = member(who, &join.announcement);
        let seat = Seat {
            announcement: join.announcement,
            carries: (!join.standby).then_some(now),
        };
        inside.insert(who, seat);
        self.say(relay, who, Kind::Joined(joined.into()));
        for to in self.inside(relay).into_iter().filter(|to| *to != who) {
            let member = Some(newcomer.clone().into());
            self.say(relay, to, Kind::MemberJoined(proto::MemberJoined { member }));
        }
    }
}
