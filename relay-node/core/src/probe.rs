//! Measures the way to another relay: a PING a second, what comes back and what does not.

use std::{collections::VecDeque, time::Duration};

use rand_core::Rng;
use wzp_wire::{Instant, Ping, Pong};

/// Between two PINGs.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// After which a PING counts as lost; a later answer is not counted again.
pub const LOST_AFTER: Duration = Duration::from_secs(3);
/// Without an answer for so long, a target counts as unreachable.
pub const UNREACHABLE_AFTER: Duration = Duration::from_secs(5);
/// The last answers that loss is taken from.
const WINDOW: u32 = 100;

/// The measurement of one target.
#[derive(Debug, Default)]
pub struct Probe {
    next: Instant,
    waiting: VecDeque<Waiting>,
    estimate: Estimate,
    outcomes: Outcomes,
    standing: Standing,
    /// The last answer, or the first PING.
    heard: Option<Instant>,
}

/// What is known of a target at large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was answered, and there was little time for it.
    #[default]
    Unknown,
    /// It answers.
    Reachable,
    /// It has not answered for [`UNREACHABLE_AFTER`], or the connection to it broke and it has not answered since.
    Unreachable,
}

#[derive(Debug)]
struct Waiting {
    nonce: [u8; 8],
    sent: Instant,
}

/// What is known of the way to a target.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Smoothed round trip without the target's holding time; `None` unless the target is reachable.
    pub rtt: Option<Duration>,
    /// Smoothed difference between successive round trips (RFC 3550, section 6.4.1); 0 before the second.
    pub jitter: Duration,
    /// PINGs sent.
    pub sent: u64,
    /// Answers in time.
    pub answered: u64,
    /// PINGs given up.
    pub lost: u64,
    last_rtt: Option<Duration>,
}

impl Probe {
    /// A PING, if one is due.
    pub fn poll_transmit<R: Rng + ?Sized>(&mut self, now: Instant, rng: &mut R) -> Option<Ping> {
        if now < self.next {
            return None;
        }
        self.next = now + INTERVAL;
        self.heard.get_or_insert(now);
        let mut nonce = [0; 8];
        rng.fill_bytes(&mut nonce);
        self.waiting.push_back(Waiting { nonce, sent: now });
        self.estimate.sent += 1;
        Some(Ping {
            nonce,
            probe: true,
            sent_us: wrapping_us(now),
        })
    }

    /// As [`Self::poll_transmit`] while there is no connection: a PING that has found none until the next one is due is
    /// lost. When to call this again.
    pub fn handle_disconnected(&mut self, now: Instant) -> Instant {
        if self.heard.is_none() {
            (self.heard, self.next) = (Some(now), now);
        }
        if now >= self.next + INTERVAL {
            self.next = now;
            self.lose();
        }
        self.next + INTERVAL
    }

    fn lose(&mut self) {
        self.estimate.lost += 1;
        self.outcomes.push(true);
    }

    /// An answer; `false` when it answers nothing that is still waited for.
    pub fn handle_pong(&mut self, now: Instant, pong: &Pong) -> bool {
        let Some(at) = self
            .waiting
            .iter()
            .position(|waiting| waiting.nonce == pong.nonce)
        else {
            return false;
        };
        let Some(waiting) = self.waiting.remove(at) else {
            return false;
        };
        let hold = Duration::from_micros(u64::from(pong.hold_us));
        self.estimate
            .answer(now.duration_since(waiting.sent).saturating_sub(hold));
        self.outcomes.push(false);
        self.standing = Standing::Reachable;
        self.heard = Some(now);
        true
    }

