//! Faults that an application injects with nothing but the SDK.

use std::time::{Duration, Instant};

use wzp_e2e::{
    PATIENCE,
    member::{Guest, Member},
    relay::Relay,
};
use wzp_sdk::{
    ConnectError, EndReason, Event, Preference, Tier, TierChoice,
    chaos::{Jitter, Link, Loss, Profile},
};

/// Long enough for 100 packets to be lost at 10 %, of which some can be brought back.
const A_WHILE: Duration = Duration::from_secs(60);
/// A silence is told after 3 to 4 s.
const TELLS: Duration = Duration::from_secs(8);
/// A relay that says nothing for 10 s is given up; the rest is for a busy machine.
const GIVES_UP: Duration = Duration::from_secs(15);

/// A call of two, one of whom is behind the link.
async fn call(relay: &Relay, link: &Link, carrier: Preference) -> (Member, Member) {
    let guest = |hertz, chaos| Guest {
        tier: TierChoice::Fixed(Tier::Good),
        carrier,
        chaos,
        ..Guest::saying(hertz)
    };
    let behind = guest(440.0, Some(link.clone())).join(relay).await;
    let other = guest(700.0, None).join(relay).await;
    behind.hears(700.0).await;
    other.hears(440.0).await;
    (behind, other)
}

async fn a_call_goes_on_at_10_percent_loss(carrier: Preference) {
    let relay = Relay::start(&[]);
    let link = Link::new(3);
    let (behind, other) = call(&relay, &link, carrier).await;
    let before = link.down().stats();
    assert!(before.delivered > 0 && before.lost == 0, "{before:?}");
    link.set(Profile {
        loss: Loss::Independent(0.1),
        delay: Duration::from_millis(20),
        jitter: Jitter {
            deviation: Duration::from_millis(3),
            memory: Duration::from_millis(60),
            ..Jitter::default()
        },
        ..Profile::default()
    });
    for (member, hertz) in [(&behind, 700.0), (&other, 440.0)] {
        let stats = member
            .stats(A_WHILE, "recovered frames", |stats| {
                stats.remotes.first().is_some_and(|remote| remote.recovered > 5)
            })
            .await;
        let [remote] = stats.remotes.as_slice() else {
            panic!("{stats:?}");
        };
        assert!(remote.lost > 0 && remote.lost < remote.received / 3, "{remote:?}");
        member.hears(hertz).await;
    }
    behind
        .stats(PATIENCE, "both delays", |stats| {
            stats.rtt.is_some_and(|rtt| rtt >= Duration::from_millis(35))
        })
        .await;
    for way in [link.up(), link.down()] {
        let stats = way.stats();
        let share = stats.lost as f64 / stats.sent as f64;
        assert!((0.01..0.2).contains(&share), "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_at_10_percent_loss_over_lanes() {
    a_call_goes_on_at_10_percent_loss(Preference::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_at_10_percent_loss_over_quic_datagrams() {
    a_call_goes_on_at_10_percent_loss(Preference::Quic).await;
}

async fn a_cut_is_told_and_ends_the_call(carrier: Preference) {
    let relay = Relay::start(&[]);
    let link = Link::new(1);
    let (mut behind, _other) = call(&relay, &link, carrier).await;
    link.cut();
    let cut = Instant::now();
    let since = behind.event(TELLS, "silence", silence).await;
    assert!(since >= Duration::from_secs(3), "{since:?}");
    let reason = behind.end(GIVES_UP).await;
    let after = Duration::from_secs(10);
    assert_eq!(reason, EndReason::RelaySilent { after });
    assert!(cut.elapsed() < GIVES_UP, "{:?}", cut.elapsed());
}

fn silence(event: &Event) -> Option<Duration> {
    match event {
        Event::RelaySilent { since } => Some(*since),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_told_and_ends_the_call_over_lanes() {
    a_cut_is_told_and_ends_the_call(Preference::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_told_and_ends_the_call_over_quic_datagrams() {
    a_cut_is_told_and_ends_the_call(Preference::Quic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_link_is_restored_in_time_goes_on() {
    let relay = Relay::start(&[]);
    let link = Link::new(1);
    let (mut behind, other) = call(&relay, &link, Preference::Auto).await;
    link.cut();
    behind.event(TELLS, "silence", silence).await;
    link.restore();
    let after = behind
        .event(PATIENCE, "answers", |event| match event {
            Event::RelayAnswers { after } => Some(*after),
            _ => None,
        })
        .await;
    assert!(after >= Duration::from_secs(3), "{after:?}");
    behind.hears(700.0).await;
    other.hears(440.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_one_way_is_not_heard_but_hears() {
    let relay = Relay::start(&[]);
    let link = Link::new(1);
    let (behind, other) = call(&relay, &link, Preference::Auto).await;
    link.up().cut();
    other.hears_no_more(440.0).await;
    assert!(behind.ears.hear(700.0));
    assert!(link.up().stats().cut > 0 && link.down().stats().cut == 0);
    link.up().restore();
    other.hears(440.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signalling_is_cut_as_well_and_a_link_serves_the_next_client() {
    let relay = Relay::start(&[]);
    let link = Link::new(1);
    let guest = || Guest {
        chaos: Some(link.clone()),
        ..Guest::saying(440.0)
    };
    link.cut();
    let refused = guest().connect(&relay).await;
    assert!(matches!(refused, Err(ConnectError::Unreachable { .. })));
    assert!(link.up().stats().cut > 0);
    link.restore();
    let member = guest().join(&relay).await;
    let other = Guest::saying(700.0).join(&relay).await;
    member.hears(700.0).await;
    other.hears(440.0).await;
}
