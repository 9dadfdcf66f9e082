//! What each listener reported, smoothed, and the delay its path has when it is empty.

use std::time::Duration;

use wzp_wire::{Instant, ReceiverReport, SenderId};

use crate::voice::mode::Tier;

/// Listeners kept apart at most; in larger rooms whoever was quiet the longest is forgotten.
const LISTENERS: usize = 16;
/// Loss is smoothed with this time constant.
const SMOOTHING_MS: u32 = 3_000;
/// Reports count beside those of others for this long.
const FRESH: Duration = Duration::from_secs(5);
/// A minimum is that of the last one to two of these.
const BASELINE_SPAN: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default)]
pub(super) struct Reporters {
    all: [Option<Reporter>; LISTENERS],
}

#[derive(Clone, Debug)]
struct Reporter {
    id: SenderId,
    last: Instant,
    loss: u16,
    smoothed: u16,
    rise_ms: u16,
    rtt: Baseline,
    jitter: Baseline,
    wish: Option<Tier>,
}

/// One report, beside those before it from the same listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Loss of the report and smoothed, in thousandths.
    pub(super) loss: u16,
    pub(super) smoothed: u16,
    /// How far the delay is above its minimum.
    pub(super) rise_ms: u16,
}

/// A delay and its minimum of the last while.
#[derive(Clone, Debug, Default)]
pub(super) struct Baseline {
    now: u16,
    span: Option<(Instant, u16)>,
    before: Option<u16>,
}

impl Reporters {
    pub(super) fn take(&mut self, now: Instant, from: SenderId, report: &ReceiverReport) -> Seen {
        let reporter = self.reporter(now, from);
        let passed = u32::try_from(now.duration_since(reporter.last).as_millis()).unwrap_or(u32::MAX);
        reporter.last = now;
        // The first report stands for a second.
        let weight = if passed == 0 {
            1_000
        } else {
            passed.min(SMOOTHING_MS)
        };
        let loss = report.loss_permille.min(1_000);
        let sum = u32::from(reporter.smoothed) * SMOOTHING_MS + u32::from(loss) * weight;
        reporter.smoothed =
            u16::try_from((sum + (SMOOTHING_MS + weight) / 2) / (SMOOTHING_MS + weight)).unwrap_or(1_000);
        reporter.jitter.take(now, report.jitter_ms);
        // Who does not know the round trip knows the jitter, which a queue also raises.
        let mut rise_ms = reporter.jitter.rise_ms();
        if report.rtt_ms > 0 {
            reporter.rtt.take(now, report.rtt_ms);
            rise_ms = reporter.rtt.rise_ms();
        }
        (reporter.loss, reporter.rise_ms) = (loss, rise_ms);
        reporter.wish = match report.highest_tier {
            2 => Some(Tier::Degraded),
            3 => Some(Tier::Catastrophic),
            _ => None,
        };
        Seen {
            loss,
            smoothed: reporter.smoothed,
            rise_ms,
        }
    }

    /// What so many of those who reported lately, the worst of them, have at least.
    pub(super) fn of_the_worst(&self, now: Instant, many: usize) -> Seen {
        let least = |of: fn(&Reporter) -> u16| {
            let mut all = self.all.each_ref().map(|slot| {
                slot.as_ref()
                    .filter(|reporter| reporter.is_fresh(now))
                    .map_or(0, of)
            });
            all.sort_unstable();
            all.into_iter().nth_back(many.saturating_sub(1)).unwrap_or(0)
        };
        Seen {
            loss: least(|reporter| reporter.loss),
            smoothed: least(|reporter| reporter.smoothed),
            rise_ms: least(|reporter| reporter.rise_ms),
        }
    }

    /// How many reported lately.
    pub(super) fn fresh(&self, now: Instant) -> usize {
        self.all
            .iter()
            .flatten()
            .filter(|reporter| reporter.is_fresh(now))
            .count()
    }

    /// The wish that so many listeners have, or a more modest one.
    pub(super) fn wish(&self, many: usize) -> Option<Tier> {
        let wishes = |tier| {
            self.all
                .iter()
                .flatten()
                .filter(|reporter| reporter.wish >= Some(tier))
                .count()
        };
        [Tier::Catastrophic, Tier::Degraded]
            .into_iter()
            .find(|tier| wishes(*tier) >= many)
    }

    /// Loss, smoothed loss and wish of one of them.
    pub(super) fn of(&self, id: SenderId) -> Option<(u16, u16, Option<Tier>)> {
        let reporter = self.all.iter().flatten().find(|reporter| reporter.id == id)?;
        Some((reporter.loss, reporter.smoothed, reporter.wish))
    }

    /// What was lost so far was the queue's doing and says nothing about the link.
    pub(super) fn excuse(&mut self) {
        for reporter in self.all.iter_mut().flatten() {
            (reporter.loss, reporter.smoothed) = (0, 0);
        }
    }

    pub(super) fn forget(&mut self, id: SenderId) {
        for slot in &mut self.all {
            slot.take_if(|reporter| reporter.id == id);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.iter().all(Option::is_none)
    }

    fn reporter(&mut self, now: Instant, id: SenderId) -> &mut Reporter {
        let known = self
            .all
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|reporter| reporter.id == id));
        let slot = known.unwrap_or_else(|| {
            let ages = self
                .all
                .iter()
                .enumerate()
                .map(|(i, slot)| (slot.as_ref().map(|reporter| reporter.last), i));
            // An empty slot sorts before every time.
            ages.min().map_or(0, |(_, i)| i)
        });
        if known.is_none() {
            self.all[slot] = None;
        }
        self.all[slot].get_or_insert_with(|| Reporter {
            id,
            last: now,
            loss: 0,
            smoothed: 0,
            rise_ms: 0,
            rtt: Baseline::default(),
            jitter: Baseline::default(),
            wish: None,
        })
    }
}

impl Reporter {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.last) < FRESH
    }
}

impl Baseline {
    pub(super) fn take(&mut self, now: Instant, ms: u16) {
        self.now = ms;
        self.span = Some(match self.span {
            Some((start, least)) if now.duration_since(start) < BASELINE_SPAN => (start, least.min(ms)),
            Some((_, least)) => {
                self.before = Some(least);
                (now, ms)
            }
            None => (now, ms),
        });
    }

    pub(super) fn rise_ms(&self) -> u16 {
        let least = self
            .span
            .map(|(_, least)| least)
            .into_iter()
            .chain(self.before)
            .min();
        self.now.saturating_sub(least.unwrap_or(self.now))
    }
}
