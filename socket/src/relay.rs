//! A relay's sockets: one port, one thread outside tokio per socket, one quinn endpoint beside the lanes.
//!
//! ```text
//! recvmmsg -> demux -> LaneTable -> open -> Handler::datagram -> SendBatch -> sendmmsg
//!                 \-> queue -> virtual socket -> quinn endpoint -> sendmsg
//! ```
//!
//! [`bind`], then [`Bound::endpoint`] for QUIC (inside tokio), then [`Bound::start`] for the threads.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

mod endpoint;
mod queue;
mod rest;
mod sessions;
mod table;
mod thread;

pub use sessions::{Session, Sessions};
pub use table::{Entry, Found, Full, Lane, LaneTable};
pub use thread::{Arrival, Handler, Load};

use crate::address::Address;
use crate::counters::{Counters, Totals};
use crate::send::{Extras, SendBatch};
use crate::udp::{BUFFER_BYTES, Sharing, Udp};
use endpoint::VirtualSocket;
use queue::Queue;
use thread::IoThread;

/// How a relay uses its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Sockets on the port, and threads; 0 is one per core. Default 0.
    pub io_threads: usize,
    /// QUIC packets that may wait for the endpoint. Default 1,024.
    pub quic_queue: usize,
    /// The longest time between two ticks of a handler. Default 100 ms.
    pub tick: Duration,
    /// Bytes asked of the kernel for each direction of each socket. Default 8 MiB.
    pub buffer_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            io_threads: 0,
            quic_queue: 1_024,
            tick: Duration::from_millis(100),
            buffer_bytes: BUFFER_BYTES,
        }
    }
}

fn taken(first: u16, last: u16) -> String {
    if first == last {
        return format!("UDP port {first} is in use by another program");
    }
    format!("UDP ports {first} to {last} are all in use")
}

