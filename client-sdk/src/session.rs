//! One connection to a relay: the handshake, who we are, the lane, and the two ends of signalling.

mod dial;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{Connection, ConnectionError, RecvStream, SendStream, TransportErrorCode};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use wzp_identity::{EXPORTER_LABEL, Identity};
use wzp_lane::{Aead, Direction, LaneId, LaneNumbers, Opener, Sealer, alive::Alive};
use wzp_sdk_core::call::readable;
use wzp_socket::{
    Address,
    client::{ReceivingLane, Socket},
    clock,
    quic::lane_secret,
};
use wzp_wire::signal::{
    self, Hello, Kind, LaneAccept, LaneIdBytes, LaneOffer, RelaySeat, Role, SignalMessage, Welcome,
};

use self::dial::Dialled;
use crate::{CertificateHash, ConnectError, Trust};

/// How long the whole way to a relay may take, from its name to its welcome: a user is told within 5 s.
const DEADLINE: Duration = Duration::from_millis(4_900);
/// How long the relay may take to acknowledge what it was told last.
const LAST_WORDS: Duration = Duration::from_millis(2_400);
/// Messages to the relay that may wait.
const OUTBOX: usize = 256;
const READ_BYTES: usize = 16_384;
const NO_EXPORTER: ConnectError = ConnectError::Protocol("no exporter");

/// What is known of the relay.
#[derive(Debug, Clone)]
pub struct RelayInfo {
    /// As the user wrote it.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
    /// What it showed.
    pub certificate: CertificateHash,
    /// It was not known before and is remembered now.
    pub first_visit: bool,
    /// Name and version of its software.
    pub software: String,
    /// Our own address as it sees it.
    pub observed: SocketAddr,
    /// Its second port for reflect, if it has one.
    pub reflect_port: Option<u16>,
}

/// Both halves of the lane to a relay.
pub(crate) struct Lane {
    pub(crate) sealer: Sealer,
    pub(crate) receiving: ReceivingLane,
    pub(crate) alive: Alive,
    pub(crate) to: Address,
}

/// A relay that said welcome.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    pub(crate) info: RelayInfo,
    pub(crate) lane: Option<Lane>,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    pub(crate) decoder: signal::Decoder,
}

/// What a client shows to a relay.
pub(crate) struct Credentials<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) grant: String,
    pub(crate) trust: &'a Trust,
}

/// Connects, proves who we are and sets up a lane.
pub(crate) async fn connect(
    socket: &Arc<Socket>,
    relay: &str,
    credentials: Credentials<'_>,
) -> Result<Session, ConnectError> {
    let deadline = Instant::now() + DEADLINE;
    let addresses = dial::resolve(relay, deadline).await?;
    connect_to(socket, relay, addresses, credentials, deadline).await
}

/// Connects to this relay of a cluster, which shows one of these certificates.
pub(crate) async fn connect_to_seat(
    socket: &Arc<Socket>,
    seat: &RelaySeat,
    identity: &Identity,
    grant: String,
) -> Result<Session, ConnectError> {
    let hashes = seat.certificates.iter().copied().map(CertificateHash::from_bytes);
    let trust = Trust::Exactly(hashes.collect());
    let credentials = Credentials {
        identity,
        grant,
        trust: &trust,
    };
    let addresses = dial::interleave(seat.addresses.clone());
    let deadline = Instant::now() + DEADLINE;
    connect_to(socket, seat.relay.as_str(), addresses, credentials, deadline).await
}

