//! A relay as far as the control plane can tell: it enrolls, attaches, and can be reached over QUIC.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use wzp_proto::control::{
    Ack, Address, AddressReport, AddressSource, EnrollRequest, EnrollResponse, Heartbeat, Hello, Rejected,
    RelayCommand, RelayEvent, RoomEvent, Synced, relay_command, relay_control_client::RelayControlClient,
    relay_event,
};

use crate::{server::Server, soon};

pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// What somebody has to show.
#[derive(Clone)]
pub(crate) struct Papers {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Takes whatever is shown, to look at it.
#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The authority that the join token names, out of what the server shows.
pub(crate) async fn authority(server: &Server) -> String {
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(server.grpc).await.unwrap();
    let name = ServerName::try_from("wzp-control").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.unwrap();
    let (_, session) = stream.get_ref();
    let wanted = server.token.split('.').nth(1).unwrap();
    let shown = session.peer_certificates().unwrap();
    let found = shown
        .iter()
        .find(|der| URL_SAFE_NO_PAD.encode(Sha256::digest(der)) == wanted);
    pem("CERTIFICATE", found.unwrap())
}

pub(crate) fn pem(what: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {what}-----\n{text}\n-----END {what}-----\n")
}

/// A client that trusts the token's authority, and shows papers.
pub(crate) async fn client(
    server: &Server,
    papers: Option<&Papers>,
) -> Result<RelayControlClient<Channel>, String> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority(server).await))
        .domain_name("wzp-control");
    if let Some(papers) = papers {
        tls = tls.identity(Identity::from_pem(&papers.certificate, &papers.key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", server.grpc)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await;
    channel
        .map(RelayControlClient::new)
        .map_err(|error| format!("{error:?}"))
}

pub(crate) fn request(id: &str, secret: &str, key: &KeyPair) -> EnrollRequest {
    let csr = CertificateParams::default().serialize_request(key).unwrap();
    EnrollRequest {
        join_secret: secret.to_owned(),
        relay_id: id.to_owned(),
        csr: csr.der().to_vec(),
        boot_id: vec![1; 8],
        unix_ms: unix_ms(),
    }
}

/// Asks for a certificate.
pub(crate) async fn enroll(
    server: &Server,
    papers: Option<&Papers>,
    request: EnrollRequest,
) -> Result<EnrollResponse, Status> {
    let mut client = client(server, papers).await.map_err(Status::unavailable)?;
    soon("enrolling", client.enroll(request))
        .await
        .map(|response| response.into_inner())
}

/// Papers for a relay, by the join token.
pub(crate) async fn papers(server: &Server, id: &str) -> Papers {
    let key = KeyPair::generate().unwrap();
    let secret = server.token.split('.').nth(2).unwrap();
    let response = enroll(server, None, request(id, secret, &key)).await.unwrap();
    let certificate = response.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    Papers {
        certificate,
        key: key.serialize_pem(),
    }
}

/// Something that completes QUIC handshakes.
pub(crate) struct Quic {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: [u8; 32],
    endpoint: quinn::Endpoint,
}

impl Quic {
    pub(crate) fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new(vec!["relay".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![made.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        tls.alpn_protocols = vec![wzp_socket::quic::ALPN.to_vec()];
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let accepting = endpoint.clone();
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        connection.closed().await;
                    }
                });
            }
        });
        Self {
            address: endpoint.local_addr().unwrap(),
            certificate: Sha256::digest(made.der()).into(),
            endpoint,
        }
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        self.endpoint.close(0_u32.into(), b"");
    }
}

pub(crate) fn hello(id: &str, boot: u8, quic: &Quic) -> Hello {
    let SocketAddr::V4(address) = quic.address else {
        panic!()
    };
    Hello {
        relay_id: id.to_owned(),
        boot_id: vec![boot; 8],
        region: "eu".to_owned(),
        zone: format!("zone-of-{id}"),
        node: format!("node-of-{id}"),
        addresses: vec![Address {
            ip: address.ip().octets().to_vec(),
            port: address.port().into(),
            source: AddressSource::Explicit.into(),
        }],
        version: "0.1.0".to_owned(),
        protocol_min: 1,
        protocol_max: 1,
        capacity: None,
        certificates: vec![quic.certificate.to_vec()],
        draining: false,
        unix_ms: unix_ms(),
        metrics_address: "127.0.0.1:9".to_owned(),
    }
}

/// A stream, and what came over it.
pub(crate) struct Relay {
    pub(crate) id: String,
    pub(crate) papers: Papers,
    pub(crate) quic: Quic,
    events: mpsc::Sender<RelayEvent>,
    commands: Streaming<RelayCommand>,
    seq: u64,
    last: u64,
}

