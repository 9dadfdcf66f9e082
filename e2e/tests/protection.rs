//! A relay without AES instructions has lanes as well.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;

use clap::Parser;
use tokio::{sync::mpsc, task::JoinHandle};
use wzp_e2e::{
    PATIENCE,
    member::{Guest, Member},
};
use wzp_lane::Aead;
use wzp_relay::{Args, Config, Relay};
use wzp_sdk::{Carrier, CarrierWhy, CertificateHash, Client, Event, Trust};

/// A relay in this process, as it would be on a machine with no other protection.
struct WithoutAes {
    address: SocketAddr,
    certificate: CertificateHash,
    _stop: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

impl WithoutAes {
    async fn start() -> Self {
        let args = ["wzp-relay", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
        let args = Args::try_parse_from(args).unwrap();
        let config = Config {
            aeads: &[Aead::ChaCha20Poly1305],
            ..Config::try_from(args).unwrap()
        };
        let relay = Relay::bind(config).await.unwrap();
        let (stop, stopped) = mpsc::channel(1);
        Self {
            address: relay.banner().address,
            certificate: relay.banner().fingerprint.to_string().parse().unwrap(),
            _stop: stop,
            task: tokio::spawn(relay.run_until(stopped)),
        }
    }

    async fn join(&self, hertz: f32) -> Member {
        let client = Client::builder()
            .relay(self.address.to_string())
            .trust(Trust::Pinned(self.certificate))
            .connect()
            .await
            .unwrap();
        Guest::saying(hertz).join_with(client).await.unwrap()
    }
}

impl Drop for WithoutAes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_without_aes_has_lanes_with_clients_that_prefer_aes() {
    let relay = WithoutAes::start().await;
    let mut members = [relay.join(440.0).await, relay.join(700.0).await];
    for member in &mut members {
        let why = member
            .event(PATIENCE, "answer over the lane", |event| match event {
                Event::Path { carrier, why, .. } => (*why != CarrierWhy::Waiting).then_some((*carrier, *why)),
                _ => None,
            })
            .await;
        assert_eq!(why, (Carrier::Lane, CarrierWhy::Answered));
    }
    let [a, b] = members;
    a.hears(700.0).await;
    b.hears(440.0).await;
}
