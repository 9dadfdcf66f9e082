//! Whether a lane pair is alive, when to PING it, and its round-trip time.
//!
//! Used by both ends, from any thread through `&self`. PINGs go out every 5 s, every second once nothing has
//! opened for 2 s; after 5 s of silence media stops and the PINGs go on. (The PINGs that counters need are
//! [`crate::Sealer::ping_due`]'s; one PING serves both.)

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wzp_wire::Instant;

/// Nothing opened for this long: media stops.
pub const SILENCE: Duration = Duration::from_secs(5);

/// A direct lane ends when nothing opened for this long.
pub const DIRECT_LIFETIME: Duration = Duration::from_secs(30);

const KEEPALIVE: Duration = Duration::from_secs(5);
const SUSPICION: Duration = Duration::from_secs(2);
const SUSPICIOUS_PING: Duration = Duration::from_secs(1);

/// A PING unanswered for this long is lost.
const LOST: Duration = Duration::from_secs(3);

/// PINGs whose PONG can still be matched.
const REMEMBERED: usize = 16;

const NEVER: u64 = u64::MAX;

/// The life signs of one pair of lanes; what every packet needs stands first.
#[derive(Debug)]
#[repr(C)]
pub struct Alive {
    opened_at: AtomicU64,
    pinged_at: AtomicU64,
    answered_at: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    rtt: RttCell,
    pings: [Ping; REMEMBERED],
}

/// A PONG that belongs to one of our PINGs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The PING's counter: for [`crate::Sealer::confirm`].
    pub counter: u64,
    /// Round-trip time of this PING, without the time the peer held it.
    pub rtt: Duration,
}

/// Round-trip times seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rtt {
    /// Of the newest PONG.
    pub latest: Duration,
    /// Moving average, as RFC 9002 section 5.3.
    pub smoothed: Duration,
    /// Mean deviation, as RFC 9002 section 5.3.
    pub variation: Duration,
    /// The smallest.
    pub min: Duration,
}

/// PINGs of a lane pair, since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Sent.
    pub sent: u64,
    /// Answered by a PONG.
    pub answered: u64,
    /// Not answered within 3 s.
    pub lost: u64,
}

impl Alive {
    /// Starts at lane set-up: there are 5 s before the first silence.
    pub fn new(now: Instant) -> Self {
        Self {
            opened_at: AtomicU64::new(now.as_micros()),
            pinged_at: AtomicU64::new(NEVER),
            answered_at: AtomicU64::new(NEVER),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            rtt: RttCell::default(),
            pings: std::array::from_fn(|_| Ping::default()),
        }
    }

    /// A packet opened.
    pub fn handle_opened(&self, now: Instant) {
        self.opened_at.store(now.as_micros(), Ordering::Relaxed);
    }

    /// A PING was sealed under this counter.
    pub fn handle_ping_sent(&self, now: Instant, nonce: [u8; 8], counter: u64) {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        self.pinged_at.store(now.as_micros(), Ordering::Relaxed);
        if let Some(ping) = self.pings.get(number as usize % REMEMBERED) {
            ping.remember(now, u64::from_ne_bytes(nonce), counter);
        }
    }

    /// A PONG opened, which the peer held for `hold`; `None` when it answers no PING of ours, or one for the
    /// second time.
    pub fn handle_pong(&self, now: Instant, nonce: [u8; 8], hold: Duration) -> Option<Answer> {
        let nonce = u64::from_ne_bytes(nonce);
        let (sent_at, counter) = self.pings.iter().find_map(|ping| ping.take(nonce))?;
        let elapsed = now.duration_since(sent_at);
        let rtt = elapsed.checked_sub(hold).unwrap_or(elapsed);
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.answered_at.store(now.as_micros(), Ordering::Relaxed);
        self.rtt.add(rtt);
        Some(Answer { counter, rtt })
    }

    /// Whether a PING is due for the sake of life.
    pub fn ping_due(&self, now: Instant) -> bool {
        self.next_ping() <= now
    }

    /// When the next PING is due.
    pub fn next_ping(&self) -> Instant {
        let Some(pinged) = instant(&self.pinged_at) else {
            return Instant::ZERO;
        };
        (pinged + KEEPALIVE).min((self.opened_at() + SUSPICION).max(pinged + SUSPICIOUS_PING))
    }

    /// Whether nothing has opened for so long that media must stop.
    pub fn is_silent(&self, now: Instant) -> bool {
        now.duration_since(self.opened_at()) >= SILENCE
    }

