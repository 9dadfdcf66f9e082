//! When reports go out: to the senders we hear, one after the other, and coarse ones to the relay.

use std::time::Duration;

use wzp_identity::PublicIdentity;
use wzp_wire::{
    Instant,
    signal::{Kind, message, proto::QualityReport},
};

use super::{Call, RemoteStats};
use crate::voice::{codec::Codecs, receiver::Stats};

/// Each sender gets a report this often: the controller's thresholds are for windows of this length.
const TO_SENDER: Duration = Duration::from_secs(1);
/// Reports leave no faster than this, however many senders there are.
const FASTEST: Duration = Duration::from_millis(60);
/// Pause between two quality reports to the relay.
const TO_RELAY: Duration = Duration::from_secs(1);

/// Says whose turn it is.
#[derive(Debug)]
pub(super) struct Reporter {
    next_sender: Instant,
    next_relay: Instant,
    turn: usize,
    /// Packets without a key that the relay was told of.
    mismatches: u64,
}

impl Reporter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next_sender: now + TO_SENDER,
            next_relay: now + TO_RELAY,
            turn: 0,
            mismatches: 0,
        }
    }

    /// The index of the remote to report about, out of `remotes`, when one is due.
    pub(super) fn sender_due(&mut self, now: Instant, remotes: usize) -> Option<usize> {
        if now < self.next_sender || remotes == 0 {
            return None;
        }
        let senders = u32::try_from(remotes).unwrap_or(u32::MAX);
        self.next_sender = now + (TO_SENDER / senders).max(FASTEST);
        self.turn = (self.turn + 1) % remotes;
        Some(self.turn)
    }

    pub(super) fn relay_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next_relay;
        if due {
            self.next_relay = now + TO_RELAY;
        }
        due
    }

    /// The keys are new, and so is what is counted about them.
    pub(super) fn handle_new_group(&mut self) {
        self.mismatches = 0;
    }

    fn mismatches_since(&mut self, now: u64) -> u32 {
        let before = std::mem::replace(&mut self.mismatches, now);
        u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX)
    }
}

impl<C: Codecs + Clone> Call<C> {
    /// Shows everybody who was heard and everybody whose packets could not be opened, with whom they proved to be.
    pub fn remotes(&mut self, mut show: impl FnMut(Option<&PublicIdentity>, RemoteStats)) {
        for remote in &mut self.remotes {
            let mismatches = self.group.key_mismatches(remote.sender);
            let asks_for = self.quality.asked_by(remote.sender);
            show(
                self.verified.get(&remote.sender),
                remote.stats(mismatches, asks_for),
            );
        }
        for sender in self.roster.iter() {
            let key_mismatch = self.group.key_mismatches(sender);
            if key_mismatch == 0 || self.remotes.iter().any(|remote| remote.sender == sender) {
                continue;
            }
            let unheard = RemoteStats {
                sender,
                stats: Stats::default(),
                drift: None,
                key_mismatch,
                asks_for: None,
            };
            show(self.verified.get(&sender), unheard);
        }
    }

    pub(super) fn report_to_relay(&mut self) {
        let key_mismatch = self.reporter.mismatches_since(self.group.all_key_mismatches());
        let heard = self.remotes.iter_mut().map(|remote| remote.relay_report());
        let report = match heard.reduce(together) {
            Some(report) => QualityReport {
                key_mismatch,
                ..report
            },
            None if key_mismatch > 0 => QualityReport {
                key_mismatch,
                ..QualityReport::default()
            },
            None => return,
        };
        if let Some(path) = self.paths.carrying() {
            self.signals
                .push_back((path, message(Kind::QualityReport(report))));
        }
    }
}

/// Counts of both are added; ratios are those of the sender that is heard worse, without saying which.
fn together(a: QualityReport, b: QualityReport) -> QualityReport {
    let badness = |report: &QualityReport| {
        (
            report.mos_centi > 0,
            report.concealed_permille,
            report.loss_permille,
        )
    };
    let worse = if badness(&b) > badness(&a) { b } else { a };
    QualityReport {
        fec_recovered: a.fec_recovered.saturating_add(b.fec_recovered),
        fec_unrecovered: a.fec_unrecovered.saturating_add(b.fec_unrecovered),
        longest_gap_ms: a.longest_gap_ms.max(b.longest_gap_ms),
        ..worse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_a_report_a_second() {
        let t0 = Instant::ZERO;
        let mut reporter = Reporter::new(t0);
        assert_eq!(reporter.sender_due(t0, 3), None);
        let ticks = (1_000..4_000)
            .step_by(10)
            .map(|ms| t0 + Duration::from_millis(ms));
        let turns: Vec<_> = ticks.filter_map(|now| reporter.sender_due(now, 3)).collect();
        assert_eq!(turns, [1, 2, 0, 1, 2, 0, 1, 2, 0]);
        let later = t0 + Duration::from_secs(9);
        assert_eq!(reporter.sender_due(later, 0), None, "nobody to report about");
        assert_eq!(
            reporter.sender_due(later, 1),
            Some(0),
            "nobody's index is ever out of range"
        );
    }
}
