//! The relays that are to serve us, and when to connect to each of them.

use std::time::Duration;

use rand_core::CryptoRng;
use wzp_wire::{
    Instant, RelayId,
    signal::{Reason, RelaySeat},
};

use crate::paths::PathId;

/// The first pause before a relay is tried again is a part of this, each further one of twice as much.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Seats {
    wanted: Vec<Wanted>,
    /// The set changed, and we are not where it wants us yet.
    moving: bool,
}

#[derive(Debug)]
struct Wanted {
    seat: RelaySeat,
    tries: u32,
    state: State,
    /// What was told of it last.
    refused: Option<Reason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At a moment within this time that is still to be drawn.
    Draw(Instant, Duration),
    Due(Instant),
    AwaitConnection,
    Up(PathId),
}

impl Seats {
    /// The set with which the call begins; its owner is connecting to all of them.
    pub(super) fn begin(&mut self, seats: Vec<RelaySeat>) {
        let wanted = seats.into_iter().map(|seat| Wanted {
            seat,
            tries: 0,
            state: State::AwaitConnection,
            refused: None,
        });
        self.wanted = wanted.collect();
    }

    /// Another set; `up` are the relays that we are connected to.
    pub(super) fn change(
        &mut self,
        now: Instant,
        seats: Vec<RelaySeat>,
        spread: Duration,
        up: impl Fn(&RelayId) -> Option<PathId>,
    ) {
        let before = std::mem::take(&mut self.wanted);
        let wanted = seats.into_iter().map(|seat| {
            let was = before.iter().find(|was| was.seat.relay == seat.relay);
            let state = match (up(&seat.relay), was.map(|was| was.state)) {
                (Some(path), _) => State::Up(path),
                (None, Some(State::AwaitConnection)) => State::AwaitConnection,
                (None, _) => State::Draw(now, spread),
            };
            Wanted {
                tries: was.map_or(0, |was| was.tries),
                seat,
                state,
                refused: None,
            }
        });
        self.wanted = wanted.collect();
        self.moving = true;
    }

    pub(super) fn handle_up(&mut self, relay: &RelayId, path: PathId) {
        if let Some(wanted) = self.find(relay) {
            wanted.state = State::Up(path);
        }
    }

    pub(super) fn handle_joined(&mut self, relay: &RelayId) {
        if let Some(wanted) = self.find(relay) {
            wanted.tries = 0;
            wanted.refused = None;
        }
    }

    /// It refused us. Says whether that is news: it is asked again and again.
    pub(super) fn handle_refused(&mut self, relay: &RelayId, reason: Reason) -> bool {
        self.find(relay)
            .is_none_or(|wanted| wanted.refused.replace(reason) != Some(reason))
    }

    /// There is no connection, or no longer.
    pub(super) fn handle_down(&mut self, now: Instant, relay: &RelayId) {
        if let Some(wanted) = self.find(relay) {
            let pause = FIRST_PAUSE.saturating_mul(1 << wanted.tries.min(10));
            wanted.tries += 1;
            wanted.state = State::Draw(now, pause.min(LONGEST_PAUSE));
        }
    }

    pub(super) fn handle_timeout<R: CryptoRng + ?Sized>(&mut self, rng: &mut R) {
        for wanted in &mut self.wanted {
            if let State::Draw(from, within) = wanted.state {
                let share = f64::from(rng.next_u32()) / f64::from(u32::MAX);
                wanted.state = State::Due(from + within.mul_f64(share));
            }
        }
    }

