//! A client of nothing but the wire: QUIC, one lane, signalling. It asks what the relay does, not what an SDK makes of it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::time;
use wzp_identity::{
    EXPORTER_LABEL, GrantClaims, GrantRole, Identity, Phrase, RoomScope, Validity, shared_secret_issuer,
};
use wzp_lane::{Aead, Direction, LaneId, Opener, Sealer, Secret};
use wzp_socket::{
    Address,
    client::{self, Incoming, ReceivingLane, Socket},
    quic,
};
use wzp_wire::{
    Datagram, Ping, Pong, SenderId,
    datagram::PING_LEN,
    signal::{self, Blob, Decoder, Hello, Kind, LaneAccept, LaneOffer, Reason, Role, Welcome, proto},
};

/// Nothing in these tests takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Within which every wait of a test has to end.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// How datagrams travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Lane,
    Quic,
}

/// How a client introduces itself.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) role: Role,
    pub(crate) carrier: Carrier,
    pub(crate) secret: Option<&'static str>,
    /// Shown instead of one that `secret` signs.
    pub(crate) grant: Option<String>,
    /// `None`: the one that goes with `role`.
    pub(crate) grant_role: Option<GrantRole>,
    pub(crate) grant_room: RoomScope,
    pub(crate) grant_expires: u64,
    pub(crate) identity: u32,
    pub(crate) version: u32,
    pub(crate) spoil_proof: bool,
}

impl Default for Options {
    fn default() -> Self {
        // Below are those that tests choose.
        static NEXT: AtomicU32 = AtomicU32::new(1_000);
        Self {
            role: Role::Member,
            carrier: Carrier::Lane,
            secret: None,
            grant: None,
            grant_role: None,
            grant_room: RoomScope::Any,
            grant_expires: u64::MAX / 2,
            identity: NEXT.fetch_add(1, Ordering::Relaxed),
            version: 1,
            spoil_proof: false,
        }
    }
}

/// One connection to a relay, that has its Welcome.
pub(crate) struct Client {
    pub(crate) socket: Socket,
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    recv: RecvStream,
    decoder: Decoder,
    pub(crate) lane: Option<Lane>,
    pub(crate) welcome: Welcome,
}

/// Both directions of a lane.
pub(crate) struct Lane {
    pub(crate) sealer: Sealer,
    pub(crate) to: Address,
    _receiving: ReceivingLane,
}

/// How a connection was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// By a message.
    Message(Reason),
    /// By closing, with this number as the code.
    Closed(u64),
    /// Otherwise.
    Broken,
}

pub(crate) fn identity(number: u32) -> Identity {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    Identity::from_phrase(&Phrase::from_seed(&seed))
}

/// The QUIC connection alone, without a word.
pub(crate) async fn connect(relay: SocketAddr) -> (Socket, Result<Connection, ConnectionError>) {
    let endpoint = quic::endpoint_config(&quic::EndpointSecret::random());
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = client::Config {
        bind: Some(bind),
        ..client::Config::default()
    };
    let socket = Socket::bind(config, endpoint, None).unwrap();
    let anybody = quic::client_config(|_| true).unwrap();
    let connecting = socket
        .endpoint()
        .connect_with(anybody, relay, "wzp-relay")
        .unwrap();
    let connection = soon("handshake", connecting).await;
    (socket, connection)
}

impl Client {
    pub(crate) async fn start(relay: SocketAddr) -> Self {
        Self::start_with(relay, Options::default()).await.unwrap()
    }

    pub(crate) async fn start_with(relay: SocketAddr, options: Options) -> Result<Self, Refused> {
        let (socket, connection) = connect(relay).await;
        let connection = connection.map_err(closed)?;
        let (mut send, recv) = soon("stream", connection.open_bi()).await.map_err(closed)?;
        let receiving = (options.carrier == Carrier::Lane).then(|| open_lane(&socket, &connection));
        let hello = hello(&connection, &options, receiving.as_ref());
        write(&mut send, Kind::Hello(hello)).await;
        let mut half = Half {
            recv,
            decoder: Decoder::new(),
        };
        let welcome = match half.next().await {
            Ok(Kind::Welcome(welcome)) => Welcome::try_from(welcome).unwrap(),
            Ok(Kind::Refused(refused)) => return Err(Refused::Message(refused.reason())),
            Ok(other) => panic!("{other:?}"),
            Err(refused) => return Err(refused),
        };
        let lane = receiving
            .zip(welcome.lane.clone())
            .map(|(receiving, accept)| lane(&connection, receiving, &accept));
        Ok(Self {
            socket,
            connection,
            send,
            recv: half.recv,
            decoder: half.decoder,
            lane,
            welcome,
        })
    }

    /// Enters a room and returns who is there already.
    pub(crate) async fn join(&mut self, room: &str) -> (SenderId, Vec<SenderId>) {
        self.join_as(room, false).await.unwrap()
    }

