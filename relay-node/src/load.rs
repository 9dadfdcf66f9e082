//! How busy the relay is, looked at from beside the packet threads: what it sheds is logged, and its time is measured.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    runtime::{Handle, RuntimeMetrics},
    select,
    time::{self, Instant, MissedTickBehavior},
};
use tracing::warn;

use crate::{metrics::packet_threads, relay::Shared};

/// A level lasts longer.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The system counts in hundredths of a second.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// Watches for as long as the relay runs.
pub(crate) async fn watch(relay: Arc<Shared>) {
    let (mut looks, mut measurements) = (time::interval(LOOK_EVERY), time::interval(MEASURE_EVERY));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    measurements.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut level = 0;
    let mut before = Spent::now();
    loop {
        select! {
            _ = looks.tick() => {
                let now = relay.overload.shed().level();
                tell(level, now);
                level = now;
            }
            _ = measurements.tick() => {
                let now = Spent::now();
                relay.metrics.busy(now.io_since(&before), now.quic_since(&before));
                before = now;
            }
        }
    }
}

fn tell(before: u8, level: u8) {
    if level == before {
        return;
    }
    if level == 0 {
        warn!(level, before, "the relay keeps up again and takes newcomers");
    } else {
        warn!(
            level,
            before, "the relay cannot keep up: the loudest are heard, newcomers refused"
        );
    }
}

/// Time that threads have been busy in, ever.
struct Spent {
    at: Instant,
    /// CPU seconds of each packet thread.
    io: BTreeMap<u32, f64>,
    /// Of all QUIC threads.
    quic: Duration,
    quic_threads: u32,
}

impl Spent {
    fn now() -> Self {
        let runtime = Handle::current().metrics();
        let workers = 0..runtime.num_workers();
        Self {
            at: Instant::now(),
            io: packet_threads(),
            quic_threads: u32::try_from(workers.len()).unwrap_or(u32::MAX),
            quic: workers
                .map(|worker| RuntimeMetrics::worker_total_busy_duration(&runtime, worker))
                .sum(),
        }
    }

    /// The busiest packet thread's part of a core.
    fn io_since(&self, before: &Self) -> f64 {
        let took = self.at.duration_since(before.at).as_secs_f64();
        let spent = self.io.iter().map(|(thread, spent)| {
            let before = before.io.get(thread).copied().unwrap_or_default();
            part(spent - before, took)
        });
        spent.fold(0.0, f64::max)
    }

    /// The QUIC threads' part of the time they had.
    fn quic_since(&self, before: &Self) -> f64 {
        let took = self.at.duration_since(before.at) * self.quic_threads;
        part(
            self.quic.saturating_sub(before.quic).as_secs_f64(),
            took.as_secs_f64(),
        )
    }
}

fn part(spent: f64, took: f64) -> f64 {
    if took > 0.0 {
        (spent / took).clamp(0.0, 1.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_packet_thread_counts_and_quic_threads_count_together() {
        let at = Instant::now();
        let spent = |seconds: u64, io: &[(u32, f64)], quic_ms| Spent {
            at: at + Duration::from_secs(seconds),
            io: io.iter().copied().collect(),
            quic: Duration::from_millis(quic_ms),
            quic_threads: 2,
        };
        let before = spent(0, &[(1, 10.0), (2, 20.0)], 500);
        let after = spent(5, &[(1, 14.0), (2, 20.5)], 3_000);
        assert!((after.io_since(&before) - 0.8).abs() < 1e-9);
        assert!((after.quic_since(&before) - 0.25).abs() < 1e-9);
        assert_eq!(before.io_since(&before), 0.0);
    }

    #[test]
    fn packet_threads_are_found_by_their_names() {
        let (name, thread) = ("io-7", std::thread::Builder::new());
        let found = thread.name(name.to_owned()).spawn(packet_threads).unwrap();
        assert!(!found.join().unwrap().is_empty());
    }
}
