//! The sockets of the proxy: one that clients send to, and one to the server for each client.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::UdpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wzp_socket::clock::now;
use wzp_testkit::Profile;
use wzp_wire::Instant;

use super::flow::Way;
use super::{Counts, Event};

/// Clients at a time; the one that has been silent longest makes room for the next.
const MOST_FLOWS: usize = 256;
/// Datagrams of servers that wait to be put on their link.
const MOST_WAITING: usize = 1_024;
const LARGEST: usize = 65_535;
/// When nothing is under way there is nothing to wake up for.
const IDLE: Duration = Duration::from_secs(3_600);

/// What to carry, from where to where.
pub(super) struct Config {
    pub(super) listen: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) up: Profile,
    pub(super) down: Profile,
    pub(super) seed: u64,
}

/// Carries datagrams until SIGTERM or SIGINT.
pub(super) async fn run(config: Config, say: impl Fn(Event) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let listen = UdpSocket::bind(config.listen)
        .await
        .with_context(|| format!("binding {}", config.listen))?;
    say(Event::Listening {
        address: listen.local_addr().context("asking for the port")?,
        to: config.to,
    })?;
    let (answers, mut answered) = mpsc::channel(MOST_WAITING);
    let mut proxy = Proxy {
        config,
        flows: HashMap::new(),
        due: BTreeSet::new(),
        answers,
        clients: 0,
        up: Counts::default(),
        down: Counts::default(),
    };
    let mut buffer = vec![0; LARGEST];
    loop {
        proxy.deliver(&listen, now()).await;
        let wait = proxy.timeout(now());
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            received = listen.recv_from(&mut buffer) => {
                if let Some((len, client)) = survived(received) {
                    proxy.up(now(), client, buffer.get(..len).unwrap_or_default()).await?;
                }
            }
            answer = answered.recv() => {
                if let Some((client, packet)) = answer {
                    proxy.down(now(), client, &packet);
                }
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
    say(proxy.summary())
}

/// A client, its socket to the server, and what is under way.
struct Flow {
    server: Arc<UdpSocket>,
    reading: JoinHandle<()>,
    up: Way,
    down: Way,
    heard: Instant,
    /// Where it stands in [`Proxy::due`].
    due: Option<Instant>,
}

impl Flow {
    fn poll_timeout(&self) -> Option<Instant> {
        self.up
            .poll_timeout()
            .into_iter()
            .chain(self.down.poll_timeout())
            .min()
    }
}

struct Proxy {
    config: Config,
    flows: HashMap<SocketAddr, Flow>,
    /// When something arrives on which flow, once a flow.
    due: BTreeSet<(Instant, SocketAddr)>,
    answers: mpsc::Sender<(SocketAddr, Vec<u8>)>,
    clients: u64,
    /// Of flows that ended.
    up: Counts,
    down: Counts,
}

impl Proxy {
    async fn up(&mut self, now: Instant, client: SocketAddr, packet: &[u8]) -> anyhow::Result<()> {
        if !self.flows.contains_key(&client) {
            self.make_room();
            let flow = self.open(now, client).await?;
            self.flows.insert(client, flow);
        }
        if let Some(flow) = self.flows.get_mut(&client) {
            flow.heard = now;
            flow.up.send(now, packet);
        }
        self.schedule(client);
        Ok(())
    }

    fn down(&mut self, now: Instant, client: SocketAddr, packet: &[u8]) {
        if let Some(flow) = self.flows.get_mut(&client) {
            flow.down.send(now, packet);
        }
        self.schedule(client);
    }

    /// Sends everything that has come through its link.
    async fn deliver(&mut self, listen: &UdpSocket, now: Instant) {
        while let Some(&(at, client)) = self.due.first()
            && at <= now
        {
            if let Some(flow) = self.flows.get_mut(&client) {
                // A datagram that the kernel refuses is one more that got lost.
                while let Some(packet) = flow.up.poll(now) {
                    let _ = flow.server.send(&packet).await;
                }
                while let Some(packet) = flow.down.poll(now) {
                    let _ = listen.send_to(&packet, client).await;
                }
            }
            self.due.remove(&(at, client));
            if let Some(flow) = self.flows.get_mut(&client) {
                flow.due = None;
            }
            self.schedule(client);
        }
    }

    fn schedule(&mut self, client: SocketAddr) {
        let Some(flow) = self.flows.get_mut(&client) else {
            return;
        };
        let due = flow.poll_timeout();
        if due == flow.due {
            return;
        }
        if let Some(before) = flow.due {
            self.due.remove(&(before, client));
        }
        if let Some(due) = due {
            self.due.insert((due, client));
        }
        flow.due = due;
    }

    fn timeout(&self, now: Instant) -> Duration {
        self.due.first().map_or(IDLE, |(at, _)| at.duration_since(now))
    }

    async fn open(&mut self, now: Instant, client: SocketAddr) -> anyhow::Result<Flow> {
        let any: SocketAddr = if self.config.to.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let server = UdpSocket::bind(any).await.context("binding a client's socket")?;
        server
            .connect(self.config.to)
            .await
            .with_context(|| format!("aiming at {}", self.config.to))?;
        let server = Arc::new(server);
        let seed = self.config.seed.wrapping_add(self.clients.wrapping_mul(2));
        self.clients += 1;
        Ok(Flow {
            reading: tokio::spawn(read(client, Arc::clone(&server), self.answers.clone())),
            server,
            up: Way::new(self.config.up, seed),
            down: Way::new(self.config.down, seed.wrapping_add(1)),
            heard: now,
            due: None,
        })
    }

    fn make_room(&mut self) {
        while self.flows.len() >= MOST_FLOWS {
            let Some(quietest) = self
                .flows
                .iter()
                .min_by_key(|(_, flow)| flow.heard)
                .map(|(client, _)| *client)
            else {
                return;
            };
            if let Some(flow) = self.flows.remove(&quietest) {
                flow.reading.abort();
                self.up.add(flow.up.counts());
                self.down.add(flow.down.counts());
                if let Some(due) = flow.due {
                    self.due.remove(&(due, quietest));
                }
            }
        }
    }

    fn summary(&self) -> Event {
        let (mut up, mut down) = (self.up, self.down);
        for flow in self.flows.values() {
            up.add(flow.up.counts());
            down.add(flow.down.counts());
        }
        Event::Summary {
            clients: self.clients,
            up,
            down,
        }
    }
}

/// Hands on what the server says to `client`.
async fn read(client: SocketAddr, server: Arc<UdpSocket>, answers: mpsc::Sender<(SocketAddr, Vec<u8>)>) {
    let mut buffer = vec![0; LARGEST];
    loop {
        let Some(len) = survived(server.recv(&mut buffer).await) else {
            continue;
        };
        let packet = buffer.get(..len).unwrap_or_default().to_vec();
        if answers.send((client, packet)).await.is_err() {
            return;
        }
    }
}

/// An error of a UDP socket is about a datagram sent before (nobody listens there); the next receive goes on.
fn survived<T>(received: io::Result<T>) -> Option<T> {
    received.ok()
}

#[cfg(test)]
mod tests {
    use wzp_testkit::Loss;

    use super::*;

    async fn echo() -> SocketAddr {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 2_048];
            while let Ok((len, from)) = server.recv_from(&mut buffer).await {
                server.send_to(&buffer[..len], from).await.unwrap();
            }
        });
        address
    }

    async fn start(up: Profile, down: Profile) -> SocketAddr {
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            to: echo().await,
            up,
            down,
            seed: 1,
        };
        let (said, mut heard) = mpsc::unbounded_channel();
        tokio::spawn(run(config, move |event| {
            said.send(event).map_err(anyhow::Error::from)
        }));
        match heard.recv().await {
            Some(Event::Listening { address, .. }) => address,
            other => unreachable!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn each_client_gets_its_own_answers_after_both_delays() {
        let delay = |ms| Profile {
            delay: Duration::from_millis(ms),
            ..Profile::default()
        };
        let address = start(delay(30), delay(20)).await;
        let before = now();
        let mut clients = Vec::new();
        for name in [b"one", b"two"] {
            let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            client.send_to(name, address).await.unwrap();
            clients.push((client, name));
        }
        for (client, name) in clients {
            let mut buffer = [0; 16];
            let (len, from) = client.recv_from(&mut buffer).await.unwrap();
            assert_eq!((&buffer[..len], from), (name.as_slice(), address));
            assert!(now().duration_since(before) >= Duration::from_millis(50));
        }
    }

    #[tokio::test]
    async fn loss_hits_the_direction_it_is_meant_for() {
        let half = Profile {
            loss: Loss::Independent(0.5),
            ..Profile::default()
        };
        let address = start(half, Profile::default()).await;
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // One after the other, so that no queue of the kernel is part of the test.
        let mut answered = 0;
        let mut buffer = [0; 16];
        for number in 0..200_u8 {
            client.send_to(&[number], address).await.unwrap();
            let answer = tokio::time::timeout(Duration::from_millis(20), client.recv_from(&mut buffer));
            answered += u32::from(answer.await.is_ok());
        }
        assert!((70..130).contains(&answered), "{answered}");
    }
}