    pub(crate) async fn join_as(
        &mut self,
        room: &str,
        echo: bool,
    ) -> Result<(SenderId, Vec<SenderId>), Reason> {
        self.send(Kind::Join(proto::Join {
            request: 7,
            room: room.to_owned(),
            announcement: getrandom::u64().unwrap().to_be_bytes().to_vec(),
            echo,
            standby: false,
        }))
        .await;
        let mut members = Vec::new();
        loop {
            match self.next().await {
                Ok(Kind::Joined(joined)) => {
                    assert_eq!(joined.request, 7);
                    members.extend(
                        joined
                            .members
                            .iter()
                            .filter_map(|member| SenderId::from_field(member.sender)),
                    );
                    if !joined.more {
                        return Ok((SenderId::from_field(joined.sender).unwrap(), members));
                    }
                }
                Ok(Kind::Refused(refused)) => {
                    assert_eq!(refused.request, 7);
                    return Err(refused.reason());
                }
                Ok(_) => {}
                Err(refused) => panic!("{refused:?}"),
            }
        }
    }

    pub(crate) async fn send(&mut self, kind: Kind) {
        write(&mut self.send, kind).await;
    }

    /// The next message, or how the relay ended the connection.
    pub(crate) async fn next(&mut self) -> Result<Kind, Refused> {
        soon("message", next(&mut self.recv, &mut self.decoder)).await
    }

    /// The next message that `pick` wants; the others are for somebody else.
    pub(crate) async fn wait_for<V>(&mut self, what: &str, mut pick: impl FnMut(Kind) -> Option<V>) -> V {
        let wanted = async {
            loop {
                match next(&mut self.recv, &mut self.decoder).await {
                    Ok(kind) => {
                        if let Some(value) = pick(kind) {
                            return value;
                        }
                    }
                    Err(refused) => panic!("{what}: {refused:?}"),
                }
            }
        };
        soon(what, wanted).await
    }

    /// Sends a datagram on whichever carrier this client has.
    pub(crate) fn send_datagram(&self, datagram: &[u8]) {
        match &self.lane {
            Some(lane) => self.socket.send(&lane.sealer, &lane.to, datagram).unwrap(),
            None => self.connection.send_datagram(datagram.to_vec().into()).unwrap(),
        }
    }

    pub(crate) fn send_media(&self, sender: SenderId, packet: &[u8]) {
        let mut datagram = vec![0; packet.len() + 3];
        Datagram::Media { sender, packet }.encode(&mut datagram).unwrap();
        self.send_datagram(&datagram);
    }

    pub(crate) fn ping(&self, probe: bool) -> Ping {
        let ping = Ping {
            nonce: getrandom::u64().unwrap().to_be_bytes(),
            probe,
            sent_us: 1,
        };
        let mut bytes = [0; PING_LEN];
        Datagram::Ping(ping).encode(&mut bytes).unwrap();
        match &self.lane {
            Some(lane) => {
                let now = wzp_socket::clock::now();
                self.socket
                    .send_ping(now, &lane.sealer, &lane.to, Default::default(), &bytes)
                    .unwrap();
            }
            None => self.connection.send_datagram(bytes.to_vec().into()).unwrap(),
        }
        ping
    }

    /// The next datagram that is no PING; PINGs are answered as they should be.
    pub(crate) async fn datagram(&self) -> Vec<u8> {
        soon("datagram", async {
            loop {
                let (datagram, incoming) = self.any_datagram().await;
                let Ok(Datagram::Ping(ping)) = Datagram::decode(&datagram) else {
                    return datagram;
                };
                let counter = incoming.map_or(0, |incoming| incoming.counter);
                let pong = Pong::answer(&ping, 0, counter, ([127, 0, 0, 1], 9).into());
                let mut bytes = [0; PING_LEN];
                let len = Datagram::Pong(pong).encode(&mut bytes).unwrap();
                self.send_datagram(&bytes[..len]);
            }
        })
        .await
    }

    /// The next media packet and who sent it.
    pub(crate) async fn media(&self) -> (SenderId, Vec<u8>) {
        loop {
            let datagram = self.datagram().await;
            if let Ok(Datagram::Media { sender, packet }) = Datagram::decode(&datagram) {
                return (sender, packet.to_vec());
            }
        }
    }

    /// The answer to `ping`.
    pub(crate) async fn pong(&self, ping: &Ping) -> Pong {
        loop {
            let datagram = self.datagram().await;
            if let Ok(Datagram::Pong(pong)) = Datagram::decode(&datagram)
                && pong.nonce == ping.nonce
            {
                return pong;
            }
        }
    }

