//! What relays measured to each other, and estimates of what they did not.
//!
//! Up to about 50 relays each pair is measured once a minute ([`crate::probes`]). Beyond that, a pair that was not
//! measured is taken to be as far as pairs of the same two regions are in the mean, of which one at least is always
//! measured; without regions, as far as the shortest way over a relay that was measured to both.

use std::{collections::BTreeMap, time::Duration};

use wzp_wire::{Instant, RelayId};

use crate::relay::{Place, Probe};

/// What is older is not the best that can be said of a pair.
pub const FRESH: Duration = Duration::from_secs(60);
/// What is older is forgotten.
const KEPT: Duration = Duration::from_secs(600);
/// Weight of a new sample, of those to one pair and of those between two regions.
const GAIN: (f64, f64) = (0.5, 0.1);

/// One direction of a pair, as last measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Smoothed over a few samples.
    pub rtt: Duration,
    /// Of the RTT.
    pub jitter: Duration,
    /// 0 to 1,000.
    pub loss_permille: u16,
    /// Whether the last rounds were answered.
    pub reachable: bool,
    /// When it was measured.
    pub measured: Instant,
}

/// What is known of the way between two relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// There and back.
    pub rtt: Duration,
    /// Where that is from.
    pub basis: Basis,
}

/// Where an estimate is from, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// One of the two measured it within the last minute.
    Measured,
    /// The mean of what pairs of relays of the two regions measured.
    Regions,
    /// The shortest way over a relay that both were measured to.
    Landmark,
}

type Row = BTreeMap<RelayId, Link>;

/// The inter-relay matrix.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    rows: BTreeMap<RelayId, Row>,
    /// Of both orders of two regions, in microseconds.
    regions: BTreeMap<Box<str>, BTreeMap<Box<str>, f64>>,
}

impl Mesh {
    /// `from` measured something to `probe.relay`.
    pub fn handle_probe(&mut self, now: Instant, from: (&RelayId, &Place), to: &Place, probe: &Probe) {
        let row = self.rows.entry(from.0.clone()).or_default();
        let measured = now - probe.age;
        let before = row.get(&probe.relay).copied();
        let rtt = match before {
            Some(link) if probe.unreachable => link.rtt,
            Some(link) if now.duration_since(link.measured) < FRESH => {
                Duration::from_micros(mix(micros(link.rtt), micros(probe.rtt), GAIN.0) as u64)
            }
            _ => probe.rtt,
        };
        let link = Link {
            rtt,
            jitter: probe.jitter,
            loss_permille: probe.loss_permille.min(1_000),
            reachable: !probe.unreachable,
            measured,
        };
        row.insert(probe.relay.clone(), link);
        if !probe.unreachable && !from.1.region.is_empty() && !to.region.is_empty() {
            self.mix_region(&from.1.region, &to.region, micros(probe.rtt));
            if from.1.region != to.region {
                self.mix_region(&to.region, &from.1.region, micros(probe.rtt));
            }
        }
    }

    /// A relay is gone for good.
    pub fn forget(&mut self, relay: &RelayId) {
        self.rows.remove(relay);
        for row in self.rows.values_mut() {
            row.remove(relay);
        }
    }

    /// Forgets what is old.
    pub fn handle_timeout(&mut self, now: Instant) {
        for row in self.rows.values_mut() {
            row.retain(|_, link| now.duration_since(link.measured) < KEPT);
        }
        self.rows.retain(|_, row| !row.is_empty());
    }

    /// As `from` measured it last.
    pub fn link(&self, from: &RelayId, to: &RelayId) -> Option<&Link> {
        self.rows.get(from)?.get(to)
    }

    /// Every pair that was measured.
    pub fn links(&self) -> impl Iterator<Item = (&RelayId, &RelayId, &Link)> {
        let row = |(from, row)| {
            let row: &Row = row;
            row.iter().map(move |(to, link)| (from, to, link))
        };
        self.rows.iter().flat_map(row)
    }

    /// What one relay measured.
    pub fn links_from(&self, from: &RelayId) -> impl Iterator<Item = (&RelayId, &Link)> {
        self.rows.get(from).into_iter().flatten()
    }

