//! Entering the same room anew, with keys of this moment.
//!
//! When a relay loses the one upstream for long, both sides say that the members beyond have left. An announcement is
//! taken once, so those who come back under the same one are refused as a recording and nobody hears them. Whoever
//! was cut off with its relay therefore leaves and joins with a new announcement.

use std::time::Duration;

use rand_core::CryptoRng;
use wzp_wire::{Instant, signal::proto::NoticeKind};

use super::{Call, Event, route::Stage};
use crate::{e2ee::Group, voice::codec::Codecs};

/// Relays keep the seats of members behind a broken trunk for 15 s, but not both notice at once that it broke. Joining
/// once too often costs a moment, once too seldom the call.
const LONG: Duration = Duration::from_secs(10);
/// A relay's members do not all come back in the same moment.
const SPREAD: Duration = Duration::from_secs(1);

/// Whether and when to join again.
#[derive(Debug, Default)]
pub(super) struct Rejoin {
    lost_at: Option<Instant>,
    awaiting: Awaiting,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Awaiting {
    #[default]
    Notice,
    /// The upstream relay is back; when to join is still to be drawn.
    Draw(Instant),
    Turn(Instant),
    /// The room was left, and what still comes is about the stay before.
    Joined,
}

impl Rejoin {
    pub(super) fn handle_notice(&mut self, now: Instant, kind: NoticeKind) {
        match kind {
            NoticeKind::UpstreamLost => {
                self.lost_at.get_or_insert(now);
            }
            NoticeKind::UpstreamRestored => {
                let long = self.lost_at.take().is_some_and(|at| now >= at + LONG);
                if long && self.awaiting == Awaiting::Notice {
                    self.awaiting = Awaiting::Draw(now);
                }
            }
            NoticeKind::Unspecified => {}
        }
    }

    /// We come back after others may have been told that we left, or under another number.
    pub(super) fn handle_come_back(&mut self, now: Instant) {
        self.awaiting = Awaiting::Turn(now);
    }

    /// Whether the room is about to be entered anew.
    pub(super) fn is_due(&self) -> bool {
        matches!(self.awaiting, Awaiting::Turn(_))
    }

    pub(super) fn handle_joined(&mut self) {
        self.awaiting = Awaiting::Notice;
    }

    /// Whether it is time to leave and join.
    fn handle_timeout<R: CryptoRng + ?Sized>(&mut self, now: Instant, rng: &mut R) -> bool {
        if let Awaiting::Draw(at) = self.awaiting {
            let share = f64::from(rng.next_u32()) / f64::from(u32::MAX);
            self.awaiting = Awaiting::Turn(at + SPREAD.mul_f64(share));
        }
        let due = matches!(self.awaiting, Awaiting::Turn(at) if at <= now);
        if due {
            self.awaiting = Awaiting::Joined;
        }
        due
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.awaiting {
            Awaiting::Draw(at) | Awaiting::Turn(at) => Some(at),
            Awaiting::Notice | Awaiting::Joined => None,
        }
    }

    /// Whether the room was left and not entered again yet.
    pub(super) fn is_outside(&self) -> bool {
        self.awaiting == Awaiting::Joined
    }
}

impl<C: Codecs + Clone> Call<C> {
    pub(super) fn rejoin_if_due<R: CryptoRng + ?Sized>(&mut self, now: Instant, rng: &mut R) {
        if !self.rejoin.handle_timeout(now, rng) {
            return;
        }
        self.leave();
        self.me = None;
        for sender in self.roster.clear() {
            self.quality.forget(sender);
        }
        self.remotes.clear();
        for (sender, public) in std::mem::take(&mut self.verified) {
            self.events.push_back(Event::MemberLeft {
                sender,
                fingerprint: public.fingerprint(),
            });
        }
        self.group = Group::new(&self.identity, &self.config.room, rng);
        self.reporter.handle_new_group();
        for route in &mut self.routes {
            route.stage = Stage::Outside;
            self.paths.handle_outside(route.id);
        }
        self.join(now);
    }
}
