//! What the IO threads do with a datagram: lane in, room, lanes out. No lock, no allocation, no log on this way.
//!
//! Copies for members on QUIC datagrams are the exception: those go through quinn, which locks and allocates.

mod address;
mod ahead;
mod trunks;

use std::sync::Arc;

use bytes::Bytes;
use wzp_relay_core::{
    Heard, NotForwarded, Targets, To, forward,
    limits::Rate,
    overload::{Overload, Turn, Watch},
    probe::wrapping_us,
    stats::{Counters, Dropped, Leg},
};
use wzp_socket::{
    Address, clock,
    relay::{Arrival, Entry, Handler, Load},
    send::{Extras, SendBatch},
};
use wzp_wire::{
    Datagram, Instant, Ping, Pong, SenderId, Trunk,
    datagram::{PING_LEN, PONG_LEN},
};

use crate::{
    config::Limits,
    metrics::Rtts,
    port::{Carrier, OutLane, Port, Seat, Seats},
    random::Nonces,
};
use ahead::Ahead;
use trunks::Trunks;

/// Lanes keep their packets below this, whatever the path could do.
pub(crate) const MAX_UDP_PAYLOAD: usize = 1_200;
/// Largest room, and the trunks in it.
const MOST_OUTLETS: usize = 11_000;

/// Forwards for one thread.
pub(crate) struct Media {
    counters: Arc<Counters>,
    rtts: Arc<Rtts>,
    overload: Arc<Overload>,
    watch: Watch,
    packet_rate: Rate,
    trunk_rate: Rate,
    question_rate: Rate,
    targets: Targets,
    trunks: Trunks,
    nonces: Nonces,
    /// A datagram put together here: MEDIA out of a trunk.
    scratch: Vec<u8>,
    forwarded: u64,
}

/// What a datagram came in on.
#[derive(Clone, Copy)]
enum Through<'a> {
    Lane(&'a Arrival),
    Quic,
}

impl Media {
    pub(crate) fn new(
        counters: Arc<Counters>,
        rtts: Arc<Rtts>,
        overload: Arc<Overload>,
        limits: &Limits,
    ) -> Self {
        Self {
            counters,
            rtts,
            overload,
            watch: Watch::default(),
            packet_rate: limits.packets,
            trunk_rate: limits.trunk_packets,
            question_rate: limits.questions,
            targets: Targets::with_capacity(MOST_OUTLETS),
            trunks: Trunks::default(),
            nonces: Nonces::new(),
            scratch: vec![0; MAX_UDP_PAYLOAD],
            forwarded: 0,
        }
    }

    /// A datagram that came over QUIC; the caller sends `out` afterwards ([`Media::finish`]).
    pub(crate) fn quic_datagram(
        &mut self,
        now: Instant,
        port: &Arc<Port>,
        datagram: &[u8],
        out: &mut SendBatch,
    ) {
        self.dispatch(now, port, Through::Quic, datagram, out);
    }

    /// The end of a round: sends everything, and measures how long that took since `now`.
    pub(crate) fn finish(&mut self, now: Instant, out: &mut SendBatch) {
        let mut round = Round {
            now,
            counters: &self.counters,
            nonces: &mut self.nonces,
            out,
        };
        self.trunks.flush(&mut round);
        out.flush();
        if self.forwarded > 0 {
            self.counters
                .latency(clock::now().duration_since(now), self.forwarded);
            self.forwarded = 0;
        }
    }

    fn dispatch(
        &mut self,
        now: Instant,
        port: &Arc<Port>,
        through: Through<'_>,
        datagram: &[u8],
        out: &mut SendBatch,
    ) {
        match Datagram::decode(datagram) {
            Ok(Datagram::Media { sender, packet }) => {
                heard_through(port, through);
                self.member_packet(now, port, sender, packet, datagram, out);
            }
            Ok(Datagram::Trunk(trunk)) => {
                heard_through(port, through);
                self.trunk(now, port, &trunk, out);
            }
            Ok(Datagram::Ping(ping)) => {
                if !ping.probe {
                    heard_through(port, through);
                }
                self.pong(now, port, through, &ping, out);
            }
            Ok(Datagram::Pong(pong)) => self.handle_pong(now, port, through, &pong),
            Err(_) => self.counters.discard(Dropped::Decode, 1),
        }
    }

    fn member_packet(
        &mut self,
        now: Instant,
        port: &Arc<Port>,
        sender: SenderId,
        packet: &[u8],
        datagram: &[u8],
        out: &mut SendBatch,
    ) {
        self.counters.receive(Leg::Client, packet.len());
        if !port.bucket.take(self.packet_rate, now, 1) {
            return self.counters.discard(Dropped::Rate, 1);
        }
        let Seats::Member(slot) = &port.seats else {
            return self.counters.discard(Dropped::Decode, 1);
        };
        let seat = slot.load();
        match &*seat {
            None => self.counters.discard(Dropped::NoRoom, 1),
            Some(seat) if seat.sender != sender => self.counters.discard(Dropped::Sender, 1),
            Some(seat) => self.fan_out(now, seat, packet, datagram, out),
        }
    }

