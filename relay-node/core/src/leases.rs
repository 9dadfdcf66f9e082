//! Which relays serve a room: the highest epoch that this relay has seen of each, from whomever, and what follows.
//!
//! Under a lease a relay forwards only as long as it has seen no newer one. One without a seat in the newest lease goes
//! on until its members have moved, at most until a deadline; one that has only heard of a newer epoch stops at once.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use wzp_wire::{Epoch, Instant, RelayId, RoomName, signal::MAX_SEATS};

/// How long members have to move where a lease names no time.
pub const AT_ONCE: Duration = Duration::from_secs(2);
/// How long members stay, unheard, while a newer lease is known by its epoch only.
const FENCED_TIME: Duration = Duration::from_secs(3);
/// How long a room without members is remembered: as long as a grant for it may be good.
const REMEMBERED: Duration = Duration::from_secs(6 * 3_600);

/// One relay of the set that serves a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Which relay.
    pub relay: RelayId,
    /// Otherwise it is a warm standby.
    pub carries: bool,
}

/// These relays serve a room from this epoch on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    epoch: Epoch,
    seats: Vec<Seat>,
}

/// No set of relays. Who sent it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Not 1 to [`MAX_SEATS`].
    #[error("a lease has 1 to 16 seats")]
    Seats,
    /// The same relay twice.
    #[error("a lease names a relay twice")]
    Twice,
    /// [`Epoch::NONE`].
    #[error("a lease has an epoch above 0")]
    Epoch,
}

impl Lease {
    /// Puts the carrying seats first.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn new(epoch: Epoch, mut seats: Vec<Seat>) -> Result<Self, LeaseError> {
        if epoch == Epoch::NONE {
            return Err(LeaseError::Epoch);
        }
        if !(1..=MAX_SEATS).contains(&seats.len()) {
            return Err(LeaseError::Seats);
        }
        for (at, seat) in seats.iter().enumerate() {
            if seats.iter().take(at).any(|other| other.relay == seat.relay) {
                return Err(LeaseError::Twice);
            }
        }
        seats.sort_by_key(|seat| !seat.carries);
        Ok(Self { epoch, seats })
    }

    /// As a grant names it: the carrying relays first, of which there is one as far as anybody knows.
    fn of_grant(epoch: Epoch, relays: &[RelayId]) -> Option<Self> {
        let seat = |(at, relay): (usize, &RelayId)| Seat {
            relay: relay.clone(),
            carries: at == 0,
        };
        Self::new(epoch, relays.iter().enumerate().map(seat).collect()).ok()
    }

    /// Since when.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The carrying relays first.
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// Whether `relay` is of the set.
    pub fn names(&self, relay: &RelayId) -> bool {
        self.seats.iter().any(|seat| seat.relay == *relay)
    }
}

/// How this relay stands to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was ever heard of it, or it is forgotten.
    Unknown,
    /// This relay has a seat under the newest lease.
    Serves,
    /// Its members are to move until then; it forwards as long.
    Leaves {
        /// When it stops.
        until: Instant,
    },
    /// Others serve it: its members were told, and had time.
    Left,
    /// A newer lease is known by its epoch only.
    Fenced,
    /// The room was deleted.
    Revoked,
}

/// What follows from news of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: it is old, or known.
    Nothing,
    /// This relay serves it, with others than before or from a newer epoch on: members are told, and peers.
    Serve,
    /// Members are told to move; [`Leases::poll_over`] says when it is over.
    Leave,
    /// Nothing may be forwarded from now on.
    Fence,
    /// The members are told goodbye.
    Revoke,
}

/// Why a grant does not open a room at this relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotServed {
    /// It is of an epoch that is over.
    #[error("the grant is of a time when other relays served this room; get another one")]
    Stale,
    /// It names other relays, and this one knows nothing of the room.
    #[error("the grant is for other relays")]
    OtherRelays,
    /// It names no relay.
    #[error("this relay does not serve this room")]
    Unknown,
}

/// What a relay knows of all rooms.
#[derive(Debug)]
pub struct Leases {
    me: RelayId,
    rooms: BTreeMap<RoomName, Known>,
    /// Without a control plane, all members are to move until then.
    drained_until: Option<Instant>,
    /// No room's time to move is over before.
    next_over: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Known {
    seen: Epoch,
    lease: Option<Lease>,
    /// When members have to be gone.
    until: Option<Instant>,
    is_over: bool,
    is_revoked: bool,
    empty_since: Option<Instant>,
}

impl Leases {
    /// Of the relay `me`, which knows no room yet.
    pub fn new(me: RelayId) -> Self {
        Self {
            me,
            rooms: BTreeMap::new(),
            drained_until: None,
            next_over: None,
        }
    }

    /// Whose they are.
    pub fn me(&self) -> &RelayId {
        &self.me
    }

