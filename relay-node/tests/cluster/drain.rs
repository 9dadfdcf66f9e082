//! Members are moved before their relay goes.

use std::time::{Duration, Instant};

use wzp_proto::control::{self as control, relay_command, relay_event};
use wzp_wire::{
    SenderId,
    signal::{Kind, Reason, proto},
};

use crate::{
    client::Client,
    plane::Plane,
    rooms::{join, packet, start, two},
};

fn order(kind: Kind) -> Option<proto::Move> {
    match kind {
        Kind::Move(order) => Some(order),
        _ => None,
    }
}

async fn goodbye(client: &mut Client) -> Reason {
    let said = |kind| match kind {
        Kind::Goodbye(goodbye) => Some(goodbye.reason()),
        _ => None,
    };
    client.wait_for("goodbye", said).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_without_this_relay_moves_its_members_and_hears_them_until_they_are_gone() {
    let plane = Plane::start().await;
    let [a, b] = two(&plane).await;
    let (mut stays, mut moves) = (start(&plane, &a, 1).await, start(&plane, &a, 2).await);
    join(&mut stays, 1, false).await;
    join(&mut moves, 2, false).await;
    plane.lease(&["b", "a"], "room", 2, &["b"], 1_500).await;
    let told = stays.wait_for("move", order).await;
    assert_eq!((told.epoch, told.seats.len()), (2, 1));
    let seat = &told.seats[0];
    assert_eq!((seat.relay.as_str(), seat.carries), ("b", true));
    assert_eq!(seat.addresses[0].port, u32::from(b.address.port()));
    assert_eq!(seat.certificates, plane.synced("b").await.certificates);
    assert!((1..=1_500).contains(&told.deadline_ms) && told.spread_ms <= told.deadline_ms);
    // Make before break, with the grant that it has.
    let mut moved = start(&plane, &b, 2).await;
    join(&mut moved, 2, false).await;
    drop(moves);
    let (first, second) = (SenderId::new(1).unwrap(), SenderId::new(2).unwrap());
    moved.speak_to(second, &packet(1), &stays).await;
    stays.speak_to(first, &packet(2), &moved).await;
    assert_eq!(goodbye(&mut stays).await, Reason::Moved);
    let migrated = "wzp_relay_session_ends_total{reason=\"migrated\"}";
    a.until(migrated, |ended| ended == 1.0).await;
    plane
        .until("a", "closed", |_, events| {
            events
                .iter()
                .any(|event| matches!(event, relay_event::Kind::Room(room) if room.closed))
                .then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_relay_asks_to_be_emptied_and_ends_with_its_last_member() {
    let plane = Plane::start().await;
    let [a, b] = two(&plane).await;
    let mut member = start(&plane, &a, 1).await;
    join(&mut member, 1, false).await;
    let stopping = tokio::spawn(async move {
        let began = Instant::now();
        a.stop_within(Duration::from_secs(12)).await;
        began.elapsed()
    });
    let asked = |event: &relay_event::Kind| matches!(event, relay_event::Kind::DrainRequest(_));
    plane
        .until("a", "drain request", |_, events| {
            events.iter().any(asked).then_some(())
        })
        .await;
    plane.lease(&["b", "a"], "room", 2, &["b"], 9_000).await;
    let told = member.wait_for("move", order).await;
    assert_eq!(told.seats[0].relay, "b");
    let mut moved = start(&plane, &b, 1).await;
    join(&mut moved, 1, false).await;
    drop(member);
    assert!(stopping.await.unwrap() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_control_plane_members_go_to_the_other_relays_of_their_room() {
    let plane = Plane::start().await;
    let [a, b] = two(&plane).await;
    let mut member = start(&plane, &a, 1).await;
    join(&mut member, 1, false).await;
    let grant = start(&plane, &b, 1).await;
    drop(plane);
    a.until("wzp_relay_control_streams", |streams| streams == 0.0)
        .await;
    let stopping = tokio::spawn(a.stop_within(Duration::from_secs(12)));
    let told = member.wait_for("move", order).await;
    let named: Vec<_> = told.seats.iter().map(|seat| seat.relay.as_str()).collect();
    assert_eq!((told.epoch, named), (1, vec!["b"]));
    assert!(told.deadline_ms > 0);
    let mut moved = grant;
    join(&mut moved, 1, false).await;
    drop(member);
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_is_undone_and_a_new_standby_is_told_of() {
    let plane = Plane::start().await;
    let [a, _b] = two(&plane).await;
    let mut member = start(&plane, &a, 1).await;
    join(&mut member, 1, false).await;
    let drain = control::Drain { deadline_ms: 10_000 };
    plane.say("a", relay_command::Kind::Drain(drain)).await;
    let says_so = |wanted: bool| {
        move |_: &control::Hello, events: &[relay_event::Kind]| {
            let last = events.iter().rev().find_map(|event| match event {
                relay_event::Kind::Heartbeat(beat) => Some(beat.draining),
                _ => None,
            });
            (last == Some(wanted)).then_some(())
        }
    };
    plane.until("a", "draining", says_so(true)).await;
    plane
        .say("a", relay_command::Kind::Undrain(control::Undrain {}))
        .await;
    plane.until("a", "not draining", says_so(false)).await;
    plane.lease(&["a"], "room", 2, &["a"], 0).await;
    let told = member.wait_for("move", order).await;
    assert_eq!((told.epoch, told.deadline_ms, told.seats.len()), (2, 0, 1));
    assert_eq!(told.seats[0].relay, "a");
}
