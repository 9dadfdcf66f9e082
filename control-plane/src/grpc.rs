//! Where relays attach: gRPC over TLS, with a certificate of this cluster as soon as they have one.

mod commands;
mod enroll;
mod events;
mod incoming;
mod session;

pub(crate) use incoming::Door;

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use rustls_pki_types::CertificateDer;
use tokio::sync::{Notify, mpsc};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{
        Server,
        server::{TcpConnectInfo, TlsConnectInfo},
    },
};
use tracing::warn;
use wzp_proto::control::{
    EnrollRequest, EnrollResponse, RelayCommand, RelayEvent,
    relay_control_server::{RelayControl, RelayControlServer},
};

use crate::plane::Plane;

/// A relay that answers no PING is gone, though its stream is not.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_PATIENCE: Duration = Duration::from_secs(5);
/// A relay with thousands of rooms sends one message for each, never one for all.
const MAX_MESSAGE: usize = 1 << 20;
/// On one connection; a relay has one for ever, and one now and then.
const STREAMS: u32 = 8;
/// Messages that wait in one stream for HTTP/2.
const BUFFER: usize = 64;

#[derive(Clone, Debug)]
struct Service {
    plane: Arc<Plane>,
}

/// Who called, as far as TLS knows.
struct Caller {
    address: Option<SocketAddr>,
    certificate: Option<CertificateDer<'static>>,
}

/// Serves relays until `stop` is notified.
pub(crate) async fn serve(door: Door, plane: Arc<Plane>, stop: Arc<Notify>) {
    let service = RelayControlServer::new(Service {
        plane: Arc::clone(&plane),
    })
    .max_decoding_message_size(MAX_MESSAGE);
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_PATIENCE))
        .max_concurrent_streams(STREAMS)
        .add_service(service)
        .serve_with_incoming_shutdown(door.connections(plane), async move { stop.notified().await })
        .await;
    if let Err(error) = served {
        warn!(%error, "grpc ended");
    }
}

#[tonic::async_trait]
impl RelayControl for Service {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<RelayCommand, Status>> + Send>>;

    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let caller = Caller::of(&request);
        let result = enroll::enroll(&self.plane, &caller, request.into_inner()).await;
        self.plane
            .metrics
            .enrolled(result.as_ref().err().map(enroll::Refused::label));
        match result {
            Ok(response) => Ok(Response::new(response)),
            Err(refused) => {
                warn!(address = ?caller.address, why = %refused, "a relay was refused a certificate");
                Err(refused.status())
            }
        }
    }

    async fn attach(
        &self,
        request: Request<Streaming<RelayEvent>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let caller = Caller::of(&request);
        let Some(certificate) = &caller.certificate else {
            return Err(Status::unauthenticated(
                "a relay attaches with its certificate; enroll first",
            ));
        };
        let Some(relay) = self.plane.authority.relay_of(certificate) else {
            return Err(Status::permission_denied(
                "the certificate names no relay of this cluster",
            ));
        };
        let (out, commands) = mpsc::channel(BUFFER);
        let session = session::Session {
            plane: Arc::clone(&self.plane),
            relay,
            from: caller.address.map(|address| address.ip().to_canonical()),
            out,
        };
        tokio::spawn(session.run(request.into_inner()));
        let mut seq = 0;
        let numbered = ReceiverStream::new(commands).map(move |kind| {
            seq += 1;
            Ok(RelayCommand {
                seq,
                kind: Some(kind),
            })
        });
        Ok(Response::new(Box::pin(numbered)))
    }
}

impl Caller {
    fn of<T>(request: &Request<T>) -> Self {
        let tls = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
        let shown = tls.and_then(TlsConnectInfo::peer_certs);
        Self {
            address: tls.and_then(|tls| tls.get_ref().remote_addr()),
            certificate: shown.and_then(|chain| chain.first().cloned()),
        }
    }
}