    /// A control plane says which relays serve `room`. Members have `deadline` to move.
    pub fn handle_lease(
        &mut self,
        now: Instant,
        room: &RoomName,
        lease: Lease,
        deadline: Duration,
    ) -> Decision {
        let deadline = if deadline.is_zero() { AT_ONCE } else { deadline };
        let known = self.rooms.get(room);
        let seen = known.map_or(Epoch::NONE, |known| known.seen);
        let is_known = known.is_some_and(|known| known.lease.as_ref() == Some(&lease));
        let is_dead = known.is_some_and(|known| known.is_revoked && lease.epoch == seen);
        if lease.epoch < seen || is_known || is_dead {
            return Decision::Nothing;
        }
        self.adopt(now, room, lease, deadline)
    }

    /// The room was deleted at `epoch`.
    pub fn handle_revoke(&mut self, now: Instant, room: &RoomName, epoch: Epoch) -> Decision {
        let known = self
            .rooms
            .entry(room.clone())
            .or_insert_with(|| Known::new(now, Epoch::NONE));
        if epoch < known.seen || known.is_revoked && epoch == known.seen {
            return Decision::Nothing;
        }
        *known = Known {
            is_revoked: true,
            ..Known::new(now, epoch)
        };
        Decision::Revoke
    }

    /// Somebody wants to enter `room` with a grant of `epoch` for `relays`, the carrying ones first. A grant that is
    /// newer than what is known tells of a lease, whether it opens the room here or not.
    ///
    /// # Errors
    /// Why it does not, beside what follows for those who are there.
    pub fn handle_grant(
        &mut self,
        now: Instant,
        room: &RoomName,
        epoch: Epoch,
        relays: &[RelayId],
    ) -> (Decision, Result<(), NotServed>) {
        let decision = match Lease::of_grant(epoch, relays) {
            Some(lease) if self.is_news(room, &lease) => self.adopt(now, room, lease, AT_ONCE),
            _ => Decision::Nothing,
        };
        let refusal = match self.standing(now, room) {
            Standing::Serves => return (decision, Ok(())),
            Standing::Unknown if relays.is_empty() => NotServed::Unknown,
            Standing::Unknown => NotServed::OtherRelays,
            _ if epoch < self.seen(room) => NotServed::Stale,
            _ if relays.contains(&self.me) => NotServed::Unknown,
            _ => NotServed::OtherRelays,
        };
        (decision, Err(refusal))
    }

    /// A peer has seen `epoch` of `room`.
    pub fn handle_peer_epoch(&mut self, now: Instant, room: &RoomName, epoch: Epoch) -> Decision {
        if epoch <= self.seen(room) {
            return Decision::Nothing;
        }
        let known = self
            .rooms
            .entry(room.clone())
            .or_insert_with(|| Known::new(now, epoch));
        known.seen = epoch;
        known.until = Some(now + FENCED_TIME);
        known.is_over = false;
        self.expect_over(now + FENCED_TIME);
        Decision::Fence
    }

    /// `room` has so many members of ours now.
    pub fn handle_members(&mut self, now: Instant, room: &RoomName, members: usize) {
        if let Some(known) = self.rooms.get_mut(room) {
            known.empty_since = match members {
                0 => Some(known.empty_since.unwrap_or(now)),
                _ => None,
            };
        }
    }

    /// This relay stops and no control plane says where its members go: they go to the other relays of their rooms.
    /// The rooms.
    pub fn handle_drain_alone(&mut self, now: Instant, deadline: Duration) -> Vec<RoomName> {
        let until = now + deadline;
        self.drained_until = Some(until);
        self.expect_over(until);
        let served: Vec<_> = self.serving(now).map(|(room, _)| room.clone()).collect();
        for room in &served {
            if let Some(known) = self.rooms.get_mut(room) {
                known.until = Some(until);
            }
        }
        served
    }

    /// It does not stop after all. The rooms that it goes on to serve.
    pub fn handle_undrain(&mut self, now: Instant) -> Vec<RoomName> {
        self.drained_until = None;
        let Self { me, rooms, .. } = self;
        let ours = rooms.iter_mut().filter(|(_, known)| {
            let lease = known.lease.as_ref().filter(|lease| lease.epoch == known.seen);
            lease.is_some_and(|lease| lease.names(me)) && known.until.is_some_and(|until| now < until)
        });
        let kept = ours.map(|(room, known)| {
            known.until = None;
            room.clone()
        });
        kept.collect()
    }

    /// The next room whose time to move is over: whoever is there still is told goodbye.
    pub fn poll_over(&mut self, now: Instant) -> Option<RoomName> {
        self.next_over.filter(|&next| next <= now)?;
        let due = |known: &Known| !known.is_over && known.until.is_some_and(|until| until <= now);
        match self.rooms.iter_mut().find(|(_, known)| due(known)) {
            Some((room, known)) => {
                known.is_over = true;
                Some(room.clone())
            }
            None => {
                self.next_over = self.poll_timeout();
                None
            }
        }
    }

