//! A control plane of nothing but the wire: it enrolls, remembers what relays say, and says what a test wants.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, SanType,
};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};
use wzp_identity::{GrantClaims, GrantKey, GrantRole, RoomScope, Validity};
use wzp_proto::control::{
    self as proto, EnrollRequest, EnrollResponse, RelayCommand, RelayEvent,
    relay_command::Kind,
    relay_control_server::{RelayControl, RelayControlServer},
    relay_event,
};

use crate::{client, client::soon};

const SECRET: &str = "the-join-secret";

/// A replica; it ends when this is dropped.
pub(crate) struct Plane {
    pub(crate) address: SocketAddr,
    pub(crate) authority: Arc<Authority>,
    said: Arc<Said>,
    server: JoinHandle<()>,
}

/// What replicas of one cluster share.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
    pem: String,
    pub(crate) grant_key: GrantKey,
    /// Of relays' certificates.
    life: Duration,
}

#[derive(Default)]
struct Said(Mutex<BTreeMap<String, Relay>>);

/// A relay that is attached, or was.
struct Relay {
    hello: proto::Hello,
    events: Vec<relay_event::Kind>,
    hellos: usize,
    commands: mpsc::Sender<Result<RelayCommand, Status>>,
    sent: u64,
}

pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Authority {
    pub(crate) fn new(life: Duration) -> Arc<Self> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a cluster");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Arc::new(Self {
            certificate: certificate.der().to_vec(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
            grant_key: GrantKey::from_seed(
                &getrandom::u64()
                    .unwrap()
                    .to_be_bytes()
                    .repeat(4)
                    .try_into()
                    .unwrap(),
            ),
            life,
        })
    }

    fn leaf(&self, uri: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["wzp-control".to_owned()]).unwrap();
        params
            .subject_alt_names
            .push(SanType::URI(uri.try_into().unwrap()));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let at = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        params.not_before = at(unix_now() - 60);
        params.not_after = at(unix_now() + self.life.as_secs());
        params
    }

    fn enroll(&self, relay: &str, csr: &[u8]) -> Vec<Vec<u8>> {
        let request = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        let params = self.leaf(&format!("spiffe://test/relay/{relay}"));
        let leaf = params.signed_by(&request.public_key, &self.issuer).unwrap();
        vec![leaf.der().to_vec(), self.certificate.clone()]
    }

    pub(crate) fn token(&self) -> String {
        self.token_with(SECRET)
    }

    pub(crate) fn token_with(&self, secret: &str) -> String {
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(&self.certificate));
        format!("wzp1.{hash}.{secret}")
    }

    /// Lets the identity `who` into `room` as `sender`.
    pub(crate) fn grant(&self, who: u32, room: &str, sender: u16, epoch: u64, relays: &[&str]) -> String {
        let claims = GrantClaims {
            subject: client::identity(who).fingerprint(),
            role: GrantRole::Member,
            room: RoomScope::Exactly(room.to_owned()),
            relays: relays.iter().map(|&relay| relay.to_owned()).collect(),
            sender: Some(sender),
            epoch,
            validity: Validity {
                not_before: unix_now() - 60,
                expires: unix_now() + 3_600,
            },
            id: String::new(),
        };
        self.grant_key.issue(claims).unwrap()
    }
}

impl Plane {
    pub(crate) async fn start() -> Self {
        Self::start_with(Authority::new(Duration::from_secs(3_600))).await
    }

