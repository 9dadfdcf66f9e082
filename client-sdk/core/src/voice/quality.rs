//! From receiver reports to what is worth sending.
//!
//! Loss alone wants protection; loss together with rising delay is a link that is full, and then every byte less
//! helps and repair packets hurt. The thresholds, and where they come from:
//!
//! | rule | threshold | reason |
//! |---|---|---|
//! | good → degraded | one report of 20 % loss, or 14 % smoothed over 3 s | 1 repair for 5 packets can do no more than 16.7 %; at 14 % it leaves 7.5 % of frames lost. At a steady 10 % good (PESQ 3.3) still beats degraded without any loss (1.8), and a second at 10 % reads 20 % hardly ever |
//! | → catastrophic | one report of 40 %, or 28 % smoothed | 2 repairs for 4 packets leave 12 % of frames lost at 28 % loss, 5 for 5 leave 2 % |
//! | back | below 8 % (good), 18 % (degraded) smoothed, for 10 s | about 60 % of the way in, so that noise around one threshold never reaches the other |
//! | congestion | round trip 60 ms above its minimum and 2 % loss | three packets' worth of queue; radio loss comes without it |
//! | after congestion | 2 s between cuts, 60 s before the same rate is tried again | a queue needs a second to drain; trying is heard by everybody |
//! | 5 s without any report | degraded | whoever cannot tell us may not hear us either |
//!
//! With up to seven listeners, all of whom the relay carries, the worst of them decides. With more, it takes two of
//! them and a fifth of those who reported within 5 s, so that nobody alone makes everybody sound bad; and silence says
//! nothing, since a relay carries only the loudest of a large room.
//!
//! Time to relax doubles, up to 80 s, each time relaxing turns out to be wrong within a minute.

mod reporter;

use std::time::Duration;

use wzp_wire::{Instant, ReceiverReport, SenderId};

use self::reporter::{Baseline, Reporters};
use super::mode::{Repair, Tier};

const RELAX_AFTER: Duration = Duration::from_secs(10);
const RELAX_AT_MOST: Duration = Duration::from_secs(80);
const REGRET: Duration = Duration::from_secs(60);
const RETRY_CONGESTED: Duration = Duration::from_secs(60);
const RETRY_AT_MOST: Duration = Duration::from_secs(240);
const CUT_EVERY: Duration = Duration::from_secs(2);
const SILENT: Duration = Duration::from_secs(5);
/// With so many listeners each of them is worth everybody's sound.
const FEW: usize = 7;

const CONGESTED_RISE_MS: u16 = 60;
const CONGESTED_LOSS: u16 = 20;
/// Smoothed loss from which a tier without its repair packets gets them back at once.
const REPAIR_LOSS: u16 = 30;

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The tier.
    pub tier: Tier,
    /// With its repair packets or without.
    pub repair: Repair,
}

/// Why a plan replaced another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Packets are lost.
    Loss,
    /// Packets are lost and late: the link is full.
    Congestion,
    /// A receiver asked for no more than this.
    Wish,
    /// Nobody reports any more.
    NoReports,
    /// It has been good for long enough.
    Recovered,
    /// The user chose.
    Forced,
}

impl Why {
    /// Its name in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Congestion => "congestion",
            Self::Wish => "wish",
            Self::NoReports => "no_reports",
            Self::Recovered => "recovered",
            Self::Forced => "forced",
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A new plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// What was sent.
    pub from: Plan,
    /// What is to be sent.
    pub to: Plan,
    /// Why.
    pub why: Why,
}

/// Decides what one sender sends: for the worst of a few listeners, or for the worse part of many.
#[derive(Clone, Debug)]
pub struct Controller {
    plan: Plan,
    forced: Option<Tier>,
    reporters: Reporters,
    listeners: usize,
    /// Round trips that we measured ourselves.
    path: Baseline,
    last_report: Option<Instant>,

    /// Since when nothing spoke against a better plan, and how long that has to last.
    good_since: Instant,
    relax_after: Duration,
    relaxed: Option<Instant>,

    cut: Option<Instant>,
    /// The cheapest plan that was too much, when, and for how long not to try it again.
    too_much: Option<(Plan, Instant)>,
    retry_after: Duration,
}

impl Plan {
    /// `tier` with all its repair packets.
    #[must_use]
    pub const fn full(tier: Tier) -> Self {
        Self {
            tier,
            repair: Repair::Full,
        }
    }

    const fn off(tier: Tier) -> Self {
        Self {
            tier,
            repair: Repair::Off,
        }
    }