    /// When the last packet opened; lane set-up before the first.
    pub fn opened_at(&self) -> Instant {
        Instant::from_micros(self.opened_at.load(Ordering::Relaxed))
    }

    /// When the last PONG came.
    pub fn answered_at(&self) -> Option<Instant> {
        instant(&self.answered_at)
    }

    /// Round-trip times; `None` before the first PONG.
    pub fn rtt(&self) -> Option<Rtt> {
        self.rtt.load()
    }

    /// How many PINGs were sent, answered and lost.
    pub fn counts(&self, now: Instant) -> Counts {
        let sent = self.sent.load(Ordering::Relaxed);
        let answered = self.answered.load(Ordering::Relaxed);
        let waiting = self.pings.iter().filter(|ping| ping.is_waiting(now)).count() as u64;
        Counts {
            sent,
            answered,
            lost: sent.saturating_sub(answered + waiting),
        }
    }
}

/// A PING that waits for its PONG.
#[derive(Debug, Default)]
struct Ping {
    /// 0: none. A nonce of 0 is random bad luck, and counts as lost.
    nonce: AtomicU64,
    sent_at: AtomicU64,
    counter: AtomicU64,
}

impl Ping {
    // Release and acquire on every field: whoever reads a field of a later PING then also sees that the nonce is
    // no longer its own, and gives up.
    fn remember(&self, now: Instant, nonce: u64, counter: u64) {
        self.nonce.store(0, Ordering::Release);
        self.sent_at.store(now.as_micros(), Ordering::Release);
        self.counter.store(counter, Ordering::Release);
        self.nonce.store(nonce, Ordering::Release);
    }

    fn take(&self, nonce: u64) -> Option<(Instant, u64)> {
        if nonce == 0 || self.nonce.load(Ordering::Acquire) != nonce {
            return None;
        }
        let sent_at = Instant::from_micros(self.sent_at.load(Ordering::Acquire));
        let counter = self.counter.load(Ordering::Acquire);
        self.nonce
            .compare_exchange(nonce, 0, Ordering::AcqRel, Ordering::Relaxed)
            .ok()?;
        Some((sent_at, counter))
    }

    fn is_waiting(&self, now: Instant) -> bool {
        let sent_at = Instant::from_micros(self.sent_at.load(Ordering::Relaxed));
        self.nonce.load(Ordering::Relaxed) != 0 && now.duration_since(sent_at) < LOST
    }
}

/// Two PONGs at the same instant may lose one sample; nothing worse.
#[derive(Debug)]
struct RttCell {
    latest_us: AtomicU64,
    smoothed_us: AtomicU64,
    variation_us: AtomicU64,
    min_us: AtomicU64,
}

impl Default for RttCell {
    fn default() -> Self {
        Self {
            latest_us: AtomicU64::new(NEVER),
            smoothed_us: AtomicU64::new(0),
            variation_us: AtomicU64::new(0),
            min_us: AtomicU64::new(NEVER),
        }
    }
}

impl RttCell {
    fn add(&self, rtt: Duration) {
        let sample = u64::try_from(rtt.as_micros()).unwrap_or(NEVER - 1);
        let first = self.latest_us.swap(sample, Ordering::Relaxed) == NEVER;
        let (smoothed, variation) = if first {
            (sample, sample / 2)
        } else {
            let smoothed = self.smoothed_us.load(Ordering::Relaxed);
            let variation = self.variation_us.load(Ordering::Relaxed);
            (
                blend(smoothed, sample, 8),
                blend(variation, smoothed.abs_diff(sample), 4),
            )
        };
        self.smoothed_us.store(smoothed, Ordering::Relaxed);
        self.variation_us.store(variation, Ordering::Relaxed);
        self.min_us.fetch_min(sample, Ordering::Relaxed);
    }

    fn load(&self) -> Option<Rtt> {
        let micros = |cell: &AtomicU64| Duration::from_micros(cell.load(Ordering::Relaxed));
        (self.latest_us.load(Ordering::Relaxed) != NEVER).then(|| Rtt {
            latest: micros(&self.latest_us),
            smoothed: micros(&self.smoothed_us),
            variation: micros(&self.variation_us),
            min: micros(&self.min_us),
        })
    }
}

fn blend(old: u64, sample: u64, weight: u64) -> u64 {
    old - old / weight + sample / weight
}

fn instant(cell: &AtomicU64) -> Option<Instant> {
    Some(cell.load(Ordering::Relaxed))
        .filter(|micros| *micros != NEVER)
        .map(Instant::from_micros)
}

#[cfg(test)]
mod tests;
