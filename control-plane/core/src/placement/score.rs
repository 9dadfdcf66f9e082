//! Scores of all relays for one request.

use std::{cmp::Ordering, collections::BTreeMap};

use rand_core::Rng;

use super::{Candidate, Explanation, Request, Role, Rule, Scored, Snapshot, Terms};
use crate::{leases::Seat, registry::Offer, relay::Place};

/// Rank of a relay that is listed, but has no room.
pub(super) const FULL: u8 = 1;
const DRAINING: u8 = 2;
const UNLISTED: u8 = 3;
/// RTT within the client's region, in ms, when nothing is measured.
const NEAR_MS: f32 = 10.0;
/// What another region is farther, in ms, when nothing is measured.
const ELSEWHERE_MS: f32 = 100.0;
/// What was measured goes before its equals that were not: more than near-equals may differ by.
const ESTIMATED_MS: f32 = 6.0;
/// One per cent of loss is worth that many ms of RTT.
const LOSS_MS: f32 = 10.0;
const LOSS_MOST_MS: f32 = 300.0;
const FAILURE_MS: f32 = 30.0;
const AVOID_MS: f32 = 40.0;
/// More than what near-equals may differ by: rooms on relays that are about to be replaced would move twice.
const OUTDATED_MS: f32 = 6.0;
/// Near-equals of the best differ by no more: 5 ms, or a tenth of its score.
const NEAR_EQUAL: (f32, f32) = (5.0, 0.1);
/// Below that load only members are counted: the rest is noise.
const CALM: f32 = 0.3;

#[derive(Clone, Copy, Debug)]
struct Score {
    rank: u8,
    total: f32,
    terms: Terms,
}

/// Every relay of a snapshot with its score for one request.
pub(super) struct Ranking<'s, 'a> {
    snapshot: &'s Snapshot<'a>,
    scores: Vec<Score>,
    pub(super) basis: Rule,
}

impl<'s, 'a> Ranking<'s, 'a> {
    pub(super) fn new(snapshot: &'s Snapshot<'a>, request: &Request) -> Self {
        let ways = Ways::new(snapshot, request);
        let scores = snapshot.relays().iter().enumerate().map(|(at, candidate)| {
            let (rtt, loss) = ways.of(at);
            let terms = Terms {
                rtt,
                loss,
                load: load_ms(candidate.load),
                failures: candidate.failures * FAILURE_MS,
                version: if candidate.outdated { OUTDATED_MS } else { 0.0 },
                avoid: if candidate.offer == Some(Offer::Avoid) {
                    AVOID_MS
                } else {
                    0.0
                },
            };
            Score {
                rank: rank(candidate),
                total: terms.sum(),
                terms,
            }
        });
        Self {
            snapshot,
            scores: scores.collect(),
            basis: ways.basis,
        }
    }

    /// The best relay to carry of those that are `allowed`, and among how many near-equals it was chosen.
    pub(super) fn carrier(
        &self,
        allowed: impl Fn(usize) -> bool,
        rng: &mut impl Rng,
    ) -> Option<(usize, usize)> {
        let among: Vec<_> = (0..self.scores.len()).filter(|at| allowed(*at)).collect();
        self.emptiest_of_best(&among, |candidate| candidate.carried as f32, rng)
    }

    /// The best relay to stand by: on another machine and in another zone than the carrying ones, if there is one. None
    /// that is about to leave, or that clients may not reach.
    pub(super) fn standby(&self, carriers: &[usize], rng: &mut impl Rng) -> Option<usize> {
        let places: Vec<_> = carriers
            .iter()
            .filter_map(|at| Some(self.candidate(*at)?.place))
            .collect();
        let apart = |at: &usize| {
            let place = self.candidate(*at).map(|candidate| candidate.place);
            let shares = |with: fn(&Place, &Place) -> bool| {
                place.is_some_and(|place| places.iter().any(|other| with(place, other)))
            };
            u8::from(shares(Place::shares_zone)) + 2 * u8::from(shares(Place::shares_node))
        };
        let others: Vec<_> = (0..self.scores.len())
            .filter(|at| !carriers.contains(at))
            .map(|at| ((self.rank(at), apart(&at)), at))
            .collect();
        let best = others.iter().map(|(key, _)| *key).min()?;
        if best.0 > FULL {
            return None;
        }
        let among: Vec<_> = others
            .into_iter()
            .filter(|(key, _)| *key == best)
            .map(|(_, at)| at)
            .collect();
        let members = |candidate: &Candidate<'_>| (candidate.carried + candidate.standby) as f32;
        Some(self.emptiest_of_best(&among, members, rng)?.0)
    }