    /// The next plan that costs plainly less on the wire and has no more repair.
    const fn cheaper(self) -> Option<Self> {
        match self {
            // The repair packets of good are too few for their absence to help.
            Self { tier: Tier::Good, .. } => Some(Self::off(Tier::Degraded)),
            Self {
                tier,
                repair: Repair::Full,
            } => Some(Self::off(tier)),
            Self {
                tier: Tier::Degraded, ..
            } => Some(Self::off(Tier::Catastrophic)),
            Self {
                tier: Tier::Catastrophic,
                ..
            } => None,
        }
    }

    /// The next plan that sounds better.
    const fn better(self) -> Option<Self> {
        match self {
            Self {
                tier: Tier::Good,
                repair: Repair::Full,
            } => None,
            Self {
                tier: Tier::Catastrophic,
                repair: Repair::Off,
            } => Some(Self::off(Tier::Degraded)),
            Self {
                tier,
                repair: Repair::Off,
            } => Some(Self::full(tier)),
            Self {
                tier: Tier::Degraded, ..
            } => Some(Self::full(Tier::Good)),
            Self {
                tier: Tier::Catastrophic,
                ..
            } => Some(Self::full(Tier::Degraded)),
        }
    }

    /// What it costs beside the others, in kbit/s over a lane on IPv4; a test keeps it true.
    const fn kbps(self) -> u32 {
        match (self.tier, self.repair) {
            (Tier::Good, Repair::Full) => 67,
            (Tier::Good, Repair::Off) => 56,
            (Tier::Catastrophic, Repair::Full) => 35,
            (Tier::Degraded, Repair::Full) => 33,
            (Tier::Degraded, Repair::Off) => 22,
            (Tier::Catastrophic, Repair::Off) => 18,
        }
    }

    /// Smoothed loss, in thousandths, below which it is good enough to return to.
    const fn returns_below(self) -> u16 {
        match self.tier {
            Tier::Good => 80,
            Tier::Degraded => 180,
            Tier::Catastrophic => 1_001,
        }
    }
}

impl Controller {
    /// A controller whose call begins in `tier`.
    #[must_use]
    pub fn new(now: Instant, tier: Tier) -> Self {
        Self {
            plan: Plan::full(tier),
            forced: None,
            reporters: Reporters::default(),
            listeners: 1,
            path: Baseline::default(),
            last_report: None,
            good_since: now,
            relax_after: RELAX_AFTER,
            relaxed: None,
            cut: None,
            too_much: None,
            retry_after: RETRY_CONGESTED,
        }
    }

    /// What to send now.
    #[must_use]
    pub const fn plan(&self) -> Plan {
        self.plan
    }

    /// Takes what listener `from` reports about us.
    pub fn handle_report(&mut self, now: Instant, from: SenderId, report: &ReceiverReport) -> Option<Change> {
        self.last_report = Some(now);
        let seen = self.reporters.take(now, from, report);
        if self.forced.is_some() {
            return None;
        }
        let many = self.quorum(now);
        let seen = if many > 1 {
            self.reporters.of_the_worst(now, many)
        } else {
            seen
        };
        let rise = seen.rise_ms.max(self.path.rise_ms());
        if rise >= CONGESTED_RISE_MS && seen.loss >= CONGESTED_LOSS {
            return self.congested(now);
        }
        if let Some(wish) = self.reporters.wish(many).filter(|wish| *wish > self.plan.tier) {
            return self.worsen(
                now,
                Plan {
                    tier: wish,
                    ..self.plan
                },
                Why::Wish,
            );
        }
        if self.is_draining(now, 2 * CUT_EVERY) {
            // The tail of the queue's losses comes with the delay already falling.
            self.reporters.excuse();
            return None;
        }
        if let Some(plan) = self.protection(now, seen.loss, seen.smoothed) {
            return self.worsen(now, plan, Why::Loss);
        }
        self.relax(now, seen.smoothed, rise)
    }

    /// Takes a round trip time that we measured ourselves.
    pub fn handle_rtt(&mut self, now: Instant, rtt: Duration) {
        self.path
            .take(now, u16::try_from(rtt.as_millis()).unwrap_or(u16::MAX));
    }

    /// So many others are in the call, whether they report or not.
    pub fn set_listeners(&mut self, listeners: usize) {
        self.listeners = listeners;
    }

    /// The tier that `listener` asks for, or needs by its loss, if it is less than is sent.
    #[must_use]
    pub fn asked_by(&self, listener: SenderId) -> Option<Tier> {
        let (loss, smoothed, wish) = self.reporters.of(listener)?;
        Some(needed(loss, smoothed).max(wish.unwrap_or(Tier::Good))).filter(|tier| *tier > self.plan.tier)
    }

