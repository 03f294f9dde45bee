//! Which symbol ticks: Zipf's law, as in real markets.

use rand::{Rng as _, rngs::StdRng};

/// The n-th busiest symbol makes 1/n of the busiest one's ticks.
const EXPONENT: f64 = 1.0;

/// Cumulative weights by rank.
#[derive(Clone, Debug)]
pub(super) struct Popularity(Vec<f64>);

impl Popularity {
    /// Weights for `ranks` symbols, at least one.
    pub(super) fn new(ranks: usize) -> Self {
        let mut sum = 0.0;
        let cumulative = (1..=ranks).map(|rank| {
            sum += (rank as f64).powf(-EXPONENT);
            sum
        });
        Self(cumulative.collect())
    }

    /// A rank from 0, low ones more often.
    pub(super) fn draw(&self, random: &mut StdRng) -> usize {
        let total = self.0.last().copied().unwrap_or_default();
        let point = random.random::<f64>() * total;
        self.0
            .partition_point(|&sum| sum <= point)
            .min(self.0.len() - 1)
    }
}
