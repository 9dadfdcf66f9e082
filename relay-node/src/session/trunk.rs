//! The upstream side of a trunk: another relay brings its members into rooms here.

use std::sync::Arc;

use wzp_relay_core::{
    admission::{Claim, Refusal},
    trunk::Side,
};
use wzp_socket::clock;
use wzp_wire::signal::{Kind, Reason, TrunkJoin, TrunkPeerMessage};

use super::{greeting::unix_now, unexpected};
use crate::{frames, hall::Newcomer, port::Port, relay::Shared};

/// Another relay, downstream of this one.
pub(super) struct Trunk {
    relay: Arc<Shared>,
    port: Arc<Port>,
}

impl Trunk {
    pub(super) fn new(relay: &Arc<Shared>, port: &Arc<Port>) -> Self {
        Self {
            relay: Arc::clone(relay),
            port: Arc::clone(port),
        }
    }

    pub(super) fn handle(&self, kind: Kind) -> Result<(), Refusal> {
        match kind {
            Kind::TrunkJoin(join) => {
                let join = TrunkJoin::try_from(join)?;
                if let Err(refusal) = self.join(&join) {
                    self.relay.metrics.refused(refusal.reason);
                    self.port
                        .outbox
                        .push(frames::trunk_refused(join.handle, &refusal));
                }
            }
            Kind::TrunkLeave(leave) => {
                let handle = Side::Upstream.parse_peer(leave.handle).ok_or_else(unexpected)?;
                self.relay.hall.trunk_leave(&self.port, handle);
            }
            Kind::TrunkPeerMessage(message) => {
                let TrunkPeerMessage { from, to, payload } = message.try_into()?;
                self.relay
                    .hall
                    .trunk_peer_message(&self.port, from, to, payload.into_vec());
            }
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    fn join(&self, join: &TrunkJoin) -> Result<(), Refusal> {
        let entrant = self.relay.policy.admit(Claim {
            identity_key: &join.identity_key,
            grant: &join.grant,
            unix_now: unix_now(),
        })?;
        entrant.enter(&join.room)?;
        let too_many = |wait| Refusal::for_now(Reason::TooManyJoins, "too many joins a minute", wait);
        self.relay
            .take_join(&join.identity_key, clock::now())
            .map_err(too_many)?;
        let newcomer = Newcomer {
            room: &join.room,
            announcement: &join.announcement,
            echo: false,
            preferred: join.preferred_sender,
        };
        match self.relay.hall.trunk_join(&self.port, join.handle, &newcomer)? {
            Some(_) => Ok(()),
            None => Err(Refusal::new(Reason::Malformed, "the handle is in use")),
        }
    }
}
