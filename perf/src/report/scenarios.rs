//! A section per scenario: its plots, what serving it cost, and what subscribers got.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::run::{Point, Run};

use super::{
    Pictures,
    figures::{Spread, number},
    markdown::{Table, cell, escaped, plural},
    metric::Metric,
    ramps,
    results::{Place, Results},
    servers::{KERNEL_URING, Server, TOKIO_4K, UWEBSOCKETS},
    steps,
};

/// The scenarios that a full comparison has, in the order of the report. What a run holds beyond
/// them follows by name.
const SCENARIOS: [(&str, &str); 16] = [
    ("hot", "Every subscriber follows the same symbol."),
    (
        "watchlist",
        "Each subscriber follows a few of many symbols, popular ones more often (Zipf).",
    ),
    ("firehose", "Every subscriber follows all symbols."),
    (
        "burst",
        "The opening of a market: for a while the rate is a multiple of the mean.",
    ),
    (
        "idle",
        "Silent connections, each with a subscription and a live token.",
    ),
    (
        "latency",
        "A low rate, to few subscribers and to many: what a tick takes when nothing waits.",
    ),
    ("scale", "One floor, two, and more."),
    (
        "ramp-hot",
        "The rate of one symbol rises until the server no longer keeps up.",
    ),
    (
        "ramp-watchlist",
        "The rate over many symbols rises until the server no longer keeps up.",
    ),
    (
        "storm",
        "Everyone comes back at once: what a crowd at the door does to those who are inside.",
    ),
    (
        "slow",
        "Some subscribers stop reading for a while, and then for longer than they may.",
    ),
    (
        "churn",
        "Clients come and go for minutes: whether anything of them stays behind.",
    ),
    (
        "soak",
        "Ticks, clients that come and go, storms, slow clients and bad input at once, minute by minute.",
    ),
    (
        "sse",
        "As `hot`, by Server-Sent Events: tickwire's engine and edge together beside Nchan.",
    ),
    (
        "hosts",
        "Hosts that share ticks through Redis: what a tick takes to subscribers of another host, and many of them on three hosts, of which two publish.",
    ),
    (
        "bridge",
        "Ever more ticks from one host to another through one Redis, to a subscriber there; and by a PUBLISH for each tick between two loops on bare sockets, which serve nobody.",
    ),
];

/// What ratios are against.
const BASELINES: [&str; 3] = [KERNEL_URING, UWEBSOCKETS, TOKIO_4K];

/// All sections.
pub fn sections(results: &Results, pictures: &Pictures, text: &mut String) {
    let known = SCENARIOS.iter().map(|&(name, story)| (name, story));
    let is_known = |name: &str| SCENARIOS.iter().any(|(known, _)| *known == name);
    let others = results
        .scenarios()
        .into_iter()
        .filter(|&name| !is_known(name));
    for (scenario, story) in known.chain(others.map(|name| (name, ""))) {
        section(results, pictures, (scenario, story), text);
    }
}

fn section(
    results: &Results,
    pictures: &Pictures,
    (scenario, story): (&str, &str),
    text: &mut String,
) {
    let _ = writeln!(text, "## `{scenario}`\n");
    if !story.is_empty() {
        let _ = writeln!(text, "{story}\n");
    }
    if !results.scenarios().contains(scenario) {
        text.push_str("Not measured.\n\n");
        return;
    }
    if ramps::is_ramp(scenario) {
        ramps::table(results, scenario, text);
    } else if steps::is_of_steps(scenario) {
        steps::table(results, scenario, text);
    } else {
        for place in results.places(scenario) {
            point(results, place, text);
        }
    }
    pictures.of_scenario(scenario, text);
    absent(results, scenario, text);
    faults(results, scenario, text);
}

/// Servers of the comparison that this scenario has no run of.
fn absent(results: &Results, scenario: &str, text: &mut String) {
    let present = results.servers_in(scenario);
    let missing = results
        .servers()
        .into_iter()
        .filter(|server| !present.contains(server));
    let names: Vec<String> = missing.map(|server| server.title).collect();
    if !names.is_empty() {
        let _ = writeln!(text, "Not measured here: {}.\n", names.join(", "));
    }
}

