//! The way to the relay: its lane and its QUIC datagrams, PINGs, and which of the two carries.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quinn::Connection;
use tokio::sync::mpsc::{self, error::TrySendError};
use wzp_sdk_core::{
    carrier::{Carrier, Chooser, Preference, Why},
    observed::Observed,
    paths::PathId,
    silence::{Change, Watch},
};
use wzp_socket::{
    client::{Incoming, LaneKey, Socket},
    clock,
};
use wzp_wire::{
    Datagram, Instant, Ping, Pong, RelayId,
    datagram::PING_LEN,
    signal::{self, Kind, SignalMessage, proto},
};

use crate::session::Lane;

/// IPv4 and UDP headers; IPv6 has 20 bytes more.
const IPV4_UDP: u64 = 28;
const IPV6_MORE: u64 = 20;
/// Messages that wait for a slow relay at most: the keys of a large room, several times over.
const BACKLOG: usize = 8_192;
/// Media that came or went within this time is a call under way.
const MEDIA: Duration = Duration::from_secs(2);
/// How often QUIC is asked whether it heard something.
const LOOK_AT_QUIC: Duration = Duration::from_millis(100);

/// Names a link for as long as the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkId(u64);

/// What came over a link.
pub(super) enum Got {
    /// Nothing that a call has to do with.
    Nothing,
    /// The answer to a PING that left so long ago.
    Pong(Duration),
    /// Media.
    Media,
}

pub(crate) struct Link {
    pub(crate) id: LinkId,
    /// Its name in its cluster, if it is there for a call in one.
    pub(crate) relay: Option<RelayId>,
    /// The path of the call that it is, while there is a call.
    pub(super) path: Option<PathId>,
    socket: Arc<Socket>,
    connection: Connection,
    lane: Option<Lane>,
    chooser: Chooser,
    watch: Watch,
    observed: Observed,
    media_at: Option<Instant>,
    /// What QUIC had heard when it was last asked, and when it is to be asked again.
    quic_heard: u64,
    look_at_quic: Instant,
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
        observed: SocketAddr,
        lane: Option<Lane>,
        preference: Preference,
        outbox: mpsc::Sender<SignalMessage>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let v4 = wzp_socket::address::canonical(connection.remote_address()).is_ipv4();
        let mut link = Self {
            id: LinkId(NEXT.fetch_add(1, Ordering::Relaxed)),
            relay: None,
            path: None,
            socket,
            connection,
            chooser: Chooser::new(now, preference, lane.is_some()),
            watch: Watch::new(now),
            observed: Observed::new(observed),
            media_at: None,
            quic_heard: 0,
            look_at_quic: now,
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

    pub(super) fn has_lane(&self, key: LaneKey) -> bool {
        self.lane.as_ref().is_some_and(|lane| lane.receiving.key() == key)
    }

    /// A datagram came over the lane.
    pub(super) fn handle_lane(&mut self, incoming: &Incoming, datagram: &[u8]) -> Got {
        let Some(lane) = &self.lane else {
            return Got::Nothing;
        };
        let (at, counter) = (incoming.at, incoming.counter);
        self.lane_down += incoming.packet_len as u64 + self.ip_udp;
        lane.alive.handle_opened(at);
        self.watch.handle_heard(at);
        match Datagram::decode(datagram) {
            Ok(Datagram::Ping(ping)) => {
                let hold = clock::now().duration_since(at).as_micros();
                let hold = u32::try_from(hold).unwrap_or(u32::MAX);
                let pong = Pong::answer(&ping, hold, counter, incoming.from.remote());
                let mut out = [0; PING_LEN];
                let Ok(len) = Datagram::Pong(pong).encode(&mut out) else {
                    return Got::Nothing;
                };
                let pong = out.get(..len).unwrap_or_default();
                let sent = self.socket.send_pong(&lane.sealer, &lane.to, counter, pong);
                if sent.is_ok() {
                    self.lane_up += (len + lane.sealer.overhead()) as u64 + self.ip_udp;
                }
                Got::Nothing
            }
            Ok(Datagram::Pong(pong)) => {
                let hold = Duration::from_micros(pong.hold_us.into());
                let Some(answer) = lane.alive.handle_pong(at, pong.nonce, hold) else {
                    return Got::Nothing;
                };
                lane.sealer.confirm(answer.counter);
                self.chooser.handle_pong();
                if self.observed.handle_pong(at, pong.observed) {
                    self.signal(signal::message(Kind::Keepalive(proto::Keepalive {})));
                }
                Got::Pong(answer.rtt)
            }
            Ok(Datagram::Media { .. } | Datagram::Trunk(_)) => {
                self.media_at = Some(at);
                Got::Media
            }
            Err(_) => Got::Nothing,
        }
    }

    /// A QUIC datagram came; as a frame it was counted already.
    pub(super) fn handle_quic(&mut self, now: Instant, bytes: &Bytes) -> Got {
        match Datagram::decode(bytes) {
            // The relay repeats our clock, and QUIC vouches for the relay.
            Ok(Datagram::Pong(pong)) => {
                let elapsed = (now.as_micros() as u32).wrapping_sub(pong.sent_us);
                Got::Pong(Duration::from_micros(elapsed.saturating_sub(pong.hold_us).into()))
            }
            Ok(Datagram::Media { .. } | Datagram::Trunk(_)) => {
                self.media_at = Some(now);
                Got::Media
            }
            // A call counts what is malformed.
            Err(_) => Got::Media,
            Ok(Datagram::Ping(_)) => Got::Nothing,
        }
    }

    /// A PING over what carries, for the sake of the path. Says whether it left.
    pub(super) fn ping_now(&mut self, now: Instant) -> bool {
        let carrier = self.chooser.carrier();
        let Some(ping) = self.ping(now, carrier).filter(|_| !self.lost) else {
            return false;
        };
        match carrier {
            Carrier::Lane => self.ping_lane(now, &ping),
            Carrier::QuicDatagram => self.ping_quic(now, &ping),
        }
        true
    }

    /// Whatever is due: PINGs and the choice of carrier. Says when the relay falls silent or is heard again.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Change> {
        self.chooser.handle_timeout(now);
        self.hand_over();
        if self.lost {
            return None;
        }
        self.listen_to_quic(now);
        self.watch.handle_timeout(now);
        let carries = self.chooser.carrier();
        let media = self.media_at.filter(|&at| now < at + MEDIA).map(|_| carries);
        if self.lane_ping_due(now, media)
            && let Some(ping) = self.ping(now, Carrier::Lane)
        {
            self.ping_lane(now, &ping);
        }
        if self.watch.ping_due(now, Carrier::QuicDatagram, media)
            && let Some(ping) = self.ping(now, Carrier::QuicDatagram)
        {
            self.ping_quic(now, &ping);
        }
        self.watch.poll_change()
    }

