//! The highest rate that a server keeps up with: `ramp-hot`, `ramp-watchlist`.
//!
//! Coarse steps lead to the first rate that is too much. Then, with a fresh server, the limit is
//! searched between that and the last that was not, halving the distance.

use std::time::Instant;

use super::{Arena, P99_MAX_US, PlayError, Settings};
use crate::{
    run::Point,
    schedule::Schedule,
    session::{Session, SessionError},
    token::Signer,
};

/// The key of the result, at the best step.
const RESULT: &str = "max_deliveries_per_s";
/// 1 at the steps that failed with the generator at its limit and the server not: the result is a
/// lower bound then.
pub(super) const LIMITED: &str = "generator_limited";
/// The share of a core from which on a server counts as at its limit.
const SERVER_BUSY: f64 = 0.9;
const COARSE: f64 = 1.5;
const FINE: f64 = 1.1;
/// Two coarse steps at once while a server keeps up easily. That its core is busy says little: who
/// gathers ticks is busy long before its limit.
const CALM_P99_US: u64 = 20_000;
/// Failures in a row at one rate that make it too much: one may be the machine's.
const FAILURES_MAX: u32 = 2;

/// Warm-up and window of a step, s.
#[derive(Clone, Copy)]
struct Length {
    warmup_s: f64,
    window_s: f64,
}

const COARSE_LENGTH: Length = Length {
    warmup_s: 0.5,
    window_s: 1.5,
};
const FINE_LENGTH: Length = Length {
    warmup_s: 1.0,
    window_s: 2.5,
};

pub(super) fn play(
    settings: &Settings,
    arena: &Arena<'_>,
    signer: &Signer,
) -> Result<Vec<Point>, PlayError> {
    let began = Instant::now();
    let in_time = || began.elapsed().as_secs_f64() < settings.ramp_s;
    let mut points = Vec::new();
    let held = arena.play(&[], |target| {
        let mut session = Session::open(target, settings.audience(), signer)?;
        coarse(f64::from(settings.rate), in_time, &mut points, |rate| {
            step(&mut session, rate, COARSE_LENGTH)
        })
    })?;
    if let Some(held) = held {
        arena.play(&[], |target| {
            let mut session = Session::open(target, settings.audience(), signer)?;
            let limit = too_much(held, &points);
            fine(held, limit, in_time, &mut points, |rate| {
                if session.is_broken() {
                    return Ok(None);
                }
                step(&mut session, rate, FINE_LENGTH).map(Some)
            })
        })?;
    }
    name_the_best(&mut points);
    Ok(points)
}

fn step(session: &mut Session<'_>, rate: f64, length: Length) -> Result<Point, SessionError> {
    let rate = rate.round().max(1.0) as u32;
    let seconds = length.warmup_s + length.window_s;
    let schedule = Schedule::new(session.next_start_us(), rate, seconds);
    let window = schedule.window(0, length.warmup_s);
    let mut points = session.run(&schedule, &[window], P99_MAX_US)?;
    let mut point = points.pop().unwrap_or_default();
    point.rate = f64::from(rate);
    point.label = format!("{rate} ticks/s");
    let server_busy = point.cpu.map_or(1.0, |cpu| cpu.busy);
    if !point.sustained && point.generator.reached && server_busy < SERVER_BUSY {
        point.extra.insert(LIMITED.to_owned(), 1.0);
    }
    Ok(point)
}

/// Steps up until one is not sustained, or down until one is; the highest rate that was.
fn coarse<E>(
    first: f64,
    in_time: impl Fn() -> bool,
    points: &mut Vec<Point>,
    mut step: impl FnMut(f64) -> Result<Point, E>,
) -> Result<Option<f64>, E> {
    let mut rate = first;
    let mut held = None;
    while in_time() && rate >= 1.0 {
        let point = step(rate)?;
        let (sustained, calm) = (point.sustained, point.latency.p99_us < CALM_P99_US);
        points.push(point);
        match (sustained, held) {
            (false, Some(_)) => break,
            (false, None) if rate < first => rate /= COARSE,
            (false, None) => rate = first / COARSE,
            (true, _) if rate < first => return Ok(Some(rate)),
            (true, _) => {
                held = Some(rate);
                rate *= if calm { COARSE * COARSE } else { COARSE };
            }
        }
    }
    Ok(held)
}

