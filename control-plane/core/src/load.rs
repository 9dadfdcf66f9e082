//! How much a relay has to do, and how much it will have soon.
//!
//! What a relay reports is some seconds old and, by the relay itself, weighted over 5 s: it is not smoothed again
//! here. In between counts what was assigned in the last 20 s, so that a burst of joins does not pile up on the relay
//! that was the emptiest one before it.

use wzp_wire::Instant;

use crate::relay::{Capacity, Heartbeat};

/// How long an assignment counts, in seconds and so in buckets.
const WINDOW: usize = 20;
/// What a member costs as long as the relay has not shown it.
const MEMBER_COST: f32 = 0.002;
/// Packets that a member costs: it hears a few others, 50 a second each.
const MEMBER_PPS: f32 = 200.0;
/// A relay with fewer members says nothing of what one costs.
const TELLING_MEMBERS: u32 = 20;

/// What a member does at a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Duty {
    /// Talks and listens there.
    Carry = 0,
    /// Is connected in case it has to.
    Standby = 1,
}

impl Duty {
    /// The part of a carried member's cost.
    pub fn share(self) -> f32 {
        match self {
            Self::Carry => 1.0,
            Self::Standby => 0.25,
        }
    }
}

/// One second of assignments, by duty.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    assigned: [u32; 2],
    /// Of those, not seen at the relay yet.
    coming: [u32; 2],
}

/// The load of one relay: what it reported, plus what was assigned to it in the last 20 s.
#[derive(Clone, Debug, Default)]
pub struct Load {
    reported: f32,
    member_cost: Option<f32>,
    there: [u32; 2],
    seconds: [Second; WINDOW],
    latest: u64,
}

impl Load {
    /// What the relay says of itself.
    pub fn handle_heartbeat(&mut self, capacity: Capacity, heartbeat: &Heartbeat) {
        let ratio = |used: u64, limit: u64| {
            if limit == 0 {
                0.0
            } else {
                used as f32 / limit as f32
            }
        };
        self.reported = [
            ratio(heartbeat.egress_bits_per_second, capacity.egress_bits_per_second),
            ratio(heartbeat.packets_per_second, capacity.packets_per_second),
            ratio(heartbeat.connections, capacity.connections),
            heartbeat.cpu_permille as f32 / 1_000.0,
            heartbeat.load_permille as f32 / 1_000.0,
        ]
        .into_iter()
        .fold(0.0, f32::max);
        let shown = self.reported / heartbeat.members.max(1) as f32;
        let stated = ratio(1, capacity.connections).max(MEMBER_PPS * ratio(1, capacity.packets_per_second));
        let cost = match heartbeat.members {
            TELLING_MEMBERS.. => shown,
            _ if stated > 0.0 => stated,
            _ => MEMBER_COST,
        };
        self.member_cost = Some(cost.clamp(0.000_1, 0.02));
    }

    /// `members` were sent there.
    pub fn assign(&mut self, now: Instant, duty: Duty, members: u32) {
        let second = now.as_micros() / 1_000_000;
        // Seconds in which nothing was assigned are empty ones.
        for passed in (self.latest + 1..=second).take(WINDOW) {
            *self.second(passed) = Second::default();
        }
        self.latest = self.latest.max(second);
        let bucket = self.second(second);
        bucket.assigned[duty as usize] += members;
        bucket.coming[duty as usize] += members;
    }

    /// `members` of those sent there are seen there.
    pub fn arrive(&mut self, duty: Duty, members: u32) {
        self.there[duty as usize] += members;
        let mut left = members;
        for second in self.latest.saturating_sub(WINDOW as u64 - 1)..=self.latest {
            let coming = &mut self.second(second).coming[duty as usize];
            let came = left.min(*coming);
            *coming -= came;
            left -= came;
        }
    }

    /// `members` who were there are gone, or do something else.
    pub fn leave(&mut self, duty: Duty, members: u32) {
        let there = &mut self.there[duty as usize];
        *there = there.saturating_sub(members);
    }

    /// As reported: the largest of the ratios; 1 is all that the relay can carry.
    pub fn reported(&self) -> f32 {
        self.reported
    }

    /// As reported, plus what was assigned in the last 20 s.
    pub fn corrected(&self, now: Instant) -> f32 {
        let [carry, standby] = self.recent(now, |second| second.assigned);
        let members = carry as f32 * Duty::Carry.share() + standby as f32 * Duty::Standby.share();
        self.reported + members * self.member_cost()
    }

    /// What one more member that is carried adds.
    pub fn member_cost(&self) -> f32 {
        self.member_cost.unwrap_or(MEMBER_COST)
    }

    /// Members there for a duty, those on their way included.
    pub fn members(&self, now: Instant, duty: Duty) -> u32 {
        self.there[duty as usize] + self.recent(now, |second| second.coming)[duty as usize]
    }

    fn recent(&self, now: Instant, of: impl Fn(&Second) -> [u32; 2]) -> [u32; 2] {
        let first = (now.as_micros() / 1_000_000).saturating_sub(WINDOW as u64 - 1);
        let oldest = self.latest.saturating_sub(WINDOW as u64 - 1);
        (first.max(oldest)..=self.latest).fold([0, 0], |sum, second| {
            let [carry, standby] = of(&self.seconds[second as usize % WINDOW]);
            [sum[0] + carry, sum[1] + standby]
        })
    }

    fn second(&mut self, second: u64) -> &mut Second {
        &mut self.seconds[second as usize % WINDOW]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn the_largest_ratio_counts_and_what_is_not_known_does_not() {
        let mut load = Load::default();
        let capacity = Capacity {
            packets_per_second: 1_000,
            connections: 100,
            ..Capacity::default()
        };
        let beat = Heartbeat {
            packets_per_second: 300,
            connections: 40,
            egress_bits_per_second: 1 << 40,
            cpu_permille: 100,
            ..Heartbeat::default()
        };
        load.handle_heartbeat(capacity, &beat);
        assert_eq!(load.reported(), 0.4);
        load.handle_heartbeat(
            capacity,
            &Heartbeat {
                load_permille: 1_200,
                ..beat
            },
        );
        assert_eq!(load.reported(), 1.2);
    }

    #[test]
    fn an_assignment_counts_for_twenty_seconds_and_a_member_is_counted_once() {
        let mut load = Load::default();
        load.assign(at(30_000), Duty::Carry, 3);
        load.assign(at(31_000), Duty::Standby, 4);
        assert_eq!(load.members(at(31_000), Duty::Carry), 3);
        load.arrive(Duty::Carry, 2);
        assert_eq!(load.members(at(31_000), Duty::Carry), 3);
        assert!((load.corrected(at(49_900)) - 4.0 * MEMBER_COST).abs() < 1e-6);
        assert!((load.corrected(at(50_000)) - 1.0 * MEMBER_COST).abs() < 1e-6);
        assert_eq!(load.corrected(at(60_000)), 0.0);
        assert_eq!(load.members(at(60_000), Duty::Carry), 2);
        load.leave(Duty::Carry, 5);
        assert_eq!(load.members(at(60_000), Duty::Carry), 0);
    }
}
