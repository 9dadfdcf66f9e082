//! One call: a member's voice, everybody else's, the keys between them and the messages to the relay, without IO.
//!
//! Inputs are `handle_*`, outputs `poll_*`: after any input drain [`Call::poll_packet`], [`Call::poll_signal`] and
//! [`Call::poll_event`] until they are empty, and call [`Call::handle_timeout`] when [`Call::poll_timeout`] has passed.
//! Sound goes in and out in frames of 10 ms. Nothing is allocated for a packet once everybody was heard.

mod event;
mod mix;
mod rejoin;
mod remote;
mod report;
mod roster;
mod route;
mod seats;
mod signal;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use rand_core::CryptoRng;
use wzp_identity::{Identity, PublicIdentity};
use wzp_wire::{Datagram, Epoch, Instant, RoomName, SenderId, signal::SignalMessage};

use crate::{
    e2ee::{Group, OpenError},
    paths::{self, PathId, Sending},
    voice::{
        codec::{CodecError, Codecs},
        mode::Tier,
        quality::{self, Controller},
        receiver::PULL,
        sender::{Pauses, Sender},
    },
};
pub use event::Event;
use mix::Mixer;
use rejoin::Rejoin;
use remote::Remote;
pub use remote::RemoteStats;
use report::Reporter;
use roster::Roster;
pub use route::PathState;
use route::{Route, Told};
use seats::Seats;
pub use signal::readable;

/// The largest media datagram that a call makes, in bytes.
pub const MAX_DATAGRAM: usize = 512;

/// Which tier a call sends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TierChoice {
    /// Chosen from receiver reports.
    #[default]
    Auto,
    /// Always this one.
    Fixed(Tier),
}

/// What a call needs to know before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which room.
    pub room: RoomName,
    /// Which tier.
    pub tier: TierChoice,
    /// The relay returns this member's own media.
    pub echo: bool,
    /// What is sent while we do not speak.
    pub pauses: Pauses,
}

/// Counts of one call since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Media packets that were sent, repair included.
    pub sent: u64,
    /// Repair packets among them.
    pub repair_sent: u64,
    /// Bytes of the media datagrams that were sent, without carrier, UDP and IP.
    pub sent_bytes: u64,
    /// Media packets that were received and opened, repair included.
    pub received: u64,
    /// Repair packets among them.
    pub repair_received: u64,
    /// Bytes of the media datagrams that were received.
    pub received_bytes: u64,
    /// Packets that could not be opened, other than those that were early, late or came twice.
    pub unopened: u64,
    /// Packets that came twice, or after the replay window.
    pub duplicates: u64,
    /// Messages of members that came over two paths, or were overtaken by later ones over the other.
    pub duplicate_messages: u64,
    /// Datagrams that are none, and packets in trunks that can't be any.
    pub malformed: u64,
    /// Messages of the relay that make no sense in a call.
    pub nonsense: u64,
    /// Frames that the codec library refused.
    pub codec_errors: u64,
    /// Packets that could not be sealed.
    pub unsealed: u64,
    /// Packets for which there was no path.
    pub unsent: u64,
}

/// A member's view of one room.
pub struct Call<C: Codecs + Clone> {
    config: Config,
    identity: Identity,
    me: Option<SenderId>,
    rejoin: Rejoin,
    paths: paths::Set,
    /// What the owner knows of the path in use.
    told_path: Option<Told>,
    routes: Vec<Route>,
    seats: Seats,
    /// The highest that anybody told us.
    epoch: Epoch,
    wants_in: bool,
    /// When the last relay that had us in the room was lost.
    outside_since: Option<Instant>,
    hangups: VecDeque<PathId>,
    group: Group,
    codecs: C,
    sender: Sender<C>,
    quality: Controller,
    roster: Roster,
    verified: BTreeMap<SenderId, PublicIdentity>,
    remotes: Vec<Remote<C>>,
    reporter: Reporter,
    signals: VecDeque<(PathId, SignalMessage)>,
    events: VecDeque<Event>,
    held: Vec<u8>,
    payload: [u8; MAX_DATAGRAM],
    scratch: [u8; MAX_DATAGRAM],
    mixer: Mixer,
    counts: Counts,
    rtt: Duration,
}

