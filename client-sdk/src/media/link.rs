//! The way to the relay: its lane and its QUIC datagrams, PINGs, and which of the two carries.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::Connection;
use tokio::sync::mpsc::{self, error::TrySendError};
use wzp_sdk_core::carrier::{Carrier, Chooser, Preference, Why};
use wzp_socket::{client::Socket, clock};
use wzp_wire::{Datagram, Instant, Ping, Pong, datagram::PING_LEN, signal::SignalMessage};

use super::ActiveCall;
use crate::session::Lane;

/// IPv4 and UDP headers; IPv6 has 20 bytes more.
const IPV4_UDP: u64 = 28;
const IPV6_MORE: u64 = 20;
/// Lane datagrams taken in a row.
const MOST_A_TURN: usize = 256;
/// Messages that wait for a slow relay at most: the keys of a large room, several times over.
const BACKLOG: usize = 8_192;

pub(crate) struct Link {
    socket: Arc<Socket>,
    connection: Connection,
    lane: Option<Lane>,
    chooser: Chooser,
    outbox: mpsc::Sender<SignalMessage>,
    backlog: VecDeque<SignalMessage>,
    /// Everything that lanes put on the wire and took from it, headers included.
    lane_up: u64,
    lane_down: u64,
    ip_udp: u64,
    lost: bool,
}

impl Link {
    pub(crate) fn new(
        now: Instant,
        socket: Arc<Socket>,
        connection: Connection,
        lane: Option<Lane>,
        preference: Preference,
        outbox: mpsc::Sender<SignalMessage>,
    ) -> Self {
        let v4 = wzp_socket::address::canonical(connection.remote_address()).is_ipv4();
        let mut link = Self {
            socket,
            connection,
            chooser: Chooser::new(now, preference, lane.is_some()),
            lane,
            outbox,
            backlog: VecDeque::new(),
            lane_up: 0,
            lane_down: 0,
            ip_udp: IPV4_UDP + if v4 { 0 } else { IPV6_MORE },
            lost: false,
        };
        link.handle_timeout(now);
        link
    }

