//! Ids that were given back and must not be given out again for a while.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use wzp_lane::ids::Random;
use wzp_wire::Instant;

/// Late packets of a lane may still be under way for this long after it ended.
pub(crate) const QUARANTINE: Duration = Duration::from_secs(30);

/// Ids in quarantine, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    order: VecDeque<(Instant, u64)>,
    ids: HashSet<u64>,
}

impl Retired {
    /// Remembers that `id` was given back at `now`.
    pub(crate) fn retire(&mut self, now: Instant, id: u64) {
        self.forget(now);
        self.order.push_back((now, id));
        self.ids.insert(id);
    }

    /// Whether `id` is too fresh to be given out.
    pub(crate) fn contains(&mut self, now: Instant, id: u64) -> bool {
        self.forget(now);
        self.ids.contains(&id)
    }

    /// Ids in quarantine now.
    pub(crate) fn len(&mut self, now: Instant) -> usize {
        self.forget(now);
        self.ids.len()
    }

    fn forget(&mut self, now: Instant) {
        while let Some((_, id)) = self
            .order
            .pop_front_if(|(at, _)| now.duration_since(*at) >= QUARANTINE)
        {
            self.ids.remove(&id);
        }
    }
}

/// Random bytes, or an error of the system that nothing can be done about.
pub(crate) fn random_u64() -> u64 {
    #[expect(
        clippy::expect_used,
        reason = "a system without randomness cannot make keys either"
    )]
    getrandom::u64().expect("the system has randomness")
}

/// As [`random_u64`], for the longest id.
pub(crate) fn random_id() -> Random {
    let mut bytes = Random::default();
    #[expect(clippy::expect_used, reason = "as above")]
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_rests_for_thirty_seconds() {
        let mut retired = Retired::default();
        let start = Instant::from_micros(5);
        retired.retire(start, 7);
        assert!(retired.contains(start + Duration::from_secs(29), 7));
        assert!(!retired.contains(start + Duration::from_secs(29), 8));
        assert!(!retired.contains(start + QUARANTINE, 7));
    }
}
