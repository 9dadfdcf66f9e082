//! Our own sender key: when it changes, and who is given it.

use std::time::Duration;

use rand_core::CryptoRng;
use wzp_wire::{Instant, SenderId};
use zeroize::Zeroizing;

use super::{
    super::event::Event,
    Group,
    post::{Note, rotate_every},
};

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
        let every = rotate_every(self.members.len());
        let at = self.rotated_at.map_or(now, |last| now.max(last + every));
        // What is being handed out is used before it is replaced.
        let at = self.sealer.switch_at().map_or(at, |switch| at.max(switch));
        self.rotate_at.get_or_insert(at);
    }

    /// A new generation. Those who get it at once get it before it is used.
    pub(super) fn rotate(&mut self, now: Instant, secret: Zeroizing<[u8; 32]>) {
        self.rotate_at = None;
        self.rotated_at = Some(now);
        let speaking = self.sealed_at.is_some_and(|at| now < at + SPEAKING);
        let eager = !self.members.is_empty() && (self.is_small() || speaking);
        let hand_out = if eager {
            let more = self.members.keys().filter(|to| !self.post.has_key(**to)).count();
            SWITCH_AFTER + self.post.time_for(now, more)
        } else {
            Duration::ZERO
        };
        self.sealer.stage(secret, now + hand_out);
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
            .filter(|(sender, member)| member.lacks(generation) && !self.post.has_key(**sender))
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
            self.send(now, sender, Note::Key);
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
