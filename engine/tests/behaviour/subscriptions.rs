//! What a subscription accepts, overlaps, replaces and ends with.

use serde_json::{Value, json};

use crate::harness::{Client, TestEngine, eventually, numbered, trade, whole};

fn kinds(messages: &[Value]) -> Vec<&str> {
    messages
        .iter()
        .filter_map(|message| message["type"].as_str())
        .collect()
}

/// The next `count` messages that are neither heartbeats nor cursors.
fn events(client: &mut Client, count: usize) -> Vec<Value> {
    (0..count).map(|_| client.next_event()).collect()
}

fn quote(symbol: &str) -> Value {
    json!({"type": "quote", "symbol": symbol, "bid": "1", "ask": "2"})
}

#[test]
fn the_ack_names_symbols_patterns_pending_narrowed_and_rejected() {
    let engine = TestEngine::start();
    engine.publisher().publish(&trade("BTC-USD", "1"));
    let token = engine.token_with(|claims| {
        claims.symbols = Some(vec!["BTC-*".to_owned(), "AAPL".to_owned()]);
        claims.max_symbols = Some(4);
    });
    let mut client = engine.connect("/v1/ws", &token, None);
    let ack = client.subscribe(json!({"id": 7, "symbols":
        ["BTC-USD", "BTC-USD", "AAPL", "*", "MSFT", "bad symbol", "BTC-E*", "BTC-A"]}));
    assert_eq!(ack["id"], 7);
    assert_eq!(ack["symbols"], json!(["BTC-USD", "AAPL"]), "{ack}");
    assert_eq!(ack["patterns"], json!(["*", "BTC-E*"]));
    assert_eq!(ack["pending"], json!(["AAPL"]));
    assert_eq!(
        ack["narrowed"].as_object().map(serde_json::Map::len),
        Some(1)
    );
    let narrowed = ack["narrowed"]["*"].as_array().expect("a list");
    assert_eq!(narrowed.len(), 2, "{ack}");
    let mut rejected: Vec<_> = ack["rejected"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| {
            (
                entry["symbol"].as_str().unwrap(),
                entry["code"].as_str().unwrap(),
            )
        })
        .collect();
    rejected.sort_unstable();
    assert_eq!(
        rejected,
        [
            ("BTC-A", "too_many_symbols"),
            ("MSFT", "not_entitled"),
            ("bad symbol", "bad_symbol")
        ]
    );
}

#[test]
fn a_symbol_named_twice_starts_once() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    publisher.publish(&trade("AAPL", "1"));
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["AAPL", "AAPL"]}));
    publisher.publish(&trade("AAPL", "2"));
    assert_eq!(kinds(&events(&mut client, 3)), ["start", "trade", "trade"]);
}

#[test]
fn an_upgrade_query_subscribes_without_an_id() {
    let engine = TestEngine::start();
    engine.publisher().publish(&trade("AAPL", "1"));
    let path = "/v1/ws?symbols=AAPL&channels=trade";
    let mut client = engine.connect(path, &engine.token(), None);
    let ack = client.next();
    assert_eq!(
        (ack["type"].as_str(), ack["op"].as_str()),
        (Some("ack"), Some("subscribe"))
    );
    assert_eq!(ack.get("id"), None, "{ack}");
    assert_eq!(client.next_event()["type"], "start");
    let cursor = client.next_of("cursor")["cursor"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v1/ws?symbols=AAPL&cursor={cursor}");
    let mut resumed = engine.connect(&path, &engine.token(), None);
    assert_eq!(resumed.next_of("replayed"), json!({"type": "replayed"}));
    let none = engine.token_with(|claims| claims.symbols = Some(vec!["MSFT".to_owned()]));
    let refused = Client::open(
        engine.engine.listen_addr(),
        "/v1/ws?symbols=AAPL",
        &none,
        None,
    );
    match refused.map(|_| ()).map_err(|error| *error) {
        Err(tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), 403),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_channel_and_each_epoch_opens_with_a_start_of_the_subscribed_channels() {
    let engine = TestEngine::start();
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["A*"], "channels": ["trade"]}));
    let mut both = engine.subscriber();
    both.subscribe(json!({"symbols": ["AAPL"]}));
    let mut publisher = engine.publisher();
    publisher.publish(&json!([
        numbered("AAPL", 5, 10),
        {"type": "quote", "symbol": "AAPL", "epoch": 5, "seq": 3, "bid": "1", "ask": "2"},
        numbered("AAPL", 6, 1)
    ]));
    let trades = events(&mut client, 4);
    assert_eq!(
        trades[0],
        json!({"type": "start", "symbol": "AAPL", "epoch": 5, "trade": 9})
    );
    assert_eq!(trades[1]["seq"], 10);
    assert_eq!(
        trades[2],
        json!({"type": "start", "symbol": "AAPL", "epoch": 6, "trade": 0})
    );
    let all = events(&mut both, 6);
    assert_eq!(
        kinds(&all),
        ["start", "trade", "start", "quote", "start", "trade"]
    );
    assert_eq!(
        all[2],
        json!({"type": "start", "symbol": "AAPL", "epoch": 5, "quote": 2})
    );
}