    fn emptiest_of_best(
        &self,
        among: &[usize],
        members: impl Fn(&Candidate<'_>) -> f32,
        rng: &mut impl Rng,
    ) -> Option<(usize, usize)> {
        let best = among.iter().copied().min_by(|a, b| self.compare(*a, *b))?;
        let best = self.scores.get(best)?;
        let most = best.total + NEAR_EQUAL.0.max(best.total * NEAR_EQUAL.1);
        let filled = |at: usize| {
            let (score, candidate) = (self.scores.get(at)?, self.candidate(at)?);
            let near = score.rank == best.rank && score.total <= most;
            let fill = members(candidate) * candidate.member_cost + (candidate.load - CALM).max(0.0);
            near.then_some((at, fill, candidate.member_cost))
        };
        let near: Vec<_> = among.iter().filter_map(|at| filled(*at)).collect();
        let emptiest = near.iter().map(|(_, fill, _)| *fill).min_by(f32::total_cmp)?;
        let equal = near
            .iter()
            .filter(|(_, fill, cost)| *fill <= emptiest + cost * 0.5);
        let equal: Vec<_> = equal.map(|(at, ..)| *at).collect();
        let drawn = (u64::from(rng.next_u32()) * equal.len() as u64) >> 32;
        Some((*equal.get(drawn as usize)?, near.len()))
    }

    pub(super) fn rank(&self, at: usize) -> u8 {
        self.scores.get(at).map_or(u8::MAX, |score| score.rank)
    }

    /// By rank, then by score.
    pub(super) fn compare(&self, a: usize, b: usize) -> Ordering {
        let key = |at: usize| {
            self.scores
                .get(at)
                .map_or((u8::MAX, f32::MAX), |score| (score.rank, score.total))
        };
        let ((ar, at), (br, bt)) = (key(a), key(b));
        ar.cmp(&br).then(at.total_cmp(&bt))
    }

    /// By the client's way there alone.
    pub(super) fn compare_way(&self, a: usize, b: usize) -> Ordering {
        self.way_ms(a).total_cmp(&self.way_ms(b))
    }

    /// RTT of the client's way there, and what its loss is worth.
    pub(super) fn way_ms(&self, at: usize) -> f32 {
        self.scores
            .get(at)
            .map_or(f32::MAX, |score| score.terms.rtt + score.terms.loss)
    }

    pub(super) fn candidate(&self, at: usize) -> Option<&Candidate<'a>> {
        self.snapshot.relays().get(at)
    }

    pub(super) fn seats(&self, chosen: &[(usize, Role)]) -> Vec<Seat> {
        let seat = |(at, role): &(usize, Role)| {
            Some(Seat {
                relay: self.candidate(*at)?.relay.clone(),
                carries: *role == Role::Carries,
            })
        };
        chosen.iter().filter_map(seat).collect()
    }

    pub(super) fn explain(&self, rule: Rule, near_equals: usize, chosen: &[(usize, Role)]) -> Explanation {
        let told = Explanation::MAX_CANDIDATES.saturating_sub(chosen.len());
        let mut others: Vec<usize> = Vec::with_capacity(told + 1);
        for at in (0..self.scores.len()).filter(|at| chosen.iter().all(|(other, _)| other != at)) {
            let is_worse = |last: &usize| self.compare(at, *last).is_ge();
            if others.len() < told || !others.last().is_none_or(is_worse) {
                let place = others.partition_point(|other| self.compare(*other, at).is_le());
                others.insert(place, at);
                others.truncate(told);
            }
        }
        let scored = |(at, role): (usize, Option<Role>)| {
            let (score, candidate) = (self.scores.get(at)?, self.candidate(at)?);
            Some(Scored {
                relay: candidate.relay.clone(),
                role,
                rank: score.rank,
                score: score.total,
                terms: score.terms,
                load: candidate.load,
            })
        };
        let chosen = chosen.iter().map(|(at, role)| (*at, Some(*role)));
        let candidates = chosen
            .chain(others.into_iter().map(|at| (at, None)))
            .filter_map(scored);
        Explanation {
            rule,
            considered: self.scores.len(),
            near_equals,
            candidates: candidates.collect(),
        }
    }
}

