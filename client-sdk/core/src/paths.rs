//! The set of paths of a call, and which of them media goes out on now, as a value.
//!
//! Media packets are sealed end to end and numbered, so any path may carry any packet, and the receiver's replay window
//! drops what comes twice. Switching is therefore nothing but another value of [`Sending`].
//!
//! One path carries, the others stand by. While media flows the carrying path is asked every [`PING_EVERY`]. When two
//! questions are late, or nothing was heard for [`SILENT`] although something was due, media goes out on both; the path
//! that is heard while the carrying one is not carries from then on. A path that was given up is not used before it
//! answers again, and each switch soon after another needs twice the silence, so that two bad paths do not take turns.

mod health;
mod path;

use std::time::Duration;

use wzp_wire::Instant;

pub use self::path::{Cause, Kind, Path, PathId, Role, Sending};

use self::health::Health;
use crate::carrier::{Carrier, Why};

/// Between two questions to the path that carries, and to its stand-in while both are sent on.
pub const PING_EVERY: Duration = Duration::from_millis(200);
/// Nothing heard for this long although something was due: media goes out on both.
pub const SILENT: Duration = Duration::from_millis(400);
/// Between two questions to a path that stands by or was given up.
const STANDBY_PING: Duration = Duration::from_secs(1);
/// So many late answers: media goes out on both.
const LATE: usize = 2;
/// A path that carries nothing of ours any more, although it is heard, is given up after this long without an answer.
const DEAF: Duration = Duration::from_secs(2);
/// So many answers make a path good again.
const PROOF: u32 = 3;
/// Both paths carry for at least so long.
const CALM: Duration = Duration::from_millis(600);
/// Media within this time: a call is under way.
const FLOW: Duration = Duration::from_secs(2);
/// Switches within this time of each other need more silence each.
const RECENT: Duration = Duration::from_secs(30);
const MOST_DOUBLINGS: u32 = 4;
/// After a move both paths carry for at least this long once the new one is heard.
const MOVE_OVERLAP: Duration = Duration::from_millis(100);
/// Media that came over the old path within this time is awaited over the new one, for so long at most.
const MOVE_MEDIA: Duration = Duration::from_millis(400);
const MOVE_PATIENCE: Duration = Duration::from_secs(2);
/// A longer pause between two looks is our own.
const OWN_PAUSE: Duration = Duration::from_millis(200);

/// All paths of a call.
#[derive(Debug)]
pub struct Set {
    paths: Vec<Entry>,
    next: u32,
    carrying: Option<PathId>,
    cause: Cause,
    beside: Option<Beside>,
    /// When the doubt about the carrying path began, with or without another to take.
    doubt: Option<(Instant, Cause)>,
    /// Since when media flows, and when it last did.
    flow: Option<(Instant, Instant)>,
    switched_at: Option<Instant>,
    /// How often the time between two switches was short, lately.
    doublings: u32,
    looked_at: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    path: Path,
    health: Health,
}

/// The second path that media goes out on.
#[derive(Debug, Clone, Copy)]
struct Beside {
    id: PathId,
    since: Instant,
    purpose: Purpose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The carrying path may be dead.
    Rescue,
    /// The carrying path is to be left.
    Move {
        /// When the new path was first heard.
        heard: Option<Instant>,
    },
}

impl Default for Set {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            next: 0,
            carrying: None,
            cause: Cause::First,
            beside: None,
            doubt: None,
            flow: None,
            switched_at: None,
            doublings: 0,
            looked_at: None,
        }
    }
}

impl Set {
    /// Adds a path; the first one carries at once, another one when it is needed and joined.
    pub fn add(&mut self, kind: Kind, carrier: Carrier, why: Why) -> PathId {
        let id = PathId(self.next);
        self.next += 1;
        let path = Path {
            id,
            kind,
            carrier,
            why,
            heard: None,
        };
        self.paths.push(Entry {
            path,
            health: Health::default(),
        });
        if self.carrying.is_none() {
            self.carrying = Some(id);
        }
        id
    }

