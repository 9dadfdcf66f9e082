//! Calls end with a reason, in time.

use std::time::{Duration, Instant};

use wzp_e2e::{
    PATIENCE,
    member::{Guest, Member},
    relay::Relay,
    tap::Tap,
    until_within,
};
use wzp_sdk::{EndReason, Event, JoinError, Preference, Reason};

/// A relay that says nothing for 10 s is given up; the rest is for a busy machine.
const GIVES_UP: Duration = Duration::from_secs(15);
/// A silence is told after 3 to 4 s.
const TELLS: Duration = Duration::from_secs(8);
/// Silence would be told well before.
const QUIET: Duration = Duration::from_secs(9);
const STOPS_WITHIN: Duration = Duration::from_secs(2);

fn silence(event: &Event) -> Option<Duration> {
    match event {
        Event::RelaySilent { since } => Some(*since),
        _ => None,
    }
}

async fn a_relay_that_is_killed_ends_the_calls(carrier: Preference) {
    let mut relay = Relay::start(&[]);
    let guest = |hertz| Guest {
        carrier,
        ..Guest::saying(hertz)
    };
    let mut a = guest(440.0).join(&relay).await;
    let mut b = guest(700.0).join(&relay).await;
    a.hears(700.0).await;
    b.hears(440.0).await;
    relay.process.kill();
    let killed = Instant::now();
    let (told_a, told_b) = tokio::join!(
        a.event(TELLS, "silence", silence),
        b.event(TELLS, "silence", silence)
    );
    assert!(told_a.min(told_b) >= Duration::from_secs(3));
    let stats = a
        .stats(PATIENCE, "no round trip of a silent relay", |stats| {
            stats.rtt.is_none()
        })
        .await;
    let gap = stats.remotes.first().map_or(0, |b| b.longest_gap_ms);
    assert!(gap > 2_000, "{stats:?}");
    let (a, b) = tokio::join!(a.end(GIVES_UP), b.end(GIVES_UP));
    let silent = EndReason::RelaySilent {
        after: Duration::from_secs(10),
    };
    assert_eq!([a, b], [silent.clone(), silent]);
    assert!(killed.elapsed() < GIVES_UP, "{:?}", killed.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_ends_the_calls_over_lanes() {
    a_relay_that_is_killed_ends_the_calls(Preference::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_ends_the_calls_over_quic_datagrams() {
    a_relay_that_is_killed_ends_the_calls(Preference::Quic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_where_nobody_talks_is_not_a_silent_relay() {
    let relay = Relay::start(&[]);
    for carrier in [Preference::Auto, Preference::Quic] {
        let guest = Guest {
            carrier,
            ..Guest::default()
        };
        let mut quiet = guest.join(&relay).await;
        quiet
            .stats(PATIENCE, "a quiet while", |stats| stats.elapsed >= QUIET)
            .await;
        assert!(quiet.news().iter().all(|event| silence(event).is_none()));
    }
}

async fn a_relay_that_was_out_of_reach_is_heard_again(carrier: Preference) {
    let relay = Relay::start(&[]);
    let tap = Tap::start(relay.address).await;
    let guest = Guest {
        via: Some(tap.address),
        carrier,
        ..Guest::saying(440.0)
    };
    let mut member = guest.join(&relay).await;
    let other = Guest::saying(700.0).join(&relay).await;
    member.hears(700.0).await;
    tap.pass_if(|_, _| false);
    member.event(TELLS, "silence", silence).await;
    tap.pass_if(|_, _| true);
    let after = member
        .event(PATIENCE, "answers", |event| match event {
            Event::RelayAnswers { after } => Some(*after),
            _ => None,
        })
        .await;
    assert!(after >= Duration::from_secs(3), "{after:?}");
    member.hears(700.0).await;
    other.hears(440.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_out_of_reach_is_heard_again_over_lanes() {
    a_relay_that_was_out_of_reach_is_heard_again(Preference::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_out_of_reach_is_heard_again_over_quic_datagrams() {
    a_relay_that_was_out_of_reach_is_heard_again(Preference::Quic).await;
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
    let Member { client, call, .. } = a;
    drop(call);
    until_within(PATIENCE, "the end of the connection", || {
        (!client.is_connected()).then_some(())
    })
    .await;
    let asked = Instant::now();
    let again = Guest::saying(440.0).join_with(client).await;
    assert!(matches!(again, Err(JoinError::RelayLost)), "{:?}", again.err());
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
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