    /// `listener` has left: its reports are not missed.
    pub fn forget(&mut self, listener: SenderId) {
        self.reporters.forget(listener);
    }

    /// When [`Controller::handle_timeout`] is due: 5 s after the last report of listeners that are still there.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let few = self.listeners <= FEW;
        let waiting =
            few && self.forced.is_none() && self.plan.tier == Tier::Good && !self.reporters.is_empty();
        self.last_report.filter(|_| waiting).map(|last| last + SILENT)
    }

    /// Acts on the deadline of [`Controller::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Change> {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return None;
        }
        self.worsen(now, Plan::full(Tier::Degraded), Why::NoReports)
    }

    /// Sends `tier` whatever the reports say, or with `None` leaves it to them again.
    pub fn force(&mut self, now: Instant, tier: Option<Tier>) -> Option<Change> {
        self.forced = tier;
        self.good_since = now;
        self.change(now, Plan::full(tier?), Why::Forced)
    }

    /// How many listeners it takes.
    fn quorum(&self, now: Instant) -> usize {
        if self.listeners <= FEW {
            1
        } else {
            self.reporters.fresh(now).div_ceil(5).max(2)
        }
    }

    fn congested(&mut self, now: Instant) -> Option<Change> {
        self.good_since = now;
        self.reporters.excuse();
        if self.is_draining(now, CUT_EVERY) {
            return None;
        }
        let plan = self.plan.cheaper()?;
        self.retry_after = match self.too_much.map(|(_, when)| now.duration_since(when)) {
            // Still the same congestion, not another attempt.
            Some(passed) if passed < 3 * CUT_EVERY => self.retry_after,
            Some(passed) if passed < 2 * self.retry_after => (self.retry_after * 2).min(RETRY_AT_MOST),
            _ => RETRY_CONGESTED,
        };
        self.too_much = Some((self.plan, now));
        self.cut = Some(now);
        self.worsen(now, plan, Why::Congestion)
    }

    /// The last cut is less than `time` ago.
    fn is_draining(&self, now: Instant, time: Duration) -> bool {
        self.cut.is_some_and(|cut| now.duration_since(cut) < time)
    }

    /// The plan that this much loss needs, unless it is the present one or better.
    fn protection(&self, now: Instant, loss: u16, smoothed: u16) -> Option<Plan> {
        let needed = needed(loss, smoothed);
        let unprotected = self.plan.repair == Repair::Off && smoothed >= REPAIR_LOSS;
        if needed <= self.plan.tier && !unprotected {
            return None;
        }
        let plan = Plan::full(needed.max(self.plan.tier));
        self.affordable(now, plan).then_some(plan)
    }

    fn relax(&mut self, now: Instant, smoothed: u16, rise_ms: u16) -> Option<Change> {
        let better = self.plan.better()?;
        let wished = self
            .reporters
            .wish(self.quorum(now))
            .is_none_or(|wish| better.tier >= wish);
        if smoothed >= better.returns_below() || rise_ms >= CONGESTED_RISE_MS || !wished {
            self.good_since = now;
            return None;
        }
        if now.duration_since(self.good_since) < self.relax_after || !self.affordable(now, better) {
            return None;
        }
        self.relaxed = Some(now);
        self.change(now, better, Why::Recovered)
    }

    /// Nothing of its rate was too much for the link lately.
    fn affordable(&self, now: Instant, plan: Plan) -> bool {
        self.too_much.is_none_or(|(limit, when)| {
            plan.kbps() < limit.kbps() || now.duration_since(when) >= self.retry_after
        })
    }

    fn worsen(&mut self, now: Instant, plan: Plan, why: Why) -> Option<Change> {
        if let Some(relaxed) = self.relaxed.take() {
            let regret = now.duration_since(relaxed) < REGRET;
            self.relax_after = if regret {
                (self.relax_after * 2).min(RELAX_AT_MOST)
            } else {
                RELAX_AFTER
            };
        }
        self.change(now, plan, why)
    }

    fn change(&mut self, now: Instant, to: Plan, why: Why) -> Option<Change> {
        let from = std::mem::replace(&mut self.plan, to);
        self.good_since = now;
        (from != to).then_some(Change { from, to, why })
    }
}

/// The tier for this much loss.
const fn needed(loss: u16, smoothed: u16) -> Tier {
    if loss >= 400 || smoothed >= 280 {
        Tier::Catastrophic
    } else if loss >= 200 || smoothed >= 140 {
        Tier::Degraded
    } else {
        Tier::Good
    }
}

#[cfg(test)]
mod tests;
