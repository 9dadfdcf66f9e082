//! A deterministic relay: what one member sends to another arrives in order, everything else as the seed says.

use std::{collections::BTreeMap, time::Duration};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use wzp_identity::{Identity, Phrase};
use wzp_wire::{Codec, FecFields, Header, Instant, Kind, Level, RoomName, SenderId};

use crate::e2ee::{Event, Group, Misbehaviour, OVERHEAD, OpenError};

pub(super) struct Relay {
    pub(super) now: Instant,
    pub(super) rng: ChaCha8Rng,
    pub(super) clients: BTreeMap<SenderId, Client>,
    /// Of 1,000 media packets.
    pub(super) lost: u32,
    pub(super) doubled: u32,
    /// Signalling that this says yes to never arrives.
    pub(super) drops: fn(&Delivery) -> bool,
    pub(super) delay_ms: std::ops::Range<u32>,
    queue: BTreeMap<(Instant, u64), (SenderId, Delivery)>,
    channels: BTreeMap<(Option<SenderId>, SenderId), Instant>,
    order: u64,
    room: RoomName,
}

pub(super) struct Client {
    pub(super) group: Group,
    pub(super) present: bool,
    pub(super) heard: Vec<(SenderId, Vec<u8>)>,
    pub(super) errors: Vec<(SenderId, OpenError)>,
    pub(super) events: Vec<Event>,
    /// Media as it arrived.
    pub(super) captured: Vec<(SenderId, Vec<u8>)>,
    timestamp: u32,
}

#[derive(Debug, Clone)]
pub(super) enum Delivery {
    Joined(Vec<(SenderId, Vec<u8>)>),
    MemberJoined(SenderId, Vec<u8>),
    MemberLeft(SenderId),
    Message(SenderId, Vec<u8>),
    Media(SenderId, Vec<u8>),
}

pub(super) fn identity(seed: u8) -> Identity {
    Identity::from_phrase(&Phrase::from_seed(&[seed; 32]))
}

pub(super) fn id(raw: u16) -> SenderId {
    SenderId::new(raw).unwrap()
}

pub(super) fn header(timestamp: u32, kind: Kind) -> Header {
    Header {
        kind,
        report: false,
        codec: Codec::Opus24k,
        level: Level::MAX,
        frames: 1,
        seq: 0,
        timestamp,
        epoch: 0,
        context: 0,
        fec: if kind == Kind::Repair {
            FecFields {
                scheme: 1,
                k: 5,
                r: 1,
                index: 0,
            }
        } else {
            FecFields::default()
        },
    }
}

/// Seals one source packet.
pub(super) fn seal(group: &mut Group, now: Instant, timestamp: u32, text: &[u8]) -> Vec<u8> {
    let mut out = vec![0; text.len() + OVERHEAD];
    let len = group
        .seal(now, &mut header(timestamp, Kind::Source), text, &mut out)
        .unwrap();
    out.truncate(len);
    out
}

