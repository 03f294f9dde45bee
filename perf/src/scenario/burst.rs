//! The opening of a market: for two seconds fifty times the mean rate.

use super::{Arena, P99_MAX_US, PlayError, Settings};
use crate::{
    load::Timeline,
    run::Point,
    schedule::{Schedule, Window},
    session::Session,
    token::Signer,
};

const FACTOR: u32 = 50;
const BURST_S: f64 = 2.0;
/// Age up to which deliveries count as normal again: this many times the calm p99, and at least
/// so many µs, as a calm p99 is little more than noise.
const NORMAL_P99S: u64 = 2;
const NORMAL_US_MIN: u64 = 5_000;

pub(super) fn play(
    settings: &Settings,
    arena: &Arena<'_>,
    signer: &Signer,
) -> Result<Vec<Point>, PlayError> {
    arena.play(&[], |target| {
        let mut session = Session::open(target, settings.audience(), signer)?;
        let mean = settings.rate;
        let seconds = settings.warmup_s + settings.duration_s;
        let schedule = Schedule::new(session.next_start_us(), mean, seconds);
        let window = schedule.window(0, settings.warmup_s);
        let calm = session.run(&schedule, &[window], P99_MAX_US)?;
        let calm_p99_us = calm.first().map_or(0, |point| point.latency.p99_us);

        let schedule = Schedule::new(session.next_start_us(), mean * FACTOR, BURST_S);
        let schedule = schedule.then(mean, settings.duration_s);
        let burst = schedule.window(0, 0.0);
        let whole = Window {
            from_us: burst.from_us,
            to_us: schedule.window(1, 0.0).to_us,
        };
        session.load().follow_ages();
        let mut points = session.run(&schedule, &[whole], u64::MAX)?;
        let normal_us = (calm_p99_us * NORMAL_P99S).max(NORMAL_US_MIN);
        let timeline = session.load().tally().timeline.as_ref();
        let drained_us = timeline.and_then(|ages| ages.last_older_than(normal_us, burst.to_us));
        let drain_us = drained_us.map_or(0, |us| us - burst.to_us);
        let worst_us = timeline.map_or(0, Timeline::worst_us);
        for point in &mut points {
            point.rate = f64::from(mean * FACTOR);
            let figures = [
                ("drain_ms", drain_us as f64 / 1e3),
                ("worst_age_ms", worst_us as f64 / 1e3),
                ("calm_p99_ms", calm_p99_us as f64 / 1e3),
                ("mean_ticks_per_s", f64::from(mean)),
            ];
            point.add(figures);
        }
        Ok(points)
    })
}
