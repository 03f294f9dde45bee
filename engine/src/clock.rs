//! The two clocks: one that only goes forward, for deadlines, and the wall, for stamps.

use std::{
    num::NonZeroU64,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Milliseconds since an arbitrary start; never goes back.
// One more than they are: a floor keeps many moments that may be none, and so each fits a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(NonZeroU64);

impl Millis {
    /// The moment `ms` after the start; some 580 million years on, time stands still.
    pub const fn new(ms: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(ms))
    }

    /// Milliseconds since the start.
    pub const fn ms(self) -> u64 {
        self.0.get() - 1
    }

    /// The moment `span_ms` later.
    #[must_use]
    pub const fn after(self, span_ms: u64) -> Self {
        Self(self.0.saturating_add(span_ms))
    }

    /// The moment `span_ms` earlier, no earlier than the start.
    #[must_use]
    pub const fn before(self, span_ms: u64) -> Self {
        Self::new(self.ms().saturating_sub(span_ms))
    }

    /// Milliseconds since `earlier`, 0 if that lies ahead.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.get().saturating_sub(earlier.0.get())
    }
}

impl Default for Millis {
    fn default() -> Self {
        Self::new(0)
    }
}

/// Reads deadlines' time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock {
    /// Now, for deadlines.
    pub fn now(&self) -> Millis {
        Millis::new(self.start.elapsed().as_millis() as u64)
    }

    /// How long until `deadline`.
    pub fn until(&self, deadline: Millis) -> Duration {
        Duration::from_millis(deadline.ms()).saturating_sub(self.start.elapsed())
    }
}

/// Nanoseconds since 1970 UTC.
pub fn wall_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// Seconds since 1970 UTC.
pub fn wall_s() -> u64 {
    wall_ns() / 1_000_000_000
}