fn point(results: &Results, place: Place<'_>, text: &mut String) {
    let name = results.name(place);
    if name != place.scenario {
        let _ = writeln!(text, "### {name}\n");
    }
    let _ = writeln!(text, "{}\n", shape(results, place));
    let servers = results.servers_in(place.scenario);
    let _ = writeln!(text, "{}", cost(results, place, &servers));
    let _ = writeln!(text, "{}", service(results, place, &servers));
    let extra = extra(results, place, &servers);
    if !extra.is_empty() {
        let _ = writeln!(text, "{extra}");
    }
}

/// What all runs of a point have in common, or between which bounds they lie.
fn shape(results: &Results, place: Place<'_>) -> String {
    let runs = results.runs.iter();
    let points: Vec<&Point> = runs
        .filter(|run| run.scenario == place.scenario)
        .flat_map(|run| place.points_of(run))
        .collect();
    let range = |value: fn(&Point) -> f64, unit: &str| {
        let spread = Spread::of(points.iter().map(|point| value(point)));
        let spread = spread.filter(|spread| spread.max > 0.0)?;
        let (min, max) = (number(spread.min), number(spread.max));
        Some(if min == max {
            format!("{min} {unit}")
        } else {
            format!("{min} to {max} {unit}")
        })
    };
    let parts = [
        range(|point| point.subscribers as f64, "subscribers"),
        range(|point| point.rate, "ticks/s"),
        range(|point| point.window_s, "s measured"),
        Some(plural(results.rounds(place.scenario), "round")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ") + "."
}

/// What it cost the server.
fn cost(results: &Results, place: Place<'_>, servers: &[Server]) -> Table {
    let head = ["cost", "CPU µs/tick", "user / system µs", "to ksoftirqd µs"].map(String::from);
    let ratios = BASELINES.map(|name| format!("× `{name}`"));
    let tail = [
        "cores busy",
        "syscalls/tick",
        "bytes per connection idle",
        "busy",
    ];
    let mut table = Table::new(head.into_iter().chain(ratios).chain(tail.map(String::from)));
    for server in servers {
        let place = place.of(&server.name);
        let spread = |metric| results.spread(place, &metric);
        let median = |metric| cell(spread(metric).map(|spread| number(spread.median)));
        let ratio = |name: &str| cell(results.ratio(place, place.of(name), &Metric::Cpu));
        let split = spread(Metric::CpuUser)
            .zip(spread(Metric::CpuSystem))
            .map(|(user, system)| format!("{} / {}", number(user.median), number(system.median)));
        let head = [
            server.cell(),
            cell(spread(Metric::Cpu)),
            cell(split),
            median(Metric::CpuSoftirq),
        ];
        let tail = [
            median(Metric::CoresBusy),
            median(Metric::Syscalls),
            median(Metric::IdleMemory),
            median(Metric::BusyMemory),
        ];
        table.row(head.into_iter().chain(BASELINES.map(ratio)).chain(tail));
    }
    table
}

/// What subscribers got.
fn service(results: &Results, place: Place<'_>, servers: &[Server]) -> Table {
    let head = ["service", "deliveries/s", "p50 ms", "p99 ms", "max ms"].map(String::from);
    let ratio = [format!("p99 × `{UWEBSOCKETS}`")];
    let tail = [
        "bytes/tick",
        "delivered",
        "generator busy",
        "rounds",
        "faults",
    ];
    let mut table = Table::new(head.into_iter().chain(ratio).chain(tail.map(String::from)));
    for server in servers {
        let place = place.of(&server.name);
        let spread = |metric| results.spread(place, &metric);
        let median = |metric| cell(spread(metric).map(|spread| number(spread.median)));
        let ratio = cell(results.ratio(place, place.of(UWEBSOCKETS), &Metric::P99));
        let runs: Vec<&Run> = results.runs_of(place.scenario, &server.name).collect();
        let points: Vec<&Point> = runs.iter().flat_map(|run| place.points_of(run)).collect();
        let head = [
            server.cell(),
            median(Metric::Deliveries),
            cell(spread(Metric::P50)),
            cell(spread(Metric::P99)),
            cell(spread(Metric::Slowest)),
            ratio,
        ];
        let tail = [
            median(Metric::Bytes),
            delivered(&points),
            generator(&points),
            runs.len().to_string(),
            faulty(&runs),
        ];
        table.row(head.into_iter().chain(tail));
    }
    table
}

/// Over all rounds.
fn delivered(points: &[&Point]) -> String {
    let sum = |value: fn(&Point) -> u64| points.iter().map(|point| value(point)).sum::<u64>();
    let (delivered, expected) = (sum(|point| point.delivered), sum(|point| point.expected));
    let all = number(expected as f64);
    match (delivered, expected) {
        (_, 0) => String::new(),
        (delivered, expected) if delivered == expected => format!("all of {all}"),
        // Never rounded up to 100 %.
        (delivered, expected) => {
            let percent = (delivered as f64 / expected as f64 * 1e5).floor() / 1e3;
            format!("{percent:.3} % of {all}")
        }
    }
}

/// How busy the generator was at most, and where a run measured nothing but it.
fn generator(points: &[&Point]) -> String {
    let at_ceiling = points
        .iter()
        .filter(|point| point.generator.reached)
        .count();
    let busy = |point: &&Point| {
        point
            .generator
            .core_busy
            .unwrap_or(point.generator.thread_busy)
    };
    match Spread::of(points.iter().map(busy)) {
        None => String::new(),
        Some(_) if at_ceiling > 0 => format!("at its ceiling in {at_ceiling}"),
        Some(busy) => format!("{:.0} %", busy.max * 100.0),
    }
}

/// Runs with faults, of all.
fn faulty(runs: &[&Run]) -> String {
    let faulty = runs.iter().filter(|run| !run.faults.is_empty()).count();
    if faulty == 0 {
        String::new()
    } else {
        format!("in {faulty} of {}", runs.len())
    }
}

/// Figures that only this scenario has.
fn extra(results: &Results, place: Place<'_>, servers: &[Server]) -> Table {
    let runs = results
        .runs
        .iter()
        .filter(|run| run.scenario == place.scenario);
    let points = runs.flat_map(|run| place.points_of(run));
    let mut names: Vec<&str> = points
        .flat_map(|point| point.extra.keys().map(String::as_str))
        .collect();
    names.sort_unstable();
    names.dedup();
    let title = |name: &&str| name.replace('_', " ");
    let mut table = Table::new(
        ["further".to_owned()]
            .into_iter()
            .chain(names.iter().map(title)),
    );
    if names.is_empty() {
        return table;
    }
    for server in servers {
        let figure = |name: &&str| {
            let metric = Metric::Extra((*name).to_owned());
            cell(results.spread(place.of(&server.name), &metric))
        };
        table.row([server.cell()].into_iter().chain(names.iter().map(figure)));
    }
    table
}

/// Everything that spoilt a run, folded: some servers have a lot of it.
fn faults(results: &Results, scenario: &str, text: &mut String) {
    let mut lines = String::new();
    for server in results.servers_in(scenario) {
        let mut rounds_of: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for run in results.runs_of(scenario, &server.name) {
            for fault in &run.faults {
                rounds_of
                    .entry(fault)
                    .or_default()
                    .push(run.round.to_string());
            }
        }
        for (fault, rounds) in rounds_of {
            let plural = if rounds.len() == 1 { "" } else { "s" };
            let rounds = rounds.join(", ");
            let title = &server.title;
            let _ = writeln!(
                lines,
                "- {title}, round{plural} {rounds}: {}",
                escaped(fault)
            );
        }
    }
    if !lines.is_empty() {
        let summary = "<details><summary>Faults of these runs</summary>";
        let _ = writeln!(text, "{summary}\n\n{lines}\n</details>\n");
    }
}

/// The system calls of every server in every scenario that counted them.
pub fn syscalls(results: &Results) -> Table {
    let scenarios = results.scenarios().into_iter();
    // Not in ramps: they are counted where there is one rate.
    let places: Vec<Place<'_>> = scenarios
        .filter(|scenario| !ramps::is_ramp(scenario))
        .flat_map(|scenario| results.places(scenario))
        .collect();
    let names = places.iter().map(|&place| results.name(place));
    let mut table = Table::new(["server".to_owned()].into_iter().chain(names));
    for server in results.servers() {
        let figure = |place: &Place<'_>| {
            let spread = results.spread(place.of(&server.name), &Metric::Syscalls);
            cell(spread.map(|spread| number(spread.median)))
        };
        let cells: Vec<String> = places.iter().map(figure).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            table.row([server.cell()].into_iter().chain(cells));
        }
    }
    table
}
