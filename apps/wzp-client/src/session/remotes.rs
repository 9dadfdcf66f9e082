//! Everybody who was heard in a call, also those who left: the figures of the SDK end with a member's stay.

use wzp_sdk::{RemoteStats, Stats};

#[derive(Debug, Default)]
pub(super) struct Remotes {
    present: Vec<RemoteStats>,
    gone: Vec<RemoteStats>,
}

impl Remotes {
    /// Notes who is there now; call it often, what happens between two calls is not seen.
    pub(super) fn note(&mut self, stats: &Stats) {
        for was in self.present.drain(..) {
            // An id that begins anew belongs to somebody else.
            let goes_on = |is: &&RemoteStats| is.sender == was.sender && is.received >= was.received;
            if !stats.remotes.iter().any(|is| goes_on(&is)) {
                self.gone.push(was);
            }
        }
        self.present.clone_from(&stats.remotes);
    }

    /// The figures of the call with everybody in them.
    pub(super) fn complete(mut self, stats: Stats) -> Stats {
        if !stats.remotes.is_empty() {
            self.note(&stats);
        }
        let remotes = self.present.into_iter().chain(self.gone).collect();
        Stats { remotes, ..stats }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wzp_sdk::SenderId;

    fn stats(remotes: &[(u16, u64)]) -> Stats {
        let remote = |&(sender, received): &(u16, u64)| RemoteStats {
            received,
            ..RemoteStats::new(SenderId::new(sender).unwrap())
        };
        Stats {
            remotes: remotes.iter().map(remote).collect(),
            ..Stats::default()
        }
    }

    #[test]
    fn who_left_is_not_forgotten_and_who_takes_the_id_is_another() {
        let mut remotes = Remotes::default();
        for now in [&[(1, 10), (2, 5)][..], &[(2, 9)], &[(2, 3), (3, 1)]] {
            remotes.note(&stats(now));
        }
        let all = remotes.complete(stats(&[(2, 4), (3, 2)]));
        let mut counts: Vec<_> = all.remotes.iter().map(|r| (r.sender.get(), r.received)).collect();
        counts.sort_unstable();
        assert_eq!(counts, [(1, 10), (2, 4), (2, 9), (3, 2)]);
    }

    #[test]
    fn a_call_whose_last_figures_are_empty_keeps_those_before() {
        let mut remotes = Remotes::default();
        remotes.note(&stats(&[(1, 10)]));
        assert_eq!(remotes.complete(stats(&[])).remotes.len(), 1);
    }
}
