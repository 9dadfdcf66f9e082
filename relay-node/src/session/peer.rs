//! Another relay of the cluster, which has called us.

use std::sync::Arc;

use wzp_relay_core::admission::Refusal;
use wzp_wire::signal::Kind;

use super::End;
use crate::{peers, port::Port, relay::Shared};

/// The acceptor's end of a session between peers.
pub(super) struct Peer {
    relay: Arc<Shared>,
    port: Arc<Port>,
}

impl Peer {
    pub(super) fn start(relay: &Arc<Shared>, port: &Arc<Port>) -> Self {
        peers::began(relay, port);
        Self {
            relay: Arc::clone(relay),
            port: Arc::clone(port),
        }
    }

    pub(super) fn handle(&self, kind: Kind) -> Result<(), Refusal> {
        peers::handle(&self.relay, &self.port, kind)
    }

    pub(super) fn left(self, end: &End) {
        peers::ended(&self.relay, &self.port, end);
    }
}
