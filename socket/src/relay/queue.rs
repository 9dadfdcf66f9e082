//! QUIC packets on their way from the IO threads to the one quinn endpoint.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSliceMut;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use quinn::udp::{EcnCodepoint, RecvMeta};

use crate::address::{Address, for_family};
use crate::counters::Counters;
use crate::recv::{Datagram, MAX_DATAGRAM};

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// A bounded queue. Strangers fill at most half of it: whoever sends a long header, or from an address that has no session.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    capacity: usize,
}

struct Inner {
    packets: VecDeque<Packet>,
    /// Buffers to be used again.
    #[expect(
        clippy::vec_box,
        reason = "boxes move between the two collections, 2 KiB arrays would be copied"
    )]
    spare: Vec<Box<[u8; MAX_DATAGRAM]>>,
    strange: usize,
    waker: Option<Waker>,
}

struct Packet {
    bytes: Box<[u8; MAX_DATAGRAM]>,
    len: usize,
    from: Address,
    ecn: u8,
    sender: Sender,
}

/// Who sent a packet, as far as can be told before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The address has a session, and the packet is of one.
    Known,
    Stranger,
}

impl Queue {
    pub(crate) fn new(capacity: usize) -> Self {
        let inner = Inner {
            packets: VecDeque::with_capacity(capacity),
            spare: Vec::with_capacity(capacity),
            strange: 0,
            waker: None,
        };
        Self {
            inner: Mutex::new(inner),
            capacity,
        }
    }

    /// Queues a copy of `datagram`, or counts why not. Nobody looks before [`wake`](Self::wake).
    pub(crate) fn push(&self, datagram: &Datagram<'_>, sender: Sender, counters: &Counters) {
        let mut inner = self.lock();
        let full = match sender {
            Sender::Known => false,
            Sender::Stranger => inner.strange >= self.capacity / 2,
        };
        if full || inner.packets.len() >= self.capacity {
            return counters.quic_dropped_full.add(1);
        }
        inner.push(datagram, sender);
        drop(inner);
        counters.quic_queued.add(1);
    }

    /// Wakes the endpoint: once for all packets of a batch.
    pub(crate) fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Fills quinn's buffers, or registers to be woken.
    pub(crate) fn poll(
        &self,
        cx: &mut Context<'_>,
        v6: bool,
        counters: &Counters,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<usize> {
        let mut inner = self.lock();
        let mut filled = 0;
        let mut slots = bufs.iter_mut().zip(meta);
        let Some(mut slot) = slots.next() else {
            return Poll::Ready(0);
        };
        while let Some(packet) = inner.pop() {
            let taken = packet.deliver(v6, slot.0, slot.1);
            inner.spare.push(packet.bytes);
            if !taken {
                counters.quic_dropped_oversized.add(1);
                continue;
            }
            filled += 1;
            let Some(next) = slots.next() else { break };
            slot = next;
        }
        if filled > 0 {
            return Poll::Ready(filled);
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, datagram: &Datagram<'_>, sender: Sender) {
        let mut bytes = self.spare.pop().unwrap_or_else(|| Box::new([0; MAX_DATAGRAM]));
        let len = datagram.bytes.len().min(MAX_DATAGRAM);
        bytes[..len].copy_from_slice(&datagram.bytes[..len]);
        self.strange += usize::from(sender == Sender::Stranger);
        self.packets.push_back(Packet {
            bytes,
            len,
            from: datagram.from,
            ecn: datagram.ecn,
            sender,
        });
    }

    fn pop(&mut self) -> Option<Packet> {
        let packet = self.packets.pop_front()?;
        self.strange -= usize::from(packet.sender == Sender::Stranger);
        Some(packet)
    }
}

impl Packet {
    /// Copies itself into one of quinn's buffers; `false` if it is longer, which quinn would not survive.
    fn deliver(&self, v6: bool, buf: &mut [u8], meta: &mut RecvMeta) -> bool {
        let Some(room) = buf.get_mut(..self.len) else {
            return false;
        };
        room.copy_from_slice(&self.bytes[..self.len]);
        *meta = RecvMeta {
            // quinn compares addresses with those it connected to, which on a dual-stack socket are mapped.
            addr: for_family(self.from.remote(), v6),
            len: self.len,
            stride: self.len,
            ecn: EcnCodepoint::from_bits(self.ecn),
            dst_ip: self.from.local(),
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &Queue, counters: &Counters, sender: Sender, len: usize) {
        let mut bytes = vec![0x40; len];
        let from = Address::new(std::net::SocketAddr::from(([192, 0, 2, 1], 9)), None);
        queue.push(
            &Datagram {
                from,
                ecn: 2,
                bytes: &mut bytes,
            },
            sender,
            counters,
        );
    }

    fn drain(queue: &Queue, counters: &Counters) -> Vec<RecvMeta> {
        let (mut a, mut b) = ([0; 1_472], [0; 1_472]);
        let mut bufs = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        let mut meta = [RecvMeta::default(); 2];
        let mut cx = Context::from_waker(Waker::noop());
        let mut all = Vec::new();
        while let Poll::Ready(n) = queue.poll(&mut cx, true, counters, &mut bufs, &mut meta) {
            all.extend_from_slice(&meta[..n]);
        }
        all
    }

    #[test]
    fn strangers_fill_at_most_half() {
        let (queue, counters) = (Queue::new(8), Counters::default());
        (0..8).for_each(|_| push(&queue, &counters, Sender::Stranger, 100));
        assert_eq!(counters.quic_dropped_full.value(), 4);
        (0..8).for_each(|_| push(&queue, &counters, Sender::Known, 100));
        assert_eq!(drain(&queue, &counters).len(), 8);
        assert_eq!(counters.quic_dropped_full.value(), 8);
        push(&queue, &counters, Sender::Stranger, 100);
        assert_eq!(drain(&queue, &counters).len(), 1);
    }

    #[test]
    fn what_quinn_cannot_hold_is_dropped_and_the_rest_is_described() {
        let (queue, counters) = (Queue::new(8), Counters::default());
        push(&queue, &counters, Sender::Known, 1_473);
        push(&queue, &counters, Sender::Known, 1_472);
        let meta = drain(&queue, &counters);
        assert_eq!(counters.quic_dropped_oversized.value(), 1);
        assert_eq!(meta.len(), 1);
        assert_eq!((meta[0].len, meta[0].stride), (1_472, 1_472));
        assert_eq!(meta[0].addr, "[::ffff:192.0.2.1]:9".parse().unwrap());
        assert_eq!(meta[0].ecn, Some(EcnCodepoint::Ect0));
    }
}
