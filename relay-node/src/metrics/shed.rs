//! What is shed because the packet loops cannot keep up.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
};
use wzp_relay_core::overload::{LEVELS, Overload};

use super::hot::counters;

/// Read at each scrape.
#[derive(Debug)]
pub(super) struct Shedding(pub(super) Arc<Overload>);

impl Collector for Shedding {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let level = ConstGauge::new(i64::from(self.0.shed().level()));
        let metric = encoder.encode_descriptor(
            "wzp_relay_overload_level",
            "How much is shed because the packet loops cannot keep up, 0 to 3",
            None,
            level.metric_type(),
        )?;
        level.encode(metric)?;
        let levels: [&str; LEVELS] = ["0", "1", "2", "3"];
        let changes = levels.into_iter().zip(self.0.changes());
        counters(
            &mut encoder,
            "wzp_relay_overload_changes",
            "Changes of the level, by what it became",
            changes.map(|(level, count)| (vec![("level", level)], count)),
        )
    }
}
