//! What placement goes by.

use wzp_wire::{Instant, RelayId};

use crate::{load::Duty, mesh::Mesh, registry::Offer, relay::Place};

/// One relay as placement sees it.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Which one.
    pub relay: &'a RelayId,
    /// Where it runs.
    pub place: &'a Place,
    /// How it is offered; `None`: it is not listed (being checked, or silent), and taken only for want of any other.
    pub offer: Option<Offer>,
    /// Corrected; see [`crate::load::Load::corrected`].
    pub load: f32,
    /// What one more member that is carried adds to `load`.
    pub member_cost: f32,
    /// Members carried, those on their way included.
    pub carried: u32,
    /// Members for whom it stands by, those on their way included.
    pub standby: u32,
    /// How often it was lost lately, fading.
    pub failures: f32,
    /// Runs an older version than the newest listed relay.
    pub outdated: bool,
}

impl Candidate<'_> {
    /// Listed, and not on its way out.
    pub fn is_of_use(&self) -> bool {
        matches!(self.offer, Some(Offer::Active | Offer::Avoid))
    }

    /// Of use, and not full with that many more members.
    pub fn has_room_for(&self, members: u32) -> bool {
        self.is_of_use() && self.load + members.max(1) as f32 * self.member_cost <= Self::LIMIT
    }

    /// A relay loaded by more takes nobody as long as another one has room: the rest is for bursts.
    pub const LIMIT: f32 = 0.9;
}

/// What placement goes by. Relays that are lost are not in it.
#[derive(Clone, Debug)]
pub struct Snapshot<'a> {
    now: Instant,
    relays: Vec<Candidate<'a>>,
    expected: Vec<&'a RelayId>,
    mesh: &'a Mesh,
}

impl<'a> Snapshot<'a> {
    /// Of these relays.
    pub fn new(now: Instant, mut relays: Vec<Candidate<'a>>, mesh: &'a Mesh) -> Self {
        if !relays.is_sorted_by_key(|candidate| candidate.relay) {
            relays.sort_by_key(|candidate| candidate.relay);
        }
        Self {
            now,
            relays,
            expected: Vec::new(),
            mesh,
        }
    }

    /// And these, which have not been heard of yet but are not lost for that.
    #[must_use]
    pub fn with_expected(mut self, relays: impl Iterator<Item = &'a RelayId>) -> Self {
        self.expected.extend(relays);
        self
    }

    /// By name.
    pub fn relays(&self) -> &[Candidate<'a>] {
        &self.relays
    }

    /// That relay, unless it is lost.
    pub fn relay(&self, relay: &RelayId) -> Option<&Candidate<'a>> {
        self.relays.get(self.position(relay)?)
    }

    /// Whether rooms of that relay are to be given to others.
    pub fn is_lost(&self, relay: &RelayId) -> bool {
        self.position(relay).is_none() && !self.expected.contains(&relay)
    }

    /// Counts members that a plan sends to a relay, for what is planned after it.
    pub fn assign(&mut self, relay: &RelayId, duty: Duty, members: u32) {
        let Some(at) = self.position(relay) else { return };
        if let Some(candidate) = self.relays.get_mut(at) {
            candidate.load += members as f32 * candidate.member_cost * duty.share();
            match duty {
                Duty::Carry => candidate.carried += members,
                Duty::Standby => candidate.standby += members,
            }
        }
    }

    /// The same without a relay.
    #[must_use]
    pub fn without(&self, relay: &RelayId) -> Self {
        let mut others = self.clone();
        others.relays.retain(|candidate| candidate.relay != relay);
        others
    }

    /// When it was taken.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// What relays measured to each other.
    pub fn mesh(&self) -> &'a Mesh {
        self.mesh
    }

    pub(super) fn position(&self, relay: &RelayId) -> Option<usize> {
        self.relays
            .binary_search_by_key(&relay, |candidate| candidate.relay)
            .ok()
    }
}
