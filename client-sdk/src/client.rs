//! A client: one UDP socket, one identity, one relay.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use getrandom::{SysRng, rand_core::UnwrapErr};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use wzp_identity::{GrantClaims, GrantRole, Identity, Phrase, RoomScope, Validity, shared_secret_issuer};
use wzp_sdk_core::{call as core, carrier::Preference, voice::sender::Pauses};
use wzp_socket::{
    client::{Config, Socket},
    clock,
    quic::{EndpointSecret, endpoint_config},
};

use crate::{
    Trust,
    call::{Call, JoinOptions, Stats},
    chaos,
    codec::Library,
    error::{ConnectError, JoinError},
    media::{self, ActiveCall, Command, FromRelay, Handle, Link, Owner},
    session::{self, Credentials, RelayInfo, Session},
};

/// How long the relay may take to let us in.
const JOIN: Duration = Duration::from_secs(5);
/// How long a grant that we issue ourselves is good for.
const GRANT_SECS: u64 = 3_600;
/// Clocks differ: our own grants begin this much earlier.
const GRANT_LEEWAY_SECS: u64 = 300;
/// Events that may wait for the owner of a call.
const EVENTS: usize = 1_024;
/// A place that no other event takes.
const FOR_THE_END: usize = 1;
/// How long a closing connection may take to say so.
const CLOSE: Duration = Duration::from_millis(500);

/// Sets up a [`Client`].
#[derive(Default)]
pub struct Builder {
    identity: Option<Identity>,
    relay: Option<String>,
    trust: Option<Trust>,
    secret: Option<String>,
    grant: String,
    carrier: Preference,
    bind: Option<SocketAddr>,
    chaos: Option<chaos::Link>,
}

impl Builder {
    /// Who we are. Default: somebody new.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The relay, as `host:port`. Of a host with several addresses, the first that answers is taken.
    #[must_use]
    pub fn relay(mut self, relay: impl Into<String>) -> Self {
        self.relay = Some(relay.into());
        self
    }

    /// How its certificate is judged. Default: the user's known relays file.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// The secret that the relay shares with those it admits. It is never sent: a grant is made with it.
    #[must_use]
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.secret = Some(secret.into());
        self
    }

    /// A grant that somebody else issued for this identity. A [`secret`](Self::secret) is used instead of it.
    #[must_use]
    pub fn grant(mut self, grant: impl Into<String>) -> Self {
        self.grant = grant.into();
        self
    }

    /// Which carrier to use. Default: lanes, QUIC datagrams when they do not get through.
    #[must_use]
    pub fn carrier(mut self, carrier: Preference) -> Self {
        self.carrier = carrier;
        self
    }

    /// Where to bind the socket. Default: every address of both families, a random port.
    #[must_use]
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.bind = Some(address);
        self
    }

    /// Puts a bad link under the socket, for tests of an application. Default: nothing is between them.
    #[must_use]
    pub fn chaos(mut self, link: &chaos::Link) -> Self {
        self.chaos = Some(link.clone());
        self
    }

    /// Connects to the relay. Call it inside a tokio runtime. Cancel-safe: dropping it closes what was opened.
    ///
    /// # Errors
    /// [`ConnectError`], within 5 s.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let Self {
            identity,
            relay,
            trust,
            secret,
            grant,
            carrier,
            bind,
            chaos,
        } = self;
        let relay = relay.ok_or(ConnectError::NoRelay)?;
        let identity =
            identity.unwrap_or_else(|| Identity::from_phrase(&Phrase::generate(&mut UnwrapErr(SysRng))));
        let trust = trust.unwrap_or_else(|| Trust::KnownRelays(Trust::default_file()));
        let grant = match secret {
            Some(secret) => own_grant(&secret, &identity)?,
            None => grant,
        };
        let endpoint = endpoint_config(&EndpointSecret::random());
        let socket = Socket::bind_behind(
            Config {
                bind,
                ..Config::default()
            },
            endpoint,
            None,
            chaos.as_ref().map(chaos::Link::detour),
        );
        let socket = Arc::new(socket.map_err(ConnectError::Socket)?);
        let credentials = Credentials {
            identity: &identity,
            grant,
            trust: &trust,
        };
        let Session {
            connection,
            info,
            lane,
            send,
            recv,
            decoder,
        } = session::connect(&socket, &relay, credentials).await?;

        let outbox = session::spawn_writer(send);
        let link = Link::new(
            clock::now(),
            Arc::clone(&socket),
            connection.clone(),
            info.observed,
            lane,
            carrier,
            outbox,
        );
        let media = media::start(Arc::clone(&socket), link).map_err(ConnectError::Socket)?;
        spawn_signal_reader(media.clone(), recv, decoder);
        spawn_datagram_reader(media.clone(), connection.clone());
        let inner = Inner {
            media,
            connection,
            socket,
            identity,
            busy: AtomicBool::new(false),
        };
        Ok(Client {
            inner: Arc::new(inner),
            info,
        })
    }
}

