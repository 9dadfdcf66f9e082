//! A relay that cannot keep up sheds load, and says so.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use wzp_wire::signal::Reason;

use crate::{
    client::{Client, soon},
    server::Server,
};

fn packet(level: u8, byte: u8) -> [u8; 40] {
    let mut packet = [byte; 40];
    packet[..4].copy_from_slice(&[0x81, level << 4, 0, byte]);
    packet
}

/// Junk from several threads, more than a loop takes in one batch.
struct Flood(Arc<AtomicBool>);

impl Flood {
    fn at(relay: SocketAddr) -> Self {
        let flood = Self(Arc::default());
        for _ in 0..4 {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let over = Arc::clone(&flood.0);
            thread::spawn(move || {
                while !over.load(Relaxed) {
                    // What the relay's buffer has no room for is lost, as it is meant to be.
                    let _ = socket.send_to(&[0; 20], relay);
                }
            });
        }
        flood
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overloaded_relay_refuses_newcomers_and_narrows_small_rooms() {
    let relay = Server::start_changed("127.0.0.1:0", &["--loudest", "1"], |config| {
        let overload = &mut config.limits.overload;
        (overload.behind, overload.relax) = (Duration::ZERO, Duration::from_secs(3_600));
    })
    .await;
    let mut listener = Client::start(relay.address).await;
    let mut loud = Client::start(relay.address).await;
    let mut quiet = Client::start(relay.address).await;
    let mut late = Client::start(relay.address).await;
    listener.join("room").await;
    let (loud_id, _) = loud.join("room").await;
    let (quiet_id, _) = quiet.join("room").await;
    let flood = Flood::at(relay.address);
    relay
        .until("wzp_relay_overload_level", |level| level >= 1.0)
        .await;
    drop(flood);
    assert_eq!(late.join_as("room", false).await, Err(Reason::Overloaded));
    assert_eq!(
        relay
            .metric("wzp_relay_refusals_total{reason=\"overloaded\"}")
            .await,
        1.0
    );
    loud.speak_to(loud_id, &packet(9, 1), &listener).await;
    let dropped = "wzp_relay_packets_dropped_total{reason=\"overload\"}";
    soon("a packet that is shed", async {
        while relay.metric(dropped).await < 1.0 {
            loud.send_media(loud_id, &packet(9, 1));
            quiet.send_media(quiet_id, &packet(3, 2));
        }
    })
    .await;
    loud.speak_to(loud_id, &packet(9, 3), &listener).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newcomers_are_taken_again_when_it_has_passed() {
    let relay = Server::start_changed("127.0.0.1:0", &[], |config| {
        let overload = &mut config.limits.overload;
        (overload.behind, overload.relax) = (Duration::ZERO, Duration::from_millis(50));
    })
    .await;
    let mut client = Client::start(relay.address).await;
    let flood = Flood::at(relay.address);
    relay
        .until("wzp_relay_overload_level", |level| level >= 1.0)
        .await;
    drop(flood);
    relay
        .until("wzp_relay_overload_level", |level| level == 0.0)
        .await;
    let changes = |level| format!("wzp_relay_overload_changes_total{{level=\"{level}\"}}");
    assert!(relay.metric(&changes(1)).await + relay.metric(&changes(2)).await >= 1.0);
    assert!(relay.metric(&changes(0)).await >= 1.0);
    client.join("room").await;
}
