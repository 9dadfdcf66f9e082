//! Messages become types that cannot be wrong, or a reason to refuse them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use wzp_wire::signal::{
    Hello, Invalid, Join, Joined, LaneAccept, LaneOffer, PeerMessage, Reason, Role, TrunkJoin, TrunkJoined,
    TrunkPeerMessage, Welcome, proto,
};

fn hello() -> proto::Hello {
    proto::Hello {
        version: 1,
        software: "wzp/0.1.0".to_owned(),
        identity_key: vec![1; 32],
        proof: vec![2; 64],
        grant: "a.b.c".to_owned(),
        role: Role::Member.into(),
        lane: Some(proto::LaneOffer {
            number: 1,
            lane_id: vec![0xc5; 8],
            aeads: vec![1, 2],
        }),
    }
}

fn refused<T>(result: Result<T, Invalid>) -> (&'static str, Reason) {
    let invalid = result.err().unwrap();
    (invalid.field, invalid.reason)
}

#[test]
fn hello_survives_and_each_wrong_field_is_named() {
    assert_eq!(proto::Hello::from(Hello::try_from(hello()).unwrap()), hello());
    let with = |change: fn(&mut proto::Hello)| {
        let mut bad = hello();
        change(&mut bad);
        refused(Hello::try_from(bad))
    };
    assert_eq!(with(|h| h.version = 2), ("version", Reason::Version));
    assert_eq!(with(|h| h.role = 0), ("role", Reason::Role));
    assert_eq!(with(|h| h.role = 99), ("role", Reason::Role));
    assert_eq!(
        with(|h| h.grant = "x".repeat(4_097)),
        ("grant", Reason::GrantInvalid)
    );
    assert_eq!(
        with(|h| h.identity_key.push(0)),
        ("identity_key", Reason::Malformed)
    );
    assert_eq!(with(|h| h.proof.truncate(63)), ("proof", Reason::Malformed));
    assert_eq!(
        with(|h| h.software = "a\nb".to_owned()),
        ("software", Reason::Malformed)
    );
    assert_eq!(
        with(|h| h.software = "x".repeat(65)),
        ("software", Reason::Malformed)
    );
    assert_eq!(
        with(|h| h.lane.as_mut().unwrap().lane_id.clear()),
        ("lane_id", Reason::Malformed)
    );
}

#[test]
fn lanes_have_ids_of_1_to_20_bytes_and_16_bit_numbers() {
    let offer = |number, id, aeads| {
        LaneOffer::try_from(proto::LaneOffer {
            number,
            lane_id: vec![0xff; id],
            aeads: vec![1; aeads],
        })
    };
    assert_eq!(offer(65_535, 20, 8).unwrap().lane_id.len(), 20);
    assert_eq!(refused(offer(65_536, 8, 1)).0, "number");
    assert_eq!(refused(offer(1, 21, 1)).0, "lane_id");
    assert_eq!(refused(offer(1, 8, 0)).0, "aeads");
    assert_eq!(refused(offer(1, 8, 9)).0, "aeads");
    let accept = proto::LaneAccept {
        number: 1,
        lane_id: vec![0xc5; 8],
        aead: 2,
    };
    assert_eq!(
        proto::LaneAccept::from(LaneAccept::try_from(accept.clone()).unwrap()),
        accept
    );
}

#[test]
fn welcome_takes_both_families_and_writes_ipv4_short() {
    let welcome = |ip: &[u8]| proto::Welcome {
        relay_boot_id: vec![7; 8],
        observed_ip: ip.to_vec(),
        observed_port: 4_433,
        ..Default::default()
    };
    let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 1]].concat();
    for ip in [&[192, 0, 2, 1][..], &mapped] {
        let read = Welcome::try_from(welcome(ip)).unwrap();
        assert_eq!(read.observed, "192.0.2.1:4433".parse().unwrap());
        assert_eq!(proto::Welcome::from(read).observed_ip, [192, 0, 2, 1]);
    }
    assert_eq!(refused(Welcome::try_from(welcome(&[1; 5]))).0, "observed_ip");
    assert_eq!(
        refused(Welcome::try_from(proto::Welcome {
            observed_port: 65_536,
            ..welcome(&[1; 4])
        }))
        .0,
        "observed_port"
    );
}

#[test]
fn join_checks_the_name_and_the_announcement() {
    let join = |room: &str, announcement| {
        Join::try_from(proto::Join {
            request: 1,
            room: room.to_owned(),
            announcement: vec![1; announcement],
            echo: false,
            standby: false,
        })
    };
    assert_eq!(join("kitchen", 256).unwrap().room.as_str(), "kitchen");
    assert_eq!(refused(join("", 1)), ("room", Reason::RoomName));
    assert_eq!(refused(join("a\0", 1)), ("room", Reason::RoomName));
    assert_eq!(refused(join("a", 0)), ("announcement", Reason::Malformed));
    assert_eq!(refused(join("a", 257)), ("announcement", Reason::Malformed));
}

#[test]
fn nobody_is_not_a_member() {
    let member = |sender| proto::Member {
        sender,
        announcement: vec![1],
    };
    let joined = |sender, members| {
        Joined::try_from(proto::Joined {
            request: 1,
            sender,
            members,
            more: true,
            epoch: 3,
        })
    };
    let read = joined(5, vec![member(6), member(65_535)]).unwrap();
    assert_eq!(proto::Joined::from(read).members, [member(6), member(65_535)]);
    assert_eq!(refused(joined(0, vec![])).0, "sender");
    assert_eq!(refused(joined(5, vec![member(65_536)])).0, "sender");
}

#[test]
fn peer_messages_are_1_to_4096_bytes() {
    let message = |len| {
        PeerMessage::try_from(proto::PeerMessage {
            sender: 3,
            payload: vec![1; len],
        })
    };
    assert_eq!(message(4_096).unwrap().payload.len(), 4_096);
    assert_eq!(refused(message(0)).0, "payload");
    assert_eq!(refused(message(4_097)).0, "payload");
}

#[test]
fn handles_say_whose_member_it_is_by_the_top_bit() {
    let join = |handle, preferred_sender| proto::TrunkJoin {
        handle,
        room: "kitchen".to_owned(),
        announcement: vec![1],
        identity_key: vec![1; 32],
        grant: String::new(),
        preferred_sender,
        entered: 1_800_000_000,
    };
    assert_eq!(
        proto::TrunkJoin::from(TrunkJoin::try_from(join(9, 0)).unwrap()),
        join(9, 0)
    );
    assert_eq!(refused(TrunkJoin::try_from(join(0x8000, 0))).0, "handle");
    assert_eq!(
        refused(TrunkJoin::try_from(join(9, 65_536))).0,
        "preferred_sender"
    );
    let joined = |handle, whole| proto::TrunkJoined {
        handle: 9,
        sender: 4,
        members: vec![proto::TrunkMember {
            handle,
            sender: 5,
            announcement: vec![1],
        }],
        more: false,
        whole,
    };
    for whole in [false, true] {
        assert_eq!(
            proto::TrunkJoined::from(TrunkJoined::try_from(joined(0x8001, whole)).unwrap()),
            joined(0x8001, whole)
        );
    }
    assert_eq!(refused(TrunkJoined::try_from(joined(1, true))).0, "handle");
    let message = proto::TrunkPeerMessage {
        from: 1,
        to: 0x8001,
        payload: vec![1],
    };
    assert_eq!(
        proto::TrunkPeerMessage::from(TrunkPeerMessage::try_from(message.clone()).unwrap()),
        message
    );
}
