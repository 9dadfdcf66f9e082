//! Calls end with a reason, in time.

use std::time::Duration;

use wzp_e2e::{member::Guest, relay::Relay, tap::Tap};
use wzp_sdk::{EndReason, JoinError, Reason};

/// QUIC gives a peer up after 30 s without a word.
const GIVES_UP: Duration = Duration::from_secs(45);
const STOPS_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_ends_the_calls() {
    let mut relay = Relay::start(&[]);
    let mut a = Guest::saying(440.0).join(&relay).await;
    let mut b = Guest::saying(700.0).join(&relay).await;
    a.hears(700.0).await;
    b.hears(440.0).await;
    relay.process.kill();
    let (a, b) = tokio::join!(a.end(GIVES_UP), b.end(GIVES_UP));
    assert_eq!([a, b], [EndReason::RelayLost, EndReason::RelayLost]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_stopped_says_goodbye_and_goes() {
    let mut relay = Relay::start(&[]);
    let mut a = Guest::saying(440.0).join(&relay).await;
    let mut b = Guest::saying(700.0).join(&relay).await;
    a.hears(700.0).await;
    relay.process.signal("TERM");
    let (status, took) = relay.process.wait();
    assert!(status.success(), "{status}");
    assert!(took <= STOPS_WITHIN, "{took:?}");
    let log = relay.process.log();
    assert!(
        log.contains("stopping") && !log.contains('\x1b'),
        "colours in a pipe: {log}"
    );
    for member in [&mut a, &mut b] {
        let EndReason::Refused { reason, text } = member.end(Duration::from_secs(5)).await else {
            panic!("no reason");
        };
        assert_eq!(reason, Reason::ShuttingDown);
        assert!(!text.is_empty());
    }
}

/// How long a relay takes to go that cannot reach its member, after so many signals.
async fn stop_without_reaching_anybody(signals: usize) -> Duration {
    let mut relay = Relay::start(&[]);
    let tap = Tap::start(relay.address).await;
    let guest = Guest {
        via: Some(tap.address),
        ..Guest::saying(440.0)
    };
    let _member = guest.join(&relay).await;
    tap.pass_if(|_, _| false);
    for _ in 0..signals {
        relay.process.signal("TERM");
        relay
            .process
            .line("stopping", |line| line.contains("stopping").then_some(()));
    }
    let (status, took) = relay.process.wait();
    assert!(status.success(), "{status}");
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_does_not_wait_for_who_cannot_be_reached_and_less_when_told_twice() {
    let once = stop_without_reaching_anybody(1).await;
    assert!(once <= STOPS_WITHIN, "{once:?}");
    let twice = stop_without_reaching_anybody(2).await;
    assert!(twice < once / 2, "one signal {once:?}, two {twice:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_drops_its_client_is_gone_from_the_room() {
    let relay = Relay::start(&[]);
    let a = Guest::saying(440.0).join(&relay).await;
    let b = Guest::saying(700.0).join(&relay).await;
    a.hears(700.0).await;
    drop(b);
    relay.until("wzp_relay_members", |members| members == 1.0).await;
    a.hears_no_more(700.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_is_in_one_room() {
    let relay = Relay::start(&[]);
    let a = Guest::saying(440.0).join(&relay).await;
    let second = a
        .client
        .join(wzp_sdk::JoinOptions {
            room: wzp_sdk::RoomName::parse("other").unwrap(),
            tier: wzp_sdk::TierChoice::Auto,
            echo: false,
            source: Box::new(wzp_sdk::audio::Silence),
            sink: Box::new(wzp_sdk::audio::Discard),
            processing: wzp_sdk::Processing::default(),
        })
        .await;
    assert!(matches!(second, Err(JoinError::Busy)));
}
