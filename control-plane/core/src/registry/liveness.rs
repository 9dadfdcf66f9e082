//! Who is alive, who is silent and who is lost.

use std::time::Duration;

use wzp_wire::{Instant, RelayId};

use super::{Offer, Output, Registry, Relay, State, WhyLost, record::Words};

/// Whoever was asked and has not said by then cannot tell.
const TELL_WITHIN: Duration = Duration::from_secs(15);
/// Between two times that others are asked for a silent relay.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// So many are asked.
const ASKED: usize = 3;

/// What the evidence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// It is heard.
    Heard,
    /// It is not heard for long, but others reach it.
    CutOff,
    /// Nobody reaches it, which is not enough yet.
    Silent,
    /// It is gone.
    Dead(WhyLost),
}

impl Registry {
    /// How long nothing may come from a relay.
    pub(super) fn patience(&self) -> Duration {
        self.config.heartbeat * 3
    }

    /// For how long nothing came from a relay although it could have.
    fn silence(&self, now: Instant, relay: &Relay) -> Duration {
        now.duration_since(relay.heard.max(self.awake))
    }

    /// Relays from which something came lately, over a stream that is open.
    pub(super) fn living(&self, now: Instant) -> impl Iterator<Item = (&RelayId, &Relay)> {
        self.relays
            .iter()
            .filter(move |(_, relay)| self.is_living(now, relay))
    }

    fn is_living(&self, now: Instant, relay: &Relay) -> bool {
        relay.stream.is_some() && self.silence(now, relay) < self.patience()
    }

    /// Nobody was heard for so long that this replica takes itself to be cut off: with one relay or none it cannot
    /// tell, and is not.
    pub fn is_deaf(&self, now: Instant) -> bool {
        let patience = self.patience();
        let known = || self.relays.values().filter(|relay| !relay.lost);
        known().count() > 1 && known().all(|relay| self.silence(now, relay) >= patience)
    }

    /// Brings a relay to where it stands by now.
    pub(super) fn update(&mut self, now: Instant, id: &RelayId) {
        let evidence = self.evidence(now, id);
        self.ask_others(now, id);
        self.check(now, id);
        let Some(record) = self.relays.get_mut(id) else {
            return;
        };
        if let Evidence::Dead(why) = evidence
            && !record.lost
        {
            record.lost = true;
            record.failures.add(now);
            let boot = Some(record.hello.boot);
            self.outputs.push_back(Output::RelayLost {
                relay: id.clone(),
                boot,
                why,
            });
        }
        let state = stand(now, record, evidence);
        self.show(id, state);
    }

    /// Notes the state, and what the list says by it.
    pub(super) fn show(&mut self, id: &RelayId, state: State) {
        let Some(record) = self.relays.get_mut(id) else {
            return;
        };
        if record.state != state {
            record.state = state.clone();
            self.outputs.push_back(Output::StateChanged {
                relay: id.clone(),
                state,
            });
        }
        let shown = record.shown_now();
        if record.shown != shown {
            record.shown = shown;
            self.list_changed = true;
        }
    }

    fn evidence(&self, now: Instant, id: &RelayId) -> Evidence {
        let Some(relay) = self.relays.get(id) else {
            return Evidence::Heard;
        };
        let patience = self.patience();
        let silent = self.silence(now, relay);
        if silent < patience && (relay.stream.is_some() || !self.gone_by_peers(now, relay)) {
            return Evidence::Heard;
        }
        if relay.words.reached_since(now - patience) && silent >= patience {
            return Evidence::CutOff;
        }
        if silent < patience {
            return Evidence::Silent;
        }
        if self.is_deaf(now) {
            // It stays where it was: what would be known of others is known of none.
            return match relay.state {
                State::Silent => Evidence::Silent,
                State::Lost => Evidence::Dead(WhyLost::NobodyCanTell),
                _ => Evidence::CutOff,
            };
        }
        self.verdict(now, Some(id), relay.heard.max(self.awake), &relay.words)
            .map_or(Evidence::Silent, Evidence::Dead)
    }