    /// Gives up what has waited too long, and a target that has been silent for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self
            .waiting
            .front()
            .is_some_and(|oldest| oldest.sent + LOST_AFTER <= now)
        {
            self.waiting.pop_front();
            self.lose();
        }
        if self.heard.is_some_and(|heard| heard + UNREACHABLE_AFTER <= now) {
            self.give_up();
        }
    }

    /// The connection to the target broke: what was under way will not be answered.
    pub fn handle_disconnect(&mut self) {
        while self.waiting.pop_front().is_some() {
            self.lose();
        }
        if self.standing == Standing::Reachable {
            self.give_up();
        }
    }

    /// What was measured says nothing of the way as it is now, nor of the one that will be.
    fn give_up(&mut self) {
        self.standing = Standing::Unreachable;
        self.estimate.forget();
    }

    /// The last answer; before that, the first PING.
    pub fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Whether the target answers.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// When to call [`Self::handle_timeout`] and [`Self::poll_transmit`] next.
    pub fn poll_timeout(&self) -> Instant {
        let oldest = self.waiting.front().map(|oldest| oldest.sent + LOST_AFTER);
        oldest.map_or(self.next, |lost| lost.min(self.next))
    }

    /// What is known so far.
    pub fn estimate(&self) -> Estimate {
        self.estimate
    }

    /// Lost PINGs among the last 100 decided ones, 0 to 1; `None` before the first.
    pub fn loss(&self) -> Option<f64> {
        self.outcomes.lost_ratio()
    }
}

impl Estimate {
    fn forget(&mut self) {
        (self.rtt, self.last_rtt, self.jitter) = (None, None, Duration::ZERO);
    }

    fn answer(&mut self, rtt: Duration) {
        self.answered += 1;
        self.rtt = Some(self.rtt.map_or(rtt, |smoothed| (smoothed * 7 + rtt) / 8));
        if let Some(last) = self.last_rtt.replace(rtt) {
            self.jitter = (self.jitter * 15 + last.abs_diff(rtt)) / 16;
        }
    }
}

/// One bit for each of the last decided PINGs, the newest lowest.
#[derive(Debug, Default)]
struct Outcomes {
    lost: u128,
    count: u32,
}

impl Outcomes {
    fn push(&mut self, lost: bool) {
        self.lost = (self.lost << 1 | u128::from(lost)) & ((1 << WINDOW) - 1);
        self.count = (self.count + 1).min(WINDOW);
    }

    fn lost_ratio(&self) -> Option<f64> {
        (self.count > 0).then(|| f64::from(self.lost.count_ones()) / f64::from(self.count))
    }
}

