//! When ticks come: a self-exciting (Hawkes) process.
//!
//! Each tick raises the intensity by [`JUMP`], which decays at [`DECAY_PER_S`]; so ticks breed
//! ticks, as news and order books do. Intervals are drawn without rejection, after Dassios and
//! Zhao, "Exact simulation of Hawkes process with exponentially decaying intensity" (2013), § 3.

use std::time::Duration;

use rand::{Rng as _, rngs::StdRng};

/// How many further ticks one tick brings about on average; below 1, or the rate would explode.
const OFFSPRING: f64 = 0.7;
/// How fast excitement fades: to 1/e within 50 ms.
const DECAY_PER_S: f64 = 20.0;
/// What one tick adds to the intensity, per second.
const JUMP: f64 = OFFSPRING * DECAY_PER_S;

/// The process, at its last tick.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    /// Intensity without any excitement, per second.
    base: f64,
    /// What past ticks add to it now, per second.
    excitement: f64,
}

impl Arrivals {
    /// A process with `rate` ticks per second on average, begun in its stationary mean.
    pub(super) fn new(rate: f64) -> Self {
        Self {
            base: rate * (1.0 - OFFSPRING),
            excitement: rate * OFFSPRING,
        }
    }

    /// The time to the next tick.
    pub(super) fn next(&mut self, random: &mut StdRng) -> Duration {
        let from_base = exponential(random) / self.base;
        // The excited part fades: with some probability its next tick never comes (`None`).
        let fading = 1.0 - DECAY_PER_S * exponential(random) / self.excitement;
        let delay = if fading > 0.0 {
            from_base.min(-fading.ln() / DECAY_PER_S)
        } else {
            from_base
        };
        self.excitement = self.excitement * (-DECAY_PER_S * delay).exp() + JUMP;
        Duration::from_secs_f64(delay)
    }
}

/// A draw of the exponential distribution with mean 1.
fn exponential(random: &mut StdRng) -> f64 {
    // 1 − u lies in (0, 1], so the logarithm is finite.
    -(1.0 - random.random::<f64>()).ln()
}
