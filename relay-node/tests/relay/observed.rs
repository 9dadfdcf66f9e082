//! What the relay says of itself over HTTP.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use wzp_wire::signal::{Kind, proto};

use crate::{client::Client, server::Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_please_promtool() {
    let relay = Server::start(&["--probe", "a=127.0.0.1:1"]).await;
    let mut client = Client::start(relay.address).await;
    client.join("room").await;
    let (status, text) = relay.get("/metrics").await;
    assert_eq!(status, 200);
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .spawn();
    let mut child =
        child.expect("promtool comes with Debian's prometheus package, which `make setup` installs");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_metric_names_a_room_a_member_or_an_address() {
    let relay = Server::start(&[]).await;
    let mut client = Client::start(relay.address).await;
    client.join("a-very-secret-room").await;
    let (_, text) = relay.get("/metrics").await;
    assert!(!text.contains("secret-room"));
    assert!(!text.contains("127.0.0.1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_documented_and_nothing_else_is() {
    let target = Server::start(&[]).await;
    let address = target.address.to_string();
    let relay = Server::start(&["--probe", &format!("a={address}"), "--forward", &address]).await;
    relay
        .until("wzp_probe_rtt_seconds{target=\"a\"}", |rtt| rtt > 0.0)
        .await;
    let token = format!("wzp1.{}.secret", "A".repeat(43));
    let in_cluster = ["--control", "127.0.0.1:1", "--join-token", &token, "--id", "a"];
    let in_cluster = Server::start(&in_cluster).await;
    let text = relay.get("/metrics").await.1 + &in_cluster.get("/metrics").await.1;
    let docs = include_str!("../../../docs/metrics.md");
    let (docs, _of_others) = docs.split_once("\n## Control plane").unwrap();
    let documented: Vec<&str> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let exported: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    for name in &exported {
        assert!(documented.contains(name), "{name} is not in docs/metrics.md");
    }
    let is_name = |name: &&&str| name.starts_with("wzp_") || name.starts_with("process_");
    for name in documented.iter().filter(is_name) {
        assert!(exported.contains(name), "{name} is documented and not exported");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_relay_does_not_do_has_no_series() {
    let (_, text) = Server::start(&[]).await.get("/metrics").await;
    for name in [
        "wzp_relay_upstream",
        "wzp_probe",
        "wzp_relay_control",
        "wzp_relay_peers_",
        "wzp_cert",
    ] {
        assert!(!text.contains(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_a_lane_is_counted_and_so_is_a_refused_offer() {
    let relay = Server::start(&["--max-lanes", "1"]).await;
    let _first = Client::start(relay.address).await;
    let full = "wzp_relay_lanes_refused_total{reason=\"full\"}";
    assert_eq!(relay.metric(full).await, 0.0);
    let mut second = Client::start(relay.address).await;
    assert_eq!(relay.metric(full).await, 1.0);
    second
        .send(Kind::LaneOffer(proto::LaneOffer {
            number: 1,
            lane_id: vec![1; 8],
            aeads: vec![0xffff],
        }))
        .await;
    relay
        .until("wzp_relay_lanes_refused_total{reason=\"aead\"}", |n| n == 1.0)
        .await;
    assert_eq!(
        relay
            .metric("wzp_relay_refusals_total{reason=\"overloaded\"}")
            .await,
        0.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_of_members_become_histograms() {
    let relay = Server::start(&[]).await;
    let mut client = Client::start(relay.address).await;
    client
        .send(Kind::QualityReport(proto::QualityReport {
            loss_permille: 30,
            mos_centi: 410,
            jitter_ms: 12,
            fec_recovered: 5,
            longest_gap_ms: 60,
            // Out of every range: counted as the most that can be.
            late_permille: u32::MAX,
            key_mismatch: 2,
            ..proto::QualityReport::default()
        }))
        .await;
    relay
        .until("wzp_client_loss_ratio_count{dir=\"down\"}", |count| count == 1.0)
        .await;
    assert_eq!(
        relay.metric("wzp_client_loss_ratio_sum{dir=\"down\"}").await,
        0.03
    );
    assert_eq!(relay.metric("wzp_client_late_ratio_sum").await, 1.0);
    assert_eq!(relay.metric("wzp_fec_recovered_total").await, 5.0);
    assert_eq!(relay.metric("wzp_key_mismatch_total").await, 2.0);
    assert_eq!(relay.metric("wzp_mos_estimate_sum").await, 4.1);

    // Somebody who hears nothing for want of a key says nothing about the link.
    client
        .send(Kind::QualityReport(proto::QualityReport {
            key_mismatch: 50,
            ..proto::QualityReport::default()
        }))
        .await;
    relay.until("wzp_key_mismatch_total", |count| count == 52.0).await;
    assert_eq!(
        relay.metric("wzp_client_loss_ratio_count{dir=\"down\"}").await,
        1.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liveness_and_readiness_are_answered() {
    let relay = Server::start(&[]).await;
    assert_eq!(relay.get("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(relay.get("/readyz").await, (200, "ok\n".to_owned()));
    assert_eq!(relay.get("/nothing").await.0, 404);
}
