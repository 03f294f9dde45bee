//! The report as a whole, from runs that are made up here.

use std::path::Path;

use crate::{
    host::Facts,
    run::{Memory, Point, Run, ServerCpu},
};

use super::Report;

/// What a made-up server does in every round.
#[derive(Clone, Copy)]
struct Made {
    server: &'static str,
    cpu_us: f64,
    /// Of that, what was charged to `ksoftirqd`.
    softirq_us: f64,
    p99_us: u64,
    delivered: u64,
}

const EXPECTED: u64 = 1_000_000;

const TICKWIRE: Made = Made {
    server: "tickwire",
    cpu_us: 6.0,
    softirq_us: 0.6,
    p99_us: 8_000,
    delivered: EXPECTED,
};
const UWEBSOCKETS: Made = Made {
    server: "uwebsockets",
    cpu_us: 7.0,
    softirq_us: 0.0,
    p99_us: 7_000,
    delivered: EXPECTED,
};
const KERNEL_URING: Made = Made {
    server: "kernel-uring",
    cpu_us: 5.0,
    softirq_us: 0.0,
    p99_us: 9_000,
    delivered: EXPECTED,
};
/// Cheap and fast, but for half of the ticks only.
const HALF: Made = Made {
    server: "npm-ws",
    cpu_us: 1.0,
    softirq_us: 0.0,
    p99_us: 1_000,
    delivered: EXPECTED / 2,
};

impl Made {
    /// A run; the machine is slower in later rounds, for all servers alike.
    fn run(self, scenario: &str, round: u32) -> Run {
        let slow = 1.0 + f64::from(round) / 10.0;
        let cpu_us = self.cpu_us * slow;
        let mut point = Point {
            subscribers: 1_000,
            rate: 100.0,
            window_s: 10.0,
            expected: EXPECTED,
            delivered: self.delivered,
            deliveries_per_s: self.delivered as f64 / 10.0,
            cpu: Some(ServerCpu {
                us_per_tick: cpu_us,
                user_us_per_tick: cpu_us / 4.0,
                system_us_per_tick: cpu_us * 3.0 / 4.0,
                softirq_us_per_tick: Some(slow * self.softirq_us),
                busy: 0.5,
            }),
            percentiles: vec![
                (50.0, self.p99_us / 2),
                (99.0, self.p99_us),
                (100.0, self.p99_us * 3),
            ],
            bytes_per_tick: 114.0,
            memory: Some(Memory::new(0, 460_000, 920_000, 1_000)),
            sustained: self.delivered == EXPECTED,
            ..Point::default()
        };
        point.latency.p50_us = self.p99_us / 2;
        point.latency.p99_us = self.p99_us;
        point.latency.max_us = self.p99_us * 3;
        let mut run = Run::new(scenario, self.server, self.server, round);
        if self.delivered < EXPECTED {
            run.faults.push("half of it is missing".to_owned());
        }
        run.unix_s = 1_763_776_800 + u64::from(round);
        run.command = ["/build/tickwire-perf", "compare"].map(String::from).into();
        run.host = Facts {
            cpu: "A processor".to_owned(),
            cores: 2,
            memory_mib: 16_000,
            kernel: "6.12".to_owned(),
        };
        run.versions = vec![format!("{} 1.2", self.server)];
        run.layout = "server on core 0, generator on core 1".to_owned();
        run.points.push(point);
        run
    }

    /// A ramp that held all steps up to `held`, times a million deliveries/s.
    fn ramp(self, round: u32, held: u32) -> Run {
        let mut run = self.run("ramp-hot", round);
        let step = run.points.remove(0);
        run.points = (1..=held + 1)
            .map(|millions| {
                let mut step = step.clone();
                step.label = format!("{millions} M/s");
                step.rate = f64::from(millions) * 1e3;
                step.deliveries_per_s = f64::from(millions) * 1e6;
                step.sustained = millions <= held;
                step.latency.p99_us = if step.sustained { 5_000 } else { 300_000 };
                step
            })
            .collect();
        run
    }
}

/// Five rounds of `hot`.
fn hot(servers: &[Made]) -> Vec<Run> {
    let rounds = |server: &Made| {
        let server = *server;
        (1..=5).map(move |round| server.run("hot", round))
    };
    servers.iter().flat_map(rounds).collect()
}

/// The report of these runs, written into files and read from them.
fn report(runs: &[Run]) -> String {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), runs)
}

fn write(root: &Path, runs: &[Run]) -> String {
    let from = root.join("results/one");
    for run in runs {
        run.write(&from).unwrap();
    }
    let out = root.join("REPORT.md");
    let report = Report {
        from,
        out: out.clone(),
        notes: None,
    };
    assert!(report.write().unwrap());
    std::fs::read_to_string(out).unwrap()
}

#[track_caller]
fn assert_has(text: &str, part: &str) {
    assert!(text.contains(part), "without {part:?}:\n{text}");
}

