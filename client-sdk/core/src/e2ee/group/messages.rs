//! Messages between two members.

use std::{collections::btree_map::Entry, time::Duration};

use wzp_wire::{Instant, SenderId};

use super::{
    super::{
        MAX_MESSAGE_BYTES,
        epoch::Chain,
        event::{Event, Misbehaviour},
        wrap::{self, Body, Pair, Received},
    },
    Group, MAX_OUTBOX,
    members::Standing,
    post::Note,
};

/// Between two answers to one member.
const ANSWER_AGAIN: Duration = Duration::from_millis(500);

impl Group {
    /// The relay brought a message of this member.
    pub fn handle_message(&mut self, now: Instant, from: SenderId, message: &[u8]) {
        match self.receive(from, message) {
            Ok(received) => self.act(now, from, received),
            Err(why) => self.refuse(from, why),
        }
    }

    /// A message to this member is due; what it says is decided when its turn comes, which is mostly now.
    pub(super) fn send(&mut self, now: Instant, to: SenderId, note: Note) {
        if self.members.contains_key(&to) {
            self.post.add(to, note);
            self.release(now);
        }
    }

    /// Seals what may leave now.
    pub(super) fn release(&mut self, now: Instant) {
        while self.outbox.len() < MAX_OUTBOX
            && let Some((to, note)) = self.post.next(now)
        {
            self.write(now, to, note);
        }
    }

    fn write(&mut self, now: Instant, to: SenderId, note: Note) {
        let chain = self.sealer.newest().clone();
        let generation = chain.generation;
        let body = match note {
            Note::Key | Note::KeyAskedFor => Body::Key {
                chain,
                counters: self.sealer.counters(),
            },
            Note::Request => Body::Request {
                failed: self.key_mismatches(to),
            },
            Note::Answer => Body::Answer,
            Note::Greeting => Body::Greeting,
        };
        let sealed = match self.pair(to) {
            Ok(pair) => pair.seal(&body),
            Err(why) => return self.refuse(to, why),
        };
        self.outbox.push_back((to, sealed));
        let Some(member) = self.members.get_mut(&to) else {
            return;
        };
        if matches!(body, Body::Key { .. }) {
            member.given = Some(generation);
        }
        if let Some(at) = member.greeted(now) {
            self.wake_members(at);
        }
    }

    fn receive(&mut self, from: SenderId, message: &[u8]) -> Result<Received, Misbehaviour> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(Misbehaviour::Malformed);
        }
        let (author, to, _) = wrap::addressed(message)?;
        let member = self.members.get(&from).ok_or(Misbehaviour::UnknownSender)?;
        if author != member.announced.id {
            let known = self.members.values().any(|member| member.announced.id == author);
            let why = if known {
                Misbehaviour::SwappedSender
            } else {
                Misbehaviour::ReplayedHandshake
            };
            return Err(why);
        }
        if to != self.mine.id {
            return Err(Misbehaviour::Misdirected);
        }
        self.pair(from)?.open(message)
    }

    fn act(&mut self, now: Instant, from: SenderId, received: Received) {
        let queued = self.outbox.len();
        let Some(member) = self.members.get_mut(&from) else {
            return;
        };
        let first = !std::mem::replace(&mut member.heard, true);
        let public = member.announced.identity;
        if received.ack > 0 && member.standing != Standing::Verified {
            let returned = member.standing == Standing::Withheld;
            member.verified();
            self.event(Event::MemberVerified { sender: from, public });
            self.turn_away_copies(now, from);
            if returned {
                self.undelivered = true;
                self.deliver(now);
            }
        }
        let greeting = matches!(received.body, Body::Greeting);
        match received.body {
            Body::Greeting | Body::Answer => {}
            Body::Key { chain, counters } => self.learn_key(now, from, chain, counters),
            Body::Request { failed } => self.answer(now, from, failed),
        }
        // Whatever was queued meanwhile carries the acknowledgement as well.
        let said = self.outbox.len() > queued || self.post.has_any(from);
        if !said && (first || greeting && self.may_answer(now, from)) {
            self.send(now, from, Note::Answer);
        }
    }

    fn learn_key(&mut self, now: Instant, from: SenderId, chain: Chain, counters: [u64; 2]) {
        let Some(member) = self.members.get_mut(&from) else {
            return;
        };
        match member.opener.install(now, chain, counters) {
            Ok(()) => {
                member.keyed();
                self.held.release(from);
            }
            Err(why) => self.refuse(from, why),
        }
    }

    /// Somebody cannot hear us. It gets nothing here that it was not given before.
    fn answer(&mut self, now: Instant, from: SenderId, failed: u32) {
        if !self.may_answer(now, from) {
            return;
        }
        let generation = self.sealer.newest().generation;
        let Some(member) = self.members.get(&from) else {
            return;
        };
        let (lacks, withheld) = (member.lacks(generation), member.standing == Standing::Withheld);
        if lacks && !self.post.has_key(from) {
            self.hand_out(now);
        }
        // Whoever lacks it and has no turn yet waits for a new generation.
        if self.post.has_key(from) || !lacks && !withheld {
            self.send(now, from, Note::KeyAskedFor);
        }
        if failed > 0 {
            self.event(Event::Unheard {
                sender: from,
                count: failed,
            });
        }
    }

    fn may_answer(&mut self, now: Instant, to: SenderId) -> bool {
        let Some(member) = self.members.get_mut(&to) else {
            return false;
        };
        let may = now >= member.answer_not_before;
        if may {
            member.answer_not_before = now + ANSWER_AGAIN;
        }
        may
    }

    fn pair(&mut self, with: SenderId) -> Result<&mut Pair, Misbehaviour> {
        let member = self.members.get(&with).ok_or(Misbehaviour::UnknownSender)?;
        Ok(match self.pairs.entry(member.announced.id) {
            Entry::Occupied(pair) => pair.into_mut(),
            Entry::Vacant(none) => none.insert(Pair::new(&self.ephemeral, &self.mine, &member.announced)?),
        })
    }
}
