//! A relay that echoes on lanes and streams, and clients of it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::sync::mpsc;
use wzp_lane::ids::Layout;
use wzp_lane::{Aead, Direction, LaneId, Opener, Sealer, Secret};
use wzp_socket::quic::{
    EndpointSecret, Role, endpoint_config, endpoint_config_with, lane_secret, transport_config,
};
use wzp_socket::relay::{self, Arrival, Entry, Handler, LaneTable, Running};
use wzp_socket::send::SendBatch;
use wzp_socket::{Address, Outgoing, client};
use wzp_wire::Instant;

const AEAD: Aead = Aead::Aes128Gcm;

/// Longer than anything takes on the loopback, so that a failure ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

/// What signs the relays of one test.
#[derive(Clone)]
pub(crate) struct Certificate {
    der: CertificateDer<'static>,
    key: Arc<PrivatePkcs8KeyDer<'static>>,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["relay.test".to_owned()]).unwrap();
        Self {
            der: made.cert.der().clone(),
            key: Arc::new(made.signing_key.serialize_der().into()),
        }
    }

    pub(crate) fn server(&self) -> quinn::ServerConfig {
        let key = self.key.clone_key().into();
        let builder = rustls::ServerConfig::builder().with_no_client_auth();
        let mut tls = builder.with_single_cert(vec![self.der.clone()], key).unwrap();
        tls.alpn_protocols = vec![b"wzp/1".to_vec()];
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        config.transport_config(Arc::new(transport_config(Role::Relay)));
        config
    }

    pub(crate) fn client(&self) -> quinn::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let mut tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"wzp/1".to_vec()];
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        config.transport_config(Arc::new(transport_config(Role::Client)));
        config
    }
}

/// What the relay keeps with a lane: the lane back.
pub(crate) struct Back(pub(crate) Outgoing);

/// Sends every datagram back, to where it came from.
struct Echo;

impl Handler<Back> for Echo {
    fn datagram(
        &mut self,
        _: Instant,
        lane: &Arc<Entry<Back>>,
        arrival: &Arrival,
        datagram: &[u8],
        out: &mut SendBatch,
    ) {
        let back = &lane.state.0;
        if arrival.newest && back.address() != arrival.from {
            back.move_to(arrival.from);
        }
        out.seal(back, |buf| {
            buf.get_mut(..datagram.len())?.copy_from_slice(datagram);
            Some(datagram.len())
        });
    }
}

/// A running relay.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    pub(crate) lanes: Arc<LaneTable<Back>>,
    pub(crate) running: Running,
    /// One message for each lane that ended with its connection.
    pub(crate) ended: mpsc::UnboundedReceiver<()>,
    pub(crate) endpoint: quinn::Endpoint,
    /// The addresses of its connections.
    pub(crate) sessions: Arc<relay::Sessions>,
}

impl Relay {
    /// Must be called within the runtime that its connections shall live on.
    pub(crate) fn start(
        port: u16,
        threads: usize,
        certificate: &Certificate,
        secret: &EndpointSecret,
    ) -> Self {
        Self::start_at(([127, 0, 0, 1], port).into(), threads, certificate, secret)
    }

    /// With ids of another layout.
    pub(crate) fn start_with(
        port: u16,
        layout: Layout,
        certificate: &Certificate,
        secret: &EndpointSecret,
    ) -> Self {
        Self::start_all(([127, 0, 0, 1], port).into(), 1, layout, certificate, secret)
    }

    pub(crate) fn start_at(
        address: SocketAddr,
        threads: usize,
        certificate: &Certificate,
        secret: &EndpointSecret,
    ) -> Self {
        Self::start_all(address, threads, Layout::default(), certificate, secret)
    }

    fn start_all(
        address: SocketAddr,
        threads: usize,
        layout: Layout,
        certificate: &Certificate,
        secret: &EndpointSecret,
    ) -> Self {
        let config = relay::Config {
            io_threads: threads,
            ..relay::Config::default()
        };
        let bound = relay::bind(address, &config).unwrap();
        let address = bound.local_addr();
        let endpoint = bound
            .endpoint(endpoint_config_with(secret, layout), Some(certificate.server()))
            .unwrap();
        let lanes = LaneTable::new(1_000, layout);
        let sessions = Arc::clone(bound.sessions());
        let kept = Arc::clone(&sessions);
        let (ended_tx, ended) = mpsc::unbounded_channel();
        let (accepting, table) = (endpoint.clone(), Arc::clone(&lanes));
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                let (table, ended, sessions) = (Arc::clone(&table), ended_tx.clone(), Arc::clone(&sessions));
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    let _session = sessions.enter(connection.remote_address());
                    serve(&connection, &table).await;
                    let _ = ended.send(());
                });
            }
        });
        let running = bound.start(&lanes, |_| Echo).unwrap();
        Self {
            address,
            lanes,
            running,
            ended,
            endpoint,
            sessions: kept,
        }
    }
}

