//! Latencies, kept as a histogram: an average would hide what matters.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency told apart, µs.
const LATENCY_US_MAX: u64 = 60_000_000;
/// Points of a curve for each halving of the distance to 100 %.
const STEPS_PER_HALVING: u32 = 4;

/// A histogram of microseconds, 1 µs to 60 s, three significant digits.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

/// What a report says of one, µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_field_names, reason = "the unit is part of the name")]
pub struct Quantiles {
    /// Half were faster.
    pub p50_us: u64,
    /// 90 % were faster.
    pub p90_us: u64,
    /// 99 % were faster.
    pub p99_us: u64,
    /// 99.9 % were faster.
    pub p999_us: u64,
    /// The slowest.
    pub max_us: u64,
}

impl Latencies {
    /// An empty histogram.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        Self(histogram.expect("1 to 60,000,000 with 3 digits is within the histogram's bounds"))
    }

    /// Adds one; what lies outside the bounds counts at the bound.
    pub fn record(&mut self, us: u64) {
        self.record_n(us, 1);
    }

    /// Adds `count` alike.
    pub fn record_n(&mut self, us: u64, count: u64) {
        self.0.saturating_record_n(us.max(1), count);
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Self) {
        let sum = self.0.add(&other.0);
        sum.expect("both have the same bounds");
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// The quantiles that reports show.
    pub fn quantiles(&self) -> Quantiles {
        let at = |quantile| self.0.value_at_quantile(quantile);
        Quantiles {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max(),
        }
    }

    /// The distribution: percentiles at which a curve is drawn, closer together towards the end,
    /// each with its latency in µs. The last is the slowest.
    pub fn percentiles(&self) -> Vec<(f64, u64)> {
        let steps = self.0.iter_quantiles(STEPS_PER_HALVING);
        let mut percentiles: Vec<(f64, u64)> = steps
            .map(|step| {
                let us = step.value_iterated_to().min(self.0.max());
                (step.quantile_iterated_to() * 100.0, us)
            })
            .collect();
        percentiles.dedup();
        percentiles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_three_digits() {
        let mut latencies = Latencies::new();
        (1..=10_000).for_each(|us| latencies.record(us));
        let quantiles = latencies.quantiles();
        assert!(quantiles.p50_us.abs_diff(5_000) <= 5, "{quantiles:?}");
        assert!(quantiles.p99_us.abs_diff(9_900) <= 10, "{quantiles:?}");
    }

    #[test]
    fn a_curve_ascends_to_the_slowest() {
        let mut latencies = Latencies::new();
        (1..=100_000).for_each(|us| latencies.record_n(us, 2));
        let curve = latencies.percentiles();
        assert!(
            curve.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1),
            "{curve:?}"
        );
        let median = curve
            .iter()
            .find(|(percentile, _)| *percentile >= 50.0)
            .unwrap();
        assert!(median.1.abs_diff(50_000) < 100, "{median:?}");
        let (percentile, us) = *curve.last().unwrap();
        assert!(
            (percentile - 100.0).abs() < 1e-9 && us >= 100_000,
            "{percentile} {us}"
        );
    }

    #[test]
    fn what_is_out_of_bounds_counts_at_the_bound() {
        let mut latencies = Latencies::new();
        latencies.record(0);
        latencies.record(u64::MAX);
        assert!(latencies.quantiles().max_us >= LATENCY_US_MAX);
        assert_eq!(latencies.0.len(), 2);
    }
}