    /// The best that can be said of a pair.
    pub fn estimate(&self, now: Instant, a: (&RelayId, &Place), b: (&RelayId, &Place)) -> Option<Estimate> {
        if a.0 == b.0 {
            return Some(Estimate {
                rtt: Duration::ZERO,
                basis: Basis::Measured,
            });
        }
        let fresh = |link: &&Link| link.reachable && now.duration_since(link.measured) < FRESH;
        let direct = [self.link(a.0, b.0), self.link(b.0, a.0)]
            .into_iter()
            .flatten()
            .filter(fresh);
        let newest = direct.max_by_key(|link| link.measured);
        let by = |rtt, basis| Estimate { rtt, basis };
        newest
            .map(|link| by(link.rtt, Basis::Measured))
            .or_else(|| {
                Some(by(
                    self.between_regions(&a.1.region, &b.1.region)?,
                    Basis::Regions,
                ))
            })
            .or_else(|| Some(by(self.over_landmark(a.0, b.0)?, Basis::Landmark)))
    }

    /// The mean between relays of two regions, which may be the same.
    pub fn between_regions(&self, a: &str, b: &str) -> Option<Duration> {
        let us = self.regions.get(a)?.get(b)?;
        Some(Duration::from_micros(*us as u64))
    }

    fn over_landmark(&self, a: &RelayId, b: &RelayId) -> Option<Duration> {
        let leg = |x: &RelayId, y: &RelayId| {
            let link = self.link(x, y).or_else(|| self.link(y, x))?;
            link.reachable.then_some(link.rtt)
        };
        let over = |landmark| Some(leg(a, landmark)? + leg(b, landmark)?);
        let [of_a, of_b] = [a, b].map(|end| self.links_from(end).map(|(to, _)| to));
        of_a.chain(of_b)
            .filter(|to| *to != a && *to != b)
            .filter_map(over)
            .min()
    }

    fn mix_region(&mut self, a: &str, b: &str, us: f64) {
        let mean = self
            .regions
            .entry(a.into())
            .or_default()
            .entry(b.into())
            .or_insert(us);
        *mean = mix(*mean, us, GAIN.1);
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn mix(old: f64, new: f64, gain: f64) -> f64 {
    old + (new - old) * gain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, id, located, ms, probe};

    fn tell(mesh: &mut Mesh, from: (&str, &str), to: (&str, &str), rtt_ms: u64) {
        let from = (&id(from.0), &located(from.1));
        mesh.handle_probe(at(1_000), from, &located(to.1), &probe(to.0, rtt_ms));
    }

    fn estimate(mesh: &Mesh, now: u64, a: (&str, &str), b: (&str, &str)) -> Option<(u128, Basis)> {
        let of = mesh.estimate(at(now), (&id(a.0), &located(a.1)), (&id(b.0), &located(b.1)))?;
        Some((of.rtt.as_millis(), of.basis))
    }

    #[test]
    fn what_was_measured_wins_then_regions_then_a_landmark() {
        let mut mesh = Mesh::default();
        tell(&mut mesh, ("a", "eu"), ("b", "us"), 90);
        assert_eq!(
            estimate(&mesh, 2_000, ("b", "us"), ("a", "eu")),
            Some((90, Basis::Measured))
        );
        assert_eq!(
            estimate(&mesh, 2_000, ("c", "us"), ("a", "eu")),
            Some((90, Basis::Regions))
        );
        assert_eq!(
            estimate(&mesh, 70_000, ("a", "eu"), ("b", "us")),
            Some((90, Basis::Regions))
        );
        tell(&mut mesh, ("x", ""), ("m", ""), 10);
        tell(&mut mesh, ("m", ""), ("y", ""), 20);
        assert_eq!(
            estimate(&mesh, 2_000, ("x", ""), ("y", "")),
            Some((30, Basis::Landmark))
        );
        assert_eq!(estimate(&mesh, 2_000, ("x", ""), ("z", "")), None);
        assert_eq!(mesh.links().count(), 3);
    }

    #[test]
    fn an_unreachable_pair_is_known_as_such_and_not_estimated_from() {
        let mut mesh = Mesh::default();
        tell(&mut mesh, ("a", ""), ("b", ""), 40);
        let gone = Probe {
            unreachable: true,
            ..probe("b", 0)
        };
        mesh.handle_probe(at(2_000), (&id("a"), &located("")), &located(""), &gone);
        let link = mesh.link(&id("a"), &id("b")).copied().unwrap();
        assert_eq!((link.rtt, link.reachable), (ms(40), false));
        assert_eq!(estimate(&mesh, 2_000, ("a", ""), ("b", "")), None);
        mesh.forget(&id("b"));
        assert_eq!(mesh.links().count(), 0);
    }
}
