//! A client's one UDP socket, on tokio: a quinn endpoint that is client and server, and lanes beside it.
//!
//! Lane packets are opened while quinn polls the socket, before it sees them, and wait in a bounded queue for
//! [`Socket::recv`]. Nothing here answers anything by itself.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use wzp_lane::demux::ResetQuota;
use wzp_lane::{Opener, SealError, Sealer};
use wzp_wire::Instant;

mod detour;
mod inbox;
mod lanes;
mod wrapper;

pub use detour::{Detour, OneWay, Packet};
pub use inbox::Incoming;
pub use lanes::{IdLen, LaneKey, NoFreeId, ReceivingLane};

use crate::address::Address;
use crate::counters::{Counters, Totals};
use crate::send::{Extras, MAX_SENT, Spin, room};
use crate::udp::{Sharing, Udp};
use detour::Carriage;
use inbox::Inbox;
use lanes::Lanes;
use wrapper::Wrapper;

/// How a client uses its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to bind. Default `None`: every address of both families, a random port.
    pub bind: Option<SocketAddr>,
    /// How long the ids of lanes that we receive on are. Default 2 bytes.
    pub id_len: IdLen,
    /// Datagrams that may wait to be received; the oldest give way. Default 256 (500 KiB).
    pub inbox: usize,
    /// Bytes asked of the kernel for each direction. Default 1 MiB.
    pub buffer_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: None,
            id_len: IdLen::default(),
            inbox: 256,
            buffer_bytes: 1 << 20,
        }
    }
}

impl Config {
    fn bind(&self) -> io::Result<Udp> {
        match self.bind {
            Some(address) => Udp::bind(address, Sharing::Alone, self.buffer_bytes),
            None => Udp::bind_any(self.buffer_bytes),
        }
    }
}

/// The socket, shared by QUIC and lanes. Dropping it ends every [`recv`](Self::recv).
pub struct Socket {
    shared: Arc<Shared>,
    /// quinn's driver, and with it every lane, ends with the last handle: this is ours.
    endpoint: quinn::Endpoint,
    config: Config,
}

/// What quinn's wrapper and the socket have in common.
struct Shared {
    lanes: Arc<Lanes>,
    inbox: Inbox,
    resets: Mutex<ResetQuota>,
    udp: ArcSwap<Udp>,
    spin: Spin,
    counters: Counters,
    /// `None` outside tests of applications.
    carriage: Option<Carriage>,
}