#[test]
fn the_exact_symbol_wins_and_the_pattern_takes_over_without_a_snapshot() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    publisher.publish(&json!([trade("BTC-USD", "1"), quote("BTC-USD")]));
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["BTC-USD"], "channels": ["trade"]}));
    assert_eq!(kinds(&events(&mut client, 2)), ["start", "trade"]);
    client.subscribe(json!({"symbols": ["BTC-*"], "channels": ["quote"]}));
    publisher.publish(&json!([trade("BTC-USD", "2"), quote("BTC-USD")]));
    let live = client.next_event();
    assert_eq!((&live["type"], &live["seq"]), (&json!("trade"), &json!(2)));
    client.send(&json!({"op": "unsubscribe", "id": 3, "symbols": ["BTC-USD", "X"]}));
    let ack = client.next_of("ack");
    assert_eq!(ack["symbols"], json!(["BTC-USD"]));
    assert_eq!(
        ack["rejected"],
        json!([{"symbol": "X", "code": "not_subscribed"}])
    );
    publisher.publish(&json!([trade("BTC-USD", "3"), quote("BTC-USD")]));
    let seen = events(&mut client, 2);
    assert_eq!(
        (&seen[0]["type"], &seen[0]["quote"]),
        (&json!("start"), &json!(2))
    );
    assert_eq!(seen[0].get("trade"), None);
    assert_eq!(
        (&seen[1]["type"], &seen[1]["seq"]),
        (&json!("quote"), &json!(3))
    );
    client.send(&json!({"op": "list", "id": 4}));
    assert_eq!(
        client.next_of("ack")["subscriptions"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

#[test]
fn unsubscribing_sends_what_is_held_first() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["AAPL"], "mode": "conflate", "interval_ms": 60_000}));
    publisher.publish(&json!([
        trade("AAPL", "1"),
        trade("AAPL", "2"),
        trade("AAPL", "3")
    ]));
    assert_eq!(kinds(&events(&mut client, 2)), ["start", "trade"]);
    client.send(&json!({"op": "unsubscribe", "id": 1, "symbols": ["AAPL"]}));
    let held = client.next_of("trade");
    assert_eq!(
        (&held["seq"], &held["skipped"]),
        (&json!(3), &json!(1)),
        "{held}"
    );
}

#[test]
fn ping_options_and_an_unknown_op_are_answered() {
    let engine = TestEngine::start();
    let mut client = engine.subscriber();
    client.send(&json!({"op": "ping", "id": 10}));
    assert_eq!(client.next_of("pong")["id"], 10);
    client.send(&json!({"op": "options", "id": 8, "max_delay_ms": 20}));
    assert_eq!(client.next_of("ack")["max_delay_ms"], 20);
    client.send(&json!({"op": "dance", "id": 9}));
    assert_eq!(client.next_of("error")["code"], "unknown_op");
}

#[test]
fn whoever_asks_at_once_is_answered_in_turns() {
    const CLIENTS: usize = 300;
    // Time for one request, or some.
    let engine = TestEngine::with(|config| config.requests_us_per_turn = 10);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| engine.subscriber()).collect();
    for client in &mut clients {
        client.send(&json!({"op": "subscribe", "id": 7, "symbols": ["A"]}));
        client.send(&json!({"op": "ping", "id": 8}));
    }
    for client in &mut clients {
        assert_eq!(client.next_of("ack")["id"], 7);
        assert_eq!(client.next_of("pong")["id"], 8);
    }
    let waiting = || whole(engine.metric("tickwire_requests_waiting", ""));
    eventually("nobody waits", || waiting() == 0);
}
