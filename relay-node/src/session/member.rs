//! A member's side of signalling: one room at a time.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use wzp_relay_core::{
    admission::{Entrant, Refusal},
    limits::{Bucket, Prefix},
};
use wzp_socket::clock;
use wzp_wire::{
    Instant, RoomName,
    signal::{Hello, Join, Kind, PeerMessage, Reason, TrunkJoin},
};

use super::{greeting::unix_now, unexpected};
use crate::{
    frames,
    hall::{Delivery, Newcomer, Placed},
    port::{Port, Seats},
    relay::Shared,
};

/// Whoever comes back to a room within this time has not been away: the grant needs to be good for the first time only.
const SAME_STAY: Duration = Duration::from_secs(60);

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
    stay: Option<Stay>,
}

/// The room it is in, or was in last.
struct Stay {
    room: RoomName,
    /// In Unix seconds.
    entered: u64,
    left: Option<Instant>,
}

impl Stay {
    fn since(entered: u64, room: &RoomName) -> Self {
        Self {
            room: room.clone(),
            entered,
            left: None,
        }
    }
}

impl Member {
    pub(super) fn new(relay: &Arc<Shared>, port: &Arc<Port>, entrant: Entrant, hello: Hello) -> Self {
        let member = Self {
            relay: Arc::clone(relay),
            port: Arc::clone(port),
            entrant,
            identity_key: hello.identity_key,
            grant: hello.grant,
            joins: Bucket::default(),
            announced: None,
            stay: None,
        };
        if let Some(cluster) = &relay.cluster {
            cluster.bulletin.came(member.person());
        }
        member
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
            Kind::Carry(carry) => {
                if !self.relay.hall.carry(&self.port, carry.here) {
                    self.refuse(0, &Refusal::new(Reason::NotInRoom, "there is no room to hear"));
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
        if let Some(cluster) = &self.relay.cluster {
            cluster.bulletin.went(self.person());
        }
    }

    /// By whom the control plane knows it.
    fn person(&self) -> [u8; 16] {
        *self.entrant.identity.fingerprint().as_bytes()
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
        let stay = self.same_stay(&join.room, now);
        let entered = stay.unwrap_or_else(unix_now);
        self.entrant.enter(&join.room, entered)?;
        if stay.is_none() {
            self.relay.keeps_up()?;
        }
        // Everybody in the room hears of it, and identities cost nothing.
        let prefix = Prefix::of(self.port.connection.remote_address().ip());
        self.relay.take_prefix_join(prefix, now).map_err(|wait| {
            let text = "too many joins a second from this network";
            Refusal::for_now(Reason::TooManyJoins, text, wait.max(Duration::from_secs(1)))
        })?;
        let newcomer = Newcomer {
            room: &join.room,
            announcement: &join.announcement,
            echo: join.echo,
            preferred: self.entrant.preferred_sender(),
        };
        if let Some(cluster) = &self.relay.cluster {
            let placed = Placed {
                epoch: self.entrant.epoch(),
                relays: self.entrant.relays(),
                standby: join.standby,
            };
            self.relay
                .hall
                .enter(&self.port, join.request, &newcomer, &placed)?;
            cluster.bulletin.is_in(self.person(), Some(&join.room));
            self.stay = Some(Stay::since(entered, &join.room));
            return Ok(());
        }
        let joined = self.relay.hall.join(&self.port, join.request, &newcomer)?;
        self.stay = Some(Stay::since(entered, &join.room));
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

    /// When the stay in `room` began that a join continues: members join anew after an upstream relay was lost for long.
    fn same_stay(&self, room: &RoomName, now: Instant) -> Option<u64> {
        let stay = self.stay.as_ref().filter(|stay| stay.room == *room)?;
        (now.duration_since(stay.left?) < SAME_STAY).then_some(stay.entered)
    }

    fn leave(&mut self) -> bool {
        if let Some(stay) = &mut self.stay {
            stay.left.get_or_insert_with(clock::now);
        }
        if let (Some(handle), Some(upstream)) = (self.announced.take(), &self.relay.upstream) {
            upstream.withdraw(handle);
        }
        let left = self.relay.hall.leave(&self.port);
        if let Some(cluster) = self.relay.cluster.as_ref().filter(|_| left) {
            cluster.bulletin.is_in(self.person(), None);
        }
        left
    }

    fn refuse(&self, request: u32, refusal: &Refusal) {
        self.relay.refused(refusal.reason);
        let frame: Bytes = frames::refused(request, refusal);
        self.port.outbox.push(frame);
    }
}