    /// A living peer says that it does not reach it, none has reached it since we heard it last.
    fn gone_by_peers(&self, now: Instant, relay: &Relay) -> bool {
        self.denied(now, relay.heard, &relay.words) && !relay.words.reached_since(relay.heard)
    }

    fn denied(&self, now: Instant, heard: Instant, words: &Words) -> bool {
        words
            .iter()
            .any(|(by, at, reached)| !reached && at >= heard && self.lives(now, by))
    }

    fn lives(&self, now: Instant, id: &RelayId) -> bool {
        self.relays
            .get(id)
            .is_some_and(|relay| self.is_living(now, relay))
    }

    /// Of a relay that is silent for long and was not reached by anybody meanwhile: whether that is enough.
    pub(super) fn verdict(
        &self,
        now: Instant,
        id: Option<&RelayId>,
        heard: Instant,
        words: &Words,
    ) -> Option<WhyLost> {
        if self.denied(now, heard, words) {
            return Some(WhyLost::PeersCannotReachIt);
        }
        let can_tell = words.iter().any(|(by, ..)| self.lives(now, by));
        let waited = now.duration_since(heard) >= TELL_WITHIN;
        let others = || {
            self.relays
                .iter()
                .filter(|(other, relay)| id != Some(*other) && !relay.lost)
        };
        let living = self
            .living(now)
            .filter(|(other, relay)| id != Some(*other) && !relay.lost)
            .count();
        // When most are silent at once, it is rather the way to them.
        let most_live = 2 * living >= others().count();
        // Somebody could have been asked, and answers within the time for it.
        let nobody = !can_tell && living == 0;
        (most_live && (waited || nobody)).then_some(WhyLost::NobodyCanTell)
    }

    /// Has some living relays try to reach one that is in doubt.
    fn ask_others(&mut self, now: Instant, id: &RelayId) {
        let Some(relay) = self.relays.get(id) else { return };
        let quiet = self.silence(now, relay) >= self.config.heartbeat * 3 / 2;
        let asked = relay.asked.is_some_and(|at| now.duration_since(at) < ASK_AGAIN);
        let addresses: Vec<_> = relay.verified().map(|address| address.socket).collect();
        if relay.lost || asked || addresses.is_empty() || !(quiet || relay.stream.is_none()) {
            return;
        }
        let tells = |other: &RelayId| relay.words.iter().any(|(by, ..)| by == other);
        let mut others: Vec<_> = self
            .living(now)
            .map(|(other, _)| other)
            .filter(|other| *other != id)
            .collect();
        others.sort_by_key(|other| !tells(other));
        let orders: Vec<_> = others
            .into_iter()
            .take(ASKED)
            .map(|by| Output::CheckAddress {
                by: super::Checker::Relay(by.clone()),
                relay: id.clone(),
                addresses: addresses.clone(),
                certificates: relay.hello.certificates.clone(),
            })
            .collect();
        self.outputs.extend(orders);
        if let Some(relay) = self.relays.get_mut(id) {
            relay.asked = Some(now);
        }
    }
}

fn stand(now: Instant, relay: &Relay, evidence: Evidence) -> State {
    match evidence {
        _ if relay.lost => State::Lost,
        Evidence::Silent | Evidence::Dead(_) => State::Silent,
        Evidence::Heard | Evidence::CutOff => {
            let listed = relay.offer().is_some();
            if !relay.synced && !listed {
                return State::Joining;
            }
            let reached = relay.verified().next().is_some();
            let all = relay.unverified().is_empty();
            if !(reached && (all || listed)) {
                return State::Checking {
                    why_not: relay.checks.why_not.clone(),
                };
            }
            let offer: Offer = relay.offer_now(now, evidence == Evidence::CutOff);
            State::Listed { offer }
        }
    }
}
