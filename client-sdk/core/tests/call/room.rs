//! A relay in memory and the members around it, in virtual time.

use std::{collections::BTreeMap, time::Duration};

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use wzp_identity::{Identity, Phrase};
use wzp_sdk_core::{
    call::{Call, Config, Event, MAX_DATAGRAM, RemoteStats, TierChoice},
    carrier::{Carrier, Why},
    paths::{self, PathId, Sending},
    voice::{receiver::PULL, sender::Pauses, sim::Tones},
};
use wzp_testkit::{Link, Profile};
use wzp_wire::{
    Datagram, Header, Instant, RoomName, SenderId,
    signal::{Join, Joined, Kind, Member, PeerMessage, SignalMessage, message, proto},
};

pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Signalling takes this long each way.
const SIGNAL_DELAY: Duration = Duration::from_millis(20);

pub(crate) struct Room {
    pub(crate) now: Instant,
    pub(crate) seats: Vec<Seat>,
    /// Signalling that this says yes to never arrives: from whom, to whom, what.
    pub(crate) drops: fn(Option<SenderId>, SenderId, &Kind) -> bool,
    /// Coarse reports that the relay got for its metrics, and from whom.
    pub(crate) quality_reports: Vec<(usize, proto::QualityReport)>,
    pub(crate) rng: ChaCha8Rng,
    signals: BTreeMap<(Instant, u64), Delivery>,
    order: u64,
}

/// A message under way: to the relay from this seat, or from the relay to this seat.
enum Delivery {
    Up(usize, SignalMessage),
    Down(usize, SignalMessage),
}

pub(crate) struct Seat {
    pub(crate) call: Call<Tones>,
    pub(crate) path: PathId,
    pub(crate) talks: bool,
    pub(crate) up: Link,
    pub(crate) down: Link,
    pub(crate) events: Vec<Event>,
    /// Power of what came out in the last tick.
    pub(crate) power: f32,
    /// Media datagrams that left, newest last.
    pub(crate) sent: Vec<Vec<u8>>,
    /// When packets with a receiver report left.
    pub(crate) reports: Vec<Instant>,
    announcement: Option<Join>,
}

impl Seat {
    /// Whether its owner was told of such an event.
    pub(crate) fn saw(&self, event: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(event)
    }

    pub(crate) fn remote(&mut self, of: SenderId) -> Option<RemoteStats> {
        let mut found = None;
        self.call.remotes(|_, stats| {
            if stats.sender == of {
                found = Some(stats);
            }
        });
        found
    }
}

pub(crate) fn id(seat: usize) -> SenderId {
    SenderId::new(seat as u16 + 1).unwrap()
}

fn seat_of(sender: SenderId) -> usize {
    usize::from(sender.get()) - 1
}

pub(crate) fn config() -> Config {
    Config {
        room: RoomName::parse("standup").unwrap(),
        tier: TierChoice::Auto,
        echo: false,
        pauses: Pauses::Suppress,
    }
}