/// One lane each way, then the stream is echoed until the connection ends.
async fn serve(connection: &quinn::Connection, table: &Arc<LaneTable<Back>>) {
    let Ok((mut tx, mut rx)) = connection.accept_bi().await else {
        return;
    };
    let mut id = [0; 2];
    if rx.read_exact(&mut id).await.is_err() {
        return;
    }
    let opener = Opener::new(
        secret(connection, Direction::FromClient),
        AEAD,
        table.layout().len(),
    );
    let sealer = Sealer::new(
        secret(connection, Direction::FromServer),
        AEAD,
        LaneId::new(&id).unwrap(),
    );
    let address = Address::new(connection.remote_address(), connection.local_ip());
    let lane = table
        .open(opener, |_| Back(Outgoing::new(sealer, address)))
        .unwrap();
    let id = lane.id();
    let _ = tx.write_all(&[&[id.len() as u8], id.as_slice()].concat()).await;
    let echo = async {
        let mut buf = [0; 1_000];
        while let Ok(Some(n)) = rx.read(&mut buf).await {
            if tx.write_all(&buf[..n]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = lane.until_closed(connection) => {}
        () = echo => {}
    }
}

pub(crate) fn secret(connection: &quinn::Connection, direction: Direction) -> Secret {
    lane_secret(connection, direction, 0, AEAD).unwrap()
}

/// A client's socket.
pub(crate) fn client(certificate: &Certificate) -> Arc<client::Socket> {
    client_behind(certificate, None)
}

/// A client's socket whose packets take a detour.
pub(crate) fn client_behind(
    certificate: &Certificate,
    detour: Option<client::Detour>,
) -> Arc<client::Socket> {
    let secret = EndpointSecret::random();
    let socket = client::Socket::bind_behind(
        client::Config::default(),
        endpoint_config(&secret),
        Some(certificate.server()),
        detour,
    );
    Arc::new(socket.unwrap())
}

/// A connection with a lane each way.
pub(crate) struct Session {
    pub(crate) socket: Arc<client::Socket>,
    pub(crate) connection: quinn::Connection,
    pub(crate) receiving: client::ReceivingLane,
    pub(crate) sending: Sealer,
    pub(crate) to: Address,
    tx: quinn::SendStream,
    rx: quinn::RecvStream,
}

impl Session {
    pub(crate) async fn connect(
        socket: &Arc<client::Socket>,
        certificate: &Certificate,
        to: SocketAddr,
    ) -> Self {
        let connecting = socket
            .endpoint()
            .connect_with(certificate.client(), to, "relay.test")
            .unwrap();
        let connection = soon(connecting).await.unwrap();
        let opener = Opener::new(secret(&connection, Direction::FromServer), AEAD, socket.id_len());
        let receiving = socket.open(opener, to).unwrap();
        let (mut tx, mut rx) = soon(connection.open_bi()).await.unwrap();
        soon(tx.write_all(receiving.id().as_slice())).await.unwrap();
        let mut len = [0];
        soon(rx.read_exact(&mut len)).await.unwrap();
        let mut id = vec![0; usize::from(len[0])];
        soon(rx.read_exact(&mut id)).await.unwrap();
        let sending = Sealer::new(
            secret(&connection, Direction::FromClient),
            AEAD,
            LaneId::new(&id).unwrap(),
        );
        let to = Address::new(to, None);
        Self {
            socket: Arc::clone(socket),
            connection,
            receiving,
            sending,
            to,
            tx,
            rx,
        }
    }

    /// A datagram there and back over the lanes.
    pub(crate) async fn echo_on_lane(&self, datagram: &[u8]) {
        self.socket.send(&self.sending, &self.to, datagram).unwrap();
        let mut buf = [0; 1_500];
        let incoming = soon(self.socket.recv(&mut buf)).await.unwrap();
        assert_eq!(incoming.lane, self.receiving.key());
        assert_eq!(&buf[..incoming.len], datagram);
    }

    /// Bytes there and back over the QUIC stream.
    pub(crate) async fn echo_on_stream(&mut self, bytes: &[u8]) -> Result<(), quinn::ReadExactError> {
        let mut buf = vec![0; bytes.len()];
        let _ = self.tx.write_all(bytes).await;
        soon(self.rx.read_exact(&mut buf)).await?;
        assert_eq!(buf, bytes);
        Ok(())
    }
}