/// The lowest rate above `held` that was not; infinite where time ended the steps before one failed.
fn too_much(held: f64, points: &[Point]) -> f64 {
    let failed = points.iter().filter(|point| !point.sustained);
    let failed = failed.map(|point| point.rate).filter(|rate| *rate > held);
    failed.fold(f64::INFINITY, f64::min)
}

/// Halves the distance between a rate that was held and one that was not, until it is less than
/// [`FINE`]; a failed rate is tried once more. `None` from `step`: it can go no further.
fn fine<E>(
    mut held: f64,
    mut limit: f64,
    in_time: impl Fn() -> bool,
    points: &mut Vec<Point>,
    mut step: impl FnMut(f64) -> Result<Option<Point>, E>,
) -> Result<(), E> {
    let mut failures = 0;
    while in_time() && held * FINE < limit {
        let between = (held * limit).sqrt();
        let rate = between.min(held * COARSE);
        let Some(point) = step(rate)? else { break };
        if point.sustained {
            failures = 0;
            held = rate;
        } else {
            failures += 1;
        }
        if failures == FAILURES_MAX {
            failures = 0;
            limit = rate;
        }
        points.push(point);
    }
    Ok(())
}

fn name_the_best(points: &mut [Point]) {
    let sustained = points.iter_mut().filter(|point| point.sustained);
    let best = sustained.max_by(|a, b| a.deliveries_per_s.total_cmp(&b.deliveries_per_s));
    if let Some(best) = best {
        best.extra.insert(RESULT.to_owned(), best.deliveries_per_s);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A server that keeps up with so many ticks per second.
    fn climb(limit: f64, first: f64) -> Vec<Point> {
        let mut points = Vec::new();
        let step = |rate: f64| Point {
            rate,
            deliveries_per_s: rate * 10.0,
            sustained: rate <= limit,
            ..Point::default()
        };
        let held = coarse(first, || true, &mut points, |rate| Ok::<_, ()>(step(rate))).unwrap();
        if let Some(held) = held {
            let limit = too_much(held, &points);
            fine(
                held,
                limit,
                || true,
                &mut points,
                |rate| Ok::<_, ()>(Some(step(rate))),
            )
            .unwrap();
        }
        name_the_best(&mut points);
        points
    }

    fn result(points: &[Point]) -> Option<f64> {
        let mut results = points
            .iter()
            .filter_map(|point| point.extra.get(RESULT).copied());
        let result = results.next();
        assert_eq!(results.next(), None, "one point has it");
        result
    }

    #[test]
    fn a_ramp_ends_within_a_fine_step_of_the_limit() {
        for limit in [3.0, 40.0, 100.0, 777.0, 9_000.0] {
            let best = result(&climb(limit, 100.0)).unwrap() / 10.0;
            assert!(best <= limit && best * FINE > limit, "{limit}: {best}");
        }
    }

    #[test]
    fn a_server_that_never_keeps_up_has_no_result() {
        let points = climb(0.5, 100.0);
        assert_eq!(result(&points), None);
        assert!(points.len() < 20, "{}", points.len());
    }

    #[test]
    fn a_single_failure_does_not_end_the_fine_steps() {
        let failed = Cell::new(false);
        let mut points = Vec::new();
        fine(
            100.0,
            f64::INFINITY,
            || true,
            &mut points,
            |rate| {
                let unlucky = rate > 120.0 && !failed.replace(rate > 120.0);
                let sustained = rate < 200.0 && !unlucky;
                Ok::<_, ()>(Some(Point {
                    rate,
                    sustained,
                    ..Point::default()
                }))
            },
        )
        .unwrap();
        let best = points
            .iter()
            .filter(|point| point.sustained)
            .map(|point| point.rate);
        assert!(best.fold(0.0, f64::max) > 180.0);
        assert_eq!(points.iter().filter(|point| !point.sustained).count(), 5);
    }

    #[test]
    fn a_ramp_ends_in_time() {
        let steps = Cell::new(0);
        let mut points = Vec::new();
        let in_time = || steps.replace(steps.get() + 1) < 5;
        coarse(1.0, in_time, &mut points, |rate| {
            Ok::<_, ()>(Point {
                rate,
                sustained: true,
                ..Point::default()
            })
        })
        .unwrap();
        assert_eq!(points.len(), 5);
    }
}
