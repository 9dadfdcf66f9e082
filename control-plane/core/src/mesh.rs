//! What relays measured to each other, and estimates of what they did not.

use std::time::Duration;

use wzp_wire::{Instant, RelayId};

use crate::relay::{Place, Probe};

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

/// The inter-relay matrix.
#[derive(Clone, Debug, Default)]
pub struct Mesh {}

impl Mesh {
    /// `from` measured something to `probe.relay`.
    pub fn handle_probe(&mut self, now: Instant, from: (&RelayId, &Place), to: &Place, probe: &Probe) {}

    /// A relay is gone for good.
    pub fn forget(&mut self, relay: &RelayId) {}

    /// As `from` measured it last, however long ago.
    pub fn link(&self, from: &RelayId, to: &RelayId) -> Option<&Link> {
        None
    }

    /// Every pair that was measured.
    pub fn links(&self) -> impl Iterator<Item = (&RelayId, &RelayId, &Link)> {
        std::iter::empty()
    }

    /// The best that can be said of a pair.
    pub fn estimate(&self, now: Instant, a: (&RelayId, &Place), b: (&RelayId, &Place)) -> Option<Estimate> {
        None
    }

    /// The mean between relays of two regions, which may be the same.
    pub fn between_regions(&self, a: &str, b: &str) -> Option<Duration> {
        None
    }
}