    pub(crate) async fn start_with(authority: Arc<Authority>) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), authority).await
    }

    pub(crate) async fn start_at(address: SocketAddr, authority: Arc<Authority>) -> Self {
        let mut every = tokio::time::interval(Duration::from_millis(20));
        let listener = soon("a free port", async {
            loop {
                every.tick().await;
                if let Ok(listener) = TcpListener::bind(address).await {
                    return listener;
                }
            }
        })
        .await;
        let address = listener.local_addr().unwrap();
        let said = Arc::<Said>::default();
        let key = KeyPair::generate().unwrap();
        let leaf = authority.leaf("spiffe://test/control");
        let leaf = leaf.signed_by(&key, &authority.issuer).unwrap();
        let identity = Identity::from_pem(leaf.pem() + &authority.pem, key.serialize_pem());
        let tls = ServerTlsConfig::new()
            .identity(identity)
            .client_ca_root(Certificate::from_pem(&authority.pem))
            .client_auth_optional(true);
        let service = RelayControlServer::new(Service {
            authority: Arc::clone(&authority),
            said: Arc::clone(&said),
        });
        let serving = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move {
            let _ = serving.await;
        });
        Self {
            address,
            authority,
            said,
            server,
        }
    }

    /// What makes `id` a relay of this cluster.
    pub(crate) fn args(&self, id: &str) -> Vec<String> {
        let control = format!("https://{}", self.address);
        let token = self.authority.token();
        ["--control", &control, "--join-token", &token, "--id", id]
            .map(str::to_owned)
            .to_vec()
    }

    /// Waits until `look` finds what it wants in what the relay `id` said.
    pub(crate) async fn until<V>(
        &self,
        id: &str,
        what: &str,
        look: impl Fn(&proto::Hello, &[relay_event::Kind]) -> Option<V>,
    ) -> V {
        let mut every = tokio::time::interval(Duration::from_millis(10));
        let found = async {
            loop {
                every.tick().await;
                let relays = self.said.0.lock().unwrap();
                let relay = relays.get(id);
                if let Some(found) = relay.and_then(|relay| look(&relay.hello, &relay.events)) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(15), found)
            .await
            .unwrap_or_else(|_| panic!("{id}: {what} takes too long"))
    }

    /// Waits until the relay has attached and told everything.
    pub(crate) async fn synced(&self, id: &str) -> proto::Hello {
        self.until(id, "synced", |hello, events| {
            let synced = |event: &_| matches!(event, relay_event::Kind::Synced(_));
            events.iter().any(synced).then(|| hello.clone())
        })
        .await
    }

    pub(crate) fn hellos(&self, id: &str) -> usize {
        self.said
            .0
            .lock()
            .unwrap()
            .get(id)
            .map_or(0, |relay| relay.hellos)
    }

    /// Says something to the relay `id`, and waits until it has heard. The error it answers with, if any.
    pub(crate) async fn say(&self, id: &str, kind: Kind) -> String {
        let (commands, seq) = {
            let mut relays = self.said.0.lock().unwrap();
            let relay = relays.get_mut(id).unwrap();
            relay.sent += 1;
            (relay.commands.clone(), relay.sent)
        };
        let kind = Some(kind);
        commands.send(Ok(RelayCommand { seq, kind })).await.unwrap();
        self.until(id, "ack", |_, events| {
            events.iter().find_map(|event| match event {
                relay_event::Kind::Ack(ack) if ack.command == seq => Some(ack.error.clone()),
                _ => None,
            })
        })
        .await
    }

    /// Tells every relay of all of them, and whose grants are good.
    pub(crate) async fn introduce(&self, ids: &[&str]) {
        let mut relays = Vec::new();
        for id in ids {
            let hello = self.synced(id).await;
            relays.push(proto::PeerRelay {
                relay_id: (*id).to_owned(),
                boot_id: hello.boot_id,
                addresses: hello.addresses,
                certificates: hello.certificates,
                ..proto::PeerRelay::default()
            });
        }
        for id in ids {
            self.trust(id).await;
            let peers = proto::Peers {
                generation: 1,
                relays: relays.clone(),
            };
            assert_eq!(self.say(id, Kind::Peers(peers)).await, "");
        }
    }

    pub(crate) async fn trust(&self, id: &str) {
        let keys = proto::TrustedKeys {
            grant_keys: vec![self.authority.grant_key.public().to_bytes().to_vec()],
            authorities: vec![self.authority.certificate.clone()],
            generation: 1,
        };
        assert_eq!(self.say(id, Kind::TrustedKeys(keys)).await, "");
    }

    /// Says to the relays `to` that `seats` serve `room`, the first of them carrying.
    pub(crate) async fn lease(&self, to: &[&str], room: &str, epoch: u64, seats: &[&str], deadline_ms: u32) {
        let seats = seats.iter().enumerate().map(|(at, id)| proto::Seat {
            relay_id: (*id).to_owned(),
            carries: at == 0,
        });
        let lease = proto::Lease {
            room: room.to_owned(),
            epoch,
            seats: seats.collect(),
            deadline_ms,
            ..proto::Lease::default()
        };
        for id in to {
            assert_eq!(self.say(id, Kind::Lease(lease.clone())).await, "");
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.server.abort();
        // Streams outlive the listener unless what feeds them is gone.
        self.said.0.lock().unwrap().clear();
    }
}

struct Service {
    authority: Arc<Authority>,
    said: Arc<Said>,
}

#[tonic::async_trait]
impl RelayControl for Service {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let shows_certificate = request.peer_certs().is_some_and(|certs| !certs.is_empty());
        let asked = request.into_inner();
        if asked.join_secret != SECRET && !(asked.join_secret.is_empty() && shows_certificate) {
            return Err(Status::unauthenticated("the join token is not of this cluster"));
        }
        Ok(Response::new(EnrollResponse {
            chain: self.authority.enroll(&asked.relay_id, &asked.csr),
            authorities: vec![self.authority.certificate.clone()],
            not_after_unix: unix_now() + self.authority.life.as_secs(),
            cluster: "test".to_owned(),
        }))
    }

    type AttachStream = ReceiverStream<Result<RelayCommand, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<RelayEvent>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        if request.peer_certs().is_none_or(|certs| certs.is_empty()) {
            return Err(Status::unauthenticated("no certificate"));
        }
        let mut events = request.into_inner();
        let Some(relay_event::Kind::Hello(hello)) = events.message().await?.and_then(|event| event.kind)
        else {
            return Err(Status::invalid_argument("no Hello"));
        };
        let (commands, receiver) = mpsc::channel(64);
        let id = hello.relay_id.clone();
        let welcome = Kind::Welcome(proto::Welcome {
            control_id: vec![7; 8],
            protocol: 1,
            heartbeat_ms: 200,
            ..proto::Welcome::default()
        });
        let kind = Some(welcome);
        commands.send(Ok(RelayCommand { seq: 1, kind })).await.unwrap();
        {
            let mut relays = self.said.0.lock().unwrap();
            let hellos = relays.get(&id).map_or(0, |relay| relay.hellos) + 1;
            relays.insert(
                id.clone(),
                Relay {
                    hello,
                    events: Vec::new(),
                    hellos,
                    commands,
                    sent: 1,
                },
            );
        }
        let said = Arc::clone(&self.said);
        tokio::spawn(async move {
            let mut seq = 1;
            while let Ok(Some(event)) = events.message().await {
                seq += 1;
                assert_eq!(event.seq, seq);
                let mut relays = said.0.lock().unwrap();
                let Some(relay) = relays.get_mut(&id) else { return };
                relay.events.extend(event.kind);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
