//! Ramps: the highest rate that each server held.

use std::fmt::Write as _;

use crate::run::{Point, Run};

use super::{
    figures::{Spread, number},
    markdown::{Table, cell, plural},
    metric::{Metric, RAMP_P99_US_MAX, Which, is_held},
    results::{Place, Results},
    servers::{KERNEL_1MS, UWEBSOCKETS},
};

/// Whether a scenario is one.
pub fn is_ramp(scenario: &str) -> bool {
    scenario.starts_with("ramp")
}

/// What each server held, and against whom that counts.
pub fn table(results: &Results, scenario: &str, text: &mut String) {
    let _ = writeln!(
        text,
        "A step is held while the server delivers everything with a p99 below {} ms. \
         Cost and latency are those of the highest step held, in the round with the median \
         result. {}.\n",
        RAMP_P99_US_MAX / 1_000,
        plural(results.rounds(scenario), "round")
    );
    let head = [
        "server",
        "most deliveries/s",
        "× `uwebsockets`",
        "× `kernel-1ms`",
        "CPU µs/tick there",
        "bytes/tick",
        "p50 ms",
        "p99 ms",
        "what ended it",
        "rounds",
    ];
    let mut table = Table::new(head);
    for server in results.servers_in(scenario) {
        let place = Place {
            scenario,
            server: &server.name,
            which: Which::default(),
        };
        let metric = Metric::MaxDeliveries;
        let most = results.spread(place, &metric);
        let ratio = |name| cell(results.ratio(place, place.of(name), &metric));
        let run = median_run(results, scenario, &server.name);
        let step = run.and_then(highest_held);
        let at = |metric: Metric| cell(step.and_then(|step| metric.of_point(step)).map(number));
        table.row([
            server.cell(),
            cell(most),
            ratio(UWEBSOCKETS),
            ratio(KERNEL_1MS),
            at(Metric::Cpu),
            at(Metric::Bytes),
            at(Metric::P50),
            at(Metric::P99),
            run.map(ended_by).unwrap_or_default(),
            cell(most.map(|most: Spread| most.rounds)),
        ]);
    }
    let _ = writeln!(text, "{table}");
}

/// The run with the median result; of an even number the lower one of the middle two.
pub fn median_run<'a>(results: &'a Results, scenario: &'a str, server: &'a str) -> Option<&'a Run> {
    let result = |run: &'a Run| Some((Metric::MaxDeliveries.of(run, Which::default())?, run));
    let mut runs: Vec<(f64, &Run)> = results
        .runs_of(scenario, server)
        .filter_map(result)
        .collect();
    runs.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let middle = runs.len().checked_sub(1)? / 2;
    Some(runs[middle].1)
}

fn highest_held(run: &Run) -> Option<&Point> {
    let held = run.points.iter().filter(|point| is_held(point));
    held.max_by(|one, other| one.deliveries_per_s.total_cmp(&other.deliveries_per_s))
}

/// Why the lowest step above the highest one held was not.
fn ended_by(run: &Run) -> String {
    let held = highest_held(run).map_or(0.0, |point| point.rate);
    let failed = run
        .points
        .iter()
        .filter(|point| !is_held(point) && point.rate > held);
    let Some(step) = failed.min_by(|one, other| one.rate.total_cmp(&other.rate)) else {
        return "the end of the ramp".to_owned();
    };
    if step.generator.reached {
        "the generator".to_owned()
    } else if step.lost_connections > 0 {
        format!("{} connections lost", step.lost_connections)
    } else if step.latency.p99_us >= RAMP_P99_US_MAX {
        format!("p99 {} ms", number(step.latency.p99_us as f64 / 1e3))
    } else if step.delivered < step.expected {
        let percent = step.delivered as f64 / step.expected as f64 * 100.0;
        format!("{percent:.1} % delivered")
    } else {
        "the publisher".to_owned()
    }
}
