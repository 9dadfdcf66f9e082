//! Whoever looks at a call sees QUIC.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{net::UdpSocket, path::Path, process::Command};

use wzp_e2e::{
    member::Guest,
    process::{Process, Scratch},
    relay::Relay,
    until,
};
use wzp_sdk::Preference;

const INSTALL: &str = "tshark is needed (`make setup` installs it), as root, to capture on lo";

/// A capture of everything that goes to or comes from the relay.
struct Capture {
    process: Process,
    port: u16,
    _home: Scratch,
    file: std::path::PathBuf,
}

impl Capture {
    async fn start(relay: &Relay) -> Self {
        let home = Scratch::default();
        let (file, port) = (home.file("call.pcapng"), relay.address.port());
        let canary = UdpSocket::bind("127.0.0.1:0").unwrap();
        let nobody = canary.local_addr().unwrap();
        let filter = format!("udp port {port} or udp port {}", nobody.port());
        let mut command = Command::new("tshark");
        command
            .args(["-i", "lo", "-l", "-P", "-w"])
            .arg(&file)
            .args(["-f", &filter]);
        assert!(Command::new("tshark").arg("-v").output().is_ok(), "{INSTALL}");
        let process = Process::spawn(&mut command);
        // It captures once it has seen one of these.
        until(INSTALL, || {
            canary.send_to(b"is anybody there?", nobody).unwrap();
            let log = process.log();
            assert!(!log.contains("permission"), "{INSTALL}: {log}");
            log.contains("UDP").then_some(())
        })
        .await;
        Self {
            process,
            port,
            _home: home,
            file,
        }
    }

    fn end(mut self) -> (Scratch, std::path::PathBuf, u16) {
        self.process.signal("INT");
        self.process.wait();
        (self._home, self.file, self.port)
    }
}

/// The packets of the relay that match `filter`, with these fields.
fn dissect(file: &Path, port: u16, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(file)
        .args(["-d", &format!("udp.port=={port},quic")]);
    command.args(["-Y", &format!("udp.port == {port} && ({filter})"), "-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_well_formed_quic_and_nothing_else() {
    let relay = Relay::start(&[]);
    let capture = Capture::start(&relay).await;
    let lane = Guest::saying(440.0).join(&relay).await;
    let other = Guest {
        carrier: Preference::Quic,
        ..Guest::saying(700.0)
    };
    let other = other.join(&relay).await;
    lane.hears(700.0).await;
    other.hears(440.0).await;
    // PINGs and reports come by now and then.
    for (sample, enough) in [
        ("wzp_relay_pings_total", 2.0),
        ("wzp_client_rtt_seconds_count", 2.0),
        ("wzp_client_loss_ratio_count{dir=\"down\"}", 2.0),
        ("wzp_relay_datagrams_total{dir=\"in\"}", 300.0),
    ] {
        relay.until(sample, |count| count >= enough).await;
    }
    lane.call.leave().await;
    other.call.leave().await;
    let (_home, file, port) = capture.end();

    let all = dissect(&file, port, "udp", &["frame.number"]).len();
    let quic = dissect(&file, port, "quic", &["frame.number"]).len();
    assert!(all > 500, "{all} packets");
    let strange = dissect(
        &file,
        port,
        "!quic",
        &["frame.number", "_ws.col.Protocol", "_ws.col.Info"],
    );
    assert_eq!((quic, strange), (all, Vec::<String>::new()));
    let faults = "_ws.malformed || _ws.expert.severity >= 6291456 || quic.fixed_bit == 0";
    let mut faulty = dissect(
        &file,
        port,
        faults,
        &["_ws.expert.message", "frame.number", "_ws.col.Info"],
    );
    // That it has no keys is as it should be.
    faulty
        .retain(|fault| !fault.starts_with("Failed to create decryption context: Secrets are not available"));
    assert_eq!(faulty, Vec::<String>::new());
    // Both kinds were there: handshakes by their long headers, and lanes among the short ones.
    assert!(!dissect(&file, port, "quic.long.packet_type == 0", &["frame.number"]).is_empty());
    let lanes = dissect(
        &file,
        port,
        "quic.header_form == 0 && udp.payload[1] & 80",
        &["frame.number"],
    );
    assert!(lanes.len() > 100, "{} lane packets", lanes.len());
}
