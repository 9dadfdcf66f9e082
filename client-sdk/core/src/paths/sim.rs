//! Two members, two relays and the links between them, in virtual time: what path sets make of relays that die.

use std::time::Duration;

use wzp_wire::Instant;

use super::{Cause, Kind, PathId, Sending, Set};
use crate::{
    carrier::{Carrier, Why},
    chaos::{Link, Profile},
};

const TICK: Duration = Duration::from_millis(10);
const FRAME_TICKS: u64 = 2;
/// Between relays.
const TRUNK: Duration = Duration::from_millis(10);
/// A relay tells everybody what a member says that has carried there for less than this.
const NEW_HERE: Duration = Duration::from_secs(2);
const BYTES: usize = 100;

#[derive(Debug, Clone, Copy)]
pub(super) enum Packet {
    Ping { sent: Instant },
    Pong { sent: Instant },
    Media { from: usize, number: u64 },
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) members: [Member; 2],
    pub(super) alive: [bool; 2],
    /// Whether the relays know of each other.
    pub(super) trunk: bool,
    trunks: Vec<(Instant, usize, Packet)>,
    tick: u64,
}

pub(super) struct Member {
    pub(super) set: Set,
    pub(super) paths: [PathId; 2],
    pub(super) up: [Link<Packet>; 2],
    pub(super) down: [Link<Packet>; 2],
    pub(super) talks: bool,
    /// Since when it carries at each relay, as the relay knows.
    carries: [Option<Instant>; 2],
    sent: u64,
    /// When something new of the other was heard.
    pub(super) heard: Vec<Instant>,
    newest: Option<u64>,
    pub(super) carried: Vec<(Instant, PathId, Cause)>,
    pub(super) both_ticks: u64,
}

impl Member {
    fn new(now: Instant, seed: u64, profiles: [Profile; 2]) -> Self {
        let mut set = Set::default();
        let paths = [(); 2].map(|()| set.add(Kind::Relay, Carrier::Lane, Why::Answered));
        for path in paths {
            set.handle_joined(now, path);
        }
        let link = |relay: usize, way: u64| Link::new(profiles[relay], seed * 8 + relay as u64 * 2 + way);
        Self {
            set,
            paths,
            up: [link(0, 0), link(1, 0)],
            down: [link(0, 1), link(1, 1)],
            talks: true,
            carries: [Some(now), None],
            sent: 0,
            heard: Vec::new(),
            newest: None,
            carried: Vec::new(),
            both_ticks: 0,
        }
    }

    pub(super) fn switches(&self) -> usize {
        self.carried.len()
    }

    fn relay(&self, path: PathId) -> usize {
        usize::from(path == self.paths[1])
    }

    fn step(&mut self, now: Instant, me: usize, frame: bool) {
        self.set.handle_timeout(now);
        self.tell(now);
        for (relay, path) in self.paths.into_iter().enumerate() {
            if self.set.ping_due(now, path) {
                self.set.handle_ping(now, path);
                self.up[relay].send_sized(now, Packet::Ping { sent: now }, BYTES);
            }
        }
        let sending = self.set.sending();
        self.both_ticks += u64::from(matches!(sending, Sending::Both(..)));
        if !frame || !self.talks {
            return;
        }
        self.sent += 1;
        self.set.handle_sent(now);
        let packet = Packet::Media {
            from: me,
            number: self.sent,
        };
        let on = match sending {
            Sending::Nowhere => vec![],
            Sending::On(path) => vec![path],
            Sending::Both(path, other) => vec![path, other],
        };
        for path in on {
            self.up[self.relay(path)].send_sized(now, packet, BYTES);
        }
    }

