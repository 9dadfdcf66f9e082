//! One member's view of one room.
//!
//! A `Group` lives from one Join to its Leave: the announcement is good for one join, so that whoever joins again
//! (also after a lost connection) makes a new one.

mod keys;
mod media;
mod members;
mod messages;
mod post;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use rand_core::CryptoRng;
use wzp_identity::Identity;
use wzp_wire::{Instant, RoomName, SenderId};
use x25519_dalek::{PublicKey, StaticSecret};

#[cfg(test)]
pub(super) use self::post::{BURST, RATE};
use self::{members::Member, post::Post};
use super::{
    announce::{self, Announcement, Id},
    event::{Event, Misbehaviour},
    held::Held,
    opener::Opener,
    sealer::Sealer,
    wrap::Pair,
};

/// Events that nobody polled; further ones are dropped.
const MAX_EVENTS: usize = 4_096;
/// Messages that nobody polled; further ones wait.
const MAX_OUTBOX: usize = 8_192;

/// Who is in the room, and all keys.
///
/// Inputs are `handle_*` and [`seal`](Self::seal) and [`open`](Self::open); after any of them, call
/// [`poll_transmit`](Self::poll_transmit), [`poll_event`](Self::poll_event) and
/// [`poll_held`](Self::poll_held) until they are empty, and [`poll_timeout`](Self::poll_timeout) last.
pub struct Group {
    room: RoomName,
    announcement: Vec<u8>,
    mine: Announcement,
    ephemeral: StaticSecret,
    me: Option<SenderId>,
    members: BTreeMap<SenderId, Member>,
    /// By their announcement, so that no counter is used twice whoever shows it. Made at the first message, in large
    /// rooms long after the announcement.
    pairs: BTreeMap<Id, Pair>,
    /// Every announcement ever taken, our own included.
    seen: BTreeSet<Id>,
    sealer: Sealer,
    /// Opens our own packets, for relays that echo them.
    echo: Opener,
    held: Held,
    /// Somebody may lack our newest key.
    undelivered: bool,
    rotate_at: Option<Instant>,
    rotated_at: Option<Instant>,
    sealed_at: Option<Instant>,
    /// No member has anything to do before this.
    members_at: Option<Instant>,
    post: Post,
    outbox: VecDeque<(SenderId, Vec<u8>)>,
    events: VecDeque<Event>,
    mismatches: u64,
}

impl Group {
    /// Gets ready to join `room` once.
    #[expect(clippy::expect_used, reason = "we signed it ourselves")]
    pub fn new<R: CryptoRng + ?Sized>(identity: &Identity, room: &RoomName, rng: &mut R) -> Self {
        let ephemeral = StaticSecret::random_from_rng(rng);
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let announcement = announce::make(identity, room, &PublicKey::from(&ephemeral), &nonce);
        let mine = Announcement::parse(room, &announcement).expect("our own announcement");
        let sealer = Sealer::new(keys::fresh(rng));
        let mut group = Self {
            room: room.clone(),
            announcement,
            seen: BTreeSet::from([mine.id]),
            mine,
            ephemeral,
            me: None,
            members: BTreeMap::new(),
            pairs: BTreeMap::new(),
            sealer,
            echo: Opener::new(),
            held: Held::default(),
            undelivered: false,
            rotate_at: None,
            rotated_at: None,
            sealed_at: None,
            members_at: None,
            post: Post::default(),
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            mismatches: 0,
        };
        group.learn_own_key(Instant::ZERO);
        group
    }

    /// What goes into Join.
    pub fn announcement(&self) -> &[u8] {
        &self.announcement
    }

    /// The relay let us in as `me`, and these are there already. With a list in several parts, call it for each.
    pub fn handle_joined(&mut self, now: Instant, me: SenderId, members: &[(SenderId, &[u8])]) {
        self.me = Some(me);
        for (sender, announcement) in members {
            self.admit(now, *sender, announcement);
        }
        self.deliver(now);
    }

    /// Somebody came.
    pub fn handle_member_joined(&mut self, now: Instant, sender: SenderId, announcement: &[u8]) {
        self.admit(now, sender, announcement);
        self.deliver(now);
    }

    /// Somebody went.
    pub fn handle_member_left(&mut self, now: Instant, sender: SenderId) {
        let Some(member) = self.members.remove(&sender) else {
            return;
        };
        self.forget_pair(member.announced.id);
        self.held.forget(sender);
        self.post.forget(sender);
        self.event(Event::MemberLeft { sender });
        // Whoever lacks the newest generation cannot learn it any more.
        if member.given == Some(self.sealer.newest().generation) {
            self.schedule_rotation(now);
        }
    }

    /// Call when [`poll_timeout`](Self::poll_timeout) says so; earlier does nothing.
    pub fn handle_timeout<R: CryptoRng + ?Sized>(&mut self, now: Instant, rng: &mut R) {
        self.switch(now);
        if self.rotate_at.is_some_and(|at| at <= now) {
            self.rotate(now, keys::fresh(rng));
        }
        self.expire_held(now);
        if self.members_at.is_some_and(|at| at <= now) {
            self.member_timers(now);
        }
        self.release(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timers = [
            self.sealer.switch_at(),
            self.rotate_at,
            self.held.deadline(),
            self.members_at,
            self.post.next_at(),
        ];
        timers.into_iter().flatten().min()
    }

    /// The next message for the relay to carry to one member. However many are due, no more come out than a relay takes.
    pub fn poll_transmit(&mut self) -> Option<(SenderId, Vec<u8>)> {
        self.outbox.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The epoch byte our packets carry now.
    pub fn epoch(&self) -> u8 {
        self.sealer.epoch()
    }

    /// Packets of this member that could not be opened since it was announced.
    pub fn key_mismatches(&self, sender: SenderId) -> u32 {
        self.members.get(&sender).map_or(0, |member| member.mismatches())
    }

    /// Packets of anybody, also of those who left, that could not be opened.
    pub fn all_key_mismatches(&self) -> u64 {
        self.mismatches
    }

    #[cfg(test)]
    pub(super) fn sealer(&mut self) -> &mut Sealer {
        &mut self.sealer
    }

    fn event(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        }
    }

    fn refuse(&mut self, sender: SenderId, why: Misbehaviour) {
        self.event(Event::Refused { sender, why });
    }

    fn wake_members(&mut self, at: Instant) {
        self.members_at = Some(self.members_at.map_or(at, |before| before.min(at)));
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("me", &self.me)
            .field("members", &self.members.len())
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}
