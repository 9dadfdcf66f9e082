//! How much a relay has to do, and how much it will have soon.

use wzp_wire::Instant;

use crate::relay::{Capacity, Heartbeat};

/// What a member does at a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Duty {
    /// Talks and listens there.
    Carry,
    /// Is connected in case it has to.
    Standby,
}

/// The load of one relay: what it reported, plus what was assigned to it in the last 20 s.
#[derive(Clone, Debug, Default)]
pub struct Load {
    reported: f32,
}

impl Load {
    /// What the relay says of itself.
    pub fn handle_heartbeat(&mut self, capacity: Capacity, heartbeat: &Heartbeat) {}

    /// A member was sent there.
    pub fn assign(&mut self, now: Instant, duty: Duty) {}

    /// Of the relay's direct members that much are there for this duty.
    pub fn set_members(&mut self, duty: Duty, members: u32) {}

    /// As reported: the largest of the ratios; 1 is all that the relay can carry.
    pub fn reported(&self) -> f32 {
        self.reported
    }

    /// As reported, plus what was assigned in the last 20 s.
    pub fn corrected(&self, now: Instant) -> f32 {
        self.reported
    }

    /// Members there for a duty, those on their way included.
    pub fn members(&self, now: Instant, duty: Duty) -> u32 {
        0
    }
}
