//! What all subscribers received, counted and timed.

use crate::{account::Counts, dialect::LostReason, latency::Latencies, schedule::Window};
use std::time::Duration;

/// What all subscribers received.
#[derive(Debug)]
pub struct Tally {
    /// The account over all connections, since the start.
    pub counts: Counts,
    /// Ticks among them that were compared with known frames instead of being parsed.
    pub compared: u64,
    /// Bytes received by connections that were live, since the start.
    pub bytes: u64,
    /// What is measured, in the order of time.
    pub windows: Vec<Measured>,
    /// Connections lost.
    pub lost: u64,
    /// Why the first was lost.
    pub first_lost: Option<LostReason>,
    /// The oldest delivery of each moment, where it is asked for.
    pub timeline: Option<Timeline>,
    /// Time spent awake in which nothing came, since the start: no work, and no limit.
    pub looked_in_vain: Duration,
    now_us: u64,
}

/// The deliveries of one window.
#[derive(Debug)]
pub struct Measured {
    /// Intended times.
    pub window: Window,
    /// Ticks whose intended time lies in it.
    pub delivered: u64,
    /// How long those took from their intended time.
    pub latencies: Latencies,
}

/// The age of deliveries over time.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Per [`TIMELINE_STEP_US`] of arrival time since the first: the greatest age, µs.
    ages: Vec<u64>,
    start_us: u64,
}

/// Resolution of a [`Timeline`].
const TIMELINE_STEP_US: u64 = 1_000;
/// Its length, beyond which it stops: an hour.
const TIMELINE_STEPS_MAX: usize = 3_600_000;

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            counts: Counts::default(),
            compared: 0,
            bytes: 0,
            windows: Vec::new(),
            lost: 0,
            first_lost: None,
            timeline: None,
            looked_in_vain: Duration::ZERO,
            now_us: 0,
        }
    }

    /// Bytes arrived.
    pub(super) fn read_at(&mut self, now_us: u64) {
        self.now_us = now_us;
    }

    /// Ticks measured, over all windows.
    pub fn measured(&self) -> u64 {
        self.windows.iter().map(|measured| measured.delivered).sum()
    }

    /// `ticks` ticks that were intended for the same moment arrived.
    pub(super) fn delivered(&mut self, ts_us: u64, ticks: u64) {
        let age_us = self.now_us.saturating_sub(ts_us);
        let mut windows = self.windows.iter_mut();
        if let Some(measured) = windows.find(|measured| measured.window.contains(ts_us)) {
            measured.delivered += ticks;
            measured.latencies.record_n(age_us, ticks);
        }
        if let Some(timeline) = &mut self.timeline {
            timeline.delivered(self.now_us, age_us);
        }
    }
}

impl Timeline {
    /// Begins at `start_us`.
    pub(super) fn new(start_us: u64) -> Self {
        Self {
            ages: Vec::new(),
            start_us,
        }
    }

    fn delivered(&mut self, now_us: u64, age_us: u64) {
        let step = (now_us.saturating_sub(self.start_us) / TIMELINE_STEP_US) as usize;
        if step >= TIMELINE_STEPS_MAX {
            return;
        }
        if step >= self.ages.len() {
            self.ages.resize(step + 1, 0);
        }
        self.ages[step] = self.ages[step].max(age_us);
    }

    /// The last moment at or after `from_us` at which something older than `age_us` arrived, µs
    /// since 1970 UTC.
    pub fn last_older_than(&self, age_us: u64, from_us: u64) -> Option<u64> {
        let step = self.ages.iter().rposition(|&age| age > age_us)?;
        let at_us = self.start_us + (step as u64 + 1) * TIMELINE_STEP_US;
        (at_us >= from_us).then_some(at_us)
    }

    /// The greatest age.
    pub fn worst_us(&self) -> u64 {
        self.ages.iter().copied().max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_knows_when_the_last_old_delivery_came() {
        let mut timeline = Timeline::new(1_000_000);
        for (now_us, age_us) in [
            (1_000_500, 10),
            (1_020_000, 700),
            (1_030_999, 300),
            (1_050_000, 20),
        ] {
            timeline.delivered(now_us, age_us);
        }
        assert_eq!(timeline.worst_us(), 700);
        assert_eq!(timeline.last_older_than(100, 0), Some(1_031_000));
        assert_eq!(timeline.last_older_than(500, 0), Some(1_021_000));
        assert_eq!(timeline.last_older_than(500, 1_025_000), None);
        assert_eq!(timeline.last_older_than(1_000, 0), None);
    }
}