/// The client's way to every relay.
struct Ways {
    /// By position: RTT and loss, in ms.
    measured: Vec<(usize, f32, f32)>,
    /// RTT to each region, in ms.
    regions: Vec<f32>,
    /// In which region each relay is.
    region_of: Vec<usize>,
    basis: Rule,
}

impl Ways {
    fn new(snapshot: &Snapshot<'_>, request: &Request) -> Self {
        let given = request.measurements.iter().take(Request::MAX_MEASUREMENTS);
        let known = given.filter_map(|measured| {
            let loss = f32::from(measured.loss_permille.min(1_000)) / 10.0 * LOSS_MS;
            let rtt = measured.rtt.as_secs_f32() * 1_000.0;
            Some((
                snapshot.position(&measured.relay)?,
                rtt.min(10_000.0),
                loss.min(LOSS_MOST_MS),
            ))
        });
        let mut measured: Vec<_> = known.collect();
        measured.sort_by_key(|(at, ..)| *at);
        measured.dedup_by_key(|(at, ..)| *at);
        let region = |at: usize| {
            snapshot
                .relays()
                .get(at)
                .map_or("", |candidate| &candidate.place.region)
        };
        let nearest = measured.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        let (basis, home, base) = match nearest {
            Some((at, rtt, _)) => (Rule::Measured, region(*at), *rtt),
            None if request.region.is_empty() => (Rule::Spread, "", 0.0),
            None => (Rule::Region, &*request.region, NEAR_MS),
        };
        let way = |there: &str| match basis {
            Rule::Spread => 0.0,
            _ if there == home => base,
            _ => {
                let farther = snapshot.mesh().between_regions(home, there);
                base + farther.map_or(ELSEWHERE_MS, |rtt| rtt.as_secs_f32() * 1_000.0)
            }
        };
        let mut regions = Vec::new();
        let mut slots = BTreeMap::new();
        let mut region_of = Vec::with_capacity(snapshot.relays().len());
        for candidate in snapshot.relays() {
            region_of.push(
                *slots.entry(&*candidate.place.region).or_insert_with_key(|there| {
                    regions.push(way(there));
                    regions.len() - 1
                }),
            );
        }
        // Whoever was measured speaks for its region.
        for (at, rtt, _) in &measured {
            if let Some(way) = region_of.get(*at).and_then(|slot| regions.get_mut(*slot)) {
                *way = way.min(*rtt);
            }
        }
        Self {
            measured,
            regions,
            region_of,
            basis,
        }
    }

    fn of(&self, at: usize) -> (f32, f32) {
        if let Ok(found) = self.measured.binary_search_by_key(&at, |(at, ..)| *at)
            && let Some((_, rtt, loss)) = self.measured.get(found)
        {
            return (*rtt, *loss);
        }
        let way = self.region_of.get(at).and_then(|slot| self.regions.get(*slot));
        let doubt = if self.basis == Rule::Measured {
            ESTIMATED_MS
        } else {
            0.0
        };
        (way.map_or(ELSEWHERE_MS, |way| way + doubt), 0.0)
    }
}

impl Terms {
    fn sum(&self) -> f32 {
        let Self {
            rtt,
            loss,
            load,
            failures,
            version,
            avoid,
        } = self;
        rtt + loss + load + failures + version + avoid
    }
}

fn rank(candidate: &Candidate<'_>) -> u8 {
    match candidate.offer {
        None => UNLISTED,
        Some(Offer::Draining) => DRAINING,
        Some(_) if !candidate.has_room_for(1) => FULL,
        Some(_) => 0,
    }
}

/// Next to nothing up to a half, 65 ms at 80 %, 175 ms at 90 %.
fn load_ms(load: f32) -> f32 {
    let load = load.clamp(0.0, 1.0);
    40.0 * load.powi(4) / (1.05 - load)
}
