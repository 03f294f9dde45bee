//! Scenarios of one server whose points are steps: a row for each, and no plots.

use std::fmt::Write as _;

use super::{
    figures::number,
    markdown::{Table, cell, plural},
    metric::Metric,
    results::Results,
};

/// Figures that only such a scenario has, and what they are called in a table.
const COLUMNS: [(&str, &str); 3] = [
    ("out_us_per_tick", "CPU out µs/tick"),
    ("in_us_per_tick", "in"),
    ("redis_us_per_tick", "Redis"),
];

/// Whether a scenario is one.
pub fn is_of_steps(scenario: &str) -> bool {
    scenario == "bridge"
}

/// What each step took, and whether it was sustained.
pub fn table(results: &Results, scenario: &str, text: &mut String) {
    let rounds = plural(results.rounds(scenario), "round");
    let _ = writeln!(text, "Medians of {rounds}.\n");
    let head = ["step", "arrived", "p50 ms", "p99 ms"];
    let columns = COLUMNS.map(|(_, title)| title);
    let mut table = Table::new(head.into_iter().chain(columns).chain(["rounds sustained"]));
    for place in results.places(scenario) {
        let points = || {
            let runs = results.runs.iter();
            let runs = runs.filter(|run| run.scenario == scenario);
            runs.flat_map(|run| place.points_of(run))
        };
        let Some(server) = results.servers_in(scenario).into_iter().next() else {
            continue;
        };
        let place = place.of(&server.name);
        let median = |metric: &Metric| {
            let spread = results.spread(place, metric);
            cell(spread.map(|spread| number(spread.median)))
        };
        let extras = COLUMNS.map(|(name, _)| median(&Metric::Extra(name.to_owned())));
        let sustained = points().filter(|point| point.sustained).count();
        let limited = points().any(|point| point.extra.contains_key("generator_limited"));
        let limit = if limited {
            ", the generator's limit"
        } else {
            ""
        };
        let row = [
            place.which.label.unwrap_or_default().to_owned(),
            median(&Metric::DeliveredShare),
            median(&Metric::P50),
            median(&Metric::P99),
        ];
        let last = format!("{sustained} of {}{limit}", points().count());
        table.row(row.into_iter().chain(extras).chain([last]));
    }
    let _ = writeln!(text, "{table}");
}
