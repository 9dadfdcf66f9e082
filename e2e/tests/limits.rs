//! Whoever wants more than is good for the others is told so, and the others do not notice.

use std::time::Duration;

use quinn::ConnectionError;
use tokio::time;
use wzp_e2e::{beside::Beside, member::Guest, relay::Relay, soon, wire, wire::Wire};
use wzp_identity::{Identity, Phrase};
use wzp_sdk::{ConnectError, Fault, JoinError};
use wzp_wire::{
    SenderId,
    signal::{Kind, Reason, proto},
};

/// From the first packet to a good Hello; the rest is for a busy machine.
const SAYS_HELLO_WITHIN: Duration = Duration::from_secs(12);
const PER_IDENTITY: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn two_members_with_one_identity_are_two_members() {
    let relay = Relay::start(&[]);
    let identity = Identity::from_phrase(&Phrase::from_seed(&[7; 32]));
    let guest = |hertz| Guest {
        identity: Some(identity.clone()),
        ..Guest::saying(hertz)
    };
    let first = guest(440.0).join(&relay).await;
    let second = guest(700.0).join(&relay).await;
    let third = Guest::default().join(&relay).await;
    assert_ne!(first.call.sender(), second.call.sender());
    for hertz in [440.0, 700.0] {
        third.hears(hertz).await;
    }
    first.hears(700.0).await;
    second.hears(440.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_identity_has_so_many_connections_and_no_more() {
    let relay = Relay::start(&[]);
    let identity = Identity::from_phrase(&Phrase::from_seed(&[7; 32]));
    let guest = || Guest {
        identity: Some(identity.clone()),
        ..Guest::default()
    };
    let mut clients = Vec::new();
    for _ in 0..PER_IDENTITY {
        clients.push(guest().connect(&relay).await.unwrap());
    }
    let Err(error) = guest().connect(&relay).await else {
        panic!("one too many was let in");
    };
    assert_eq!(error.fault(), Fault::Refused);
    assert!(
        matches!(
            error,
            ConnectError::Refused {
                reason: Reason::TooManyConnections,
                ..
            }
        ),
        "{error}"
    );
    Guest::default().connect(&relay).await.unwrap();
    let gone = clients.pop().unwrap();
    gone.close().await;
    relay
        .until("wzp_relay_sessions{role=\"member\"}", |open| {
            open <= PER_IDENTITY as f64 - 1.0
        })
        .await;
    guest().connect(&relay).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_ten_thousand_rooms_is_refused_with_reasons() {
    let relay = Relay::start(&[]);
    let mut beside = Beside::start(&relay).await;
    let mut greedy = Wire::start(relay.address).await;
    let (mut joined, mut reasons) = (0, Vec::new());
    for n in 0..10_000 {
        match greedy.join(&format!("room {n}")).await {
            Ok(_) => {
                joined += 1;
                greedy.leave().await;
            }
            Err(reason) => reasons.push(reason),
        }
        if greedy.goodbye.is_some() || greedy.is_over() {
            break;
        }
    }
    // 30 a minute and as many at once, then patience is asked for, and in the end is over.
    assert!((30..90).contains(&joined), "{joined}");
    assert_eq!(reasons.first(), Some(&Reason::TooManyJoins));
    assert!(
        greedy
            .refused
            .iter()
            .all(|refused| refused.retry_after_ms > 0 && !refused.text.is_empty())
    );
    assert_eq!(greedy.goodbye, Some(Reason::MessageRate));
    assert!(relay.refused("too_many_joins") > 100.0);
    assert_eq!(relay.refused("message_rate"), 1.0);
    relay.until("wzp_relay_rooms", |rooms| rooms == 1.0).await;
    beside.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shakes_hands_without_end_is_refused_and_so_told() {
    let relay = Relay::start(&["--handshakes-per-prefix", "2"]);
    let mut beside = Beside::start(&relay).await;
    let socket = wire::socket();
    let hands: Vec<_> = (0..300)
        .map(|_| tokio::spawn(wire::dial(&socket, relay.address)))
        .collect();
    let mut refused = 0;
    for hand in hands {
        match soon("handshake", hand).await.unwrap() {
            Ok(_) => {}
            Err(ConnectionError::ConnectionClosed(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    // 10 at once before and 10 after the proof of the address, and 2 a second.
    assert!((200..300).contains(&refused), "{refused}");
    assert!(relay.metric("wzp_relay_handshakes_total{result=\"retry\"}") > 200.0);
    assert_eq!(relay.refused("too_many_handshakes"), f64::from(refused));
    let Err(error) = Guest::default().connect(&relay).await else {
        panic!("one too many was let in");
    };
    assert!(
        matches!(
            error,
            ConnectError::Refused {
                reason: Reason::TooManyHandshakes,
                ..
            }
        ),
        "{error}"
    );
    beside.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_and_relays_have_room_for_so_many() {
    let relay = Relay::start(&["--max-members", "2", "--max-rooms", "2"]);
    let guest = |room| Guest {
        room,
        ..Guest::saying(440.0)
    };
    let _in = [
        guest("a").join(&relay).await,
        guest("a").join(&relay).await,
        guest("b").join(&relay).await,
    ];
    for (room, expected) in [("a", Reason::RoomFull), ("c", Reason::TooManyRooms)] {
        let client = guest(room).connect(&relay).await.unwrap();
        match guest(room).join_with(client).await {
            Err(JoinError::Refused { reason, text }) => {
                assert_eq!(reason, expected);
                assert!(!text.is_empty());
            }
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("one too many is in {room}"),
        }
    }
    guest("b").join(&relay).await.hears(440.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_cut_after_its_time() {
    let relay = Relay::start(&[]);
    let mut beside = Beside::start(&relay).await;
    let (_socket, silent) = wire::connect(relay.address).await;
    let silent = silent.unwrap();
    let (_socket, half) = wire::connect(relay.address).await;
    let half = half.unwrap();
    let (mut send, _recv) = half.open_bi().await.unwrap();
    send.write_all(&[0, 0, 1, 0, 1]).await.unwrap();
    for connection in [silent, half] {
        let end = time::timeout(SAYS_HELLO_WITHIN, connection.closed()).await;
        let Ok(ConnectionError::ApplicationClosed(close)) = end else {
            panic!("{end:?}");
        };
        assert_eq!(close.error_code, quinn::VarInt::from_u32(Reason::Timeout as u32));
        assert!(!close.reason.is_empty());
    }
    assert_eq!(relay.refused("timeout"), 2.0);
    beside.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_floods_with_messages_is_put_out() {
    let relay = Relay::start(&[]);
    let mut beside = Beside::start(&relay).await;
    let mut flooder = Wire::start(relay.address).await;
    flooder.join("beside").await.unwrap();
    let mut sent = 0;
    while sent < 100_000 && flooder.say(Kind::Keepalive(proto::Keepalive {})).await {
        sent += 1;
    }
    flooder
        .run_until("goodbye", |wire| wire.goodbye.is_some() || wire.is_over())
        .await;
    assert_eq!(flooder.goodbye, Some(Reason::MessageRate));
    assert!(relay.metric("wzp_relay_signal_messages_total") < 10_000.0);
    relay.until("wzp_relay_members", |members| members == 2.0).await;
    beside.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_floods_with_media_is_limited() {
    let relay = Relay::start(&[]);
    let mut beside = Beside::start(&relay).await;
    let mut flooder = Wire::start(relay.address).await;
    let mut listener = Wire::start(relay.address).await;
    let me = flooder.join("flood").await.unwrap();
    listener.join("flood").await.unwrap();
    let mut packet = [0x55; 100];
    packet[..4].copy_from_slice(&[0x81, 0xf0, 0, 0]);
    let mut every = time::interval(Duration::from_millis(10));
    // 5,000 a second, where 400 are allowed.
    let flood = async {
        for _ in 0..300 {
            every.tick().await;
            for _ in 0..50 {
                flooder.send_media(me, &packet);
            }
            flooder.run_for(Duration::ZERO).await;
        }
    };
    tokio::join!(flood, listener.run_for(Duration::from_secs(4)));
    relay
        .until("wzp_relay_packets_dropped_total{reason=\"rate\"}", |dropped| {
            dropped > 10_000.0
        })
        .await;
    let heard = listener.heard.len();
    assert!((100..5_000).contains(&heard), "{heard}");
    assert!(!flooder.is_over());
    beside.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_talks_nonsense_harms_nobody() {
    let relay = Relay::start(&[]);
    let mut beside = Beside::start(&relay).await;
    let mut member = Wire::start(relay.address).await;
    let nobody = SenderId::new(4_711).unwrap();
    // Before it is in a room, and in the name of others.
    member.send_media(nobody, &[0x81, 0xf0, 0, 0, 1, 2, 3]);
    let dropped = |reason| format!("wzp_relay_packets_dropped_total{{reason=\"{reason}\"}}");
    relay.until(&dropped("no_room"), |count| count == 1.0).await;
    member.join("beside").await.unwrap();
    member.send_media(nobody, &[0x81, 0xf0, 0, 0, 1, 2, 3]);
    relay.until(&dropped("sender"), |count| count == 1.0).await;
    for nonsense in [
        &[9, 9, 9][..],
        &[1, 0, 0, 1],
        &[1, 0, 1],
        &[2, 3, 0, 1],
        &[3, 1],
        &[0, 0],
    ] {
        member.send_datagram(nonsense);
    }
    relay.until(&dropped("decode"), |count| count == 6.0).await;
    // A message to nobody, then one that is none.
    let message = proto::PeerMessage {
        sender: 4_711,
        payload: vec![1; 100],
    };
    assert!(member.say(Kind::PeerMessage(message)).await);
    assert!(!member.is_over());
    soon("nonsense", member.send.write_all(&[0xff; 64]))
        .await
        .unwrap();
    member
        .run_until("goodbye", |wire| wire.goodbye.is_some() || wire.is_over())
        .await;
    assert_eq!(member.goodbye, Some(Reason::Malformed));
    relay.until("wzp_relay_members", |members| members == 2.0).await;
    beside.is_undisturbed().await;
}
