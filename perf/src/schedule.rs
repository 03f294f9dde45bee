//! When ticks are due, fixed before the first is sent.
//!
//! Latency counts from the intended time, not from the moment of sending: a publisher that was
//! held up sends late, and the delay shows instead of being omitted (coordinated omission).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Messages per second up to which every tick gets a message of its own.
const MESSAGES_PER_S_MAX: u32 = 1_000;
const US_PER_S: u128 = 1_000_000;

/// Microseconds since 1970 UTC that never step: the wall clock is read once, the monotonic clock
/// counts from there.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: Instant,
    anchor_us: u64,
}

/// A fixed rate of ticks, in slots: all ticks of a slot are intended for the same moment and
/// travel in one message.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start_us: u64,
    rate: u32,
    ticks_per_slot: u32,
    slots: u64,
}

/// A span of intended times, µs since 1970 UTC, the end excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First moment.
    pub from_us: u64,
    /// First moment after it.
    pub to_us: u64,
}

impl Clock {
    /// Reads the wall clock.
    pub fn start() -> Self {
        let anchor_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros();
        Self {
            anchor: Instant::now(),
            anchor_us: anchor_us as u64,
        }
    }

    /// Now.
    pub fn now_us(&self) -> u64 {
        self.anchor_us + self.anchor.elapsed().as_micros() as u64
    }

    /// Time left until `us`; zero if it is past.
    pub fn until(&self, us: u64) -> Duration {
        Duration::from_micros(us.saturating_sub(self.now_us()))
    }
}

impl Schedule {
    /// `rate` ticks per second, at least 1, for `seconds`, the first at `start_us`.
    ///
    /// Above 1,000 ticks/s ticks share slots of a millisecond or so.
    pub fn new(start_us: u64, rate: u32, seconds: u32) -> Self {
        assert!(rate > 0, "a schedule has at least one tick per second");
        let ticks_per_slot = rate.div_ceil(MESSAGES_PER_S_MAX);
        let slots = (u64::from(rate) * u64::from(seconds)).div_ceil(u64::from(ticks_per_slot));
        Self {
            start_us,
            rate,
            ticks_per_slot,
            slots,
        }
    }

    /// Messages in all.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// Ticks in one message.
    pub fn ticks_per_slot(&self) -> u32 {
        self.ticks_per_slot
    }

    /// When slot `slot` is due. Computed from the start, so that rounding never adds up.
    pub fn due_us(&self, slot: u64) -> u64 {
        self.start_us + self.offset_us(u128::from(slot) * u128::from(self.ticks_per_slot))
    }

    /// The span from `skip_s` seconds after the start to the end.
    ///
    /// Its ends lie in the middle between two slots, so that the server is done with the earlier
    /// one when its counters are read, or as far behind at both ends.
    pub fn window_after(&self, skip_s: u32) -> Window {
        let skipped_ticks = u64::from(skip_s) * u64::from(self.rate);
        let first = skipped_ticks
            .div_ceil(u64::from(self.ticks_per_slot))
            .min(self.slots);
        let half_slot_us = self.offset_us(u128::from(self.ticks_per_slot)) / 2;
        Window {
            from_us: self.due_us(first).saturating_sub(half_slot_us),
            to_us: self.due_us(self.slots).saturating_sub(half_slot_us),
        }
    }

    /// Ticks whose intended time lies in `window`.
    pub fn ticks_in(&self, window: Window) -> u64 {
        let slots = (0..self.slots)
            .filter(|&slot| window.contains(self.due_us(slot)))
            .count();
        slots as u64 * u64::from(self.ticks_per_slot)
    }

    fn offset_us(&self, ticks: u128) -> u64 {
        (ticks * US_PER_S / u128::from(self.rate)) as u64
    }
}

impl Window {
    /// Whether `us` lies in it.
    pub fn contains(&self, us: u64) -> bool {
        (self.from_us..self.to_us).contains(&us)
    }

    /// Its length, s.
    pub fn seconds(&self) -> f64 {
        (self.to_us - self.from_us) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_does_not_add_up() {
        let schedule = Schedule::new(1_000, 300, 3_600);
        assert_eq!(schedule.due_us(1), 1_000 + 3_333);
        assert_eq!(schedule.due_us(300 * 3_600), 1_000 + 3_600 * 1_000_000);
    }

    #[test]
    fn a_high_rate_shares_slots_and_keeps_the_rate() {
        let schedule = Schedule::new(0, 25_000, 2);
        assert_eq!((schedule.ticks_per_slot(), schedule.slots()), (25, 2_000));
        assert_eq!(schedule.due_us(1), 1_000);
        assert_eq!(schedule.due_us(schedule.slots()), 2_000_000);
    }

    #[test]
    fn the_window_begins_and_ends_between_ticks() {
        let schedule = Schedule::new(1_000_000, 100, 5);
        let window = schedule.window_after(2);
        assert_eq!(
            window,
            Window {
                from_us: 2_995_000,
                to_us: 5_995_000
            }
        );
        assert_eq!(schedule.ticks_in(window), 300);
        assert!(!window.contains(schedule.due_us(199)) && window.contains(schedule.due_us(200)));
        assert!(window.contains(schedule.due_us(499)));
    }
}
