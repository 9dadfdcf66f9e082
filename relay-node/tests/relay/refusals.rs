//! Whoever may not enter hears why, and a counter moves.

use std::time::Duration;

use wzp_identity::RoomScope;
use wzp_wire::signal::{Kind, Reason, Role, proto};

use crate::{
    client::{Client, Options, Refused, connect, soon},
    server::Server,
};

const SECRET: &str = "a secret of 24 characters";

fn code(reason: Reason) -> Refused {
    Refused::Closed(i32::from(reason) as u64)
}

async fn refused(relay: &Server, options: Options) -> Refused {
    Client::start_with(relay.address, options).await.err().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_hello_is_refused_with_its_reason() {
    let relay = Server::start(&["--secret", SECRET]).await;
    let good = || Options {
        secret: Some(SECRET),
        ..Options::default()
    };
    let cases = [
        (Options { version: 2, ..good() }, Reason::Version),
        (
            Options {
                spoil_proof: true,
                ..good()
            },
            Reason::Proof,
        ),
        (
            Options {
                secret: None,
                ..good()
            },
            Reason::GrantMissing,
        ),
        (
            Options {
                secret: Some("another secret, as long"),
                ..good()
            },
            Reason::GrantInvalid,
        ),
        (
            Options {
                grant_expires: 1_000_000_000,
                ..good()
            },
            Reason::GrantExpired,
        ),
        (
            Options {
                role: Role::Unspecified,
                ..good()
            },
            Reason::Role,
        ),
    ];
    for (options, reason) in cases {
        assert_eq!(refused(&relay, options).await, Refused::Message(reason));
    }
    assert_eq!(
        relay.metric("wzp_relay_refusals_total{reason=\"proof\"}").await,
        1.0
    );
    assert_eq!(
        relay
            .metric("wzp_relay_refusals_total{reason=\"grant_missing\"}")
            .await,
        1.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_opens_its_own_room_only() {
    let relay = Server::start(&["--secret", SECRET]).await;
    let options = Options {
        secret: Some(SECRET),
        grant_room: RoomScope::Exactly("mine".to_owned()),
        ..Options::default()
    };
    let mut client = Client::start_with(relay.address, options).await.unwrap();
    assert_eq!(client.join_as("yours", false).await, Err(Reason::GrantRoom));
    client.join("mine").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_are_refused_one_by_one_and_the_session_goes_on() {
    let relay = Server::start(&["--max-rooms", "1", "--max-members", "2"]).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::start(relay.address).await);
    }
    let [a, b, c] = &mut clients[..] else {
        unreachable!()
    };
    assert_eq!(a.join_as("line\nbreak", false).await, Err(Reason::RoomName));
    a.send(Kind::Leave(proto::Leave {})).await;
    let not_in_room = |kind| match kind {
        Kind::Refused(refused) => Some(refused.reason()),
        _ => None,
    };
    assert_eq!(a.wait_for("refused leave", not_in_room).await, Reason::NotInRoom);
    a.join("room").await;
    assert_eq!(a.join_as("room", false).await, Err(Reason::AlreadyInRoom));
    assert_eq!(b.join_as("another", false).await, Err(Reason::TooManyRooms));
    b.join("room").await;
    assert_eq!(c.join_as("room", false).await, Err(Reason::RoomFull));
    b.send(Kind::Leave(proto::Leave {})).await;
    soon("room for one", async {
        while c.join_as("room", false).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_says_nothing_is_closed_after_five_seconds() {
    let relay = Server::start(&[]).await;
    let began = tokio::time::Instant::now();
    let (_socket, connection) = connect(relay.address).await;
    let error = tokio::time::timeout(Duration::from_secs(8), connection.unwrap().closed())
        .await
        .unwrap();
    assert_eq!(crate::client::closed(error), code(Reason::Timeout));
    let took = began.elapsed();
    assert!(
        took > Duration::from_secs(4) && took < Duration::from_secs(7),
        "{took:?}"
    );
    assert_eq!(
        relay.metric("wzp_relay_refusals_total{reason=\"timeout\"}").await,
        1.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_joins_are_slowed_down_and_then_the_talker_is_closed() {
    let relay = Server::start(&["--join-rate", "5"]).await;
    let mut client = Client::start(relay.address).await;
    let mut other = Client::start(relay.address).await;
    for room in 0..10_000 {
        client
            .send(Kind::Join(proto::Join {
                request: 1,
                room: room.to_string(),
                announcement: b"a".to_vec(),
                echo: false,
                standby: false,
            }))
            .await;
        client.send(Kind::Leave(proto::Leave {})).await;
    }
    let mut too_many_joins = 0;
    let end = loop {
        match client.next().await {
            Ok(Kind::Refused(refused)) if refused.reason() == Reason::TooManyJoins => too_many_joins += 1,
            Ok(Kind::Goodbye(goodbye)) => break goodbye.reason(),
            Ok(_) => {}
            Err(Refused::Closed(code)) => break Reason::try_from(code as i32).unwrap(),
            Err(error) => panic!("{error:?}"),
        }
    };
    assert_eq!(end, Reason::MessageRate);
    assert!(too_many_joins > 100, "{too_many_joins}");
    relay.until("wzp_relay_rooms", |rooms| rooms == 0.0).await;
    other.join("still served").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_counted_by_network_and_by_identity() {
    let args = [
        "--max-connections-per-prefix",
        "3",
        "--max-connections-per-identity",
        "2",
    ];
    let relay = Server::start(&args).await;
    let same = || Options {
        identity: 200,
        ..Options::default()
    };
    let _first = Client::start_with(relay.address, same()).await.unwrap();
    let _second = Client::start_with(relay.address, same()).await.unwrap();
    let third = refused(&relay, same()).await;
    assert_eq!(third, Refused::Message(Reason::TooManyConnections));
    // It has heard why, and counts until its connection has ended: two of 10,000 are left then.
    relay
        .until("wzp_relay_load_ratio{resource=\"conns\"}", |load| load < 0.000_25)
        .await;
    let _third = Client::start(relay.address).await;
    assert_eq!(
        refused(&relay, Options::default()).await,
        code(Reason::TooManyConnections)
    );
    // The reason costs a handshake: it is for who has proven the address.
    let retries = relay.metric("wzp_relay_handshakes_total{result=\"retry\"}").await;
    assert!(retries >= 1.0, "{retries}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reasons_are_given_to_so_many_at_once_and_no_more() {
    let relay = Server::start_changed("127.0.0.1:0", &["--max-connections", "1"], |config| {
        config.limits.polite_refusals = 0;
    })
    .await;
    let _first = Client::start(relay.address).await;
    let (_socket, connection) = connect(relay.address).await;
    // By QUIC itself, before a handshake.
    let error = connection.err().unwrap();
    assert!(
        matches!(error, quinn::ConnectionError::ConnectionClosed(_)),
        "{error}"
    );
    let refused = "wzp_relay_refusals_total{reason=\"too_many_connections\"}";
    assert_eq!(relay.metric(refused).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_many_have_said_nothing_everybody_proves_the_address() {
    let relay = Server::start_changed("127.0.0.1:0", &[], |config| {
        config.limits.connections.pending = 20;
    })
    .await;
    let retries = "wzp_relay_handshakes_total{result=\"retry\"}";
    let mut silent = Vec::new();
    for _ in 0..3 {
        let (socket, connection) = connect(relay.address).await;
        silent.push((socket, connection.unwrap()));
    }
    assert_eq!(relay.metric(retries).await, 0.0);
    let mut client = Client::start(relay.address).await;
    client.join("room").await;
    assert_eq!(relay.metric(retries).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_expires_during_the_session_opens_nothing_more() {
    let relay = Server::start(&["--secret", SECRET]).await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let options = || Options {
        secret: Some(SECRET),
        // 30 s are forgiven.
        grant_expires: now.as_secs() - 27,
        ..Options::default()
    };
    let mut client = Client::start_with(relay.address, options()).await.unwrap();
    client.join("room").await;
    client.send(Kind::Leave(proto::Leave {})).await;
    let mut other = Client::start_with(relay.address, options()).await.unwrap();
    let mut every = tokio::time::interval(Duration::from_millis(250));
    let refused = async {
        // To come back to the same room would be the same stay.
        for room in 0.. {
            every.tick().await;
            if let Err(reason) = other.join_as(&room.to_string(), false).await {
                return reason;
            }
            other.send(Kind::Leave(proto::Leave {})).await;
        }
        unreachable!()
    };
    assert_eq!(soon("the end of a grant", refused).await, Reason::GrantExpired);
    assert_eq!(
        client.join_as("another room", false).await,
        Err(Reason::GrantExpired)
    );
    // Whoever comes back at once has not been away.
    client.join("room").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_have_a_count_of_their_own() {
    let relay = Server::start_changed("127.0.0.1:0", &[], |config| {
        config.limits.connections.probes = 1;
    })
    .await;
    let probe = || Options {
        role: Role::Probe,
        ..Options::default()
    };
    let first = Client::start_with(relay.address, probe()).await.unwrap();
    assert_eq!(
        refused(&relay, probe()).await,
        Refused::Message(Reason::TooManyConnections)
    );
    Client::start(relay.address).await.join("room").await;
    drop(first);
    relay
        .until("wzp_relay_sessions{role=\"probe\"}", |open| open == 0.0)
        .await;
    soon("room for a probe", async {
        while Client::start_with(relay.address, probe()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_with_one_identity_share_a_room() {
    let relay = Server::start(&[]).await;
    let same = || Options {
        identity: 201,
        ..Options::default()
    };
    let mut a = Client::start_with(relay.address, same()).await.unwrap();
    let mut b = Client::start_with(relay.address, same()).await.unwrap();
    let (a_id, _) = a.join("room").await;
    let (b_id, others) = b.join("room").await;
    assert_eq!(others, [a_id]);
    assert_ne!(a_id, b_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_handshakes_from_one_network_are_refused() {
    let relay = Server::start(&["--handshakes-per-prefix", "1"]).await;
    let mut outcomes = Vec::new();
    for _ in 0..20 {
        let (_socket, connection) = connect(relay.address).await;
        outcomes.push(connection.is_ok());
    }
    // Five at once, and as many again after a Retry has proven the address.
    assert!(outcomes.iter().filter(|&&ok| ok).count() <= 12, "{outcomes:?}");
    assert_eq!(outcomes.last(), Some(&false));
    assert!(relay.metric("wzp_relay_handshakes_total{result=\"retry\"}").await >= 1.0);
    assert!(
        relay
            .metric("wzp_relay_refusals_total{reason=\"too_many_handshakes\"}")
            .await
            >= 1.0
    );
}
