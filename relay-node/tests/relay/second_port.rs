//! The second port: it answers questions for addresses, and is of no use against the first.

use std::{net::SocketAddr, time::Duration};

use tokio::net::UdpSocket;
use wzp_wire::signal::{Reason, Role};

use crate::{
    client::{Carrier, Client, Options, Refused, soon},
    server::Server,
};

const SECRET: &str = "a secret of 24 characters";

async fn with_second_port(args: &[&str]) -> Server {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    Server::start(&[args, &["--reflect-port", &port]].concat()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_reflected_on_both_ports_without_a_grant() {
    let relay = with_second_port(&["--secret", SECRET]).await;
    for carrier in [Carrier::Lane, Carrier::Quic] {
        for address in [relay.address, relay.reflect.unwrap()] {
            let probe = Options {
                role: Role::Probe,
                carrier,
                ..Options::default()
            };
            let client = Client::start_with(address, probe).await.unwrap();
            let own = client.socket.local_addr().unwrap();
            assert_eq!(client.welcome.observed, own);
            assert_eq!(
                client.welcome.reflect_port,
                relay.reflect.map(|reflect| reflect.port())
            );
            let ping = client.ping(true);
            assert_eq!(client.pong(&ping).await.observed, own);
        }
    }
    let member = Options {
        secret: Some(SECRET),
        ..Options::default()
    };
    let refused = Client::start_with(relay.reflect.unwrap(), member)
        .await
        .err()
        .unwrap();
    assert_eq!(refused, Refused::Message(Reason::Role));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_of_the_first_port_is_unknown_at_the_second() {
    let relay = with_second_port(&[]).await;
    let (mut a, mut b) = (
        Client::start(relay.address).await,
        Client::start(relay.address).await,
    );
    let (a_id, _) = a.join("room").await;
    b.join("room").await;
    let packet = [0x81, 0x90, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    a.speak_to(a_id, &packet, &b).await;
    let lane = a.lane.as_mut().unwrap();
    lane.to = wzp_socket::Address::new(relay.reflect.unwrap(), None);
    a.send_media(a_id, &packet);
    let unknown = "wzp_relay_packets_dropped_total{reason=\"lane_unknown\"}";
    relay.until(unknown, |count| count >= 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_port_resets_no_connection_of_the_first() {
    let relay = with_second_port(&[]).await;
    let tap = Tap::start(relay.address).await;
    let client = Client::start(tap.address).await;
    client.ping(true);
    let id = soon("a packet of the connection", tap.connection_id()).await;
    let attacker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut forged = [0x5a; 60];
    forged[0] = 0x40;
    forged[1..9].copy_from_slice(&id);
    let second = relay.reflect.unwrap();
    attacker.send_to(&forged, second).await.unwrap();
    // What comes first is the answer to this, as the first packet got none.
    attacker.send_to(&of_another_version(), second).await.unwrap();
    let mut answer = [0; 1_500];
    let (len, _) = soon("an answer", attacker.recv_from(&mut answer)).await.unwrap();
    assert_eq!(
        (answer[0] & 0x80, &answer[1..5]),
        (0x80, &[0; 4][..]),
        "{:?}",
        &answer[..len]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_no_room_is_answered_so_often_and_no_oftener() {
    let relay = with_second_port(&[]).await;
    for address in [relay.address, relay.reflect.unwrap()] {
        let before = relay.metric(RATE).await;
        let probe = Options {
            role: Role::Probe,
            ..Options::default()
        };
        let client = Client::start_with(address, probe).await.unwrap();
        for _ in 0..300 {
            client.ping(true);
        }
        relay.until(RATE, |count| count - before > 150.0).await;
        // It is answered again once it asks as others do.
        let mut every = tokio::time::interval(Duration::from_millis(100));
        soon("an answer", async {
            loop {
                every.tick().await;
                let ping = client.ping(true);
                if tokio::time::timeout(Duration::from_millis(90), client.pong(&ping))
                    .await
                    .is_ok()
                {
                    return;
                }
            }
        })
        .await;
    }
}

const RATE: &str = "wzp_relay_packets_dropped_total{reason=\"rate\"}";

/// A long header of a version that nobody speaks, long enough for an answer.
fn of_another_version() -> [u8; 1_200] {
    let mut packet = [0; 1_200];
    packet[..7].copy_from_slice(&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 0]);
    packet
}

/// On the way between a client and a relay, where it only looks.
struct Tap {
    address: SocketAddr,
    seen: tokio::sync::watch::Receiver<Option<[u8; 8]>>,
    task: tokio::task::JoinHandle<()>,
}

impl Tap {
    async fn start(relay: SocketAddr) -> Self {
        let here = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let there = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        there.connect(relay).await.unwrap();
        let address = here.local_addr().unwrap();
        let (see, seen) = tokio::sync::watch::channel(None);
        let task = tokio::spawn(async move {
            let (mut up, mut down, mut client) = ([0; 2_048], [0; 2_048], None);
            loop {
                tokio::select! {
                    got = here.recv_from(&mut up) => {
                        let (len, from) = got.unwrap();
                        client = Some(from);
                        // A short header of QUIC, not of a lane.
                        if up[0] & 0xc0 == 0x40 && up[1] & 0x80 == 0 {
                            see.send_replace(up[1..9].try_into().ok());
                        }
                        there.send(&up[..len]).await.unwrap();
                    }
                    got = there.recv(&mut down) => {
                        let len = got.unwrap();
                        if let Some(client) = client {
                            here.send_to(&down[..len], client).await.unwrap();
                        }
                    }
                }
            }
        });
        Self { address, seen, task }
    }

    async fn connection_id(&self) -> [u8; 8] {
        let mut seen = self.seen.clone();
        let id = *seen.wait_for(Option::is_some).await.unwrap();
        id.unwrap()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}