/// The lower half of the clock, as PINGs carry it.
pub fn wrapping_us(now: Instant) -> u32 {
    u32::try_from(now.as_micros() & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rand_core::{TryRng, utils};

    use super::*;

    struct Counting(u64);

    impl TryRng for Counting {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            utils::next_word_via_fill(self)
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            utils::next_word_via_fill(self)
        }
        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
            self.0 += 1;
            out.copy_from_slice(&self.0.to_be_bytes()[..out.len()]);
            Ok(())
        }
    }

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    fn pong(ping: &Ping, hold_us: u32) -> Pong {
        Pong::answer(ping, hold_us, 0, ([192, 0, 2, 1], 1).into())
    }

    #[test]
    fn steady_answers_give_rtt_without_holding_time_and_no_jitter() {
        let (mut probe, mut rng) = (Probe::default(), Counting(0));
        for second in 0..20 {
            let ping = probe.poll_transmit(at(second * 1_000), &mut rng).unwrap();
            assert!(ping.probe);
            assert!(probe.handle_pong(at(second * 1_000 + 50), &pong(&ping, 10_000)));
        }
        assert_eq!(probe.estimate().rtt, Some(Duration::from_millis(40)));
        assert_eq!(probe.estimate().jitter, Duration::ZERO);
        assert_eq!(probe.loss(), Some(0.0));
    }

    #[test]
    fn alternating_round_trips_give_their_difference_as_jitter() {
        let (mut probe, mut rng) = (Probe::default(), Counting(0));
        for second in 0..200 {
            let ping = probe.poll_transmit(at(second * 1_000), &mut rng).unwrap();
            probe.handle_pong(at(second * 1_000 + 40 + second % 2 * 20), &pong(&ping, 0));
        }
        let jitter = probe.estimate().jitter.as_millis();
        assert!((19..=20).contains(&jitter), "{jitter}");
    }

    #[test]
    fn one_lost_in_four_is_a_quarter() {
        let (mut probe, mut rng) = (Probe::default(), Counting(0));
        for second in 0..104 {
            probe.handle_timeout(at(second * 1_000));
            let ping = probe.poll_transmit(at(second * 1_000), &mut rng).unwrap();
            if second % 4 != 0 {
                probe.handle_pong(at(second * 1_000 + 5), &pong(&ping, 0));
            }
        }
        probe.handle_timeout(at(200_000));
        assert_eq!(probe.loss(), Some(0.25));
        assert_eq!(probe.estimate().lost, 26);
    }

    /// A second in which nothing is answered, on a connection or without one; PINGs lost until then.
    fn silent_second(probe: &mut Probe, second: u64, connected: bool) -> u64 {
        probe.handle_timeout(at(second * 1_000));
        if connected {
            probe
                .poll_transmit(at(second * 1_000), &mut Counting(second))
                .unwrap();
        } else {
            probe.handle_disconnected(at(second * 1_000));
        }
        probe.estimate().lost
    }

    #[test]
    fn a_target_that_falls_silent_is_unreachable_after_five_seconds_and_its_times_are_forgotten() {
        let (mut probe, mut rng) = (Probe::default(), Counting(100));
        let ping = probe.poll_transmit(at(0), &mut rng).unwrap();
        assert_eq!(probe.standing(), Standing::Unknown);
        probe.handle_pong(at(10), &pong(&ping, 0));
        for second in 1..6 {
            silent_second(&mut probe, second, true);
            assert_eq!(probe.standing(), Standing::Reachable);
        }
        silent_second(&mut probe, 6, true);
        assert_eq!(probe.standing(), Standing::Unreachable);
        assert_eq!(probe.estimate().rtt, None);
        let ping = probe.poll_transmit(at(7_000), &mut rng).unwrap();
        probe.handle_pong(at(7_900), &pong(&ping, 0));
        assert_eq!(probe.standing(), Standing::Reachable);
        // Not smoothed with what was before.
        assert_eq!(probe.estimate().rtt, Some(Duration::from_millis(900)));
        assert_eq!(probe.estimate().jitter, Duration::ZERO);
    }

    #[test]
    fn pings_that_cannot_be_sent_are_lost_one_a_second() {
        let (mut probe, mut rng) = (Probe::default(), Counting(0));
        let ping = probe.poll_transmit(at(0), &mut rng).unwrap();
        probe.handle_pong(at(10), &pong(&ping, 0));
        probe.handle_disconnect();
        assert_eq!(probe.standing(), Standing::Unreachable);
        // There is a second to find a connection.
        for second in 1..=4 {
            assert_eq!(silent_second(&mut probe, second, false), second - 1);
        }
        assert_eq!(probe.loss(), Some(0.75));
    }

    #[test]
    fn a_target_that_has_never_answered_is_unknown_for_five_seconds() {
        let mut probe = Probe::default();
        for second in 10..15 {
            silent_second(&mut probe, second, false);
            probe.handle_disconnect();
            assert_eq!(probe.standing(), Standing::Unknown);
        }
        silent_second(&mut probe, 15, false);
        assert_eq!(probe.standing(), Standing::Unreachable);
        assert_eq!(probe.loss(), Some(1.0));
    }

    #[test]
    fn late_repeated_and_foreign_answers_count_for_nothing() {
        let (mut probe, mut rng) = (Probe::default(), Counting(0));
        let ping = probe.poll_transmit(at(0), &mut rng).unwrap();
        assert_eq!(probe.poll_transmit(at(999), &mut rng), None);
        assert_eq!(probe.poll_timeout(), at(1_000));
        probe.handle_timeout(at(3_000));
        assert!(!probe.handle_pong(at(3_001), &pong(&ping, 0)));
        let ping = probe.poll_transmit(at(3_001), &mut rng).unwrap();
        assert!(probe.handle_pong(at(3_002), &pong(&ping, 0)));
        assert!(!probe.handle_pong(at(3_003), &pong(&ping, 0)));
        assert_eq!(probe.estimate().answered, 1);
    }
}
