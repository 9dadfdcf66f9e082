//! The relays as this replica hears of them.
//!
//! A relay is *joining* (its carried state is on the way), *checking* (its addresses are being verified), *listed*,
//! *silent* (off the list, its rooms stay) or *lost* (its rooms move). It is lost when three heartbeats are missing
//! **and** no living relay reached it for as long, one of them saying so or none being able to tell. A broken stream
//! alone moves nothing. When nobody at all is heard any more it is this replica that is deaf, and everything stays.

mod checks;
mod liveness;
mod record;
mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use wzp_wire::{Instant, RelayId};

use crate::{
    load::Duty,
    mesh::Mesh,
    placement::{Candidate, Snapshot},
    relay::{BootId, Heartbeat, Hello, Probe, StreamId},
};

pub use record::Relay;
use record::Words;
pub use state::{Checker, Offer, Output, Refused, State, Welcomed, WhyLost};

/// How often time alone is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How often the matrix is looked through for what is old.
const TIDY_US: u64 = 10_000_000;
/// A lost relay is forgotten after that.
const FORGET: Duration = Duration::from_secs(600);

/// What the registry goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often relays are told to be heard; three missing are too many. 2 s.
    pub heartbeat: Duration,
    /// How long an order to check addresses may take. 1.5 s.
    pub check_timeout: Duration,
    /// After the start, relays that rows of the database name are waited for. 10 s.
    pub settle: Duration,
    /// A clock off by more is noted. 2 s.
    pub clock_noted: Duration,
    /// A relay whose clock is off by more is refused: grants would mean nothing to it. 5 min.
    pub clock_refused: Duration,
    /// The protocol versions that this replica speaks.
    pub protocol: std::ops::RangeInclusive<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(2),
            check_timeout: Duration::from_millis(1_500),
            settle: Duration::from_secs(10),
            clock_noted: Duration::from_secs(2),
            clock_refused: Duration::from_secs(300),
            protocol: 1..=1,
        }
    }
}

/// See the module. One per replica.
#[derive(Debug)]
pub struct Registry {
    config: Config,
    relays: BTreeMap<RelayId, Relay>,
    streams: BTreeMap<StreamId, RelayId>,
    /// Named by rows of the database, not heard of yet; since when they are waited for, and what others say of them.
    expected: BTreeMap<RelayId, (Instant, Words)>,
    mesh: Mesh,
    generation: u64,
    list_changed: bool,
    outputs: VecDeque<Output>,
    ticked: Instant,
    /// Since when this process has not been stopped: what came meanwhile waits in its sockets.
    awake: Instant,
}

impl Registry {
    /// Knows nobody. The list generation starts at `unix_ms`, so that it rises over restarts.
    pub fn new(config: Config, unix_ms: u64) -> Self {
        Self {
            config,
            relays: BTreeMap::new(),
            streams: BTreeMap::new(),
            expected: BTreeMap::new(),
            mesh: Mesh::default(),
            generation: unix_ms,
            list_changed: false,
            outputs: VecDeque::new(),
            ticked: Instant::ZERO,
            awake: Instant::ZERO,
        }
    }

    /// A row of the database names a relay, at the start of this process: it is waited for [`Config::settle`] long,
    /// and lost when it did not come and peers do not reach it. Until then it counts as alive.
    pub fn handle_expected(&mut self, now: Instant, relay: &RelayId) {
        if !self.relays.contains_key(relay) {
            self.expected
                .entry(relay.clone())
                .or_insert_with(|| (now, Words::default()));
        }
    }

