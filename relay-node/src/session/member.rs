//! A member's side of signalling: one room at a time.

use std::sync::Arc;

use bytes::Bytes;
use wzp_relay_core::{
    admission::{Entrant, Refusal},
    limits::Bucket,
};
use wzp_socket::clock;
use wzp_wire::signal::{Hello, Join, Kind, PeerMessage, Reason, TrunkJoin};

use super::{greeting::unix_now, unexpected};
use crate::{
    frames,
    hall::{Delivery, Newcomer},
    port::{Port, Seats},
    relay::Shared,
};

/// Somebody who may enter rooms.
pub(super) struct Member {
    relay: Arc<Shared>,
    port: Arc<Port>,
    entrant: Entrant,
    identity_key: [u8; 32],
    /// Shown to the upstream relay as well.
    grant: String,
    joins: Bucket,
    /// What the upstream relay has been told, and is told again when it comes back.
    announced: Option<u16>,
}

impl Member {
    pub(super) fn new(relay: &Arc<Shared>, port: &Arc<Port>, entrant: Entrant, hello: Hello) -> Self {
        Self {
            relay: Arc::clone(relay),
            port: Arc::clone(port),
            entrant,
            identity_key: hello.identity_key,
            grant: hello.grant,
            joins: Bucket::default(),
            announced: None,
        }
    }

    /// Takes in one message; refusals that do not end the session are told here.
    pub(super) fn handle(&mut self, kind: Kind) -> Result<(), Refusal> {
        match kind {
            Kind::Join(join) => self.join(join),
            Kind::Leave(_) => {
                if !self.leave() {
                    self.refuse(0, &Refusal::new(Reason::NotInRoom, "there is no room to leave"));
                }
                Ok(())
            }
            Kind::PeerMessage(message) => {
                let PeerMessage { sender, payload } = message.try_into()?;
                match self
                    .relay
                    .hall
                    .peer_message(&self.port, sender, payload.into_vec())
                {
                    // Whoever it was for may just have left.
                    Delivery::Done | Delivery::NobodyThere => {}
                    Delivery::Lost => self.relay.metrics.peer_message_lost(),
                    Delivery::NotInRoom => {
                        self.refuse(
                            0,
                            &Refusal::new(Reason::NotInRoom, "messages are for members of a room"),
                        );
                    }
                }
                Ok(())
            }
            Kind::QualityReport(report) => {
                self.relay.metrics.quality(&report);
                Ok(())
            }
            _ => Err(unexpected()),
        }
    }

    /// The session is over.
    pub(super) fn left(mut self) {
        self.leave();
    }

    fn join(&mut self, join: wzp_wire::signal::proto::Join) -> Result<(), Refusal> {
        let request = join.request;
        let entered = Join::try_from(join)
            .map_err(Refusal::from)
            .and_then(|join| self.enter(&join));
        if let Err(refusal) = entered {
            self.refuse(request, &refusal);
        }
        Ok(())
    }

    fn enter(&mut self, join: &Join) -> Result<(), Refusal> {
        let now = clock::now();
        let too_many = |wait| Refusal::for_now(Reason::TooManyJoins, "too many joins a minute", wait);
        self.joins
            .take(self.relay.limits.joins, now, 1)
            .map_err(too_many)?;
        self.relay.take_join(&self.identity_key, now).map_err(too_many)?;
        if matches!(&self.port.seats, Seats::Member(slot) if slot.load().is_some()) {
            return Err(Refusal::new(Reason::AlreadyInRoom, "one room at a time"));
        }
        let entered = unix_now();
        self.entrant.enter(&join.room, entered)?;
        self.relay.keeps_up()?;
        let joined = self.relay.hall.join(
            &self.port,
            join.request,
            &Newcomer {
                room: &join.room,
                announcement: &join.announcement,
                echo: join.echo,
                preferred: self.entrant.preferred_sender(),
            },
        )?;
        if let (Some(handle), Some(upstream)) = (joined.handle, &self.relay.upstream) {
            let join = TrunkJoin {
                handle,
                room: join.room.clone(),
                announcement: join.announcement.clone(),
                identity_key: self.identity_key,
                grant: self.grant.clone(),
                preferred_sender: Some(joined.sender),
                entered,
            };
            self.announced = Some(handle);
            upstream.announce(&self.relay.hall, join);
        }
        Ok(())
    }

    fn leave(&mut self) -> bool {
        if let (Some(handle), Some(upstream)) = (self.announced.take(), &self.relay.upstream) {
            upstream.withdraw(handle);
        }
        self.relay.hall.leave(&self.port)
    }

    fn refuse(&self, request: u32, refusal: &Refusal) {
        self.relay.metrics.refused(refusal.reason);
        let frame: Bytes = frames::refused(request, refusal);
        self.port.outbox.push(frame);
    }
}
