//! Every relay that a client is connected to: one for a client that was given a relay, those of its room in a cluster.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use wzp_sdk_core::{
    carrier::{Carrier, Why},
    paths::PathId,
    silence::Change,
};
use wzp_socket::client::Socket;
use wzp_wire::{
    Instant, RelayId,
    signal::{RelaySeat, SignalMessage},
};

use super::{
    ActiveCall, Link,
    link::{Got, LinkId},
};

/// Lane datagrams taken in a row.
const MOST_A_TURN: usize = 256;
/// Longer than it takes to be let in over another connection.
const RETIREMENT: Duration = Duration::from_secs(15);

/// Connects to relays of a cluster and asks its control plane on behalf of the media thread, which is told of the outcome.
pub(crate) type Dialer = UnboundedSender<Wanted>;

/// What a call needs of those who are not on the media thread.
pub(crate) enum Wanted {
    /// A connection to this relay.
    Relay(RelaySeat),
    /// Where the room is: no relay answers, so none can tell.
    Room,
}

pub(crate) struct Links {
    socket: Arc<Socket>,
    links: Vec<Link>,
    dialer: Option<Dialer>,
    /// Links that are not used any more, and until when they are kept.
    retired: Vec<(Instant, Link)>,
    /// What links that are gone put on the wire, and took from it.
    gone: (u64, u64),
}

/// What became of a link while nobody looked.
pub(super) enum Fate {
    /// The only relay there is fell silent, or is heard again.
    Changed(Change),
    /// A relay of a cluster does not answer: it may have been started anew, or its rooms may be elsewhere.
    Suspect(LinkId),
    /// It has not answered for so long that its connection is worth nothing.
    Dead(LinkId),
}

impl Links {
    pub(super) fn new(socket: Arc<Socket>, link: Option<Link>) -> Self {
        Self {
            socket,
            links: link.into_iter().collect(),
            dialer: None,
            retired: Vec::new(),
            gone: (0, 0),
        }
    }

    /// Waits for lane datagrams, no longer than this, and hands on whatever came.
    pub(super) fn wait(&mut self, buffer: &mut [u8], timeout: Duration, mut call: Option<&mut ActiveCall>) {
        let mut next = self.socket.recv_blocking(buffer, timeout);
        let mut taken = 0;
        while let Some(incoming) = next {
            let link = self.links.iter_mut().find(|link| link.has_lane(incoming.lane));
            if let Some((link, datagram)) = link.zip(buffer.get_mut(..incoming.len)) {
                let got = link.handle_lane(&incoming, datagram);
                let path = link.path;
                self.hand_on(incoming.at, path, got, datagram, call.as_deref_mut());
            }
            taken += 1;
            // Sound and commands have their turn, however much comes.
            next = if taken < MOST_A_TURN {
                self.socket.try_recv(buffer)
            } else {
                None
            };
        }
    }

    /// A QUIC datagram came.
    pub(super) fn handle_quic(
        &mut self,
        now: Instant,
        id: LinkId,
        bytes: &Bytes,
        call: Option<&mut ActiveCall>,
    ) {
        let Some(link) = self.find(id) else { return };
        let (got, path) = (link.handle_quic(now, bytes), link.path);
        let mut copy = [0; super::BUFFER];
        if let Some(copy) = copy.get_mut(..bytes.len()) {
            copy.copy_from_slice(bytes);
            self.hand_on(now, path, got, copy, call);
        }
    }

    fn hand_on(
        &mut self,
        at: Instant,
        path: Option<PathId>,
        got: Got,
        datagram: &mut [u8],
        call: Option<&mut ActiveCall>,
    ) {
        let Some((path, call)) = path.zip(call) else {
            return;
        };
        match got {
            Got::Nothing => {}
            Got::Pong(rtt) => call.handle_pong(at, path, rtt),
            Got::Media => call.handle_datagram(at, path, datagram, self),
        }
    }

