//! A relay that forwards to another one.

use std::time::Duration;

use wzp_e2e::{
    PATIENCE,
    member::{Guest, Member},
    relay::Relay,
    tap::Tap,
};
use wzp_sdk::Event;
use wzp_wire::signal::proto::NoticeKind;

/// QUIC gives a dead peer up after 30 s.
const GIVES_UP: Duration = Duration::from_secs(45);
/// A dead upstream relay is tried again at growing distances.
const TRIES_AGAIN: Duration = Duration::from_secs(60);

async fn notice(member: &mut Member, patience: Duration, wanted: NoticeKind) -> String {
    member
        .event(patience, &format!("{wanted:?}"), |event| match event {
            Event::Notice { kind, text } if *kind == wanted => Some(text.clone()),
            _ => None,
        })
        .await
}

async fn downstream_of(upstream: &Relay) -> Relay {
    let relay = Relay::start(&["--forward", &upstream.address.to_string()]);
    relay
        .until("wzp_relay_upstream_connected", |connected| connected == 1.0)
        .await;
    relay
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_both_relays_hear_each_other() {
    let upstream = Relay::start(&[]);
    let downstream = downstream_of(&upstream).await;
    let mut up = Guest::saying(440.0).join(&upstream).await;
    let down = Guest::saying(700.0).join(&downstream).await;
    let beside = Guest::saying(1_100.0).join(&downstream).await;
    for hertz in [700.0, 1_100.0] {
        up.hears(hertz).await;
    }
    down.hears(440.0).await;
    down.hears(1_100.0).await;
    beside.hears(440.0).await;
    assert!(downstream.metric("wzp_relay_packets_total{dir=\"out\",leg=\"mesh\"}") > 0.0);
    assert!(upstream.metric("wzp_relay_packets_total{dir=\"in\",leg=\"mesh\"}") > 0.0);

    let gone = down.client.identity().fingerprint();
    down.call.leave().await;
    let left = up
        .event(PATIENCE, "who left downstream", |event| match event {
            Event::MemberLeft { fingerprint, .. } => Some(*fingerprint),
            _ => None,
        })
        .await;
    assert_eq!(left, gone);
    up.hears_no_more(700.0).await;
    up.hears(1_100.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_downstream_relays_share_a_room() {
    let upstream = Relay::start(&[]);
    let (left, right) = (downstream_of(&upstream).await, downstream_of(&upstream).await);
    let a = Guest::saying(440.0).join(&left).await;
    let b = Guest::saying(700.0).join(&right).await;
    a.hears(700.0).await;
    b.hears(440.0).await;
}

/// Ends the upstream relay, starts it again, and expects the call to come back.
async fn survives(kill: fn(&mut Relay), noticed_within: Duration) {
    let mut upstream = Relay::start(&[]);
    let address = upstream.address.to_string();
    let downstream = downstream_of(&upstream).await;
    let mut down = Guest::saying(700.0).join(&downstream).await;
    let beside = Guest::saying(1_100.0).join(&downstream).await;
    let up = Guest::saying(440.0).join(&upstream).await;
    down.hears(440.0).await;
    up.hears(700.0).await;

    kill(&mut upstream);
    let text = notice(&mut down, noticed_within, NoticeKind::UpstreamLost).await;
    assert!(!text.is_empty());
    drop(up);
    drop(upstream);
    down.hears(1_100.0).await;
    beside.hears(700.0).await;

    let upstream = Relay::start_at(&address, &[]);
    notice(&mut down, TRIES_AGAIN, NoticeKind::UpstreamRestored).await;
    let up = Guest::saying(440.0).join(&upstream).await;
    for member in [&down, &beside] {
        member.hears(440.0).await;
    }
    up.hears(700.0).await;
    up.hears(1_100.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_relay_that_is_stopped_and_started_comes_back() {
    survives(
        |relay| {
            relay.process.signal("TERM");
            relay.process.wait();
        },
        PATIENCE,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_relay_that_is_killed_and_started_comes_back() {
    survives(|relay| relay.process.kill(), GIVES_UP).await;
}

/// A link that breaks for so long that both relays let the members beyond go, and heals: the same people are there as
/// before, and whoever was cut off has to prove anew that it is no recording.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_between_relays_that_is_cut_for_long_heals() {
    let upstream = Relay::start(&[]);
    let tap = Tap::start(upstream.address).await;
    let forward = ["--forward", &tap.address.to_string()];
    let downstream = Relay::start(&forward);
    downstream
        .until("wzp_relay_upstream_connected", |connected| connected == 1.0)
        .await;
    let mut down = Guest::saying(700.0).join(&downstream).await;
    let beside = Guest::saying(1_100.0).join(&downstream).await;
    let mut up = Guest::saying(440.0).join(&upstream).await;
    down.hears(440.0).await;
    up.hears(700.0).await;

    let left = |event: &Event| matches!(event, Event::MemberLeft { .. }).then_some(());
    tap.pass_if(|_, _| false);
    down.event(GIVES_UP, "who is beyond leave", left).await;
    up.event(GIVES_UP, "who is beyond leave", left).await;
    tap.pass_if(|_, _| true);
    down.event(TRIES_AGAIN, "the room entered anew", |event| {
        matches!(event, Event::Rejoined { .. }).then_some(())
    })
    .await;
    for member in [&down, &beside] {
        member.hears(440.0).await;
    }
    down.hears(1_100.0).await;
    beside.hears(700.0).await;
    up.hears(700.0).await;
    up.hears(1_100.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grant_of_a_member_is_good_for_both_relays() {
    const SECRET: &str = "a secret of sixteen and more";
    let upstream = Relay::start(&["--secret", SECRET]);
    let downstream = Relay::start(&[
        "--secret",
        SECRET,
        "--forward",
        &upstream.address.to_string(),
        "--forward-cert",
        &upstream.certificate.to_string(),
    ]);
    let guest = |hertz| Guest {
        secret: Some(SECRET),
        ..Guest::saying(hertz)
    };
    let up = guest(440.0).join(&upstream).await;
    let down = guest(700.0).join(&downstream).await;
    up.hears(700.0).await;
    down.hears(440.0).await;
}
