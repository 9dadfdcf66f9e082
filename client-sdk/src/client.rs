//! A client: one UDP socket, one identity, and one relay or a cluster of them.

mod attach;
mod cluster;

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
use wzp_wire::RoomName;

use self::{
    attach::attach,
    cluster::{Opened, Way},
};
use crate::{
    Ticket, Trust,
    call::{Call, JoinOptions, Stats},
    chaos,
    codec::Library,
    control::{Access, Cluster, Kept, lock},
    error::{ConnectError, JoinError},
    media::{self, ActiveCall, Command, Handle, Owner},
    session::{self, Credentials, RelayInfo},
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
    control: Option<String>,
    access: Access,
    region: Option<String>,
    tickets: Vec<Ticket>,
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

    /// The control plane of a cluster, as `https://host`: it names the relays of each room, and what they show. A
    /// [`relay`](Self::relay) and what belongs to one is not looked at then.
    #[must_use]
    pub fn control(mut self, url: impl Into<String>) -> Self {
        self.control = Some(url.into());
        self
    }

    /// With a control plane: an API key with the scope `join`, or a token of an identity provider that it knows. Default:
    /// rooms whose policy is open let in whoever proves an identity.
    #[must_use]
    pub fn bearer(mut self, key: impl Into<String>) -> Self {
        self.access = Access::Bearer(key.into());
        self
    }

    /// With a control plane: a token that the service behind it judges. Replaces a [`bearer`](Self::bearer).
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.access = Access::Token(token.into());
        self
    }

    /// With a control plane: the region that we are in, whose relays are measured first. Default: what the measurement of
    /// one relay of each region says.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// With a control plane: what let this identity into a room before ([`Client::ticket`]), for as long as it cannot be
    /// asked. One for each room.
    #[must_use]
    pub fn ticket(mut self, ticket: Ticket) -> Self {
        self.tickets.push(ticket);
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

    /// Connects to the relay, or asks the control plane for its relays and measures the best of them. Call it inside a
    /// tokio runtime. Cancel-safe: dropping it closes what was opened.
    ///
    /// # Errors
    /// [`ConnectError`], within 5 s.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let Self {
            identity,
            relay,
            control,
            access,
            region,
            tickets,
            trust,
            secret,
            grant,
            carrier,
            bind,
            chaos,
        } = self;
        let identity =
            identity.unwrap_or_else(|| Identity::from_phrase(&Phrase::generate(&mut UnwrapErr(SysRng))));
        let cluster = match control {
            Some(url) => Some(Cluster::new(&url, access, region, tickets)?),
            None => None,
        };
        let socket = bind_socket(bind, chaos.as_ref())?;
        let (media, home) = match cluster {
            Some(cluster) => {
                cluster.explore(&socket).await?;
                let media = media::start(Arc::clone(&socket), None).map_err(ConnectError::Socket)?;
                (media, Home::Cluster(Arc::new(cluster)))
            }
            None => {
                let relay = relay.ok_or(ConnectError::NoRelay)?;
                let grant = match secret {
                    Some(secret) => own_grant(&secret, &identity)?,
                    None => grant,
                };
                let trust = trust.unwrap_or_else(|| Trust::KnownRelays(Trust::default_file()));
                let credentials = Credentials {
                    identity: &identity,
                    grant,
                    trust: &trust,
                };
                let session = session::connect(&socket, &relay, credentials).await?;
                let connection = session.connection.clone();
                let (link, info, start) = attach(&socket, session, carrier, None).split();
                let media = media::start(Arc::clone(&socket), Some(link)).map_err(ConnectError::Socket)?;
                start(&media);
                (media, Home::Relay(connection, Box::new(info)))
            }
        };
        let inner = Inner {
            media,
            home,
            socket,
            identity,
            carrier,
            busy: AtomicBool::new(false),
        };
        Ok(Client {
            inner: Arc::new(inner),
        })
    }
}

