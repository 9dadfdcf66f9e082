//! The paths of a call: which relays they lead to, which of them carries what we say, and which we are to move to.

use std::time::Duration;

use rand_core::CryptoRng;
use wzp_wire::{
    Epoch, Instant, RelayId,
    signal::{Announcement, Join, Kind as Signal, Move, Reason, RelaySeat, message, proto},
};

use super::{Call, Event};
use crate::{
    carrier::{Carrier, Why},
    paths::{Cause, Kind, Path, PathId, Role, Sending},
    voice::codec::Codecs,
};

/// The only request of a call that gets an answer.
const JOIN_REQUEST: u32 = 1;
/// The carrying relay has this much time to let us in before the others are asked as well.
const ALONE: Duration = Duration::from_secs(1);

/// Without any relay for so long, others may have been told that we left, and would take the same announcement for a
/// recording.
const AWAY: Duration = Duration::from_secs(8);

/// Where a path leads and how far we are there.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) id: PathId,
    /// `None`: a relay outside of any cluster.
    pub(super) relay: Option<RelayId>,
    pub(super) stage: Stage,
    /// What the relay was told last: that we hear the room through it.
    here: bool,
    /// The relay knows of others that serve the room. One that does not treats all its members alike.
    pub(super) clustered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Outside,
    AwaitJoined(Instant),
    Inside,
}

/// A path as the owner of a call sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathState {
    /// The path.
    pub path: Path,
    /// The relay at its end; `None`: one that is in no cluster.
    pub relay: Option<RelayId>,
    /// What it is for.
    pub role: Role,
    /// Round trip by the PINGs of the path set; `None` while there is one path only.
    pub rtt: Option<Duration>,
}

/// What the owner knows of the paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    id: PathId,
    carrier: Carrier,
    why: Why,
    cause: Cause,
    beside: Option<PathId>,
    standby: Option<PathId>,
}

impl<C: Codecs + Clone> Call<C> {
    /// A path that media can take from now on, to a relay that is in no cluster.
    pub fn add_path(&mut self, now: Instant, kind: Kind, carrier: Carrier, why: Why) -> PathId {
        self.add_route(now, None, kind, carrier, why)
    }

    /// A path to this relay of the set that serves the room. The first one that is added carries.
    pub fn add_relay(&mut self, now: Instant, relay: &RelayId, carrier: Carrier, why: Why) -> PathId {
        let id = self.add_route(now, Some(relay.clone()), Kind::Relay, carrier, why);
        self.seats.handle_up(relay, id);
        id
    }

    fn add_route(
        &mut self,
        now: Instant,
        relay: Option<RelayId>,
        kind: Kind,
        carrier: Carrier,
        why: Why,
    ) -> PathId {
        let id = self.paths.add(kind, carrier, why);
        self.routes.push(Route {
            id,
            relay,
            stage: Stage::Outside,
            here: false,
            clustered: false,
        });
        self.after_paths(now);
        id
    }

    /// The connection under this path is gone. Without any path what we say is lost.
    pub fn remove_path(&mut self, now: Instant, id: PathId) {
        let Some(at) = self.routes.iter().position(|route| route.id == id) else {
            return;
        };
        let route = self.routes.remove(at);
        if route.stage == Stage::Inside && !self.is_inside() {
            self.outside_since = Some(now);
        }
        self.paths.remove(now, id);
        self.roster.drop_path(now, id);
        if let Some(relay) = &route.relay {
            self.seats.handle_down(now, relay);
        }
        self.after_paths(now);
    }

    /// The relays that serve the room since this epoch. The owner is connecting to each of them, and says
    /// [`add_relay`](Self::add_relay) or [`handle_unreachable`](Self::handle_unreachable).
    pub fn set_relays(&mut self, epoch: Epoch, seats: Vec<RelaySeat>) {
        self.epoch = epoch;
        self.seats.begin(seats);
    }

    /// This relay of the set cannot be reached; it is tried again.
    pub fn handle_unreachable(&mut self, now: Instant, relay: &RelayId) {
        self.seats.handle_down(now, relay);
    }

    /// The relays that serve the room, as far as we know.
    pub fn relays(&self) -> Vec<RelaySeat> {
        self.seats.iter().cloned().collect()
    }

    /// Whether this relay serves the room, as far as we know.
    pub fn is_served_by(&self, relay: &RelayId) -> bool {
        self.seats.contains(relay)
    }

    /// The next relay to connect to.
    pub fn poll_dial(&mut self, now: Instant) -> Option<RelaySeat> {
        self.seats.poll_dial(now)
    }

    /// The next path whose connection is to be closed, once what was said over it has left.
    pub fn poll_hangup(&mut self) -> Option<PathId> {
        self.hangups.pop_front()
    }

    /// Says how datagrams travel on a path now, and why.
    pub fn set_carrier(&mut self, id: PathId, carrier: Carrier, why: Why) {
        self.paths.set_carrier(id, carrier, why);
        self.tell_path();
    }