impl<C: Codecs + Clone> Call<C> {
    /// A member that has not joined yet; [`Call::join`] does.
    ///
    /// # Errors
    /// When the codec library refuses.
    pub fn new<R: CryptoRng + ?Sized>(
        now: Instant,
        config: Config,
        identity: &Identity,
        codecs: C,
        rng: &mut R,
    ) -> Result<Self, CodecError> {
        let tier = match config.tier {
            TierChoice::Auto => Tier::Good,
            TierChoice::Fixed(tier) => tier,
        };
        let mut quality = Controller::new(now, tier);
        if let TierChoice::Fixed(tier) = config.tier {
            quality.force(now, Some(tier));
        }
        // A random first timestamp says nothing about how long the program has been running.
        let sender = Sender::new(codecs.clone(), tier, config.pauses, rng.next_u32())?;
        Ok(Self {
            group: Group::new(identity, &config.room, rng),
            config,
            identity: identity.clone(),
            me: None,
            rejoin: Rejoin::default(),
            paths: paths::Set::default(),
            told_path: None,
            routes: Vec::new(),
            seats: Seats::default(),
            epoch: Epoch::NONE,
            wants_in: false,
            outside_since: None,
            hangups: VecDeque::new(),
            codecs,
            sender,
            quality,
            roster: Roster::default(),
            verified: BTreeMap::new(),
            remotes: Vec::new(),
            reporter: Reporter::new(now),
            signals: VecDeque::new(),
            events: VecDeque::new(),
            held: Vec::new(),
            payload: [0; MAX_DATAGRAM],
            scratch: [0; MAX_DATAGRAM],
            mixer: Mixer::default(),
            counts: Counts::default(),
            rtt: Duration::ZERO,
        })
    }

    /// Takes a media datagram, as it came out of the carrier of this path. A packet that comes over a second path as
    /// well is heard once.
    pub fn handle_datagram(&mut self, now: Instant, path: PathId, datagram: &mut [u8]) {
        let before = self.counts.received;
        self.counts.received_bytes += datagram.len() as u64;
        if self.rejoin.is_outside() {
            return;
        }
        self.open_datagram(now, datagram);
        if self.counts.received > before {
            self.paths.handle_media(now, path);
        }
    }

    /// Takes the next 10 ms of sound and the probability that there is a voice in it (0 to 1).
    pub fn handle_capture(&mut self, now: Instant, pcm: &[f32], speech: f32) {
        let turn = self.reporter.sender_due(now, self.remotes.len());
        if let Some(remote) = turn.and_then(|turn| self.remotes.get_mut(turn)) {
            let mismatches = self.group.key_mismatches(remote.sender);
            self.sender.attach_report(remote.report(self.rtt, mismatches));
        }
        if self.reporter.relay_due(now) {
            self.report_to_relay();
        }
        if self.sender.push(pcm, speech).is_err() {
            self.counts.codec_errors += 1;
        }
    }

    /// Fills `out` with the next 10 ms of everybody, mixed.
    pub fn pull(&mut self, now: Instant, out: &mut [f32; PULL]) {
        self.mixer.begin(out);
        for remote in &mut self.remotes {
            remote.pull(now, &mut self.mixer, out);
        }
        self.mixer.finish(out);
    }

    /// Call when [`Call::poll_timeout`] has passed.
    pub fn handle_timeout<R: CryptoRng + ?Sized>(&mut self, now: Instant, rng: &mut R) {
        self.group.handle_timeout(now, rng);
        let change = self.quality.handle_timeout(now);
        self.change_tier(change);
        self.rejoin_if_due(now, rng);
        self.path_timers(now, rng);
        self.after_group(now);
    }

