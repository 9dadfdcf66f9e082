//! What no honest relay or member sends.

use wzp_sdk_core::call::{Event, MAX_DATAGRAM};
use wzp_testkit::{Profile, Rng};
use wzp_wire::{
    Datagram, Ping, TrunkWriter,
    signal::{Kind, SignalMessage, message, proto},
};

use crate::room::{Room, config, id};

/// Two members who hear each other.
fn conversation(seed: u64) -> Room {
    let mut room = Room::new(seed);
    room.join(config(), Profile::default());
    room.join(config(), Profile::default());
    room.run(3.0);
    room
}

fn assert_goes_on(room: &mut Room) {
    let before = room.seats[1].remote(id(0)).unwrap().stats;
    room.run(2.0);
    let after = room.seats[1].remote(id(0)).unwrap().stats;
    assert!(
        after.played_ms >= before.played_ms + 1_900,
        "{before:?} {after:?}"
    );
    assert!(
        after.concealed_ms <= before.concealed_ms + 40,
        "{before:?} {after:?}"
    );
}

#[test]
fn malformed_datagrams_are_counted_and_harmless() {
    let mut room = conversation(31);
    let (now, mut rng) = (room.now, Rng::new(31));
    let seat = &mut room.seats[1];
    let mut feed = |bytes: &mut [u8]| {
        let before = *seat.call.counts();
        seat.call.handle_datagram(now, seat.path, bytes);
        let after = *seat.call.counts();
        assert_eq!(after.received, before.received, "{bytes:?}");
        (
            after.malformed - before.malformed,
            after.unopened - before.unopened,
        )
    };
    for bad in [
        &mut [][..],
        &mut [0],
        &mut [9; 30],
        &mut [1, 0],
        &mut [1, 0, 0, 7],
        &mut [2, 3, 0],
    ] {
        assert_eq!(feed(bad).0, 1, "{bad:?}");
    }
    let ping = Ping {
        nonce: [1; 8],
        probe: false,
        sent_us: 0,
    };
    let mut bytes = [0; 48];
    Datagram::Ping(ping).encode(&mut bytes).unwrap();
    assert_eq!(feed(&mut bytes), (0, 0), "a PING is not for the call");

    let mut trunk = [0; 1_400];
    let mut writer = TrunkWriter::new(&mut trunk);
    assert!(writer.push(0, &[1; 40]) && writer.push(1, &[1; 600]));
    let len = writer.finish().unwrap();
    assert_eq!(
        feed(&mut trunk[..len]).0,
        2,
        "nobody's packet, and one that is too long"
    );

    for _ in 0..10_000 {
        let mut noise = vec![0; rng.below(200) as usize];
        rng.fill(&mut noise);
        feed(&mut noise);
    }
    assert_goes_on(&mut room);
}

#[test]
fn packets_that_were_touched_are_counted_and_not_heard() {
    let mut room = conversation(32);
    let now = room.now;
    let [a, b] = &mut room.seats[..] else { panic!() };
    let mut out = [0; MAX_DATAGRAM];
    let mut genuine = 0;
    let before = *b.call.counts();
    for _ in 0..20 {
        a.call.handle_capture(now, &[0.5; 480], 1.0);
        while let Some((_, len)) = a.call.poll_packet(now, &mut out) {
            // The level that relays read, and the tag: nothing of a packet can be changed on its way.
            for at in [4, len - 1] {
                let mut touched = out;
                touched[at] ^= 0x10;
                b.call.handle_datagram(now, b.path, &mut touched[..len]);
            }
            b.call.handle_datagram(now, b.path, &mut out[..len]);
            genuine += 1;
        }
    }
    let after = *b.call.counts();
    assert_eq!(after.received, before.received + genuine);
    assert_eq!(after.unopened, before.unopened + 2 * genuine);
    assert!(
        b.call
            .poll_event()
            .is_some_and(|event| matches!(event, Event::KeyMismatch { .. }))
    );
}

#[test]
fn nonsense_of_the_relay_is_counted_and_harmless() {
    let mut room = conversation(33);
    let nonsense = [
        Kind::Hello(proto::Hello::default()),
        Kind::Welcome(proto::Welcome::default()),
        Kind::Join(proto::Join::default()),
        Kind::Joined(proto::Joined::default()),
        Kind::MemberJoined(proto::MemberJoined::default()),
        Kind::MemberJoined(proto::MemberJoined {
            member: Some(proto::Member::default()),
        }),
        Kind::MemberLeft(proto::MemberLeft { sender: 0 }),
        Kind::MemberLeft(proto::MemberLeft { sender: 70_000 }),
        Kind::PeerMessage(proto::PeerMessage::default()),
        Kind::QualityReport(proto::QualityReport::default()),
        Kind::TrunkLeave(proto::TrunkLeave::default()),
    ];
    let count = nonsense.len() as u64 + 1;
    let now = room.now;
    let path = room.seats[1].path;
    let call = &mut room.seats[1].call;
    call.handle_signal(now, path, SignalMessage { kind: None });
    for kind in nonsense {
        call.handle_signal(now, path, message(kind));
    }
    assert_eq!(call.counts().nonsense, count);
    assert_goes_on(&mut room);
    assert!(!room.seats[1].saw(|event| matches!(event, Event::MemberLeft { .. })));
}

#[test]
fn a_member_in_whose_name_the_relay_lies_is_told_of() {
    let mut room = conversation(34);
    let forged = proto::PeerMessage {
        sender: 1,
        payload: vec![7; 200],
    };
    let stranger = proto::Member {
        sender: 9,
        announcement: vec![7; 200],
    };
    room.say(1, Kind::PeerMessage(forged));
    room.say(
        1,
        Kind::MemberJoined(proto::MemberJoined {
            member: Some(stranger),
        }),
    );
    assert_goes_on(&mut room);
    for liar in [id(0), id(8)] {
        assert!(
            room.seats[1].saw(|event| matches!(event, Event::Misbehaviour { sender, .. } if *sender == liar)),
            "{:?}",
            room.seats[1].events
        );
    }
}

#[test]
fn an_id_given_to_somebody_else_without_a_word_starts_anew() {
    let mut room = conversation(35);
    let now = room.now;
    let Some(Kind::Join(join)) = room
        .call(config(), 77)
        .0
        .poll_signal()
        .and_then(|(_, join)| join.kind)
    else {
        panic!("no join");
    };
    let member = Some(proto::Member {
        sender: 1,
        announcement: join.announcement,
    });
    let path = room.seats[1].path;
    let call = &mut room.seats[1].call;
    call.handle_signal(
        now,
        path,
        message(Kind::MemberJoined(proto::MemberJoined { member })),
    );
    assert!(
        room.seats[1].remote(id(0)).is_none(),
        "who was there is not heard on"
    );
    room.run(1.0);
    assert!(room.seats[1].saw(|event| matches!(event, Event::MemberLeft { sender, .. } if *sender == id(0))));
    assert!(room.seats[1].remote(id(0)).is_none());
}
