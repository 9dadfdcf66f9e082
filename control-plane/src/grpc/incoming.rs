//! TCP connections that become TLS, each within its time and no more than so many at once.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tracing::{debug, warn};

use crate::{
    authority::{self, AuthorityError},
    clock,
    plane::Plane,
};

const HANDSHAKE: Duration = Duration::from_secs(5);
/// A thousand relays may come back at the same moment.
const HANDSHAKES: usize = 256;
/// Our own certificate is made anew at half of its life, and when the keys have changed.
const RENEW: Duration = Duration::from_secs(12 * 3_600);
const LOOK: Duration = Duration::from_secs(30);

/// The bound port.
pub(crate) struct Door {
    listener: TcpListener,
    tls: Arc<ArcSwap<rustls::ServerConfig>>,
    generation: u64,
}

impl Door {
    /// Takes a bound port.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub(crate) fn new(
        listener: TcpListener,
        authority: &authority::Authority,
    ) -> Result<Self, AuthorityError> {
        let config = authority::server_config(authority, clock::unix_seconds())?;
        Ok(Self {
            listener,
            tls: Arc::new(ArcSwap::from_pointee(config)),
            generation: authority.trusted().generation,
        })
    }

    /// Connections whose TLS is done.
    pub(super) fn connections(
        self,
        plane: Arc<Plane>,
    ) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
        let (ready, connections) = mpsc::channel(HANDSHAKES);
        tokio::spawn(async move {
            let renewed = renew(&plane, &self.tls, self.generation);
            tokio::select! {
                () = accept(&self.listener, &plane, &self.tls, &ready) => {}
                () = renewed => {}
                // Nobody serves what would be accepted.
                () = ready.closed() => {}
            }
        });
        ReceiverStream::new(connections)
    }
}

async fn accept(
    listener: &TcpListener,
    plane: &Arc<Plane>,
    tls: &ArcSwap<rustls::ServerConfig>,
    ready: &mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: what is open goes on.
                warn!(%error, "cannot accept a connection");
                time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, ready, plane) = (
            TlsAcceptor::from(tls.load_full()),
            ready.clone(),
            Arc::clone(plane),
        );
        tokio::spawn(async move {
            match handshake(&acceptor, stream).await {
                Ok(stream) => drop(ready.send(Ok(stream)).await),
                Err(error) => refused(&plane, address, &error),
            }
            drop(slot);
        });
    }
}

async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    match time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(accepted) => accepted,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn refused(plane: &Plane, address: SocketAddr, error: &io::Error) {
    let of_certificate = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)));
    plane
        .metrics
        .handshake_failed(if of_certificate { "certificate" } else { "other" });
    if of_certificate {
        warn!(%address, %error, "a relay shows a certificate that is not of this cluster, or no longer good");
    } else {
        debug!(%address, %error, "tls handshake failed");
    }
}

async fn renew(plane: &Plane, tls: &ArcSwap<rustls::ServerConfig>, mut generation: u64) {
    let mut made = time::Instant::now();
    loop {
        time::sleep(LOOK).await;
        let now = plane.authority.trusted().generation;
        if now == generation && made.elapsed() < RENEW {
            continue;
        }
        match authority::server_config(&plane.authority, clock::unix_seconds()) {
            Ok(config) => {
                tls.store(Arc::new(config));
                (made, generation) = (time::Instant::now(), now);
            }
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "cannot renew our certificate"
            ),
        }
    }
}
