//! Whether the relay still answers, whichever carrier its answers come over.
//!
//! Silence counts only while something was asked: a room where nobody talks is not silent as long as PINGs are answered.
//! Nor does the time count in which this program itself did not run.

use std::time::Duration;

use wzp_wire::Instant;

use crate::carrier::Carrier;

/// Silence of this length is told.
pub const TELL: Duration = Duration::from_secs(3);
/// Silence of this length ends a call.
pub const GIVE_UP: Duration = Duration::from_secs(10);
/// Nothing heard for this long: the relay is asked over every carrier.
const SUSPICION: Duration = Duration::from_secs(2);
/// Between two questions over one carrier.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// What comes this long before a question is silence as well: with media to carry, a question goes out that often.
const BEFORE_ASKING: Duration = ASK_EVERY;
/// A longer pause between two looks is our own: the machine slept, or had no time for us.
const OWN_PAUSE: Duration = Duration::from_secs(1);

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The relay has not answered for this long, [`TELL`] or a little more.
    Silent(Duration),
    /// It answers again, after so long.
    Answers(Duration),
    /// It has not answered for [`GIVE_UP`].
    GaveUp,
}

/// Listens to one relay.
#[derive(Debug)]
pub struct Watch {
    /// When something authentic last came over any carrier, or when our own pause ended.
    heard_at: Instant,
    /// When the oldest question that nothing has followed was asked.
    unanswered: Option<Instant>,
    /// When it was last asked over the lane and over QUIC.
    asked: [Option<Instant>; 2],
    looked_at: Instant,
    told: Told,
    change: Option<Change>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Silent { since: Instant },
    GaveUp,
}

impl Watch {
    /// Starts with a relay that was just heard.
    pub fn new(now: Instant) -> Self {
        Self {
            heard_at: now,
            unanswered: None,
            asked: [None; 2],
            looked_at: now,
            told: Told::Nothing,
            change: None,
        }
    }

    /// Something authentic came from the relay.
    pub fn handle_heard(&mut self, now: Instant) {
        self.heard_at = self.heard_at.max(now);
        self.unanswered = None;
        if let Told::Silent { since } = self.told {
            self.change = Some(Change::Answers(now.duration_since(since)));
        }
        self.told = Told::Nothing;
    }

    /// A PING left over this carrier.
    pub fn handle_asked(&mut self, now: Instant, over: Carrier) {
        self.unanswered.get_or_insert(now);
        self.asked[slot(over)] = Some(now);
    }

    /// Call it every few milliseconds: what lies between two calls is how it learns of our own pauses.
    pub fn handle_timeout(&mut self, now: Instant) {
        let pause = now.duration_since(self.looked_at);
        self.looked_at = now;
        if pause > OWN_PAUSE {
            // What was answered meanwhile may be lost, so everything is asked anew.
            self.heard_at = now;
            self.unanswered = None;
            self.asked = [None; 2];
            return;
        }
        let silence = self.silence(now);
        if silence >= GIVE_UP && self.told != Told::GaveUp {
            self.told = Told::GaveUp;
            self.change = Some(Change::GaveUp);
        } else if silence >= TELL && self.told == Told::Nothing {
            self.told = Told::Silent { since: self.heard_at };
            self.change = Some(Change::Silent(silence));
        }
    }

    /// Whether it was told that the relay is silent, and not yet that it answers again.
    pub fn is_silent(&self) -> bool {
        self.told != Told::Nothing
    }

    /// The newest change that nobody polled.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.change.take()
    }

    /// Whether a PING should leave over this carrier on behalf of this watch: once a second over the one that media
    /// takes now, for the round trip time too, and over QUIC while nothing is heard. (The lane's own PINGs are up to
    /// `wzp_lane::alive`.)
    pub fn ping_due(&self, now: Instant, over: Carrier, media: Option<Carrier>) -> bool {
        let suspicious = now.duration_since(self.heard_at) >= SUSPICION;
        let wanted = media == Some(over) || suspicious && over == Carrier::QuicDatagram;
        wanted && self.asked[slot(over)].is_none_or(|at| now >= at + ASK_EVERY)
    }

    fn silence(&self, now: Instant) -> Duration {
        self.unanswered.map_or(Duration::ZERO, |asked| {
            let owed = now.duration_since(asked) + BEFORE_ASKING;
            owed.min(now.duration_since(self.heard_at))
        })
    }
}

fn slot(carrier: Carrier) -> usize {
    match carrier {
        Carrier::Lane => 0,
        Carrier::QuicDatagram => 1,
    }
}

#[cfg(test)]
mod tests;
