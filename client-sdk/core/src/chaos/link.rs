//! One direction of a bad link: rate limit with a queue, delay, jitter, loss, reordering, duplication.
//!
//! A packet meets, in this order: loss, the sender's queue (drained at the link's rate, tail-dropped when it
//! holds more than [`Profile::queue`]), the base delay, and jitter. Jitter keeps order, as queues in real
//! networks do: a packet that is held up by a spike holds up those behind it, and they then arrive together.
//! Only packets picked by [`Profile::reorder`] may arrive after later ones.

use std::{collections::BTreeMap, time::Duration};

use wzp_wire::Instant;

use super::Rng;

/// What the link does to packets. The default is a perfect link: no delay, no loss, no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Profile {
    /// Bits a second; `None` is unlimited.
    pub rate_bps: Option<u64>,
    /// Most time a packet may wait for the rate limit before it is dropped instead.
    pub queue: Duration,
    /// One-way delay of an undisturbed packet, without its time on the wire.
    pub delay: Duration,
    /// Variation of the delay.
    pub jitter: Jitter,
    /// Which packets never arrive.
    pub loss: Loss,
    /// Chance that a packet takes a detour and may be overtaken.
    pub reorder: f64,
    /// Longest detour; a reordered packet is held up uniformly between nothing and this.
    pub reorder_by: Duration,
    /// Chance that a packet arrives twice.
    pub duplicate: f64,
}

/// Variation of the one-way delay. The default is none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Jitter {
    /// Standard deviation around the base delay.
    pub deviation: Duration,
    /// Time constant of the deviation: packets much closer than this are held up alike. Zero makes each
    /// packet's delay its own.
    pub memory: Duration,
    /// Mean length of a spike (exponentially distributed).
    pub spike: Duration,
    /// Mean time between the starts of spikes; zero means there are none.
    pub spike_every: Duration,
}

/// Which packets are lost. The default is none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Loss {
    /// Nothing is lost.
    #[default]
    None,
    /// Each packet on its own, with this chance.
    Independent(f64),
    /// Gilbert's two states: a share of all packets is lost, in runs of a mean length.
    Burst {
        /// Share of packets lost in the long run, `0.0..1.0`.
        share: f64,
        /// Mean packets in a run of losses; at least `1 / (1 - share)`, which is what chance alone gives.
        mean_run: f64,
    },
    /// Gilbert and Elliott: a good and a bad state, each losing its own share.
    TwoState {
        /// Chance per packet to turn bad.
        turn_bad: f64,
        /// Chance per packet to turn good again.
        turn_good: f64,
        /// Share lost while good.
        good: f64,
        /// Share lost while bad.
        bad: f64,
    },
}

/// What became of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Packets given to [`Link::send`].
    pub sent: u64,
    /// Packets handed out by [`Link::poll`], duplicates included.
    pub delivered: u64,
    /// Packets lost by [`Loss`].
    pub lost: u64,
    /// Packets dropped because the queue was full, or too many were under way.
    pub overflowed: u64,
    /// Packets that took a detour.
    pub reordered: u64,
    /// Extra copies made.
    pub duplicated: u64,
    /// Packets that met a cut, or were under way when it came.
    pub cut: u64,
}

impl Stats {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            delivered: self.delivered + other.delivered,
            lost: self.lost + other.lost,
            overflowed: self.overflowed + other.overflowed,
            reordered: self.reordered + other.reordered,
            duplicated: self.duplicated + other.duplicated,
            cut: self.cut + other.cut,
        }
    }
}

/// One direction of a link. The packet type is the caller's; bytes by default.
///
/// Two links with the same profile, seed and input behave the same.
#[derive(Debug, Clone)]
pub struct Link<P = Vec<u8>> {
    profile: Profile,
    rng: Rng,
    bad: bool,
    /// When the last queued byte has left.
    busy_until: Instant,
    /// When the latest packet that keeps order arrives.
    last_arrival: Instant,
    /// Current deviation in units of its standard deviation, and when it was drawn.
    wander: f64,
    wander_at: Instant,
    next_spike: Option<Instant>,
    /// Ordered by arrival, then by number, so that ties keep the order of sending.
    flying: BTreeMap<(Instant, u64), P>,
    /// Most packets that fly at a time.
    room: usize,
    number: u64,
    cut: bool,
    stats: Stats,
}

impl<P: AsRef<[u8]> + Clone> Link<P> {
    /// Sends a packet whose size is that of its bytes.
    pub fn send(&mut self, now: Instant, packet: P) {
        let bytes = packet.as_ref().len();
        self.send_sized(now, packet, bytes);
    }
}

impl<P: Clone> Link<P> {
    /// A link at rest.
    pub fn new(profile: Profile, seed: u64) -> Self {
        Self {
            profile,
            rng: Rng::new(seed),
            bad: false,
            busy_until: Instant::ZERO,
            last_arrival: Instant::ZERO,
            wander: 0.0,
            wander_at: Instant::ZERO,
            next_spike: None,
            flying: BTreeMap::new(),
            room: usize::MAX,
            number: 0,
            cut: false,
            stats: Stats::default(),
        }
    }

    /// Bounds its memory: no more than `packets` are under way at a time, and what comes beyond that is dropped.
    #[must_use]
    pub fn holding_at_most(mut self, packets: usize) -> Self {
        self.room = packets;
        self
    }