    /// A relay opened a stream.
    ///
    /// # Errors
    /// See [`Refused`]; the stream is to be ended.
    pub fn handle_hello(
        &mut self,
        now: Instant,
        unix_ms: u64,
        stream: StreamId,
        hello: Hello,
    ) -> Result<Welcomed, Refused> {
        let protocol = self.common_protocol(&hello)?;
        let off_ms = clock_off(hello.unix_ms, unix_ms);
        if off_ms.unsigned_abs() > millis(self.config.clock_refused) {
            return Err(Refused::Clock { off_ms });
        }
        let id = hello.relay.clone();
        let same = self
            .relays
            .get(&id)
            .is_some_and(|relay| relay.hello.boot == hello.boot);
        if !same {
            self.replace(now, stream, &hello)?;
        }
        self.expected.remove(&id);
        if !same {
            self.outputs.push_back(Output::StateChanged {
                relay: id.clone(),
                state: State::Joining,
            });
        }
        let record = self
            .relays
            .entry(id.clone())
            .or_insert_with(|| Relay::new(now, stream, hello.clone()));
        let replaces = record.stream.replace(stream).filter(|old| *old != stream);
        record.heard = now;
        record.lost = false;
        record.asked = None;
        record.drain_said = hello.draining;
        record.hello = hello;
        record.clock_off_ms = Some(off_ms).filter(|off| off.unsigned_abs() > millis(self.config.clock_noted));
        if let Some(old) = replaces {
            self.streams.remove(&old);
        }
        self.streams.insert(stream, id.clone());
        self.update(now, &id);
        Ok(Welcomed {
            protocol,
            known: same,
            replaces,
        })
    }

    /// All carried state of the stream was told.
    pub fn handle_synced(&mut self, now: Instant, stream: StreamId) {
        if let Some(relay) = self.heard(now, stream) {
            relay.synced = true;
            self.update_of(now, stream);
        }
    }

    /// A heartbeat.
    pub fn handle_heartbeat(&mut self, now: Instant, unix_ms: u64, stream: StreamId, heartbeat: Heartbeat) {
        let noted = millis(self.config.clock_noted);
        let Some(relay) = self.heard(now, stream) else {
            return;
        };
        relay.load.handle_heartbeat(relay.hello.capacity, &heartbeat);
        relay.band = relay.band.next(relay.load.reported());
        relay.drain_said = heartbeat.draining;
        let off_ms = clock_off(heartbeat.unix_ms, unix_ms);
        relay.clock_off_ms = Some(off_ms).filter(|off| off.unsigned_abs() > noted);
        relay.heartbeat = Some((now, heartbeat));
        self.update_of(now, stream);
    }

    /// Anything else came over the stream: the relay lives.
    pub fn handle_heard(&mut self, now: Instant, stream: StreamId) {
        if self.heard(now, stream).is_some() {
            self.update_of(now, stream);
        }
    }

    /// Another replica has heard from a relay at `at`: it is not dead, whatever we hear.
    pub fn handle_heard_elsewhere(&mut self, now: Instant, relay: &RelayId, at: Instant) {
        if let Some(record) = self.relays.get_mut(relay) {
            record.heard = record.heard.max(at);
            self.update(now, relay);
        }
    }

    /// A stream ended, whoever ended it.
    pub fn handle_stream_lost(&mut self, now: Instant, stream: StreamId) {
        let Some(id) = self.streams.remove(&stream) else {
            return;
        };
        let Some(relay) = self.relays.get_mut(&id) else {
            return;
        };
        relay.stream = None;
        let empty = relay.heartbeat.is_some_and(|(_, beat)| beat.members == 0);
        if relay.is_draining() && empty && !relay.lost {
            relay.lost = true;
            let boot = Some(relay.hello.boot);
            self.outputs.push_back(Output::RelayLost {
                relay: id.clone(),
                boot,
                why: WhyLost::Left,
            });
        }
        self.update(now, &id);
    }

    /// What a relay measured to others.
    pub fn handle_probe_report(&mut self, now: Instant, stream: StreamId, probes: &[Probe]) {
        let Some(by) = self.heard(now, stream).map(|relay| relay.hello.relay.clone()) else {
            return;
        };
        let Some(from) = self.relays.get(&by).map(|relay| relay.place().clone()) else {
            return;
        };
        for probe in probes.iter().filter(|probe| probe.relay != by) {
            if let Some(to) = self.relays.get(&probe.relay) {
                self.mesh.handle_probe(now, (&by, &from), to.place(), probe);
            }
            let at = if probe.unreachable { now } else { now - probe.age };
            self.say(now, &by, &probe.relay, at, !probe.unreachable);
        }
        self.update(now, &by);
    }