    /// Forgets a path. When it carried, the best of the others does from now on.
    pub fn remove(&mut self, now: Instant, id: PathId) {
        self.paths.retain(|entry| entry.path.id != id);
        self.beside = self.beside.filter(|beside| beside.id != id);
        if self.carrying != Some(id) {
            return;
        }
        let cause = if self.moving_to().is_some() {
            Cause::Moved
        } else {
            Cause::Lost
        };
        let heir = match self.beside {
            Some(beside) => Some(beside.id),
            None => self
                .best_but(id)
                .or_else(|| self.paths.first().map(|entry| entry.path.id)),
        };
        match heir {
            Some(heir) => self.switch(now, heir, cause),
            None => (self.carrying, self.doubt) = (None, None),
        }
    }

    /// The relay at the end of this path let us into the room, or back into it.
    pub fn handle_joined(&mut self, now: Instant, id: PathId) {
        if let Some(health) = self.health(id) {
            health.joined = true;
            health.heard_at = Some(now);
        }
    }

    /// We are not in the room at the end of this path any more, or never will be. The carrying path is changed by
    /// [`Self::prefer`] alone.
    pub fn handle_outside(&mut self, id: PathId) {
        if let Some(health) = self.health(id) {
            health.joined = false;
        }
        self.beside = self.beside.filter(|beside| beside.id != id);
    }

    /// Media of others came over this path.
    pub fn handle_media(&mut self, now: Instant, id: PathId) {
        self.flows(now);
        if let Some(health) = self.health(id) {
            health.heard_at = Some(now);
            health.media_at = Some(now);
        }
    }

    /// Media of ours left.
    pub fn handle_sent(&mut self, now: Instant) {
        self.flows(now);
    }

    /// A PING left on this path.
    pub fn handle_ping(&mut self, now: Instant, id: PathId) {
        if let Some(health) = self.health(id) {
            health.handle_ping(now);
        }
    }

    /// A PING on this path was answered, `rtt` after it left.
    pub fn handle_pong(&mut self, now: Instant, id: PathId, rtt: Duration) {
        let doubt = self.doubt.is_some();
        let Some(health) = self.health(id) else { return };
        health.handle_pong(now, rtt);
        // Without another way, one answer is enough.
        if doubt || health.answers >= PROOF {
            health.failed_at = None;
        }
    }

    /// The carrier of a path changed.
    pub fn set_carrier(&mut self, id: PathId, carrier: Carrier, why: Why) {
        if let Some(entry) = self.find(id) {
            entry.path.carrier = carrier;
            entry.path.why = why;
        }
    }

    /// This path carries from now on, without any ado.
    pub fn prefer(&mut self, now: Instant, id: PathId, cause: Cause) {
        if self.path(id).is_some() && self.carrying != Some(id) {
            self.switch(now, id, cause);
        }
    }

    /// This path is to carry: both do until it was heard, and for a moment more.
    pub fn begin_move(&mut self, now: Instant, to: PathId) {
        if self.path(to).is_some() && self.carrying != Some(to) {
            self.beside = Some(Beside {
                id: to,
                since: now,
                purpose: Purpose::Move { heard: None },
            });
        }
    }

    /// Call it every few milliseconds: decides on which path media goes out.
    pub fn handle_timeout(&mut self, now: Instant) {
        let pause = self.looked_at.replace(now).map(|at| now.duration_since(at));
        if pause.is_some_and(|pause| pause > OWN_PAUSE) {
            for entry in &mut self.paths {
                entry.health.handle_pause(now);
            }
        }
        self.flow = self.flow.filter(|(_, last)| now < *last + FLOW);
        if self.switched_at.is_some_and(|at| now >= at + RECENT) {
            self.doublings = 0;
        }
        let Some(carrying) = self.carrying.filter(|_| self.paths.len() > 1) else {
            (self.beside, self.doubt) = (None, None);
            return;
        };
        self.look_at_carrying(now, carrying);
        match self.beside {
            Some(beside) => match beside.purpose {
                Purpose::Rescue => self.rescue(now, carrying, beside),
                Purpose::Move { heard } => self.go_on_moving(now, carrying, beside, heard),
            },
            None => self.look_for_another(now, carrying),
        }
    }

