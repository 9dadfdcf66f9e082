//! What an application's tests put between the client's socket and the network.
//!
//! What becomes of a packet is decided behind [`OneWay`]; this carries it out, for QUIC and lanes alike. What is due at
//! once leaves on the thread that sends it; what is held up leaves from a task of its own. Packets that come in wait
//! until they are due and the endpoint asks.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::AsyncUdpSocket;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use tokio::sync::Notify;
use tokio::time::{Instant as TokioInstant, Sleep, sleep};
use wzp_wire::Instant;

use crate::address::{Address, canonical};
use crate::client::Shared;
use crate::clock;
use crate::send::{Extras, parts};

/// Batches of which nothing is due that one poll may take.
const MAX_BATCHES: usize = 8;
/// Longest sleep at a time: timers of tokio end somewhere.
const NAP: Duration = Duration::from_secs(3_600);
/// IPv4 and UDP headers; IPv6 has 20 bytes more.
const IPV4_UDP: usize = 28;
const IPV6_MORE: usize = 20;

/// Decides what becomes of the packets that go one way. It is asked from several threads.
pub trait OneWay: Send + Sync {
    /// A packet sets out.
    fn handle_packet(&self, now: Instant, packet: Packet);

    /// The next packet that has arrived by `now`.
    fn poll_packet(&self, now: Instant) -> Option<Packet>;

    /// When the next packet arrives, if one is under way.
    fn poll_timeout(&self) -> Option<Instant>;
}

/// The way that every packet of a client takes.
pub struct Detour {
    /// From the client to the network.
    pub up: Box<dyn OneWay>,
    /// From the network to the client.
    pub down: Box<dyn OneWay>,
}

/// A packet on its way.
#[derive(Clone)]
pub struct Packet {
    remote: SocketAddr,
    local: Option<IpAddr>,
    extras: Extras,
    bytes: Box<[u8]>,
}

impl Packet {
    pub(super) fn new(to: &Address, extras: Extras, bytes: &[u8]) -> Self {
        Self {
            remote: to.remote(),
            local: to.local(),
            extras,
            bytes: bytes.into(),
        }
    }

    /// What it takes on the wire: its bytes, UDP and IP.
    pub fn wire_bytes(&self) -> usize {
        let v4 = canonical(self.remote).is_ipv4();
        self.bytes.len() + IPV4_UDP + if v4 { 0 } else { IPV6_MORE }
    }

    /// Hands the packet to the endpoint.
    fn write(&self, buf: &mut [u8], meta: &mut RecvMeta) {
        let len = self.bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&self.bytes[..len]);
        *meta = RecvMeta {
            addr: self.remote,
            len,
            stride: len,
            ecn: EcnCodepoint::from_bits(self.extras.ecn),
            dst_ip: self.local,
        };
    }
}

/// A detour in use.
pub(super) struct Carriage {
    detour: Detour,
    /// Wakes the task: something else is due first, or nothing will be any more.
    changed: Arc<Notify>,
    /// Held while packets leave, so that several threads do not change their order.
    leaving: Mutex<()>,
    /// Wakes the endpoint when the next packet has come in.
    coming: Mutex<Pin<Box<Sleep>>>,
}

impl Carriage {
    /// Call it within tokio.
    pub(super) fn new(detour: Detour) -> Self {
        Self {
            detour,
            changed: Arc::default(),
            leaving: Mutex::default(),
            coming: Mutex::new(Box::pin(sleep(Duration::ZERO))),
        }
    }

    /// Starts what sends packets later. It ends with `shared`.
    pub(super) fn start(&self, shared: &Arc<Shared>) {
        tokio::spawn(send_later(Arc::downgrade(shared), Arc::clone(&self.changed)));
    }

    /// Sends everything that quinn wants sent, one packet at a time.
    pub(super) fn transmit(&self, shared: &Shared, transmit: &Transmit<'_>) {
        let (to, extras, datagrams) = parts(transmit);
        for bytes in datagrams {
            self.send(shared, Packet::new(&to, extras, bytes));
        }
    }

    /// Sends a packet, now or later or never.
    pub(super) fn send(&self, shared: &Shared, packet: Packet) {
        let up = &self.detour.up;
        let (now, before) = (clock::now(), up.poll_timeout());
        up.handle_packet(now, packet);
        self.flush(now, shared);
        if up.poll_timeout() != before {
            self.changed.notify_one();
        }
    }

    /// Lets everything go that is due.
    fn flush(&self, now: Instant, shared: &Shared) {
        let _in_order = lock(&self.leaving);
        while let Some(packet) = self.detour.up.poll_packet(now) {
            let to = Address::new(packet.remote, packet.local);
            let udp = shared.udp.load();
            udp.send_counted(&to, packet.extras, &packet.bytes, &shared.counters);
        }
    }

    /// As [`AsyncUdpSocket::poll_recv`] of `inner`, for what is due.
    pub(super) fn poll_recv(
        &self,
        inner: &dyn AsyncUdpSocket,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..MAX_BATCHES {
            let n = self.arrived(clock::now(), bufs, meta);
            if n > 0 {
                return Poll::Ready(Ok(n));
            }
            match inner.poll_recv(cx, bufs, meta) {
                Poll::Ready(n) => self.set_out(n?, bufs, meta),
                Poll::Pending => ready!(self.poll_due(cx)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Fills the buffers with what has come all the way.
    fn arrived(&self, now: Instant, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> usize {
        let mut n = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some(packet) = self.detour.down.poll_packet(now) else {
                break;
            };
            packet.write(buf, meta);
            n += 1;
        }
        n
    }

    /// Puts what the kernel handed over on its way.
    fn set_out(&self, n: usize, bufs: &[IoSliceMut<'_>], meta: &[RecvMeta]) {
        let now = clock::now();
        for (buf, meta) in bufs.iter().zip(meta).take(n) {
            let bytes = buf.get(..meta.len).unwrap_or_default();
            for bytes in bytes.chunks(meta.stride.max(1)) {
                let packet = Packet {
                    remote: meta.addr,
                    local: meta.dst_ip,
                    extras: Extras {
                        ttl: None,
                        ecn: meta.ecn.map_or(0, |ecn| ecn as u8),
                    },
                    bytes: bytes.into(),
                };
                self.detour.down.handle_packet(now, packet);
            }
        }
    }

    /// Ready when a packet may have come in; if not, the task is woken when one has.
    fn poll_due(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.detour.down.poll_timeout() else {
            return Poll::Pending;
        };
        let mut coming = lock(&self.coming);
        coming.as_mut().reset(TokioInstant::now() + nap(due));
        coming.as_mut().poll(cx)
    }
}

impl Drop for Carriage {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

async fn send_later(shared: Weak<Shared>, changed: Arc<Notify>) {
    while let Some(due) = send_due(&shared) {
        let pause = due.map_or(NAP, nap);
        tokio::select! {
            () = changed.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Sends what is due and says when something else is. `None` when the socket is gone.
fn send_due(shared: &Weak<Shared>) -> Option<Option<Instant>> {
    let shared = shared.upgrade()?;
    let carriage = shared.carriage.as_ref()?;
    carriage.flush(clock::now(), &shared);
    Some(carriage.detour.up.poll_timeout())
}

fn nap(due: Instant) -> Duration {
    due.duration_since(clock::now()).min(NAP)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
