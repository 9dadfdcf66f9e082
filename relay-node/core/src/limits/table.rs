//! A rate for each of very many keys, in a table of a fixed size.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use wzp_wire::Instant;

use super::{Bucket, Prefix, Rate};

/// Buckets in one table: 64 KiB of them.
const SLOTS: usize = 8_192;

/// Token buckets by key.
///
/// Keys whose hashes meet share a bucket, which can only make the limit stricter for them; the hash is keyed by a
/// secret seed, so nobody can choose with whom.
#[derive(Debug)]
pub struct Buckets {
    seed: [u8; 16],
    rate: Rate,
    buckets: Box<[Bucket]>,
}

impl Buckets {
    /// A table of full buckets; `seed` is random and secret.
    pub fn new(seed: [u8; 16], rate: Rate) -> Self {
        Self {
            seed,
            rate,
            buckets: vec![Bucket::default(); SLOTS].into_boxed_slice(),
        }
    }

    /// Takes a token from the bucket of `key`.
    ///
    /// # Errors
    /// The time after which there would be one.
    pub fn take<K: Hash>(&mut self, key: &K, now: Instant) -> Result<(), Duration> {
        let slot = self.slot(key);
        self.buckets
            .get_mut(slot)
            .map_or(Ok(()), |bucket| bucket.take(self.rate, now, 1))
    }

    /// The same for a network; whoever is on this machine has none to be told from others by.
    ///
    /// # Errors
    /// The time after which there would be one.
    pub fn take_prefix(&mut self, prefix: Prefix, now: Instant) -> Result<(), Duration> {
        if prefix.is_loopback() {
            return Ok(());
        }
        self.take(&prefix, now)
    }

    fn slot<K: Hash>(&self, key: &K) -> usize {
        let mut hasher = DefaultHasher::new();
        (self.seed, key).hash(&mut hasher);
        let [a, b, ..] = hasher.finish().to_be_bytes();
        usize::from(u16::from_be_bytes([a, b])) % SLOTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    #[test]
    fn a_noisy_key_does_not_silence_others() {
        let mut buckets = Buckets::new([7; 16], Rate::new(1, 3));
        let refused = (0..1_000)
            .filter(|_| buckets.take(&"noisy", at(0)).is_err())
            .count();
        assert_eq!(refused, 997);
        let quiet = (0..100).filter(|key| buckets.take(key, at(0)).is_ok()).count();
        assert!(quiet >= 98, "{quiet}");
    }

    #[test]
    fn a_network_has_a_bucket_and_this_machine_has_none() {
        let mut buckets = Buckets::new([7; 16], Rate::new(1, 3));
        let mut taken = |ip: [u8; 4]| {
            let prefix = Prefix::of(ip.into());
            let taken = (0..100).filter(|_| buckets.take_prefix(prefix, at(0)).is_ok());
            taken.count()
        };
        assert_eq!(taken([192, 0, 2, 1]), 3);
        assert_eq!(taken([192, 0, 2, 200]), 0);
        assert_eq!(taken([192, 0, 3, 1]), 3);
        assert_eq!(taken([127, 0, 0, 1]), 100);
    }

    #[test]
    fn memory_stays_the_same_under_a_million_keys() {
        let mut buckets = Buckets::new([7; 16], Rate::new(1, 3));
        for key in 0..1_000_000u32 {
            let _ = buckets.take(&key, at(u64::from(key)));
        }
        assert_eq!(buckets.buckets.len(), SLOTS);
        assert_eq!(buckets.take(&"late", at(2_000_000)), Ok(()));
    }
}
