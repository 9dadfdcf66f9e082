//! Who comes, who is heard, who goes.

use std::time::Duration;

use wzp_sdk_core::call::{Config, Event};
use wzp_testkit::{Grade, Loss, Profile};
use wzp_wire::signal::{Kind, Reason, proto};

use crate::room::{Room, config, id};

#[test]
fn everybody_verifies_and_hears_everybody_across_bad_links() {
    let mut room = Room::new(1);
    for _ in 0..3 {
        room.join(config(), Grade::Weak4g.profile());
    }
    room.run(2.0);
    room.join(config(), Grade::Slow3g.profile());
    room.run(20.0);
    for me in 0..4 {
        let seat = &mut room.seats[me];
        assert!(seat.saw(|event| *event
            == Event::Joined {
                sender: id(me),
                members: me
            }));
        assert!(seat.power > 0.01, "{me} hears nothing");
        for other in (0..4).filter(|other| *other != me) {
            assert!(
                seat.saw(|event| matches!(event, Event::MemberJoined { sender, .. } if *sender == id(other))),
                "{me} did not verify {other}"
            );
            let stats = seat.remote(id(other)).unwrap().stats;
            assert!(stats.played_ms > 17_000, "{me} {other}: {stats:?}");
            assert!(
                stats.concealed_ms * 10 < stats.played_ms,
                "{me} {other}: {stats:?}"
            );
        }
        let counts = seat.call.counts();
        assert_eq!((counts.malformed, counts.nonsense, counts.unsealed), (0, 0, 0));
        assert!(!seat.saw(|event| matches!(event, Event::Misbehaviour { .. } | Event::Refused { .. })));
    }
}

#[test]
fn members_are_named_by_the_identity_that_they_proved() {
    let mut room = Room::new(2);
    room.join(config(), Profile::default());
    room.join(config(), Profile::default());
    room.run(2.0);
    let mut proved = Vec::new();
    room.seats[0]
        .call
        .remotes(|public, remote| proved.push((remote.sender, public.map(|public| public.fingerprint()))));
    let [(sender, Some(fingerprint))] = proved[..] else {
        panic!("{proved:?}");
    };
    assert_eq!(sender, id(1));
    assert!(room.seats[0].saw(|event| *event == Event::MemberJoined { sender, fingerprint }));
}

#[test]
fn whoever_leaves_is_not_heard_and_hears_nothing_more() {
    let mut room = Room::new(3);
    for _ in 0..3 {
        room.join(config(), Profile::default());
    }
    room.run(4.0);
    room.seats[0].call.leave();
    room.run(0.1);
    let said = room.seats[0].sent.last().cloned().unwrap();
    room.run(2.0);
    let received = room.seats[0].call.counts().received;
    let after = room.seats[1].sent.last().cloned().unwrap();
    for (to, packet) in [(1, &said), (2, &said), (0, &after)] {
        let now = room.now;
        let seat = &mut room.seats[to];
        let before = seat.call.counts().received;
        seat.call.handle_datagram(now, seat.path, &mut packet.clone());
        assert_eq!(seat.call.counts().received, before, "{to} opened it");
    }
    assert_eq!(room.seats[0].call.counts().received, received);
    for me in [1, 2] {
        let seat = &mut room.seats[me];
        assert!(seat.saw(|event| matches!(event, Event::MemberLeft { sender, .. } if *sender == id(0))));
        assert!(seat.remote(id(0)).is_none(), "{me}");
        let other = seat.remote(id(3 - me)).unwrap().stats;
        assert!(
            other.concealed_ms < 100,
            "the change of keys is not heard: {other:?}"
        );
    }
}

#[test]
fn silence_of_everybody_is_silence() {
    let mut room = Room::new(4);
    room.join(config(), Profile::default());
    room.join(config(), Profile::default());
    room.run(3.0);
    assert!(room.seats[0].power > 0.01);
    room.seats[1].talks = false;
    room.run(2.0);
    assert!(room.seats[0].power < 1e-6, "{}", room.seats[0].power);
    assert!(room.seats[1].power > 0.01);
}