impl Relay {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Instant::from_micros(1_000_000),
            rng: ChaCha8Rng::seed_from_u64(seed),
            clients: BTreeMap::new(),
            lost: 0,
            doubled: 0,
            drops: |_| false,
            delay_ms: 5..60,
            queue: BTreeMap::new(),
            channels: BTreeMap::new(),
            order: 0,
            room: RoomName::parse("standup").unwrap(),
        }
    }

    pub(super) fn join(&mut self, seed: u8) -> SenderId {
        let me = id(u16::try_from(self.clients.len()).unwrap() + 1);
        let group = Group::new(&identity(seed), &self.room, &mut self.rng);
        let announcement = group.announcement().to_vec();
        let others = self.present();
        let list = others
            .iter()
            .map(|other| (*other, self.clients[other].group.announcement().to_vec()))
            .collect();
        let client = Client {
            group,
            present: true,
            heard: Vec::new(),
            errors: Vec::new(),
            events: Vec::new(),
            captured: Vec::new(),
            timestamp: 0,
        };
        self.clients.insert(me, client);
        self.send(None, me, Delivery::Joined(list));
        for other in others {
            self.send(Some(me), other, Delivery::MemberJoined(me, announcement.clone()));
        }
        me
    }

    pub(super) fn leave(&mut self, who: SenderId) {
        self.clients.get_mut(&who).unwrap().present = false;
        for other in self.present() {
            self.send(Some(who), other, Delivery::MemberLeft(who));
        }
    }

    /// One packet of 20 ms to everybody else, also to those who left: they listen on the wire.
    pub(super) fn speak(&mut self, who: SenderId, text: &str) {
        let now = self.now;
        let client = self.clients.get_mut(&who).unwrap();
        client.timestamp += 960;
        let packet = seal(&mut client.group, now, client.timestamp, text.as_bytes());
        let others: Vec<_> = self
            .clients
            .keys()
            .copied()
            .filter(|other| *other != who)
            .collect();
        for other in others {
            if self.roll() < self.lost {
                continue;
            }
            self.send(None, other, Delivery::Media(who, packet.clone()));
            if self.roll() < self.doubled {
                self.send(None, other, Delivery::Media(who, packet.clone()));
            }
        }
        self.flush();
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        self.flush();
        while let Some(at) = self.next().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (to, delivery) = entry.remove();
                self.deliver(to, delivery);
            }
            for client in self.clients.values_mut() {
                if client.group.poll_timeout().is_some_and(|at| at <= self.now) {
                    client.group.handle_timeout(self.now, &mut self.rng);
                    client.drain(self.now);
                }
            }
            self.flush();
        }
        self.now = end;
    }

    pub(super) fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    pub(super) fn client(&mut self, who: SenderId) -> &mut Client {
        self.clients.get_mut(&who).unwrap()
    }

    pub(super) fn present(&self) -> Vec<SenderId> {
        self.clients
            .iter()
            .filter(|(_, client)| client.present)
            .map(|(who, _)| *who)
            .collect()
    }

    /// Everybody says something that nobody said before, and everybody else has to hear it.
    pub(super) fn assert_all_hear_all(&mut self) {
        let speakers = self.present();
        let text = format!("at {:?}", self.now);
        for who in &speakers {
            self.speak(*who, &text);
        }
        self.run_ms(3_000);
        for who in &speakers {
            for from in speakers.iter().filter(|from| *from != who) {
                let wanted = (*from, text.clone().into_bytes());
                let client = &self.clients[who];
                assert!(
                    client.heard.contains(&wanted),
                    "{who} did not hear {from}: {:?}",
                    client.events
                );
            }
        }
    }

    pub(super) fn heard(&self, who: SenderId, text: &str) -> bool {
        self.clients[&who]
            .heard
            .iter()
            .any(|(_, heard)| heard == text.as_bytes())
    }

    pub(super) fn refusals(&self, who: SenderId) -> Vec<Misbehaviour> {
        self.clients[&who].refusals()
    }

    pub(super) fn deliver(&mut self, to: SenderId, delivery: Delivery) {
        let now = self.now;
        let client = self.clients.get_mut(&to).unwrap();
        match delivery {
            Delivery::Joined(list) => {
                let list: Vec<_> = list.iter().map(|(who, bytes)| (*who, bytes.as_slice())).collect();
                client.group.handle_joined(now, to, &list);
            }
            Delivery::MemberJoined(who, bytes) => client.group.handle_member_joined(now, who, &bytes),
            Delivery::MemberLeft(who) => client.group.handle_member_left(now, who),
            Delivery::Message(from, bytes) => client.group.handle_message(now, from, &bytes),
            Delivery::Media(from, bytes) => {
                client.captured.push((from, bytes.clone()));
                client.open(now, from, bytes);
            }
        }
        client.drain(now);
    }

    fn send(&mut self, from: Option<SenderId>, to: SenderId, delivery: Delivery) {
        let span = self.delay_ms.end - self.delay_ms.start;
        let delay = self.delay_ms.start + self.rng.next_u32() % span;
        let mut at = self.now + Duration::from_millis(delay.into());
        if !matches!(delivery, Delivery::Media(..)) {
            if (self.drops)(&delivery) {
                return;
            }
            let channel = self.channels.entry((from, to)).or_default();
            at = at.max(*channel);
            *channel = at;
        }
        self.order += 1;
        self.queue.insert((at, self.order), (to, delivery));
    }

    fn flush(&mut self) {
        let mut out = Vec::new();
        for (from, client) in &mut self.clients {
            while let Some((to, message)) = client.group.poll_transmit() {
                if client.present {
                    out.push((*from, to, message));
                }
            }
        }
        for (from, to, message) in out {
            if self.clients.get(&to).is_some_and(|client| client.present) {
                self.send(Some(from), to, Delivery::Message(from, message));
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        let timers = self
            .clients
            .values()
            .filter_map(|client| client.group.poll_timeout());
        timers
            .chain(self.queue.first_key_value().map(|((at, _), _)| *at))
            .min()
    }

    fn roll(&mut self) -> u32 {
        self.rng.next_u32() % 1_000
    }
}

impl Client {
    pub(super) fn open(&mut self, now: Instant, from: SenderId, mut packet: Vec<u8>) {
        match self.group.open(now, from, &mut packet) {
            Ok(opened) => self.heard.push((from, opened.payload.to_vec())),
            Err(error) => self.errors.push((from, error)),
        }
    }

    pub(super) fn drain(&mut self, now: Instant) {
        let mut packet = Vec::new();
        while let Some(from) = self.group.poll_held(&mut packet) {
            self.open(now, from, packet.clone());
        }
        while let Some(event) = self.group.poll_event() {
            self.events.push(event);
        }
    }

    pub(super) fn refusals(&self) -> Vec<Misbehaviour> {
        let why = |event: &Event| match event {
            // Between senders nothing is in order here, so a message may come before its sender.
            Event::Refused { why, .. } if *why != Misbehaviour::UnknownSender => Some(*why),
            _ => None,
        };
        self.events.iter().filter_map(why).collect()
    }

    pub(super) fn verified(&self, who: SenderId) -> bool {
        self.events
            .iter()
            .any(|event| matches!(event, Event::MemberVerified { sender, .. } if *sender == who))
    }
}
