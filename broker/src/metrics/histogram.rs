//! Durations, counted in buckets.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The upper bounds of the buckets, in seconds; one more takes what is longer. From a
/// stream on a warm trunk of the same machine to the longest wait that is granted.
pub const BOUNDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counts durations. Any number of tasks may observe and read it at once.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// How many there were up to each bound, and last in all: they never contradict
    /// each other, whatever is observed meanwhile.
    #[must_use]
    pub fn cumulative(&self) -> [u64; BOUNDS.len() + 1] {
        let mut sum = 0;
        array::from_fn(|bucket| {
            sum += self.buckets[bucket].load(Relaxed);
            sum
        })
    }

    /// All durations together, in seconds.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        Duration::from_micros(self.sum_us.load(Relaxed)).as_secs_f64()
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_that_it_closes() {
        let histogram = Histogram::default();
        for ms in [1, 2, 10, 11, 10_000, 10_001] {
            histogram.observe(Duration::from_millis(ms));
        }
        let counts = histogram.cumulative();
        let at = |bound: f64| counts[BOUNDS.iter().position(|b| *b == bound).unwrap()];
        assert_eq!((at(0.001), at(0.0025), at(0.01), at(0.025), at(10.0)), (1, 2, 3, 4, 5));
        assert_eq!((counts[BOUNDS.len()], histogram.count()), (6, 6));
        assert!((histogram.sum_seconds() - 20.025).abs() < 1e-9);
    }
}
