//! How much a relay has to do, as the control plane is told.

use std::time::Duration;

use wzp_wire::Instant;

/// Time constant of the averages.
const WINDOW: Duration = Duration::from_secs(5);

/// What has been done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Media bytes sent, without headers.
    pub bytes: u64,
    /// Media packets sent.
    pub packets: u64,
    /// Time of all cores together.
    pub cpu: Duration,
}

/// What can be done; 0: not known, and not limiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Bits a second.
    pub bits: u64,
    /// Packets a second.
    pub packets: u64,
    /// Cores.
    pub cores: u32,
    /// Connections at once.
    pub connections: u64,
}

/// Averages over 5 s, exponentially weighted.
#[derive(Clone, Debug)]
pub struct Meter {
    capacity: Capacity,
    last: Option<(Instant, Done)>,
    load: Load,
}

/// What is being done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Bits a second.
    pub bits: f64,
    /// Packets a second.
    pub packets: f64,
    /// Part of all cores, 1 is all of their time.
    pub cpu: f64,
}

impl Meter {
    /// Of a relay that has done nothing yet.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            last: None,
            load: Load::default(),
        }
    }

    /// So much has been done by `now`.
    pub fn handle_sample(&mut self, now: Instant, done: Done) {
        let Some((before, was)) = self.last.replace((now, done)) else {
            return;
        };
        let passed = now.duration_since(before).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        let weight = 1.0 - (-passed / WINDOW.as_secs_f64()).exp();
        let rate = |now: u64, was: u64| now.saturating_sub(was) as f64 / passed;
        let cores = f64::from(self.capacity.cores.max(1));
        let cpu = done.cpu.saturating_sub(was.cpu).as_secs_f64() / passed / cores;
        let toward = |average: &mut f64, now: f64| *average += weight * (now - *average);
        toward(&mut self.load.bits, 8.0 * rate(done.bytes, was.bytes));
        toward(&mut self.load.packets, rate(done.packets, was.packets));
        toward(&mut self.load.cpu, cpu.min(1.0));
    }

    /// The averages now.
    pub fn load(&self) -> Load {
        self.load
    }

    /// What can be done.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// The largest part of anything that is in use, 1 is all of it.
    pub fn ratio(&self, connections: usize) -> f64 {
        let part = |used: f64, limit: f64| if limit > 0.0 { used / limit } else { 0.0 };
        let Capacity {
            bits,
            packets,
            connections: most,
            ..
        } = self.capacity;
        let parts = [
            part(self.load.bits, bits as f64),
            part(self.load.packets, packets as f64),
            part(connections as f64, most as f64),
        ];
        parts.into_iter().fold(self.load.cpu, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_follow_what_is_done_within_seconds_and_the_largest_part_counts() {
        let mut meter = Meter::new(Capacity {
            bits: 0,
            packets: 1_000,
            cores: 2,
            connections: 100,
        });
        let mut done = Done::default();
        for second in 0..30 {
            meter.handle_sample(Instant::from_micros(second * 1_000_000), done);
            done.bytes += 10_000;
            done.packets += 100;
            done.cpu += Duration::from_millis(500);
        }
        let load = meter.load();
        assert!((load.bits - 80_000.0).abs() < 800.0, "{load:?}");
        assert!((load.packets - 100.0).abs() < 1.0);
        assert!((load.cpu - 0.25).abs() < 0.01);
        assert!((meter.ratio(10) - 0.25).abs() < 0.01);
        assert!((meter.ratio(90) - 0.9).abs() < 0.01);
        // As if the clock had not moved.
        meter.handle_sample(Instant::from_micros(29_000_000), done);
        assert!(meter.load().bits.is_finite());
    }
}