    /// When [`Call::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timers = [
            self.group.poll_timeout(),
            self.quality.poll_timeout(),
            self.rejoin.poll_timeout(),
            self.seats.poll_timeout(),
            self.roster.poll_timeout(),
        ];
        timers.into_iter().flatten().min()
    }

    /// Takes the round trip time to the relay.
    pub fn handle_rtt(&mut self, now: Instant, rtt: Duration) {
        self.rtt = rtt;
        self.quality.handle_rtt(now, rtt);
    }

    /// Sends in this tier from now on.
    pub fn set_tier(&mut self, now: Instant, tier: TierChoice) {
        let forced = match tier {
            TierChoice::Auto => None,
            TierChoice::Fixed(tier) => Some(tier),
        };
        let change = self.quality.force(now, forced);
        self.change_tier(change);
    }

    /// Writes the next media datagram into `out` and returns the path or paths that it takes and its length. `None` until we
    /// are in the room.
    pub fn poll_packet(&mut self, now: Instant, out: &mut [u8; MAX_DATAGRAM]) -> Option<(Sending, usize)> {
        let me = self.me?;
        loop {
            let (mut header, len) = self.sender.poll_packet(&mut self.payload)?;
            let sending = self.paths.sending();
            if sending == Sending::Nowhere {
                self.counts.unsent += 1;
                continue;
            }
            let (front, packet) = out.split_at_mut(Datagram::MEDIA_HEADER);
            let Some(payload) = self.payload.get(..len) else {
                continue;
            };
            let written = Datagram::media_header(me, front).is_ok();
            match self.group.seal(now, &mut header, payload, packet) {
                Ok(sealed) if written => {
                    let len = Datagram::MEDIA_HEADER + sealed;
                    self.counts.sent += 1;
                    self.counts.repair_sent += u64::from(header.kind == wzp_wire::Kind::Repair);
                    self.counts.sent_bytes += len as u64;
                    // Sealing may have handed out the key it used.
                    self.after_group(now);
                    self.paths.handle_sent(now);
                    return Some((sending, len));
                }
                _ => self.counts.unsealed += 1,
            }
        }
    }

    /// The next message for the relay at the end of this path.
    pub fn poll_signal(&mut self) -> Option<(PathId, SignalMessage)> {
        self.signals.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Our sender id, while we are in the room. It may be another one after an [`Event::Joined`] that nobody asked for:
    /// the relay had lost its upstream for long, and the room was entered anew.
    pub fn sender_id(&self) -> Option<SenderId> {
        self.me
    }

    /// The tier in which we send.
    pub fn tier(&self) -> Tier {
        self.quality.plan().tier
    }

    /// What was counted since the call began.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn open_datagram(&mut self, now: Instant, datagram: &mut [u8]) {
        match Datagram::decode(datagram) {
            Ok(Datagram::Media { sender, packet }) => {
                let start = datagram.len() - packet.len();
                self.handle_media(now, sender, &mut datagram[start..]);
            }
            Ok(Datagram::Trunk(trunk)) => {
                for (sender, packet) in trunk {
                    let mut scratch = self.scratch;
                    let copy = scratch.get_mut(..packet.len());
                    let Some((sender, copy)) = SenderId::new(sender).zip(copy) else {
                        self.counts.malformed += 1;
                        continue;
                    };
                    copy.copy_from_slice(packet);
                    self.handle_media(now, sender, copy);
                }
            }
            Ok(Datagram::Ping(_) | Datagram::Pong(_)) => {}
            Err(_) => self.counts.malformed += 1,
        }
    }

    fn handle_media(&mut self, now: Instant, from: SenderId, packet: &mut [u8]) {
        let opened = match self.group.open(now, from, packet) {
            Ok(opened) => opened,
            Err(OpenError::NoKeyYet | OpenError::UnknownSender) => {
                self.after_group(now);
                return;
            }
            Err(OpenError::Duplicate | OpenError::TooOld) => {
                self.counts.duplicates += 1;
                return;
            }
            Err(_) => {
                self.counts.unopened += 1;
                self.after_group(now);
                return;
            }
        };
        self.counts.received += 1;
        self.counts.repair_received += u64::from(opened.header.kind == wzp_wire::Kind::Repair);
        let remote = match self.remotes.iter().position(|remote| remote.sender == from) {
            Some(known) => &mut self.remotes[known],
            None => {
                self.remotes.push(Remote::new(from, self.codecs.clone()));
                let Some(new) = self.remotes.last_mut() else {
                    return;
                };
                new
            }
        };
        let report = remote.handle_packet(now, &opened);
        // Nobody but confirmed members has a say in what we send.
        let counts = self.me != Some(from) && self.verified.contains_key(&from);
        if let Some(report) = report.filter(|report| counts && Some(report.about) == self.me) {
            self.quality.set_listeners(self.roster.len());
            let change = self.quality.handle_report(now, from, &report);
            self.change_tier(change);
        }
    }

    fn change_tier(&mut self, change: Option<quality::Change>) {
        let Some(change) = change else { return };
        if self.sender.set_plan(change.to.tier, change.to.repair).is_err() {
            self.counts.codec_errors += 1;
            return;
        }
        if change.from.tier != change.to.tier {
            self.events.push_back(Event::Tier {
                from: change.from.tier,
                to: change.to.tier,
                why: change.why,
            });
        }
    }
}
