//! A publisher that is killed.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    foreign::python,
    harness::{Client, PATIENCE},
    process::{Process, Serve},
};

const EPOCH: u64 = 7;

fn publisher(serve: &Serve, first: u64) -> Process {
    let mut command = python("burst.py");
    command
        .args([format!("{}/v1/publish", serve.url()), "BURST".to_owned()])
        .args([EPOCH.to_string(), first.to_string()])
        .env("TICKWIRE_TOKEN", &serve.token);
    Process::start(command)
}

/// Kills a publisher amid its bursts; returns the last seq that it is known to have sent.
fn kill(publisher: Process) -> u64 {
    publisher.signal(Signal::KILL);
    let sent = publisher.wait().stdout;
    let last = sent.last().expect("it has sent something");
    last.parse().expect("a number")
}

/// A subscriber's books: every seq is delivered or in a gap, in order.
struct Account {
    client: Client,
    next: u64,
    delivered: u64,
    gaps: Vec<(u64, u64)>,
}

impl Account {
    fn open(serve: &Serve) -> Self {
        let mut client = serve.connect("/v1/ws", None);
        client.subscribe(json!({"symbols": ["BURST"]}));
        Self {
            client,
            next: 1,
            delivered: 0,
            gaps: Vec::new(),
        }
    }

    /// Reads until so many ticks more were delivered.
    fn read_ticks(&mut self, ticks: u64) {
        let until = self.delivered + ticks;
        while self.delivered < until {
            let event = self.client.next_event();
            self.enter(&event);
        }
    }

    /// Reads until the feed changes to `state`.
    fn read_to_feed(&mut self, state: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            // Heartbeats keep coming where nothing else does.
            assert!(Instant::now() < until, "the feed did not become {state}");
            let event = self.client.next();
            if event["type"] == "heartbeat" || event["type"] == "cursor" {
                continue;
            }
            if event["type"] == "feed" {
                assert_eq!(event["state"], state);
                return;
            }
            self.enter(&event);
        }
    }

    fn enter(&mut self, event: &Value) {
        let number = |key: &str| event[key].as_u64().expect("a number");
        match event["type"].as_str().expect("a type") {
            "start" => self.next = event["trade"].as_u64().map_or(self.next, |last| last + 1),
            "trade" => {
                assert_eq!(number("seq"), self.next, "no hole, no repeat");
                self.next += 1;
                self.delivered += 1;
            }
            "gap" => {
                assert_eq!(
                    (number("from"), &event["reason"]),
                    (self.next, &json!("source"))
                );
                self.gaps.push((number("from"), number("to")));
                self.next = number("to") + 1;
            }
            "feed" => assert_eq!(event["state"], "live"),
            other => panic!("unexpected {other}"),
        }
    }
}

#[test]
fn a_killed_publisher_leaves_no_hole_that_is_no_gap() {
    let serve = Serve::start();
    let mut account = Account::open(&serve);

    let first = publisher(&serve, 1);
    account.read_ticks(400);
    let sent = kill(first);
    account.read_to_feed("stale");
    assert!(account.next <= sent + 1 + 50, "one burst may be untold");

    // It comes back with the seq after its last one: what it had not got through is a gap.
    let second = publisher(&serve, sent + 11);
    account.read_to_feed("live");
    account.read_ticks(400);
    assert_eq!(account.gaps.last().map(|gap| gap.1), Some(sent + 10));
    kill(second);
    account.read_to_feed("stale");

    // Or with what was acknowledged to it: what had got through is not told twice.
    let third = publisher(&serve, account.next - 30);
    account.read_to_feed("live");
    account.read_ticks(400);
    kill(third);
    account.read_to_feed("stale");
    assert_eq!(account.gaps.len(), 1, "{:?}", account.gaps);
}
