//! A client of nothing but the wire: QUIC, one lane, signalling, keys. It keeps what it hears, and may misbehave.

use std::{net::SocketAddr, time::Duration};

use getrandom::{SysRng, rand_core::UnwrapErr};
use quinn::{Connecting, Connection, ConnectionError, RecvStream, SendStream};
use tokio::time::{Interval, MissedTickBehavior};
use wzp_identity::{EXPORTER_LABEL, Identity, Phrase};
use wzp_lane::{Aead, Direction, LaneId, Opener, Sealer};
use wzp_sdk::core::e2ee::{Group, OpenError};
use wzp_socket::{
    Address,
    client::{self, ReceivingLane, Socket},
    clock, quic,
};
use wzp_wire::{
    Datagram, Pong, RoomName, SenderId,
    datagram::PING_LEN,
    signal::{
        self, Announcement, Blob, Decoder, Hello, Join, Joined, Kind, LaneOffer, Member, Payload,
        PeerMessage, Reason, Role, Welcome, proto,
    },
};

use crate::{PATIENCE, soon};

const AEAD: Aead = Aead::ChaCha20Poly1305;
const TICK: Duration = Duration::from_millis(10);
const REQUEST: u32 = 7;

/// A socket of its own on the loopback.
pub fn socket() -> Socket {
    let endpoint = quic::endpoint_config(&quic::EndpointSecret::random());
    let config = client::Config {
        bind: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        ..client::Config::default()
    };
    Socket::bind(config, endpoint, None).unwrap()
}

/// Begins a handshake.
pub fn dial(socket: &Socket, relay: SocketAddr) -> Connecting {
    let anybody = quic::client_config(|_| true).unwrap();
    let connecting = socket.endpoint().connect_with(anybody, relay, "wzp");
    connecting.unwrap()
}

/// A QUIC connection to a relay, without a word.
pub async fn connect(relay: SocketAddr) -> (Socket, Result<Connection, ConnectionError>) {
    let socket = socket();
    let connection = soon("handshake", dial(&socket, relay)).await;
    (socket, connection)
}

/// A connection that has its Welcome.
pub struct Wire {
    /// The QUIC side.
    pub connection: Connection,
    /// Signalling to the relay.
    pub send: SendStream,
    /// The sender id in the room, once joined.
    pub me: Option<SenderId>,
    /// The keys of the room that it is in, or was last.
    pub group: Option<Group>,
    /// Media packets that came, oldest first.
    pub heard: Vec<(SenderId, Vec<u8>)>,
    /// What the relay refused.
    pub refused: Vec<proto::Refused>,
    /// Why the relay ended the connection.
    pub goodbye: Option<Reason>,
    socket: Socket,
    recv: RecvStream,
    decoder: Decoder,
    lane: Lane,
    identity: Identity,
    over: bool,
    ticks: Interval,
}

struct Lane {
    sealer: Sealer,
    to: Address,
    _receiving: ReceivingLane,
}

enum Input {
    Message(Box<Kind>),
    Datagram(Vec<u8>, u64),
    Over,
    Tick,
}

impl Wire {
    /// Connects as somebody new.
    pub async fn start(relay: SocketAddr) -> Self {
        let (socket, connection) = connect(relay).await;
        let connection = connection.unwrap();
        let identity = Identity::from_phrase(&Phrase::generate(&mut UnwrapErr(SysRng)));
        let (mut send, mut recv) = soon("stream", connection.open_bi()).await.unwrap();
        let opener = Opener::new(
            quic::lane_secret(&connection, Direction::FromServer, 0, AEAD).unwrap(),
            AEAD,
            socket.id_len(),
        );
        let receiving = socket.open(opener, connection.remote_address()).unwrap();
        write(&mut send, hello(&connection, &identity, &receiving)).await;
        let mut decoder = Decoder::new();
        let Some(Kind::Welcome(welcome)) = soon("welcome", next(&mut recv, &mut decoder)).await else {
            panic!("no welcome: {:?}", connection.close_reason());
        };
        let accept = Welcome::try_from(welcome).unwrap().lane.unwrap();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lane = Lane {
            sealer: Sealer::new(
                quic::lane_secret(&connection, Direction::FromClient, 0, AEAD).unwrap(),
                AEAD,
                LaneId::new(&accept.lane_id).unwrap(),
            ),
            to: Address::new(connection.remote_address(), None),
            _receiving: receiving,
        };
        Self {
            connection,
            send,
            me: None,
            group: None,
            heard: Vec::new(),
            refused: Vec::new(),
            goodbye: None,
            socket,
            recv,
            decoder,
            lane,
            identity,
            over: false,
            ticks,
        }
    }