    /// Whether a PING should leave on this path for the sake of this set; never while there is one path only.
    pub fn ping_due(&self, now: Instant, id: PathId) -> bool {
        let Some(entry) = self
            .entry(id)
            .filter(|_| self.paths.len() > 1 && self.flow.is_some())
        else {
            return false;
        };
        let often = self.carrying == Some(id)
            || self.beside.is_some_and(|beside| beside.id == id)
            || self.doubt.is_some();
        let every = if often { PING_EVERY } else { STANDBY_PING };
        entry.health.asked_at.is_none_or(|at| now >= at + every)
    }

    /// Which path media goes out on.
    pub fn sending(&self) -> Sending {
        match (self.carrying, self.beside) {
            (None, _) => Sending::Nowhere,
            (Some(carrying), None) => Sending::On(carrying),
            (Some(carrying), Some(beside)) => Sending::Both(carrying, beside.id),
        }
    }

    /// Why the path carries that does, or why media goes out on two.
    pub fn cause(&self) -> Cause {
        match (self.beside, self.doubt) {
            (Some(beside), _) if beside.purpose != Purpose::Rescue => Cause::Moved,
            (Some(_), Some((_, cause))) => cause,
            _ => self.cause,
        }
    }

    /// The path that carries.
    pub fn carrying(&self) -> Option<PathId> {
        self.carrying
    }

    /// The path that is to carry once it is heard.
    pub fn moving_to(&self) -> Option<PathId> {
        self.beside
            .filter(|beside| beside.purpose != Purpose::Rescue)
            .map(|beside| beside.id)
    }

    /// The path that would take over.
    pub fn standby(&self) -> Option<PathId> {
        match (self.carrying, self.beside) {
            (_, Some(beside)) => Some(beside.id),
            (Some(carrying), None) => self.best_but(carrying),
            (None, None) => None,
        }
    }

    /// What a path is for now; `None` after it was removed.
    pub fn role(&self, id: PathId) -> Option<Role> {
        let health = &self.entry(id)?.health;
        Some(match self.carrying == Some(id) {
            true => Role::Carries,
            false if health.joined && health.failed_at.is_none() => Role::Standby,
            false => Role::Waits,
        })
    }

    /// Round trip over this path by the PINGs that this set asked for.
    pub fn rtt(&self, id: PathId) -> Option<Duration> {
        self.entry(id)?.health.rtt()
    }

    /// The path of this name, unless it was removed.
    pub fn path(&self, id: PathId) -> Option<Path> {
        self.entry(id).map(Entry::shown)
    }

