//! Datagrams out, many for one system call.
//!
//! A datagram that the kernel refuses is skipped and counted, and the rest goes out: one unreachable member must not
//! silence the others. A full send buffer drops what is left: voice that waits is worth nothing.

#![expect(unsafe_code, reason = "sendmmsg reads raw memory")]

use std::io;
use std::mem;
use std::slice::Chunks;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quinn::udp::Transmit;
use wzp_lane::Sealer;
use wzp_wire::Instant;

use crate::address::Address;
pub use crate::cmsg::Extras;
use crate::cmsg::{self, Control, Name};
use crate::counters::Counters;
use crate::ids::random_u64;
use crate::outgoing::Outgoing;
use crate::recv::{BATCH, boxed};
use crate::udp::Udp;

/// The longest datagram sent: a whole Ethernet frame's.
pub const MAX_SENT: usize = 1_472;

/// Memory for a batch of outgoing datagrams, allocated once. What is left in it goes out when it is dropped.
pub struct SendBatch {
    udp: Arc<Udp>,
    counters: Arc<Counters>,
    slots: Box<[Slot; BATCH]>,
    names: Box<[Name; BATCH]>,
    controls: Box<[Control; BATCH]>,
    filled: usize,
    spin: Spin,
}

/// What is written of it lies together: in front.
#[derive(Clone)]
#[repr(C)]
struct Slot {
    len: usize,
    to: Address,
    extras: Extras,
    bytes: [u8; MAX_SENT],
}

impl Slot {
    fn address(&mut self, len: usize, to: Address, extras: Extras) {
        self.len = len;
        self.to = to;
        self.extras = extras;
    }
}

impl SendBatch {
    /// An empty batch that sends through `udp`. Any thread may have its own.
    pub fn new(udp: Arc<Udp>, counters: Arc<Counters>) -> Self {
        let nowhere = Address::new(std::net::SocketAddr::from(([0, 0, 0, 0], 0)), None);
        let empty = Slot {
            bytes: [0; MAX_SENT],
            len: 0,
            to: nowhere,
            extras: Extras::default(),
        };
        Self {
            udp,
            counters,
            slots: boxed(empty),
            names: boxed(Name::EMPTY),
            controls: boxed(Control::EMPTY),
            filled: 0,
            spin: Spin::seeded(),
        }
    }

    /// Appends one datagram: `write` fills the memory given to it and says how many bytes it used, or `None` to
    /// leave it. Sends the batch when it is full.
    pub fn push(&mut self, to: &Address, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        self.push_with(to, Extras::default(), write)
    }

    /// [`push`](Self::push) with a TTL or ECN bits for this one packet.
    pub fn push_with(
        &mut self,
        to: &Address,
        extras: Extras,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let Some(slot) = self.slots.get_mut(self.filled) else {
            return false;
        };
        let Some(len) = write(&mut slot.bytes).filter(|len| *len <= MAX_SENT) else {
            return false;
        };
        slot.address(len, *to, extras);
        self.keep();
        true
    }

    /// Appends one lane packet: `write` gets the room for the datagram and says how many bytes it used.
    ///
    /// `false` if the lane may not send it now, which is counted.
    pub fn seal(&mut self, lane: &Outgoing, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        self.seal_to(lane, &lane.address(), write)
    }

    /// Appends a PING to `to`, which need not be the lane's trusted address, and returns its counter.
    pub fn seal_ping(
        &mut self,
        now: Instant,
        lane: &Outgoing,
        to: &Address,
        extras: Extras,
        ping: &[u8],
    ) -> Option<u64> {
        let slot = self.slots.get_mut(self.filled)?;
        room(&lane.sealer, &mut slot.bytes)?
            .get_mut(..ping.len())?
            .copy_from_slice(ping);
        let sealed = lane
            .sealer
            .seal_ping(now, &mut slot.bytes, ping.len(), self.spin.next());
        let (len, counter) = refused(sealed, &self.counters)?;
        slot.address(len, *to, extras);
        self.keep();
        Some(counter)
    }

