//! Where another server does the same job with less.

use std::fmt::Write as _;

use super::{
    figures::{Spread, number},
    markdown::Table,
    metric::{DELIVERED_SHARE_MIN, Metric, Which},
    ramps,
    results::{Place, Results},
    servers::{Role, TICKWIRE, TICKWIRE_EDGE},
};

/// What is compared, and its name.
const METRICS: [(&str, Metric); 10] = [
    ("most deliveries/s", Metric::MaxDeliveries),
    ("share delivered", Metric::DeliveredShare),
    ("CPU µs/tick", Metric::Cpu),
    ("syscalls/tick", Metric::Syscalls),
    ("p50 ms", Metric::P50),
    ("p99 ms", Metric::P99),
    ("max ms", Metric::Slowest),
    ("bytes/tick", Metric::Bytes),
    ("bytes per idle connection", Metric::IdleMemory),
    ("bytes per busy connection", Metric::BusyMemory),
];

/// The section of the report.
pub fn section(results: &Results, text: &mut String) {
    let _ = write!(
        text,
        "## Where another server is better\n\n\
         Every figure in which a server that did the same job has a better median than `{TICKWIRE}`, or \
         than `{TICKWIRE_EDGE}` where that plays instead. Servers that delivered less than {} % there are left out: what is not delivered costs \
         nothing. So are the bare programs, which do a part of the job only. *Clear* means that it \
         was better in every round.\n\n",
        number(DELIVERED_SHARE_MIN * 100.0)
    );
    let mut table = Table::new([
        "scenario",
        "figure",
        "better server",
        "its figure",
        "tickwire",
        "tickwire ÷ it",
        "clear",
    ]);
    for scenario in results.scenarios() {
        for place in places(results, scenario) {
            rows(results, place, &mut table);
        }
    }
    if table.is_empty() {
        text.push_str("Nowhere in these runs.\n\n");
    } else {
        let _ = writeln!(text, "{table}");
    }
}

/// Where the others are compared with ours: the whole of a ramp, which has one result; every point of
/// other scenarios.
fn places<'a>(results: &'a Results, scenario: &'a str) -> Vec<Place<'a>> {
    let server = if results.runs_of(scenario, TICKWIRE_EDGE).next().is_some() {
        TICKWIRE_EDGE
    } else {
        TICKWIRE
    };
    if ramps::is_ramp(scenario) {
        let which = Which::default();
        return vec![Place {
            scenario,
            server,
            which,
        }];
    }
    let places = results.places(scenario).into_iter();
    places.map(|place| place.of(server)).collect()
}

fn rows(results: &Results, ours: Place<'_>, table: &mut Table) {
    for (name, metric) in &METRICS {
        if (*metric == Metric::MaxDeliveries) != ramps::is_ramp(ours.scenario) {
            continue;
        }
        let Some(own) = results.spread(ours, metric) else {
            continue;
        };
        for server in results.servers_in(ours.scenario) {
            let theirs = ours.of(&server.name);
            if server.role() != Role::Peer || !does_the_job(results, theirs) {
                continue;
            }
            let Some(other) = results.spread(theirs, metric) else {
                continue;
            };
            if is_better(metric, other.median, own.median) {
                let ratio = results.ratio(ours, theirs, metric);
                table.row([
                    results.name(ours),
                    (*name).to_owned(),
                    server.title,
                    other.to_string(),
                    own.to_string(),
                    ratio.map(|ratio| ratio.to_string()).unwrap_or_default(),
                    ratio.map(|ratio| clear(metric, ratio)).unwrap_or_default(),
                ]);
            }
        }
    }
}

/// Ramps end where a server no longer does it, so all of them did before.
fn does_the_job(results: &Results, place: Place<'_>) -> bool {
    let share = results.spread(place, &Metric::DeliveredShare);
    ramps::is_ramp(place.scenario) || share.is_none_or(|share| share.median >= DELIVERED_SHARE_MIN)
}

fn is_better(metric: &Metric, theirs: f64, ours: f64) -> bool {
    if metric.more_is_better() {
        theirs > ours
    } else {
        theirs < ours
    }
}

fn clear(metric: &Metric, ratio: Spread) -> String {
    let worst = if metric.more_is_better() {
        ratio.max < 1.0
    } else {
        ratio.min > 1.0
    };
    if worst { "yes" } else { "no" }.to_owned()
}
