//! The streams of relays: what goes out, in order and bounded, and what comes in.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Notify, mpsc};
use tracing::{info, warn};
use wzp_control_core::{
    Address, AddressSource, BootId, Cause, Hello, Lease, StreamId,
    leases::Learnt,
    registry::{Checker, Refused},
};
use wzp_identity::Fingerprint;
use wzp_wire::{Instant, RelayId};

use super::{Command, Event, Inner, Order, Plane};
use crate::clock;

/// Commands that may wait for one relay. One that takes none for so long begins anew, with all that is true then.
const QUEUE: usize = 32_768;

/// Streams of this replica.
#[derive(Debug, Default)]
pub(super) struct Streams {
    all: HashMap<StreamId, Stream>,
    last: u64,
}

#[derive(Debug)]
struct Stream {
    relay: RelayId,
    out: mpsc::Sender<Outgoing>,
    end: Arc<Notify>,
}

/// A command on its way.
#[derive(Debug)]
pub(crate) struct Outgoing(pub(crate) Command);

/// A stream as its reader needs it.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) stream: StreamId,
    /// Notified when the stream is to end.
    pub(crate) end: Arc<Notify>,
    pub(crate) commands: mpsc::Receiver<Outgoing>,
}

impl Plane {
    /// A relay introduced itself.
    ///
    /// # Errors
    /// See [`Refused`]; the relay is to be told.
    pub(crate) fn attach(&self, hello: Hello, from: Option<IpAddr>) -> Result<Attached, Refused> {
        let trusted = self.authority.trusted();
        let relay = hello.relay.clone();
        let attached = self.with(|inner, now| {
            inner.streams.last += 1;
            let stream = StreamId(inner.streams.last);
            let welcomed = inner
                .world
                .registry
                .handle_hello(now, clock::unix_ms(), stream, hello)?;
            if let Some(old) = welcomed.replaces {
                inner.streams.end(old);
            }
            let (out, commands) = mpsc::channel(QUEUE);
            let end = Arc::new(Notify::new());
            inner.streams.all.insert(
                stream,
                Stream {
                    relay: relay.clone(),
                    out,
                    end: Arc::clone(&end),
                },
            );
            // Read under the lock: a newer list is told to all streams, and then this is one of them.
            let peers = Arc::clone(&self.list().peers);
            // It tells anew who is there.
            inner.presence.forget(&relay);
            let welcome = Command::Welcome {
                protocol: welcomed.protocol,
                observed: from,
            };
            for command in [welcome, Command::TrustedKeys(trusted), Command::Peers(peers)] {
                inner.streams.send(stream, command);
            }
            Ok(Attached {
                stream,
                end,
                commands,
            })
        });
        if attached.is_ok() {
            info!(%relay, "relay attached");
        }
        attached
    }

    /// A stream ended, whoever ended it.
    pub(crate) fn detach(&self, stream: StreamId) {
        self.with(|inner, now| {
            if let Some(gone) = inner.streams.all.remove(&stream) {
                info!(relay = %gone.relay, "relay detached");
            }
            inner.world.registry.handle_stream_lost(now, stream);
        });
    }

    /// Something came over a stream. What asks for more than knowing it is returned.
    pub(crate) fn handle(&self, stream: StreamId, event: Event) -> Option<Duration> {
        self.with(|inner, now| {
            let relay = inner.streams.all.get(&stream)?.relay.clone();
            if let Event::DrainRequest { deadline } = event {
                inner.world.registry.handle_heard(now, stream);
                return Some(deadline);
            }
            inner.handle(now, stream, &relay, event);
            None
        })
    }

    /// Whether another process has this name now.
    pub(crate) fn is_taken(&self, relay: &RelayId, boot: BootId) -> bool {
        self.look(|inner, now| {
            let known = inner.world.registry.relay(relay);
            // As long as a relay may be silent before it is in doubt.
            let lives = |heard| now.duration_since(heard) < 3 * self.heartbeat;
            known
                .is_some_and(|known| known.stream.is_some() && known.hello.boot != boot && lives(known.heard))
        })
    }
}

