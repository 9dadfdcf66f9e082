//! Rooms that go from one relay to another.

use serde_json::json;
use wzp_proto::control::{
    DrainRequest, PeerDown, RoomEvent, Seat, relay_command::Kind as Command, relay_event::Kind,
};

use crate::{relay::Relay, server::Server};

const SOMEBODY: &str = r#"{"fingerprint":"00112233445566778899aabbccddeeff"}"#;

/// Two relays, and a room on both; the one that carries it first.
async fn with_room(server: &Server) -> (Relay, Relay) {
    let a = Relay::start(server, "a").await;
    server.listed(1).await;
    let mut relays = vec![a, Relay::start(server, "b").await];
    let [a, b] = &mut relays[..] else { panic!() };
    // Each is asked to reach the other.
    tokio::join!(until_listed(a, 2), until_listed(b, 2));
    let joined = server.ask("POST", "/v1/rooms/tea/join", SOMEBODY).await.json();
    let carrier = joined["relays"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(joined["relays"].as_array().unwrap().len(), 2, "{joined}");
    for relay in &mut relays {
        let lease = relay.lease().await;
        assert_eq!((lease.epoch, lease.seats.len()), (1, 2));
        let event = RoomEvent {
            room: lease.room,
            epoch: 1,
            members: 1,
            closed: false,
            seats: lease.seats,
        };
        relay.room(event).await;
        relay.beat(1).await;
    }
    server.until("/v1/rooms/tea", |room| room["members"] == 1).await;
    relays.sort_by_key(|relay| relay.id != carrier);
    let standby = relays.pop().unwrap();
    (relays.pop().unwrap(), standby)
}

async fn until_listed(relay: &mut Relay, count: usize) {
    let peers = |kind| match kind {
        Command::Peers(peers) if peers.relays.len() == count => Some(()),
        _ => None,
    };
    relay.wait_for("all peers", peers).await;
}

fn carries(seats: &[Seat]) -> Vec<&str> {
    seats
        .iter()
        .filter(|seat| seat.carries)
        .map(|seat| seat.relay_id.as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_relay_gives_its_rooms_away_and_is_used_again_after() {
    let server = Server::start(&[]).await;
    let (mut carrier, mut standby) = with_room(&server).await;
    let id = carrier.id.clone();
    let path = |verb: &str| format!("/v1/relays/{id}:{verb}");
    let plan = server.ask("POST", &path("drain"), r#"{"dry_run":true}"#).await;
    assert_eq!(plan.status, 200);
    let plan = plan.json();
    assert_eq!(
        (&plan["rooms"], &plan["members"], &plan["steps"][0]["room"]),
        (&1.into(), &1.into(), &"tea".into())
    );
    assert_eq!(server.ask("GET", "/v1/rooms/tea", "").await.json()["epoch"], 1);
    assert_eq!(
        server
            .ask("POST", &path("drain"), r#"{"deadline_ms":5}"#)
            .await
            .problem(),
        "body_invalid"
    );
    let began = std::time::Instant::now();
    let drained = server.ask("POST", &path("drain"), "").await;
    assert_eq!(drained.status, 202, "{drained:?}");
    let drain = |kind| match kind {
        Command::Drain(drain) => Some(drain.deadline_ms),
        _ => None,
    };
    assert_eq!(carrier.wait_for("a drain", drain).await, 10_000);
    for relay in [&mut carrier, &mut standby] {
        let lease = relay.lease().await;
        assert_eq!(
            (lease.epoch, lease.cause()),
            (2, wzp_proto::control::LeaseCause::Drain)
        );
        assert!(lease.deadline_ms > 0 && lease.spread_ms > 0 && lease.deadline_ms >= lease.spread_ms);
        assert_ne!(carries(&lease.seats), [relay_of(&plan)]);
    }
    assert!(began.elapsed().as_secs() < 3, "{:?}", began.elapsed());
    server
        .until("/v1/relays?state=draining", |list| {
            list["relays"].as_array().unwrap().len() == 1
        })
        .await;
    let undrained = server.ask("POST", &path("undrain"), "").await;
    assert_eq!(
        (undrained.status, undrained.json()["rooms_stayed"].clone()),
        (200, json!(0))
    );
    carrier
        .wait_for("an undrain", |kind| {
            matches!(kind, Command::Undrain(_)).then_some(())
        })
        .await;
    assert_eq!(
        server
            .metric("wzp_control_assignments_total{cause=\"drain\"}")
            .await,
        1.0
    );
}

fn relay_of(plan: &serde_json::Value) -> &str {
    plan["relay"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_asks_for_it_is_drained() {
    let server = Server::start(&[]).await;
    let (mut carrier, mut standby) = with_room(&server).await;
    let request = DrainRequest { deadline_ms: 4_000 };
    carrier.send(Kind::DrainRequest(request)).await;
    let lease = standby.lease().await;
    assert_eq!(
        (lease.epoch, carries(&lease.seats)),
        (2, vec![standby.id.as_str()])
    );
    assert!(lease.deadline_ms <= 4_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_relay_is_off_the_list_and_its_rooms_are_the_standbys() {
    let server = Server::start(&[]).await;
    let (carrier, mut standby) = with_room(&server).await;
    let (boot_id, relay_id) = (vec![1; 8], carrier.id.clone());
    drop(carrier);
    let mut every = tokio::time::interval(std::time::Duration::from_millis(500));
    let lease = loop {
        tokio::select! {
            lease = standby.lease() => break lease,
            _ = every.tick() => {}
        }
        standby.beat(1).await;
        let down = PeerDown {
            relay_id: relay_id.clone(),
            boot_id: boot_id.clone(),
            silent_ms: 3_000,
        };
        standby.send(Kind::PeerDown(down)).await;
    };
    assert_eq!(
        (lease.epoch, carries(&lease.seats)),
        (2, vec![standby.id.as_str()])
    );
    assert_eq!(lease.cause(), wzp_proto::control::LeaseCause::RelayLost);
    let list = server.ask("GET", "/v1/relays", "").await.json();
    assert_eq!(list["relays"].as_array().unwrap().len(), 1);
    assert_eq!(server.metric("wzp_control_relays_lost_total").await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_with_an_old_lease_is_told_the_new_one() {
    let server = Server::start(&[]).await;
    let (mut carrier, _standby) = with_room(&server).await;
    assert_eq!(server.ask("DELETE", "/v1/rooms/tea", "").await.status, 204);
    let back = server.ask("POST", "/v1/rooms/tea/join", SOMEBODY).await.json();
    assert_eq!(back["epoch"], 3);
    assert_eq!(carrier.lease().await.epoch, 3);
    let seat = Seat {
        relay_id: carrier.id.clone(),
        carries: true,
    };
    let stale = RoomEvent {
        room: "tea".to_owned(),
        epoch: 1,
        members: 1,
        closed: false,
        seats: vec![seat],
    };
    carrier.room(stale).await;
    assert_eq!(carrier.lease().await.epoch, 3);
}
