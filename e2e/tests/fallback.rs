//! Where lanes do not get through, QUIC datagrams do.

use std::time::Duration;

use wzp_e2e::{
    PATIENCE,
    member::{Guest, Member},
    relay::Relay,
    tap::{Tap, Way, is_lane},
};
use wzp_sdk::{Carrier, CarrierWhy, Preference};

/// A lane is given 1 s for its first answer; the rest is for a busy machine.
const FALLS_BACK: Duration = Duration::from_secs(5);
/// A PING each 5 s of media, then 3 s for its answer.
const NOTICES: Duration = Duration::from_secs(15);

async fn join_through(tap: &Tap, relay: &Relay) -> Member {
    let guest = Guest {
        via: Some(tap.address),
        ..Guest::saying(440.0)
    };
    guest.join(relay).await
}

/// Drops lane packets that go one of these ways.
fn block(tap: &Tap, ways: &'static [Way]) {
    tap.pass_if(move |way, bytes| !(is_lane(bytes) && ways.contains(&way)));
}

async fn falls_back_at_once(ways: &'static [Way]) {
    let relay = Relay::start(&[]);
    let other = Guest::saying(700.0).join(&relay).await;
    let tap = Tap::start(relay.address).await;
    block(&tap, ways);
    let mut member = join_through(&tap, &relay).await;
    let why = member.carrier(FALLS_BACK, Carrier::QuicDatagram).await;
    assert_eq!(why, CarrierWhy::NeverAnswered);
    member.hears(700.0).await;
    other.hears(440.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_lanes_are_blocked_goes_over_quic_datagrams_and_says_why() {
    falls_back_at_once(&[Way::Up, Way::Down]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_blocked_to_the_relay_are_enough() {
    falls_back_at_once(&[Way::Up]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_blocked_to_the_client_are_enough() {
    falls_back_at_once(&[Way::Down]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_falls_silent_in_a_call_gives_way() {
    let relay = Relay::start(&[]);
    let other = Guest::saying(700.0).join(&relay).await;
    let tap = Tap::start(relay.address).await;
    let mut member = join_through(&tap, &relay).await;
    member.hears(700.0).await;
    member
        .stats(PATIENCE, "an answered lane", |stats| {
            stats.carrier_why == CarrierWhy::Answered
        })
        .await;
    block(&tap, &[Way::Up, Way::Down]);
    other.hears_no_more(440.0).await;
    let why = member.carrier(NOTICES, Carrier::QuicDatagram).await;
    assert_eq!(why, CarrierWhy::FellSilent);
    member.hears(700.0).await;
    other.hears(440.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_figures_name_the_carrier_that_was_asked_for() {
    let relay = Relay::start(&[]);
    let guest = Guest {
        carrier: Preference::Quic,
        ..Guest::default()
    };
    let member = guest.join(&relay).await;
    let stats = member.call.stats();
    assert_eq!(stats.carrier, Carrier::QuicDatagram);
    assert!(stats.rtt.is_some());
}