    /// Whatever is due on every link; those behind one that has something to tell have their turn at the next call.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Fate> {
        self.retired.retain(|(until, _)| now < *until);
        self.links.iter_mut().find_map(|link| {
            let change = link.handle_timeout(now)?;
            match (change, &link.relay) {
                (Change::GaveUp, Some(_)) => Some(Fate::Dead(link.id)),
                (change, None) => Some(Fate::Changed(change)),
                (Change::Silent(_), Some(_)) => Some(Fate::Suspect(link.id)),
                // Which path carries says more.
                (Change::Answers(_), Some(_)) => None,
            }
        })
    }

    /// PINGs that the paths of a call want.
    pub(super) fn ping_paths(&mut self, now: Instant, call: &mut ActiveCall) {
        for link in &mut self.links {
            let Some(path) = link.path else { continue };
            if call.ping_due(now, path) && link.ping_now(now) {
                call.handle_ping(now, path);
            }
        }
    }

    pub(super) fn send(&mut self, now: Instant, path: PathId, datagram: &[u8]) {
        if let Some(link) = self.on(path) {
            link.send(now, datagram);
        }
    }

    pub(super) fn signal(&mut self, path: PathId, message: SignalMessage) {
        if let Some(link) = self.on(path) {
            link.signal(message);
        }
    }

    pub(super) fn add(&mut self, link: Link) {
        self.links.push(link);
    }

    /// Uses a link no more, without a word to its relay: to others we would be gone, until there is another.
    pub(super) fn retire(&mut self, now: Instant, id: LinkId) {
        if let Some(link) = self.remove(id) {
            self.retired.push((now + RETIREMENT, link));
        }
    }

    /// Forgets a link; what was said over it still leaves.
    pub(super) fn remove(&mut self, id: LinkId) -> Option<Link> {
        let at = self.links.iter().position(|link| link.id == id)?;
        let link = self.links.swap_remove(at);
        let (up, down) = link.wire_bytes();
        self.gone = (self.gone.0 + up, self.gone.1 + down);
        Some(link)
    }

    /// Forgets the link under this path.
    pub(super) fn hang_up(&mut self, path: PathId) {
        if let Some(id) = self.on(path).map(|link| link.id) {
            self.remove(id);
        }
    }

    /// No call is there any more: relays of a cluster are connected to for one call each.
    pub(super) fn end_call(&mut self) {
        self.dialer = None;
        self.retired.clear();
        let of_call: Vec<LinkId> = self
            .links
            .iter()
            .filter(|link| link.relay.is_some())
            .map(|link| link.id)
            .collect();
        for id in of_call {
            self.remove(id);
        }
        self.links.iter_mut().for_each(|link| link.path = None);
    }

    pub(super) fn set_dialer(&mut self, dialer: Option<Dialer>) {
        self.dialer = dialer;
    }

    /// Asks for it; without anybody to ask, there will be none.
    pub(super) fn want(&self, wanted: Wanted) {
        if let Some(dialer) = &self.dialer {
            let _ = dialer.send(wanted);
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.links.iter_mut()
    }

    pub(super) fn find(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.id == id)
    }

    /// The link of this path.
    pub(super) fn of(&self, path: PathId) -> Option<&Link> {
        self.links.iter().find(|link| link.path == Some(path))
    }

    /// The only relay of a client that was given one.
    pub(super) fn is_lost(&self) -> bool {
        self.links.iter().any(Link::is_lost)
    }

    pub(super) fn carrier(&self, path: Option<PathId>) -> (Carrier, Why) {
        let link = path.and_then(|path| self.of(path)).or_else(|| self.links.first());
        link.map_or((Carrier::Lane, Why::Waiting), Link::carrier)
    }

    pub(super) fn rtt(&self, path: Option<PathId>) -> Option<Duration> {
        self.of(path?)?.rtt()
    }

    /// Bytes on the wire since the client began, up and down: lanes, QUIC, UDP and IP.
    pub(super) fn wire_bytes(&self) -> (u64, u64) {
        self.links
            .iter()
            .map(Link::wire_bytes)
            .fold(self.gone, |sum, link| (sum.0 + link.0, sum.1 + link.1))
    }

    /// The link to this relay of a cluster.
    pub(super) fn to(&self, relay: &RelayId) -> Option<&Link> {
        self.links.iter().find(|link| link.relay.as_ref() == Some(relay))
    }

    /// Whether no relay answers.
    pub(super) fn is_silent(&self) -> bool {
        self.links.iter().all(Link::is_silent)
    }

    fn on(&mut self, path: PathId) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.path == Some(path))
    }
}
