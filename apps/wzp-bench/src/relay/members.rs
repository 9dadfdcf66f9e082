//! Members as far as QUIC and signalling go: handshake, Hello, Join.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use wzp_identity::{EXPORTER_LABEL, Identity, Phrase};
use wzp_lane::{Aead, Direction, LaneId, Opener, Sealer};
use wzp_socket::quic;
use wzp_wire::SenderId;
use wzp_wire::signal::{self, Blob, Decoder, Hello, Kind, LaneAccept, LaneOffer, Role, Welcome, proto};

use super::Carrier;

/// Bytes of the lane ids on which members receive.
pub(super) const LANE_ID_BYTES: usize = 2;
const NO_KEYS: &str = "the connection exports no keys";

/// One member of one room.
pub(super) struct Member {
    pub(super) sender: SenderId,
    pub(super) connection: Connection,
    pub(super) lane: Option<Arc<Ends>>,
    /// Its end is the end of the session.
    _send: SendStream,
}

/// Both ends of a member's lane.
pub(super) struct Ends {
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
}

/// One socket for everybody's QUIC.
///
/// # Errors
/// When it cannot be bound, or outside tokio.
pub(super) fn endpoint() -> anyhow::Result<Endpoint> {
    let mut endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).context("binding for QUIC")?;
    // The relay is a process that this one has started: there is nobody else it could be.
    endpoint.set_default_client_config(quic::client_config(|_| true).context("configuring TLS")?);
    Ok(endpoint)
}

/// Connects as the member with this number and enters `room`.
///
/// # Errors
/// When the relay refuses.
pub(super) async fn join(
    endpoint: &Endpoint,
    relay: SocketAddr,
    number: u32,
    room: &str,
    carrier: Carrier,
) -> anyhow::Result<Member> {
    let connection = endpoint
        .connect(relay, "wzp-relay")
        .context("connecting")?
        .await
        .context("connecting")?;
    let (mut send, recv) = connection
        .open_bi()
        .await
        .context("opening the signalling stream")?;
    let mut signals = Signals {
        recv,
        decoder: Decoder::new(),
    };
    write(&mut send, Kind::Hello(hello(&connection, number, carrier)?)).await?;
    let welcome = match signals.next().await? {
        Kind::Welcome(welcome) => Welcome::try_from(welcome).context("reading the Welcome")?,
        other => bail!("the relay answers a Hello with {other:?}"),
    };
    let lane = match &welcome.lane {
        Some(accept) => Some(Arc::new(ends(&connection, accept)?)),
        None => None,
    };
    anyhow::ensure!(
        lane.is_some() == (carrier == Carrier::Lane),
        "the relay gives no lane"
    );
    let join = proto::Join {
        request: 1,
        room: room.to_owned(),
        announcement: number.to_be_bytes().to_vec(),
        echo: false,
        standby: false,
    };
    write(&mut send, Kind::Join(join)).await?;
    let sender = loop {
        match signals.next().await? {
            Kind::Joined(joined) if !joined.more => {
                break SenderId::from_field(joined.sender).context("reading a sender id")?;
            }
            Kind::Refused(refused) => bail!("the relay refuses: {refused:?}"),
            _ => {}
        }
    };
    // Others come and go; whoever does not listen is disconnected in the end.
    tokio::spawn(async move { while signals.next().await.is_ok() {} });
    Ok(Member {
        sender,
        connection,
        lane,
        _send: send,
    })
}

struct Signals {
    recv: RecvStream,
    decoder: Decoder,
}

impl Signals {
    async fn next(&mut self) -> anyhow::Result<Kind> {
        loop {
            if let Some(message) = self.decoder.next().context("decoding a message")? {
                if let Some(kind) = message.kind {
                    return Ok(kind);
                }
                continue;
            }
            let chunk = self.recv.read_chunk(65_536, true).await.context("reading")?;
            self.decoder
                .push(&chunk.context("the relay ended the signalling stream")?.bytes);
        }
    }
}

async fn write(send: &mut SendStream, kind: Kind) -> anyhow::Result<()> {
    let mut frame = Vec::new();
    signal::encode(&signal::message(kind), &mut frame).context("encoding a message")?;
    send.write_all(&frame).await.context("sending a message")
}

fn hello(connection: &Connection, number: u32, carrier: Carrier) -> anyhow::Result<proto::Hello> {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    let identity = Identity::from_phrase(&Phrase::from_seed(&seed));
    let mut exporter = [0; 32];
    let exported = connection.export_keying_material(&mut exporter, EXPORTER_LABEL, &[]);
    anyhow::ensure!(exported.is_ok(), NO_KEYS);
    let lane_id = Blob::new(vec![0x80, 1]).context("naming a lane")?;
    let offer = LaneOffer {
        number: 0,
        lane_id,
        aeads: Aead::supported().iter().map(|aead| *aead as u32).collect(),
    };
    let hello = Hello {
        software: "wzp-bench".to_owned(),
        identity_key: identity.public().to_bytes(),
        proof: identity.prove_connection(&exporter),
        grant: String::new(),
        role: Role::Member,
        lane: (carrier == Carrier::Lane).then_some(offer),
    };
    Ok(hello.into())
}

fn ends(connection: &Connection, accept: &LaneAccept) -> anyhow::Result<Ends> {
    let aead = Aead::from_code(accept.aead).context("the relay chose no AEAD we know")?;
    let id = LaneId::new(&accept.lane_id).context("the relay's lane id is out of its range")?;
    let secret = |direction| quic::lane_secret(connection, direction, 0, aead).context(NO_KEYS);
    Ok(Ends {
        sealer: Sealer::new(secret(Direction::FromClient)?, aead, id),
        opener: Opener::new(secret(Direction::FromServer)?, aead, LANE_ID_BYTES),
    })
}