    /// The next room that nobody has used for long, forgotten now.
    pub fn poll_forgotten(&mut self, now: Instant) -> Option<RoomName> {
        let long = |since: Instant| now.duration_since(since) >= REMEMBERED;
        let (room, _) = self
            .rooms
            .iter()
            .find(|(_, known)| known.empty_since.is_some_and(long))?;
        let room = room.clone();
        self.rooms.remove(&room);
        Some(room)
    }

    /// When [`Self::poll_over`] has something next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.rooms.values().filter(|known| !known.is_over);
        waiting.filter_map(|known| known.until).min()
    }

    /// How this relay stands to `room`.
    pub fn standing(&self, now: Instant, room: &RoomName) -> Standing {
        let Some(known) = self.rooms.get(room) else {
            return Standing::Unknown;
        };
        if known.is_revoked {
            return Standing::Revoked;
        }
        let Some(lease) = known.lease.as_ref().filter(|lease| lease.epoch == known.seen) else {
            return Standing::Fenced;
        };
        match known.until {
            Some(until) if now < until => Standing::Leaves { until },
            Some(_) => Standing::Left,
            None if lease.names(&self.me) => Standing::Serves,
            None => Standing::Left,
        }
    }

    /// The epoch under which packets of `room` are forwarded; `None`: they are not.
    pub fn forwards_under(&self, now: Instant, room: &RoomName) -> Option<Epoch> {
        match self.standing(now, room) {
            Standing::Serves | Standing::Leaves { .. } => Some(self.seen(room)),
            Standing::Unknown | Standing::Left | Standing::Fenced | Standing::Revoked => None,
        }
    }

    /// The highest epoch seen of `room`.
    pub fn seen(&self, room: &RoomName) -> Epoch {
        self.rooms.get(room).map_or(Epoch::NONE, |known| known.seen)
    }

    /// The newest lease of `room`, unless only its epoch is known.
    pub fn lease(&self, room: &RoomName) -> Option<&Lease> {
        let known = self.rooms.get(room)?;
        known.lease.as_ref().filter(|lease| lease.epoch == known.seen)
    }

    /// The other relays of the newest lease.
    pub fn partners(&self, room: &RoomName) -> impl Iterator<Item = &RelayId> {
        let seats = self.lease(room).map_or(&[][..], Lease::seats);
        seats
            .iter()
            .map(|seat| &seat.relay)
            .filter(|relay| **relay != self.me)
    }

    /// Every room that is known, with the highest epoch seen.
    pub fn rooms(&self) -> impl Iterator<Item = (&RoomName, Epoch)> {
        self.rooms.iter().map(|(room, known)| (room, known.seen))
    }

    /// Every room that this relay serves, with its lease.
    pub fn serving(&self, now: Instant) -> impl Iterator<Item = (&RoomName, &Lease)> {
        let serves = move |room: &RoomName| self.standing(now, room) == Standing::Serves;
        let rooms = self.rooms.iter().filter(move |(room, _)| serves(room));
        rooms.filter_map(|(room, known)| Some((room, known.lease.as_ref()?)))
    }

    /// A grant may tell of a lease that nobody else has told of.
    fn is_news(&self, room: &RoomName, lease: &Lease) -> bool {
        match self.rooms.get(room) {
            None => true,
            Some(known) if lease.epoch == known.seen => {
                !known.is_revoked && known.lease.as_ref().is_none_or(|held| held.epoch < known.seen)
            }
            Some(known) => lease.epoch > known.seen,
        }
    }

    /// Whoever has no seat remembers the lease too, so as not to follow an older one later.
    fn adopt(&mut self, now: Instant, room: &RoomName, lease: Lease, deadline: Duration) -> Decision {
        let had_members = match self.standing(now, room) {
            Standing::Serves | Standing::Leaves { .. } | Standing::Fenced => true,
            Standing::Unknown | Standing::Left | Standing::Revoked => false,
        };
        let (until, decision) = match (lease.names(&self.me), had_members) {
            (true, _) => (self.drained_until, Decision::Serve),
            (false, true) => (Some(now + deadline), Decision::Leave),
            (false, false) => (None, Decision::Nothing),
        };
        let known = self.rooms.get(room);
        let next = Known {
            until,
            empty_since: known.map_or(Some(now), |known| known.empty_since),
            lease: Some(lease.clone()),
            ..Known::new(now, lease.epoch)
        };
        self.rooms.insert(room.clone(), next);
        if let Some(until) = until {
            self.expect_over(until);
        }
        decision
    }

    fn expect_over(&mut self, until: Instant) {
        self.next_over = Some(self.next_over.map_or(until, |next| next.min(until)));
    }
}

impl Known {
    fn new(now: Instant, seen: Epoch) -> Self {
        Self {
            seen,
            lease: None,
            until: None,
            is_over: false,
            is_revoked: false,
            empty_since: Some(now),
        }
    }
}
