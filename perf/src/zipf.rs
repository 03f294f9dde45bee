//! Who follows what: popularity after Zipf, drawn from a seed, so that every server and every
//! round gets the same subscribers.

/// Weights 1/1, 1/2, 1/3, … over ranks 0, 1, 2, …
#[derive(Clone, Debug)]
pub struct Zipf {
    /// Sums of the weights up to each rank.
    sums: Vec<f64>,
}

/// `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): the same
/// numbers from the same seed, whatever becomes of any crate.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The numbers below `count` in an order of their own (Fisher and Yates).
    pub fn shuffled(&mut self, count: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..count).collect();
        for last in (1..order.len()).rev() {
            let other = (self.unit() * (last + 1) as f64) as usize;
            order.swap(last, other);
        }
        order
    }

    /// From 0 up to 1, which is never drawn.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Zipf {
    /// Over `ranks` ranks, exponent 1.
    pub fn new(ranks: usize) -> Self {
        let sums = (1..=ranks).scan(0.0, |sum, rank| {
            *sum += 1.0 / rank as f64;
            Some(*sum)
        });
        Self {
            sums: sums.collect(),
        }
    }

    /// `count` different ranks, ascending.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn distinct(&self, count: usize, random: &mut Random) -> Vec<u32> {
        assert!(count <= self.sums.len(), "more than there are");
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count {
            let rank = self.draw(random);
            if let Err(place) = drawn.binary_search(&rank) {
                drawn.insert(place, rank);
            }
        }
        drawn
    }

    fn draw(&self, random: &mut Random) -> u32 {
        let total = self.sums.last().copied().unwrap_or_default();
        let at = random.unit() * total;
        let rank = self.sums.partition_point(|&sum| sum <= at);
        rank.min(self.sums.len() - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shuffling_loses_nothing_and_moves_nearly_all() {
        let mut order = Random::new(1).shuffled(1_000);
        let stayed = (0..)
            .zip(&order)
            .filter(|(place, own)| place == *own)
            .count();
        assert!(stayed < 10, "{stayed}");
        order.sort_unstable();
        assert!(order.into_iter().eq(0..1_000));
    }

    #[test]
    fn the_generator_gives_its_published_numbers() {
        // The reference implementation's first numbers of seed 1234567.
        let mut random = Random::new(1_234_567);
        let numbers = [random.next(), random.next(), random.next()];
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(numbers, expected);
    }

    #[test]
    fn a_rank_is_drawn_in_proportion_to_its_weight() {
        let zipf = Zipf::new(1_000);
        let mut random = Random::new(1);
        let mut hits = [0_u32; 1_000];
        for _ in 0..200_000 {
            hits[zipf.draw(&mut random) as usize] += 1;
        }
        // The 1000th harmonic number is 7.4855.
        for rank in [0, 1, 4, 9] {
            let expected = 200_000.0 / 7.4855 / (rank + 1) as f64;
            let seen = f64::from(hits[rank]);
            assert!(
                (seen / expected - 1.0).abs() < 0.08,
                "{rank}: {seen} {expected}"
            );
        }
        assert!(hits[999] > 0);
    }

    proptest! {
        #[test]
        fn what_is_drawn_is_distinct_ascending_and_repeatable(
            ranks in 1..300_usize, share in 0.0..1.0_f64, seed in any::<u64>(),
        ) {
            let count = (ranks as f64 * share) as usize;
            let zipf = Zipf::new(ranks);
            let drawn = zipf.distinct(count, &mut Random::new(seed));
            prop_assert_eq!(drawn.len(), count);
            prop_assert!(drawn.is_sorted_by(|a, b| a < b));
            prop_assert!(drawn.iter().all(|&rank| (rank as usize) < ranks));
            prop_assert_eq!(drawn, zipf.distinct(count, &mut Random::new(seed)));
        }
    }
}
