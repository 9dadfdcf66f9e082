//! Emptying a relay: first a plan that can be looked at, then room by room, with a way back until it is over.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use rand_core::Rng;
use wzp_wire::{Instant, RelayId, RoomName};

use crate::{
    leases::{self, Cause, Lease, Write},
    load::Duty,
    placement::Snapshot,
};

/// All members are moved within this time, unless the drain says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Beyond the deadline, until the relay stops.
pub const HARD_STOP: Duration = Duration::from_secs(2);
/// Members that move in a second.
const MEMBERS_PER_SECOND: u32 = 100;
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(6);
/// From when a member starts to when it is there, and the old way is not used any more.
const ONE_MOVE: Duration = Duration::from_millis(1_500);

/// One room of a drain.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is to be written, if the row is still as it was.
    pub write: Write,
    /// Members who will move.
    pub members: u32,
    /// Since the start of the drain.
    pub after: Duration,
    /// How long members take to start.
    pub spread: Duration,
}

/// What a drain would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Whom it empties.
    pub relay: RelayId,
    /// In order.
    pub steps: Vec<Step>,
    /// Rooms that have nowhere to go.
    pub stuck: Vec<RoomName>,
    /// When the last member has moved, as far as can be told.
    pub eta: Duration,
    /// When whoever is left is told goodbye.
    pub deadline: Duration,
}

impl Plan {
    /// Members that each relay will carry more, by name.
    pub fn targets(&self) -> BTreeMap<&RelayId, u32> {
        let mut targets = BTreeMap::new();
        for step in &self.steps {
            if let Some(seat) = step.write.lease.seats.first() {
                *targets.entry(&seat.relay).or_insert(0) += step.members;
            }
        }
        targets
    }
}

/// How long it takes until all of `members` have started: a hundred a second, within half a second and 6 s.
pub fn spread(members: u32) -> Duration {
    let evenly = Duration::from_millis(u64::from(members) * 1_000 / u64::from(MEMBERS_PER_SECOND));
    evenly.clamp(SHORTEST, LONGEST)
}

/// Plans to empty a relay of its `rooms` (with their members) within `deadline`. The largest rooms go first, as they
/// take longest; each target counts what was sent to it before.
pub fn plan(
    relay: &RelayId,
    rooms: impl Iterator<Item = (Lease, u32)>,
    mut snapshot: Snapshot<'_>,
    deadline: Duration,
    rng: &mut impl Rng,
) -> Plan {
    let mut rooms: Vec<_> = rooms.collect();
    rooms.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.room.cmp(&b.room)));
    let mut plan = Plan {
        relay: relay.clone(),
        steps: Vec::new(),
        stuck: Vec::new(),
        eta: Duration::ZERO,
        deadline,
    };
    for (lease, members) in rooms {
        let Some(write) = leases::on_vacate(&lease, relay, members, Cause::Drain, &snapshot, rng) else {
            plan.stuck.push(lease.room);
            continue;
        };
        for seat in write
            .lease
            .seats
            .iter()
            .filter(|seat| !lease.seats.contains(seat))
        {
            let duty = if seat.carries { Duty::Carry } else { Duty::Standby };
            snapshot.assign(&seat.relay, duty, members);
        }
        plan.steps.push(Step {
            write,
            members,
            after: Duration::ZERO,
            spread: Duration::ZERO,
        });
    }
    schedule(&mut plan);
    plan
}

/// Starts rooms so that members leave at an even rate.
fn schedule(plan: &mut Plan) {
    // A room without members costs a row all the same.
    let weight = |step: &Step| u64::from(step.members.max(1));
    let all: u64 = plan.steps.iter().map(weight).sum();
    let window = spread(u32::try_from(all).unwrap_or(u32::MAX)).min(plan.deadline * 3 / 5);
    let mut before = 0;
    for step in &mut plan.steps {
        step.spread = spread(step.members).min(window);
        let start = window.mul_f64(before as f64 / all.max(1) as f64);
        step.after = start.min(window.saturating_sub(step.spread));
        before += weight(step);
    }
    let ends = plan.steps.iter().map(|step| step.after + step.spread + ONE_MOVE);
    plan.eta = ends.max().unwrap_or_default();
}

