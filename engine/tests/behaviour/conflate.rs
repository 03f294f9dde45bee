//! `conflate`: the latest of each channel, at most every interval, and every tick counted.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    harness::{Client, TestEngine, numbered, quote},
    ledger::Ledger,
};

fn read_to(client: &mut Client, ledger: &mut Ledger, channel: &str, seq: u64) -> Vec<Value> {
    let mut told = Vec::new();
    while ledger.last("A", channel) != seq {
        let message = client.next_event();
        ledger.take(&message);
        told.push(message);
    }
    told
}

fn shape(message: &Value) -> (&str, Option<u64>, Option<u64>) {
    let field = |name: &str| message[name].as_u64();
    let at = field("seq").or(field("to")).or(field("trade"));
    (message["type"].as_str().unwrap(), at, field("skipped"))
}

#[test]
fn both_channels_come_at_most_every_interval_and_every_tick_is_counted() {
    const INTERVAL_MS: u64 = 50;
    let engine = TestEngine::start();
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["A"], "mode": "conflate", "interval_ms": INTERVAL_MS}));
    let mut publisher = engine.publisher();
    let began = Instant::now();
    for seq in 1..=200 {
        publisher.publish(&json!([numbered("A", 1, seq), quote("A", 1, seq)]));
    }
    // The reader looks only afterwards; what counts is how much the engine let go.
    let mut ledger = Ledger::default();
    read_to(&mut client, &mut ledger, "trade", 200);
    read_to(&mut client, &mut ledger, "quote", 200);
    let intervals = began.elapsed().as_millis() as u64 / INTERVAL_MS + 1;
    assert_eq!(ledger.delivered + ledger.skipped, 400);
    assert_eq!(ledger.covered(), 400);
    assert!(
        ledger.delivered <= 2 * intervals,
        "{} in {intervals}",
        ledger.delivered
    );
    assert!(ledger.delivered >= 3, "{}", ledger.delivered);
}

#[test]
fn a_source_gap_ends_the_count_of_skipped_before_it() {
    let engine = TestEngine::start();
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["A"], "mode": "conflate", "interval_ms": 500}));
    let mut publisher = engine.publisher();
    let ticks: Value = [1, 2, 3, 4, 8, 9].map(|seq| numbered("A", 1, seq)).into();
    publisher.publish(&ticks);
    let mut ledger = Ledger::default();
    let told = read_to(&mut client, &mut ledger, "trade", 9);
    assert_eq!(
        told.iter().map(shape).collect::<Vec<_>>(),
        [
            ("start", Some(0), None),
            ("trade", Some(1), None),
            ("trade", Some(4), Some(2)),
            ("gap", Some(7), None),
            ("trade", Some(9), Some(1)),
        ]
    );
    assert_eq!(ledger.delivered + ledger.skipped + ledger.gapped, 9);
}

#[test]
fn a_new_epoch_and_the_end_of_a_subscription_send_what_is_held_first() {
    let engine = TestEngine::start();
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["A"], "mode": "conflate", "interval_ms": 60_000}));
    let mut publisher = engine.publisher();
    publisher.publish(&json!([
        numbered("A", 1, 1),
        quote("A", 1, 1),
        numbered("A", 1, 2),
        numbered("A", 1, 3),
        numbered("A", 2, 5),
        numbered("A", 2, 6),
    ]));
    let mut ledger = Ledger::default();
    // Six ticks, of which a minute would let one pass: the epoch lets go of the old one's.
    let told: Vec<_> = (0..6).map(|_| client.next_event()).collect();
    for message in &told {
        ledger.take(message);
    }
    let shapes: Vec<_> = told.iter().map(shape).collect();
    assert_eq!(shapes[0], ("start", Some(0), None));
    assert_eq!(shapes[1], ("trade", Some(1), None));
    assert_eq!(told[2]["type"], "start", "the quote's: {told:?}");
    assert!(
        shapes[3..5].contains(&("trade", Some(3), Some(1))),
        "{told:?}"
    );
    assert!(shapes[3..5].contains(&("quote", Some(1), None)), "{told:?}");
    assert_eq!(shapes[5], ("start", Some(4), None));
    assert_eq!(told[5]["epoch"], 2);

    client.send(&json!({"op": "unsubscribe", "id": 9, "symbols": ["A"]}));
    let told = read_to(&mut client, &mut ledger, "trade", 6);
    let last = told
        .iter()
        .filter(|message| message["type"] == "trade")
        .map(shape);
    assert_eq!(last.collect::<Vec<_>>(), [("trade", Some(6), Some(1))]);
    publisher.publish(&numbered("A", 2, 7));
    let after = client.quiet_for(Duration::from_millis(100));
    assert!(
        after.iter().all(|message| message["type"] != "trade"),
        "{after:?}"
    );
}

#[test]
fn the_first_live_tick_after_a_since_waits_for_the_interval() {
    const INTERVAL_MS: u64 = 400;
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    publisher.publish(&json!([numbered("A", 1, 1), numbered("A", 1, 2)]));
    let mut client = engine.subscriber();
    client.subscribe(
        json!({"symbols": ["A"], "mode": "conflate", "interval_ms": INTERVAL_MS,
        "since": {"A": {"epoch": 1, "trade": 0}}}),
    );
    client.next_of("replayed");
    publisher.publish(&json!([numbered("A", 1, 3), numbered("A", 1, 4)]));
    assert_eq!(
        shape(&client.next_of("trade")),
        ("trade", Some(4), Some(1)),
        "held, and so the latest"
    );
}