impl Room {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Instant::from_micros(1_000_000),
            seats: Vec::new(),
            drops: |_, _, _| false,
            quality_reports: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            signals: BTreeMap::new(),
            order: 0,
        }
    }

    /// A member who talks, behind a link like this in both directions.
    pub(crate) fn join(&mut self, config: Config, profile: Profile) -> usize {
        let seat = self.seats.len();
        let (call, path) = self.call(config, seat as u8 + 1);
        let seed = 10 * seat as u64;
        self.seats.push(Seat {
            call,
            path,
            talks: true,
            up: Link::new(profile, seed + 1),
            down: Link::new(profile, seed + 2),
            events: Vec::new(),
            power: 0.0,
            sent: Vec::new(),
            reports: Vec::new(),
            announcement: None,
        });
        seat
    }

    /// A call of this person that wants to join.
    pub(crate) fn call(&mut self, config: Config, person: u8) -> (Call<Tones>, PathId) {
        let identity = Identity::from_phrase(&Phrase::from_seed(&[person; 32]));
        let mut call = Call::new(self.now, config, &identity, Tones, &mut self.rng).unwrap();
        let path = call.add_path(self.now, paths::Kind::Relay, Carrier::Lane, Why::Waiting);
        call.join(self.now);
        (call, path)
    }

    pub(crate) fn run(&mut self, seconds: f64) {
        for _ in 0..(seconds * 100.0).round() as u32 {
            self.tick();
        }
    }

    /// What the relay itself says to a seat.
    pub(crate) fn say(&mut self, to: usize, kind: Kind) {
        self.post(Delivery::Down(to, message(kind)));
    }

    /// The relay names a member to another one, under the announcement that it joined with.
    pub(crate) fn introduce(&mut self, who: usize, to: usize) {
        let member = self.member(who).map(Into::into);
        self.say(to, Kind::MemberJoined(proto::MemberJoined { member }));
    }

    /// The relay says that a member left.
    pub(crate) fn part(&mut self, who: usize, from: usize) {
        let sender = id(who).get().into();
        self.say(from, Kind::MemberLeft(proto::MemberLeft { sender }));
    }

    fn tick(&mut self) {
        self.now += TICK;
        self.carry_signals();
        self.carry_media();
        for seat in 0..self.seats.len() {
            self.step(seat);
        }
    }

    fn step(&mut self, index: usize) {
        let now = self.now;
        let Some(seat) = self.seats.get_mut(index) else {
            return;
        };
        seat.call.handle_rtt(now, Duration::from_millis(40));
        seat.call.handle_tick(now);
        if seat.call.poll_timeout().is_some_and(|at| at <= now) {
            seat.call.handle_timeout(now, &mut self.rng);
        }
        let mut heard = [0.0; PULL];
        seat.call.pull(now, &mut heard);
        seat.power = heard.iter().map(|sample| sample * sample).sum::<f32>() / PULL as f32;
        if seat.call.sender_id().is_some() {
            let strength = if seat.talks { 1.0 } else { 0.0 };
            let pcm: [f32; PULL] = std::array::from_fn(|i| strength * Tones::sample(i as u32));
            seat.call.handle_capture(now, &pcm, strength);
        }
        let mut out = [0; MAX_DATAGRAM];
        while let Some((path, len)) = seat.call.poll_packet(now, &mut out) {
            assert_eq!(path, Sending::On(seat.path));
            if is_report(&out[..len]) {
                seat.reports.push(now);
            }
            seat.sent.push(out[..len].to_vec());
            seat.up.send(now, out[..len].to_vec());
        }
        while let Some(event) = seat.call.poll_event() {
            seat.events.push(event);
        }
        let mut signals = Vec::new();
        while let Some((_, signal)) = seat.call.poll_signal() {
            signals.push(signal);
        }
        for signal in signals {
            self.post(Delivery::Up(index, signal));
        }
    }

    fn carry_media(&mut self) {
        for from in 0..self.seats.len() {
            while let Some(packet) = self.seats[from].up.poll(self.now) {
                for to in self.audience(from) {
                    let packet = packet.clone();
                    self.seats[to].down.send(self.now, packet);
                }
            }
        }
        for seat in &mut self.seats {
            while let Some(mut packet) = seat.down.poll(self.now) {
                seat.call.handle_datagram(self.now, seat.path, &mut packet);
            }
        }
    }

    /// Who gets the media of a seat: everybody else who is there, and itself when it wants to.
    fn audience(&self, from: usize) -> Vec<usize> {
        let Some(join) = &self.seats[from].announcement else {
            return Vec::new();
        };
        let echo = join.echo.then_some(from);
        self.others(from).into_iter().chain(echo).collect()
    }

    fn others(&self, than: usize) -> Vec<usize> {
        let here = |seat: &usize| *seat != than && self.seats[*seat].announcement.is_some();
        (0..self.seats.len()).filter(here).collect()
    }

    fn carry_signals(&mut self) {
        while let Some(first) = self.signals.first_entry() {
            if first.key().0 > self.now {
                return;
            }
            match first.remove() {
                Delivery::Up(from, signal) => self.obey(from, signal.kind.unwrap()),
                Delivery::Down(to, signal) => {
                    let seat = &mut self.seats[to];
                    seat.call.handle_signal(self.now, seat.path, signal);
                }
            }
        }
    }

    fn obey(&mut self, from: usize, kind: Kind) {
        match kind {
            Kind::Join(join) => self.admit(from, Join::try_from(join).unwrap()),
            Kind::Leave(_) => {
                self.seats[from].announcement = None;
                for to in self.others(from) {
                    let sender = id(from).get().into();
                    self.forward(Some(from), to, Kind::MemberLeft(proto::MemberLeft { sender }));
                }
            }
            Kind::PeerMessage(message) => {
                let PeerMessage { sender: to, payload } = PeerMessage::try_from(message).unwrap();
                let sender = id(from);
                let message = PeerMessage { sender, payload };
                self.forward(Some(from), seat_of(to), Kind::PeerMessage(message.into()));
            }
            Kind::QualityReport(report) => self.quality_reports.push((from, report)),
            other => panic!("a call never says {other:?}"),
        }
    }

    fn admit(&mut self, from: usize, join: Join) {
        let others = self.others(from);
        let joined = Joined {
            request: join.request,
            sender: id(from),
            members: others.iter().filter_map(|&other| self.member(other)).collect(),
            more: false,
            epoch: wzp_wire::Epoch::NONE,
        };
        self.seats[from].announcement = Some(join);
        self.forward(None, from, Kind::Joined(joined.into()));
        let member = self.member(from).map(Into::into);
        for to in others {
            let member = member.clone();
            self.forward(Some(from), to, Kind::MemberJoined(proto::MemberJoined { member }));
        }
    }

    fn member(&self, seat: usize) -> Option<Member> {
        let join = self.seats[seat].announcement.as_ref()?;
        Some(Member {
            sender: id(seat),
            announcement: join.announcement.clone(),
        })
    }

    fn forward(&mut self, from: Option<usize>, to: usize, kind: Kind) {
        if !(self.drops)(from.map(id), id(to), &kind) {
            self.post(Delivery::Down(to, message(kind)));
        }
    }

    fn post(&mut self, delivery: Delivery) {
        self.order += 1;
        self.signals
            .insert((self.now + SIGNAL_DELAY, self.order), delivery);
    }
}

/// Whether a media datagram of ours carries a receiver report: only full headers do.
fn is_report(datagram: &[u8]) -> bool {
    let Ok(Datagram::Media { packet, .. }) = Datagram::decode(datagram) else {
        return false;
    };
    Header::decode(packet).is_ok_and(|(header, _)| header.report)
}
