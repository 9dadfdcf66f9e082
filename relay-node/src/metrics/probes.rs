//! The ways to other relays.

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use wzp_relay_core::probe::{Probe, Standing};

use super::{Label, Ratio, label};

/// What PINGs have shown.
#[derive(Default)]
pub(super) struct Probes {
    rtt: Family<Label, Ratio>,
    jitter: Family<Label, Ratio>,
    loss: Family<Label, Ratio>,
    reachable: Family<Label, Gauge>,
}

impl Probes {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "wzp_probe_rtt_seconds",
            "Smoothed round trip to a probed relay",
            self.rtt.clone(),
        );
        r.register(
            "wzp_probe_jitter_seconds",
            "Smoothed change between round trips",
            self.jitter.clone(),
        );
        r.register(
            "wzp_probe_loss_ratio",
            "Lost among the last 100 PINGs",
            self.loss.clone(),
        );
        r.register(
            "wzp_probe_reachable",
            "1 while the probed relay answers PINGs",
            self.reachable.clone(),
        );
    }

    pub(super) fn set(&self, target: &str, probe: &Probe) {
        let label = label("target", target);
        let estimate = probe.estimate();
        if let Some(rtt) = estimate.rtt {
            self.rtt.get_or_create(&label).set(rtt.as_secs_f64());
            self.jitter
                .get_or_create(&label)
                .set(estimate.jitter.as_secs_f64());
        } else {
            // A number from before would look like a measurement.
            self.rtt.remove(&label);
            self.jitter.remove(&label);
        }
        if let Some(loss) = probe.loss() {
            self.loss.get_or_create(&label).set(loss);
        }
        // Last, so that no scrape finds round trips of a target that is said to be unreachable.
        self.reachable
            .get_or_create(&label)
            .set(i64::from(probe.standing() == Standing::Reachable));
    }
}