    /// The next relay to connect to.
    pub(super) fn poll_dial(&mut self, now: Instant) -> Option<RelaySeat> {
        let due = |wanted: &&mut Wanted| matches!(wanted.state, State::Due(at) if at <= now);
        let wanted = self.wanted.iter_mut().find(due)?;
        wanted.state = State::AwaitConnection;
        Some(wanted.seat.clone())
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let timers = self.wanted.iter().filter_map(|wanted| match wanted.state {
            State::Draw(at, _) | State::Due(at) => Some(at),
            State::AwaitConnection | State::Up(_) => None,
        });
        timers.min()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &RelaySeat> {
        self.wanted.iter().map(|wanted| &wanted.seat)
    }

    pub(super) fn is_moving(&self) -> bool {
        self.moving
    }

    pub(super) fn end_move(&mut self) {
        self.moving = false;
    }

    /// Whether these are the relays of the set.
    pub(super) fn are(&self, seats: &[RelaySeat]) -> bool {
        self.wanted.len() == seats.len() && seats.iter().all(|seat| self.contains(&seat.relay))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    pub(super) fn contains(&self, relay: &RelayId) -> bool {
        self.wanted.iter().any(|wanted| wanted.seat.relay == *relay)
    }

    /// Whether this relay is to carry; where nobody is, everybody may.
    pub(super) fn carries(&self, relay: &RelayId) -> bool {
        let nobody = !self.wanted.iter().any(|wanted| wanted.seat.carries);
        self.wanted
            .iter()
            .any(|wanted| wanted.seat.relay == *relay && (wanted.seat.carries || nobody))
    }

    /// Whether there is a relay that was not tried in vain yet.
    pub(super) fn has_hope(&self) -> bool {
        let hope = |wanted: &Wanted| wanted.tries == 0 && !matches!(wanted.state, State::Up(_));
        self.wanted.iter().any(hope)
    }

    fn find(&mut self, relay: &RelayId) -> Option<&mut Wanted> {
        self.wanted.iter_mut().find(|wanted| wanted.seat.relay == *relay)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng as _};

    use super::*;

    fn seat(name: &str, carries: bool) -> RelaySeat {
        RelaySeat {
            relay: RelayId::parse(name).unwrap(),
            addresses: vec![([127, 0, 0, 1], 1).into()],
            certificates: vec![[0; 32]],
            carries,
        }
    }

    #[test]
    fn a_relay_that_is_down_is_tried_again_ever_less_often() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let relay = RelayId::parse("a").unwrap();
        let mut seats = Seats::default();
        seats.begin(vec![seat("a", true)]);
        let mut now = Instant::ZERO;
        assert_eq!(seats.poll_dial(now), None, "its owner is at it");
        let mut pauses = Vec::new();
        for _ in 0..40 {
            seats.handle_down(now, &relay);
            seats.handle_timeout(&mut rng);
            let at = seats.poll_timeout().unwrap();
            pauses.push(at.duration_since(now));
            now = at;
            assert_eq!(seats.poll_dial(now).map(|seat| seat.relay), Some(relay.clone()));
            assert_eq!(seats.poll_dial(now), None);
        }
        assert!(pauses[0] <= FIRST_PAUSE && pauses.iter().all(|pause| *pause <= LONGEST_PAUSE));
        assert!(pauses[8..].iter().sum::<Duration>() > LONGEST_PAUSE * 8);
        seats.handle_up(&relay, PathId(1));
        seats.handle_joined(&relay);
        seats.handle_down(now, &relay);
        seats.handle_timeout(&mut rng);
        assert!(seats.poll_timeout().unwrap() <= now + FIRST_PAUSE);
    }

    #[test]
    fn members_start_to_move_at_their_own_moments() {
        let spread = Duration::from_secs(4);
        let mut starts: Vec<_> = (0..200)
            .map(|seed| {
                let mut seats = Seats::default();
                seats.begin(vec![seat("a", true)]);
                let up = |relay: &RelayId| (relay.as_str() == "a").then_some(PathId(0));
                seats.change(Instant::ZERO, vec![seat("a", false), seat("b", true)], spread, up);
                seats.handle_timeout(&mut ChaCha8Rng::seed_from_u64(seed));
                seats.poll_timeout().unwrap()
            })
            .collect();
        starts.sort_unstable();
        assert!(starts[199] <= Instant::ZERO + spread);
        assert!(starts[100].duration_since(starts[0]) > spread / 4);
    }

    #[test]
    fn where_nobody_is_to_carry_everybody_may() {
        let mut seats = Seats::default();
        seats.begin(vec![seat("a", false), seat("b", true)]);
        let relay = |name| RelayId::parse(name).unwrap();
        assert_eq!(
            [seats.carries(&relay("a")), seats.carries(&relay("b"))],
            [false, true]
        );
        seats.begin(vec![seat("a", false)]);
        assert!(seats.carries(&relay("a")) && !seats.carries(&relay("b")));
    }
}
