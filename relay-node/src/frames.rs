//! Signalling messages as the relay writes them, framed.

use std::{sync::Arc, vec};

use bytes::Bytes;
use wzp_relay_core::{admission::Refusal, outbox::List};
use wzp_wire::{
    Epoch, RoomName, SenderId,
    signal::{self, Kind, Reason, proto},
};

/// Longest announcement list in one message: well below the limit of a message, and little to be written at once.
const MEMBERS_BYTES: usize = 16 * 1_024;

/// A framed message; none of ours reaches the limit of a message.
pub(crate) fn frame(kind: Kind) -> Bytes {
    let mut out = Vec::new();
    let encoded = signal::encode(&signal::message(kind), &mut out);
    debug_assert!(encoded.is_ok(), "{encoded:?}");
    out.into()
}

pub(crate) fn refused(request: u32, refusal: &Refusal) -> Bytes {
    let after = refusal.retry_after.map_or(0, |after| after.as_millis());
    frame(Kind::Refused(proto::Refused {
        request,
        reason: refusal.reason.into(),
        text: refusal.text.clone(),
        retry_after_ms: u32::try_from(after).unwrap_or(u32::MAX),
    }))
}

pub(crate) fn goodbye(reason: Reason, text: &str) -> Bytes {
    frame(Kind::Goodbye(proto::Goodbye {
        reason: reason.into(),
        text: text.to_owned(),
    }))
}

pub(crate) fn notice(kind: proto::NoticeKind, text: &str) -> Bytes {
    frame(Kind::Notice(proto::Notice {
        kind: kind.into(),
        text: text.to_owned(),
    }))
}

pub(crate) fn member(sender: SenderId, announcement: &[u8]) -> proto::Member {
    proto::Member {
        sender: sender.get().into(),
        announcement: announcement.to_vec(),
    }
}

pub(crate) fn member_joined(sender: SenderId, announcement: &[u8]) -> Bytes {
    frame(Kind::MemberJoined(proto::MemberJoined {
        member: Some(member(sender, announcement)),
    }))
}

pub(crate) fn member_left(sender: SenderId) -> Bytes {
    frame(Kind::MemberLeft(proto::MemberLeft {
        sender: sender.get().into(),
    }))
}

pub(crate) fn peer_message(from: SenderId, payload: Vec<u8>) -> Bytes {
    frame(Kind::PeerMessage(proto::PeerMessage {
        sender: from.get().into(),
        payload,
    }))
}

/// The answer to a join: everybody in the room, in as many messages as they take. Announcements are shared, and
/// written into a message when its turn comes.
#[derive(Debug)]
pub(crate) struct Roster {
    head: Head,
    members: vec::IntoIter<Entry>,
    is_told: bool,
}

/// Whom a [`Roster`] answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Head {
    /// A member of ours.
    Room {
        /// Its join.
        request: u32,
        /// Its number.
        sender: SenderId,
        /// Of the room's lease.
        epoch: Epoch,
    },
    /// A relay, for a member of its own.
    Trunk {
        /// What stands for that member.
        handle: u16,
        /// Its number.
        sender: SenderId,
        /// The roster has everybody in the room who is not the relay's own.
        whole: bool,
    },
}

/// Somebody in a room.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) sender: SenderId,
    /// What stands for it in trunks; for a member of ours, its number again.
    pub(crate) key: u16,
    pub(crate) announcement: Arc<[u8]>,
}

/// As much of a [`Roster`] as fits into a message.
#[derive(Debug)]
pub(crate) struct Part {
    head: Head,
    members: Vec<Entry>,
    more: bool,
}

impl Roster {
    pub(crate) fn new(head: Head, members: Vec<Entry>) -> Self {
        Self {
            head,
            members: members.into_iter(),
            is_told: false,
        }
    }

    /// By what news speak of those in it.
    pub(crate) fn keys(&self) -> Vec<u16> {
        self.members.as_slice().iter().map(|member| member.key).collect()
    }
}

impl List for Roster {
    type Part = Part;

