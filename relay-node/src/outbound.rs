//! Connections that this relay opens to others: upstream, and those it probes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use quinn::Connection;
use tokio::{net::lookup_host, time};
use wzp_identity::{EXPORTER_LABEL, GrantClaims, GrantKey, GrantRole, Identity, RoomScope, Validity};
use wzp_lane::Aead;
use wzp_relay_core::{limits::Rate, stats::Leg};
use wzp_socket::{
    address::canonical,
    relay::{Lane, Sender, Session, Sessions},
};
use wzp_wire::signal::{Hello, Kind, Reason, Role, Welcome, proto};

use crate::{
    config::{Fingerprint, Target},
    frames,
    lanes::{self, Lanes},
    outbox::{Budget, outbox},
    port::{Link, Port, Seats},
    session::{End, Reader, SOFTWARE, Writer},
    tls,
};

/// From looking the name up to the Welcome.
const TIME: Duration = Duration::from_secs(5);
/// A relay we called may send as much as it likes; its rooms' limits are its own.
const MESSAGES: (u32, u32) = (20_000, 200_000);
/// How long the grant for ourselves is good: long enough to connect.
const GRANT_SECS: u64 = 300;

/// Who calls, and through what.
pub(crate) struct Caller {
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) sender: Sender,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) aeads: &'static [Aead],
    /// Made at every start: it names nobody.
    pub(crate) identity: Identity,
    /// Signs our grants for the role of a relay.
    pub(crate) grant_key: Option<Box<GrantKey>>,
    pub(crate) budget: Arc<Budget>,
    /// How long the other end may take nothing of what we say.
    pub(crate) patience: Duration,
}

