//! Letting a member into a room: one transaction, then a grant.

use std::collections::{HashMap, HashSet};

use tracing::debug;
use wzp_control_core::{
    Address, Cause, Lease, Seat,
    leases::{Decision, Write},
    placement::{self, Explanation, NoRelay, Request},
    registry::Relay,
};
use wzp_identity::{Fingerprint, GrantClaims, GrantRole, RoomScope, Validity};
use wzp_wire::{Epoch, Instant, RoomName, SenderId};

use super::{Command, Inner, Plane, streams::order};
use crate::{
    clock,
    random::{SystemRng, random, random_text},
    store::{Joined, LAST_SENDER, StoreError},
};

/// Of two replicas that decide at once one decides again; more rounds mean that something else is wrong.
const ROUNDS: usize = 8;
/// Relays whose clock is behind ours take a new grant.
const BACKDATED: u64 = 60;
/// Rooms in which ids were given out without the database.
const EMERGENCY_ROOMS: usize = 10_000;

/// Who wants to join what.
#[derive(Clone, Debug)]
pub(crate) struct JoinRequest {
    pub(crate) room: RoomName,
    pub(crate) subject: Fingerprint,
    pub(crate) client: Request,
}

/// A member's way into the room.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    pub(crate) room: RoomName,
    pub(crate) epoch: Epoch,
    pub(crate) sender: SenderId,
    pub(crate) grant: String,
    pub(crate) expires_at: u64,
    /// In the order in which this member should prefer them.
    pub(crate) places: Vec<Place>,
}

/// A relay of the room.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) seat: Seat,
    pub(crate) region: Box<str>,
    pub(crate) zone: Box<str>,
    /// None while the relay is not attached here.
    pub(crate) addresses: Vec<Address>,
    pub(crate) certificates: Vec<[u8; 32]>,
}

/// Why nobody is let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error(transparent)]
    NoRelay(#[from] NoRelay),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody changes the room all the time.
    #[error("the room changes too fast; try again")]
    Contended,
    /// A bug.
    #[error("the grant cannot be signed")]
    Grant,
}

/// Sender ids that were given out while the database was away: above those of the database, and each once here.
#[derive(Debug, Default)]
pub(super) struct Emergency {
    rooms: HashMap<RoomName, HashSet<u16>>,
}

impl Plane {
    /// Takes a member into a room.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub(crate) async fn join(&self, request: &JoinRequest) -> Result<Ticket, JoinError> {
        let joined = match self.write_join(request).await {
            Err(JoinError::Store(StoreError::Unreachable(error))) => {
                self.join_known(request).ok_or(StoreError::Unreachable(error))?
            }
            joined => joined?,
        };
        self.with(|inner, now| inner.handle_joined(now, request, &joined));
        self.ticket(request, &joined)
    }

    /// What a join would do, and why.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub(crate) async fn explain(
        &self,
        room: &RoomName,
        client: &Request,
    ) -> Result<(Option<Lease>, Lease, Explanation), JoinError> {
        let row = match self.store.lease(room).await {
            Err(StoreError::Unreachable(_)) => self.look(|inner, _| inner.world.leases().lease(room)),
            row => row?,
        };
        let decision = self.decide(room, row.as_ref(), client)?;
        let (lease, explanation) = match decision {
            Decision::Keep(lease, explanation) => (lease, explanation),
            Decision::Write(write, explanation) => (write.lease, explanation),
        };
        Ok((row, lease, explanation))
    }

    async fn write_join(&self, request: &JoinRequest) -> Result<Joined, JoinError> {
        let JoinRequest { room, client, .. } = request;
        let mut row = self.store.lease(room).await?;
        for _ in 0..ROUNDS {
            let decision = self.decide(room, row.as_ref(), client)?;
            let (wanted, write): (Epoch, Option<Write>) = match decision {
                Decision::Keep(lease, _) => (lease.epoch, None),
                Decision::Write(write, _) => (write.lease.epoch, Some(write)),
            };
            match self
                .store
                .join(room, write.as_ref(), clock::unix_seconds())
                .await?
            {
                Some(joined) if joined.written || joined.lease.epoch == wanted => return Ok(joined),
                Some(joined) => row = Some(joined.lease),
                None => row = self.store.lease(room).await?,
            }
            debug!(%room, "another replica was faster");
        }
        Err(JoinError::Contended)
    }

    /// Without the database: a room that is served goes on taking members.
    fn join_known(&self, request: &JoinRequest) -> Option<Joined> {
        self.with(|inner, _| {
            let lease = inner.world.leases().lease(&request.room)?;
            if lease.seats.is_empty() {
                return None;
            }
            Some(Joined {
                sender: inner.emergency.sender(&request.room)?,
                lease,
                written: false,
            })
        })
    }

    fn decide(&self, room: &RoomName, row: Option<&Lease>, client: &Request) -> Result<Decision, NoRelay> {
        self.look(|inner, now| inner.world.decide_join(now, room, row, client, &mut SystemRng))
    }

    fn ticket(&self, request: &JoinRequest, joined: &Joined) -> Result<Ticket, JoinError> {
        let Joined { lease, sender, .. } = joined;
        let (now, ttl) = (clock::unix_seconds(), self.settings.grant_ttl.as_secs());
        let claims = GrantClaims {
            subject: request.subject,
            role: GrantRole::Member,
            room: RoomScope::Exactly(request.room.to_string()),
            relays: lease.seats.iter().map(|seat| seat.relay.to_string()).collect(),
            sender: Some(sender.get()),
            epoch: lease.epoch.0,
            validity: Validity {
                not_before: now.saturating_sub(BACKDATED),
                expires: now + ttl,
            },
            id: random_text::<12>(),
        };
        let key = self.authority.grant_key(now).ok_or(JoinError::Grant)?;
        Ok(Ticket {
            room: request.room.clone(),
            epoch: lease.epoch,
            sender: *sender,
            grant: key.issue(claims).map_err(|_| JoinError::Grant)?,
            expires_at: now + ttl,
            places: self.look(|inner, now| inner.places(now, lease, &request.client)),
        })
    }
}

