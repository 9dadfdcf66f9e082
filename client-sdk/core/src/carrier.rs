//! Which carrier takes media to one relay: the lane, or QUIC datagrams when lanes do not get through.
//!
//! Lane PINGs start with the first flight after the handshake. If none is answered within [`FIRST_ANSWER`] although QUIC
//! lives, or later one stays unanswered for [`SILENCE`], media goes over QUIC datagrams and the lane is tried again
//! every [`RETRY`].

use std::time::Duration;

use wzp_wire::Instant;

/// How long a new lane may stay unanswered.
pub const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// How long a PING on a lane that worked may stay unanswered.
pub const SILENCE: Duration = Duration::from_secs(3);
/// Pause before a lane that failed is tried again.
pub const RETRY: Duration = Duration::from_secs(30);

/// How datagrams travel on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// A lane (docs/wire.md, "Lanes").
    Lane,
    /// QUIC datagrams (RFC 9221).
    QuicDatagram,
}

impl Carrier {
    /// The name in statistics and `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lane => "lane",
            Self::QuicDatagram => "quic",
        }
    }
}

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// The lane, QUIC datagrams when it fails.
    #[default]
    Auto,
    /// QUIC datagrams only.
    Quic,
}

/// Why this carrier is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// A lane PING was answered.
    Answered,
    /// No lane PING has been answered yet, but it is early.
    Waiting,
    /// A new lane was not answered within [`FIRST_ANSWER`].
    NeverAnswered,
    /// A lane that worked was not answered for [`SILENCE`].
    FellSilent,
    /// The user asked for it.
    Forced,
    /// The relay gave no lane.
    NotOffered,
}

impl Why {
    /// The name in statistics and `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Waiting => "waiting",
            Self::NeverAnswered => "never_answered",
            Self::FellSilent => "fell_silent",
            Self::Forced => "forced",
            Self::NotOffered => "not_offered",
        }
    }
}

/// Chooses the carrier of one relay connection.
#[derive(Debug)]
pub struct Chooser {
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// A PING is out on a lane in use; `deadline` passes without an answer: it failed.
    AwaitAnswer { deadline: Instant, answered: bool },
    /// The lane is in use and every PING was answered.
    AwaitPing,
    /// QUIC datagrams; the lane is tried again at `retry` by PINGs alone.
    AwaitRetry { retry: Instant, why: Why },
    /// QUIC datagrams for good.
    Fixed(Why),
}

impl Chooser {
    /// Starts with the lane where there is one and the user does not refuse it.
    pub fn new(now: Instant, preference: Preference, lane: bool) -> Self {
        let state = match (preference, lane) {
            (Preference::Quic, _) => State::Fixed(Why::Forced),
            (Preference::Auto, false) => State::Fixed(Why::NotOffered),
            (Preference::Auto, true) => State::AwaitAnswer {
                deadline: now + FIRST_ANSWER,
                answered: false,
            },
        };
        Self { state }
    }

    /// A lane PING was sent.
    pub fn handle_ping(&mut self, now: Instant) {
        if matches!(self.state, State::AwaitPing) {
            self.state = State::AwaitAnswer {
                deadline: now + SILENCE,
                answered: true,
            };
        }
    }

    /// A lane PING was answered: the lane carries.
    pub fn handle_pong(&mut self) {
        if !matches!(self.state, State::Fixed(_)) {
            self.state = State::AwaitPing;
        }
    }

