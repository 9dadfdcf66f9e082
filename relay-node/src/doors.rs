//! The relay's ports: a socket with its threads and a QUIC endpoint each, and who is let as far as a session.

use std::sync::Arc;

use quinn::{Endpoint, Incoming};
use tokio::select;
use wzp_relay_core::limits::Prefix;
use wzp_socket::{
    clock,
    relay::{Running, Sessions},
};
use wzp_wire::signal::Reason;

use crate::{lanes::Lanes, relay::Shared, session};

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DoorKind {
    /// `--listen`.
    Main,
    /// `--reflect-port`: PINGs, and nothing else.
    Reflect,
}

/// One port.
pub(crate) struct Door {
    pub(crate) kind: DoorKind,
    pub(crate) endpoint: Endpoint,
    pub(crate) sessions: Arc<Sessions>,
    /// Received on at this door, and at no other.
    pub(crate) lanes: Arc<Lanes>,
    /// The threads stop with the door.
    pub(crate) running: Running,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Door {
    /// Takes connections until the relay stops.
    pub(crate) async fn accept(self: Arc<Self>, relay: Arc<Shared>) {
        loop {
            let incoming = select! {
                incoming = self.endpoint.accept() => incoming,
                () = relay.stopping() => return self.refuse_all().await,
            };
            let Some(incoming) = incoming else { return };
            if let Some(incoming) = self.knock(&relay, incoming) {
                tokio::spawn(session::serve(
                    Arc::clone(&relay),
                    Arc::clone(&self),
                    Box::new(incoming),
                ));
            }
        }
    }

    /// Those who come too often have to prove their address first, which costs us nothing; then they are refused.
    /// While many have not said who they are, everybody has to.
    fn knock(&self, relay: &Shared, incoming: Incoming) -> Option<Incoming> {
        let prefix = Prefix::of(incoming.remote_address().ip());
        let validated = incoming.remote_address_validated();
        if !validated && incoming.may_retry() && relay.is_crowded() {
            if incoming.retry().is_ok() {
                relay.metrics.handshake("retry");
            }
            return None;
        }
        if relay.take_handshake(prefix, validated, clock::now()) {
            return Some(incoming);
        }
        if validated || !incoming.may_retry() {
            relay.metrics.handshake("refused");
            relay.refused(Reason::TooManyHandshakes);
            incoming.refuse();
        } else if incoming.retry().is_ok() {
            relay.metrics.handshake("retry");
        }
        None
    }

    async fn refuse_all(&self) {
        while let Some(incoming) = self.endpoint.accept().await {
            incoming.refuse();
        }
    }
}
