//! Two processes on one PostgreSQL.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wzp_testkit::postgres::Postgres;

use crate::{
    http::{Answer, request},
    join::{identity, signed},
    process::Process,
    relay::{Papers, Quic, Relay, hello, unix_ms},
    server::Server,
    soon,
};

async fn join(http: std::net::SocketAddr, room: &str, nonce: u8) -> Answer {
    let nonce = [nonce; 16];
    let body = signed(&identity(nonce[0]), room, unix_ms() / 1_000, nonce).to_string();
    let headers = [("content-type", "application/json")];
    request(
        http,
        "POST",
        &format!("/v1/rooms/{room}/join"),
        &headers,
        body.as_bytes(),
    )
    .await
}

/// A stream to one more replica.
async fn attach(server: &Server, papers: &Papers, quic: &Quic, id: &str) -> Relay {
    let mut hello = hello(id, 1, quic);
    hello.boot_id = vec![1; 8];
    // The stream has an endpoint of its own that nobody asks for.
    let mut relay = Relay::attach(server, papers.clone(), Quic::start(), hello).await;
    relay
        .send(wzp_proto::control::relay_event::Kind::Synced(
            wzp_proto::control::Synced {},
        ))
        .await;
    relay.beat(0).await;
    relay
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_give_out_one_lease_and_no_sender_twice_and_one_may_be_killed() {
    let postgres = Postgres::start();
    let url = postgres.url();
    let here = Server::start(&["--database-url", &url]).await;
    let mut there = Process::start(&["--database-url", &url]);
    assert!(
        !there.banner.contains("wzp1.") && !there.banner.contains("wzp_"),
        "{}",
        there.banner
    );
    let papers = crate::relay::papers(&here, "a").await;
    let quic = Quic::start();
    let a = attach(&here, &papers, &quic, "a").await.run();
    let other = here.at(there.http, there.grpc);
    let b = attach(&other, &papers, &quic, "a").await.run();
    here.listed(1).await;
    other.listed(1).await;
    let mut joins = tokio::task::JoinSet::new();
    for nonce in 1..=20 {
        let http = if nonce % 2 == 0 { here.http } else { there.http };
        joins.spawn(async move { join(http, "tea", nonce).await });
    }
    let answers = soon("all joins", joins.join_all()).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let answers: Vec<Value> = answers.iter().map(Answer::json).collect();
    let epochs: BTreeSet<_> = answers.iter().map(|answer| answer["epoch"].as_u64()).collect();
    assert_eq!(epochs.len(), 1);
    let senders: BTreeSet<_> = answers.iter().map(|answer| answer["sender"].as_u64()).collect();
    assert_eq!(senders.len(), 20);
    there.child.kill().unwrap();
    let answer = join(here.http, "tea", 30).await;
    assert_eq!((answer.status, answer.json()["sender"].clone()), (200, json!(21)));
    a.abort();
    b.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_costs_no_known_room_a_member() {
    let mut postgres = Postgres::start();
    let server = Server::start(&["--database-url", &postgres.url()]).await;
    let relay = Relay::start(&server, "a").await.run();
    server.listed(1).await;
    assert_eq!(join(server.http, "tea", 1).await.status, 200);
    postgres.stop();
    let known = join(server.http, "tea", 2).await;
    assert_eq!(known.status, 200, "{known:?}");
    let known = known.json();
    assert_eq!(known["epoch"], 1);
    assert!(known["sender"].as_u64().unwrap() > 49_151);
    let replayed = join(server.http, "tea", 2).await;
    assert_eq!(replayed.problem(), "proof_replayed");
    let unknown = join(server.http, "coffee", 3).await;
    assert_eq!(
        (unknown.status, unknown.problem().as_str()),
        (503, "database_unavailable")
    );
    assert_eq!(server.ask("GET", "/v1/relays", "").await.status, 200);
    assert_eq!(server.ask_as_nobody("GET", "/readyz", "").await.status, 200);
    assert_eq!(server.metric("wzp_control_db_reachable").await, 0.0);
    postgres.start_again();
    assert_eq!(join(server.http, "coffee", 4).await.status, 200);
    relay.abort();
    assert_eq!(server.metric("wzp_control_db_reachable").await, 1.0);
}
