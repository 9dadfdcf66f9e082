//! Opened datagrams on their way from the socket to whoever plays them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as StdInstant};

use tokio::sync::Notify;
use wzp_wire::Instant;

use crate::address::Address;
use crate::client::lanes::LaneKey;
use crate::counters::Counters;
use crate::recv::MAX_DATAGRAM;

/// A datagram that a lane delivered; its bytes are in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming {
    /// The lane it came on.
    pub lane: LaneKey,
    /// Where it came from, and at which of our addresses it arrived.
    pub from: Address,
    /// The packet's number on its lane, which a PONG confirms.
    pub counter: u64,
    /// Whether it was the newest packet of its lane.
    pub newest: bool,
    /// Length of the whole packet: an unproven address may be sent 3 times as much.
    pub packet_len: usize,
    /// Length of the datagram, as far as it fitted the buffer.
    pub len: usize,
    /// When it arrived.
    pub at: Instant,
}

/// A ring of preallocated slots. Full, it drops the oldest: late voice is worth less than new voice.
pub(crate) struct Inbox {
    ring: Mutex<Ring>,
    async_ready: Notify,
    thread_ready: Condvar,
}

struct Ring {
    slots: Box<[Slot]>,
    next: usize,
    len: usize,
    closed: bool,
    /// Somebody wants the waiting thread's attention.
    woken: bool,
}

#[derive(Clone)]
struct Slot {
    incoming: Option<Incoming>,
    bytes: [u8; MAX_DATAGRAM],
}

/// What a look into the ring found.
enum Taken {
    Datagram(Incoming),
    Nothing,
    Closed,
}

impl Inbox {
    pub(crate) fn new(capacity: usize) -> Self {
        let empty = Slot {
            incoming: None,
            bytes: [0; MAX_DATAGRAM],
        };
        let slots = vec![empty; capacity.max(1)].into_boxed_slice();
        Self {
            ring: Mutex::new(Ring {
                slots,
                next: 0,
                len: 0,
                closed: false,
                woken: false,
            }),
            async_ready: Notify::new(),
            thread_ready: Condvar::new(),
        }
    }

    /// Queues a copy of `datagram`, in place of the oldest one if need be.
    pub(crate) fn push(&self, incoming: Incoming, datagram: &[u8], counters: &Counters) {
        if !self.lock().push(incoming, datagram) {
            counters.inbox_dropped.add(1);
        }
        self.async_ready.notify_one();
        self.thread_ready.notify_one();
    }

    /// Ends one wait of a thread, the next if there is none now.
    pub(crate) fn wake(&self) {
        self.lock().woken = true;
        self.thread_ready.notify_one();
    }

    /// Ends every wait, once the queue is empty.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.async_ready.notify_one();
        self.thread_ready.notify_all();
    }

    /// The next datagram now, if there is one.
    pub(crate) fn try_recv(&self, buf: &mut [u8]) -> Option<Incoming> {
        match self.lock().take(buf) {
            Taken::Datagram(incoming) => Some(incoming),
            Taken::Nothing | Taken::Closed => None,
        }
    }

    /// The next datagram; `None` when the socket is closed. Cancel-safe.
    pub(crate) async fn recv(&self, buf: &mut [u8]) -> Option<Incoming> {
        loop {
            match self.lock().take(buf) {
                Taken::Datagram(incoming) => return Some(incoming),
                Taken::Closed => {
                    // Others may wait here too.
                    self.async_ready.notify_one();
                    return None;
                }
                Taken::Nothing => {}
            }
            // A push since the look above has left a permit.
            self.async_ready.notified().await;
        }
    }

    /// The next datagram, waited for on this thread up to `timeout` or the next [`wake`](Self::wake).
    pub(crate) fn recv_blocking(&self, buf: &mut [u8], timeout: Duration) -> Option<Incoming> {
        let deadline = StdInstant::now() + timeout;
        let mut ring = self.lock();
        loop {
            match ring.take(buf) {
                Taken::Datagram(incoming) => return Some(incoming),
                Taken::Closed => return None,
                Taken::Nothing => {}
            }
            if std::mem::take(&mut ring.woken) {
                return None;
            }
            let left = deadline
                .checked_duration_since(StdInstant::now())
                .filter(|left| !left.is_zero())?;
            (ring, _) = self
                .thread_ready
                .wait_timeout(ring, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// `false` if the oldest datagram was lost for it.
    fn push(&mut self, mut incoming: Incoming, datagram: &[u8]) -> bool {
        let capacity = self.slots.len();
        let full = self.len == capacity;
        if full {
            self.next = (self.next + 1) % capacity;
            self.len -= 1;
        }
        let slot = &mut self.slots[(self.next + self.len) % capacity];
        incoming.len = datagram.len().min(MAX_DATAGRAM);
        slot.bytes[..incoming.len].copy_from_slice(&datagram[..incoming.len]);
        slot.incoming = Some(incoming);
        self.len += 1;
        !full
    }

    fn take(&mut self, buf: &mut [u8]) -> Taken {
        while self.len > 0 {
            let oldest = self.next;
            self.next = (oldest + 1) % self.slots.len();
            self.len -= 1;
            let slot = &mut self.slots[oldest];
            let Some(mut incoming) = slot.incoming.take() else {
                continue;
            };
            incoming.len = incoming.len.min(buf.len());
            buf[..incoming.len].copy_from_slice(&slot.bytes[..incoming.len]);
            return Taken::Datagram(incoming);
        }
        if self.closed {
            Taken::Closed
        } else {
            Taken::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(counter: u64) -> Incoming {
        Incoming {
            lane: LaneKey::test(1),
            from: Address::new(std::net::SocketAddr::from(([192, 0, 2, 1], 9)), None),
            counter,
            newest: true,
            packet_len: 30,
            len: 0,
            at: Instant::ZERO,
        }
    }

    #[test]
    fn drops_the_oldest_when_full() {
        let (inbox, counters) = (Inbox::new(2), Counters::default());
        (0..3u8).for_each(|i| inbox.push(incoming(i.into()), &[i; 3], &counters));
        let mut buf = [0; 8];
        let first = inbox.try_recv(&mut buf).unwrap();
        assert_eq!((first.counter, first.len, &buf[..3]), (1, 3, &[1; 3][..]));
        assert_eq!(inbox.try_recv(&mut buf).unwrap().counter, 2);
        assert_eq!(inbox.try_recv(&mut buf), None);
        assert_eq!(counters.inbox_dropped.value(), 1);
    }

    #[test]
    fn a_thread_waits_for_a_datagram_or_the_end() {
        let (inbox, counters) = (Inbox::new(2), Counters::default());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let mut buf = [0; 8];
                let first = inbox.recv_blocking(&mut buf, Duration::from_secs(10));
                (first, inbox.recv_blocking(&mut buf, Duration::from_secs(10)))
            });
            inbox.push(incoming(5), b"x", &counters);
            inbox.close();
            let (first, second) = waiter.join().unwrap();
            assert_eq!(first.map(|incoming| incoming.counter), Some(5));
            assert_eq!(second, None);
        });
        assert_eq!(
            Inbox::new(1).recv_blocking(&mut [], Duration::from_millis(1)),
            None
        );
    }
}
