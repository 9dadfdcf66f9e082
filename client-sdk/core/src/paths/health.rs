//! What is known of one path: when it was heard, and which PINGs it still owes an answer to.

use std::time::Duration;

use wzp_wire::Instant;

/// PINGs that are remembered; more are never needed to tell that a path is bad.
const REMEMBERED: usize = 8;
/// An answer is not missed sooner than this.
const SHORTEST: Duration = Duration::from_millis(100);
/// Before the first answer.
const UNKNOWN: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Health {
    /// The relay let us in, so that media may take this path.
    pub(super) joined: bool,
    /// It was given up and has not answered often enough since.
    pub(super) failed_at: Option<Instant>,
    pub(super) heard_at: Option<Instant>,
    /// When media of others last came over it.
    pub(super) media_at: Option<Instant>,
    pub(super) answered_at: Option<Instant>,
    pub(super) asked_at: Option<Instant>,
    /// PINGs answered since the set began to doubt the carrying path, or since this one failed.
    pub(super) answers: u32,
    rtt: Option<Rtt>,
    /// When the PINGs left that nothing has answered yet, oldest first.
    owed: [Option<Instant>; REMEMBERED],
}

#[derive(Debug, Clone, Copy)]
struct Rtt {
    smoothed: Duration,
    variation: Duration,
}

impl Health {
    pub(super) fn handle_ping(&mut self, now: Instant) {
        self.asked_at = Some(now);
        match self.owed.iter_mut().find(|owed| owed.is_none()) {
            Some(free) => *free = Some(now),
            None => {
                self.owed.rotate_left(1);
                if let Some(last) = self.owed.last_mut() {
                    *last = Some(now);
                }
            }
        }
    }

    /// The PING that left `rtt` ago was answered, and whatever was asked before it is not missed any more.
    pub(super) fn handle_pong(&mut self, now: Instant, rtt: Duration) {
        let asked = now - rtt;
        let mut still = [None; REMEMBERED];
        let later = self.owed.iter().flatten().filter(|owed| **owed > asked);
        for (place, owed) in still.iter_mut().zip(later) {
            *place = Some(*owed);
        }
        self.owed = still;
        self.answered_at = Some(now);
        self.heard_at = Some(now);
        self.answers = self.answers.saturating_add(1);
        self.rtt = Some(match self.rtt {
            None => Rtt {
                smoothed: rtt,
                variation: rtt / 2,
            },
            Some(was) => Rtt {
                smoothed: (was.smoothed * 7 + rtt) / 8,
                variation: (was.variation * 3 + was.smoothed.abs_diff(rtt)) / 4,
            },
        });
    }

    /// Nothing is owed any more.
    pub(super) fn forgive(&mut self) {
        self.owed = [None; REMEMBERED];
    }

    /// What was asked before a pause of our own may have been answered in it.
    pub(super) fn handle_pause(&mut self, now: Instant) {
        self.forgive();
        self.heard_at = self.heard_at.map(|_| now);
        self.answered_at = self.answered_at.map(|_| now);
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|rtt| rtt.smoothed)
    }

    /// PINGs whose answer is late by now.
    pub(super) fn unanswered(&self, now: Instant) -> usize {
        let patience = self
            .rtt
            .map_or(UNKNOWN, |rtt| (rtt.smoothed + rtt.variation * 4).max(SHORTEST));
        let late = |owed: &&Instant| now >= **owed + patience;
        self.owed.iter().flatten().filter(late).count()
    }

    /// Whether anything is owed: an answer that may still be on its way, or media that was coming when it went silent.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let media = self.media_at.zip(self.heard_at);
        self.unanswered(now) > 0 || media.is_some_and(|(media, heard)| media + SHORTEST >= heard)
    }

    /// How long nothing has been heard; zero for a path that never was, as it was never asked either.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        self.heard_at
            .map_or(Duration::ZERO, |heard| now.duration_since(heard))
    }

    pub(super) fn heard_since(&self, at: Instant) -> bool {
        self.heard_at.is_some_and(|heard| heard > at)
    }
}
