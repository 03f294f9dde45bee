//! Redundant publishers of the same symbol.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, TestEngine, numbered};

fn subscribed(engine: &TestEngine) -> Client {
    let mut subscriber = engine.subscriber();
    subscriber.subscribe(json!({"symbols": ["AAPL"]}));
    subscriber
}

/// Two publishers that are sources of AAPL in epoch 7, whose base is 1.
fn sources(engine: &TestEngine) -> (Client, Client) {
    let (mut a, mut b) = (engine.publisher(), engine.publisher());
    assert_eq!(a.publish(&numbered("AAPL", 7, 1))["accepted"], 1);
    assert_eq!(b.publish(&numbered("AAPL", 7, 1))["duplicates"], 1);
    (a, b)
}

fn seqs(subscriber: &mut Client, count: usize) -> Vec<u64> {
    (0..count)
        .map(|_| subscriber.next_of("trade")["seq"].as_u64().expect("a seq"))
        .collect()
}

fn gap(event: &Value) -> (Option<u64>, Option<u64>, Option<&str>) {
    assert_eq!(event["type"], "gap", "{event}");
    (
        event["from"].as_u64(),
        event["to"].as_u64(),
        event["reason"].as_str(),
    )
}

#[test]
fn the_first_copy_of_each_seq_wins() {
    let engine = TestEngine::start();
    let mut subscriber = subscribed(&engine);
    let (mut a, mut b) = sources(&engine);
    for seq in 2..=20 {
        let (first, second) = if seq % 2 == 0 {
            (&mut a, &mut b)
        } else {
            (&mut b, &mut a)
        };
        first.publish(&numbered("AAPL", 7, seq));
        second.publish(&numbered("AAPL", 7, seq));
    }
    assert_eq!(seqs(&mut subscriber, 20), (1..=20).collect::<Vec<_>>());
    let (a, b) = (a.flush(), b.flush());
    let sum = |key: &str| a[key].as_u64().unwrap_or(0) + b[key].as_u64().unwrap_or(0);
    assert_eq!((sum("accepted"), sum("duplicates")), (20, 20));
}

#[test]
fn with_one_source_a_hole_is_a_gap_at_once() {
    let engine = TestEngine::with(|config| config.arbitration_ms = 1_000);
    let mut subscriber = subscribed(&engine);
    let mut publisher = engine.publisher();
    publisher.publish(&json!([numbered("AAPL", 7, 41), numbered("AAPL", 7, 45)]));
    assert_eq!(subscriber.next_of("start")["trade"], 40);
    assert_eq!(subscriber.next_event()["seq"], 41);
    assert_eq!(
        gap(&subscriber.next_event()),
        (Some(42), Some(44), Some("source"))
    );
    assert_eq!(subscriber.next_event()["seq"], 45);
}

#[test]
fn a_hole_of_one_source_is_filled_by_the_other_and_the_held_is_undecided_until_then() {
    let engine = TestEngine::with(|config| {
        config.arbitration_ms = 1_000;
        config.ack_interval_ms = 20;
    });
    let mut subscriber = subscribed(&engine);
    let (mut a, mut b) = sources(&engine);
    a.send(&numbered("AAPL", 7, 3));
    a.send(&numbered("AAPL", 7, 2_000_000));
    a.send(&json!([{"type": "trade"}]));
    // The refused tick is news, but messages are decided in order, and the second is not.
    let ack = a.next_of("ack");
    assert_eq!(
        (&ack["messages"], &ack["rejected"]),
        (&json!(1), &json!(1)),
        "{ack}"
    );
    a.send(&json!({"op": "flush", "id": 9}));
    b.publish(&numbered("AAPL", 7, 2));
    assert_eq!(seqs(&mut subscriber, 3), [1, 2, 3]);
    let ack = a.next_of("ack");
    assert_eq!(ack["messages"], 2, "the filled one is decided: {ack}");
    assert_eq!(ack.get("id"), None);
    // The other hole is declared when its time is up, and that answers the flush.
    let flushed = a.next_of("ack");
    assert_eq!(
        (&flushed["id"], &flushed["messages"]),
        (&json!(9), &json!(4)),
        "{flushed}"
    );
    assert_eq!(
        gap(&subscriber.next_event()),
        (Some(4), Some(1_999_999), Some("source"))
    );
}

#[test]
fn a_hole_that_no_source_fills_is_a_gap_after_arbitration_ms() {
    const ARBITRATION_MS: u64 = 150;
    let engine = TestEngine::with(|config| config.arbitration_ms = ARBITRATION_MS);
    let mut subscriber = subscribed(&engine);
    let (mut a, mut b) = sources(&engine);
    assert_eq!(seqs(&mut subscriber, 1), [1]);
    let sent = Instant::now();
    let ack = a.publish(&numbered("AAPL", 7, 4));
    assert!(
        sent.elapsed() >= Duration::from_millis(ARBITRATION_MS),
        "held all the time"
    );
    assert_eq!(ack["accepted"], 2);
    assert_eq!(
        gap(&subscriber.next_event()),
        (Some(2), Some(3), Some("source"))
    );
    assert_eq!(subscriber.next_event()["seq"], 4);
    let late = b.publish(&json!([numbered("AAPL", 7, 2), numbered("AAPL", 7, 5)]));
    assert_eq!(
        (&late["duplicates"], &late["accepted"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(subscriber.next_event()["seq"], 5, "order is never broken");
}

#[test]
fn when_the_last_source_goes_what_is_held_comes_before_stale() {
    let engine = TestEngine::with(|config| config.arbitration_ms = 1_000);
    let mut subscriber = subscribed(&engine);
    let (mut a, b) = sources(&engine);
    assert_eq!(seqs(&mut subscriber, 1), [1]);
    a.send(&numbered("AAPL", 7, 3));
    a.send(&json!({"op": "ping", "id": 1}));
    a.next_of("pong");
    drop((a, b));
    assert_eq!(
        gap(&subscriber.next_event()),
        (Some(2), Some(2), Some("source"))
    );
    assert_eq!(subscriber.next_event()["seq"], 3);
    assert_eq!(subscriber.next_event()["state"], "stale");
}

#[test]
fn a_higher_epoch_takes_over_behind_what_the_old_one_held() {
    let engine = TestEngine::with(|config| config.arbitration_ms = 1_000);
    let mut subscriber = subscribed(&engine);
    let (mut a, mut b) = sources(&engine);
    assert_eq!(seqs(&mut subscriber, 1), [1]);
    a.send(&numbered("AAPL", 7, 3));
    a.send(&json!({"op": "ping", "id": 1}));
    a.next_of("pong");
    assert_eq!(b.publish(&numbered("AAPL", 8, 100))["accepted"], 1);
    assert_eq!(
        gap(&subscriber.next_event()),
        (Some(2), Some(2), Some("source"))
    );
    assert_eq!(subscriber.next_event()["seq"], 3);
    let start = subscriber.next_event();
    assert_eq!(
        (&start["epoch"], &start["trade"]),
        (&json!(8), &json!(99)),
        "{start}"
    );
    assert_eq!(subscriber.next_event()["seq"], 100);
    a.send(&numbered("AAPL", 7, 4));
    assert_eq!(a.next_of("error")["code"], "stale_epoch");
}
