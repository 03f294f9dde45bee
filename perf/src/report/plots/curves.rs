//! The plots that are lines: latency by percentile, CPU against subscribers, throughput against
//! latency.

use std::{collections::BTreeMap, io};

use crate::run::{Point, Run};

use super::{
    super::{
        figures::Spread,
        metric::{Metric, RAMP_P99_US_MAX, Which, is_held},
        ramps,
        results::{Place, Results},
        servers::Server,
    },
    Pens,
    axis::{Axis, nines, of_nines},
    canvas::{Curve, Lines, Mark},
    median,
};

/// Points of a percentile curve per nine.
const STEPS_PER_NINE: u32 = 16;

/// Latency by percentile of every server at one point.
pub fn percentiles(results: &Results, place: Place<'_>, pens: &Pens) -> io::Result<Option<String>> {
    let x = Axis::percentiles();
    let mut curves = Vec::new();
    for server in results.servers_in(place.scenario) {
        let points: Vec<&Point> = results
            .runs_of(place.scenario, &server.name)
            .flat_map(|run| place.points_of(run))
            .filter(|point| point.delivered > 0 && !point.percentiles.is_empty())
            .collect();
        let curve = grid(&x).filter_map(|percentile| {
            let us = Spread::of(
                points
                    .iter()
                    .filter_map(|point| latency_us(point, percentile)),
            )?;
            Some((percentile, us.median / 1e3))
        });
        add(&mut curves, &server, curve.collect(), Vec::new(), pens);
    }
    let name = results.name(place);
    lines(
        format!("{name}: latency by percentile"),
        x,
        "latency, ms",
        curves,
        None,
    )
}

/// Percentiles at equal distances on their axis.
fn grid(x: &Axis) -> impl Iterator<Item = f64> {
    let (from, to) = (nines(x.from), nines(x.to));
    let steps = ((to - from) * f64::from(STEPS_PER_NINE)).ceil() as u32;
    (0..=steps).map(move |step| of_nines(from + (to - from) * f64::from(step) / f64::from(steps)))
}

/// The latency that `percentile` of a point's deliveries did not exceed. None beyond what its
/// number of deliveries can tell.
fn latency_us(point: &Point, percentile: f64) -> Option<f64> {
    let slower = (1.0 - percentile / 100.0) * point.delivered as f64;
    // A hair of room: 99.9 % of 1,000 leaves exactly one.
    if slower < 1.0 - 1e-6 {
        return None;
    }
    let reached = |(at, _): &&(f64, u64)| *at >= percentile - 1e-9;
    let entry = point
        .percentiles
        .iter()
        .find(reached)
        .or(point.percentiles.last())?;
    Some(entry.1.max(1) as f64)
}

/// CPU per tick against the number of subscribers, where a scenario has several.
pub fn subscribers(results: &Results, scenario: &str, pens: &Pens) -> io::Result<Option<String>> {
    let mut curves = Vec::new();
    let mut all = Vec::new();
    for server in results.servers_in(scenario) {
        let Some(counts) = results
            .runs_of(scenario, &server.name)
            .find_map(distinct_subscribers)
        else {
            continue;
        };
        let cpu = |subscribers: u64| {
            let which = Which {
                subscribers: Some(subscribers),
                ..Which::default()
            };
            let place = Place {
                scenario,
                server: &server.name,
                which,
            };
            let cpu = median(results, place, &Metric::Cpu)?;
            Some((subscribers as f64, cpu))
        };
        let points: Vec<(f64, f64)> = counts.iter().copied().filter_map(cpu).collect();
        all.extend(counts.into_iter().map(|count| count as f64));
        let marks = vec![Mark::Full; points.len()];
        add(&mut curves, &server, points, marks, pens);
    }
    let Some(x) = Axis::log("subscribers", all) else {
        return Ok(None);
    };
    let title = format!("{scenario}: CPU per delivered tick");
    lines(title, x, "CPU µs/tick", curves, None)
}

/// Ascending; none where two points of a run have the same, or there is only one.
fn distinct_subscribers(run: &Run) -> Option<Vec<u64>> {
    let mut counts: Vec<u64> = run.points.iter().map(|point| point.subscribers).collect();
    let points = counts.len();
    counts.sort_unstable();
    counts.dedup();
    (counts.len() == points && points > 1).then_some(counts)
}

/// p99 latency against throughput, over the steps of a ramp.
pub fn throughput(results: &Results, scenario: &str, pens: &Pens) -> io::Result<Option<String>> {
    let mut curves = Vec::new();
    let mut rates = Vec::new();
    for server in results.servers_in(scenario) {
        let Some(run) = ramps::median_run(results, scenario, &server.name) else {
            continue;
        };
        // By offered rate: a server that collapses delivers less at a higher one.
        let mut steps: BTreeMap<u64, (f64, f64, Mark)> = BTreeMap::new();
        for point in &run.points {
            let mark = if is_held(point) {
                Mark::Full
            } else {
                Mark::Hollow
            };
            let p99_ms = point.latency.p99_us as f64 / 1e3;
            if point.deliveries_per_s > 0.0 && p99_ms > 0.0 {
                rates.push(point.deliveries_per_s);
                let offered = (point.rate * 1e3) as u64;
                steps.insert(offered, (point.deliveries_per_s, p99_ms, mark));
            }
        }
        let marks = steps.values().map(|&(_, _, mark)| mark).collect();
        let points = steps.values().map(|&(rate, p99, _)| (rate, p99)).collect();
        add(&mut curves, &server, points, marks, pens);
    }
    let Some(x) = Axis::log("deliveries/s", rates) else {
        return Ok(None);
    };
    let title = format!("{scenario}: p99 latency against throughput (hollow: not held)");
    let bound_ms = RAMP_P99_US_MAX as f64 / 1e3;
    lines(title, x, "p99, ms", curves, Some(bound_ms))
}

fn add(
    curves: &mut Vec<Curve>,
    server: &Server,
    points: Vec<(f64, f64)>,
    marks: Vec<Mark>,
    pens: &Pens,
) {
    if !points.is_empty() {
        curves.push(Curve {
            title: server.title.clone(),
            pen: pens.of(server),
            points,
            marks,
        });
    }
}

/// With a logarithmic vertical axis over all curves; nothing without a curve.
fn lines(
    title: String,
    x: Axis,
    y_title: &str,
    curves: Vec<Curve>,
    bound: Option<f64>,
) -> io::Result<Option<String>> {
    let heights = curves
        .iter()
        .flat_map(|curve| &curve.points)
        .map(|&(_, y)| y);
    let bound = bound.filter(|_| !curves.is_empty());
    let Some(y) = Axis::log(y_title, heights.chain(bound)) else {
        return Ok(None);
    };
    let lines = Lines {
        title,
        x,
        y,
        curves,
        bound,
    };
    lines.svg().map(Some)
}
