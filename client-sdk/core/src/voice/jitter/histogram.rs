//! Which offsets occur how often, with a past that fades.

/// Width of a bucket in microseconds.
pub(super) const BUCKET: i64 = 5_000;
const BUCKETS: usize = 256;

/// Weights of offsets in buckets of 5 ms, over 1.28 s.
#[derive(Debug)]
pub(super) struct Histogram {
    weights: [f32; BUCKETS],
    pub(super) total: f32,
    /// Lower edge of the first bucket.
    pub(super) origin: i64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self {
            weights: [0.0; BUCKETS],
            total: 0.0,
            origin: 0,
        }
    }

    pub(super) fn clear(&mut self, origin: i64) {
        *self = Self {
            origin,
            ..Self::new()
        };
    }

    /// Adds weight at an offset; one beyond the ends counts at the end.
    pub(super) fn add(&mut self, offset: i64, weight: f32) {
        let bucket = (offset - self.origin)
            .div_euclid(BUCKET)
            .clamp(0, BUCKETS as i64 - 1);
        self.weights[bucket as usize] += weight;
        self.total += weight;
    }

    pub(super) fn scale(&mut self, by: f32) {
        self.weights.iter_mut().for_each(|weight| *weight *= by);
        self.total *= by;
    }

    /// Upper edge of the bucket by which `share` of the weight is reached.
    pub(super) fn quantile(&self, share: f32) -> Option<i64> {
        let wanted = share * self.weights.iter().sum::<f32>();
        let mut sum = 0.0;
        let reached = self.weights.iter().position(|weight| {
            sum += weight;
            sum >= wanted && sum > 0.0
        })?;
        Some(self.origin + (reached as i64 + 1) * BUCKET)
    }

    /// Keeps the buckets around the fastest path as it moves.
    pub(super) fn follow(&mut self, base: i64) {
        let shift = (base - self.origin).div_euclid(BUCKET) - 10;
        let by = shift.unsigned_abs().min(BUCKETS as u64) as usize;
        if shift >= 10 {
            let folded: f32 = self.weights[..by].iter().sum();
            self.weights.copy_within(by.., 0);
            self.weights[BUCKETS - by..].fill(0.0);
            self.weights[0] += folded;
        } else if shift <= -10 {
            let folded: f32 = self.weights[BUCKETS - by..].iter().sum();
            self.weights.copy_within(..BUCKETS - by, by);
            self.weights[..by].fill(0.0);
            self.weights[BUCKETS - 1] += folded;
        } else {
            return;
        }
        self.origin += shift * BUCKET;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_upper_edges() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.95), None);
        (0..100).for_each(|i| histogram.add(i * 1_000, 1.0));
        assert_eq!(histogram.quantile(0.95), Some(95_000));
        assert_eq!(histogram.quantile(0.5), Some(50_000));
        histogram.scale(0.0);
        assert_eq!(histogram.quantile(0.95), None);
    }

    #[test]
    fn follows_the_fastest_path_both_ways_and_keeps_the_weight() {
        for base in [300_000, -300_000, 10_000_000, -10_000_000] {
            let mut histogram = Histogram::new();
            (0..100).for_each(|i| histogram.add(i * 1_000, 1.0));
            histogram.follow(base);
            assert!((histogram.weights.iter().sum::<f32>() - 100.0).abs() < 1e-3);
            assert!((histogram.origin..histogram.origin + 20 * BUCKET).contains(&base));
        }
    }
}
