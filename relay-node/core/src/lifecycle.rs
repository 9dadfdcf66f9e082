//! The way out: members are told goodbye, then the process ends; a second signal ends it at once.

use std::time::Duration;

use wzp_wire::Instant;

/// How long goodbyes may take to get through. The process is gone 2 s after the signal.
pub const GOODBYE_TIME: Duration = Duration::from_millis(1_500);

/// How long members of a drained relay may take to move. It is gone 2 s later.
pub const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Where a relay is between its start and its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifecycle {
    /// Takes members.
    #[default]
    Serving,
    /// Of a relay in a cluster: its members move to others, newcomers of its rooms among them.
    Draining {
        /// When whoever is still here is told goodbye.
        deadline: Instant,
    },
    /// Takes nobody; connections are being closed with a reason.
    SayingGoodbye {
        /// When it ends even if somebody has not taken its goodbye.
        deadline: Instant,
    },
    /// Time to exit.
    Over,
}

impl Lifecycle {
    /// Every name in metrics.
    pub const LABELS: [&str; 3] = ["serving", "draining", "stopping"];

    /// SIGTERM or SIGINT.
    #[must_use]
    pub fn handle_signal(self, now: Instant) -> Self {
        match self {
            Self::Serving => Self::saying_goodbye(now),
            Self::Draining { .. } | Self::SayingGoodbye { .. } | Self::Over => Self::Over,
        }
    }

    /// The same to a relay of a cluster, whose members have somewhere to go.
    #[must_use]
    pub fn handle_drain_signal(self, now: Instant) -> Self {
        match self {
            Self::Serving => Self::Draining {
                deadline: now + DRAIN_TIME,
            },
            other => other.handle_signal(now),
        }
    }

    /// It is to go on after all.
    #[must_use]
    pub fn handle_undrain(self) -> Self {
        match self {
            Self::Draining { .. } => Self::Serving,
            other => other,
        }
    }

    /// The members of a relay that drains are `left`.
    #[must_use]
    pub fn handle_members(self, now: Instant, left: usize) -> Self {
        match self {
            Self::Draining { .. } if left == 0 => Self::saying_goodbye(now),
            other => other,
        }
    }

    fn saying_goodbye(now: Instant) -> Self {
        Self::SayingGoodbye {
            deadline: now + GOODBYE_TIME,
        }
    }

    /// The number of connections has changed to `open`.
    #[must_use]
    pub fn handle_open(self, open: usize) -> Self {
        match self {
            Self::SayingGoodbye { .. } if open == 0 => Self::Over,
            other => other,
        }
    }

    /// [`Self::poll_timeout`] has come.
    #[must_use]
    pub fn handle_timeout(self, now: Instant) -> Self {
        match self {
            Self::Draining { deadline } if deadline <= now => Self::saying_goodbye(now),
            Self::SayingGoodbye { deadline } if deadline <= now => Self::Over,
            other => other,
        }
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(self) -> Option<Instant> {
        match self {
            Self::Draining { deadline } | Self::SayingGoodbye { deadline } => Some(deadline),
            Self::Serving | Self::Over => None,
        }
    }

    /// Whether newcomers are taken.
    pub fn admits(self) -> bool {
        matches!(self, Self::Serving | Self::Draining { .. })
    }

    /// The name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining { .. } => "draining",
            Self::SayingGoodbye { .. } | Self::Over => "stopping",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_micros(1_000_000);

    #[test]
    fn ends_when_everybody_is_gone() {
        let stopping = Lifecycle::Serving.handle_signal(NOW);
        assert!(!stopping.admits());
        assert_eq!(stopping.handle_open(3), stopping);
        assert_eq!(stopping.handle_open(0), Lifecycle::Over);
        assert_eq!(Lifecycle::Serving.handle_open(0), Lifecycle::Serving);
    }

    #[test]
    fn ends_in_time_even_if_somebody_stays() {
        let stopping = Lifecycle::Serving.handle_signal(NOW);
        assert_eq!(stopping.poll_timeout(), Some(NOW + GOODBYE_TIME));
        assert_eq!(stopping.handle_timeout(NOW), stopping);
        assert_eq!(stopping.handle_timeout(NOW + GOODBYE_TIME), Lifecycle::Over);
    }

    #[test]
    fn a_second_signal_ends_it_at_once() {
        assert_eq!(
            Lifecycle::Serving.handle_signal(NOW).handle_signal(NOW),
            Lifecycle::Over
        );
    }

    #[test]
    fn a_drain_ends_with_the_last_member_or_in_time_and_can_be_undone() {
        let draining = Lifecycle::Serving.handle_drain_signal(NOW);
        assert!(draining.admits());
        assert_eq!(draining.handle_members(NOW, 3), draining);
        assert_eq!(draining.handle_undrain(), Lifecycle::Serving);
        let empty = draining.handle_members(NOW, 0);
        assert_eq!(empty.poll_timeout(), Some(NOW + GOODBYE_TIME));
        let late = NOW + DRAIN_TIME;
        assert_eq!(draining.poll_timeout(), Some(late));
        let goodbye = draining.handle_timeout(late);
        assert!(!goodbye.admits());
        assert_eq!(goodbye.handle_timeout(late + GOODBYE_TIME), Lifecycle::Over);
        assert_eq!(draining.handle_drain_signal(NOW), Lifecycle::Over);
        assert_eq!(Lifecycle::Serving.handle_members(NOW, 0), Lifecycle::Serving);
    }
}