    /// Sends a packet that takes `bytes` on the wire (count IP and UDP headers where they matter).
    pub fn send_sized(&mut self, now: Instant, packet: P, bytes: usize) {
        self.stats.sent += 1;
        if self.cut {
            self.stats.cut += 1;
            return;
        }
        if self.flying.len() >= self.room {
            self.stats.overflowed += 1;
            return;
        }
        if self.loses() {
            self.stats.lost += 1;
            return;
        }
        let Some(left) = self.enqueue(now, bytes) else {
            self.stats.overflowed += 1;
            return;
        };
        let jittered = left + self.profile.delay.saturating_add(self.spike(now));
        let jittered = offset(jittered, self.deviation(now), left);
        let arrival = if self.profile.reorder > 0.0 && self.rng.chance(self.profile.reorder) {
            self.stats.reordered += 1;
            jittered + times(self.profile.reorder_by, self.rng.unit())
        } else {
            self.last_arrival = self.last_arrival.max(jittered);
            self.last_arrival
        };
        if self.profile.duplicate > 0.0 && self.rng.chance(self.profile.duplicate) {
            let again = arrival + times(self.profile.reorder_by, self.rng.unit());
            // The packet itself needs a place too.
            if self.flying.len() + 1 < self.room {
                self.stats.duplicated += 1;
                self.fly(again, packet.clone());
            }
        }
        self.fly(arrival, packet);
    }

    /// The next packet that has arrived by `now`.
    pub fn poll(&mut self, now: Instant) -> Option<P> {
        self.poll_timed(now).map(|(_, packet)| packet)
    }

    /// Like [`Link::poll`], with the time of arrival.
    pub fn poll_timed(&mut self, now: Instant) -> Option<(Instant, P)> {
        let first = self.flying.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let ((at, _), packet) = first.remove_entry();
        self.stats.delivered += 1;
        Some((at, packet))
    }

    /// When the next packet arrives, if any is under way.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.flying.first_key_value().map(|((at, _), _)| *at)
    }

    /// Changes the link from now on (a route change, a step in loss); packets under way are not touched.
    pub fn set_profile(&mut self, profile: Profile) {
        self.profile = profile;
        self.next_spike = None;
    }

    /// Cuts the link: what is under way is lost, and whatever is sent until [`Link::restore`]. Chance is not asked
    /// meanwhile, so how much a cut takes does not change the fate of what follows it.
    pub fn cut(&mut self) {
        self.cut = true;
        self.stats.cut += self.flying.len() as u64;
        self.flying.clear();
        // Nothing is left that later packets would have to queue behind.
        self.busy_until = Instant::ZERO;
        self.last_arrival = Instant::ZERO;
    }

    /// Ends a cut.
    pub fn restore(&mut self) {
        self.cut = false;
    }

    /// Whether it is not cut.
    pub fn is_open(&self) -> bool {
        !self.cut
    }

    /// What the link does now.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What became of packets.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn fly(&mut self, at: Instant, packet: P) {
        self.number += 1;
        self.flying.insert((at, self.number), packet);
    }

    fn loses(&mut self) -> bool {
        let (turn_bad, turn_good, good, bad) = match self.profile.loss {
            Loss::None => return false,
            Loss::Independent(share) => return self.rng.chance(share),
            Loss::Burst { share, mean_run } => {
                let turn_good = 1.0 / mean_run.max(1.0 / (1.0 - share.min(0.999)));
                (turn_good * share / (1.0 - share).max(0.001), turn_good, 0.0, 1.0)
            }
            Loss::TwoState {
                turn_bad,
                turn_good,
                good,
                bad,
            } => (turn_bad, turn_good, good, bad),
        };
        self.bad = self.rng.unit() < if self.bad { 1.0 - turn_good } else { turn_bad };
        self.rng.chance(if self.bad { bad } else { good })
    }

    /// When the packet's last bit has left, or `None` when the queue is full.
    fn enqueue(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let Some(rate) = self.profile.rate_bps else {
            return Some(now);
        };
        let start = self.busy_until.max(now);
        if start.duration_since(now) > self.profile.queue {
            return None;
        }
        let micros = (bytes as u64).saturating_mul(8_000_000) / rate.max(1);
        self.busy_until = start + Duration::from_micros(micros);
        Some(self.busy_until)
    }

    /// Remaining hold-up of a spike that begins at this packet, if one is due.
    fn spike(&mut self, now: Instant) -> Duration {
        let Jitter {
            spike, spike_every, ..
        } = self.profile.jitter;
        if spike_every.is_zero() {
            return Duration::ZERO;
        }
        let gap = |rng: &mut Rng| times(spike_every, rng.exponential());
        let due = *self.next_spike.get_or_insert_with(|| now + gap(&mut self.rng));
        if now < due {
            return Duration::ZERO;
        }
        self.next_spike = Some(now + gap(&mut self.rng));
        times(spike, self.rng.exponential())
    }

    /// Deviation from the base delay in microseconds (first-order autoregressive in time).
    fn deviation(&mut self, now: Instant) -> f64 {
        let Jitter {
            deviation, memory, ..
        } = self.profile.jitter;
        if deviation.is_zero() {
            return 0.0;
        }
        let age = now.duration_since(self.wander_at).as_secs_f64();
        let keep = if memory.is_zero() {
            0.0
        } else {
            (-age / memory.as_secs_f64()).exp()
        };
        self.wander = keep * self.wander + (1.0 - keep * keep).sqrt() * self.rng.normal();
        self.wander_at = now;
        self.wander * deviation.as_micros() as f64
    }
}

/// As `Duration::mul_f64`, which panics where this gives the longest time.
fn times(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(factor * duration.as_secs_f64()).unwrap_or(Duration::MAX)
}

/// `at` moved by `micros`, but never before `floor`.
fn offset(at: Instant, micros: f64, floor: Instant) -> Instant {
    let shift = Duration::from_micros(micros.abs() as u64);
    if micros < 0.0 {
        (at - shift).max(floor)
    } else {
        at + shift
    }
}

#[cfg(test)]
mod tests;