/// A session with another relay.
pub(crate) struct Call {
    pub(crate) port: Arc<Port>,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    /// Both end with the call.
    _lane: Option<Lane<Arc<Port>>>,
    _known: Session,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("cannot look up the name: {0}")]
    Lookup(#[source] io::Error),
    #[error("the name has no address that this relay's socket can reach")]
    NoAddress,
    #[error("cannot configure TLS: {0}")]
    Tls(#[from] tls::TlsError),
    #[error("cannot connect: {0}")]
    Connect(#[from] quinn::ConnectError),
    #[error("connection failed: {0}")]
    Connection(#[from] quinn::ConnectionError),
    #[error("no answer within 5 s")]
    Timeout,
    #[error("refused ({reason}): {text}")]
    Refused { reason: &'static str, text: String },
    #[error("it does not speak our protocol")]
    Protocol,
}

impl Caller {
    /// Calls `target` and is welcome there.
    pub(crate) async fn call(
        &self,
        target: &Target,
        role: Role,
        pin: Option<Fingerprint>,
        seats: Seats,
    ) -> Result<Call, CallError> {
        let call = async {
            let address = self.look_up(target).await?;
            let config = tls::client(pin.into_iter().collect())?;
            let connection = self.endpoint.connect_with(config, address, "wzp-relay")?.await?;
            self.introduce(connection, role, seats, None).await
        };
        time::timeout(TIME, call).await.map_err(|_| CallError::Timeout)?
    }

    /// Calls another relay of the cluster, which `config` knows by its certificate.
    pub(crate) async fn call_peer(
        &self,
        address: SocketAddr,
        config: quinn::ClientConfig,
        link: Link,
    ) -> Result<Call, CallError> {
        let call = async {
            let connection = self.connect(address, config)?.await?;
            self.introduce(connection, Role::Peer, Seats::trunk(), Some(link))
                .await
        };
        time::timeout(TIME, call).await.map_err(|_| CallError::Timeout)?
    }

    /// Whether a handshake with `address` comes about and shows one of `certificates`.
    pub(crate) async fn check(
        &self,
        address: SocketAddr,
        certificates: Vec<Fingerprint>,
    ) -> Result<(), CallError> {
        let call = async {
            let connection = self.connect(address, tls::client(certificates)?)?.await?;
            connection.close(quinn::VarInt::from_u32(0), b"checked");
            Ok(())
        };
        time::timeout(TIME, call).await.map_err(|_| CallError::Timeout)?
    }

    fn connect(
        &self,
        address: SocketAddr,
        config: quinn::ClientConfig,
    ) -> Result<quinn::Connecting, CallError> {
        let ours = self.endpoint.local_addr().map_err(CallError::Lookup)?;
        if ours.is_ipv4() && address.is_ipv6() {
            return Err(CallError::NoAddress);
        }
        Ok(self.endpoint.connect_with(config, address, "wzp-relay")?)
    }

    async fn look_up(&self, target: &Target) -> Result<SocketAddr, CallError> {
        let ours = self.endpoint.local_addr().map_err(CallError::Lookup)?;
        let found = lookup_host((target.host.as_str(), target.port))
            .await
            .map_err(CallError::Lookup)?;
        let mut found = found.map(canonical);
        found
            .find(|address| ours.is_ipv6() || address.is_ipv4())
            .ok_or(CallError::NoAddress)
    }

    async fn introduce(
        &self,
        connection: Connection,
        role: Role,
        seats: Seats,
        link: Option<Link>,
    ) -> Result<Call, CallError> {
        let known = self.sessions.enter(connection.remote_address());
        let (mut send, recv) = connection.open_bi().await?;
        let (outbox, outgoings) = outbox(role, &self.budget);
        let port = Port::new(connection.clone(), [0; 32], Leg::Mesh, seats, outbox, link);
        let (offered, offer) = lanes::offer(&self.lanes, &port, self.aeads).ok().unzip();
        let hello = Hello {
            software: SOFTWARE.to_owned(),
            identity_key: self.identity.public().to_bytes(),
            proof: self.prove(&connection)?,
            grant: self.grant(role),
            role,
            lane: offer,
        };
        let hello = frames::frame(Kind::Hello(hello.into()));
        send.write_all(&hello).await.map_err(|_| CallError::Protocol)?;
        let mut reader = Reader::new(recv, Rate::new(MESSAGES.0, MESSAGES.1));
        let welcome = read_welcome(&mut reader).await?;
        let lane = match (offered, &welcome.lane) {
            (Some(offered), Some(accept)) => offered.accepted(&self.lanes, &port, accept).ok(),
            _ => None,
        };
        Ok(Call {
            port,
            reader,
            writer: Writer::new(send, outgoings, self.patience),
            _lane: lane,
            _known: known,
        })
    }

    fn prove(&self, connection: &Connection) -> Result<[u8; 64], CallError> {
        let mut exporter = [0; 32];
        let exported = connection.export_keying_material(&mut exporter, EXPORTER_LABEL, &[]);
        exported.map_err(|_| CallError::Protocol)?;
        Ok(self.identity.prove_connection(&exporter))
    }

    /// Relays that share a secret let each other in by it; to be measured, none is needed.
    fn grant(&self, role: Role) -> String {
        let (Role::Relay, Some(key)) = (role, &self.grant_key) else {
            return String::new();
        };
        let now = crate::session::unix_now();
        let claims = GrantClaims {
            subject: self.identity.fingerprint(),
            role: GrantRole::Relay,
            room: RoomScope::Any,
            relays: Vec::new(),
            sender: None,
            epoch: 0,
            validity: Validity {
                not_before: now.saturating_sub(GRANT_SECS),
                expires: now + GRANT_SECS,
            },
            id: String::new(),
        };
        key.issue(claims).unwrap_or_default()
    }
}

async fn read_welcome(reader: &mut Reader) -> Result<Welcome, CallError> {
    let message = match reader.next().await {
        Ok(message) => message,
        Err(End::Broken(error)) => return Err(error.into()),
        Err(_) => return Err(CallError::Protocol),
    };
    match message.kind {
        Some(Kind::Welcome(welcome)) => Welcome::try_from(welcome).map_err(|_| CallError::Protocol),
        Some(Kind::Refused(proto::Refused { reason, text, .. })) => {
            let reason = Reason::try_from(reason).unwrap_or(Reason::Unspecified);
            Err(CallError::Refused {
                reason: reason.as_str_name(),
                text: text.chars().filter(|c| !c.is_control()).take(200).collect(),
            })
        }
        _ => Err(CallError::Protocol),
    }
}

/// Waiting times between attempts: doubling from half a second to ten, with up to a half more at random.
#[derive(Debug, Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }

    pub(crate) async fn wait(&mut self) {
        let base = Duration::from_millis(500 << self.0.min(5)).min(Duration::from_secs(10));
        self.0 = self.0.saturating_add(1);
        let [random] = crate::random::random::<1>();
        time::sleep(base + base * u32::from(random) / 512).await;
    }
}