    /// Enters a room and returns when the relay has answered.
    ///
    /// # Errors
    /// The relay's refusal.
    pub async fn join(&mut self, room: &str) -> Result<SenderId, Reason> {
        let room = RoomName::parse(room).unwrap();
        let group = Group::new(&self.identity, &room, &mut UnwrapErr(SysRng));
        let announcement = Announcement::new(group.announcement().to_vec()).unwrap();
        self.group = Some(group);
        self.me = None;
        let join = Join {
            request: REQUEST,
            room,
            announcement,
            echo: false,
            standby: false,
        };
        self.say(Kind::Join(join.into())).await;
        let before = self.refused.len();
        self.run_until("answer to a join", |wire| {
            wire.me.is_some() || wire.refused.len() > before || wire.goodbye.is_some() || wire.over
        })
        .await;
        self.me.ok_or_else(|| {
            let refused = self.refused.last().map(proto::Refused::reason);
            self.goodbye.or(refused).unwrap_or(Reason::Unspecified)
        })
    }

    /// Leaves the room; keeps the keys.
    pub async fn leave(&mut self) {
        self.me = None;
        self.say(Kind::Leave(proto::Leave {})).await;
    }

    /// Sends a message; whether it could.
    pub async fn say(&mut self, kind: Kind) -> bool {
        write(&mut self.send, kind).await
    }

    /// Sends a media packet, whatever is in it, as `sender`.
    pub fn send_media(&self, sender: SenderId, packet: &[u8]) {
        let mut datagram = vec![0; packet.len() + 3];
        Datagram::Media { sender, packet }.encode(&mut datagram).unwrap();
        self.send_datagram(&datagram);
    }

    /// Sends any datagram on the lane. What the system has no room for is lost.
    pub fn send_datagram(&self, datagram: &[u8]) {
        let _ = self.socket.send(&self.lane.sealer, &self.lane.to, datagram);
    }

    /// Does what a client does until `enough` says so.
    pub async fn run_until(&mut self, what: &str, mut enough: impl FnMut(&mut Self) -> bool) {
        let running = async {
            while !enough(self) {
                let input = self.input().await;
                self.handle(input).await;
            }
        };
        if tokio::time::timeout(PATIENCE, running).await.is_err() {
            panic!("waited {} s for {what}", PATIENCE.as_secs());
        }
    }

    /// Does what a client does, for some time.
    pub async fn run_for(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        self.run_until("time to pass", |_| tokio::time::Instant::now() >= end)
            .await;
    }

    /// Tries to open a media packet with the keys of the room; its epoch byte.
    ///
    /// # Errors
    /// Why it can't be opened.
    pub fn open(&mut self, from: SenderId, packet: &[u8]) -> Result<u8, OpenError> {
        let mut copy = packet.to_vec();
        let group = self.group.as_mut().unwrap();
        let opened = group.open(clock::now(), from, &mut copy)?;
        Ok(opened.header.epoch)
    }

    /// How many packets that waited for their key can be opened now.
    pub fn held(&mut self) -> usize {
        let (group, mut buffer) = (self.group.as_mut().unwrap(), Vec::new());
        std::iter::from_fn(|| group.poll_held(&mut buffer)).count()
    }

    /// The relay has ended the connection.
    pub fn is_over(&self) -> bool {
        self.over
    }

