//! Connections to single replicas of the control plane.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    net::{TcpStream, lookup_host},
    time,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{cluster::Cluster, keys::Keys};

/// TCP, TLS and HTTP/2.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(5);
/// In certificates of the control plane, and not looked at: they are known by their authority and role.
const NAME: &str = "wzp-control";

/// Where the control plane is, and what this relay shows it.
pub(super) struct Dial {
    host: String,
    port: u16,
    keys: Arc<Keys>,
}

/// A connection to one replica.
pub(super) struct Line {
    pub(super) channel: Channel,
    /// Our end of it.
    pub(super) local: Option<IpAddr>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("cannot configure TLS")]
    Tls(#[from] rustls::Error),
    #[error("cannot connect: {}", deepest(.0))]
    Connect(#[source] tonic::transport::Error),
    #[error("cannot connect within 5 s")]
    Timeout,
}

/// tonic says "transport error" and hides the rest.
fn deepest(error: &tonic::transport::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl Dial {
    pub(super) fn new(cluster: &Cluster) -> Self {
        Self {
            host: cluster.config.control.host.clone(),
            port: cluster.config.control.port,
            keys: Arc::clone(&cluster.keys),
        }
    }

    /// Every replica.
    pub(super) async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut found: Vec<_> = lookup_host((self.host.as_str(), self.port)).await?.collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// A connection to the replica at `address`, with the certificate that is shown now.
    pub(super) async fn connect(&self, address: SocketAddr) -> Result<Line, DialError> {
        let tls = TlsConnector::from(Arc::new(crate::keys::control_client(&self.keys)?));
        let local = Arc::new(OnceLock::new());
        let found = Arc::clone(&local);
        let connector = tower::service_fn(move |_: Uri| {
            let (tls, found) = (tls.clone(), Arc::clone(&found));
            async move {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                if let Ok(local) = tcp.local_addr() {
                    found.get_or_init(|| local.ip());
                }
                let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
                let stream = tls.connect(name, tcp).await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_static("http://wzp-control")
            .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
            .keep_alive_timeout(KEEP_ALIVE_WITHIN)
            .keep_alive_while_idle(true);
        let connecting = time::timeout(CONNECT_WITHIN, endpoint.connect_with_connector(connector));
        let channel = connecting.await.map_err(|_| DialError::Timeout)?;
        Ok(Line {
            channel: channel.map_err(DialError::Connect)?,
            local: local.get().copied(),
        })
    }
}
