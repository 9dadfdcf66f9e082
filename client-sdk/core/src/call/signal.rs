//! What the relay says in a call, and what a call says to it.

use wzp_wire::{
    Epoch, Instant, SenderId,
    signal::{Joined, Kind, Member, Move, Payload, PeerMessage, SignalMessage, message, proto},
};

use super::{Call, Event, roster::News, route::Stage};
use crate::{
    e2ee::{self, Misbehaviour},
    paths::{PathId, Sending},
    voice::codec::Codecs,
};

/// The longest text of a relay that is shown, in characters.
const MAX_TEXT: usize = 200;

/// A text of the relay as it may be shown: short, and without what a terminal would obey.
pub fn readable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

impl<C: Codecs + Clone> Call<C> {
    /// Asks the relay to let us into the room, and every further one of its set: the first message of a call.
    pub fn join(&mut self, now: Instant) {
        self.wants_in = true;
        self.ask_relays(now);
    }

    /// Says good-bye to the room: the last message of a call.
    pub fn leave(&mut self) {
        self.wants_in = false;
        for route in self.routes.iter().filter(|route| route.stage != Stage::Outside) {
            let leave = message(Kind::Leave(proto::Leave {}));
            self.signals.push_back((route.id, leave));
        }
    }

    /// Takes a message from the relay at the end of this path. One that makes no sense here is counted and passed over:
    /// the relay can only hurt itself.
    pub fn handle_signal(&mut self, now: Instant, path: PathId, message: SignalMessage) {
        if self.obey(now, path, message).is_none() {
            self.counts.nonsense += 1;
        }
        self.after_group(now);
    }

    /// `None` when the message makes no sense.
    fn obey(&mut self, now: Instant, path: PathId, message: SignalMessage) -> Option<()> {
        match message.kind? {
            Kind::MemberJoined(_) | Kind::MemberLeft(_) | Kind::PeerMessage(_)
                if self.rejoin.is_outside() || self.route(path).is_none() => {}
            Kind::Joined(joined) => self.handle_joined(now, path, &Joined::try_from(joined).ok()?),
            Kind::MemberJoined(joined) => {
                self.handle_member(now, path, &Member::try_from(joined.member?).ok()?);
            }
            Kind::MemberLeft(proto::MemberLeft { sender }) => {
                let sender = u16::try_from(sender).ok().and_then(SenderId::new)?;
                if self.roster.handle_left(path, sender) {
                    self.group.handle_member_left(now, sender);
                }
            }
            Kind::PeerMessage(message) => {
                let message = PeerMessage::try_from(message).ok()?;
                self.group.handle_message(now, message.sender, &message.payload);
            }
            Kind::Refused(refused) => {
                self.handle_refused(now, path, refused.reason(), readable(&refused.text));
            }
            Kind::Goodbye(goodbye) => {
                self.handle_refused(now, path, goodbye.reason(), readable(&goodbye.text));
            }
            Kind::Move(order) => self.handle_move(now, Move::try_from(order).ok()?)?,
            Kind::Notice(notice) => {
                self.rejoin.handle_notice(now, notice.kind());
                self.events.push_back(Event::Notice {
                    kind: notice.kind(),
                    text: readable(&notice.text),
                });
            }
            _ => return None,
        }
        Some(())
    }

    fn handle_member(&mut self, now: Instant, path: PathId, member: &Member) {
        let Member { sender, announcement } = member;
        if self.roster.handle_joined(path, *sender, announcement) == News::There {
            self.group.handle_member_joined(now, *sender, announcement);
        }
    }

    fn handle_joined(&mut self, now: Instant, path: PathId, joined: &Joined) {
        let Some(route) = self.route(path) else { return };
        let again = route.stage == Stage::Inside;
        let relay = route.relay.clone();
        let others = self
            .routes
            .iter()
            .any(|other| other.id != path && other.stage == Stage::Inside);
        if others && self.me.is_some_and(|me| me != joined.sender) {
            let sender = joined.sender;
            self.events.push_back(Event::Disagreement { relay, sender });
            self.give_up(now, path);
            return;
        }
        // Whoever has seen an epoch acts under no lower one.
        if joined.epoch != Epoch::NONE && joined.epoch < self.epoch && others {
            self.give_up(now, path);
            return;
        }
        self.epoch = self.epoch.max(joined.epoch);
        let before = self.me.replace(joined.sender);
        self.rejoin.handle_joined();
        if relay.is_some() && before.is_some_and(|before| before != joined.sender) {
            self.rejoin.handle_come_back(now);
        }
        let roster = &mut self.roster;
        let members = joined
            .members
            .iter()
            .filter(|member| roster.handle_joined(path, member.sender, &member.announcement) == News::There);
        let members: Vec<(SenderId, &[u8])> = members
            .map(|member| (member.sender, &*member.announcement))
            .collect();
        self.group.handle_joined(now, joined.sender, &members);
        if joined.more {
            return;
        }
        self.handle_inside(now, path, joined.epoch);
        if !others || again {
            self.events.push_back(Event::Joined {
                sender: joined.sender,
                members: self.roster.len(),
            });
        }
        self.after_paths(now);
    }

    /// Moves what the keys have to say to where it belongs.
    pub(super) fn after_group(&mut self, now: Instant) {
        while let Some((to, payload)) = self.group.poll_transmit() {
            let Some(payload) = Payload::new(payload) else {
                continue;
            };
            let message = message(Kind::PeerMessage(PeerMessage { sender: to, payload }.into()));
            match self.paths.sending() {
                Sending::Nowhere => {}
                Sending::On(path) => self.signals.push_back((path, message)),
                Sending::Both(path, other) => {
                    self.signals.push_back((path, message.clone()));
                    self.signals.push_back((other, message));
                }
            }
        }
        while let Some(event) = self.group.poll_event() {
            self.handle_group_event(event);
        }
        while let Some(from) = self.group.poll_held(&mut self.held) {
            let mut packet = std::mem::take(&mut self.held);
            self.handle_media(now, from, &mut packet);
            self.held = packet;
        }
    }

    fn handle_group_event(&mut self, event: e2ee::Event) {
        match event {
            e2ee::Event::MemberVerified { sender, public } => {
                let fingerprint = public.fingerprint();
                self.verified.insert(sender, public);
                self.events.push_back(Event::MemberJoined { sender, fingerprint });
            }
            // Also when the relay gave its id to somebody else without a word.
            e2ee::Event::MemberLeft { sender } => {
                self.quality.forget(sender);
                self.remotes.retain(|remote| remote.sender != sender);
                if let Some(public) = self.verified.remove(&sender) {
                    self.events.push_back(Event::MemberLeft {
                        sender,
                        fingerprint: public.fingerprint(),
                    });
                }
            }
            e2ee::Event::MemberAnnounced { .. } | e2ee::Event::EpochChanged { .. } => {}
            e2ee::Event::KeyMismatch { sender, count } => {
                self.events.push_back(Event::KeyMismatch { sender, count });
            }
            e2ee::Event::Unheard { sender, count } => {
                self.events.push_back(Event::Unheard { sender, count });
            }
            // What came over one path came over the other as well, or was overtaken there.
            e2ee::Event::Refused {
                why: Misbehaviour::ReplayedMessage,
                ..
            } if self.routes.len() > 1 => self.counts.duplicate_messages += 1,
            e2ee::Event::Refused { sender, why } => {
                self.events.push_back(Event::Misbehaviour { sender, why });
            }
        }
    }
}