/// How far a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// In the plan.
    pub rooms: usize,
    /// Ordered to move.
    pub rooms_ordered: usize,
    /// Ordered to move, and without a member on the relay.
    pub rooms_done: usize,
    /// In the plan.
    pub members: u32,
    /// Still on the relay.
    pub members_left: u32,
    /// Until everybody has moved, as far as can be told.
    pub eta_ms: u64,
}

/// A drain that goes on.
#[derive(Clone, Debug)]
pub struct Drain {
    plan: Plan,
    started: Instant,
    waiting: VecDeque<usize>,
    /// Rooms of the plan that still have members on the relay, the stuck ones too.
    left: BTreeMap<RoomName, u32>,
}

impl Drain {
    /// Begins.
    pub fn new(now: Instant, plan: Plan) -> Self {
        let left = plan
            .steps
            .iter()
            .map(|step| (step.write.lease.room.clone(), step.members));
        let mut waiting: Vec<_> = (0..plan.steps.len()).collect();
        waiting.sort_by_key(|at| plan.steps.get(*at).map(|step| step.after));
        Self {
            left: left.collect(),
            started: now,
            waiting: waiting.into(),
            plan,
        }
    }

    /// The next room whose time has come.
    pub fn poll_step(&mut self, now: Instant) -> Option<Step> {
        let step = self.plan.steps.get(*self.waiting.front()?)?;
        if now < self.started + step.after {
            return None;
        }
        self.waiting.pop_front();
        Some(step.clone())
    }

    /// When [`Drain::poll_step`] or [`Drain::is_over`] has something new.
    pub fn poll_timeout(&self) -> Instant {
        let next = self.waiting.front().and_then(|at| self.plan.steps.get(*at));
        self.started + next.map_or(self.plan.deadline, |step| step.after.min(self.plan.deadline))
    }

    /// A row could not be written because it had changed: what to write instead, if the relay is still in it.
    pub fn handle_conflict(&self, row: &Lease, snapshot: &Snapshot<'_>, rng: &mut impl Rng) -> Option<Step> {
        let members = self.left.get(&row.room).copied().unwrap_or(0);
        let write = leases::on_vacate(row, &self.plan.relay, members, Cause::Drain, snapshot, rng)?;
        Some(Step {
            write,
            members,
            after: Duration::ZERO,
            spread: spread(members).min(self.plan.deadline * 3 / 5),
        })
    }

    /// The relay has that many direct members left in the room.
    pub fn handle_members(&mut self, room: &RoomName, members: u32) {
        if let Some(left) = self.left.get_mut(room) {
            *left = members;
        }
    }

    /// How far it is.
    pub fn progress(&self, now: Instant) -> Progress {
        let waits = |at: &usize| self.waiting.contains(at);
        let has_left = |step: &Step| {
            self.left
                .get(&step.write.lease.room)
                .is_none_or(|left| *left == 0)
        };
        let ordered = || self.plan.steps.iter().enumerate().filter(|(at, _)| !waits(at));
        let eta = (self.started + self.plan.eta).duration_since(now);
        let members_left = self.left.values().sum();
        Progress {
            rooms: self.plan.steps.len() + self.plan.stuck.len(),
            rooms_ordered: self.plan.steps.len() - self.waiting.len(),
            rooms_done: ordered().filter(|(_, step)| has_left(step)).count(),
            members: self.plan.steps.iter().map(|step| step.members).sum(),
            members_left,
            eta_ms: if members_left == 0 {
                0
            } else {
                eta.as_millis() as u64
            },
        }
    }

    /// Every room was ordered to move and no member is left, or the deadline has passed.
    pub fn is_over(&self, now: Instant) -> bool {
        let moved = self.waiting.is_empty() && self.left.values().all(|left| *left == 0);
        moved || now >= self.started + self.plan.deadline
    }

    /// What was planned.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Ends it: rooms that were not yet ordered to move stay where they are, and those that were are not moved back.
    /// Returns how many stay.
    pub fn undo(self) -> usize {
        self.waiting.len()
    }
}
