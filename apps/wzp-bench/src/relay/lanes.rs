//! The load over sockets of its own: one a room, read in batches, each member at an address of its own.
//!
//! Media is counted and not opened, but for one listener, whose thread waits on a socket of its own and so tells
//! how long packets are under way.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use wzp_socket::Counters;
use wzp_socket::recv::RecvBatch;
use wzp_socket::udp::Udp;

use super::measure::{Traffic, talker};
use super::members::Ends;
use super::seat::{Heard, Look, Seat, Voice};
use crate::load::Shape;

/// Receive buffer of a room's socket.
const BUFFER_BYTES: usize = 8 << 20;
/// Until every member's address is proven.
const PATIENCE: Duration = Duration::from_secs(10);

/// Addresses of members, and the sockets behind them.
pub(super) struct Places {
    shape: Shape,
    sockets: Vec<Arc<Udp>>,
    listener: Arc<Udp>,
    pub(super) addresses: Vec<SocketAddr>,
}

impl Places {
    /// Binds one socket a room and one for the listener: the last member of the first room.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub(super) fn bind(shape: Shape) -> anyhow::Result<Self> {
        let bind = || -> anyhow::Result<(Arc<Udp>, u16)> {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            let udp = Udp::bind_alone(any, BUFFER_BYTES).context("binding a room's socket")?;
            let port = udp.local_addr().context("asking for a room's port")?.port();
            Ok((Arc::new(udp), port))
        };
        let member = |i, port| SocketAddr::from((Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + i), port));
        let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
        for _ in 0..shape.rooms {
            let (udp, port) = bind()?;
            addresses.extend((0..shape.members).map(|i| member(i, port)));
            sockets.push(udp);
        }
        let (listener, port) = bind()?;
        let last = shape.members.saturating_sub(1);
        if let Some(address) = addresses.get_mut(last as usize) {
            *address = member(last, port);
        }
        Ok(Self {
            shape,
            sockets,
            listener,
            addresses,
        })
    }

    fn socket(&self, number: usize) -> Option<&Arc<Udp>> {
        let size = self.shape.members as usize;
        if number + 1 == size {
            return Some(&self.listener);
        }
        self.sockets.get(number / size)
    }
}

/// The load.
pub(super) struct Lanes {
    places: Places,
    to: SocketAddr,
    seats: Vec<Arc<Seat>>,
    batch: RecvBatch,
    counters: Counters,
    received: u64,
    listening: Listening,
}

