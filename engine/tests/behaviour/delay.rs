//! `max_delay_ms`: a latency budget that saves sends and loses nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    harness::{TestEngine, numbered},
    ledger::Ledger,
};

fn sends(engine: &TestEngine) -> f64 {
    engine.metric("tickwire_sends_total", "")
}

#[test]
fn ticks_within_the_budget_share_a_send_and_none_is_lost() {
    let engine = TestEngine::start();
    let mut client = engine.connect("/v1/ws?symbols=A&max_delay_ms=200", &engine.token(), None);
    assert_eq!(client.next()["type"], "ack");
    let mut publisher = engine.publisher();
    let before = sends(&engine);
    let mut ledger = Ledger::default();
    for seq in 1..=200 {
        publisher.publish(&numbered("A", 1, seq));
    }
    while ledger.last("A", "trade") != 200 {
        ledger.take(&client.next_event());
    }
    assert_eq!(
        (ledger.delivered, ledger.gapped, ledger.skipped),
        (200, 0, 0)
    );
    let sends = sends(&engine) - before;
    assert!(sends < 50.0, "{sends} sends for 200 ticks");
}

#[test]
fn answers_do_not_wait_for_held_ticks() {
    let engine = TestEngine::start();
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["A"]}));
    client.send(&json!({"op": "options", "id": 1, "max_delay_ms": 1_000}));
    assert_eq!(client.next_of("ack")["max_delay_ms"], 1_000);
    let mut publisher = engine.publisher();
    publisher.publish(&numbered("A", 1, 1));
    client.send(&json!({"op": "ping", "id": 10}));
    assert_eq!(client.next_event()["type"], "pong");
    let early = client.quiet_for(Duration::from_millis(200));
    let held = early.iter().all(|message| message["type"] == "cursor");
    assert!(held, "{early:?}");
    assert_eq!(client.next_event()["type"], "start");
    assert_eq!(client.next_event()["seq"], 1);
}

#[test]
fn a_full_hold_ends_before_its_time() {
    let engine = TestEngine::with(|config| config.hold_bytes_max = 1_024);
    let mut client = engine.connect("/v1/ws?symbols=A&max_delay_ms=1000", &engine.token(), None);
    let mut publisher = engine.publisher();
    let published = Instant::now();
    publisher.publish(&(1..=20).map(|seq| numbered("A", 1, seq)).collect());
    while client.next_of("trade")["seq"] != 20 {}
    let took = published.elapsed();
    assert!(took < Duration::from_millis(900), "{took:?}");
}

#[test]
fn a_budget_taken_back_frees_what_is_held() {
    let engine = TestEngine::start();
    let mut client = engine.connect("/v1/ws?symbols=A&max_delay_ms=1000", &engine.token(), None);
    let mut publisher = engine.publisher();
    let published = Instant::now();
    publisher.publish(&numbered("A", 1, 1));
    client.send(&json!({"op": "options", "max_delay_ms": 0}));
    client.next_of("trade");
    let took = published.elapsed();
    assert!(took < Duration::from_millis(900), "{took:?}");
}