    /// Whether a PING should leave on this path, besides those that its carrier needs.
    pub fn ping_due(&self, now: Instant, id: PathId) -> bool {
        self.paths.ping_due(now, id)
    }

    /// A PING left on this path, over what carries there.
    pub fn handle_ping(&mut self, now: Instant, id: PathId) {
        self.paths.handle_ping(now, id);
    }

    /// A PING on this path was answered.
    pub fn handle_pong(&mut self, now: Instant, id: PathId, rtt: Duration) {
        self.paths.handle_pong(now, id, rtt);
    }

    /// Every path, oldest first.
    pub fn paths(&self) -> impl Iterator<Item = PathState> {
        self.routes.iter().filter_map(|route| {
            Some(PathState {
                path: self.paths.path(route.id)?,
                relay: route.relay.clone(),
                role: self.paths.role(route.id)?,
                rtt: self.paths.rtt(route.id),
            })
        })
    }

    /// The path that carries.
    pub fn carrying(&self) -> Option<PathId> {
        self.paths.carrying()
    }

    /// Whether any relay has us in the room now.
    pub fn is_inside(&self) -> bool {
        self.routes.iter().any(|route| route.stage == Stage::Inside)
    }

    /// Since when the relays of the room serve it, as far as we know.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn path_timers<R: CryptoRng + ?Sized>(&mut self, now: Instant, rng: &mut R) {
        self.seats.handle_timeout(rng);
        while let Some(gone) = self.roster.poll_expired(now) {
            self.group.handle_member_left(now, gone);
        }
    }

    /// Call it every few milliseconds while there may be more than one path.
    pub fn handle_tick(&mut self, now: Instant) {
        self.paths.handle_timeout(now);
        if self.routes.len() > 1 || self.seats.is_moving() {
            self.after_paths(now);
        }
    }

    /// Says to relays what follows from the paths, and to the owner which are used.
    pub(super) fn after_paths(&mut self, now: Instant) {
        self.go_on_moving(now);
        self.ask_relays(now);
        self.say_where_we_hear();
        self.tell_path();
    }

    /// Asks every relay that may be asked by now to let us in.
    pub(super) fn ask_relays(&mut self, now: Instant) {
        let is_outside = |route: &Route| route.stage == Stage::Outside;
        if !self.wants_in || !self.routes.iter().any(is_outside) {
            return;
        }
        if self.outside_since.is_some_and(|since| now >= since + AWAY) {
            self.outside_since = None;
            self.rejoin.handle_come_back(now);
            return;
        }
        if self.rejoin.is_due() {
            return;
        }
        let Some(announcement) = Announcement::new(self.group.announcement().to_vec()) else {
            return;
        };
        // One answer first: it says who we are at all of them.
        let may_all = self.routes.iter().any(|route| match route.stage {
            Stage::Inside => true,
            Stage::AwaitJoined(since) => now >= since + ALONE,
            Stage::Outside => false,
        });
        let (carrying, to) = (self.paths.carrying(), self.paths.moving_to());
        for route in &mut self.routes {
            let here = carrying == Some(route.id) || to == Some(route.id);
            if route.stage != Stage::Outside || !(here || may_all) {
                continue;
            }
            route.stage = Stage::AwaitJoined(now);
            route.here = here;
            let join = Join {
                request: JOIN_REQUEST,
                room: self.config.room.clone(),
                announcement: announcement.clone(),
                echo: self.config.echo,
                standby: !here,
            };
            let join = message(Signal::Join(join.into()));
            self.signals.push_back((route.id, join));
        }
    }

    /// Tells each relay whether we hear the room through it, if that changed.
    fn say_where_we_hear(&mut self) {
        let (carrying, to) = (self.paths.carrying(), self.paths.moving_to());
        let is_here = |id| carrying == Some(id) || to == Some(id);
        // First there, then no longer here.
        for here in [true, false] {
            for route in &mut self.routes {
                if route.stage != Stage::Inside || route.here == here || is_here(route.id) != here {
                    continue;
                }
                route.here = here;
                if !route.clustered {
                    continue;
                }
                let carry = message(Signal::Carry(proto::Carry { here }));
                self.signals.push_back((route.id, carry));
            }
        }
    }

    /// A relay let us in.
    pub(super) fn handle_inside(&mut self, now: Instant, id: PathId, epoch: Epoch) {
        let Some(route) = self.routes.iter_mut().find(|route| route.id == id) else {
            return;
        };
        route.stage = Stage::Inside;
        route.clustered = epoch != Epoch::NONE;
        self.outside_since = None;
        if let Some(relay) = &route.relay {
            self.seats.handle_joined(relay);
        }
        self.paths.handle_joined(now, id);
        let carrying = self.paths.carrying();
        let is_inside = |route: &Route| route.stage == Stage::Inside && Some(route.id) == carrying;
        if !self.routes.iter().any(is_inside) {
            self.paths.prefer(now, id, Cause::Silent);
        }
    }

    /// The relay at the end of this path has other plans than we.
    pub(super) fn give_up(&mut self, now: Instant, id: PathId) {
        self.hangups.push_back(id);
        self.remove_path(now, id);
    }

    pub(super) fn route(&self, id: PathId) -> Option<&Route> {
        self.routes.iter().find(|route| route.id == id)
    }

    pub(super) fn relay_of(&self, id: PathId) -> Option<RelayId> {
        self.route(id)?.relay.clone()
    }

    /// A relay refused us or says goodbye: with another way there, that is no end.
    pub(super) fn handle_refused(&mut self, now: Instant, id: PathId, reason: Reason, text: String) {
        let came_in = self.me.is_some() && !self.seats.is_empty() && reason != Reason::RoomDeleted;
        if self.routes.len() > 1 || self.seats.has_hope() || came_in {
            let relay = self.relay_of(id);
            let is_news = relay
                .as_ref()
                .is_none_or(|relay| self.seats.handle_refused(relay, reason));
            if is_news {
                self.events.push_back(Event::PathRefused { relay, reason, text });
            }
            self.give_up(now, id);
        } else {
            self.events.push_back(Event::Refused { reason, text });
        }
    }

    /// `None` when the order makes no sense.
    pub(super) fn handle_move(&mut self, now: Instant, order: Move) -> Option<()> {
        if order.room != self.config.room || order.epoch < self.epoch || self.seats.is_empty() {
            return None;
        }
        // Every relay of the set says so. One that stops while no control plane answers has no newer epoch to show.
        let leaves = order.deadline_ms > 0 && !self.seats.are(&order.seats);
        if order.epoch > self.epoch || leaves {
            let spread = Duration::from_millis(order.spread_ms.into());
            self.serve(now, order.epoch, order.seats, spread);
        }
        Some(())
    }

    /// Somebody else than a relay knows by which relays the room is served; what is not newer is passed over.
    pub fn handle_relays(&mut self, now: Instant, epoch: Epoch, seats: Vec<RelaySeat>) {
        if epoch > self.epoch {
            self.serve(now, epoch, seats, Duration::ZERO);
        }
    }

    fn serve(&mut self, now: Instant, epoch: Epoch, seats: Vec<RelaySeat>, spread: Duration) {
        self.epoch = epoch;
        self.events.push_back(Event::Moving {
            epoch,
            relays: seats.iter().map(|seat| seat.relay.clone()).collect(),
        });
        let routes = &self.routes;
        let up = |relay: &RelayId| {
            let there = routes.iter().find(|route| route.relay.as_ref() == Some(relay));
            there.map(|route| route.id)
        };
        self.seats.change(now, seats, spread, up);
        self.after_paths(now);
    }

    fn go_on_moving(&mut self, now: Instant) {
        if !self.seats.is_moving() || self.paths.moving_to().is_some() {
            return;
        }
        let is_right = |route: &Route| {
            route
                .relay
                .as_ref()
                .is_some_and(|relay| self.seats.carries(relay))
        };
        let carrying = self.paths.carrying();
        if self
            .routes
            .iter()
            .any(|route| Some(route.id) == carrying && is_right(route))
        {
            self.seats.end_move();
            self.leave_the_rest(now);
        } else if let Some(to) = self.routes.iter().find(|route| is_right(route)) {
            self.paths.begin_move(now, to.id);
        }
    }

    /// Leaves the relays that serve the room no longer.
    fn leave_the_rest(&mut self, now: Instant) {
        let is_left = |route: &Route| {
            route
                .relay
                .as_ref()
                .is_some_and(|relay| !self.seats.contains(relay))
        };
        let left: Vec<PathId> = self
            .routes
            .iter()
            .filter(|route| is_left(route))
            .map(|route| route.id)
            .collect();
        for id in left {
            self.signals
                .push_back((id, message(Signal::Leave(proto::Leave {}))));
            self.give_up(now, id);
        }
    }

    /// An event, unless the owner knows it already.
    fn tell_path(&mut self) {
        let (carrying, beside) = match self.paths.sending() {
            Sending::On(id) => (self.paths.path(id), None),
            Sending::Both(id, beside) => (self.paths.path(id), Some(beside)),
            Sending::Nowhere => (None, None),
        };
        let now = carrying.map(|path| Told {
            id: path.id,
            carrier: path.carrier,
            why: path.why,
            cause: self.paths.cause(),
            beside,
            standby: self.paths.standby(),
        });
        if now == self.told_path {
            return;
        }
        self.told_path = now;
        let Some((told, path)) = now.zip(carrying) else {
            return;
        };
        self.events.push_back(Event::Path {
            id: told.id,
            kind: path.kind,
            carrier: told.carrier,
            why: told.why,
            relay: self.relay_of(told.id),
            cause: told.cause,
            both: told.beside.is_some(),
            standby: told.standby.and_then(|id| self.relay_of(id)),
        });
    }
}
