//! Streams of relays.

use tonic::Code;
use wzp_proto::control::{
    Address, AddressSource, Hello, RejectReason, Synced, relay_command::Kind as Command, relay_event::Kind,
};

use crate::{
    relay::{Quic, Relay, client, hello, papers, unix_ms},
    server::Server,
    soon,
};

type Break = Box<dyn FnOnce(&mut Hello)>;

async fn attach_as(server: &Server, id: &str, change: impl FnOnce(&mut Hello)) -> Relay {
    let quic = Quic::start();
    let mut hello = hello(id, 1, &quic);
    change(&mut hello);
    Relay::attach(server, papers(server, id).await, quic, hello).await
}

async fn reason(server: &Server, id: &str, change: impl FnOnce(&mut Hello)) -> RejectReason {
    attach_as(server, id, change).await.rejected().await.reason()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_is_welcomed_and_listed_once_the_control_plane_has_reached_it() {
    let server = Server::start(&[]).await;
    let mut relay = attach_as(&server, "a", |_| {}).await;
    let Some(Command::Welcome(welcome)) = relay.next().await else {
        panic!()
    };
    assert_eq!((welcome.protocol, welcome.heartbeat_ms), (1, 2_000));
    assert_eq!(welcome.observed_ip, [127, 0, 0, 1]);
    let Some(Command::TrustedKeys(keys)) = relay.next().await else {
        panic!()
    };
    assert_eq!((keys.grant_keys.len(), keys.authorities.len()), (1, 1));
    let Some(Command::Peers(_)) = relay.next().await else {
        panic!()
    };
    relay.send(Kind::Synced(Synced {})).await;
    let list = server.listed(1).await;
    let listed = &list["relays"][0];
    assert_eq!((&listed["id"], &listed["state"]), (&"a".into(), &"active".into()));
    assert_eq!(listed["addresses"][0]["port"], relay.quic.address.port());
    assert_eq!(listed["addresses"][0]["source"], "explicit");
    let peers = relay
        .wait_for("itself among the peers", |kind| match kind {
            Command::Peers(peers) if peers.relays.len() == 1 => Some(peers),
            _ => None,
        })
        .await;
    assert_eq!(peers.relays.first().unwrap().relay_id, "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_shows_another_certificate_is_not_listed_and_says_why() {
    let server = Server::start(&[]).await;
    let mut relay = attach_as(&server, "a", |hello| hello.certificates = vec![vec![7; 32]]).await;
    relay.send(Kind::Synced(Synced {})).await;
    let why = |detail: &serde_json::Value| {
        detail["why_not"]
            .as_str()
            .is_some_and(|why| why.contains("certificate"))
    };
    let detail = server.until("/v1/relays/a", why).await;
    assert_eq!(detail["state"], "checking");
    assert_eq!(
        server.ask("GET", "/v1/relays", "").await.json()["relays"],
        serde_json::json!([])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_needs_the_certificate_of_its_relay() {
    let server = Server::start(&[]).await;
    let mut nobody = client(&server, None).await.unwrap();
    let status = soon("no", nobody.attach(tokio_stream::empty()))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let quic = Quic::start();
    let hello = hello("b", 1, &quic);
    let mut relay = Relay::attach(&server, papers(&server, "a").await, quic, hello).await;
    assert_eq!(relay.rejected().await.reason(), RejectReason::Certificate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_name_twice_is_refused_and_the_same_process_replaces_its_stream() {
    let server = Server::start(&[]).await;
    let mut first = attach_as(&server, "a", |_| {}).await;
    first.send(Kind::Synced(Synced {})).await;
    server.listed(1).await;
    let another = reason(&server, "a", |hello| hello.boot_id = vec![2; 8]).await;
    assert_eq!(another, RejectReason::DuplicateId);
    let quic = Quic::start();
    let again = hello("a", 1, &quic);
    let mut second = Relay::attach(&server, first.papers.clone(), quic, again).await;
    assert!(matches!(second.next().await, Some(Command::Welcome(_))));
    while first.next().await.is_some() {}
    let sample = "wzp_control_attach_rejections_total{reason=\"duplicate_id\"}";
    assert_eq!(server.metric(sample).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_next_to_ours_are_taken_and_others_refused() {
    let server = Server::start(&[]).await;
    for (min, max) in [(0, 1), (1, 2), (1, 1)] {
        let versions = |hello: &mut Hello| (hello.protocol_min, hello.protocol_max) = (min, max);
        let mut relay = attach_as(&server, &format!("relay-{min}-{max}"), versions).await;
        let Some(Command::Welcome(welcome)) = relay.next().await else {
            panic!()
        };
        assert_eq!(welcome.protocol, 1);
    }
    for (min, max) in [(0, 0), (2, 3)] {
        let versions = |hello: &mut Hello| (hello.protocol_min, hello.protocol_max) = (min, max);
        assert_eq!(reason(&server, "b", versions).await, RejectReason::Protocol);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_ten_minutes_off_is_refused() {
    let server = Server::start(&[]).await;
    for off in [unix_ms() - 600_000, unix_ms() + 600_000] {
        assert_eq!(
            reason(&server, "a", |hello| hello.unix_ms = off).await,
            RejectReason::Clock
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_the_form_ends_the_stream() {
    let server = Server::start(&[]).await;
    let port = |port: u32| Address {
        ip: vec![127, 0, 0, 1],
        port,
        source: AddressSource::Bound.into(),
    };
    let long = "x".repeat(200);
    let breaks: Vec<Break> = vec![
        Box::new(|hello| hello.boot_id = vec![1; 9]),
        Box::new(|hello| hello.relay_id = "a b".to_owned()),
        Box::new(move |hello| hello.addresses = vec![port(0)]),
        Box::new(move |hello| hello.addresses = vec![port(70_000)]),
        Box::new(move |hello| hello.addresses = vec![port(1); 17]),
        Box::new(|hello| hello.certificates = vec![vec![1; 31]]),
        Box::new(|hello| (hello.protocol_min, hello.protocol_max) = (2, 1)),
        Box::new(move |hello| hello.region = long),
    ];
    let papers = papers(&server, "a").await;
    for change in breaks {
        let quic = Quic::start();
        let mut hello = hello("a", 1, &quic);
        change(&mut hello);
        let mut relay = Relay::attach(&server, papers.clone(), quic, hello).await;
        assert_eq!(relay.rejected().await.reason(), RejectReason::Malformed);
    }
    let mut relay = attach_as(&server, "a", |_| {}).await;
    relay.send_numbered(7, Kind::Synced(Synced {})).await;
    assert_eq!(relay.rejected().await.reason(), RejectReason::Malformed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_check_each_other_and_are_told_whom_to_probe() {
    let server = Server::start(&[]).await;
    let a = Relay::start(&server, "a").await;
    server.listed(1).await;
    let _a = a.run();
    let mut b = Relay::start(&server, "b").await;
    server.listed(2).await;
    let plan = b
        .wait_for("a probe plan", |kind| match kind {
            Command::ProbePlan(plan) if !plan.relay_ids.is_empty() => Some(plan),
            _ => None,
        })
        .await;
    assert_eq!(plan.relay_ids, ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotated_keys_are_told_at_once() {
    let server = Server::start(&[]).await;
    let mut relay = attach_as(&server, "a", |_| {}).await;
    let rotated = server.ask("POST", "/v1/keys:rotate", "").await;
    assert_eq!(rotated.json()["keys"].as_array().unwrap().len(), 2);
    let keys = |kind| match kind {
        Command::TrustedKeys(keys) if keys.grant_keys.len() == 2 => Some(keys),
        _ => None,
    };
    assert_eq!(relay.wait_for("two keys", keys).await.authorities.len(), 2);
}
