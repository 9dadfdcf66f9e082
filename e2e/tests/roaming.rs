//! Members whose address changes, and members who are slow or gone.

use std::time::Duration;

use wzp_e2e::{
    PATIENCE,
    beside::Beside,
    member::Guest,
    relay::Relay,
    tap::{Packet, Tap, Way},
    until_within,
    wire::Wire,
};
use wzp_sdk::{CarrierWhy, Event, Preference};
use wzp_wire::signal::{Kind, proto};

/// QUIC says something every 10 s, and then the relay learns the new address of signalling.
const SIGNALLING_FOLLOWS: Duration = Duration::from_secs(30);
/// The lane is PINGed once a second, and its PONG says that the address is new; the rest is for a busy machine.
const FOLLOWS_AT_ONCE: Duration = Duration::from_secs(6);

async fn call_survives_a_new_address(carrier: Preference) {
    let relay = Relay::start(&[]);
    let mut tap = Tap::start(relay.address).await;
    let guest = Guest {
        via: Some(tap.address),
        carrier,
        ..Guest::saying(440.0)
    };
    let mut moves = guest.join(&relay).await;
    let stays = Guest::saying(700.0).join(&relay).await;
    moves.hears(700.0).await;
    stays.hears(440.0).await;
    for _ in 0..2 {
        tap.rebind().await;
        let moment = stays.ears.moment();
        stays.hears_within(PATIENCE, 440.0).await;
        // What was on its way to the old address is lost, what comes after that is heard.
        let received = moves.call.stats().received;
        moves
            .stats(SIGNALLING_FOLLOWS, "media at the new address", |stats| {
                stats.received > received + 100
            })
            .await;
        moves.hears(700.0).await;
        assert!(stays.ears.longest_gap_ms(440.0, moment) < 1_000);
    }
    let newcomer = Guest::saying(1_100.0).join(&relay).await;
    moves
        .event(SIGNALLING_FOLLOWS, "a newcomer", |event| match event {
            Event::MemberJoined { fingerprint, .. }
                if *fingerprint == newcomer.client.identity().fingerprint() =>
            {
                Some(())
            }
            _ => None,
        })
        .await;
    moves.hears(1_100.0).await;
    newcomer.hears(440.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_lanes_survives_a_new_address() {
    call_survives_a_new_address(Preference::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_quic_datagrams_survives_a_new_address() {
    call_survives_a_new_address(Preference::Quic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signalling_follows_the_lane_to_a_new_address_at_once() {
    let relay = Relay::start(&[]);
    let mut tap = Tap::start(relay.address).await;
    let guest = Guest {
        via: Some(tap.address),
        ..Guest::saying(440.0)
    };
    // Alone, so that there is nothing to say about others, which would take signalling along.
    let mut moves = guest.join(&relay).await;
    moves
        .stats(PATIENCE, "an answered lane", |stats| {
            stats.carrier_why == CarrierWhy::Answered
        })
        .await;
    tap.rebind().await;
    tap.take();
    until_within(FOLLOWS_AT_ONCE, "a word of signalling", || {
        let said = |packet: &Packet| packet.way == Way::Up && !packet.is_lane();
        tap.take().iter().any(said).then_some(())
    })
    .await;
    let newcomer = Guest::saying(700.0).join(&relay).await;
    let fingerprint = newcomer.client.identity().fingerprint();
    moves
        .event(FOLLOWS_AT_ONCE, "a newcomer", |event| match event {
            Event::MemberJoined { fingerprint: who, .. } if *who == fingerprint => Some(()),
            _ => None,
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_reached_any_more_costs_the_others_nothing() {
    let relay = Relay::start(&[]);
    let mut beside = Beside::start(&relay).await;
    let tap = Tap::start(relay.address).await;
    let dead = Guest {
        room: "beside",
        via: Some(tap.address),
        ..Guest::default()
    };
    let dead = dead.join(&relay).await;
    dead.hears(440.0).await;
    tap.pass_if(|_, _| false);
    // Its lane has not been heard of for 5 s, so nothing more goes there.
    relay
        .until("wzp_relay_packets_dropped_total{reason=\"silent\"}", |count| {
            count > 0.0
        })
        .await;
    beside.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_its_messages_loses_them_and_costs_nothing() {
    let relay = Relay::start(&["--message-rate", "5000"]);
    let mut beside = Beside::start(&relay).await;
    let mut deaf = Wire::start(relay.address).await;
    let mut talker = Wire::start(relay.address).await;
    let to = deaf.join("deaf").await.unwrap();
    talker.join("deaf").await.unwrap();
    let before = relay.process.resident_kib();
    let message = proto::PeerMessage {
        sender: to.get().into(),
        payload: vec![7; 4_096],
    };
    let dropped = "wzp_relay_peer_messages_dropped_total";
    let mut sent = 0;
    while relay.metric(dropped) < 100.0 && sent < 20_000 {
        for _ in 0..100 {
            assert!(talker.say(Kind::PeerMessage(message.clone())).await);
            sent += 1;
        }
        talker.run_for(Duration::from_millis(50)).await;
    }
    relay.until(dropped, |count| count >= 100.0).await;
    assert!(talker.goodbye.is_none() && !talker.is_over());
    assert_eq!(
        deaf.connection.close_reason(),
        None,
        "nobody can get another one cut off"
    );
    let after = relay.process.resident_kib();
    assert!(after < before + 64 * 1_024, "from {before} to {after} KiB");
    beside.is_undisturbed().await;
}