    fn trunk(&mut self, now: Instant, port: &Arc<Port>, trunk: &Trunk<'_>, out: &mut SendBatch) {
        let count = u32::try_from(trunk.count()).unwrap_or(u32::MAX);
        // A relay of the cluster holds its members to their rates itself.
        let in_rate = port.link.is_some() || port.bucket.take(self.trunk_rate, now, count);
        // Taken out for the time of the call, so that a packet can be put together in it.
        let mut scratch = std::mem::take(&mut self.scratch);
        for (handle, packet) in trunk.iter() {
            self.counters.receive(Leg::Mesh, packet.len());
            if !in_rate {
                self.counters.discard(Dropped::Rate, 1);
                continue;
            }
            let seat = port.seats.find(handle);
            let Some(seat) = seat.as_ref().and_then(|seat| seat.as_ref()) else {
                self.counters.discard(Dropped::Handle, 1);
                continue;
            };
            let media = Datagram::Media {
                sender: seat.sender,
                packet,
            };
            match media.encode(&mut scratch) {
                Ok(len) => {
                    let datagram = scratch.get(..len).unwrap_or_default();
                    self.fan_out(now, seat, packet, datagram, out);
                }
                Err(_) => self.counters.discard(Dropped::TooLarge, 1),
            }
        }
        self.scratch = scratch;
    }

    fn fan_out(&mut self, now: Instant, seat: &Seat, packet: &[u8], datagram: &[u8], out: &mut SendBatch) {
        let Some(heard) = Heard::read(packet) else {
            return self.counters.discard(Dropped::Decode, 1);
        };
        let fan_out = seat.cell.load();
        match forward(
            &fan_out,
            seat.sender,
            seat.origin,
            heard,
            now,
            self.overload.shed(),
            &mut self.targets,
        ) {
            Ok(()) => {}
            Err(NotForwarded::UnknownSender) => return self.counters.discard(Dropped::NoRoom, 1),
            Err(NotForwarded::NotLoudest) => return self.counters.held_back.add(1),
            Err(NotForwarded::Shed) => return self.counters.discard(Dropped::Overload, 1),
        }
        let handle = fan_out.source(seat.sender).and_then(|source| source.handle);
        let mut round = Round {
            now,
            counters: &self.counters,
            nonces: &mut self.nonces,
            out,
        };
        let (mut shared, mut sent) = (None, 0);
        let targets = Ahead::new(&fan_out, self.targets.as_slice()).flatten();
        for outlet in targets.filter_map(|at| fan_out.outlets().get(usize::from(*at))) {
            match (outlet.to, handle) {
                (To::Member(_), _) => sent += usize::from(round.send(&outlet.port, datagram, &mut shared)),
                (To::Trunk(_), Some(handle)) => {
                    let handle = outlet.port.marked(handle);
                    self.trunks.push(&mut round, &outlet.port, handle, packet);
                }
                (To::Trunk(_), None) => round.counters.discard(Dropped::Handle, 1),
            }
        }
        if fan_out.is_fenced() {
            return self.counters.discard(Dropped::Epoch, 1);
        }
        self.counters.send(Leg::Client, sent, packet.len());
        self.counters
            .fan_out
            .observe(self.targets.as_slice().len() as u64, 1);
        self.forwarded += 1;
    }

    fn pong(&mut self, now: Instant, port: &Port, through: Through<'_>, ping: &Ping, out: &mut SendBatch) {
        self.counters.pings.add(1);
        let rate = match port.seats {
            Seats::Trunk(_) => self.trunk_rate,
            Seats::Asker => self.question_rate,
            Seats::Member(_) | Seats::Probe(_) => self.packet_rate,
        };
        if !port.bucket.take(rate, now, 1) {
            return self.counters.discard(Dropped::Rate, 1);
        }
        let hold = clock::now().duration_since(now).as_micros();
        let hold = u32::try_from(hold).unwrap_or(u32::MAX);
        let mut bytes = [0; PONG_LEN];
        match through {
            Through::Lane(arrival) => {
                let pong = Pong::answer(ping, hold, arrival.counter, arrival.from.remote());
                let Ok(len) = Datagram::Pong(pong).encode(&mut bytes) else {
                    return;
                };
                if let Some(lane) = &*port.lane() {
                    let bytes = bytes.get(..len).unwrap_or_default();
                    address::answer(lane, arrival, bytes, out);
                }
            }
            Through::Quic => {
                let pong = Pong::answer(ping, hold, 0, port.connection.remote_address());
                if Datagram::Pong(pong).encode(&mut bytes).is_ok() {
                    // A connection on its way out needs no answer.
                    let _ = port.connection.send_datagram(Bytes::copy_from_slice(&bytes));
                }
            }
        }
    }