impl Inner {
    fn handle_joined(&mut self, now: Instant, request: &JoinRequest, joined: &Joined) {
        let lease = &joined.lease;
        self.world.handle_lease(now, lease);
        // Relays forget rooms in which nobody is; an order that a relay has carried out changes nothing.
        if joined.written || self.world.leases().members(&lease.room) == 0 {
            for seat in &lease.seats {
                self.send(&seat.relay, Command::Lease(order(lease.clone(), Cause::Join)));
            }
        }
        self.world.handle_joined(now, lease, &request.client);
    }

    /// Where the relays of a lease are, the best for this client first.
    fn places(&self, now: Instant, lease: &Lease, client: &Request) -> Vec<Place> {
        let registry = &self.world.registry;
        let mut seats = lease.seats.clone();
        placement::order_for(&registry.snapshot(now), client, &mut seats);
        let place = |seat: Seat| match registry.relay(&seat.relay) {
            Some(relay) => Place {
                region: relay.hello.place.region.clone(),
                zone: relay.hello.place.zone.clone(),
                addresses: reachable(relay),
                certificates: relay.hello.certificates.clone(),
                seat,
            },
            None => unknown(seat),
        };
        seats.into_iter().map(place).collect()
    }

    /// As [`Self::places`], for nobody in particular.
    pub(crate) fn seats_of(&self, now: Instant, lease: &Lease) -> Vec<Place> {
        self.places(now, lease, &Request::default())
    }
}

/// Where somebody has reached the relay; wherever it says, if nobody has yet.
fn reachable(relay: &Relay) -> Vec<Address> {
    let verified: Vec<_> = relay.verified().collect();
    if verified.is_empty() {
        relay.hello.addresses.clone()
    } else {
        verified
    }
}

fn unknown(seat: Seat) -> Place {
    Place {
        seat,
        region: Box::default(),
        zone: Box::default(),
        addresses: Vec::new(),
        certificates: Vec::new(),
    }
}

impl Emergency {
    fn sender(&mut self, room: &RoomName) -> Option<SenderId> {
        if !self.rooms.contains_key(room) && self.rooms.len() >= EMERGENCY_ROOMS {
            return None;
        }
        let taken = self.rooms.entry(room.clone()).or_default();
        // A random one, because another replica may be as lost as this one.
        let span = u16::MAX - LAST_SENDER;
        let tries = std::iter::repeat_with(|| LAST_SENDER + 1 + u16::from_ne_bytes(random()) % span).take(64);
        let free = tries.into_iter().find(|id| !taken.contains(id))?;
        taken.insert(free);
        SenderId::new(free)
    }
}