impl Inner {
    fn handle(&mut self, now: Instant, stream: StreamId, relay: &RelayId, event: Event) {
        let registry = &mut self.world.registry;
        match event {
            Event::Heartbeat(beat) => {
                return registry.handle_heartbeat(now, clock::unix_ms(), stream, beat);
            }
            Event::Synced => {
                registry.handle_synced(now, stream);
                return self.catch_up(stream, relay);
            }
            Event::Probes(probes) => registry.handle_probe_report(now, stream, &probes),
            Event::PeerDown { relay, boot } => registry.handle_peer_down(now, stream, &relay, boot),
            Event::AddressReport(report) => {
                registry.handle_address_report(now, &Checker::Relay(relay.clone()), &report);
            }
            Event::Room { lease, members } => self.handle_room(now, relay, &lease, members),
            Event::Ack { command, error } if !error.is_empty() => {
                warn!(%relay, command, error, "relay could not carry out a command");
            }
            Event::Presence { fingerprint, online } => self.presence.handle(relay, fingerprint, online),
            Event::Ack { .. } | Event::Unknown => {}
            // Handled before, and refused by the reader of the stream.
            Event::DrainRequest { .. } | Event::Hello(_) => {}
        }
        self.world.registry.handle_heard(now, stream);
    }

    fn handle_room(&mut self, now: Instant, relay: &RelayId, carried: &Lease, members: Option<u32>) {
        if !carried.seats.is_empty() && self.world.handle_lease(now, carried) == Learnt::Stale {
            // It missed a change: whoever has seen a higher epoch tells it.
            if let Some(lease) = self.world.leases().lease(&carried.room) {
                self.tell(relay, &lease, Cause::Join);
            }
        }
        let members = members.unwrap_or(0);
        self.world.handle_members(now, relay, &carried.room, members);
        for drain in self.drains.values_mut() {
            if drain.plan().relay == *relay {
                drain.handle_members(&carried.room, members);
            }
        }
    }

    /// A relay that has told all it carries is told what it should: an order that it has carried out changes nothing.
    fn catch_up(&mut self, stream: StreamId, relay: &RelayId) {
        let rooms: Vec<Lease> = self
            .world
            .leases()
            .rooms_of(relay)
            .map(|(lease, _)| lease)
            .collect();
        for lease in rooms {
            self.streams
                .send(stream, Command::Lease(order(lease, Cause::Join)));
        }
    }

    /// Sends a lease to one relay, as it is.
    pub(super) fn tell(&mut self, relay: &RelayId, lease: &Lease, cause: Cause) {
        self.send(relay, Command::Lease(order(lease.clone(), cause)));
    }

    /// Sends a command to a relay, if it is attached here.
    pub(super) fn send(&mut self, relay: &RelayId, command: Command) {
        if let Some(stream) = self.world.registry.relay(relay).and_then(|relay| relay.stream) {
            self.streams.send(stream, command);
        }
    }

    /// Sends a command to every relay.
    pub(super) fn broadcast(&mut self, command: &Command) {
        let streams: Vec<_> = self.streams.all.keys().copied().collect();
        for stream in streams {
            self.streams.send(stream, command.clone());
        }
    }

    /// Ends all streams, which makes relays come again.
    pub(super) fn end_streams(&mut self) {
        for stream in self.streams.all.values() {
            stream.end.notify_one();
        }
    }

    /// Relays to which an identity is connected.
    pub(crate) fn presence(&self, fingerprint: &Fingerprint) -> Vec<RelayId> {
        self.presence.of(fingerprint).cloned().collect()
    }

    /// Relays that are attached.
    pub(crate) fn attached(&self) -> usize {
        self.streams.all.len()
    }

    pub(super) fn order_check(
        &mut self,
        by: &RelayId,
        relay: RelayId,
        addresses: &[SocketAddr],
        certificates: Vec<[u8; 32]>,
    ) {
        let known = self.world.registry.relay(&relay);
        let source = |socket: &SocketAddr| {
            let said =
                known.and_then(|relay| relay.hello.addresses.iter().find(|said| said.socket == *socket));
            said.map_or(AddressSource::Bound, |said| said.source)
        };
        let addresses = addresses
            .iter()
            .map(|socket| Address {
                socket: *socket,
                source: source(socket),
            })
            .collect();
        let check = Command::CheckAddress {
            relay,
            addresses,
            certificates,
        };
        self.send(by, check);
    }
}

impl Streams {
    fn send(&mut self, stream: StreamId, command: Command) {
        let Some(at) = self.all.get(&stream) else {
            return;
        };
        if at.out.try_send(Outgoing(command)).is_err() {
            warn!(relay = %at.relay, "relay takes no commands; it has to come again");
            at.end.notify_one();
        }
    }

    fn end(&mut self, stream: StreamId) {
        if let Some(gone) = self.all.remove(&stream) {
            gone.end.notify_one();
        }
    }
}

/// A lease that moves nobody.
pub(super) fn order(lease: Lease, cause: Cause) -> Order {
    Order {
        lease,
        deadline: Duration::ZERO,
        spread: Duration::ZERO,
        cause,
    }
}