    /// Signalling is quick and reliable here: what it does is another test's matter.
    fn tell(&mut self, now: Instant) {
        let Some(carrying) = self.set.carrying() else {
            return;
        };
        let before = self.carried.last().map_or(self.paths[0], |(_, path, _)| *path);
        if carrying != before {
            self.carried.push((now, carrying, self.set.cause()));
        }
        let to = self.set.moving_to();
        for relay in 0..2 {
            let path = self.paths[relay];
            let here = carrying == path || to == Some(path);
            self.carries[relay] = here.then(|| self.carries[relay].unwrap_or(now));
        }
    }

    fn hear(&mut self, now: Instant, relay: usize, packet: Packet) {
        let path = self.paths[relay];
        match packet {
            Packet::Pong { sent } => self.set.handle_pong(now, path, now.duration_since(sent)),
            Packet::Media { number, .. } => {
                self.set.handle_media(now, path);
                if self.newest < Some(number) {
                    self.newest = Some(number);
                    self.heard.push(now);
                }
            }
            Packet::Ping { .. } => {}
        }
    }
}

impl World {
    pub(super) fn new(seed: u64, profiles: [Profile; 2]) -> Self {
        let now = Instant::from_micros(10_000_000);
        Self {
            now,
            members: [
                Member::new(now, 2 * seed, profiles),
                Member::new(now, 2 * seed + 1, profiles),
            ],
            alive: [true; 2],
            trunk: true,
            trunks: Vec::new(),
            tick: 0,
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// The longest time in which a member heard nothing new, from `from` on.
    pub(super) fn gap(&self, member: usize, from: Instant) -> Duration {
        let heard = &self.members[member].heard;
        let last_before = heard
            .iter()
            .rev()
            .find(|at| **at <= from)
            .copied()
            .unwrap_or(from);
        let after = heard.iter().copied().filter(|at| *at > from);
        let mut last = last_before;
        let mut longest = Duration::ZERO;
        for at in after.chain([self.now]) {
            longest = longest.max(at.duration_since(last));
            last = at;
        }
        longest
    }

    fn step(&mut self) {
        self.now += TICK;
        self.tick += 1;
        let frame = self.tick.is_multiple_of(FRAME_TICKS);
        for (me, member) in self.members.iter_mut().enumerate() {
            member.step(self.now, me, frame);
        }
        self.carry_trunks();
        for member in 0..2 {
            for relay in 0..2 {
                while let Some(packet) = self.members[member].up[relay].poll(self.now) {
                    if self.alive[relay] {
                        self.serve(relay, member, packet);
                    }
                }
            }
        }
        for member in &mut self.members {
            for relay in 0..2 {
                while let Some(packet) = member.down[relay].poll(self.now) {
                    member.hear(self.now, relay, packet);
                }
            }
        }
    }

    fn serve(&mut self, relay: usize, from: usize, packet: Packet) {
        match packet {
            Packet::Ping { sent } => {
                self.members[from].down[relay].send_sized(self.now, Packet::Pong { sent }, BYTES);
            }
            Packet::Media { .. } => {
                let since = self.members[from].carries[relay];
                let settled = since.is_some_and(|at| self.now >= at + NEW_HERE);
                self.forward(relay, packet, |carries| carries || !settled);
                if self.trunk {
                    self.trunks.push((self.now + TRUNK, 1 - relay, packet));
                }
            }
            Packet::Pong { .. } => {}
        }
    }

    fn carry_trunks(&mut self) {
        let (due, later): (Vec<_>, _) = self.trunks.drain(..).partition(|(at, ..)| *at <= self.now);
        self.trunks = later;
        for (_, relay, packet) in due {
            if self.alive[relay] {
                self.forward(relay, packet, |carries| carries);
            }
        }
    }

    fn forward(&mut self, relay: usize, packet: Packet, takes: impl Fn(bool) -> bool) {
        let Packet::Media { from, .. } = packet else {
            return;
        };
        let to = &mut self.members[1 - from];
        if takes(to.carries[relay].is_some()) {
            to.down[relay].send_sized(self.now, packet, BYTES);
        }
    }
}