    /// QUIC counts the frames it received, all of which authenticated.
    fn listen_to_quic(&mut self, now: Instant) {
        if now < self.look_at_quic {
            return;
        }
        self.look_at_quic = now + LOOK_AT_QUIC;
        let frames = self.connection.stats().frame_rx;
        let heard = frames.acks + frames.datagram + frames.stream + frames.ping + frames.path_challenge;
        if heard != self.quic_heard {
            self.quic_heard = heard;
            self.watch.handle_heard(now);
        }
    }

    fn lane_ping_due(&self, now: Instant, media: Option<Carrier>) -> bool {
        self.lane.as_ref().is_some_and(|lane| {
            let due = lane.alive.ping_due(now)
                || lane.sealer.ping_due(now)
                || self.watch.ping_due(now, Carrier::Lane, media);
            due && self.chooser.wants_ping(now)
        })
    }

    /// `None` when the system has no randomness, which is no reason to end.
    fn ping(&self, now: Instant, over: Carrier) -> Option<Ping> {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).ok()?;
        Some(Ping {
            nonce,
            // The relay answers where media comes from, and no PING is to change that.
            probe: self.chooser.carrier() != over,
            sent_us: now.as_micros() as u32,
        })
    }

    fn ping_lane(&mut self, now: Instant, ping: &Ping) {
        let Some(lane) = &self.lane else { return };
        let mut out = [0; PING_LEN];
        let Ok(len) = ping.encode_padded(&mut out, PING_LEN) else {
            return;
        };
        let bytes = out.get(..len).unwrap_or_default();
        let sent = self
            .socket
            .send_ping(now, &lane.sealer, &lane.to, Default::default(), bytes);
        if let Ok(counter) = sent {
            lane.alive.handle_ping_sent(now, ping.nonce, counter);
            self.chooser.handle_ping(now);
            self.watch.handle_asked(now, Carrier::Lane);
            self.lane_up += (len + lane.sealer.overhead()) as u64 + self.ip_udp;
        }
    }

    /// Its answer counts as every other frame does.
    fn ping_quic(&mut self, now: Instant, ping: &Ping) {
        let mut out = [0; PING_LEN];
        let Ok(len) = ping.encode_padded(&mut out, PING_LEN) else {
            return;
        };
        let bytes = Bytes::copy_from_slice(out.get(..len).unwrap_or_default());
        if self.connection.send_datagram(bytes).is_ok() {
            self.watch.handle_asked(now, Carrier::QuicDatagram);
        }
    }

    /// Sends a media datagram on whatever carries now. What can't be sent is lost.
    pub(super) fn send(&mut self, now: Instant, datagram: &[u8]) {
        if self.lost {
            return;
        }
        self.media_at = Some(now);
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

    /// Signalling or all of QUIC has ended, and with it everything.
    pub(super) fn handle_lost(&mut self) {
        self.lost = true;
        self.lane = None;
        self.connection.close(0_u32.into(), b"");
    }

    /// The address of the relay, and what carries.
    pub(super) fn address(&self) -> SocketAddr {
        wzp_socket::address::canonical(self.connection.remote_address())
    }

    /// Whether the relay has not answered for a while.
    pub(super) fn is_silent(&self) -> bool {
        self.watch.is_silent()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    pub(super) fn carrier(&self) -> (Carrier, Why) {
        (self.chooser.carrier(), self.chooser.why())
    }

    /// Round trip to the relay over what carries; of QUIC before the lane has one. `None` while the relay is silent: what
    /// it was says nothing then.
    pub(super) fn rtt(&self) -> Option<Duration> {
        if self.lost || self.watch.is_silent() {
            return None;
        }
        let lane = self
            .lane
            .as_ref()
            .filter(|_| self.chooser.carrier() == Carrier::Lane);
        let lane = lane.and_then(|lane| lane.alive.rtt());
        Some(lane.map_or_else(|| self.connection.rtt(), |rtt| rtt.smoothed))
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
