//! The table of members: who is let in, and what is to be done for each of them and when.

use std::time::Duration;

use wzp_wire::{Instant, SenderId};

use super::{
    super::{
        EAGER_ROOM, MAX_ANNOUNCEMENT_BYTES, MAX_MEMBERS,
        announce::{Announcement, Id},
        event::{Event, Misbehaviour},
        opener::Opener,
    },
    Group,
    post::Note,
};

/// Announcements taken in one stay; 16 bytes each are remembered.
const MAX_JOINS: usize = 65_536;
/// Until a member that does not answer is greeted again.
const GREET_AGAIN: Duration = Duration::from_secs(1);
/// How long a member may take to prove that it holds the key it announced.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// How long to wait for a key that packets have overtaken before asking for it.
const ASK_AFTER: Duration = Duration::from_millis(300);
/// Between two questions to one member, and between two reports about it.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Member {
    pub(super) announced: Announcement,
    pub(super) opener: Opener,
    pub(super) standing: Standing,
    /// It has sent something that authenticated.
    pub(super) heard: bool,
    /// The newest generation of ours that it was given.
    pub(super) given: Option<u32>,
    /// When to greet it again, and until when it has to answer.
    greet: Option<(Instant, Instant)>,
    ask_at: Option<Instant>,
    ask_not_before: Instant,
    pub(super) answer_not_before: Instant,
    report_not_before: Instant,
    mismatches: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    AwaitConfirmation,
    Verified,
    /// Did not confirm in time: gets no keys until it does.
    Withheld,
}

impl Member {
    fn new(announced: Announcement) -> Self {
        Self {
            announced,
            opener: Opener::new(),
            standing: Standing::AwaitConfirmation,
            heard: false,
            given: None,
            greet: None,
            ask_at: None,
            ask_not_before: Instant::ZERO,
            answer_not_before: Instant::ZERO,
            report_not_before: Instant::ZERO,
            mismatches: 0,
        }
    }

    pub(super) fn lacks(&self, generation: u32) -> bool {
        self.standing != Standing::Withheld && self.given != Some(generation)
    }

    pub(super) fn mismatches(&self) -> u32 {
        self.mismatches
    }

    pub(super) fn verified(&mut self) {
        self.standing = Standing::Verified;
        self.greet = None;
    }

    /// It was sent something to which it has to react.
    pub(super) fn greeted(&mut self, now: Instant) -> Option<Instant> {
        if self.standing == Standing::AwaitConfirmation && self.greet.is_none() {
            self.greet = Some((now + GREET_AGAIN, now + CONFIRM_WITHIN));
        }
        self.next_timer()
    }

    /// Its key arrived.
    pub(super) fn keyed(&mut self) {
        self.ask_at = None;
    }

    fn next_timer(&self) -> Option<Instant> {
        let greet = self.greet.map(|(again, until)| again.min(until));
        [greet, self.ask_at].into_iter().flatten().min()
    }
}

impl Group {
    pub(super) fn admit(&mut self, now: Instant, sender: SenderId, announcement: &[u8]) {
        match self.admitted(now, sender, announcement) {
            Ok(Some(announced)) => {
                let public = announced.identity;
                self.seen.insert(announced.id);
                self.members.insert(sender, Member::new(announced));
                self.undelivered = true;
                self.event(Event::MemberAnnounced { sender, public });
                if self.held.holds(sender) {
                    self.missing_key(now, sender);
                }
            }
            Ok(None) => {}
            Err(why) => self.refuse(sender, why),
        }
    }

    /// `None` when the member is there already, just so.
    fn admitted(
        &mut self,
        now: Instant,
        sender: SenderId,
        announcement: &[u8],
    ) -> Result<Option<Announcement>, Misbehaviour> {
        if announcement.len() > MAX_ANNOUNCEMENT_BYTES {
            return Err(Misbehaviour::Malformed);
        }
        if self.me == Some(sender) {
            return Err(Misbehaviour::Reflected);
        }
        let announced = Announcement::parse(&self.room, announcement)?;
        if announced.id == self.mine.id || announced.ephemeral == self.mine.ephemeral {
            return Err(Misbehaviour::Reflected);
        }
        if self
            .members
            .get(&sender)
            .is_some_and(|member| member.announced.id == announced.id)
        {
            return Ok(None);
        }
        if self.seen.contains(&announced.id) && !self.is_unproven(announced.id) {
            return Err(Misbehaviour::ReplayedHandshake);
        }
        if self.seen.len() >= MAX_JOINS {
            return Err(Misbehaviour::TooManyJoins);
        }
        // The id was given to somebody else without a word about the one who had it.
        self.handle_member_left(now, sender);
        if self.members.len() >= MAX_MEMBERS {
            return Err(Misbehaviour::TooManyMembers);
        }
        Ok(Some(announced))
    }