    /// Waits for lane datagrams, no longer than this, and hands on whatever came.
    pub(super) fn wait(&mut self, buffer: &mut [u8], timeout: Duration, mut call: Option<&mut ActiveCall>) {
        let mut next = self.socket.recv_blocking(buffer, timeout);
        let mut taken = 0;
        while let Some(incoming) = next {
            let packet = incoming.packet_len as u64;
            let ours = self
                .lane
                .as_ref()
                .is_some_and(|lane| lane.receiving.key() == incoming.lane);
            if let Some(datagram) = buffer.get_mut(..incoming.len).filter(|_| ours) {
                self.lane_down += packet + self.ip_udp;
                self.handle_lane(
                    incoming.at,
                    incoming.counter,
                    incoming.from,
                    datagram,
                    call.as_deref_mut(),
                );
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

    fn handle_lane(
        &mut self,
        at: Instant,
        counter: u64,
        from: wzp_socket::Address,
        datagram: &mut [u8],
        call: Option<&mut ActiveCall>,
    ) {
        let Some(lane) = &self.lane else { return };
        lane.alive.handle_opened(at);
        match Datagram::decode(datagram) {
            Ok(Datagram::Ping(ping)) => {
                let hold = clock::now().duration_since(at).as_micros();
                let hold = u32::try_from(hold).unwrap_or(u32::MAX);
                let pong = Pong::answer(&ping, hold, counter, from.remote());
                let mut out = [0; PING_LEN];
                let Ok(len) = Datagram::Pong(pong).encode(&mut out) else {
                    return;
                };
                let pong = out.get(..len).unwrap_or_default();
                let sent = self.socket.send_pong(&lane.sealer, &lane.to, counter, pong);
                if sent.is_ok() {
                    self.lane_up += (len + lane.sealer.overhead()) as u64 + self.ip_udp;
                }
            }
            Ok(Datagram::Pong(pong)) => {
                let hold = Duration::from_micros(pong.hold_us.into());
                if let Some(answer) = lane.alive.handle_pong(at, pong.nonce, hold) {
                    lane.sealer.confirm(answer.counter);
                    self.chooser.handle_pong();
                }
            }
            Ok(Datagram::Media { .. } | Datagram::Trunk(_)) => {
                if let Some(call) = call {
                    call.handle_datagram(at, datagram, self);
                }
            }
            Err(_) => {}
        }
    }

    /// A QUIC datagram came.
    pub(super) fn handle_quic(&mut self, now: Instant, bytes: &Bytes, call: Option<&mut ActiveCall>) {
        let mut copy = [0; super::BUFFER];
        if let Some((call, copy)) = call.zip(copy.get_mut(..bytes.len())) {
            copy.copy_from_slice(bytes);
            call.handle_datagram(now, copy, self);
        }
    }

    /// Whatever is due: PINGs and the choice of carrier.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.chooser.handle_timeout(now);
        self.hand_over();
        let Some(lane) = &self.lane else { return };
        let due = lane.alive.ping_due(now) || lane.sealer.ping_due(now);
        if due && !self.lost && self.chooser.wants_ping(now) {
            let mut nonce = [0; 8];
            if getrandom::fill(&mut nonce).is_err() {
                return;
            }
            let ping = Ping {
                nonce,
                // Until one is answered, the relay goes on answering where media comes from.
                probe: self.chooser.carrier() != Carrier::Lane,
                sent_us: now.as_micros() as u32,
            };
            let mut out = [0; PING_LEN];
            let Ok(len) = ping.encode_padded(&mut out, PING_LEN) else {
                return;
            };
            let bytes = out.get(..len).unwrap_or_default();
            let sent = self
                .socket
                .send_ping(now, &lane.sealer, &lane.to, Default::default(), bytes);
            if let Ok(counter) = sent {
                lane.alive.handle_ping_sent(now, nonce, counter);
                self.chooser.handle_ping(now);
                self.lane_up += (len + lane.sealer.overhead()) as u64 + self.ip_udp;
            }
        }
    }

    /// Sends a media datagram on whatever carries now. What can't be sent is lost.
    pub(super) fn send(&mut self, now: Instant, datagram: &[u8]) {
        if self.lost {
            return;
        }
        match (self.chooser.carrier(), &self.lane) {
            (Carrier::Lane, Some(lane)) if !lane.alive.is_silent(now) => self.send_lane(datagram),
            (Carrier::Lane, _) => {}
            (Carrier::QuicDatagram, _) => {
                let _ = self.connection.send_datagram(Bytes::copy_from_slice(datagram));
            }
        }
    }

    /// Queues a message to the relay; one that reads nothing for long loses it.
    pub(super) fn signal(&mut self, message: SignalMessage) {
        if self.backlog.len() < BACKLOG {
            self.backlog.push_back(message);
        }
        self.hand_over();
    }

    fn hand_over(&mut self) {
        while let Some(message) = self.backlog.pop_front() {
            match self.outbox.try_send(message) {
                Ok(()) => {}
                Err(TrySendError::Full(message)) => return self.backlog.push_front(message),
                Err(TrySendError::Closed(_)) => return self.backlog.clear(),
            }
        }
    }

    pub(super) fn handle_lost(&mut self) {
        self.lost = true;
        self.lane = None;
    }

    pub(super) fn carrier(&self) -> (Carrier, Why) {
        (self.chooser.carrier(), self.chooser.why())
    }

    /// Round trip to the relay: of the lane, of QUIC before the lane has one.
    pub(super) fn rtt(&self) -> Duration {
        let lane = self.lane.as_ref().and_then(|lane| lane.alive.rtt());
        lane.map_or_else(|| self.connection.rtt(), |rtt| rtt.smoothed)
    }

    /// Bytes on the wire since the connection began, up and down: lanes, QUIC, UDP and IP.
    pub(super) fn wire_bytes(&self) -> (u64, u64) {
        let stats = self.connection.stats();
        let quic = |udp: quinn::UdpStats| udp.bytes + udp.datagrams * self.ip_udp;
        (
            self.lane_up + quic(stats.udp_tx),
            self.lane_down + quic(stats.udp_rx),
        )
    }

    fn send_lane(&mut self, datagram: &[u8]) {
        let Some(lane) = &self.lane else { return };
        if self.socket.send(&lane.sealer, &lane.to, datagram).is_ok() {
            self.lane_up += (datagram.len() + lane.sealer.overhead()) as u64 + self.ip_udp;
        }
    }
}
