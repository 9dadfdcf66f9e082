//! The upstream side of a trunk: another relay brings its members into rooms here.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use wzp_identity::GrantRole;
use wzp_relay_core::{
    admission::{self, Claim, Refusal},
    trunk::Side,
};
use wzp_socket::clock;
use wzp_wire::signal::{Kind, Reason, TrunkJoin, TrunkPeerMessage};

use super::{code, greeting::unix_now, unexpected};
use crate::{
    frames,
    hall::{Delivery, Newcomer},
    port::Port,
    relay::Shared,
};

/// How long the members behind a broken trunk stay seated.
const TRUNK_GRACE: Duration = Duration::from_secs(15);

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
                    self.relay.refused(refusal.reason);
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
                let delivery = self
                    .relay
                    .hall
                    .trunk_peer_message(&self.port, from, to, payload.into_vec());
                if delivery == Delivery::Lost {
                    self.relay.metrics.peer_message_lost();
                }
            }
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    /// The session is over. A relay that stops takes its members with it; one that was cut off may come back.
    pub(super) fn left(self) {
        use quinn::ConnectionError::ApplicationClosed;
        let Self { relay, port } = self;
        let stopped = code(Reason::ShuttingDown);
        let closed = port.connection.close_reason();
        let it_stops = matches!(closed, Some(ApplicationClosed(close)) if close.error_code == stopped);
        if it_stops || !relay.lifecycle().admits() {
            return relay.hall.lose_trunk(&port);
        }
        tokio::spawn(lose_later(Arc::downgrade(&relay), port));
    }

    fn join(&self, join: &TrunkJoin) -> Result<(), Refusal> {
        let now = clock::now();
        // Before anything that costs: whom a trunk brings may be made up.
        self.relay.take_trunk_join(&self.port.peer, now).map_err(|wait| {
            Refusal::for_now(
                Reason::TooManyJoins,
                "too many joins a second over this trunk",
                wait,
            )
        })?;
        self.relay.keeps_up()?;
        let entered = admission::entered(join.entered, unix_now());
        let entrant = self.relay.policy.load().admit(Claim {
            identity_key: &join.identity_key,
            grant: &join.grant,
            role: GrantRole::Member,
            unix_now: entered,
        })?;
        entrant.enter(&join.room, entered)?;
        let too_many = |wait| Refusal::for_now(Reason::TooManyJoins, "too many joins a minute", wait);
        self.relay.take_join(&join.identity_key, now).map_err(too_many)?;
        let newcomer = Newcomer {
            room: &join.room,
            announcement: &join.announcement,
            echo: false,
            preferred: join.preferred_sender,
        };
        match self.relay.hall.trunk_join(&self.port, join.handle, &newcomer)? {
            true => Ok(()),
            false => Err(Refusal::new(Reason::Malformed, "the handle is in use")),
        }
    }
}

/// Members behind a trunk that broke stay seated for a while: a new join of theirs would be a replay to the others.
pub(crate) async fn lose_later(relay: Weak<Shared>, port: Arc<Port>) {
    tokio::time::sleep(TRUNK_GRACE).await;
    if let Some(relay) = relay.upgrade() {
        relay.hall.lose_trunk(&port);
    }
}