    /// A peer to which a relay holds a connection has stopped answering.
    pub fn handle_peer_down(&mut self, now: Instant, stream: StreamId, peer: &RelayId, boot: BootId) {
        let Some(by) = self.heard(now, stream).map(|relay| relay.hello.relay.clone()) else {
            return;
        };
        if self.relays.get(peer).is_none_or(|relay| relay.hello.boot == boot) {
            self.say(now, &by, peer, now, false);
        }
        self.update(now, &by);
    }

    /// The relay is to be emptied (by SIGTERM, by a person). `false`: there is no such relay.
    pub fn handle_drain(&mut self, now: Instant, relay: &RelayId) -> bool {
        self.set_drain(now, relay, true)
    }

    /// The relay is to be used again. `false`: there is no such relay.
    pub fn handle_undrain(&mut self, now: Instant, relay: &RelayId) -> bool {
        self.set_drain(now, relay, false)
    }

    /// What time alone changes. To be called at [`Registry::poll_timeout`], and may be called at any time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now.duration_since(self.ticked) >= self.config.heartbeat {
            self.awake = now;
        }
        if now.as_micros() / TIDY_US != self.ticked.as_micros() / TIDY_US {
            self.mesh.handle_timeout(now);
        }
        self.ticked = now;
        let ids: Vec<_> = self.relays.keys().cloned().collect();
        for id in &ids {
            self.update(now, id);
        }
        let forgotten = |relay: &Relay| relay.lost && now.duration_since(relay.heard) >= FORGET;
        for (id, _) in self.relays.extract_if(.., |_, relay| forgotten(relay)) {
            self.mesh.forget(&id);
        }
        self.give_up_expected(now);
    }

    /// What is to be done; to be asked until `None` after every `handle_*`.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if std::mem::take(&mut self.list_changed) {
            self.generation += 1;
            return Some(Output::ListChanged {
                generation: self.generation,
            });
        }
        None
    }

    /// When [`Registry::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let idle = self.relays.is_empty() && self.expected.is_empty();
        (!idle).then_some(self.ticked + TICK)
    }

    /// That relay.
    pub fn relay(&self, relay: &RelayId) -> Option<&Relay> {
        self.relays.get(relay)
    }

    /// That relay, to note what it was given.
    pub fn relay_mut(&mut self, relay: &RelayId) -> Option<&mut Relay> {
        self.relays.get_mut(relay)
    }

    /// The relay at the end of a stream.
    pub fn relay_of(&self, stream: StreamId) -> Option<&RelayId> {
        self.streams.get(&stream)
    }

    /// Every relay that is known, the lost ones too, by name.
    pub fn relays(&self) -> impl Iterator<Item = &Relay> {
        self.relays.values()
    }

    /// What relays measured to each other.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Of the list as it is now, once [`Registry::poll_output`] has said `None`.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Everybody whom the database names has come, or was given up.
    pub fn is_settled(&self) -> bool {
        self.expected.is_empty()
    }

    /// What placement goes by: every relay that is not lost.
    pub fn snapshot(&self, now: Instant) -> Snapshot<'_> {
        let newest = self
            .relays
            .values()
            .filter(|relay| relay.offer().is_some())
            .map(|relay| relay.version)
            .max();
        let candidate = |(id, relay)| {
            let (id, relay): (&'_ RelayId, &'_ Relay) = (id, relay);
            Candidate {
                relay: id,
                place: relay.place(),
                offer: relay.offer(),
                load: relay.load.corrected(now),
                member_cost: relay.load.member_cost(),
                carried: relay.load.members(now, Duty::Carry),
                standby: relay.load.members(now, Duty::Standby),
                failures: relay.failures(now),
                outdated: newest.is_some_and(|newest| relay.version < newest),
            }
        };
        let relays = self
            .relays
            .iter()
            .filter(|(_, relay)| !relay.lost)
            .map(candidate)
            .collect();
        Snapshot::new(now, relays, &self.mesh).with_expected(self.expected.keys())
    }

    fn common_protocol(&self, hello: &Hello) -> Result<u32, Refused> {
        let (ours, theirs) = (&self.config.protocol, &hello.protocol);
        let highest = *ours.end().min(theirs.end());
        if highest < *ours.start().max(theirs.start()) {
            return Err(Refused::Protocol {
                min: *theirs.start(),
                max: *theirs.end(),
                ours_min: *ours.start(),
                ours_max: *ours.end(),
            });
        }
        Ok(highest)
    }

    /// Another process takes over a name, if somebody had it.
    fn replace(&mut self, now: Instant, stream: StreamId, hello: &Hello) -> Result<(), Refused> {
        let patience = self.patience();
        let Some(old) = self.relays.get_mut(&hello.relay) else {
            return Ok(());
        };
        if old.stream.is_some() && now.duration_since(old.heard) < patience {
            return Err(Refused::DuplicateId {
                relay: hello.relay.clone(),
                alive: old.hello.boot,
            });
        }
        let mut new = Relay::new(now, stream, hello.clone());
        new.failures = old.failures;
        new.shown = old.shown.clone();
        if !old.lost {
            if !old.is_draining() {
                new.failures.add(now);
            }
            let boot = Some(old.hello.boot);
            let why = WhyLost::Restarted;
            self.outputs.push_back(Output::RelayLost {
                relay: hello.relay.clone(),
                boot,
                why,
            });
        }
        if let Some(gone) = std::mem::replace(old, new).stream {
            self.streams.remove(&gone);
        }
        Ok(())
    }

    fn heard(&mut self, now: Instant, stream: StreamId) -> Option<&mut Relay> {
        let relay = self.relays.get_mut(self.streams.get(&stream)?)?;
        relay.heard = relay.heard.max(now);
        relay.lost = false;
        Some(relay)
    }

    fn update_of(&mut self, now: Instant, stream: StreamId) {
        if let Some(id) = self.streams.get(&stream).cloned() {
            self.update(now, &id);
        }
    }

    fn say(&mut self, now: Instant, by: &RelayId, of: &RelayId, at: Instant, reached: bool) {
        if let Some(relay) = self.relays.get_mut(of) {
            relay.words.say(by, at, reached);
            self.update(now, of);
        } else if let Some((_, words)) = self.expected.get_mut(of) {
            words.say(by, at, reached);
        }
    }

    fn set_drain(&mut self, now: Instant, id: &RelayId, drain: bool) -> bool {
        let Some(relay) = self.relays.get_mut(id) else {
            return false;
        };
        relay.drain_ordered = drain;
        if !drain {
            relay.drain_said = false;
        }
        self.update(now, id);
        true
    }

    fn give_up_expected(&mut self, now: Instant) {
        let patience = self.patience();
        let settle = self.config.settle;
        let deaf = self.living(now).next().is_none();
        let due = self.expected.iter().filter(|(_, (since, words))| {
            now.duration_since(*since) >= settle && !words.reached_since(now - patience)
        });
        let lost: Vec<_> = due
            .filter(|_| !deaf)
            .filter_map(|(id, (since, words))| Some((id.clone(), self.verdict(now, None, *since, words)?)))
            .collect();
        for (relay, why) in lost {
            self.expected.remove(&relay);
            self.outputs.push_back(Output::RelayLost {
                relay,
                boot: None,
                why,
            });
        }
    }
}

/// A relay's clock minus ours; a relay that does not say is not off.
fn clock_off(theirs_ms: u64, ours_ms: u64) -> i64 {
    if theirs_ms == 0 {
        0
    } else {
        theirs_ms.wrapping_sub(ours_ms) as i64
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
