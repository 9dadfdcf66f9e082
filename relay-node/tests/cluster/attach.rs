//! How a relay comes into its cluster, and what it says there.

use std::time::Duration;

use wzp_proto::control::{self as proto, relay_command::Kind, relay_event};
use wzp_wire::signal::{Reason, Role};

use crate::{
    client::{Client, Options, Refused, connect},
    plane::{Authority, Plane},
    server::Server,
};

pub(crate) async fn relay(plane: &Plane, id: &str) -> Server {
    let args = plane.args(id);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Server::start(&args).await
}

pub(crate) fn member(plane: &Plane, room: &str, sender: u16, epoch: u64, relays: &[&str]) -> Options {
    let options = Options::default();
    let grant = plane
        .authority
        .grant(options.identity, room, sender, epoch, relays);
    Options {
        grant: Some(grant),
        ..options
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_enrolls_and_says_who_it_is_and_who_is_there() {
    let plane = Plane::start().await;
    let server = relay(&plane, "a").await;
    let hello = plane.synced("a").await;
    assert_eq!((hello.relay_id.as_str(), hello.boot_id.len()), ("a", 8));
    assert_eq!(hello.addresses[0].port, u32::from(server.address.port()));
    let (_socket, connection) = connect(server.address).await;
    let shown = connection.unwrap().peer_identity().unwrap();
    let shown = shown
        .downcast::<Vec<rustls_pki_types::CertificateDer<'static>>>()
        .unwrap();
    let hash = <sha2::Sha256 as sha2::Digest>::digest(&shown[0]).to_vec();
    assert_eq!(hello.certificates, [hash]);
    plane.trust("a").await;
    let options = member(&plane, "room", 5, 1, &["a", "b"]);
    let mut client = Client::start_with(server.address, options).await.unwrap();
    assert_eq!(client.welcome.relay_id.as_ref().unwrap().as_str(), "a");
    let (sender, _) = client.join("room").await;
    assert_eq!(sender.get(), 5);
    let event = |events: &[relay_event::Kind], members| {
        events.iter().any(|event| {
            matches!(event, relay_event::Kind::Room(room)
            if room.room == "room" && room.epoch == 1 && room.members == members && room.seats.len() == 2)
        })
    };
    plane
        .until("a", "room", |_, events| event(events, 1).then_some(()))
        .await;
    let beat = plane.until("a", "heartbeat", |_, events| {
        events.iter().find_map(|event| match event {
            relay_event::Kind::Heartbeat(beat) if beat.members == 1 => Some(*beat),
            _ => None,
        })
    });
    assert!(beat.await.connections >= 1);
    drop(client);
    plane
        .until("a", "leave", |_, events| event(events, 0).then_some(()))
        .await;
    let gone =
        |event: &relay_event::Kind| matches!(event, relay_event::Kind::Presence(person) if !person.online);
    plane
        .until("a", "offline", |_, events| events.iter().any(gone).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_open_rooms_where_the_cluster_says_and_the_refusal_says_why_not() {
    let plane = Plane::start().await;
    let server = relay(&plane, "a").await;
    plane.synced("a").await;
    let refused = |options| async { Client::start_with(server.address, options).await.err().unwrap() };
    let early = refused(member(&plane, "room", 1, 1, &["a"])).await;
    assert_eq!(early, Refused::Message(Reason::NotServed));
    plane.trust("a").await;
    let enter = |options| async {
        let mut client = Client::start_with(server.address, options).await.unwrap();
        let joined = client.join_as("room", false).await.map(|_| ());
        (joined, client)
    };
    assert_eq!(
        enter(member(&plane, "room", 1, 1, &["b"])).await.0,
        Err(Reason::GrantRelay)
    );
    let (joined, _one) = enter(member(&plane, "room", 2, 2, &["a", "b"])).await;
    assert_eq!(joined, Ok(()));
    // An older grant of a relay that was drained: this one serves the room now.
    let (joined, mut two) = enter(member(&plane, "room", 3, 1, &["b"])).await;
    assert_eq!(joined, Ok(()));
    plane.lease(&["a"], "room", 3, &["b"], 10_000).await;
    assert_eq!(
        enter(member(&plane, "room", 4, 2, &["a"])).await.0,
        Err(Reason::StaleEpoch)
    );
    let revoke = proto::Revoke {
        room: "room".to_owned(),
        epoch: 4,
    };
    assert_eq!(plane.say("a", Kind::Revoke(revoke)).await, "");
    let goodbye = |kind| match kind {
        wzp_wire::signal::Kind::Goodbye(goodbye) => Some(goodbye.reason()),
        _ => None,
    };
    assert_eq!(two.wait_for("goodbye", goodbye).await, Reason::RoomDeleted);
    let other = enter(Options {
        secret: Some("a secret of 24 characters"),
        ..Options::default()
    });
    let _ = refused(Options::default()).await;
    drop(other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_a_peer_without_a_certificate_of_the_cluster() {
    let plane = Plane::start().await;
    let server = relay(&plane, "a").await;
    plane.synced("a").await;
    let options = Options {
        role: Role::Peer,
        ..Options::default()
    };
    let refused = Client::start_with(server.address, options).await.err().unwrap();
    assert_eq!(refused, Refused::Message(Reason::Role));
    let alone = Server::start(&[]).await;
    let options = Options {
        role: Role::Peer,
        ..Options::default()
    };
    let refused = Client::start_with(alone.address, options).await.err().unwrap();
    assert_eq!(refused, Refused::Message(Reason::Role));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_and_a_foreign_control_plane_come_to_nothing_and_the_relay_lives() {
    let plane = Plane::start().await;
    let control = format!("https://{}", plane.address);
    let foreign = Authority::new(Duration::from_secs(60)).token();
    for token in [plane.authority.token_with("wrong"), foreign] {
        let server = Server::start(&["--control", &control, "--join-token", &token, "--id", "a"]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(plane.hellos("a"), 0);
        assert_eq!(server.get("/livez").await.0, 200);
        assert_eq!(server.get("/readyz").await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_at_half_its_life_and_both_are_announced() {
    let plane = Plane::start_with(Authority::new(Duration::from_secs(8))).await;
    let server = relay(&plane, "a").await;
    let first = plane.synced("a").await.certificates;
    assert_eq!(first.len(), 1);
    let both = plane.until("a", "both certificates", |hello, _| {
        (hello.certificates.len() == 2).then(|| hello.certificates.clone())
    });
    let both = both.await;
    assert!(both.contains(&first[0]));
    let next = plane.until("a", "the new certificate", |hello, _| {
        (hello.certificates.len() == 1 && hello.certificates != first).then(|| hello.certificates.clone())
    });
    assert!(both.contains(&next.await[0]));
    assert_eq!(server.get("/livez").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_control_plane_a_relay_serves_the_rooms_it_knows_and_tells_all_when_it_is_back() {
    let plane = Plane::start().await;
    let server = relay(&plane, "a").await;
    plane.synced("a").await;
    plane.trust("a").await;
    let options = member(&plane, "room", 1, 1, &["a"]);
    let mut one = Client::start_with(server.address, options).await.unwrap();
    one.join("room").await;
    let (address, authority) = (plane.address, std::sync::Arc::clone(&plane.authority));
    let second = member(&plane, "room", 2, 1, &["a"]);
    drop(plane);
    server
        .until("wzp_relay_control_streams", |streams| streams == 0.0)
        .await;
    let mut two = Client::start_with(server.address, second).await.unwrap();
    let (_, others) = two.join("room").await;
    assert_eq!(others.len(), 1);
    assert_eq!(server.get("/readyz").await.0, 200);
    let plane = Plane::start_at(address, authority).await;
    plane
        .until("a", "carried state", |_, events| {
            let synced = events
                .iter()
                .position(|event| matches!(event, relay_event::Kind::Synced(_)))?;
            let carried = events[..synced].iter().any(|event| {
                matches!(event,
            relay_event::Kind::Room(room) if room.room == "room" && room.members == 2 && room.epoch == 1)
            });
            assert!(carried, "{events:?}");
            Some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_try_each_others_addresses_and_measure_the_way() {
    let plane = Plane::start().await;
    let servers = [relay(&plane, "a").await, relay(&plane, "b").await];
    plane.introduce(&["a", "b"]).await;
    let hello = plane.synced("b").await;
    let mut check = proto::CheckAddress {
        relay_id: "b".to_owned(),
        addresses: hello.addresses,
        certificates: hello.certificates,
    };
    let outcome = |reachable| {
        move |_: &proto::Hello, events: &[relay_event::Kind]| {
            events.iter().find_map(|event| match event {
                relay_event::Kind::AddressReport(report) if report.reachable == reachable => {
                    Some(report.clone())
                }
                _ => None,
            })
        }
    };
    plane.say("a", Kind::CheckAddress(check.clone())).await;
    plane.until("a", "address report", outcome(true)).await;
    check.certificates = vec![vec![1; 32]];
    plane.say("a", Kind::CheckAddress(check)).await;
    let report = plane.until("a", "address report", outcome(false)).await;
    assert!(!report.why_not.is_empty());
    let plan = proto::ProbePlan {
        generation: 1,
        relay_ids: vec!["b".to_owned(), "a".to_owned()],
        interval_ms: 1_000,
    };
    plane.say("a", Kind::ProbePlan(plan)).await;
    let probe = plane.until("a", "probe report", |_, events| {
        events.iter().find_map(|event| match event {
            relay_event::Kind::Probes(report) => Some(report.probes[0].clone()),
            _ => None,
        })
    });
    let probe = probe.await;
    assert_eq!((probe.relay_id.as_str(), probe.unreachable), ("b", false));
    drop(servers);
}