    /// Every path, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Path> {
        self.paths.iter().map(Entry::shown)
    }

    fn flows(&mut self, now: Instant) {
        if self.flow.is_none() {
            // What was owed when the last words were said is not missed now.
            self.paths.iter_mut().for_each(|entry| entry.health.forgive());
        }
        let since = self.flow.map_or(now, |(since, _)| since);
        self.flow = Some((since, now));
    }

    /// Doubts the carrying path, or trusts it again.
    fn look_at_carrying(&mut self, now: Instant, carrying: PathId) {
        let flow = self.flow;
        let Some(health) = self.entry(carrying).map(|entry| entry.health) else {
            return;
        };
        let waited = flow.map(|(since, _)| now.duration_since(since));
        let silence = waited.map_or(Duration::ZERO, |waited| waited.min(health.silence(now)));
        let found = if health.unanswered(now) >= LATE && flow.is_some() {
            Some(Cause::Unanswered)
        } else if silence >= SILENT && health.is_due(now) {
            Some(Cause::Silent)
        } else {
            None
        };
        match (self.doubt, found) {
            (None, Some(cause)) => {
                self.doubt = Some((now, cause));
                for entry in &mut self.paths {
                    entry.health.answers = 0;
                }
            }
            // It only got worse.
            (Some((since, Cause::Unanswered)), Some(Cause::Silent)) => {
                self.doubt = Some((since, Cause::Silent));
            }
            (Some((since, _)), None) => {
                let calm = now >= since + CALM && health.answers >= PROOF;
                self.doubt = self.doubt.filter(|_| !calm);
            }
            _ => {}
        }
    }

    fn look_for_another(&mut self, now: Instant, carrying: PathId) {
        if self.doubt.is_some()
            && let Some(id) = self.best_but(carrying)
        {
            self.beside = Some(Beside {
                id,
                since: now,
                purpose: Purpose::Rescue,
            });
        }
    }

    fn rescue(&mut self, now: Instant, carrying: PathId, beside: Beside) {
        let Some((_, cause)) = self.doubt else {
            self.beside = None;
            return;
        };
        let (Some(here), Some(there)) = (self.entry(carrying), self.entry(beside.id)) else {
            return;
        };
        let (here, there) = (here.health, there.health);
        let doubled = 2_u32.pow(self.doublings);
        let silent = here.silence(now) >= SILENT * doubled;
        // There is no hurry: what we say goes out on both.
        let unanswered = now >= beside.since + DEAF * doubled && here.answers == 0;
        let deaf = unanswered && there.answers > 1;
        if there.heard_since(beside.since) && (silent || deaf) {
            self.switch(now, beside.id, cause);
        }
    }

    fn go_on_moving(&mut self, now: Instant, carrying: PathId, beside: Beside, heard: Option<Instant>) {
        let (Some(here), Some(there)) = (self.entry(carrying), self.entry(beside.id)) else {
            return;
        };
        let (here, there) = (here.health, there.health);
        // Who speaks now is to be heard through the new relay before the old one is left.
        let speaks = here.media_at.is_some_and(|at| now < at + MOVE_MEDIA) && self.doubt.is_none();
        let media = there.media_at.is_some_and(|at| at > beside.since);
        let late = now >= beside.since + MOVE_PATIENCE;
        let is_heard = there.joined && there.heard_since(beside.since) && (media || !speaks || late);
        let heard = heard.or_else(|| is_heard.then_some(now));
        let overlap = there
            .rtt()
            .map_or(MOVE_OVERLAP, |rtt| (rtt * 2).max(MOVE_OVERLAP));
        if heard.is_some_and(|at| now >= at + overlap) {
            self.switch(now, beside.id, Cause::Moved);
        } else {
            self.beside = Some(Beside {
                purpose: Purpose::Move { heard },
                ..beside
            });
        }
    }

    fn switch(&mut self, now: Instant, to: PathId, cause: Cause) {
        if let Some(from) = self.carrying
            && cause != Cause::Moved
        {
            let soon = self.switched_at.is_some_and(|at| now < at + RECENT);
            self.doublings = if soon {
                (self.doublings + 1).min(MOST_DOUBLINGS)
            } else {
                0
            };
            self.switched_at = Some(now);
            if let Some(health) = self.health(from) {
                health.failed_at = Some(now);
                health.answers = 0;
            }
        }
        if let Some(health) = self.health(to) {
            health.failed_at = None;
        }
        (self.carrying, self.cause) = (Some(to), cause);
        (self.beside, self.doubt) = (None, None);
    }

    /// The best path beside this one that media may take.
    fn best_but(&self, id: PathId) -> Option<PathId> {
        let may =
            |entry: &&Entry| entry.path.id != id && entry.health.joined && entry.health.failed_at.is_none();
        let others = self.paths.iter().filter(may);
        let best = others.min_by_key(|entry| entry.health.rtt().unwrap_or(Duration::MAX));
        best.map(|entry| entry.path.id)
    }

    fn entry(&self, id: PathId) -> Option<&Entry> {
        self.paths.iter().find(|entry| entry.path.id == id)
    }

    fn find(&mut self, id: PathId) -> Option<&mut Entry> {
        self.paths.iter_mut().find(|entry| entry.path.id == id)
    }

    fn health(&mut self, id: PathId) -> Option<&mut Health> {
        self.find(id).map(|entry| &mut entry.health)
    }
}

impl Entry {
    fn shown(&self) -> Path {
        Path {
            heard: self.health.heard_at,
            ..self.path
        }
    }
}

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
