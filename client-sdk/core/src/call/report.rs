//! When reports go out: to the senders we hear, one after the other, and coarse ones to the relay.

use std::time::Duration;

use wzp_wire::Instant;

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
}

impl Reporter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next_sender: now + TO_SENDER,
            next_relay: now + TO_RELAY,
            turn: 0,
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