    /// Appends the PONG to the PING that came from `to` under the number `ping`, also while the lane refuses media.
    ///
    /// `false` if the lane may not send it now, which is counted.
    pub fn seal_pong(&mut self, lane: &Outgoing, to: &Address, ping: u64, pong: &[u8]) -> bool {
        let Some(slot) = self.slots.get_mut(self.filled) else {
            return false;
        };
        let room = room(&lane.sealer, &mut slot.bytes).and_then(|room| room.get_mut(..pong.len()));
        let Some(room) = room else {
            return false;
        };
        room.copy_from_slice(pong);
        let sealed = lane
            .sealer
            .seal_pong(ping, &mut slot.bytes, pong.len(), self.spin.next());
        let Some(len) = refused(sealed, &self.counters) else {
            return false;
        };
        slot.address(len, *to, Extras::default());
        self.keep();
        true
    }

    /// Appends a lane packet to `to` instead of the trusted address: media while an address moves.
    ///
    /// `false` if the lane may not send it now, which is counted.
    pub fn seal_to(
        &mut self,
        lane: &Outgoing,
        to: &Address,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let Some(slot) = self.slots.get_mut(self.filled) else {
            return false;
        };
        let Some(len) = room(&lane.sealer, &mut slot.bytes).and_then(write) else {
            return false;
        };
        let sealed = lane.sealer.seal(&mut slot.bytes, len, self.spin.next());
        let Some(len) = refused(sealed, &self.counters) else {
            return false;
        };
        slot.address(len, *to, Extras::default());
        self.keep();
        true
    }

    /// How many datagrams wait for [`flush`](Self::flush).
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Keeps the slot that was just written.
    fn keep(&mut self) {
        self.filled += 1;
        if self.filled == BATCH {
            self.flush();
        }
    }

    /// Hands everything to the kernel. Never waits.
    pub fn flush(&mut self) {
        let filled = mem::take(&mut self.filled);
        let Some(slots) = self.slots.get(..filled).filter(|slots| !slots.is_empty()) else {
            return;
        };
        // SAFETY: all zeroes is valid for both plain structs: null pointers with zero lengths.
        let (mut iovecs, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { mem::zeroed() };
        let memory = self
            .names
            .iter_mut()
            .zip(self.controls.iter_mut())
            .zip(&mut iovecs);
        for ((slot, message), ((name, control), iovec)) in slots.iter().zip(&mut messages).zip(memory) {
            let bytes = slot.bytes.get(..slot.len).unwrap_or_default();
            message.msg_hdr = describe(
                bytes,
                &slot.to,
                slot.extras,
                &self.udp,
                Parts { name, control, iovec },
            );
        }
        // SAFETY: each of the first `filled` messages points into the slots, names and controls of `self` and into
        // `iovecs`, all of which stay in place and untouched until the call returns.
        unsafe {
            send_all(
                &self.udp,
                messages.get_mut(..filled).unwrap_or_default(),
                &self.counters,
            )
        };
    }
}

impl Drop for SendBatch {
    fn drop(&mut self) {
        self.flush();
    }
}

/// What quinn wants sent: to whom, how, and each of the datagrams.
pub(crate) fn parts<'a>(transmit: &Transmit<'a>) -> (Address, Extras, Chunks<'a, u8>) {
    let to = Address::new(transmit.destination, transmit.src_ip);
    let extras = Extras {
        ttl: None,
        ecn: transmit.ecn.map_or(0, |ecn| ecn as u8),
    };
    let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
    (to, extras, transmit.contents.chunks(segment))
}

/// Where the datagram goes in `buf`: behind the lane's header, with the tag's room left free.
pub(crate) fn room<'a>(sealer: &Sealer, buf: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let header_len = sealer.header_len();
    let tag_len = sealer.overhead().checked_sub(header_len)?;
    let end = buf.len().checked_sub(tag_len)?;
    buf.get_mut(header_len..end)
}

fn refused<V, E>(result: Result<V, E>, counters: &Counters) -> Option<V> {
    if result.is_err() {
        counters.seal_refused.add(1);
    }
    result.ok()
}

