//! quinn's view of the relay's sockets: one virtual socket.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::counters::Counters;
use crate::relay::queue::Queue;
use crate::send::parts;
use crate::udp::Udp;

/// Receives from the queue that the IO threads fill, sends on the first of their sockets.
pub(crate) struct VirtualSocket {
    pub(crate) queue: Arc<Queue>,
    pub(crate) udp: Arc<Udp>,
    pub(crate) counters: Arc<Counters>,
}

impl AsyncUdpSocket for VirtualSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    /// Never fails: an error here would end the connection, `WouldBlock` would spin.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let (to, extras, datagrams) = parts(transmit);
        for bytes in datagrams {
            self.udp.send_counted(&to, extras, bytes, &self.counters);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.queue
            .poll(cx, self.udp.is_v6(), &self.counters, bufs, meta)
            .map(Ok)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl fmt::Debug for VirtualSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualSocket")
            .field("udp", &self.udp)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