fn bind_socket(bind: Option<SocketAddr>, chaos: Option<&chaos::Link>) -> Result<Arc<Socket>, ConnectError> {
    let endpoint = endpoint_config(&EndpointSecret::random());
    let config = Config {
        bind,
        ..Config::default()
    };
    let socket = Socket::bind_behind(config, endpoint, None, chaos.map(chaos::Link::detour));
    socket.map(Arc::new).map_err(ConnectError::Socket)
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

/// What a client and its calls share.
pub(crate) struct Inner {
    pub(crate) media: Handle,
    busy: AtomicBool,
    home: Home,
    socket: Arc<Socket>,
    identity: Identity,
    carrier: Preference,
}

/// Where calls go.
enum Home {
    Relay(quinn::Connection, Box<RelayInfo>),
    Cluster(Arc<Cluster>),
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.media.tell(Command::Stop);
        if let Home::Relay(connection, _) = &self.home {
            connection.close(0_u32.into(), b"");
        }
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

/// A connection to a relay, or what is known of a cluster. It ends with its last handle: this, or a [`Call`].
pub struct Client {
    inner: Arc<Inner>,
}

impl Client {
    /// Sets up a client.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// What is known of the relay; `None` in a cluster, where each call has its own ([`Stats::paths`]).
    pub fn relay(&self) -> Option<&RelayInfo> {
        match &self.inner.home {
            Home::Relay(_, info) => Some(info),
            Home::Cluster(_) => None,
        }
    }

    /// In a cluster: what let us into this room, with the relays that serve it as far as we know.
    pub fn ticket(&self, room: &RoomName) -> Option<Ticket> {
        match &self.inner.home {
            Home::Relay(..) => None,
            Home::Cluster(cluster) => cluster.ticket(room),
        }
    }

    /// Whether the connection to the relay is there. One that has ended does not come back: make another client. A relay
    /// that was killed is missed only after half a minute ([`Event::RelaySilent`](crate::Event::RelaySilent) is sooner). In a
    /// cluster, where each call makes its own, always.
    pub fn is_connected(&self) -> bool {
        match &self.inner.home {
            Home::Relay(connection, _) => connection.close_reason().is_none(),
            Home::Cluster(_) => true,
        }
    }

    /// Who we are.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Enters a room. One at a time. Cancel-safe: dropping it leaves the room again.
    ///
    /// # Errors
    /// [`JoinError`], within 5 s; at once when the connection to the relay has ended. In a cluster, asking the control
    /// plane and connecting to the relays may take 10 s more.
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
        let cluster = self.open(&room).await?;
        let now = clock::now();
        let config = core::Config {
            room,
            tier,
            echo,
            pauses,
        };
        let mut core = core::Call::new(now, config, &self.inner.identity, Library, &mut UnwrapErr(SysRng))?;
        let owner = Owner {
            source,
            sink,
            processing,
            events: event_sender,
            stats: Arc::clone(&stats),
            admission,
            ticket: cluster.as_ref().map(|(ticket, _)| Arc::clone(ticket)),
        };
        match cluster {
            None => {
                let call = Box::new(ActiveCall::new(now, core, owner));
                self.inner.media.tell(Command::Start(call));
            }
            Some((ticket, opened)) => {
                {
                    let ticket = lock(&ticket);
                    core.set_relays(ticket.epoch, ticket.relays.clone());
                }
                let call = Box::new(ActiveCall::new(now, core, owner));
                let (links, dialer, finish) = Opened::finish(opened);
                self.inner.media.tell(Command::StartOver(call, links, dialer));
                finish();
            }
        }
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

    /// In a cluster: the way into this room, and the relays that serve it.
    async fn open(&self, room: &RoomName) -> Result<Option<(Kept, Opened)>, JoinError> {
        let Inner {
            media,
            home: Home::Cluster(cluster),
            socket,
            identity,
            carrier,
            ..
        } = &*self.inner
        else {
            return Ok(None);
        };
        let ticket = cluster.admit(socket, identity, room).await?;
        let way = Way {
            socket: Arc::clone(socket),
            media: media.clone(),
            identity: identity.clone(),
            carrier: *carrier,
            cluster: Arc::clone(cluster),
        };
        let opened = way.open(&ticket).await?;
        Ok(Some((ticket, opened)))
    }

    /// Closes the connection and waits until the relay was told, half a second at most. Calls end with it.
    pub async fn close(self) {
        if let Home::Relay(connection, _) = &self.inner.home {
            connection.close(0_u32.into(), b"");
        }
        let _ = timeout(CLOSE, self.inner.socket.endpoint().wait_idle()).await;
    }
}