    /// Sends `packet` until `listener` hears it: a new room is heard of within 10 ms, not at once.
    pub(crate) async fn speak_to(&self, sender: SenderId, packet: &[u8], listener: &Self) {
        let mut every = time::interval(Duration::from_millis(20));
        let heard = async {
            loop {
                let (from, heard) = listener.media().await;
                if (from, heard.as_slice()) == (sender, packet) {
                    return;
                }
            }
        };
        let speaking = async {
            loop {
                every.tick().await;
                self.send_media(sender, packet);
            }
        };
        soon("speech", async {
            tokio::select! { () = heard => {}, () = speaking => {} }
        })
        .await;
    }

    async fn any_datagram(&self) -> (Vec<u8>, Option<Incoming>) {
        let mut buf = [0; 2_048];
        tokio::select! {
            incoming = self.socket.recv(&mut buf) => {
                let incoming = incoming.unwrap();
                (buf[..incoming.len].to_vec(), Some(incoming))
            }
            datagram = self.connection.read_datagram() => (datagram.unwrap().to_vec(), None),
        }
    }
}

struct Half {
    recv: RecvStream,
    decoder: Decoder,
}

impl Half {
    async fn next(&mut self) -> Result<Kind, Refused> {
        soon("answer to the Hello", next(&mut self.recv, &mut self.decoder)).await
    }
}

pub(crate) async fn next(recv: &mut RecvStream, decoder: &mut Decoder) -> Result<Kind, Refused> {
    loop {
        if let Some(message) = decoder.next().unwrap() {
            return Ok(message.kind.unwrap());
        }
        match recv.read_chunk(65_536, true).await {
            Ok(Some(chunk)) => decoder.push(&chunk.bytes),
            Ok(None) => return Err(Refused::Broken),
            Err(quinn::ReadError::ConnectionLost(error)) => return Err(closed(error)),
            Err(_) => return Err(Refused::Broken),
        }
    }
}

pub(crate) fn closed(error: ConnectionError) -> Refused {
    match error {
        ConnectionError::ApplicationClosed(close) => Refused::Closed(close.error_code.into_inner()),
        _ => Refused::Broken,
    }
}

pub(crate) async fn write(send: &mut SendStream, kind: Kind) {
    let mut frame = Vec::new();
    signal::encode(&signal::message(kind), &mut frame).unwrap();
    // A relay that has ended the connection is asked why by whoever reads next.
    let _ = send.write_all(&frame).await;
}

fn hello(connection: &Connection, options: &Options, receiving: Option<&ReceivingLane>) -> proto::Hello {
    let who = identity(options.identity);
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, EXPORTER_LABEL, &[])
        .unwrap();
    exporter[0] ^= u8::from(options.spoil_proof);
    let hello = Hello {
        software: "test".to_owned(),
        identity_key: who.public().to_bytes(),
        proof: who.prove_connection(&exporter),
        grant: match (&options.grant, options.secret) {
            (Some(grant), _) => grant.clone(),
            (None, Some(secret)) => grant(secret, &who, options),
            (None, None) => String::new(),
        },
        role: options.role,
        lane: receiving.map(|lane| LaneOffer {
            number: 0,
            lane_id: Blob::new(lane.id().as_slice().to_vec()).unwrap(),
            aeads: vec![Aead::ChaCha20Poly1305 as u32],
        }),
    };
    proto::Hello {
        version: options.version,
        ..hello.into()
    }
}

pub(crate) fn grant(secret: &str, who: &Identity, options: &Options) -> String {
    let claims = GrantClaims {
        subject: who.fingerprint(),
        role: options.grant_role.unwrap_or(match options.role {
            Role::Relay => GrantRole::Relay,
            _ => GrantRole::Member,
        }),
        room: options.grant_room.clone(),
        relays: Vec::new(),
        sender: None,
        epoch: 0,
        validity: Validity {
            not_before: 0,
            expires: options.grant_expires,
        },
        id: String::new(),
    };
    shared_secret_issuer(secret).unwrap().issue(claims).unwrap()
}

fn secret(connection: &Connection, direction: Direction) -> Secret {
    quic::lane_secret(connection, direction, 0, Aead::ChaCha20Poly1305).unwrap()
}

fn open_lane(socket: &Socket, connection: &Connection) -> ReceivingLane {
    let secret = secret(connection, Direction::FromServer);
    let opener = Opener::new(secret, Aead::ChaCha20Poly1305, socket.id_len());
    socket.open(opener, connection.remote_address()).unwrap()
}

fn lane(connection: &Connection, receiving: ReceivingLane, accept: &LaneAccept) -> Lane {
    let secret = secret(connection, Direction::FromClient);
    Lane {
        sealer: Sealer::new(
            secret,
            Aead::ChaCha20Poly1305,
            LaneId::new(&accept.lane_id).unwrap(),
        ),
        to: Address::new(connection.remote_address(), None),
        _receiving: receiving,
    }
}