impl Lanes {
    /// Members without crypto.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn raw(places: Places, to: SocketAddr) -> anyhow::Result<Self> {
        let voices = (0..places.addresses.len()).map(|number| Voice::Raw(number as u32));
        let voices: Vec<_> = voices.collect();
        Self::new(places, to, voices)
    }

    /// Members with a lane each, who have shown the relay where they are.
    ///
    /// # Errors
    /// When the relay does not ask for their proof.
    pub(super) fn sealed(
        places: Places,
        to: SocketAddr,
        ends: Vec<(Arc<Ends>, wzp_wire::SenderId)>,
    ) -> anyhow::Result<Self> {
        let voices = ends.into_iter().map(|(ends, sender)| Voice::Lane(ends, sender));
        let mut lanes = Self::new(places, to, voices.collect())?;
        lanes.move_in()?;
        Ok(lanes)
    }

    fn new(places: Places, to: SocketAddr, voices: Vec<Voice>) -> anyhow::Result<Self> {
        let mut seats = Vec::new();
        for (number, (voice, at)) in voices.into_iter().zip(&places.addresses).enumerate() {
            let udp = places.socket(number).context("finding a member's socket")?;
            seats.push(Arc::new(Seat {
                udp: Arc::clone(udp),
                at: *at,
                voice,
            }));
        }
        let last = (places.shape.members as usize).saturating_sub(1);
        let listener = seats.get(last).context("finding the listener")?;
        Ok(Self {
            listening: Listening::start(Arc::clone(listener))?,
            places,
            to,
            seats,
            batch: RecvBatch::new(),
            counters: Counters::default(),
            received: 0,
        })
    }

    /// Every lane was set up over QUIC and moves to its member's own address.
    fn move_in(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut probed = 0;
        for chunk in 0..self.seats.len().div_ceil(100) {
            for seat in self.seats.iter().skip(chunk * 100).take(100) {
                seat.show(self.to);
            }
            std::thread::sleep(Duration::from_millis(5));
            probed += self.take_in(Look::Count);
        }
        // The listener's own socket answers in its thread.
        let wanted = self.seats.len() as u64 - 1;
        while probed < wanted {
            anyhow::ensure!(
                began.elapsed() < PATIENCE,
                "the relay asked {probed} of {wanted} members to prove their addresses"
            );
            std::thread::sleep(Duration::from_millis(1));
            probed += self.take_in(Look::Count);
        }
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    }

    /// Takes everything that has arrived; how many addresses were proven by that.
    fn take_in(&mut self, look: Look) -> u64 {
        let Self {
            places,
            to,
            seats,
            batch,
            counters,
            received,
            ..
        } = self;
        let size = places.shape.members as usize;
        let mut probed = 0;
        for (room, socket) in places.sockets.iter().enumerate() {
            while matches!(batch.recv(socket, counters), Ok(n) if n > 0) {
                for datagram in batch.datagrams() {
                    // The last byte of the address that it came to says whose it is.
                    let member = match datagram.from.local() {
                        Some(std::net::IpAddr::V4(ip)) => usize::from(ip.octets()[3]) - 1,
                        _ => continue,
                    };
                    let Some(seat) = seats.get(room * size + member) else {
                        continue;
                    };
                    match seat.hear(*to, datagram.bytes, look) {
                        Heard::Media(_) => *received += 1,
                        Heard::Probe => probed += 1,
                        Heard::Nothing => {}
                    }
                }
            }
        }
        probed
    }
}

impl Traffic for Lanes {
    fn shape(&self) -> Shape {
        self.places.shape
    }

    fn talk(&mut self, turn: u64) -> bool {
        let number = talker(self.places.shape, turn);
        self.seats.get(number).is_some_and(|seat| seat.talk(self.to))
    }

    fn drain(&mut self) {
        self.take_in(Look::Count);
    }

    fn received(&self) -> u64 {
        self.received + self.listening.shared.received.load(Ordering::Relaxed)
    }

    fn dropped_here(&self) -> bool {
        self.counters.kernel_dropped.value() > 0 || self.listening.shared.counters.kernel_dropped.value() > 0
    }

    fn ages_us(&mut self) -> Vec<u32> {
        self.listening.shared.take()
    }
}

/// The one who looks at the clock.
struct Listening {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    received: AtomicU64,
    ages: Mutex<Vec<u32>>,
    counters: Counters,
}

impl Shared {
    fn take(&self) -> Vec<u32> {
        std::mem::take(&mut *self.ages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Listening {
    fn start(seat: Arc<Seat>) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mine = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("listener".to_owned())
            .spawn(move || listen(&seat, &mine))
            .context("starting the listener")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed.
            let _ = thread.join();
        }
    }
}

fn listen(seat: &Seat, shared: &Shared) {
    let mut batch = RecvBatch::new();
    while !shared.stop.load(Ordering::Relaxed) {
        seat.udp.wait(Duration::from_millis(50));
        if batch.recv(&seat.udp, &shared.counters).is_err() {
            continue;
        }
        let mut ages = Vec::new();
        for datagram in batch.datagrams() {
            let from = datagram.from.remote();
            if let Heard::Media(age) = seat.hear(from, datagram.bytes, Look::Open) {
                shared.received.fetch_add(1, Ordering::Relaxed);
                ages.extend(age);
            }
        }
        shared
            .ages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .append(&mut ages);
    }
}