async fn connect_to(
    socket: &Arc<Socket>,
    relay: &str,
    addresses: Vec<SocketAddr>,
    credentials: Credentials<'_>,
    deadline: Instant,
) -> Result<Session, ConnectError> {
    let expected = credentials.trust.expected(relay)?;
    let dialled = dial::dial(
        socket,
        relay,
        addresses,
        expected.as_deref(),
        credentials.trust,
        deadline,
    )
    .await?;
    let Dialled {
        connection,
        address,
        seen,
    } = dialled;
    let first_visit = expected.is_none();
    if first_visit {
        credentials.trust.remember(relay, seen)?;
    }

    let greeting = greet(socket, relay, &connection, credentials);
    let greeted = timeout_at(deadline, greeting)
        .await
        .map_err(|_| unreachable(relay, DEADLINE))?;
    let (welcome, lane, send, recv, decoder) = greeted?;
    let info = RelayInfo {
        name: relay.to_owned(),
        address,
        certificate: seen,
        first_visit,
        software: welcome.software,
        observed: welcome.observed,
        reflect_port: welcome.reflect_port,
    };
    Ok(Session {
        connection,
        info,
        lane,
        send,
        recv,
        decoder,
    })
}

type Greeting = (Welcome, Option<Lane>, SendStream, RecvStream, signal::Decoder);

async fn greet(
    socket: &Socket,
    relay: &str,
    connection: &Connection,
    credentials: Credentials<'_>,
) -> Result<Greeting, ConnectError> {
    let quic = |error| closed(relay, error);
    let (mut send, mut recv) = connection.open_bi().await.map_err(quic)?;
    let half = HalfLane::offer(socket, connection)?;
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, EXPORTER_LABEL, &[])
        .map_err(|_| NO_EXPORTER)?;
    let hello = Hello {
        software: concat!("wzp-sdk/", env!("CARGO_PKG_VERSION")).to_owned(),
        identity_key: credentials.identity.public().to_bytes(),
        proof: credentials.identity.prove_connection(&exporter),
        grant: credentials.grant,
        role: Role::Member,
        lane: half.as_ref().and_then(HalfLane::message),
    };
    let mut bytes = Vec::new();
    signal::encode(&signal::message(Kind::Hello(hello.into())), &mut bytes)
        .map_err(|_| ConnectError::Protocol("our hello is too long"))?;
    let written = send.write_all(&bytes).await;

    let mut decoder = signal::Decoder::new();
    let answer = next_message(&mut recv, &mut decoder).await;
    let Some(answer) = answer? else {
        // What the relay said when it closed tells more than a stream that ended.
        return Err(match (written, connection.close_reason()) {
            (_, Some(reason)) => quic(reason),
            (Err(_), None) => ConnectError::Protocol("it took no hello"),
            (Ok(()), None) => ConnectError::Protocol("it ended the stream"),
        });
    };
    match answer.kind {
        Some(Kind::Welcome(welcome)) => {
            let welcome =
                Welcome::try_from(welcome).map_err(|invalid| ConnectError::Protocol(invalid.field))?;
            let lane = half
                .zip(welcome.lane.as_ref())
                .map(|(half, accept)| half.accept(socket, connection, accept));
            Ok((welcome.clone(), lane.transpose()?, send, recv, decoder))
        }
        Some(Kind::Refused(refused)) => Err(ConnectError::Refused {
            reason: refused.reason(),
            text: readable(&refused.text),
        }),
        Some(Kind::Goodbye(goodbye)) => Err(ConnectError::Refused {
            reason: goodbye.reason(),
            text: readable(&goodbye.text),
        }),
        _ => Err(ConnectError::Protocol("it answered hello with something else")),
    }
}

/// The receiving half of a lane whose sending half the relay has still to grant.
struct HalfLane {
    number: u16,
    receiving: ReceivingLane,
}

impl HalfLane {
    /// Every AEAD that this machine can do is offered. Under the first, which most relays choose, packets are opened
    /// before the answer is here.
    fn offer(socket: &Socket, connection: &Connection) -> Result<Option<Self>, ConnectError> {
        let Some((&first, number)) = Aead::supported().first().zip(LaneNumbers::default().take()) else {
            return Ok(None);
        };
        let opener = lane_opener(socket, connection, number, first)?;
        Ok(socket
            .open(opener, connection.remote_address())
            .ok()
            .map(|receiving| Self { number, receiving }))
    }

    fn message(&self) -> Option<LaneOffer> {
        let lane_id = LaneIdBytes::new(self.receiving.id().as_slice().to_vec())?;
        Some(LaneOffer {
            number: self.number,
            lane_id,
            aeads: Aead::supported().iter().map(|aead| aead.code().into()).collect(),
        })
    }

