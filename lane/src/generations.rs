//! The packet keys of a lane: one per 2^16 packets, two of them live.
//!
//! Generation = counter >> 16, and its key lives in `slot[generation & 1]`: no clock, no agreement between
//! threads, no ambiguity under reordering. 2^14 packets into a generation the key before it is overwritten by
//! the key after it.
//!
//! The locks are only ever *tried*, so no thread waits for another. Readers share a slot; the one writer in
//! 2^16 packets takes the slot that only stragglers of a finished generation still ask for, and comes again
//! with a later packet if one of them holds it.
#![expect(
    clippy::disallowed_types,
    reason = "tried, never waited for; overwriting in place is the wiping"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};

use crate::counter::{ADVANCE, GENERATION_BITS, generation};
use crate::protect::{PacketKey, next_secret};
use crate::{Aead, Secret};

/// In the order in which a packet needs it: a lane among thousands lies in main memory.
#[repr(C)]
pub(crate) struct Generations {
    /// The later of the two live generations.
    newest: AtomicU64,
    slots: [RwLock<Generation>; 2],
    /// Secret of the generation after `newest`; those before it are wiped.
    following: Mutex<Secret>,
    aead: Aead,
}

struct Generation {
    number: u64,
    key: PacketKey,
}

impl Generations {
    pub(crate) fn new(aead: Aead, secret_0: Secret) -> Self {
        let secret_1 = next_secret(&secret_0);
        let slot = |number, secret| {
            RwLock::new(Generation {
                number,
                key: PacketKey::new(aead, secret),
            })
        };
        Self {
            aead,
            slots: [slot(0, &secret_0), slot(1, &secret_1)],
            newest: AtomicU64::new(1),
            following: Mutex::new(next_secret(&secret_1)),
        }
    }

    /// Uses the key of a counter's generation; `None` when it is not live.
    pub(crate) fn with_key<T>(&self, counter: u64, operation: impl FnOnce(&PacketKey) -> T) -> Option<T> {
        let slot = self.slot(generation(counter)).try_read().ok()?;
        (slot.number == generation(counter)).then(|| operation(&slot.key))
    }

    /// Makes the next key once `counter` is far enough into the newest generation.
    ///
    /// Call it with each counter that is sealed or that opened: all but one in 2^16 of the calls are one load.
    pub(crate) fn advance(&self, counter: u64) {
        if counter >= self.next_advance() {
            self.make_next(counter);
        }
    }

    fn next_advance(&self) -> u64 {
        (self.newest.load(Ordering::Acquire) << GENERATION_BITS) + ADVANCE
    }

    #[cold]
    fn make_next(&self, counter: u64) {
        let Ok(mut secret) = self.following.try_lock() else {
            return;
        };
        if counter < self.next_advance() {
            return;
        }
        let number = self.newest.load(Ordering::Acquire) + 1;
        let Ok(mut slot) = self.slot(number).try_write() else {
            return;
        };
        *slot = Generation {
            number,
            key: PacketKey::new(self.aead, &secret),
        };
        *secret = next_secret(&secret);
        self.newest.store(number, Ordering::Release);
    }

    fn slot(&self, generation: u64) -> &RwLock<Generation> {
        let [even, odd] = &self.slots;
        if generation & 1 == 0 { even } else { odd }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: u64 = 1 << GENERATION_BITS;

    fn generations() -> Generations {
        Generations::new(Aead::Aes128Gcm, Secret::from([3; 32]))
    }

    fn tag(generations: &Generations, counter: u64) -> Option<[u8; 16]> {
        generations.with_key(counter, |key| key.seal(0, b"", &mut [0; 4]).unwrap())
    }

    #[test]
    fn two_generations_are_live_on_both_sides_of_a_change() {
        let generations = generations();
        let (tag_0, tag_1) = (tag(&generations, 0), tag(&generations, G));
        assert!(tag_0.is_some() && tag_1.is_some() && tag_0 != tag_1);

        generations.advance(G + ADVANCE - 1);
        assert_eq!(tag(&generations, G - 1), tag_0, "stragglers still open");
        assert_eq!(tag(&generations, 2 * G), None, "the next key is not there yet");

        generations.advance(G + ADVANCE);
        assert_eq!(tag(&generations, G - 1), None, "the old key is gone");
        assert_eq!(tag(&generations, G), tag_1);
        assert!(tag(&generations, 2 * G).is_some());
    }

    #[test]
    fn keys_follow_by_key_update_and_not_from_the_counter() {
        let generations = generations();
        for g in 1..6 {
            generations.advance(g * G + ADVANCE);
        }
        let mut secret = Secret::from([3; 32]);
        for _ in 0..6 {
            secret = next_secret(&secret);
        }
        let expected = PacketKey::new(Aead::Aes128Gcm, &secret).seal(0, b"", &mut [0; 4]);
        assert_eq!(tag(&generations, 6 * G), expected);
    }

    #[test]
    fn a_straggler_holding_the_old_key_delays_the_change_and_loses_nothing() {
        let generations = generations();
        generations.with_key(G - 1, |_| {
            generations.advance(G + ADVANCE);
            assert!(tag(&generations, 2 * G).is_none());
        });
        generations.advance(G + ADVANCE + 1);
        assert!(tag(&generations, 2 * G).is_some());
    }
}