    /// Call when [`Self::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.state = match self.state {
            State::AwaitAnswer { deadline, answered } if now >= deadline => State::AwaitRetry {
                retry: now + RETRY,
                why: if answered {
                    Why::FellSilent
                } else {
                    Why::NeverAnswered
                },
            },
            // PINGs go out again; media follows only when one is answered.
            State::AwaitRetry { retry, why } if now >= retry => State::AwaitRetry {
                retry: now + RETRY,
                why,
            },
            unchanged => unchanged,
        };
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::AwaitAnswer { deadline, .. } => Some(deadline),
            State::AwaitRetry { retry, .. } => Some(retry),
            State::AwaitPing | State::Fixed(_) => None,
        }
    }

    /// What media goes over now.
    pub fn carrier(&self) -> Carrier {
        match self.state {
            State::AwaitAnswer { .. } | State::AwaitPing => Carrier::Lane,
            State::AwaitRetry { .. } | State::Fixed(_) => Carrier::QuicDatagram,
        }
    }

    /// Why it does.
    pub fn why(&self) -> Why {
        match self.state {
            State::AwaitAnswer { answered: true, .. } | State::AwaitPing => Why::Answered,
            State::AwaitAnswer { answered: false, .. } => Why::Waiting,
            State::AwaitRetry { why, .. } | State::Fixed(why) => why,
        }
    }

    /// Whether lane PINGs should be sent at the schedule of a living lane, or only for [`FIRST_ANSWER`] at each retry.
    pub fn wants_ping(&self, now: Instant) -> bool {
        match self.state {
            State::AwaitAnswer { .. } | State::AwaitPing => true,
            State::AwaitRetry { retry, .. } => {
                retry.duration_since(now) > RETRY.saturating_sub(FIRST_ANSWER) && retry > now
            }
            State::Fixed(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::ZERO;

    #[test]
    fn unanswered_lane_gives_way_to_quic_after_a_second_and_comes_back() {
        let mut chooser = Chooser::new(T0, Preference::Auto, true);
        assert_eq!((chooser.carrier(), chooser.why()), (Carrier::Lane, Why::Waiting));
        chooser.handle_timeout(T0 + FIRST_ANSWER - Duration::from_micros(1));
        assert_eq!(chooser.carrier(), Carrier::Lane);
        chooser.handle_timeout(T0 + FIRST_ANSWER);
        assert_eq!(
            (chooser.carrier(), chooser.why()),
            (Carrier::QuicDatagram, Why::NeverAnswered)
        );

        let retry = chooser.poll_timeout().unwrap();
        assert_eq!(retry, T0 + FIRST_ANSWER + RETRY);
        assert!(!chooser.wants_ping(retry - Duration::from_secs(10)));
        chooser.handle_timeout(retry);
        assert!(chooser.wants_ping(retry + Duration::from_millis(1)));
        assert_eq!(chooser.carrier(), Carrier::QuicDatagram, "a try is not an answer");
        chooser.handle_pong();
        assert_eq!((chooser.carrier(), chooser.why()), (Carrier::Lane, Why::Answered));
    }

    #[test]
    fn lane_that_worked_may_be_silent_for_longer() {
        let mut chooser = Chooser::new(T0, Preference::Auto, true);
        chooser.handle_pong();
        let quiet = T0 + Duration::from_secs(60);
        chooser.handle_timeout(quiet);
        assert_eq!(
            chooser.carrier(),
            Carrier::Lane,
            "nothing was asked, so nothing is missing"
        );
        chooser.handle_ping(quiet);
        chooser.handle_ping(quiet + FIRST_ANSWER);
        chooser.handle_timeout(quiet + FIRST_ANSWER);
        assert_eq!(chooser.carrier(), Carrier::Lane);
        chooser.handle_timeout(quiet + SILENCE);
        assert_eq!(
            (chooser.carrier(), chooser.why()),
            (Carrier::QuicDatagram, Why::FellSilent)
        );
    }

    #[test]
    fn forced_quic_never_pings_and_never_changes() {
        let mut chooser = Chooser::new(T0, Preference::Quic, true);
        chooser.handle_pong();
        assert_eq!(
            (chooser.carrier(), chooser.why()),
            (Carrier::QuicDatagram, Why::Forced)
        );
        assert!(!chooser.wants_ping(T0) && chooser.poll_timeout().is_none());
        assert_eq!(Chooser::new(T0, Preference::Auto, false).why(), Why::NotOffered);
    }
}
