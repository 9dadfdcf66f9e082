//! Packets for other relays, gathered over one round of the loop into one datagram each.

use std::sync::Arc;

use bytes::Bytes;
use wzp_relay_core::stats::{Dropped, Leg};
use wzp_wire::TrunkWriter;

use super::{MAX_UDP_PAYLOAD, Round, send_quic};
use crate::port::{Carrier, Port};

/// What a lane adds at most: one byte, an id of 20, two of counter, the tag. QUIC datagrams add no more.
const OVERHEAD: usize = 39;
/// How long a TRUNK datagram may be.
const LONGEST: usize = MAX_UDP_PAYLOAD - OVERHEAD;

/// One trunk each, in the order of their first packet.
#[derive(Default)]
pub(super) struct Trunks {
    waiting: Vec<Waiting>,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
}

struct Waiting {
    port: Arc<Port>,
    /// `handle u16 ‖ length u16 ‖ packet`, again and again.
    entries: Vec<u8>,
    packets: usize,
    bytes: usize,
}

impl Trunks {
    /// Adds a packet for the relay at `port`; sends what was there if it does not fit.
    pub(super) fn push(&mut self, round: &mut Round<'_>, port: &Arc<Port>, handle: u16, packet: &[u8]) {
        let takes = TrunkWriter::ENTRY_OVERHEAD + packet.len();
        if TrunkWriter::OVERHEAD + takes > LONGEST {
            return round.counters.discard(Dropped::TooLarge, 1);
        }
        let at = self
            .waiting
            .iter()
            .position(|waiting| Arc::ptr_eq(&waiting.port, port));
        let at = at.unwrap_or_else(|| {
            self.waiting.push(Waiting {
                port: Arc::clone(port),
                entries: self.spare.pop().unwrap_or_else(|| Vec::with_capacity(LONGEST)),
                packets: 0,
                bytes: 0,
            });
            self.waiting.len() - 1
        });
        let Some(waiting) = self.waiting.get_mut(at) else {
            return;
        };
        if TrunkWriter::OVERHEAD + waiting.entries.len() + takes > LONGEST || waiting.packets >= 255 {
            waiting.send(round);
        }
        waiting.add(handle, packet);
    }

    /// Sends everything.
    pub(super) fn flush(&mut self, round: &mut Round<'_>) {
        for mut waiting in self.waiting.drain(..) {
            waiting.send(round);
            self.spare.push(waiting.entries);
        }
    }
}

impl Waiting {
    fn add(&mut self, handle: u16, packet: &[u8]) {
        let Ok(len) = u16::try_from(packet.len()) else {
            return;
        };
        self.entries.extend_from_slice(&handle.to_be_bytes());
        self.entries.extend_from_slice(&len.to_be_bytes());
        self.entries.extend_from_slice(packet);
        self.packets += 1;
        self.bytes += packet.len();
    }

    fn send(&mut self, round: &mut Round<'_>) {
        if self.packets == 0 {
            return;
        }
        let mut datagram = [0; LONGEST];
        let sent = match self.write(&mut datagram) {
            None => Err(Dropped::TooLarge),
            Some(datagram) => match (self.port.carrier(), &*self.port.lane()) {
                (Carrier::Lane, Some(lane)) => round.seal(lane, datagram),
                _ => send_quic(&self.port.connection, Bytes::copy_from_slice(datagram)),
            },
        };
        match sent {
            Ok(()) => round.counters.send_all(Leg::Mesh, self.packets, self.bytes),
            Err(why) => round.counters.discard(why, self.packets as u64),
        }
        self.entries.clear();
        (self.packets, self.bytes) = (0, 0);
    }

    fn write<'a>(&self, out: &'a mut [u8]) -> Option<&'a [u8]> {
        let mut writer = TrunkWriter::new(out);
        let mut rest = self.entries.as_slice();
        while let Some((&handle, behind)) = rest.split_first_chunk() {
            let (&len, behind) = behind.split_first_chunk()?;
            let (packet, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(len)))?;
            if !writer.push(u16::from_be_bytes(handle), packet) {
                return None;
            }
            rest = behind;
        }
        let len = writer.finish()?;
        out.get(..len)
    }
}
