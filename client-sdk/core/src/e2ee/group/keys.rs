//! Our own sender key: when it changes, and who is given it.

use std::time::Duration;

use rand_core::CryptoRng;
use wzp_wire::{Instant, SenderId};
use zeroize::Zeroizing;

use super::{
    super::{event::Event, wrap::Body},
    Group,
};

/// Between two generations: leaves within it are one.
const ROTATE_EVERY: Duration = Duration::from_secs(1);
/// A new generation is handed out this long before it is used, so that most packets find their key there.
const SWITCH_AFTER: Duration = Duration::from_millis(250);
/// Whoever sealed something within this time is speaking.
const SPEAKING: Duration = Duration::from_secs(2);

pub(super) fn fresh<R: CryptoRng + ?Sized>(rng: &mut R) -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0; 32]);
    rng.fill_bytes(secret.as_mut());
    secret
}

impl Group {
    pub(super) fn schedule_rotation(&mut self, now: Instant) {
        let at = self.rotated_at.map_or(now, |last| now.max(last + ROTATE_EVERY));
        self.rotate_at.get_or_insert(at);
    }

    /// A new generation. Those who get it at once get it before it is used.
    pub(super) fn rotate(&mut self, now: Instant, secret: Zeroizing<[u8; 32]>) {
        self.rotate_at = None;
        self.rotated_at = Some(now);
        let speaking = self.sealed_at.is_some_and(|at| now < at + SPEAKING);
        let eager = !self.members.is_empty() && (self.is_small() || speaking);
        self.sealer
            .stage(secret, if eager { now + SWITCH_AFTER } else { now });
        self.learn_own_key(now);
        self.undelivered = true;
        if eager {
            self.hand_out(now);
        }
        self.switch(now);
    }

    pub(super) fn switch(&mut self, now: Instant) {
        if self.sealer.switch(now) {
            self.epoch_changed();
        }
    }

    /// Hands out keys now where that is not left to the first packet.
    pub(super) fn deliver(&mut self, now: Instant) {
        if self.undelivered && self.is_small() {
            self.hand_out(now);
        }
    }

    /// Gives the newest generation to everybody who lacks it, at a step that tells nothing about the past.
    pub(super) fn hand_out(&mut self, now: Instant) {
        let generation = self.sealer.newest().generation;
        let lacking: Vec<SenderId> = self
            .members
            .iter()
            .filter(|(_, member)| member.lacks(generation))
            .map(|(sender, _)| *sender)
            .collect();
        if lacking.is_empty() {
            self.undelivered = false;
            return;
        }
        if self.sealer.has_past() {
            if !self.sealer.ratchet() {
                self.schedule_rotation(now);
                return;
            }
            self.epoch_changed();
        }
        self.undelivered = false;
        for sender in lacking {
            self.give_key(now, sender);
        }
    }

    /// Sends the newest key to one member, who may have it.
    pub(super) fn give_key(&mut self, now: Instant, sender: SenderId) {
        let chain = self.sealer.newest().clone();
        let generation = chain.generation;
        let body = Body::Key {
            chain,
            counters: self.sealer.counters(),
        };
        if self.send(now, sender, &body)
            && let Some(member) = self.members.get_mut(&sender)
        {
            member.given = Some(generation);
        }
    }

    pub(super) fn learn_own_key(&mut self, now: Instant) {
        // Nobody but us gives us our own key, so it never contradicts itself.
        let _ = self
            .echo
            .install(now, self.sealer.newest().clone(), self.sealer.counters());
    }

    fn epoch_changed(&mut self) {
        let epoch = self.sealer.epoch();
        self.event(Event::EpochChanged { epoch });
    }
}
