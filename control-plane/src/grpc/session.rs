//! One stream of one relay.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time};
use tonic::Streaming;
use tracing::{debug, warn};
use wzp_control_core::StreamId;
use wzp_proto::control::{RejectReason, RelayEvent, relay_command::Kind};
use wzp_wire::RelayId;

use super::{commands, events};
use crate::{
    clock,
    plane::{Attached, Event, Outgoing, Plane},
};

/// From the start of a stream to its Hello.
const HELLO: Duration = Duration::from_secs(10);

/// What a stream needs.
pub(super) struct Session {
    pub(super) plane: Arc<Plane>,
    /// As in its certificate.
    pub(super) relay: RelayId,
    pub(super) from: Option<IpAddr>,
    pub(super) out: mpsc::Sender<Kind>,
}

/// Why a stream ends that the relay has not ended.
struct Rejection {
    reason: RejectReason,
    text: String,
}

impl Session {
    pub(super) async fn run(self, mut inbound: Streaming<RelayEvent>) {
        let attached = match self.begin(&mut inbound).await {
            Ok(attached) => attached,
            Err(rejection) => return self.reject(rejection).await,
        };
        let Attached {
            stream,
            end,
            mut commands,
        } = attached;
        let reading = self.read(stream, &mut inbound);
        let rejection = tokio::select! {
            rejection = reading => rejection,
            () = self.write(&mut commands) => None,
            () = end.notified() => None,
        };
        self.plane.detach(stream);
        if let Some(rejection) = rejection {
            self.reject(rejection).await;
        }
    }

    async fn begin(&self, inbound: &mut Streaming<RelayEvent>) -> Result<Attached, Rejection> {
        let first = time::timeout(HELLO, inbound.message()).await;
        let Ok(Ok(Some(RelayEvent { seq: 1, kind }))) = first else {
            return Err(malformed(
                "the first message is a Hello, with number 1".to_owned(),
            ));
        };
        let hello = match events::parse(kind) {
            Ok(Event::Hello(hello)) => *hello,
            Ok(_) => return Err(malformed("the first message is a Hello".to_owned())),
            Err(error) => return Err(malformed(error.to_string())),
        };
        if hello.relay != self.relay {
            return Err(Rejection {
                reason: RejectReason::Certificate,
                text: format!("the certificate is that of relay {}", self.relay),
            });
        }
        self.plane.attach(hello, self.from).map_err(|refused| Rejection {
            reason: commands::reason(&refused),
            text: refused.to_string(),
        })
    }

    /// Reads until the stream ends, or breaks the form.
    async fn read(&self, stream: StreamId, inbound: &mut Streaming<RelayEvent>) -> Option<Rejection> {
        let mut last = 1;
        loop {
            let event = match inbound.message().await {
                Ok(Some(event)) => event,
                Ok(None) => return None,
                Err(status) => {
                    debug!(relay = %self.relay, %status, "stream broke");
                    return None;
                }
            };
            if event.seq != last + 1 {
                return Some(malformed(format!("event {} follows event {last}", event.seq)));
            }
            last = event.seq;
            let event = match events::parse(event.kind) {
                Ok(Event::Hello(_)) => return Some(malformed("a second Hello".to_owned())),
                Ok(event) => event,
                Err(error) => return Some(malformed(error.to_string())),
            };
            if let Some(deadline) = self.plane.handle(stream, event) {
                // The relay is known, it has just spoken.
                let _ = self.plane.drain(&self.relay, deadline);
            }
        }
    }

    /// Hands commands to HTTP/2 as fast as the relay takes them.
    async fn write(&self, commands: &mut mpsc::Receiver<Outgoing>) {
        while let Some(Outgoing(command)) = commands.recv().await {
            let kind = commands::message(
                command,
                self.plane.control_id,
                clock::unix_ms(),
                self.plane.heartbeat,
            );
            if self.out.send(kind).await.is_err() {
                return;
            }
        }
    }

    async fn reject(&self, Rejection { reason, text }: Rejection) {
        warn!(relay = %self.relay, ?reason, text, "a relay was rejected");
        self.plane.metrics.rejected(reason.as_str_name());
        // It may be gone.
        let _ = self.out.send(commands::rejected(reason, text)).await;
    }
}

fn malformed(text: String) -> Rejection {
    Rejection {
        reason: RejectReason::Malformed,
        text,
    }
}
