//! Having somebody reach every address of a relay before clients are told of it.

use std::time::Duration;

use wzp_wire::{Instant, RelayId};

use super::{
    Checker, Output, Registry,
    record::{Checks, Open},
};
use crate::relay::AddressReport;

/// So many try before a round is given up.
const CHECKERS: usize = 3;
/// Between two rounds: doubled by each, up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

impl Registry {
    /// An address was tried.
    pub fn handle_address_report(&mut self, now: Instant, by: &Checker, report: &AddressReport) {
        let Some(record) = self.relays.get_mut(&report.relay) else {
            return;
        };
        if !record
            .hello
            .addresses
            .iter()
            .any(|address| address.socket == report.address)
        {
            return;
        }
        let known = record.checks.verified.contains(&report.address);
        if let Checker::Relay(by) = by {
            let fresh = now - self.config.heartbeat;
            let reached = report.outcome.is_ok();
            // One address of several that fails says nothing against the one that was just reached.
            let several = record.hello.addresses.len() > 1;
            let contradicted = record
                .words
                .iter()
                .any(|(who, at, ok)| who == by && ok && at > fresh);
            if reached || known && !(several && contradicted) {
                record.words.say(by, now, reached);
            }
        }
        let checks = &mut record.checks;
        match &report.outcome {
            Ok(()) => {
                checks.verified.insert(report.address);
            }
            Err(_) if known => {}
            Err(why) => checks.why_not = Some(format!("{}: {why}", report.address)),
        }
        if let Some(open) = checks.open.as_mut().filter(|open| open.by == *by) {
            open.waiting.remove(&report.address);
            if open.waiting.is_empty() {
                close(checks);
            }
        }
        self.update(now, &report.relay);
    }

    /// Orders what is to be verified, unless it was.
    pub(super) fn check(&mut self, now: Instant, relay: &RelayId) {
        let timeout = self.config.check_timeout;
        let Some(record) = self.relays.get_mut(relay) else {
            return;
        };
        let unverified = record.unverified();
        let checks = &mut record.checks;
        if unverified.is_empty() {
            let verified = std::mem::take(&mut checks.verified);
            *checks = Checks {
                verified,
                ..Checks::default()
            };
            return;
        }
        if let Some(open) = &checks.open {
            if now.duration_since(open.since) < timeout {
                return;
            }
            checks.why_not = Some(match &open.by {
                Checker::Relay(by) => format!("relay {by}, asked to reach it, did not answer"),
                Checker::Control => "the control plane did not reach it in time".to_owned(),
            });
            close(checks);
        }
        if record.stream.is_none() || record.lost || checks.not_before.is_some_and(|at| now < at) {
            return;
        }
        checks.not_before = None;
        match self.choose_checker(now, relay) {
            Some(by) => self.order_check(now, relay, by),
            None => self.give_up_round(now, relay),
        }
    }

    fn order_check(&mut self, now: Instant, relay: &RelayId, by: Checker) {
        let Some(record) = self.relays.get_mut(relay) else {
            return;
        };
        let addresses = record.unverified();
        record.checks.open = Some(Open {
            by: by.clone(),
            since: now,
            waiting: addresses.iter().copied().collect(),
        });
        self.outputs.push_back(Output::CheckAddress {
            by,
            relay: relay.clone(),
            addresses,
            certificates: record.hello.certificates.clone(),
        });
    }

    fn give_up_round(&mut self, now: Instant, relay: &RelayId) {
        let Some(record) = self.relays.get_mut(relay) else {
            return;
        };
        let checks = &mut record.checks;
        checks.tried.clear();
        checks.not_before = Some(now + (AGAIN.0 * (1 << checks.rounds.min(5))).min(AGAIN.1));
        checks.rounds += 1;
    }

    /// The living relay, on another machine if there is one, that has the fewest orders; this process if it is alone.
    fn choose_checker(&self, now: Instant, relay: &RelayId) -> Option<Checker> {
        let record = self.relays.get(relay)?;
        let tried = &record.checks.tried;
        if tried.len() >= CHECKERS {
            return None;
        }
        let mut orders = std::collections::BTreeMap::new();
        for other in self.relays.values() {
            if let Some(Open {
                by: Checker::Relay(by),
                ..
            }) = &other.checks.open
            {
                *orders.entry(by).or_insert(0) += 1;
            }
        }
        let mut others = self.living(now).filter(|(other, _)| *other != relay).peekable();
        if others.peek().is_none() {
            return (!tried.contains(&Checker::Control)).then_some(Checker::Control);
        }
        let burden = |(other, of): &(&RelayId, &super::Relay)| {
            (
                of.place().shares_node(record.place()),
                orders.get(other).copied().unwrap_or(0),
            )
        };
        let untried =
            |(other, _): &(&RelayId, &super::Relay)| !tried.contains(&Checker::Relay((*other).clone()));
        let (chosen, _) = others.filter(untried).min_by_key(burden)?;
        Some(Checker::Relay(chosen.clone()))
    }
}

fn close(checks: &mut Checks) {
    if let Some(open) = checks.open.take() {
        checks.tried.push(open.by);
    }
}