/// The line of a table that begins with `cell`, after `heading`.
#[track_caller]
fn row<'a>(text: &'a str, heading: &str, cell: &str) -> &'a str {
    let (_, section) = text.split_once(heading).expect("the heading is there");
    let row = section
        .lines()
        .find(|line| line.starts_with(&format!("| {cell} |")));
    row.unwrap_or_else(|| panic!("no row {cell:?} below {heading:?}:\n{section}"))
}

#[test]
fn tables_have_medians_spreads_and_ratios_by_round() {
    let text = report(&hot(&[TICKWIRE, UWEBSOCKETS, KERNEL_URING]));
    let cost = row(&text, "| cost |", "**tickwire**");
    assert_has(
        cost,
        "| 7.80 (6.60–9.00) | 1.95 / 5.85 | 0.780 | 1.20 | 0.857 |",
    );
    let service = row(&text, "| service |", "**tickwire**");
    assert_has(
        service,
        "| 100,000 | 4.00 | 8.00 | 24.0 | 1.14 | 114 | all of 5,000,000 |",
    );
    assert_has(row(&text, "| cost |", "*kernel-uring*"), "| – | 0.714 |");
}

#[test]
fn targets_are_met_missed_or_not_measured() {
    let text = report(&hot(&[TICKWIRE, UWEBSOCKETS, KERNEL_URING]));
    let targets = text.split_once("## Targets").unwrap().1;
    let line = |what: &str| {
        let line = targets.lines().find(|line| line.contains(what));
        line.unwrap_or_else(|| panic!("no target {what:?}:\n{targets}"))
    };
    assert_has(
        line("`hot`: CPU per delivered tick, × the bare"),
        "| ≤ 1.10 | 1.200 | **missed** |",
    );
    assert_has(
        line("`hot`: CPU per delivered tick by its own account, × the bare"),
        "| ≤ 1.10 | 1.080 | met |",
    );
    assert_has(
        line("`hot`: CPU per delivered tick, × uWebSockets"),
        "| 0.857 | met |",
    );
    assert_has(
        line("`hot`: CPU per delivered tick, × tokio"),
        "| – | not measured |",
    );
    assert_has(&text, "3 are met, 2 are missed, and ");
}

#[test]
fn few_rounds_and_faults_are_remarked_on() {
    let mut runs = vec![TICKWIRE.run("hot", 1), UWEBSOCKETS.run("hot", 1)];
    runs[1].faults.push("x".to_owned());
    let text = report(&runs);
    assert_has(
        &text,
        "| met | 1 round only; `uwebsockets`: 1 of 1 runs with faults |",
    );
}

#[test]
fn what_was_not_measured_is_said_and_nothing_fails() {
    let mut runs = vec![TICKWIRE.run("hot", 1), HALF.run("watchlist", 1)];
    let mut failed = UWEBSOCKETS.run("hot", 1);
    failed.points.clear();
    failed.faults.push("it does\nnot start".to_owned());
    runs.push(failed);
    let text = report(&runs);
    assert_has(
        &text,
        "## `burst`\n\nThe opening of a market: for a while the rate is a multiple of the mean.\n\nNot measured.",
    );
    assert_has(&text, "Not measured here: npm-ws.");
    assert_has(
        row(&text, "| service |", "uwebsockets"),
        "| – | – | 1 | in 1 of 1 |",
    );
    assert_has(&text, "- uwebsockets, round 1: it does not start\n");
    assert_has(&text, "System calls were not counted.");
    assert_has(&text, "Nobody has written notes");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("results/one");
    std::fs::create_dir_all(&from).unwrap();
    std::fs::write(from.join("hot--nats--1.json"), "{").unwrap();
    let text = write(folder.path(), &hot(&[TICKWIRE]));
    assert_has(&text, "**`hot--nats--1.json` cannot be read:** EOF");
}

#[test]
fn a_folder_without_runs_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let report = Report {
        from: folder.path().to_owned(),
        out: folder.path().join("REPORT.md"),
        notes: None,
    };
    assert!(report.write().is_err());
}

#[test]
fn another_server_is_better_only_if_it_did_the_job() {
    let text = report(&hot(&[TICKWIRE, UWEBSOCKETS, KERNEL_URING, HALF]));
    let better = text
        .split_once("## Where another server is better")
        .unwrap()
        .1;
    let (better, _) = better.split_once("## ").unwrap();
    assert_has(
        better,
        "| hot | p99 ms | uwebsockets | 7.00 | 8.00 | 1.14 | yes |",
    );
    assert!(
        !better.contains("npm-ws") && !better.contains("kernel"),
        "{better}"
    );
    assert!(!better.contains("CPU"), "{better}");
    assert_has(row(&text, "| service |", "npm-ws"), "50.000 % of 5,000,000");
}