    fn next_part(&mut self) -> Part {
        let mut len = 0;
        let fits = |member: &&Entry| {
            // Ids, tags and lengths around an announcement take 24 bytes at most.
            len += member.announcement.len() + 24;
            len <= MEMBERS_BYTES
        };
        let count = self.members.as_slice().iter().take_while(fits).count();
        let members = self.members.by_ref().take(count).collect();
        let more = !self.members.as_slice().is_empty();
        self.is_told = !more;
        Part {
            head: self.head,
            members,
            more,
        }
    }

    fn is_told(&self) -> bool {
        self.is_told
    }

    fn bytes(&self) -> usize {
        size_of_val(self.members.as_slice())
    }

    fn shorten(&mut self) {
        self.members = Vec::new().into_iter();
    }
}

impl Part {
    pub(crate) fn frame(&self) -> Bytes {
        let more = self.more;
        frame(match self.head {
            Head::Room {
                request,
                sender,
                epoch,
            } => Kind::Joined(proto::Joined {
                request,
                sender: sender.get().into(),
                members: self.members.iter().map(Entry::member).collect(),
                more,
                epoch: epoch.0,
            }),
            Head::Trunk {
                handle,
                sender,
                whole,
            } => Kind::TrunkJoined(proto::TrunkJoined {
                handle: handle.into(),
                sender: sender.get().into(),
                members: self.members.iter().map(Entry::trunk_member).collect(),
                more,
                whole,
            }),
        })
    }
}

impl Entry {
    fn member(&self) -> proto::Member {
        member(self.sender, &self.announcement)
    }

    fn trunk_member(&self) -> proto::TrunkMember {
        trunk_member(self.key, self.sender, &self.announcement)
    }
}

pub(crate) fn trunk_member(handle: u16, sender: SenderId, announcement: &[u8]) -> proto::TrunkMember {
    proto::TrunkMember {
        handle: handle.into(),
        sender: sender.get().into(),
        announcement: announcement.to_vec(),
    }
}

pub(crate) fn trunk_member_joined(room: &RoomName, member: proto::TrunkMember, epoch: Epoch) -> Bytes {
    frame(Kind::TrunkMemberJoined(proto::TrunkMemberJoined {
        room: room.to_string(),
        member: Some(member),
        epoch: epoch.0,
    }))
}

pub(crate) fn trunk_member_left(room: &RoomName, handle: u16) -> Bytes {
    frame(Kind::TrunkMemberLeft(proto::TrunkMemberLeft {
        room: room.to_string(),
        handle: handle.into(),
    }))
}

pub(crate) fn trunk_leave(handle: u16) -> Bytes {
    frame(Kind::TrunkLeave(proto::TrunkLeave {
        handle: handle.into(),
    }))
}

pub(crate) fn trunk_peer_message(from: u16, to: u16, payload: Vec<u8>) -> Bytes {
    frame(Kind::TrunkPeerMessage(proto::TrunkPeerMessage {
        from: from.into(),
        to: to.into(),
        payload,
    }))
}

pub(crate) fn trunk_refused(handle: u16, refusal: &Refusal) -> Bytes {
    frame(Kind::TrunkRefused(proto::TrunkRefused {
        handle: handle.into(),
        reason: refusal.reason.into(),
        text: refusal.text.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(members: u16) -> Roster {
        let sender = |id| SenderId::new(id).unwrap();
        let members = (1..=members).map(|id| Entry {
            sender: sender(id),
            key: id,
            announcement: vec![7; 256].into(),
        });
        let head = Head::Room {
            request: 3,
            sender: sender(9),
            epoch: Epoch::NONE,
        };
        Roster::new(head, members.collect())
    }

    #[test]
    fn a_full_room_is_told_in_several_messages() {
        let mut roster = roster(1_000);
        let mut decoder = signal::Decoder::new();
        let (mut seen, mut told) = (0, roster.is_told());
        while !told {
            let frame = roster.next_part().frame();
            told = roster.is_told();
            assert!(frame.len() < MEMBERS_BYTES + 100);
            decoder.push(&frame);
            let Some(Kind::Joined(joined)) = decoder.next().unwrap().unwrap().kind else {
                panic!()
            };
            assert_eq!(joined.more, !told);
            seen += joined.members.len();
        }
        assert_eq!((seen, roster.bytes()), (1_000, 0));
    }

    #[test]
    fn an_empty_room_is_told_in_one() {
        let mut roster = roster(0);
        assert!(!roster.next_part().more && roster.is_told());
    }
}
