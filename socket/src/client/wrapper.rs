//! quinn's view of the client's socket: everything but the lane packets.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use wzp_lane::demux::Class;
use wzp_lane::{LaneId, OpenError};
use wzp_wire::Instant;

use crate::address::Address;
use crate::client::Shared;
use crate::client::inbox::Incoming;
use crate::client::lanes::Snapshot;
use crate::clock;
use crate::recv::MAX_DATAGRAM;

/// Batches without a QUIC packet that one poll may take: beyond that quinn's own fairness decides.
const MAX_LANE_BATCHES: usize = 8;

/// Takes lane packets out in `poll_recv`, which runs under the endpoint's lock: open, push, return.
pub(crate) struct Wrapper {
    pub(crate) inner: Arc<dyn AsyncUdpSocket>,
    pub(crate) shared: Arc<Shared>,
}

impl AsyncUdpSocket for Wrapper {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    /// Fails with `WouldBlock` only: any other error would end the connection.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if let Some(carriage) = &self.shared.carriage {
            carriage.transmit(&self.shared, transmit);
            return Ok(());
        }
        match self.inner.try_send(transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(_) => {
                self.shared.counters.send_failed.add(1);
                Ok(())
            }
            Ok(()) => {
                self.shared.counters.sent.add(1);
                Ok(())
            }
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 1..MAX_LANE_BATCHES {
            let n = ready!(self.poll_batch(cx, bufs, meta))?;
            if self.take_lanes(n, bufs, meta) == Left::Quic {
                return Poll::Ready(Ok(n));
            }
        }
        let n = ready!(self.poll_batch(cx, bufs, meta))?;
        self.take_lanes(n, bufs, meta);
        Poll::Ready(Ok(n))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// What a batch holds once the lane packets are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Quic,
    Nothing,
}

impl Wrapper {
    fn poll_batch(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        match &self.shared.carriage {
            Some(carriage) => carriage.poll_recv(&*self.inner, cx, bufs, meta),
            None => self.inner.poll_recv(cx, bufs, meta),
        }
    }

    fn take_lanes(&self, n: usize, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Left {
        let now = clock::now();
        let lanes = self.shared.lanes.snapshot();
        let mut left = Left::Nothing;
        for (buf, meta) in bufs.iter_mut().zip(meta).take(n) {
            let from = Address::new(meta.addr, meta.dst_ip);
            let end = meta.len.min(buf.len());
            // Several segments without a length cannot be told apart.
            meta.len = match meta.stride {
                0 => 0,
                stride => keep_segments(&mut buf[..end], stride, |packet| {
                    self.shared.counters.received.add(1);
                    self.is_quic(now, &lanes, from, packet)
                }),
            };
            if meta.len > 0 {
                left = Left::Quic;
            }
        }
        left
    }

    /// Whether quinn gets the packet; if not, it is dealt with.
    fn is_quic(&self, now: Instant, lanes: &Snapshot, from: Address, packet: &mut [u8]) -> bool {
        let counters = &self.shared.counters;
        let rule = self.shared.lanes.rule();
        match rule.classify(packet) {
            Class::Quic => return true,
            Class::Drop(_) => {
                counters.dropped_malformed.add(1);
                return false;
            }
            Class::Lane if packet.len() > MAX_DATAGRAM => {
                counters.dropped_oversized.add(1);
                return false;
            }
            Class::Lane => {}
        }
        let id = rule.id(packet).and_then(LaneId::new);
        let Some(lane) = id.and_then(|id| lanes.find(&id)) else {
            counters.lane_unknown.add(1);
            return self.perhaps_reset(now, lanes, from);
        };
        match lane.opener.open(packet) {
            Ok(opened) => {
                counters.lane_opened.add(1);
                let datagram = packet.get(opened.range.clone()).unwrap_or_default();
                let incoming = Incoming {
                    lane: lane.key,
                    from,
                    counter: opened.counter,
                    newest: opened.newest,
                    packet_len: packet.len(),
                    len: datagram.len(),
                    at: now,
                };
                self.shared.inbox.push(incoming, datagram, counters);
                false
            }
            Err(OpenError::Replay | OpenError::TooOld) => {
                counters.lane_replayed.add(1);
                false
            }
            Err(_) => {
                counters.lane_failed.add(1);
                self.perhaps_reset(now, lanes, from)
            }
        }
    }

    /// Half of all stateless resets look like lane packets: quinn compares their last 16 bytes.
    fn perhaps_reset(&self, now: Instant, lanes: &Snapshot, from: Address) -> bool {
        let passes = lanes.knows(from.remote())
            && self
                .shared
                .resets
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(now);
        self.shared.counters.reset_candidates.add(u64::from(passes));
        passes
    }
}

/// Closes the gaps that segments not kept leave, and returns the bytes that remain.
///
/// All segments but the last are `stride` long, so what remains is as valid as what was there.
fn keep_segments(buf: &mut [u8], stride: usize, mut keep: impl FnMut(&mut [u8]) -> bool) -> usize {
    let (mut start, mut kept) = (0, 0);
    while start < buf.len() {
        let end = (start + stride).min(buf.len());
        if keep(&mut buf[start..end]) {
            buf.copy_within(start..end, kept);
            kept += end - start;
        }
        start = end;
    }
    kept
}

impl fmt::Debug for Wrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wrapper")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_gaps_keeps_order_and_boundaries() {
        let mut buf = *b"aabbccddE";
        let kept = keep_segments(&mut buf, 2, |segment| segment != b"aa" && segment != b"cc");
        assert_eq!(&buf[..kept], b"bbddE");
        let mut buf = *b"aabbE";
        let kept = keep_segments(&mut buf, 2, |segment| segment != b"E");
        assert_eq!(&buf[..kept], b"aabb");
        assert_eq!(keep_segments(&mut [], 2, |_| true), 0);
        assert_eq!(keep_segments(&mut [1, 2, 3], 1_200, |_| false), 0);
    }
}
