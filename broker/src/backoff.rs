//! When to try again: doubling waits with jitter.

use std::time::Duration;

/// The wait before the first retry.
const FIRST: Duration = Duration::from_millis(200);
/// No wait is longer, before jitter.
const LONGEST: Duration = Duration::from_secs(30);

/// The wait after `failures` failures in a row (from 1); `random` is uniform in 0..1.
///
/// A quarter up or down keeps brokers that lost the same proxy from coming
/// back as one.
#[must_use]
pub fn wait(failures: u32, random: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    doubled.mul_f64(0.75 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_are_spread() {
        assert_eq!(wait(1, 0.5), FIRST);
        assert_eq!(wait(2, 0.5), FIRST * 2);
        assert_eq!(wait(100, 0.5), LONGEST);
        assert_eq!(wait(u32::MAX, 1.0), LONGEST.mul_f64(1.25));
        assert_eq!(wait(1, 0.0), FIRST.mul_f64(0.75));
    }
}