#[test]
fn event_streams_are_compared_with_those_of_the_edge() {
    let named = |made: Made, server| Made { server, ..made };
    let runs: Vec<Run> = (1..=5)
        .flat_map(|round| {
            let servers = [
                named(TICKWIRE, "tickwire-edge"),
                named(UWEBSOCKETS, "nchan-sse"),
            ];
            servers.map(|server| {
                let mut run = server.run("sse", round);
                run.points[0].subscribers = 5_000;
                run.points[0].rate = 20.0;
                run
            })
        })
        .collect();
    let text = report(&runs);
    let worse = "| sse | p99 ms | nchan-sse | 7.00 | 8.00 | 1.14 | yes |";
    assert_has(&text, worse);
    assert_has(&text, "from the edge | ≤ 0 | 0 | met |");
    assert_has(&text, "× Nchan's EventSource | – | 0.857 | shown |");
}

#[test]
fn ramps_show_what_was_held_and_what_ended_it() {
    let mut runs = Vec::new();
    for round in 1..=5 {
        runs.push(TICKWIRE.ramp(round, 3 + round));
        runs.push(UWEBSOCKETS.ramp(round, 2));
    }
    let text = report(&runs);
    let ramp = row(&text, "## `ramp-hot`", "**tickwire**");
    assert_has(
        ramp,
        "| 6,000,000 (4,000,000–8,000,000) | 3.00 (2.00–4.00) |",
    );
    assert_has(ramp, "| p99 300 ms | 5 |");
    assert_has(
        &text,
        "≥ 4,500,000 | 6,000,000 (4,000,000–8,000,000) | met |",
    );
}

#[test]
fn figures_of_one_scenario_have_a_table() {
    let mut run = TICKWIRE.run("burst", 1);
    run.points[0].label = "10,000 ticks/s".to_owned();
    let extra = &mut run.points[0].extra;
    extra.insert("drain_ms".to_owned(), 12.5);
    let text = report(&[run]);
    assert!(
        !text.contains("### burst"),
        "a label alone sets nothing apart"
    );
    assert_has(
        &text,
        "| further | drain ms |\n| --- | ---: |\n| **tickwire** | 12.5 |",
    );
    assert_has(
        &text,
        "| 7 | `burst`: time to drain, ms | – | 12.500 | shown |",
    );
}

#[test]
fn several_points_have_a_heading_each() {
    let mut run = TICKWIRE.run("latency", 1);
    let mut many = run.points[0].clone();
    many.subscribers = 10_000;
    many.label = "10000 subscribers".to_owned();
    run.points[0].label = "1000 subscribers".to_owned();
    run.points.push(many);
    let text = report(&[run]);
    let headings: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("### l"))
        .collect();
    let expected = [
        "### latency: 1000 subscribers",
        "### latency: 10000 subscribers",
    ];
    assert_eq!(headings, expected);
    assert_has(&text, "](results/one/latency-subscribers.svg)");
    assert_has(
        &text,
        "](results/one/latency-10000-subscribers-latency.svg)",
    );
    assert!(!text.contains("cpu.svg"));
}

#[test]
fn the_same_runs_make_the_same_bytes_in_whatever_order_they_were_written() {
    let mut runs = hot(&[TICKWIRE, UWEBSOCKETS, HALF]);
    runs.push(TICKWIRE.ramp(1, 2));
    let one = tempfile::tempdir().unwrap();
    let text = write(one.path(), &runs);
    runs.reverse();
    let other = tempfile::tempdir().unwrap();
    // All but the names of the two folders.
    let name = |root: &Path| root.file_name().unwrap().to_string_lossy().into_owned();
    let other_text = write(other.path(), &runs).replace(&name(other.path()), &name(one.path()));
    assert_eq!(text, other_text);
    for plot in ["hot-latency.svg", "hot-cpu.svg", "ramp-hot-throughput.svg"] {
        let file = |root: &Path| std::fs::read_to_string(root.join("results/one").join(plot));
        let svg = file(one.path()).unwrap();
        assert_eq!(svg, file(other.path()).unwrap());
        assert_has(&svg, r#"<rect x="0" y="0" width="1120""#);
        assert_has(&svg, r##"fill="#FFFFFF""##);
        assert_has(&text, &format!("](results/one/{plot})"));
    }
}

#[test]
fn notes_and_a_profile_are_taken_in() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("results/one");
    std::fs::create_dir_all(&from).unwrap();
    std::fs::write(
        folder.path().join("NOTES.md"),
        "# Notes\n\n## Tried\n\nA *thing*.\n",
    )
    .unwrap();
    let profile = r#"[{"function":"b","instructions_share":0.1},
                      {"function":"a::b","instructions_share":0.415}]"#;
    std::fs::write(from.join("profile.json"), profile).unwrap();
    let text = write(folder.path(), &[TICKWIRE.run("hot", 1)]);
    assert_has(&text, "| `a::b` | 41.5 % |\n| `b` | 10.0 % |\n");
    assert!(text.ends_with("## Tried\n\nA *thing*.\n"), "{text}");
    assert!(!text.contains("# Notes\n"));
}