    /// Somebody is here with this announcement, and nobody has proven yet that it is theirs: who came first with it may
    /// have copied it from who comes now.
    fn is_unproven(&self, announcement: Id) -> bool {
        let mut holders = self.holders(announcement).peekable();
        holders.peek().is_some() && holders.all(|(_, member)| member.standing != Standing::Verified)
    }

    fn holders(&self, announcement: Id) -> impl Iterator<Item = (SenderId, &Member)> {
        let members = self.members.iter();
        members
            .filter(move |(_, member)| member.announced.id == announcement)
            .map(|(sender, member)| (*sender, member))
    }

    /// `owner` proved that its announcement is its own: whoever else shows it has copied it.
    pub(super) fn turn_away_copies(&mut self, now: Instant, owner: SenderId) {
        let Some(announcement) = self.members.get(&owner).map(|member| member.announced.id) else {
            return;
        };
        let holders = self.holders(announcement).map(|(sender, _)| sender);
        let copies: Vec<SenderId> = holders.filter(|sender| *sender != owner).collect();
        for copy in copies {
            self.handle_member_left(now, copy);
            self.refuse(copy, Misbehaviour::ReplayedHandshake);
        }
    }

    /// Nobody is here with this announcement any more, and nobody comes with it again.
    pub(super) fn forget_pair(&mut self, announcement: Id) {
        if self.holders(announcement).next().is_none() {
            self.pairs.remove(&announcement);
        }
    }

    pub(super) fn is_small(&self) -> bool {
        self.members.len() < EAGER_ROOM
    }

    /// A packet of this member could not be opened.
    pub(super) fn mismatch(&mut self, now: Instant, sender: SenderId) {
        let Some(member) = self.members.get_mut(&sender) else {
            return;
        };
        self.mismatches += 1;
        member.mismatches = member.mismatches.saturating_add(1);
        let count = member.mismatches;
        let at = *member
            .ask_at
            .get_or_insert_with(|| now.max(member.ask_not_before));
        let report = now >= member.report_not_before;
        if report {
            member.report_not_before = now + ASK_AGAIN;
            self.event(Event::KeyMismatch { sender, count });
        }
        self.wake_members(at);
    }

    /// A packet of this member waits for its key, which is probably on its way.
    pub(super) fn missing_key(&mut self, now: Instant, sender: SenderId) {
        let Some(member) = self.members.get_mut(&sender) else {
            return;
        };
        if member.ask_at.is_none() {
            let at = (now + ASK_AFTER).max(member.ask_not_before);
            member.ask_at = Some(at);
            self.wake_members(at);
        }
    }

    pub(super) fn member_timers(&mut self, now: Instant) {
        self.members_at = None;
        let due: Vec<SenderId> = self
            .members
            .iter()
            .filter(|(_, member)| member.next_timer().is_some_and(|at| at <= now))
            .map(|(sender, _)| *sender)
            .collect();
        for sender in due {
            self.member_timer(now, sender);
        }
        self.members_at = self.members.values().filter_map(Member::next_timer).min();
    }

    fn member_timer(&mut self, now: Instant, sender: SenderId) {
        let Some(member) = self.members.get_mut(&sender) else {
            return;
        };
        if member.ask_at.take_if(|at| *at <= now).is_some() {
            member.ask_not_before = now + ASK_AGAIN;
            self.send(now, sender, Note::Request);
            return;
        }
        match member.greet {
            Some((_, until)) if until <= now => self.withhold(now, sender),
            Some((_, until)) => {
                member.greet = Some((now + GREET_AGAIN, until));
                self.send(now, sender, Note::Greeting);
            }
            None => {}
        }
    }

    /// It announced itself but never answered: a recording, or somebody who holds other keys.
    fn withhold(&mut self, now: Instant, sender: SenderId) {
        let Some(member) = self.members.get_mut(&sender) else {
            return;
        };
        member.greet = None;
        member.standing = Standing::Withheld;
        self.post.withdraw_key(sender);
        if member.given.take().is_some() {
            self.schedule_rotation(now);
        }
        self.refuse(sender, Misbehaviour::NeverConfirmed);
    }
}