/// What the kernel said about the first datagram of a batch that it did not take.
enum Refusal {
    /// Try the same again.
    Interrupted,
    /// The send buffer is full.
    Full,
    /// This datagram cannot be sent; others may.
    Datagram,
}

impl Refusal {
    fn last() -> Self {
        match io::Error::last_os_error().kind() {
            io::ErrorKind::Interrupted => Self::Interrupted,
            io::ErrorKind::WouldBlock => Self::Full,
            _ => Self::Datagram,
        }
    }
}

/// # Safety
/// Every message must be valid for sendmsg.
unsafe fn send_all(udp: &Udp, mut rest: &mut [libc::mmsghdr], counters: &Counters) {
    while !rest.is_empty() {
        // SAFETY: the caller vouches for the messages.
        let n = unsafe {
            libc::sendmmsg(
                udp.fd(),
                rest.as_mut_ptr(),
                rest.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        // sendmmsg reports an error only if the first message caused it.
        let done = match usize::try_from(n).map_err(|_| Refusal::last()) {
            Ok(taken) => {
                counters.sent.add(taken as u64);
                taken.max(1)
            }
            Err(Refusal::Interrupted) => 0,
            Err(Refusal::Datagram) => {
                counters.send_failed.add(1);
                1
            }
            Err(Refusal::Full) => {
                counters.send_dropped_full.add(rest.len() as u64);
                return;
            }
        };
        rest = rest.get_mut(done..).unwrap_or_default();
    }
}

/// The memory that a message header points to, besides its bytes.
struct Parts<'a> {
    name: &'a mut Name,
    control: &'a mut Control,
    iovec: &'a mut libc::iovec,
}

/// A header for sending `bytes`; valid as long as `bytes` and `parts` are.
fn describe(bytes: &[u8], to: &Address, extras: Extras, udp: &Udp, parts: Parts<'_>) -> libc::msghdr {
    let (name, name_len) = Name::encode(to.remote(), udp.is_v6());
    *parts.name = name;
    // The kernel only reads what it sends.
    *parts.iovec = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all zeroes is valid for this plain struct.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = (&raw mut *parts.name).cast();
    message.msg_namelen = name_len;
    message.msg_iov = parts.iovec;
    message.msg_iovlen = 1;
    let source = to.local().filter(|_| !udp.has_one_address());
    let used = cmsg::write(parts.control, to.remote(), source, extras);
    if used > 0 {
        message.msg_control = parts.control.as_mut_ptr();
        message.msg_controllen = used as _;
    }
    message
}

impl Udp {
    /// Sends one datagram now.
    ///
    /// # Errors
    /// Whatever the kernel says; `WouldBlock` if the send buffer is full.
    pub fn send(&self, to: &Address, extras: Extras, bytes: &[u8]) -> io::Result<()> {
        let (mut name, mut control) = (Name::EMPTY, Control::EMPTY);
        let mut iovec = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        let parts = Parts {
            name: &mut name,
            control: &mut control,
            iovec: &mut iovec,
        };
        let message = describe(bytes, to, extras, self, parts);
        loop {
            // SAFETY: `message` points to `bytes` and this frame, which outlive the call.
            if unsafe { libc::sendmsg(self.fd(), &raw const message, libc::MSG_DONTWAIT) } >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Sends one datagram, and only counts if that fails.
    pub(crate) fn send_counted(&self, to: &Address, extras: Extras, bytes: &[u8], counters: &Counters) {
        match self.send(to, extras, bytes) {
            Ok(()) => counters.sent.add(1),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => counters.send_dropped_full.add(1),
            Err(_) => counters.send_failed.add(1),
        }
    }
}

/// Random bits for the spin bit, which nothing depends on but looks: splitmix64, not cryptography.
#[derive(Debug)]
pub(crate) struct Spin(AtomicU64);

impl Spin {
    pub(crate) fn seeded() -> Self {
        Self(AtomicU64::new(random_u64()))
    }

    pub(crate) fn next(&self) -> bool {
        let mut bits = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits >> 63 == 1
    }
}

#[cfg(test)]
mod tests;
