//! Members whose relay was cut off from the one behind it.

use wzp_sdk_core::{call::Event, e2ee::Misbehaviour};
use wzp_testkit::Profile;
use wzp_wire::signal::{
    Kind, Reason,
    proto::{self, NoticeKind},
};

use crate::room::{Room, config, id};

/// Members behind the relay that is cut off, and the one who is not.
const BEHIND: [usize; 2] = [0, 1];
const BEYOND: usize = 2;

fn notice(room: &mut Room, kind: NoticeKind) {
    for to in BEHIND {
        let text = String::new();
        room.say(
            to,
            Kind::Notice(proto::Notice {
                kind: kind.into(),
                text,
            }),
        );
    }
}

fn cut(room: &mut Room) {
    notice(room, NoticeKind::UpstreamLost);
    for behind in BEHIND {
        room.part(BEYOND, behind);
        room.part(behind, BEYOND);
    }
}

fn joined(room: &Room, seat: usize) -> usize {
    let joined = |event: &&Event| matches!(event, Event::Joined { .. });
    room.seats[seat].events.iter().filter(joined).count()
}

fn full_room() -> Room {
    let mut room = Room::new(31);
    for _ in 0..3 {
        room.join(config(), Profile::default());
    }
    room.run(3.0);
    room
}

fn assert_all_hear_all(room: &mut Room) {
    for me in 0..3 {
        for other in (0..3).filter(|other| *other != me) {
            let before = room.seats[me]
                .remote(id(other))
                .map(|remote| remote.stats.played_ms);
            room.run(1.0);
            let after = room.seats[me]
                .remote(id(other))
                .map(|remote| remote.stats.played_ms);
            assert!(after > before.or(Some(0)), "{me} {other}: {before:?} {after:?}");
        }
    }
}

#[test]
fn after_a_long_outage_everybody_is_heard_again_under_a_new_announcement() {
    let mut room = full_room();
    assert_all_hear_all(&mut room);
    cut(&mut room);
    room.run(16.0);
    assert!(room.seats[BEYOND].remote(id(0)).is_none());
    assert!(room.seats[0].remote(id(BEYOND)).is_none());

    notice(&mut room, NoticeKind::UpstreamRestored);
    for behind in BEHIND {
        room.introduce(BEYOND, behind);
        room.introduce(behind, BEYOND);
    }
    room.run(0.05);
    let replay = |event: &Event| {
        matches!(
            event,
            Event::Misbehaviour {
                why: Misbehaviour::ReplayedHandshake,
                ..
            }
        )
    };
    assert!(room.seats[BEYOND].saw(replay), "the old announcement is refused");
    room.run(3.0);
    assert_eq!([joined(&room, 0), joined(&room, 1), joined(&room, 2)], [2, 2, 1]);
    assert_all_hear_all(&mut room);
    for me in 0..3 {
        for other in (0..3).filter(|other| *other != me) {
            let proved =
                |event: &&Event| matches!(event, Event::MemberJoined { sender, .. } if *sender == id(other));
            let left =
                |event: &&Event| matches!(event, Event::MemberLeft { sender, .. } if *sender == id(other));
            let events = &room.seats[me].events;
            let (proved, left) = (
                events.iter().filter(proved).count(),
                events.iter().filter(left).count(),
            );
            assert!(proved == left + 1 && left >= 1, "{me} {other}: {proved} {left}");
        }
    }
}

#[test]
fn after_a_short_outage_nothing_is_changed() {
    let mut room = full_room();
    notice(&mut room, NoticeKind::UpstreamLost);
    room.run(9.0);
    notice(&mut room, NoticeKind::UpstreamRestored);
    room.run(3.0);
    assert_eq!([joined(&room, 0), joined(&room, 1)], [1, 1]);
    assert_all_hear_all(&mut room);
}

#[test]
fn upstream_that_was_never_lost_is_nothing_to_come_back_from() {
    let mut room = full_room();
    for _ in 0..3 {
        notice(&mut room, NoticeKind::UpstreamRestored);
        room.run(20.0);
    }
    assert_eq!([joined(&room, 0), joined(&room, 1)], [1, 1]);
}

#[test]
fn relay_that_will_not_have_us_back_says_so_and_we_are_outside() {
    let mut room = full_room();
    room.drops = |_, _, kind| matches!(kind, Kind::Joined(_));
    cut(&mut room);
    room.run(20.0);
    notice(&mut room, NoticeKind::UpstreamRestored);
    room.run(2.0);
    let refused = proto::Refused {
        request: 1,
        reason: Reason::TooManyJoins.into(),
        ..proto::Refused::default()
    };
    let sent = room.seats[0].sent.len();
    room.say(0, Kind::Refused(refused));
    room.run(2.0);
    assert!(room.seats[0].saw(|event| matches!(event, Event::Refused { .. })));
    assert_eq!(room.seats[0].call.sender_id(), None);
    assert_eq!(room.seats[0].sent.len(), sent, "nothing is sent from outside");
}
