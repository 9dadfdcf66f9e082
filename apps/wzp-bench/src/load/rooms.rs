//! Members of rooms, each at an address of its own, each room behind one socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;
use wzp_socket::recv::RecvBatch;
use wzp_socket::udp::Udp;
use wzp_socket::{Address, Counters};

/// Receive buffer of a room's socket: half a second of a busy room.
const BUFFER_BYTES: usize = 4 << 20;

/// How many members talk and listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Shape {
    /// Rooms.
    pub rooms: u32,
    /// Members of each room, at most 250.
    pub members: u32,
    /// Members of each room who talk.
    pub talkers: u32,
}

impl Shape {
    /// Packets a second into the forwarder, at 50 from each talker.
    pub(crate) const fn packets_per_second(self) -> u32 {
        self.rooms * self.talkers * 50
    }
}

/// The rooms of one load.
pub(crate) struct Rooms {
    shape: Shape,
    sockets: Vec<Arc<Udp>>,
    addresses: Vec<Address>,
    batch: RecvBatch,
    counters: Counters,
}

impl Rooms {
    /// Binds one socket per room.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub(crate) fn bind(shape: Shape) -> anyhow::Result<Self> {
        let mut sockets = Vec::new();
        let mut addresses = Vec::new();
        for _ in 0..shape.rooms {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            let socket = Udp::bind_alone(any, BUFFER_BYTES).context("binding a room's socket")?;
            let port = socket.local_addr().context("asking for a room's port")?.port();
            let member = |i| SocketAddr::from((Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + i), port));
            addresses.extend(
                (0..shape.members)
                    .map(member)
                    .map(|address| Address::new(address, None)),
            );
            sockets.push(Arc::new(socket));
        }
        Ok(Self {
            shape,
            sockets,
            addresses,
            batch: RecvBatch::new(),
            counters: Counters::default(),
        })
    }

    /// Every member's address, room by room.
    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Sends `packet` from the `turn`th talker to `to`: talkers take turns, room by room.
    pub(crate) fn talk(&self, turn: u64, to: SocketAddr, packet: &mut [u8]) -> anyhow::Result<()> {
        let (room, member) = self.talker(turn);
        let number = room * self.shape.members + member;
        let index = usize::try_from(number).context("numbering a member")?;
        if let Some(head) = packet.first_chunk_mut() {
            *head = number.to_be_bytes();
        }
        let from = self.addresses.get(index).map(|address| address.remote().ip());
        let socket = self
            .sockets
            .get(usize::try_from(room)?)
            .context("finding a room")?;
        // Each member speaks from its own address.
        let path = Address::new(to, from.filter(IpAddr::is_ipv4));
        socket
            .send(&path, wzp_socket::send::Extras::default(), packet)
            .context("sending to the forwarder")
    }

    fn talker(&self, turn: u64) -> (u32, u32) {
        let rooms = u64::from(self.shape.rooms.max(1));
        let room = turn % rooms;
        let member = turn / rooms % u64::from(self.shape.talkers.max(1));
        (
            u32::try_from(room).unwrap_or(0),
            u32::try_from(member).unwrap_or(0),
        )
    }

    /// Takes everything that has arrived.
    pub(crate) fn drain(&mut self) {
        for socket in &self.sockets {
            while matches!(self.batch.recv(socket, &self.counters), Ok(n) if n > 0) {}
        }
    }

    /// Packets that have arrived at members.
    pub(crate) fn received(&self) -> u64 {
        self.counters.received.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_talker_of_every_room_has_its_turn() {
        let rooms = Rooms::bind(Shape {
            rooms: 2,
            members: 3,
            talkers: 2,
        })
        .unwrap();
        let turns: Vec<_> = (0..5).map(|turn| rooms.talker(turn)).collect();
        assert_eq!(turns, [(0, 0), (1, 0), (0, 1), (1, 1), (0, 0)]);
        assert_eq!(rooms.addresses().len(), 6);
    }
}
