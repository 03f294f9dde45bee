//! `tickwire publish` and `tickwire subscribe`.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    process::{Process, Serve, token},
    ticks::{self, assert_equal, delivered, fixture, is_tick},
};

/// A tick that a subscriber of everything prints as a snapshot, which tells that it listens.
fn mark(serve: &Serve) {
    let mut publisher = serve.connect("/v1/publish", None);
    let ack = publisher.publish(&json!({"type": "trade", "symbol": "MARK", "price": "1"}));
    assert_eq!(ack["accepted"], 1, "{ack}");
}

/// `tickwire subscribe` to everything, which ends after so many ticks and has begun to listen.
fn listener(serve: &Serve, format: &str, ticks: usize) -> Process {
    let count = (ticks + 1).to_string();
    let args = ["--symbols=*", "--format", format, "--count", &count];
    let process = Process::start(serve.client("subscribe", &args));
    process.stdout_line(|line| line.contains("MARK").then_some(()));
    process
}

/// The lines of ticks but the mark's.
fn ticks_of(process: Process) -> Vec<Value> {
    let lines = process.wait().ok();
    let messages = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    messages
        .filter(|message| is_tick(message) && message["symbol"] != "MARK")
        .collect()
}

#[test]
fn subscribers_print_exactly_the_values_that_were_published() {
    let file = ticks::read(&fixture());
    for format in ["json", "sbe"] {
        let serve = Serve::start();
        mark(&serve);
        let in_json = listener(&serve, "json", file.len());
        let in_sbe = listener(&serve, "sbe", file.len());
        let summary = serve.publish(&fixture(), &["--strict", "--format", format]);
        assert!(
            summary[0].starts_with(&format!("accepted {}, rejected 0", file.len())),
            "{summary:?}"
        );
        let in_json = ticks_of(in_json);
        assert_equal(&in_json.iter().map(delivered).collect::<Vec<_>>(), &file);
        assert_eq!(ticks_of(in_sbe), in_json, "published as {format}");
    }
}

/// The fixture with two bad rows, on the lines 3 and 6.
fn spoilt(serve: &Serve) -> PathBuf {
    let text = fs::read_to_string(fixture()).expect("the fixture");
    let mut lines: Vec<_> = text.lines().collect();
    lines.insert(2, "1610064000308940,trade,AAPL,1e5,,,,,,");
    lines.insert(5, "1610064000308940,quote,AAPL,,,,1,,,");
    let path = PathBuf::from(serve.path("spoilt.csv"));
    fs::write(&path, lines.join("\n")).expect("a file");
    path
}

#[test]
fn bad_rows_are_named_by_their_lines_and_cost_only_themselves() {
    let serve = Serve::start();
    let file = spoilt(&serve).display().to_string();
    let ended = Process::run(serve.client("publish", &["--speed=max", "--file", &file]));
    let told = ended.stderr.join("\n");
    assert!(told.contains("line 3: `price`"), "{told}");
    assert!(told.contains("line 6: `ask` is missing"), "{told}");
    let summary = ended.ok().join("\n");
    let good = ticks::read(&fixture()).len();
    assert!(summary.contains(&format!("accepted {good}, ")), "{summary}");
    assert!(summary.contains("2 bad rows skipped"), "{summary}");
}

#[test]
fn strict_ends_at_the_first_bad_row_with_1() {
    let serve = Serve::start();
    let file = spoilt(&serve).display().to_string();
    let args = ["--strict", "--speed=max", "--file", &file];
    let ended = Process::run(serve.client("publish", &args));
    assert!(
        ended.stdout[0].starts_with("accepted 1, "),
        "{:?}",
        ended.stdout
    );
    let (code, words) = ended.failure();
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("line 3: `price`"), "{words}");
}

#[test]
fn strict_fails_where_the_engine_rejected_a_tick() {
    let serve = Serve::start();
    let narrow = token(&serve.path("secret"), &["--publish=A*"]);
    fs::write(serve.path("token"), narrow).expect("a file");
    let file = fixture().display().to_string();
    let args = ["--strict", "--speed=max", "--file", &file];
    let ended = Process::run(serve.client("publish", &args));
    let summary = ended.stdout.join("\n");
    let file = ticks::read(&fixture());
    let allowed = file.iter().filter(|told| told.symbol == "AAPL").count();
    let rejected = file.len() - allowed;
    assert!(
        summary.contains(&format!("accepted {allowed}, rejected {rejected}")),
        "{summary}"
    );
    assert!(summary.contains("not_entitled"), "{summary}");
    assert_eq!(ended.failure().0, Some(1));
}
