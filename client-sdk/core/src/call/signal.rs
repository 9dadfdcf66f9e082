//! What the relay says in a call, and what a call says to it.

use wzp_wire::{
    Instant, SenderId,
    signal::{Announcement, Join, Joined, Kind, Member, Payload, PeerMessage, SignalMessage, message, proto},
};

use super::{Call, Event};
use crate::{e2ee, voice::codec::Codecs};

/// The only request of a call that gets an answer.
const JOIN_REQUEST: u32 = 1;

/// The longest text of a relay that is shown, in characters.
const MAX_TEXT: usize = 200;

/// A text of the relay as it may be shown: short, and without what a terminal would obey.
pub fn readable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

impl<C: Codecs + Clone> Call<C> {
    /// Asks the relay to let us into the room: the first message of a call.
    pub fn join(&mut self) {
        let Some(announcement) = Announcement::new(self.group.announcement().to_vec()) else {
            return;
        };
        let join = Join {
            request: JOIN_REQUEST,
            room: self.config.room.clone(),
            announcement,
            echo: self.config.echo,
            standby: false,
        };
        self.signals.push_back(message(Kind::Join(join.into())));
    }

    /// Says good-bye to the room: the last message of a call.
    pub fn leave(&mut self) {
        self.signals.push_back(message(Kind::Leave(proto::Leave {})));
    }

    /// Takes a message from the relay. One that makes no sense here is counted and passed over: the relay can only hurt
    /// itself.
    pub fn handle_signal(&mut self, now: Instant, message: SignalMessage) {
        if self.obey(now, message).is_none() {
            self.counts.nonsense += 1;
        }
        self.after_group(now);
    }

    /// `None` when the message makes no sense.
    fn obey(&mut self, now: Instant, message: SignalMessage) -> Option<()> {
        match message.kind? {
            Kind::MemberJoined(_) | Kind::MemberLeft(_) | Kind::PeerMessage(_)
                if self.rejoin.is_outside() => {}
            Kind::Joined(joined) => self.handle_joined(now, &Joined::try_from(joined).ok()?),
            Kind::MemberJoined(joined) => {
                let member = Member::try_from(joined.member?).ok()?;
                self.members.insert(member.sender);
                self.group
                    .handle_member_joined(now, member.sender, &member.announcement);
            }
            Kind::MemberLeft(proto::MemberLeft { sender }) => {
                let sender = u16::try_from(sender).ok().and_then(SenderId::new)?;
                self.members.remove(&sender);
                self.group.handle_member_left(now, sender);
            }
            Kind::PeerMessage(message) => {
                let message = PeerMessage::try_from(message).ok()?;
                self.group.handle_message(now, message.sender, &message.payload);
            }
            Kind::Refused(refused) => self.events.push_back(Event::Refused {
                reason: refused.reason(),
                text: readable(&refused.text),
            }),
            Kind::Goodbye(goodbye) => self.events.push_back(Event::Refused {
                reason: goodbye.reason(),
                text: readable(&goodbye.text),
            }),
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

    fn handle_joined(&mut self, now: Instant, joined: &Joined) {
        self.me = Some(joined.sender);
        self.rejoin.handle_joined();
        let members: Vec<(SenderId, &[u8])> = joined
            .members
            .iter()
            .map(|member| (member.sender, &*member.announcement))
            .collect();
        self.members.extend(members.iter().map(|&(sender, _)| sender));
        self.group.handle_joined(now, joined.sender, &members);
        if !joined.more {
            self.events.push_back(Event::Joined {
                sender: joined.sender,
                members: self.members.len(),
            });
        }
    }

    /// Moves what the keys have to say to where it belongs.
    pub(super) fn after_group(&mut self, now: Instant) {
        while let Some((to, payload)) = self.group.poll_transmit() {
            let Some(payload) = Payload::new(payload) else {
                continue;
            };
            self.signals.push_back(message(Kind::PeerMessage(
                PeerMessage { sender: to, payload }.into(),
            )));
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
            e2ee::Event::Refused { sender, why } => {
                self.events.push_back(Event::Misbehaviour { sender, why });
            }
        }
    }
}
