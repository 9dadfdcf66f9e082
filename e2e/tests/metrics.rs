//! What a relay says of itself while a call runs.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use wzp_e2e::{PATIENCE, member::Guest, relay::Relay};
use wzp_sdk::Preference;

/// What `promtool check metrics` finds fault with.
fn promtool(text: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("promtool ({error}): `make setup` installs it with Debian's prometheus")
        });
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_a_running_call_move_and_are_clean() {
    let upstream = Relay::start(&[]);
    let relay = Relay::start(&[
        "--forward",
        &upstream.address.to_string(),
        "--probe",
        &upstream.address.to_string(),
    ]);
    let a = Guest::saying(440.0).join(&relay).await;
    let b = Guest::saying(700.0).join(&relay).await;
    a.hears(700.0).await;
    b.hears(440.0).await;
    for dir in ["in", "out"] {
        let sample = format!("wzp_relay_packets_total{{dir=\"{dir}\",leg=\"client\"}}");
        let before = relay.metric(&sample);
        relay.until(&sample, |now| now > before + 50.0).await;
    }
    // Members report once a second.
    relay
        .until("wzp_client_late_ratio_count", |count| count > 0.0)
        .await;
    relay
        .until("wzp_client_rtt_seconds_count", |count| count > 0.0)
        .await;
    for (sample, value) in [
        ("wzp_relay_rooms", 1.0),
        ("wzp_relay_members", 2.0),
        ("wzp_relay_sessions{role=\"member\"}", 2.0),
        ("wzp_relay_lanes", 3.0),
        ("wzp_relay_state{state=\"serving\"}", 1.0),
    ] {
        relay.until(sample, |now| now >= value).await;
    }
    let probed = format!("{{target=\"{}\"}}", upstream.address);
    relay
        .until(&format!("wzp_probe_reachable{probed}"), |up| up == 1.0)
        .await;
    relay
        .until(&format!("wzp_probe_rtt_seconds{probed}"), |rtt| rtt > 0.0)
        .await;
    for relay in [&relay, &upstream] {
        assert_eq!(promtool(&relay.get("/metrics")), "");
        assert_eq!(relay.get("/livez"), "ok\n");
        assert_eq!(relay.get("/readyz"), "ok\n");
    }
    a.stats(PATIENCE, "figures", |stats| {
        stats.sent > 100 && stats.received > 100
    })
    .await;
}

/// Round trip times are as fresh as the PINGs that measure them.
async fn a_call_is_pinged_every_second(carrier: Preference) {
    let relay = Relay::start(&[]);
    let guest = Guest {
        carrier,
        ..Guest::saying(440.0)
    };
    let member = guest.join(&relay).await;
    let pings = "wzp_relay_pings_total";
    let began = member.stats(PATIENCE, "media", |stats| stats.sent > 50).await;
    let before = relay.metric(pings);
    let ended = member
        .stats(PATIENCE, "some seconds", |stats| {
            stats.elapsed >= began.elapsed + Duration::from_secs(6)
        })
        .await;
    let rate = (relay.metric(pings) - before) / (ended.elapsed - began.elapsed).as_secs_f64();
    assert!((0.6..1.4).contains(&rate), "{rate} PINGs a second");
    assert!(ended.rtt.is_some_and(|rtt| rtt > Duration::ZERO));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_lanes_is_pinged_every_second() {
    a_call_is_pinged_every_second(Preference::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_quic_datagrams_is_pinged_every_second() {
    a_call_is_pinged_every_second(Preference::Quic).await;
}
