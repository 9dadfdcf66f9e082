//! The way out: members are told goodbye, then the process ends; a second signal ends it at once.

use std::time::Duration;

use wzp_wire::Instant;

/// How long goodbyes may take to get through. The process is gone 2 s after the signal.
pub const GOODBYE_TIME: Duration = Duration::from_millis(1_500);

/// Where a relay is between its start and its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifecycle {
    /// Takes members.
    #[default]
    Serving,
    /// Takes nobody; connections are being closed with a reason.
    SayingGoodbye {
        /// When it ends even if somebody has not taken its goodbye.
        deadline: Instant,
    },
    /// Time to exit.
    Over,
}

impl Lifecycle {
    /// SIGTERM or SIGINT.
    #[must_use]
    pub fn handle_signal(self, now: Instant) -> Self {
        match self {
            Self::Serving => Self::SayingGoodbye {
                deadline: now + GOODBYE_TIME,
            },
            Self::SayingGoodbye { .. } | Self::Over => Self::Over,
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
            Self::SayingGoodbye { deadline } if deadline <= now => Self::Over,
            other => other,
        }
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(self) -> Option<Instant> {
        match self {
            Self::SayingGoodbye { deadline } => Some(deadline),
            Self::Serving | Self::Over => None,
        }
    }

    /// Whether newcomers are taken.
    pub fn admits(self) -> bool {
        self == Self::Serving
    }

    /// The name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Serving => "serving",
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
}