    async fn input(&mut self) -> Input {
        let mut buffer = [0; 2_048];
        tokio::select! {
            _ = self.ticks.tick() => Input::Tick,
            message = next(&mut self.recv, &mut self.decoder), if !self.over =>
                message.map_or(Input::Over, |kind| Input::Message(Box::new(kind))),
            incoming = self.socket.recv(&mut buffer), if !self.over => match incoming {
                Some(incoming) => Input::Datagram(buffer[..incoming.len].to_vec(), incoming.counter),
                None => Input::Over,
            },
        }
    }

    async fn handle(&mut self, input: Input) {
        let now = clock::now();
        match input {
            Input::Message(kind) => self.handle_message(*kind),
            Input::Datagram(bytes, counter) => self.handle_datagram(&bytes, counter),
            Input::Over => self.over = true,
            Input::Tick => {}
        }
        let Some(group) = &mut self.group else { return };
        group.handle_timeout(now, &mut UnwrapErr(SysRng));
        let out: Vec<_> = std::iter::from_fn(|| group.poll_transmit()).collect();
        for (sender, payload) in out {
            let payload = Payload::new(payload).unwrap();
            self.say(Kind::PeerMessage(PeerMessage { sender, payload }.into()))
                .await;
        }
    }

    fn handle_datagram(&mut self, bytes: &[u8], counter: u64) {
        match Datagram::decode(bytes) {
            Ok(Datagram::Ping(ping)) => {
                let pong = Pong::answer(&ping, 0, counter, self.connection.remote_address());
                let mut out = [0; PING_LEN];
                let len = Datagram::Pong(pong).encode(&mut out).unwrap();
                self.send_datagram(&out[..len]);
            }
            Ok(Datagram::Media { sender, packet }) => self.heard.push((sender, packet.to_vec())),
            _ => {}
        }
    }

    fn handle_message(&mut self, kind: Kind) {
        let now = clock::now();
        let group = self.group.as_mut();
        match (kind, group) {
            (Kind::Joined(joined), Some(group)) => {
                let joined = Joined::try_from(joined).unwrap();
                let members: Vec<(SenderId, &[u8])> = joined
                    .members
                    .iter()
                    .map(|member| (member.sender, &*member.announcement))
                    .collect();
                group.handle_joined(now, joined.sender, &members);
                self.me = Some(joined.sender);
            }
            (Kind::MemberJoined(proto::MemberJoined { member: Some(member) }), Some(group)) => {
                let member = Member::try_from(member).unwrap();
                group.handle_member_joined(now, member.sender, &member.announcement);
            }
            (Kind::MemberLeft(left), Some(group)) => {
                let sender = u16::try_from(left.sender).ok().and_then(SenderId::new);
                group.handle_member_left(now, sender.unwrap());
            }
            (Kind::PeerMessage(message), Some(group)) => {
                let message = PeerMessage::try_from(message).unwrap();
                group.handle_message(now, message.sender, &message.payload);
            }
            (Kind::Refused(refused), _) => self.refused.push(refused),
            (Kind::Goodbye(goodbye), _) => self.goodbye = Some(goodbye.reason()),
            _ => {}
        }
    }
}

/// The next message; `None` when there are no more.
async fn next(recv: &mut RecvStream, decoder: &mut Decoder) -> Option<Kind> {
    loop {
        if let Some(message) = decoder.next().unwrap() {
            return message.kind;
        }
        let chunk = recv.read_chunk(65_536, true).await.ok()??;
        decoder.push(&chunk.bytes);
    }
}

async fn write(send: &mut SendStream, kind: Kind) -> bool {
    let mut frame = Vec::new();
    signal::encode(&signal::message(kind), &mut frame).unwrap();
    send.write_all(&frame).await.is_ok()
}

fn hello(connection: &Connection, identity: &Identity, receiving: &ReceivingLane) -> Kind {
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, EXPORTER_LABEL, &[])
        .unwrap();
    let hello = Hello {
        software: "e2e".to_owned(),
        identity_key: identity.public().to_bytes(),
        proof: identity.prove_connection(&exporter),
        grant: String::new(),
        role: Role::Member,
        lane: Some(LaneOffer {
            number: 0,
            lane_id: Blob::new(receiving.id().as_slice().to_vec()).unwrap(),
            aeads: vec![AEAD.code().into()],
        }),
    };
    Kind::Hello(hello.into())
}