/// Why a datagram did not leave. It is lost, and the next one may pass.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The lane may not send it now.
    #[error("lane refuses")]
    Seal(#[from] SealError),
    /// The system refuses it, or its buffer is full.
    #[error("system refuses")]
    System(#[from] io::Error),
}

impl Socket {
    /// Binds the socket and starts its endpoint. Make `endpoint` with
    /// [`quic::endpoint_config`](crate::quic::endpoint_config).
    ///
    /// # Errors
    /// When nothing can be bound, or when called outside tokio.
    pub fn bind(
        config: Config,
        endpoint: quinn::EndpointConfig,
        server: Option<quinn::ServerConfig>,
    ) -> io::Result<Self> {
        Self::bind_behind(config, endpoint, server, None)
    }

    /// As [`bind`](Self::bind), with a detour that every packet takes, of QUIC as well as of lanes.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_behind(
        config: Config,
        endpoint: quinn::EndpointConfig,
        server: Option<quinn::ServerConfig>,
        detour: Option<Detour>,
    ) -> io::Result<Self> {
        let runtime = runtime()?;
        let udp = config.bind()?;
        let inner = runtime.wrap_udp_socket(udp.try_clone_std()?)?;
        let shared = Arc::new(Shared {
            lanes: Lanes::new(config.id_len),
            inbox: Inbox::new(config.inbox),
            resets: Mutex::default(),
            udp: ArcSwap::from_pointee(udp),
            spin: Spin::seeded(),
            counters: Counters::default(),
            carriage: detour.map(Carriage::new),
        });
        if let Some(carriage) = &shared.carriage {
            carriage.start(&shared);
        }
        let wrapper = Wrapper {
            inner,
            shared: Arc::clone(&shared),
        };
        let endpoint =
            quinn::Endpoint::new_with_abstract_socket(endpoint, server, Arc::new(wrapper), runtime)?;
        Ok(Self {
            shared,
            endpoint,
            config,
        })
    }

    /// The one QUIC endpoint of this socket. Never call its `rebind`, which leaves the lanes behind.
    pub fn endpoint(&self) -> &quinn::Endpoint {
        &self.endpoint
    }

    /// Takes a new socket, after a change of network, and keeps every lane and connection.
    ///
    /// # Errors
    /// When nothing can be bound; the old socket stays.
    pub fn rebind(&self) -> io::Result<()> {
        let udp = self.config.bind()?;
        let inner = runtime()?.wrap_udp_socket(udp.try_clone_std()?)?;
        let wrapper = Wrapper {
            inner,
            shared: Arc::clone(&self.shared),
        };
        self.endpoint.rebind_abstract(Arc::new(wrapper))?;
        self.shared.udp.store(Arc::new(udp));
        Ok(())
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.udp.load().local_addr()
    }

    /// How long the ids of lanes received here are; openers need it.
    pub fn id_len(&self) -> usize {
        self.shared.lanes.id_len()
    }

    /// Opens a lane whose session is with `peer`, and draws its id. From then on its packets are opened, so tell
    /// the id to the sender afterwards.
    ///
    /// # Errors
    /// [`NoFreeId`] after 16,384 lanes within 30 s.
    pub fn open(&self, opener: Opener, peer: SocketAddr) -> Result<ReceivingLane, NoFreeId> {
        self.shared.lanes.open(opener, peer)
    }

    /// Sends `datagram` on a lane. Never waits.
    ///
    /// # Errors
    /// [`SendError`]; the datagram is lost.
    pub fn send(&self, lane: &Sealer, to: &Address, datagram: &[u8]) -> Result<(), SendError> {
        let mut buf = [0; MAX_SENT];
        place(lane, &mut buf, datagram)?;
        let len = self.count(lane.seal(&mut buf, datagram.len(), self.shared.spin.next()))?;
        self.transmit(to, Extras::default(), &buf[..len])
    }

    /// Sends a PING, with a TTL of its own if `extras` says so, and returns the number that its PONG confirms.
    ///
    /// # Errors
    /// [`SendError`]; the PING is lost.
    pub fn send_ping(
        &self,
        now: Instant,
        lane: &Sealer,
        to: &Address,
        extras: Extras,
        ping: &[u8],
    ) -> Result<u64, SendError> {
        let mut buf = [0; MAX_SENT];
        place(lane, &mut buf, ping)?;
        let (len, counter) =
            self.count(lane.seal_ping(now, &mut buf, ping.len(), self.shared.spin.next()))?;
        self.transmit(to, extras, &buf[..len])?;
        Ok(counter)
    }

    /// Sends the PONG to the PING that came under the number `ping`, also while the lane refuses media.
    ///
    /// # Errors
    /// [`SendError`]; the PONG is lost.
    pub fn send_pong(&self, lane: &Sealer, to: &Address, ping: u64, pong: &[u8]) -> Result<(), SendError> {
        let mut buf = [0; MAX_SENT];
        place(lane, &mut buf, pong)?;
        let len = self.count(lane.seal_pong(ping, &mut buf, pong.len(), self.shared.spin.next()))?;
        self.transmit(to, Extras::default(), &buf[..len])
    }

    /// The next datagram of any lane, copied to `buf`; `None` once the socket is dropped. Cancel-safe.
    pub async fn recv(&self, buf: &mut [u8]) -> Option<Incoming> {
        self.shared.inbox.recv(buf).await
    }

    /// The next datagram if one is there.
    pub fn try_recv(&self, buf: &mut [u8]) -> Option<Incoming> {
        self.shared.inbox.try_recv(buf)
    }

    /// The next datagram, waited for on this thread, which is none of tokio's. `None` after `timeout` or
    /// [`wake`](Self::wake).
    pub fn recv_blocking(&self, buf: &mut [u8], timeout: Duration) -> Option<Incoming> {
        self.shared.inbox.recv_blocking(buf, timeout)
    }

    /// Ends the wait of [`recv_blocking`](Self::recv_blocking), the next one if nobody waits now.
    pub fn wake(&self) {
        self.shared.inbox.wake();
    }

    /// What was counted so far.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        totals.add(&self.shared.counters);
        totals
    }

    fn count<V>(&self, result: Result<V, SealError>) -> Result<V, SealError> {
        self.shared.counters.seal_refused.add(u64::from(result.is_err()));
        result
    }

    fn transmit(&self, to: &Address, extras: Extras, packet: &[u8]) -> Result<(), SendError> {
        if let Some(carriage) = &self.shared.carriage {
            carriage.send(&self.shared, Packet::new(to, extras, packet));
            return Ok(());
        }
        let counters = &self.shared.counters;
        let result = self.shared.udp.load().send(to, extras, packet);
        match &result {
            Ok(()) => counters.sent.add(1),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => counters.send_dropped_full.add(1),
            Err(_) => counters.send_failed.add(1),
        }
        result.map_err(SendError::System)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.shared.inbox.close();
    }
}

fn runtime() -> io::Result<Arc<dyn quinn::Runtime>> {
    quinn::default_runtime().ok_or_else(|| io::Error::other("no async runtime found"))
}

/// Puts the datagram where the sealer expects it.
fn place(lane: &Sealer, buf: &mut [u8], datagram: &[u8]) -> Result<(), SealError> {
    room(lane, buf)
        .and_then(|room| room.get_mut(..datagram.len()))
        .map(|room| room.copy_from_slice(datagram))
        .ok_or(SealError::BufferTooSmall)
}