    fn accept(
        self,
        socket: &Socket,
        connection: &Connection,
        accept: &LaneAccept,
    ) -> Result<Lane, ConnectError> {
        let aead = Aead::choose(Aead::supported(), &[accept.aead]);
        let id = LaneId::new(&accept.lane_id).filter(|_| accept.number == self.number);
        let Some((aead, id)) = aead.zip(id) else {
            return Err(ConnectError::Protocol("it granted a lane that was not offered"));
        };
        let secret = lane_secret(connection, Direction::FromClient, self.number, aead).ok_or(NO_EXPORTER)?;
        let receiving = if Aead::supported().first() == Some(&aead) {
            self.receiving
        } else {
            self.receiving
                .reopened(lane_opener(socket, connection, self.number, aead)?)
        };
        Ok(Lane {
            sealer: Sealer::new(secret, aead, id),
            receiving,
            alive: Alive::new(clock::now()),
            to: Address::new(connection.remote_address(), None),
        })
    }
}

fn lane_opener(
    socket: &Socket,
    connection: &Connection,
    number: u16,
    aead: Aead,
) -> Result<Opener, ConnectError> {
    let secret = lane_secret(connection, Direction::FromServer, number, aead).ok_or(NO_EXPORTER)?;
    Ok(Opener::new(secret, aead, socket.id_len()))
}

/// The next message; `None` at the end of the stream, however it ended.
pub(crate) async fn next_message(
    recv: &mut RecvStream,
    decoder: &mut signal::Decoder,
) -> Result<Option<SignalMessage>, ConnectError> {
    let mut buffer = [0; READ_BYTES];
    loop {
        let found = decoder
            .next()
            .map_err(|_| ConnectError::Protocol("its signalling can't be read"))?;
        if found.is_some() {
            return Ok(found);
        }
        match recv.read(&mut buffer).await {
            Ok(Some(read)) => decoder.push(buffer.get(..read).unwrap_or_default()),
            Ok(None) | Err(_) => return Ok(None),
        }
    }
}

/// Whether a connection outlives what is said over it.
pub(crate) enum After {
    /// It is closed once the relay has everything.
    Close(Connection),
    /// Somebody else closes it.
    Stay,
}

/// Writes what comes through the returned channel to the relay, until the channel or the stream ends.
pub(crate) fn spawn_writer(mut send: SendStream, after: After) -> mpsc::Sender<SignalMessage> {
    let (outbox, mut messages) = mpsc::channel::<SignalMessage>(OUTBOX);
    tokio::spawn(async move {
        let mut bytes = Vec::new();
        while let Some(message) = messages.recv().await {
            bytes.clear();
            if signal::encode(&message, &mut bytes).is_ok() && send.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = send.finish();
        // Resolves when the relay has everything, a Leave above all.
        let _ = timeout(LAST_WORDS, send.stopped()).await;
        if let After::Close(connection) = after {
            connection.close(0_u32.into(), b"");
        }
    });
    outbox
}

fn unreachable(relay: &str, after: Duration) -> ConnectError {
    ConnectError::Unreachable {
        relay: relay.to_owned(),
        after,
    }
}

fn closed(relay: &str, error: ConnectionError) -> ConnectError {
    match error {
        ConnectionError::TimedOut => unreachable(relay, DEADLINE),
        // A relay at its limit of handshakes makes none to say why.
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
        {
            ConnectError::Refused {
                reason: signal::Reason::TooManyHandshakes,
                text: "it takes no more new connections from this network for now".to_owned(),
            }
        }
        ConnectionError::ApplicationClosed(close) => ConnectError::Refused {
            reason: u32::try_from(close.error_code.into_inner())
                .ok()
                .and_then(|code| signal::Reason::try_from(code.cast_signed()).ok())
                .unwrap_or(signal::Reason::Unspecified),
            text: readable(&String::from_utf8_lossy(&close.reason)),
        },
        source => ConnectError::Quic {
            relay: relay.to_owned(),
            source: source.into(),
        },
    }
}
