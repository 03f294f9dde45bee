//! How a peer behaves: its rate of operations, and its malformed requests.

use tickwire_proto::close::CloseReason;

use crate::{clock::Millis, config::Config};

/// Malformed requests within [`MALFORMED_WINDOW_MS`] that close with 4500.
pub const MALFORMED_MAX: u32 = 10;
/// See [`MALFORMED_MAX`].
pub const MALFORMED_WINDOW_MS: u64 = 60_000;
/// Operations over the rate within [`OVER_RATE_WINDOW_MS`] that close with 4429.
pub const OVER_RATE_MAX: u32 = 10;
/// See [`OVER_RATE_MAX`].
pub const OVER_RATE_WINDOW_MS: u64 = 10_000;

/// Counts one peer's operations and offences.
#[derive(Debug, Default)]
pub struct Conduct {
    /// When the next operation would be on time, in a generic cell rate algorithm (ITU-T I.371):
    /// one word per connection, where a keyed limiter would keep a table.
    next_op_us: u64,
    /// Most peers commit none.
    offences: Option<Box<Offences>>,
}

#[derive(Debug, Default)]
struct Offences {
    malformed: Window,
    over_rate: Window,
}

/// Offences since the window began.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    began: Millis,
    count: u32,
}

impl Window {
    /// Counts one; true when that makes `max` within the window.
    fn count(&mut self, now: Millis, max: u32, window_ms: u64) -> bool {
        if self.count == 0 || now.since(self.began) > window_ms {
            *self = Self {
                began: now,
                count: 0,
            };
        }
        self.count += 1;
        self.count >= max
    }
}

/// A connection's operations per second, and how many at once: its token's, else the settings'.
pub fn op_limits(claimed_per_s: Option<u32>, config: &Config) -> (u32, u32) {
    match claimed_per_s {
        Some(ops_per_s) => (ops_per_s, ops_per_s.saturating_mul(2)),
        None => (config.ops_per_s, config.ops_burst),
    }
}

/// Whether an operation may go ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It may.
    Granted,
    /// It is over the rate: answer `rate_limited`, do not execute.
    Refused,
    /// It is over the rate once too often: close with this.
    Close(CloseReason),
}

impl Conduct {
    /// Asks for one operation at `ops_per_s` with `burst` at once.
    pub fn operation(&mut self, now: Millis, ops_per_s: u32, burst: u32) -> Pace {
        let now_us = now.ms() * 1_000;
        let interval_us = 1_000_000 / u64::from(ops_per_s.max(1));
        let tolerance_us = interval_us * u64::from(burst.max(1) - 1);
        if self.next_op_us.saturating_sub(tolerance_us) <= now_us {
            self.next_op_us = self.next_op_us.max(now_us) + interval_us;
            return Pace::Granted;
        }
        if self.offences.get_or_insert_default().over_rate.count(
            now,
            OVER_RATE_MAX,
            OVER_RATE_WINDOW_MS,
        ) {
            return Pace::Close(CloseReason::TooManyMessages);
        }
        Pace::Refused
    }

    /// Counts a malformed request; some reason when it was one too many.
    pub fn malformed(&mut self, now: Millis) -> Option<CloseReason> {
        self.offences
            .get_or_insert_default()
            .malformed
            .count(now, MALFORMED_MAX, MALFORMED_WINDOW_MS)
            .then_some(CloseReason::MalformedRequests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_burst_is_granted_then_the_rate() {
        let mut conduct = Conduct::default();
        let now = Millis::new(1_000);
        for _ in 0..20 {
            assert_eq!(conduct.operation(now, 10, 20), Pace::Granted);
        }
        assert_eq!(conduct.operation(now, 10, 20), Pace::Refused);
        assert_eq!(conduct.operation(now.after(100), 10, 20), Pace::Granted);
        assert_eq!(conduct.operation(now.after(100), 10, 20), Pace::Refused);
    }

    #[test]
    fn the_tenth_refusal_within_ten_seconds_closes() {
        let mut conduct = Conduct::default();
        assert_eq!(conduct.operation(Millis::new(0), 1, 1), Pace::Granted);
        for _ in 0..9 {
            assert_eq!(conduct.operation(Millis::new(1), 1, 1), Pace::Refused);
        }
        assert_eq!(
            conduct.operation(Millis::new(1), 1, 1),
            Pace::Close(CloseReason::TooManyMessages)
        );
    }

    #[test]
    fn the_tenth_malformed_request_within_a_minute_closes() {
        let mut conduct = Conduct::default();
        for _ in 0..9 {
            assert_eq!(conduct.malformed(Millis::new(0)), None);
        }
        assert_eq!(
            conduct.malformed(Millis::new(60_001)),
            None,
            "the window began anew"
        );
        for _ in 0..8 {
            assert_eq!(conduct.malformed(Millis::new(60_002)), None);
        }
        assert_eq!(
            conduct.malformed(Millis::new(60_003)),
            Some(CloseReason::MalformedRequests)
        );
    }
}