impl Relay {
    /// Enrolls and attaches; then it is one of the cluster.
    pub(crate) async fn start(server: &Server, id: &str) -> Self {
        let papers = papers(server, id).await;
        let quic = Quic::start();
        let hello = hello(id, 1, &quic);
        let mut relay = Self::attach(server, papers, quic, hello).await;
        relay.send(relay_event::Kind::Synced(Synced {})).await;
        relay.beat(0).await;
        relay
    }

    /// Opens a stream with this Hello.
    pub(crate) async fn attach(server: &Server, papers: Papers, quic: Quic, hello: Hello) -> Self {
        let mut client = client(server, Some(&papers)).await.unwrap();
        let (events, receiver) = mpsc::channel(64);
        let id = hello.relay_id.clone();
        let kind = Some(relay_event::Kind::Hello(hello));
        events.send(RelayEvent { seq: 1, kind }).await.unwrap();
        let response = soon("attaching", client.attach(ReceiverStream::new(receiver)))
            .await
            .unwrap();
        Self {
            id,
            papers,
            quic,
            events,
            commands: response.into_inner(),
            seq: 1,
            last: 0,
        }
    }

    pub(crate) async fn send(&mut self, kind: relay_event::Kind) {
        self.seq += 1;
        let event = RelayEvent {
            seq: self.seq,
            kind: Some(kind),
        };
        self.events.send(event).await.unwrap();
    }

    /// With a number of its own.
    pub(crate) async fn send_numbered(&mut self, seq: u64, kind: relay_event::Kind) {
        self.events
            .send(RelayEvent {
                seq,
                kind: Some(kind),
            })
            .await
            .unwrap();
    }

    pub(crate) async fn beat(&mut self, members: u32) {
        let beat = Heartbeat {
            members,
            unix_ms: unix_ms(),
            ..Heartbeat::default()
        };
        self.send(relay_event::Kind::Heartbeat(beat)).await;
    }

    pub(crate) async fn room(&mut self, event: RoomEvent) {
        self.send(relay_event::Kind::Room(event)).await;
    }

    /// The next command, acknowledged and done as far as a relay without members can; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<relay_command::Kind> {
        let command = soon("a command", self.commands.message()).await.ok().flatten()?;
        assert_eq!(command.seq, self.last + 1, "commands are numbered");
        self.last = command.seq;
        let kind = command.kind.unwrap();
        // Whoever ended the stream does not listen any more.
        let ack = Ack {
            command: command.seq,
            error: String::new(),
        };
        self.seq += 1;
        let event = RelayEvent {
            seq: self.seq,
            kind: Some(relay_event::Kind::Ack(ack)),
        };
        let _ = self.events.send(event).await;
        if let relay_command::Kind::CheckAddress(check) = &kind {
            for address in &check.addresses {
                let report = AddressReport {
                    relay_id: check.relay_id.clone(),
                    address: Some(address.clone()),
                    reachable: true,
                    why_not: String::new(),
                };
                self.send(relay_event::Kind::AddressReport(report)).await;
            }
        }
        Some(kind)
    }

    /// Takes commands until one is wanted.
    pub(crate) async fn wait_for<T>(
        &mut self,
        what: &str,
        wanted: impl Fn(relay_command::Kind) -> Option<T>,
    ) -> T {
        loop {
            let Some(kind) = self.next().await else {
                panic!("the stream ended before {what}")
            };
            if let Some(found) = wanted(kind) {
                return found;
            }
        }
    }

    pub(crate) async fn rejected(&mut self) -> Rejected {
        let wanted = |kind| match kind {
            relay_command::Kind::Rejected(rejected) => Some(rejected),
            _ => None,
        };
        let rejected = self.wait_for("a rejection", wanted).await;
        assert!(self.next().await.is_none(), "the stream ends after it");
        rejected
    }

    pub(crate) async fn lease(&mut self) -> wzp_proto::control::Lease {
        let wanted = |kind| match kind {
            relay_command::Kind::Lease(lease) => Some(lease),
            _ => None,
        };
        self.wait_for("a lease", wanted).await
    }

    /// Does what it is told and beats, until it is stopped by being dropped.
    pub(crate) fn run(mut self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            let mut every = tokio::time::interval(std::time::Duration::from_secs(1));
            loop {
                tokio::select! {
                    _ = every.tick() => self.beat(0).await,
                    kind = self.next() => if kind.is_none() { return },
                }
            }
        })
    }
}
