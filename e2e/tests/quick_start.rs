//! The quick start of the README, word for word but for the port.

#![expect(clippy::unwrap_used, reason = "a test")]

use wzp_e2e::{
    process::{Process, Scratch},
    relay::Relay,
};

/// A port that was free a moment ago, which nobody else takes so soon.
fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.local_addr().unwrap().port()
}

fn client(home: &Scratch, args: &[&str]) -> (std::process::ExitStatus, String) {
    let mut process = Process::start("wzp-client", home, args);
    let (status, _) = process.wait();
    (status, process.log())
}

#[test]
fn the_quick_start_works_word_for_word() {
    let port = free_port();
    let relay = Relay::start_at(&format!("0.0.0.0:{port}"), &[]);
    relay
        .process
        .line("warning", |line| line.contains("open to everybody").then_some(()));
    let home = Scratch::default();
    let address = format!("127.0.0.1:{port}");
    let (status, log) = client(&home, &["--send-tone", "2", &address]);
    assert!(status.success(), "{status}: {log}");
    assert!(relay.metric("wzp_relay_packets_total{dir=\"in\",leg=\"client\"}") > 50.0);
    // The relay is known now, so a second call is as good.
    let (status, log) = client(&home, &["--send-tone", "1", &address]);
    assert!(status.success(), "{status}: {log}");
}
