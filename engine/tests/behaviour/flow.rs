//! Ticks flow from publishers to subscribers.

use serde_json::json;

use crate::harness::{TestEngine, trade};

#[test]
fn a_tick_reaches_its_subscriber_with_start_before_it() {
    let engine = TestEngine::start();
    let mut subscriber = engine.subscriber();
    let ack = subscriber.subscribe(json!({"id": 1, "symbols": ["AAPL", "BTC-*"]}));
    assert_eq!(ack["pending"], json!(["AAPL"]));
    let mut publisher = engine.publisher();
    let ack = publisher.publish(&json!([
        trade("AAPL", "187.230"),
        trade("BTC-USD", "40000")
    ]));
    assert_eq!(ack["accepted"], 2, "{ack}");
    let kinds: Vec<_> = (0..4).map(|_| subscriber.next_event()).collect();
    let of = |symbol: &str| {
        kinds
            .iter()
            .filter(|event| event["symbol"] == symbol)
            .cloned()
            .collect::<Vec<_>>()
    };
    let aapl = of("AAPL");
    assert_eq!(aapl[0]["type"], "start");
    assert_eq!(aapl[0]["trade"], 0);
    assert_eq!(aapl[1]["type"], "trade");
    assert_eq!(aapl[1]["seq"], 1);
    assert_eq!(aapl[1]["price"], "187.230");
    assert_eq!(of("BTC-USD").len(), 2);
}

#[test]
fn a_late_subscriber_gets_start_and_snapshot_then_live() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    publisher.publish(&json!([trade("AAPL", "1"), trade("AAPL", "2")]));
    let mut subscriber = engine.subscriber();
    subscriber.subscribe(json!({"symbols": ["AAPL"]}));
    let start = subscriber.next_event();
    assert_eq!(
        (start["type"].as_str(), start["trade"].as_u64()),
        (Some("start"), Some(2)),
        "{start}"
    );
    let snapshot = subscriber.next_event();
    assert_eq!(
        (snapshot["snapshot"].as_bool(), snapshot["seq"].as_u64()),
        (Some(true), Some(2)),
        "{snapshot}"
    );
    publisher.publish(&trade("AAPL", "3"));
    let live = subscriber.next_event();
    assert_eq!(
        (live["seq"].as_u64(), live["price"].as_str()),
        (Some(3), Some("3")),
        "{live}"
    );
}

#[test]
fn since_replays_what_was_missed_then_goes_live() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    let ticks: Vec<_> = (1..=100)
        .map(|price| trade("AAPL", &price.to_string()))
        .collect();
    publisher.publish(&json!(ticks));
    let mut subscriber = engine.subscriber();
    subscriber.subscribe(json!({"symbols": ["AAPL"]}));
    let epoch = subscriber.next_of("start")["epoch"].clone();
    let mut resumed = engine.subscriber();
    resumed.subscribe(
        json!({"id": 3, "symbols": ["AAPL"], "since": {"AAPL": {"epoch": epoch, "trade": 40}}}),
    );
    let start = resumed.next_event();
    assert_eq!(start["trade"], 40, "{start}");
    for seq in 41..=100 {
        assert_eq!(resumed.next_event()["seq"], seq);
    }
    assert_eq!(resumed.next_event(), json!({"type": "replayed", "id": 3}));
    publisher.publish(&trade("AAPL", "101"));
    assert_eq!(resumed.next_event()["seq"], 101);
}
