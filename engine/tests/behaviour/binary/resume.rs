//! A subscriber that goes away for a while.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    harness::Client,
    process::{Process, Serve},
    ticks::is_tick,
};

const RATE: u64 = 10_000;

/// Everything received of each symbol, in order, repeats dropped as clients do.
#[derive(Default, PartialEq)]
struct Received(BTreeMap<String, Vec<Value>>);

impl Received {
    fn enter(&mut self, tick: &Value) {
        let symbol = tick["symbol"].as_str().expect("a symbol").to_owned();
        let ticks = self.0.entry(symbol).or_default();
        let identity = |tick: &Value| (tick["epoch"].as_u64(), tick["seq"].as_u64());
        let last = ticks.iter().rfind(|last| last["type"] == tick["type"]);
        if last.is_none_or(|last| identity(last) < identity(tick)) {
            ticks.push(tick.clone());
        }
    }

    fn ticks(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

/// Takes what comes until `done`; returns the last cursor.
fn receive(
    client: &mut Client,
    received: &mut Received,
    mut done: impl FnMut(&Value, &Received) -> bool,
) -> Option<Value> {
    let mut cursor = None;
    loop {
        let message = client.next();
        assert_ne!(message["type"], "gap", "{message}");
        if message["type"] == "cursor" {
            cursor = Some(message["cursor"].clone());
        }
        if is_tick(&message) {
            received.enter(&message);
        }
        if done(&message, received) {
            return cursor;
        }
    }
}

fn subscriber(serve: &Serve) -> Client {
    let mut client = serve.connect("/v1/ws", None);
    client.subscribe(json!({"symbols": ["*"], "snapshot": false}));
    client
}

#[test]
fn who_was_away_ends_with_the_sequence_of_who_stayed() {
    let away_s = if std::env::var_os("TICKWIRE_LONG").is_some() {
        5
    } else {
        1
    };
    // A laggard is another test's matter.
    let serve = Serve::with(&["--set=lag_soft_ticks=65536", "--set=tape_slots=262144"]);
    let mut stays = subscriber(&serve);
    let mut leaves = subscriber(&serve);
    let duration = format!("{}s", away_s + 2);
    let rate = RATE.to_string();
    let args = ["--synthetic", "--rate", &rate, "--symbols=50", "--seed=7"];
    let mut command = serve.client("publish", &args);
    command.args(["--duration", &duration]);
    let publisher = Process::start(command);

    let is_end = |message: &Value| message["symbol"] == "END" && message["type"] == "trade";
    let stayed = thread::spawn(move || {
        let mut received = Received::default();
        receive(&mut stays, &mut received, |message, _| is_end(message));
        received
    });

    let mut resumed = Received::default();
    let begun = Instant::now();
    let mut cursors = 0;
    let cursor = receive(&mut leaves, &mut resumed, |message, received| {
        cursors += usize::from(message["type"] == "cursor");
        cursors > 0 && received.ticks() > 2_000 && begun.elapsed() > Duration::from_millis(300)
    });
    drop(leaves);
    let when_left = resumed.ticks();
    thread::sleep(Duration::from_secs(away_s));

    let mut back = serve.connect("/v1/ws", None);
    let since = json!({"cursor": cursor.expect("a cursor came")});
    back.subscribe(json!({"id": 3, "symbols": ["*"], "since": since}));
    let summary = publisher.wait().ok();
    let accepted: usize = summary[0]
        .split([' ', ','])
        .nth(1)
        .and_then(|count| count.parse().ok())
        .expect("a summary");
    serve
        .connect("/v1/publish", None)
        .publish(&json!({"type": "trade", "symbol": "END", "price": "1"}));
    let (mut replayed, mut ended) = (false, false);
    receive(&mut back, &mut resumed, |message, _| {
        replayed |= message["type"] == "replayed";
        ended |= is_end(message);
        replayed && ended
    });

    let stayed = stayed.join().expect("the one who stays");
    assert_eq!(stayed.ticks(), accepted + 1, "the one who stayed has all");
    assert!(accepted - when_left > RATE as usize * away_s as usize / 2);
    assert_eq!(resumed.ticks(), stayed.ticks());
    assert!(resumed == stayed, "the sequences differ");
}