    fn handle_pong(&mut self, now: Instant, port: &Port, through: Through<'_>, pong: &Pong) {
        if let Seats::Probe(probe) = &port.seats
            && let Ok(mut probe) = probe.lock()
        {
            probe.handle_pong(now, pong);
        }
        let (Through::Lane(arrival), Some(lane)) = (through, &*port.lane()) else {
            return;
        };
        let hold = std::time::Duration::from_micros(u64::from(pong.hold_us));
        if let Some(answer) = lane.alive.handle_pong(now, pong.nonce, hold) {
            lane.out.sealer.confirm(answer.counter);
            if port.leg == Leg::Client {
                self.rtts.observe(answer.rtt);
            }
        }
        if address::handle_pong(now, lane, arrival, pong) {
            self.counters.moved.add(1);
        }
    }
}

impl Handler<Arc<Port>> for Media {
    fn datagram(
        &mut self,
        now: Instant,
        lane: &Arc<Entry<Arc<Port>>>,
        arrival: &Arrival,
        datagram: &[u8],
        out: &mut SendBatch,
    ) {
        let port = &lane.state;
        if let Some(lane) = &*port.lane() {
            lane.alive.handle_opened(now);
            let mut round = Round {
                now,
                counters: &self.counters,
                nonces: &mut self.nonces,
                out,
            };
            address::follow(&mut round, lane, arrival, datagram);
        }
        self.dispatch(now, port, Through::Lane(arrival), datagram, out);
    }

    fn tick(&mut self, now: Instant, load: Load, out: &mut SendBatch) {
        let turn = Turn {
            full_batches_in_a_row: load.full_batches_in_a_row,
            kernel_dropped: load.kernel_dropped,
        };
        self.watch.handle_turn(now, turn, &self.overload);
        self.counters.ticks.add(1);
        self.finish(now, out);
    }
}

fn heard_through(port: &Port, through: Through<'_>) {
    port.set_carrier(match through {
        Through::Lane(_) => Carrier::Lane,
        Through::Quic => Carrier::Quic,
    });
}

/// What sending needs, for as long as a packet is looked at.
struct Round<'a> {
    now: Instant,
    counters: &'a Counters,
    nonces: &'a mut Nonces,
    out: &'a mut SendBatch,
}

impl Round<'_> {
    /// Sends a datagram to one of many; `shared` is made for the first of them that is on QUIC datagrams. Whether it
    /// left.
    fn send(&mut self, port: &Port, datagram: &[u8], shared: &mut Option<Bytes>) -> bool {
        let sent = match (port.carrier(), &*port.lane()) {
            (Carrier::Lane, Some(lane)) => self.seal(lane, datagram),
            _ => {
                let shared = shared.get_or_insert_with(|| Bytes::copy_from_slice(datagram));
                send_quic(&port.connection, shared.clone())
            }
        };
        sent.map_err(|why| self.counters.discard(why, 1)).is_ok()
    }

    /// Seals `datagram` for the other end of `lane`, and a PING where one is due.
    fn seal(&mut self, lane: &OutLane, datagram: &[u8]) -> Result<(), Dropped> {
        if datagram.len() + lane.out.sealer.overhead() > MAX_UDP_PAYLOAD {
            return Err(Dropped::TooLarge);
        }
        if lane.alive.ping_due(self.now) || lane.out.sealer.ping_due(self.now) {
            self.ping(lane);
        }
        if lane.alive.is_silent(self.now) {
            return Err(Dropped::Silent);
        }
        address::copy(self, lane, datagram);
        let sealed = self.out.seal(&lane.out, |room| {
            room.get_mut(..datagram.len())?.copy_from_slice(datagram);
            Some(datagram.len())
        });
        if sealed { Ok(()) } else { Err(Dropped::Silent) }
    }

    fn ping(&mut self, lane: &OutLane) {
        let to = lane.out.address();
        let nonce = self.nonces.next();
        self.ping_at(lane, &to, nonce, false);
    }

    fn ping_at(&mut self, lane: &OutLane, to: &Address, nonce: [u8; 8], probe: bool) {
        let ping = Ping {
            nonce,
            probe,
            sent_us: wrapping_us(self.now),
        };
        let mut bytes = [0; PING_LEN];
        if Datagram::Ping(ping).encode(&mut bytes).is_err() {
            return;
        }
        let counter = self
            .out
            .seal_ping(self.now, &lane.out, to, Extras::default(), &bytes);
        if let Some(counter) = counter {
            lane.alive.handle_ping_sent(self.now, nonce, counter);
        }
    }
}

/// quinn drops the oldest datagram of a connection that has no room for one more.
fn send_quic(connection: &quinn::Connection, datagram: Bytes) -> Result<(), Dropped> {
    use quinn::SendDatagramError as Error;
    let full = connection.datagram_send_buffer_space() < datagram.len();
    connection.send_datagram(datagram).map_err(|error| match error {
        Error::TooLarge | Error::UnsupportedByPeer | Error::Disabled => Dropped::TooLarge,
        Error::ConnectionLost(_) => Dropped::Closed,
    })?;
    if full { Err(Dropped::QueueFull) } else { Ok(()) }
}