/// The secret itself makes the grant: whoever knows it may issue one.
fn own_grant(secret: &str, identity: &Identity) -> Result<String, ConnectError> {
    let issuer = shared_secret_issuer(secret).map_err(ConnectError::Secret)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let claims = GrantClaims {
        subject: identity.fingerprint(),
        role: GrantRole::Member,
        room: RoomScope::Any,
        relays: Vec::new(),
        sender: None,
        epoch: 0,
        validity: Validity {
            not_before: now.saturating_sub(GRANT_LEEWAY_SECS),
            expires: now + GRANT_SECS,
        },
        id: String::new(),
    };
    issuer
        .issue(claims)
        .map_err(|_| ConnectError::Protocol("our grant can't be issued"))
}

fn spawn_signal_reader(media: Handle, mut recv: quinn::RecvStream, mut decoder: wzp_wire::signal::Decoder) {
    tokio::spawn(async move {
        while let Ok(Some(message)) = session::next_message(&mut recv, &mut decoder).await {
            media.pass(FromRelay::Signal(Box::new(message))).await;
        }
        media.pass(FromRelay::Lost).await;
    });
}

fn spawn_datagram_reader(media: Handle, connection: quinn::Connection) {
    tokio::spawn(async move {
        while let Ok(datagram) = connection.read_datagram().await {
            media.offer(datagram);
        }
        media.pass(FromRelay::Lost).await;
    });
}

/// What a client and its calls share.
pub(crate) struct Inner {
    pub(crate) media: Handle,
    busy: AtomicBool,
    connection: quinn::Connection,
    socket: Arc<Socket>,
    identity: Identity,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.media.tell(Command::Stop);
        self.connection.close(0_u32.into(), b"");
    }
}

/// A stay in a room, from the first try to join: dropping it leaves, and frees the client for another.
pub(crate) struct Stay(pub(crate) Arc<Inner>);

impl Drop for Stay {
    fn drop(&mut self) {
        self.0.media.tell(Command::Leave);
        self.0.busy.store(false, Ordering::Release);
    }
}

/// A connection to a relay. It ends with its last handle: this, or a [`Call`].
pub struct Client {
    inner: Arc<Inner>,
    info: RelayInfo,
}

impl Client {
    /// Sets up a client.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// What is known of the relay.
    pub fn relay(&self) -> &RelayInfo {
        &self.info
    }

    /// Whether the connection to the relay is there. One that has ended does not come back: make another client. A relay
    /// that was killed is missed only after half a minute ([`Event::RelaySilent`](crate::Event::RelaySilent) is sooner).
    pub fn is_connected(&self) -> bool {
        self.inner.connection.close_reason().is_none()
    }

    /// Who we are.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Enters a room. One at a time. Cancel-safe: dropping it leaves the room again.
    ///
    /// # Errors
    /// [`JoinError`], within 5 s; at once when the connection to the relay has ended.
    pub async fn join(&self, options: JoinOptions) -> Result<Call, JoinError> {
        if self.inner.busy.swap(true, Ordering::AcqRel) {
            return Err(JoinError::Busy);
        }
        let JoinOptions {
            room,
            tier,
            echo,
            source,
            sink,
            processing,
        } = options;
        let pauses = if processing.suppress_pauses {
            Pauses::Suppress
        } else {
            Pauses::Send
        };
        let (event_sender, events) = mpsc::channel(EVENTS + FOR_THE_END);
        let (admission, admitted) = oneshot::channel();
        let stats = Arc::new(Mutex::new(Stats::default()));
        let stay = Stay(Arc::clone(&self.inner));
        let now = clock::now();
        let config = core::Config {
            room,
            tier,
            echo,
            pauses,
        };
        let core = core::Call::new(now, config, &self.inner.identity, Library, &mut UnwrapErr(SysRng))?;
        let owner = Owner {
            source,
            sink,
            processing,
            events: event_sender,
            stats: Arc::clone(&stats),
            admission,
        };
        self.inner
            .media
            .tell(Command::Start(Box::new(ActiveCall::new(now, core, owner))));
        let answer = timeout(JOIN, admitted)
            .await
            .map_err(|_| JoinError::Timeout { after: JOIN })?;
        let (sender, members) = answer.map_err(|_| JoinError::RelayLost)??;
        Ok(Call {
            stay,
            sender,
            members,
            events,
            stats,
        })
    }

    /// Closes the connection and waits until the relay was told, half a second at most. Calls end with it.
    pub async fn close(self) {
        self.inner.connection.close(0_u32.into(), b"");
        let _ = timeout(CLOSE, self.inner.socket.endpoint().wait_idle()).await;
    }
}