#[test]
fn a_member_whose_key_was_lost_is_heard_in_the_end() {
    let mut room = Room::new(5);
    room.drops = |from, to, kind| matches!(kind, Kind::PeerMessage(_)) && from == Some(id(0)) && to == id(1);
    room.join(config(), Profile::default());
    room.join(config(), Profile::default());
    room.run(4.0);
    let deaf = room.seats[1].remote(id(0)).unwrap();
    assert_eq!(deaf.stats.received, 0, "it was heard without a key");
    assert!(deaf.key_mismatch > 100, "{deaf:?}");
    let told = |room: &Room| {
        room.quality_reports
            .iter()
            .filter(|(from, _)| *from == 1)
            .map(|(_, report)| report.key_mismatch)
            .sum::<u32>()
    };
    assert!(told(&room) > 100, "the relay knows of {}", told(&room));
    assert!(room.seats[1].saw(
        |event| matches!(event, Event::KeyMismatch { sender, count } if *sender == id(0) && *count > 0)
    ));

    room.drops = |_, _, _| false;
    room.run(4.0);
    let stats = room.seats[1].remote(id(0)).unwrap();
    assert!(
        room.seats[0]
            .saw(|event| matches!(event, Event::Unheard { sender, count } if *sender == id(1) && *count > 0))
    );
    assert!(stats.stats.played_ms > 1_500, "{stats:?}");
    assert!(room.seats[1].power > 0.01);
    assert_eq!(told(&room), stats.key_mismatch, "each packet is told of once");
}

#[test]
fn counts_of_everybody_are_told_to_the_relay() {
    let losing = Profile {
        loss: Loss::Independent(0.1),
        ..Profile::default()
    };
    let mut room = Room::new(8);
    room.join(config(), Profile::default());
    room.join(config(), losing);
    room.join(config(), losing);
    room.seats
        .iter_mut()
        .for_each(|seat| seat.down.set_profile(Profile::default()));
    room.run(20.0);
    let mut missing = 0;
    room.seats[0]
        .call
        .remotes(|_, remote| missing += remote.stats.lost.max(remote.stats.recovered));
    let told: u32 = room
        .quality_reports
        .iter()
        .filter(|(from, _)| *from == 0)
        .map(|(_, report)| report.fec_recovered + report.fec_unrecovered)
        .sum();
    assert!(
        missing > 100 && u64::from(told) * 10 > missing * 9,
        "{told} of {missing}"
    );
}

#[test]
fn echo_is_heard_by_whoever_asked_for_it_and_steers_nothing() {
    let mut room = Room::new(6);
    let echo = Config {
        echo: true,
        ..config()
    };
    room.join(echo, Profile::default());
    room.join(config(), Profile::default());
    room.seats[1].talks = false;
    room.run(8.0);
    let own = room.seats[0].remote(id(0)).unwrap().stats;
    assert!(own.played_ms > 6_000 && own.concealed_ms < 100, "{own:?}");
    assert!(room.seats[0].power > 0.01);
    assert!(room.seats[1].remote(id(1)).is_none());
    assert!(!room.seats[0].saw(|event| matches!(event, Event::Tier { .. })));
}

#[test]
fn what_the_relay_says_to_people_reaches_them() {
    let mut room = Room::new(7);
    room.join(config(), Profile::default());
    room.run(0.1);
    let text = String::from("moving house");
    room.say(
        0,
        Kind::Notice(proto::Notice {
            kind: proto::NoticeKind::Unspecified.into(),
            text: text.clone(),
        }),
    );
    room.say(
        0,
        Kind::Goodbye(proto::Goodbye {
            reason: Reason::ShuttingDown.into(),
            text: text.clone(),
        }),
    );
    room.run(0.1);
    let kind = proto::NoticeKind::Unspecified;
    let [.., notice, goodbye] = &room.seats[0].events[..] else {
        panic!("{:?}", room.seats[0].events);
    };
    assert_eq!(
        *notice,
        Event::Notice {
            kind,
            text: text.clone()
        }
    );
    let reason = Reason::ShuttingDown;
    assert_eq!(*goodbye, Event::Refused { reason, text });
}

/// As after a suspended machine: nobody ran, and every timer is long over.
#[test]
fn a_clock_that_jumps_an_hour_ahead_costs_a_moment_and_no_member() {
    let mut room = Room::new(32);
    for _ in 0..3 {
        room.join(config(), Profile::default());
    }
    room.run(3.0);
    for _ in 0..3 {
        room.now += Duration::from_secs(3_600);
        room.run(5.0);
        let played = |room: &mut Room| -> Vec<u64> {
            (0..3)
                .flat_map(|me| {
                    (0..3)
                        .filter(move |other| *other != me)
                        .map(move |other| (me, other))
                })
                .map(|(me, other)| room.seats[me].remote(id(other)).unwrap().stats.played_ms)
                .collect()
        };
        let before = played(&mut room);
        room.run(1.0);
        for (before, after) in before.into_iter().zip(played(&mut room)) {
            assert!(after >= before + 900, "{before} {after}");
        }
    }
}
