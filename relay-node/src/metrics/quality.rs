//! What members report of what they hear.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use wzp_wire::signal::proto::QualityReport;

use super::{Label, SECONDS, label};

const RATIOS: [f64; 10] = [0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0];
const MOS: [f64; 8] = [1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.25, 4.5];
const GAPS: [f64; 8] = [0.02, 0.04, 0.1, 0.2, 0.4, 1.0, 3.0, 10.0];

/// Every report in sum.
pub(super) struct Quality {
    pub(super) loss: Family<Label, Histogram, fn() -> Histogram>,
    late: Histogram,
    concealed: Histogram,
    jitter: Histogram,
    mos: Histogram,
    pub(super) gap: Family<Label, Histogram, fn() -> Histogram>,
    fec_recovered: Counter,
    fec_unrecovered: Counter,
    key_mismatch: Counter,
}

impl Quality {
    pub(super) fn new() -> Self {
        Self {
            loss: Family::new_with_constructor(|| Histogram::new(RATIOS)),
            late: Histogram::new(RATIOS),
            concealed: Histogram::new(RATIOS),
            jitter: Histogram::new(SECONDS),
            mos: Histogram::new(MOS),
            gap: Family::new_with_constructor(|| Histogram::new(GAPS)),
            fec_recovered: Counter::default(),
            fec_unrecovered: Counter::default(),
            key_mismatch: Counter::default(),
        }
    }

    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "wzp_client_loss_ratio",
            "Packets lost on the way to a member, as it reports",
            self.loss.clone(),
        );
        r.register(
            "wzp_client_late_ratio",
            "Packets that came too late to be played, as reported",
            self.late.clone(),
        );
        r.register(
            "wzp_client_concealed_ratio",
            "Playing time that was concealed, as reported",
            self.concealed.clone(),
        );
        r.register(
            "wzp_client_jitter_seconds",
            "Jitter of arrival, as reported",
            self.jitter.clone(),
        );
        r.register(
            "wzp_mos_estimate",
            "Estimated mean opinion score of what is heard, as reported",
            self.mos.clone(),
        );
        r.register(
            "wzp_media_gap_seconds",
            "Longest gap since the report before",
            self.gap.clone(),
        );
        r.register(
            "wzp_fec_recovered",
            "Packets recovered by repair packets, as reported",
            self.fec_recovered.clone(),
        );
        r.register(
            "wzp_fec_unrecovered",
            "Packets lost in spite of repair, as reported",
            self.fec_unrecovered.clone(),
        );
        r.register(
            "wzp_key_mismatch",
            "Packets for which a member lacked the key, as reported",
            self.key_mismatch.clone(),
        );
    }

    pub(super) fn observe(&self, report: &QualityReport) {
        let QualityReport {
            loss_permille,
            late_permille,
            concealed_permille,
            jitter_ms,
            // Measured by our own PINGs.
            rtt_ms: _,
            mos_centi,
            fec_recovered,
            fec_unrecovered,
            key_mismatch,
            longest_gap_ms,
        } = *report;
        let ratio = |permille: u32| f64::from(permille.min(1_000)) / 1_000.0;
        // Who heard nothing has no estimate, and zeros that would count as a good link.
        if (100..=500).contains(&mos_centi) {
            self.mos.observe(f64::from(mos_centi) / 100.0);
            self.loss
                .get_or_create(&label("dir", "down"))
                .observe(ratio(loss_permille));
            self.late.observe(ratio(late_permille));
            self.concealed.observe(ratio(concealed_permille));
            self.jitter.observe(f64::from(jitter_ms.min(60_000)) / 1_000.0);
        }
        if longest_gap_ms > 0 {
            let gap = f64::from(longest_gap_ms.min(600_000)) / 1_000.0;
            self.gap.get_or_create(&label("cause", "network")).observe(gap);
        }
        // A report says at most what ten seconds of a large room can hold, whatever it claims.
        let most = 100_000;
        self.fec_recovered.inc_by(fec_recovered.min(most).into());
        self.fec_unrecovered.inc_by(fec_unrecovered.min(most).into());
        self.key_mismatch.inc_by(key_mismatch.min(most).into());
    }
}
