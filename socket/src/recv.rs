//! Datagrams in, many for one system call.
//!
//! UDP_GRO stays off: it merges runs of one flow, and a relay's packets come from many flows in turn.

#![expect(unsafe_code, reason = "recvmmsg fills raw memory")]

use std::io;
use std::mem;

use crate::address::Address;
use crate::cmsg::{self, Control, Name};
use crate::counters::Counters;
use crate::udp::Udp;

/// Datagrams in a batch, received or sent.
pub const BATCH: usize = 64;

/// The longest datagram received. Longer ones are dropped: no path that lanes or QUIC use carries them.
pub const MAX_DATAGRAM: usize = 2_048;

/// One received datagram.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Where it came from, and at which of our addresses it arrived.
    pub from: Address,
    /// Its two ECN bits.
    pub ecn: u8,
    /// The bytes, free to be opened in place.
    pub bytes: &'a mut [u8],
}

/// Memory for a batch, allocated once.
pub struct RecvBatch {
    buffers: Box<[[u8; MAX_DATAGRAM]; BATCH]>,
    names: Box<[Name; BATCH]>,
    controls: Box<[Control; BATCH]>,
    arrivals: Box<[Option<Arrival>; BATCH]>,
    filled: usize,
}

#[derive(Debug, Clone, Copy)]
struct Arrival {
    from: Address,
    ecn: u8,
    len: usize,
}

impl RecvBatch {
    /// Allocates everything that receiving will ever need.
    pub fn new() -> Self {
        Self {
            buffers: boxed([0; MAX_DATAGRAM]),
            names: boxed(Name::EMPTY),
            controls: boxed(Control::EMPTY),
            arrivals: boxed(None),
            filled: 0,
        }
    }

    /// Fetches what has arrived without waiting, and returns how many datagrams that were (`0`: nothing).
    ///
    /// # Errors
    /// Whatever the kernel says; the socket stays usable.
    pub fn recv(&mut self, udp: &Udp, counters: &Counters) -> io::Result<usize> {
        self.filled = 0;
        // SAFETY: all zeroes is valid for both plain structs: null pointers with zero lengths.
        let (mut iovecs, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { mem::zeroed() };
        for (i, (iovec, message)) in iovecs.iter_mut().zip(&mut messages).enumerate() {
            iovec.iov_base = self.buffers[i].as_mut_ptr().cast();
            iovec.iov_len = MAX_DATAGRAM;
            message.msg_hdr.msg_name = (&raw mut self.names[i]).cast();
            message.msg_hdr.msg_namelen = Name::LEN;
            message.msg_hdr.msg_iov = iovec;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = self.controls[i].as_mut_ptr();
            message.msg_hdr.msg_controllen = Control::LEN as _;
        }
        // SAFETY: each message points to a buffer, a name and a control memory of the given lengths, which `self` and
        // this frame own for longer than the call.
        let n = unsafe {
            let flags = libc::MSG_DONTWAIT;
            libc::recvmmsg(
                udp.fd(),
                messages.as_mut_ptr(),
                BATCH as libc::c_uint,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        let Ok(n) = usize::try_from(n) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock {
                Ok(0)
            } else {
                Err(error)
            };
        };
        counters.received.add(n as u64);
        for (i, message) in messages.iter().take(n).enumerate() {
            self.arrivals[i] = self.arrival(i, message, counters);
        }
        self.filled = n;
        Ok(n)
    }

    fn arrival(&self, i: usize, message: &libc::mmsghdr, counters: &Counters) -> Option<Arrival> {
        // SAFETY: the kernel has just filled the message in, and its control memory is alive in `self.controls`.
        let said = unsafe { cmsg::read(&message.msg_hdr) };
        if let Some(dropped) = said.kernel_dropped {
            counters.kernel_dropped.set(dropped.into());
        }
        if message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            counters.dropped_oversized.add(1);
            return None;
        }
        let remote = self.names.get(i)?.decode()?;
        Some(Arrival {
            from: Address::new(remote, said.local),
            ecn: said.ecn,
            len: message.msg_len as usize,
        })
    }

    /// The bytes of the datagrams of the last [`recv`](Self::recv), in order.
    pub fn bytes(&self) -> impl Iterator<Item = &[u8]> {
        let arrivals = self.arrivals.iter().take(self.filled);
        arrivals
            .zip(self.buffers.iter())
            .filter_map(|(arrival, buffer)| buffer.get(..arrival.as_ref()?.len))
    }

    /// The datagrams of the last [`recv`](Self::recv), in order.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Datagram<'_>> {
        let arrivals = self.arrivals.iter().take(self.filled);
        arrivals
            .zip(self.buffers.iter_mut())
            .filter_map(|(arrival, buffer)| {
                let arrival = arrival.as_ref()?;
                let bytes = buffer.get_mut(..arrival.len)?;
                Some(Datagram {
                    from: arrival.from,
                    ecn: arrival.ecn,
                    bytes,
                })
            })
    }
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// A boxed array that is never on the stack.
pub(crate) fn boxed<V: Clone, const N: usize>(value: V) -> Box<[V; N]> {
    #[expect(clippy::expect_used, reason = "the vector has exactly N elements")]
    vec![value; N]
        .into_boxed_slice()
        .try_into()
        .ok()
        .expect("N elements")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Duration;

    #[test]
    fn sees_local_address_and_drops_what_is_too_long() {
        let udp = Udp::bind_any(1 << 20).unwrap();
        let port = udp.local_addr().unwrap().port();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.send_to(&[7; MAX_DATAGRAM + 1], ("127.0.0.1", port)).unwrap();
        peer.send_to(&[7; MAX_DATAGRAM], ("127.0.0.1", port)).unwrap();
        peer.send_to(&[], ("127.0.0.1", port)).unwrap();
        let (mut batch, counters) = (RecvBatch::new(), Counters::default());
        let mut seen = Vec::new();
        while counters.received.value() < 3 {
            udp.wait(Duration::from_secs(5));
            batch.recv(&udp, &counters).unwrap();
            seen.extend(batch.datagrams().map(|d| (d.from, d.bytes.len())));
        }
        let from = Address::new(peer.local_addr().unwrap(), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(seen, [(from, MAX_DATAGRAM), (from, 0)]);
        assert_eq!(counters.dropped_oversized.value(), 1);
    }
}
