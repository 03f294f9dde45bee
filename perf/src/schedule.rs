//! When ticks are due, fixed before the first is sent.
//!
//! Latency counts from the intended time, not from the moment of sending: a publisher that was
//! held up sends late, and the delay shows instead of being omitted (coordinated omission).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Messages per second up to which every tick gets a message of its own.
const SLOTS_PER_S_MAX: u32 = 1_000;
const US_PER_S: u128 = 1_000_000;

/// Microseconds since 1970 UTC that never step: the wall clock is read once, the monotonic clock
/// counts from there.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: Instant,
    anchor_us: u64,
}

/// Rates of ticks, one after the other, in slots: all ticks of a slot are intended for the same
/// moment and travel together.
#[derive(Clone, Debug)]
pub struct Schedule {
    start_us: u64,
    phases: Vec<Phase>,
}

#[derive(Clone, Copy, Debug)]
struct Phase {
    start_us: u64,
    rate: u32,
    ticks_per_slot: u32,
    slots: u64,
}

/// Ticks that are due at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// When, µs since 1970 UTC.
    pub due_us: u64,
    /// How many.
    pub ticks: u32,
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
    pub fn new(start_us: u64, rate: u32, seconds: f64) -> Self {
        let empty = Self {
            start_us,
            phases: Vec::new(),
        };
        empty.then(rate, seconds)
    }

    /// The same, followed by another rate.
    #[must_use]
    pub fn then(mut self, rate: u32, seconds: f64) -> Self {
        assert!(rate > 0, "a phase has at least one tick per second");
        let ticks_per_slot = rate.div_ceil(SLOTS_PER_S_MAX);
        let slots = (f64::from(rate) * seconds / f64::from(ticks_per_slot)).round() as u64;
        self.phases.push(Phase {
            start_us: self.end_us(),
            rate,
            ticks_per_slot,
            slots: slots.max(1),
        });
        self
    }

    /// Everything that is due, in its order.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.phases.iter().flat_map(|phase| {
            (0..phase.slots).map(|slot| Slot {
                due_us: phase.due_us(slot),
                ticks: phase.ticks_per_slot,
            })
        })
    }

    /// When the last slot's time is over.
    pub fn end_us(&self) -> u64 {
        self.phases
            .last()
            .map_or(self.start_us, |phase| phase.due_us(phase.slots))
    }

    /// The span of phase `phase`, without its first `skip_s` seconds.
    ///
    /// Its ends lie in the middle between two slots, so that the server is done with the earlier
    /// one when its counters are read, or as far behind at both ends.
    pub fn window(&self, phase: usize, skip_s: f64) -> Window {
        let phase = self.phases[phase];
        let skipped = f64::from(phase.rate) * skip_s / f64::from(phase.ticks_per_slot);
        let first = (skipped.ceil() as u64).min(phase.slots);
        let half_slot_us = phase.offset_us(u128::from(phase.ticks_per_slot)) / 2;
        Window {
            from_us: phase.due_us(first).saturating_sub(half_slot_us),
            to_us: phase.due_us(phase.slots).saturating_sub(half_slot_us),
        }
    }
}

impl Phase {
    /// When slot `slot` is due. Computed from the start, so that rounding never adds up.
    fn due_us(&self, slot: u64) -> u64 {
        self.start_us + self.offset_us(u128::from(slot) * u128::from(self.ticks_per_slot))
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

    fn dues(schedule: &Schedule) -> Vec<u64> {
        schedule.slots().map(|slot| slot.due_us).collect()
    }

    fn ticks(schedule: &Schedule) -> u64 {
        schedule.slots().map(|slot| u64::from(slot.ticks)).sum()
    }

    fn ticks_in(schedule: &Schedule, window: Window) -> u64 {
        let slots = schedule.slots().filter(|slot| window.contains(slot.due_us));
        slots.map(|slot| u64::from(slot.ticks)).sum()
    }

    #[test]
    fn rounding_does_not_add_up() {
        let schedule = Schedule::new(1_000, 300, 3_600.0);
        assert_eq!(dues(&schedule)[1], 1_000 + 3_333);
        assert_eq!(schedule.end_us(), 1_000 + 3_600 * 1_000_000);
        assert_eq!(ticks(&schedule), 300 * 3_600);
    }

    #[test]
    fn a_high_rate_shares_slots_and_keeps_the_rate() {
        let schedule = Schedule::new(0, 25_000, 2.0);
        let slots: Vec<Slot> = schedule.slots().collect();
        assert_eq!((slots[0].ticks, slots.len()), (25, 2_000));
        assert_eq!(slots[1].due_us, 1_000);
        assert_eq!(schedule.end_us(), 2_000_000);
    }

    #[test]
    fn the_window_begins_and_ends_between_ticks() {
        let schedule = Schedule::new(1_000_000, 100, 5.0);
        let window = schedule.window(0, 2.0);
        let expected = Window {
            from_us: 2_995_000,
            to_us: 5_995_000,
        };
        assert_eq!(window, expected);
        assert_eq!(ticks_in(&schedule, window), 300);
        let dues = dues(&schedule);
        assert!(!window.contains(dues[199]) && window.contains(dues[200]));
        assert!(window.contains(dues[499]));
    }

    #[test]
    fn phases_follow_each_other_without_a_pause() {
        let schedule = Schedule::new(0, 10, 1.0).then(500, 2.0).then(10, 1.0);
        assert_eq!(ticks(&schedule), 10 + 1_000 + 10);
        assert_eq!(schedule.end_us(), 4_000_000);
        assert_eq!(ticks_in(&schedule, schedule.window(1, 0.0)), 1_000);
        let dues = dues(&schedule);
        assert!(dues.is_sorted());
        assert_eq!(
            (dues[9], dues[10], dues[11]),
            (900_000, 1_000_000, 1_002_000)
        );
    }
}
