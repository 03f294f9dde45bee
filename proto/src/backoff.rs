//! How long a client waits before it comes back.
//!
//! A storm is fed by clients that come back at once, and by those that forget their patience at
//! the first partial success; hence the jitter, and a reset only after [`RESET_AFTER_MS`] of a
//! connection that really delivers (`proto/README.md`, "Client behaviour").

/// The first wait, before jitter.
pub const FIRST_MS: u64 = 200;
/// The longest wait, jitter included; only a server's own lower bound goes above it.
pub const LONGEST_MS: u64 = 30_000;
/// How long ticks or heartbeats must have flowed before the next failure counts as the first.
pub const RESET_AFTER_MS: u64 = 60_000;

/// The longest wait before jitter. Jitter adds up to half, and capping afterwards instead would
/// gather half of all clients at exactly [`LONGEST_MS`].
const BASE_MAX_MS: u64 = 20_000;
const _: () = assert!(BASE_MAX_MS + BASE_MAX_MS / 2 == LONGEST_MS);

/// Exponential backoff: ±50 % around 200 ms, doubled with every failure, 30 s at most.
#[derive(Clone, Debug)]
pub struct Backoff {
    base_max_ms: u64,
    failures: u32,
    delivering_since_ms: Option<u64>,
    random: SplitMix64,
}

impl Backoff {
    /// Starts patient; `seed` decides all jitter, so clients must not share it.
    pub fn new(seed: u64) -> Self {
        Self {
            base_max_ms: BASE_MAX_MS,
            failures: 0,
            delivering_since_ms: None,
            random: SplitMix64::new(seed),
        }
    }

    /// The same with another longest wait, jitter included, of at least [`FIRST_MS`].
    #[must_use]
    pub fn at_most(self, longest_ms: u64) -> Self {
        Self {
            base_max_ms: (longest_ms / 3 * 2).max(FIRST_MS),
            ..self
        }
    }

    /// A tick or a heartbeat came at `now_ms` (milliseconds since any fixed start).
    ///
    /// Connecting, a `welcome` or an `ack` prove nothing and must not be told here.
    pub fn delivering(&mut self, now_ms: u64) {
        let since_ms = *self.delivering_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since_ms) >= RESET_AFTER_MS {
            self.failures = 0;
        }
    }

    /// The connection, or the attempt at one, failed: how many milliseconds to wait.
    ///
    /// `at_least_ms` is what the server asked for by `Retry-After`, `retry_after_ms` or
    /// `reconnect_after_ms`. Those are already spread by the server, so they get no jitter.
    pub fn failed(&mut self, at_least_ms: Option<u64>) -> u64 {
        self.delivering_since_ms = None;
        let base_ms = FIRST_MS
            .checked_shl(self.failures.min(16))
            .map_or(self.base_max_ms, |base_ms| base_ms.min(self.base_max_ms));
        self.failures = self.failures.saturating_add(1);
        let wait_ms = base_ms / 2 + self.random.below(base_ms + 1);
        wait_ms.max(at_least_ms.unwrap_or(0))
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): enough for jitter, and for nothing secret.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Any seed will do.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or 0 where `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of the 128-bit product (Lemire 2019); its bias is below 2⁻³².
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_with_half_of_jitter_up_to_thirty_seconds() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            for base_ms in [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 20_000, 20_000] {
                let wait_ms = backoff.failed(None);
                assert!(
                    (base_ms / 2..=base_ms / 2 * 3).contains(&wait_ms),
                    "{wait_ms} around {base_ms}"
                );
            }
            for _ in 0..1_000 {
                assert!(backoff.failed(None) <= LONGEST_MS);
            }
        }
    }

    #[test]
    fn a_shorter_longest_wait_has_its_jitter_too() {
        let mut backoff = Backoff::new(1).at_most(3_000);
        let waits: Vec<u64> = (0..200).map(|_| backoff.failed(None)).skip(4).collect();
        assert!(
            waits
                .iter()
                .all(|wait_ms| (1_000..=3_000).contains(wait_ms))
        );
        let longest = waits.iter().filter(|&&wait_ms| wait_ms == 3_000).count();
        assert!(longest < 10, "{longest} of {} are the longest", waits.len());
    }

    #[test]
    fn jitter_spreads_clients_over_the_whole_range() {
        let waits_ms: Vec<u64> = (0..1_000)
            .map(|seed| Backoff::new(seed).failed(None))
            .collect();
        assert!(waits_ms.iter().any(|&wait_ms| wait_ms < 120));
        assert!(waits_ms.iter().any(|&wait_ms| wait_ms > 280));
    }

    fn fail_ten_times(backoff: &mut Backoff) {
        for _ in 0..10 {
            backoff.failed(None);
        }
    }

    #[test]
    fn only_a_minute_of_delivery_resets() {
        let wait_after = |delivered_for_ms: u64| {
            let mut backoff = Backoff::new(1);
            fail_ten_times(&mut backoff);
            backoff.delivering(5_000);
            backoff.delivering(5_000 + delivered_for_ms);
            backoff.failed(None)
        };
        assert!(wait_after(59_999) >= 10_000);
        assert!(wait_after(60_000) <= 300);
    }

    #[test]
    fn minutes_do_not_add_up_over_connections() {
        let mut backoff = Backoff::new(1);
        fail_ten_times(&mut backoff);
        backoff.delivering(0);
        backoff.delivering(40_000);
        backoff.failed(None);
        backoff.delivering(50_000);
        backoff.delivering(80_000);
        assert!(backoff.failed(None) >= 10_000);
    }

    #[test]
    fn the_servers_word_is_a_lower_bound() {
        assert_eq!(Backoff::new(1).failed(Some(90_000)), 90_000);
        assert!(Backoff::new(1).failed(Some(1)) >= 100);
    }
}