/// Why no socket could be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else holds every port of the range.
    #[error("{}", taken(*first, *last))]
    NoFreePort {
        /// The first port tried.
        first: u16,
        /// The last port tried.
        last: u16,
    },
    /// The system refused for another reason.
    #[error("cannot bind {address}")]
    System {
        /// What was to be bound.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// Sockets that nobody reads yet.
#[derive(Debug)]
pub struct Bound {
    local_addr: SocketAddr,
    sockets: Vec<(Arc<Udp>, Arc<Counters>)>,
    shared: Shared,
    config: Config,
}

/// What the threads and the endpoint have in common.
#[derive(Debug, Clone)]
struct Shared {
    sessions: Arc<Sessions>,
    queue: Arc<Queue>,
    /// What is sent from other threads than the IO threads.
    beside: Arc<Counters>,
}

/// Binds the first free port of `ports` at the IP of `address` (whose own port is ignored).
///
/// # Errors
/// [`BindError`]; a second relay on the same port gets one, even of the same user.
pub fn bind_range(
    address: SocketAddr,
    ports: RangeInclusive<u16>,
    config: &Config,
) -> Result<Bound, BindError> {
    let (first, last) = (*ports.start(), *ports.end());
    for port in ports {
        let address = SocketAddr::new(address.ip(), port);
        match bind_first(address, config.buffer_bytes) {
            Ok(udp) => {
                return join_threads(udp, config).map_err(|source| BindError::System { address, source });
            }
            Err(source) if source.kind() == io::ErrorKind::AddrInUse => {}
            Err(source) => return Err(BindError::System { address, source }),
        }
    }
    Err(BindError::NoFreePort { first, last })
}

/// [`bind_range`] with the one port of `address`; 0 lets the system choose.
///
/// # Errors
/// As [`bind_range`].
pub fn bind(address: SocketAddr, config: &Config) -> Result<Bound, BindError> {
    bind_range(address, address.port()..=address.port(), config)
}

/// Every address of both families, where the host has IPv6; of IPv4 where not.
fn bind_first(address: SocketAddr, buffer_bytes: usize) -> io::Result<Udp> {
    match Udp::bind(address, Sharing::First, buffer_bytes) {
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
        {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            Udp::bind(v4, Sharing::First, buffer_bytes)
        }
        result => result,
    }
}

fn join_threads(first: Udp, config: &Config) -> io::Result<Bound> {
    let local_addr = first.local_addr()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if config.io_threads == 0 {
        cores
    } else {
        config.io_threads
    };
    let mut sockets = vec![(Arc::new(first), Arc::default())];
    for _ in 1..threads {
        let follower = Udp::bind(local_addr, Sharing::Follower, config.buffer_bytes)?;
        sockets.push((Arc::new(follower), Arc::default()));
    }
    let shared = Shared {
        sessions: Sessions::new(),
        queue: Arc::new(Queue::new(config.quic_queue)),
        beside: Arc::default(),
    };
    Ok(Bound {
        local_addr,
        sockets,
        shared,
        config: config.clone(),
    })
}

impl Bound {
    /// The address and port that were bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The addresses of live QUIC connections: enter each one, so that its stateless resets are found.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.shared.sessions
    }

    /// For sending from other threads than the IO threads.
    pub fn sender(&self) -> Sender {
        Sender {
            udp: Arc::clone(self.first()),
            counters: Arc::clone(&self.shared.beside),
        }
    }

    /// The one quinn endpoint of this port, client and server. Make `config` with
    /// [`quic::endpoint_config_with`](crate::quic::endpoint_config_with) and the layout of the lane table. Keep it as
    /// long as the relay runs.
    ///
    /// # Errors
    /// When called outside tokio.
    pub fn endpoint(
        &self,
        config: quinn::EndpointConfig,
        server: Option<quinn::ServerConfig>,
    ) -> io::Result<quinn::Endpoint> {
        let socket = VirtualSocket {
            queue: Arc::clone(&self.shared.queue),
            udp: Arc::clone(self.first()),
            counters: Arc::clone(&self.shared.beside),
        };
        let runtime = quinn::default_runtime().ok_or_else(|| io::Error::other("no async runtime found"))?;
        quinn::Endpoint::new_with_abstract_socket(config, server, Arc::new(socket), runtime)
    }

    /// Starts one thread per socket, each with the handler that `handler` makes for its number.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start<T, H>(
        self,
        lanes: &Arc<LaneTable<T>>,
        mut handler: impl FnMut(usize) -> H,
    ) -> io::Result<Running>
    where
        T: Send + Sync + 'static,
        H: Handler<T> + 'static,
    {
        let mut running = Running {
            sender: self.sender(),
            stop: Arc::default(),
            counters: vec![Arc::clone(&self.shared.beside)],
            threads: Vec::new(),
        };
        for (i, (udp, counters)) in self.sockets.into_iter().enumerate() {
            running.counters.push(Arc::clone(&counters));
            let io = IoThread {
                udp,
                counters,
                lanes: Arc::clone(lanes),
                rule: lanes.layout().rule(),
                sessions: Arc::clone(&self.shared.sessions),
                queue: Arc::clone(&self.shared.queue),
                stop: Arc::clone(&running.stop),
                tick: self.config.tick,
            };
            let mut handler = handler(i);
            let thread = std::thread::Builder::new().name(format!("io-{i}"));
            running.threads.push(thread.spawn(move || io.run(&mut handler))?);
        }
        Ok(running)
    }

    fn first(&self) -> &Arc<Udp> {
        #[expect(clippy::expect_used, reason = "bind makes at least one socket")]
        let (udp, _) = self.sockets.first().expect("at least one socket");
        udp
    }
}

/// Sends on the relay's port from any thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sender {
    udp: Arc<Udp>,
    counters: Arc<Counters>,
}

impl Sender {
    /// A batch for a thread or task that sends much. Flush it at the end of each round.
    pub fn batch(&self) -> SendBatch {
        SendBatch::new(Arc::clone(&self.udp), Arc::clone(&self.counters))
    }

    /// Sends one datagram now, and only counts if that fails.
    pub fn send(&self, to: &Address, extras: Extras, bytes: &[u8]) {
        self.udp.send_counted(to, extras, bytes, &self.counters);
    }
}

/// Running IO threads. Dropping it stops them and waits for them.
#[derive(Debug)]
pub struct Running {
    sender: Sender,
    stop: Arc<AtomicBool>,
    /// Of everything beside the threads, then of each thread.
    counters: Vec<Arc<Counters>>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// For sending from other threads than the IO threads.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The sum of all counters. Its `ticks` say nothing: see [`ticks`](Self::ticks).
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.counters.iter().for_each(|counters| totals.add(counters));
        totals
    }

    /// Turns of each thread's loop: a thread whose number stands still for seconds is dead.
    pub fn ticks(&self) -> impl Iterator<Item = u64> {
        self.counters
            .iter()
            .skip(1)
            .map(|counters| counters.ticks.value())
    }

    /// Stops the threads and waits until the last one has sent what it had. Blocks up to a tick.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an io thread panicked");
            }
        }
    }
}
