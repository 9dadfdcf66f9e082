//! A UDP proxy between one client and a relay: sees every packet, may drop it, and makes up others.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{net::UdpSocket, task::JoinHandle};

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the relay.
    Up,
    /// To the client.
    Down,
}

/// A packet as it went by.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Where it went.
    pub way: Way,
    /// The UDP payload.
    pub bytes: Vec<u8>,
}

impl Packet {
    /// A lane packet, by the rule of docs/wire.md, section 6.
    pub fn is_lane(&self) -> bool {
        is_lane(&self.bytes)
    }
}

/// A short header whose byte 1 has the top bit.
pub fn is_lane(bytes: &[u8]) -> bool {
    matches!(bytes, [first, second, ..] if first & 0x80 == 0 && second & 0x80 != 0)
}

type Filter = Box<dyn FnMut(Way, &[u8]) -> bool + Send>;

/// The proxy; it ends when this is dropped.
pub struct Tap {
    /// Where the client connects.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    listen: UdpSocket,
    relay: SocketAddr,
    state: Mutex<State>,
}

struct State {
    server: Arc<UdpSocket>,
    client: Option<SocketAddr>,
    passes: Filter,
    kept: Vec<Packet>,
}

impl Tap {
    /// Starts one that passes everything on.
    pub async fn start(relay: SocketAddr) -> Self {
        let listen = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = towards(relay).await;
        let address = listen.local_addr().unwrap();
        let state = Mutex::new(State {
            server: Arc::clone(&server),
            client: None,
            passes: Box::new(|_, _| true),
            kept: Vec::new(),
        });
        let shared = Arc::new(Shared { listen, relay, state });
        let tasks = vec![
            tokio::spawn(up(Arc::clone(&shared))),
            tokio::spawn(down(Arc::clone(&shared), server)),
        ];
        Self {
            address,
            shared,
            tasks,
        }
    }

    /// From now on only what `filter` says yes to passes.
    pub fn pass_if(&self, filter: impl FnMut(Way, &[u8]) -> bool + Send + 'static) {
        self.shared.state().passes = Box::new(filter);
    }

    /// The packets that came by since the last time, those dropped among them.
    pub fn take(&self) -> Vec<Packet> {
        std::mem::take(&mut self.shared.state().kept)
    }

    /// Where the client is.
    pub fn client(&self) -> SocketAddr {
        self.shared.state().client.unwrap()
    }

    /// From now on the relay sees the client at another port, as behind a NAT that forgot it. What still comes to the
    /// port before is lost.
    pub async fn rebind(&mut self) {
        let server = towards(self.shared.relay).await;
        self.shared.state().server = Arc::clone(&server);
        if let Some(before) = self.tasks.pop() {
            before.abort();
        }
        self.tasks
            .push(tokio::spawn(down(Arc::clone(&self.shared), server)));
    }

    /// Sends something as if the client, or the relay, had.
    pub async fn inject(&self, way: Way, bytes: &[u8]) {
        // What the system refuses, above all what is too long for it, does not arrive.
        let _ = match way {
            Way::Up => self.shared.server().send(bytes).await,
            Way::Down => self.shared.listen.send_to(bytes, self.client()).await,
        };
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server(&self) -> Arc<UdpSocket> {
        Arc::clone(&self.state().server)
    }

    fn passes(&self, way: Way, bytes: &[u8]) -> bool {
        let mut state = self.state();
        state.kept.push(Packet {
            way,
            bytes: bytes.to_vec(),
        });
        (state.passes)(way, bytes)
    }
}

async fn towards(relay: SocketAddr) -> Arc<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(relay).await.unwrap();
    Arc::new(socket)
}

async fn up(shared: Arc<Shared>) {
    let mut buffer = vec![0; 65_535];
    loop {
        let Ok((len, client)) = shared.listen.recv_from(&mut buffer).await else {
            continue;
        };
        shared.state().client = Some(client);
        if shared.passes(Way::Up, &buffer[..len]) {
            let _ = shared.server().send(&buffer[..len]).await;
        }
    }
}

async fn down(shared: Arc<Shared>, server: Arc<UdpSocket>) {
    let mut buffer = vec![0; 65_535];
    loop {
        let Ok(len) = server.recv(&mut buffer).await else {
            continue;
        };
        let client = shared.state().client;
        if let Some(client) = client
            && shared.passes(Way::Down, &buffer[..len])
        {
            let _ = shared.listen.send_to(&buffer[..len], client).await;
        }
    }
}
