//! Signalling messages as the relay writes them, framed.

use bytes::Bytes;
use wzp_relay_core::admission::Refusal;
use wzp_wire::{
    RoomName, SenderId,
    signal::{self, Kind, Reason, proto},
};

/// Longest announcement list in one message, well below the limit of a message.
const MEMBERS_BYTES: usize = 48 * 1_024;

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

/// The answer to a join, in as many messages as the members take.
pub(crate) fn joined(request: u32, sender: SenderId, members: Vec<proto::Member>) -> Vec<Bytes> {
    let parts = split(members, |member| member.announcement.len());
    let last = parts.len() - 1;
    let parts = parts.into_iter().enumerate().map(|(at, members)| {
        frame(Kind::Joined(proto::Joined {
            request,
            sender: sender.get().into(),
            members,
            more: at < last,
        }))
    });
    parts.collect()
}

pub(crate) fn trunk_joined(handle: u16, sender: SenderId, members: Vec<proto::TrunkMember>) -> Vec<Bytes> {
    let parts = split(members, |member| member.announcement.len());
    let last = parts.len() - 1;
    let parts = parts.into_iter().enumerate().map(|(at, members)| {
        frame(Kind::TrunkJoined(proto::TrunkJoined {
            handle: handle.into(),
            sender: sender.get().into(),
            members,
            more: at < last,
        }))
    });
    parts.collect()
}

pub(crate) fn trunk_member(handle: u16, sender: SenderId, announcement: &[u8]) -> proto::TrunkMember {
    proto::TrunkMember {
        handle: handle.into(),
        sender: sender.get().into(),
        announcement: announcement.to_vec(),
    }
}

pub(crate) fn trunk_member_joined(room: &RoomName, member: proto::TrunkMember) -> Bytes {
    frame(Kind::TrunkMemberJoined(proto::TrunkMemberJoined {
        room: room.to_string(),
        member: Some(member),
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

/// At least one part, each of which fits into a message.
fn split<M>(members: Vec<M>, announcement_len: impl Fn(&M) -> usize) -> Vec<Vec<M>> {
    let mut parts = vec![Vec::new()];
    let mut len = 0;
    for member in members {
        // Ids, tags and lengths around an announcement take 24 bytes at most.
        let takes = announcement_len(&member) + 24;
        if len + takes > MEMBERS_BYTES {
            parts.push(Vec::new());
            len = 0;
        }
        len += takes;
        if let Some(part) = parts.last_mut() {
            part.push(member);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_room_is_told_in_several_messages() {
        let members = (1..=1_000)
            .map(|id| member(SenderId::new(id).unwrap(), &[7; 1_024]))
            .collect();
        let frames = joined(3, SenderId::new(9).unwrap(), members);
        let mut decoder = signal::Decoder::new();
        let mut seen = 0;
        for (at, frame) in frames.iter().enumerate() {
            decoder.push(frame);
            let Some(Kind::Joined(joined)) = decoder.next().unwrap().unwrap().kind else {
                panic!()
            };
            assert_eq!(joined.more, at + 1 < frames.len());
            seen += joined.members.len();
        }
        assert_eq!(seen, 1_000);
    }

    #[test]
    fn an_empty_room_is_told_in_one() {
        assert_eq!(joined(3, SenderId::new(9).unwrap(), Vec::new()).len(), 1);
    }
}
