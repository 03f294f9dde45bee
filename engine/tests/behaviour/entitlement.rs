//! In-band `auth` with another entitlement: what is lost stops at once, what is won starts.

use serde_json::{Value, json};

use crate::{
    harness::{Client, TestEngine, numbered, trade},
    ledger::Ledger,
    resume::run,
};

/// Enough to fill every buffer between the engine and a client that does not read.
const MANY: u64 = 10_000;

fn token(engine: &TestEngine, symbols: &[&str]) -> String {
    engine.token_with(|claims| {
        claims.symbols = Some(symbols.iter().map(|&symbol| symbol.to_owned()).collect());
    })
}

/// Brings a token and reads on to its ack; returns what came before it as well.
fn authenticate(client: &mut Client, token: &str) -> (Vec<Value>, Value) {
    client.send(&json!({"op": "auth", "id": 77, "token": token}));
    let mut before = Vec::new();
    loop {
        let message = client.next_event();
        if message["id"] == 77 {
            assert_eq!(message["op"], "auth", "{message}");
            return (before, message);
        }
        before.push(message);
    }
}

fn about(messages: &[Value], symbol: &str) -> usize {
    messages
        .iter()
        .filter(|message| message["symbol"] == symbol)
        .count()
}

fn listed(client: &mut Client) -> Vec<String> {
    client.send(&json!({"op": "list", "id": 78}));
    client.next_of("ack")["subscriptions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|listed| listed["symbol"].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn nothing_of_a_lost_symbol_that_was_queued_follows_the_ack() {
    let engine = TestEngine::with(|config| config.lag_soft_ticks = 1 << 16);
    let mut publisher = engine.publisher();
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["A", "B"], "snapshot": false}));
    for begin in (1..=MANY).step_by(1_000) {
        publisher.send(&run("A", 1, begin..=begin + 999));
        publisher.send(&run("B", 1, begin..=begin + 999));
    }
    publisher.flush();
    let (before, ack) = authenticate(&mut client, &token(&engine, &["B"]));
    assert_eq!(
        (&ack["lost"], &ack["narrowed"]),
        (&json!(["A"]), &json!({}))
    );
    let of_a = about(&before, "A") as u64;
    assert!((1..MANY).contains(&of_a), "{of_a} of A came before the ack");
    publisher.publish(&json!([
        numbered("A", 1, MANY + 1),
        numbered("B", 1, MANY + 1)
    ]));
    let mut ledger = Ledger::default();
    for message in &before {
        ledger.take(message);
    }
    while ledger.last("B", "trade") <= MANY {
        let message = client.next_event();
        assert_ne!(message["symbol"], "A", "{message}");
        ledger.take(&message);
    }
    assert_eq!((ledger.skipped, ledger.gapped), (0, 0));
    assert_eq!(listed(&mut client), ["B"]);
}

#[test]
fn a_symbol_lost_during_a_since_and_a_replay_leaves_both() {
    for symbols in [["A", "B"], ["B", "A"]] {
        let engine = TestEngine::start();
        let mut publisher = engine.publisher();
        for begin in (1..=MANY).step_by(1_000) {
            publisher.send(&run("A", 1, begin..=begin + 999));
            publisher.send(&run("B", 1, begin..=begin + 999));
        }
        publisher.flush();
        let mut client = engine.subscriber();
        let since = json!({"A": {"epoch": 1, "trade": 0}, "B": {"epoch": 1, "trade": 0}});
        client.send(&json!({"op": "subscribe", "id": 1, "symbols": symbols, "since": since}));
        client.send(&json!({"op": "replay", "id": 9, "symbols": symbols, "since": since}));
        let (before, ack) = authenticate(&mut client, &token(&engine, &["B"]));
        assert_eq!(ack["lost"], json!(["A"]));
        assert!(
            about(&before, "A") < 2 * MANY as usize,
            "A had come already"
        );
        let (mut own, mut replayed) = (Ledger::default(), Ledger::default());
        let mut ended = Vec::new();
        let mut after = before
            .iter()
            .cloned()
            .collect::<std::collections::VecDeque<_>>();
        let mut left = after.len();
        while ended.len() < 2 {
            let message = after.pop_front().unwrap_or_else(|| client.next_event());
            if left > 0 {
                left -= 1;
            } else {
                assert_ne!(message["symbol"], "A", "{message}");
            }
            match message["type"].as_str() {
                Some("replayed") => ended.push(message["id"].clone()),
                _ if message["replay"] == 9 => replayed.take(&message),
                _ => own.take(&message),
            }
        }
        assert_eq!(own.last("B", "trade"), MANY);
        assert_eq!(replayed.last("B", "trade"), MANY);
        publisher.publish(&json!([
            numbered("A", 1, MANY + 1),
            numbered("B", 1, MANY + 1)
        ]));
        let live = client.next_event();
        assert_eq!(
            (&live["symbol"], &live["seq"]),
            (&json!("B"), &json!(MANY + 1))
        );
    }
}

#[test]
fn a_held_tick_of_a_lost_symbol_is_not_sent() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["A", "B"], "mode": "conflate", "interval_ms": 60_000}));
    for symbol in ["A", "B"] {
        publisher.publish(&run(symbol, 1, 1..=3));
        while client.next_of("trade")["symbol"] != symbol {}
    }
    let (_, ack) = authenticate(&mut client, &token(&engine, &["B"]));
    assert_eq!(ack["lost"], json!(["A"]));
    // Draining sends what is held.
    drop(publisher);
    let drained = std::thread::spawn(move || engine.engine.drain());
    let (code, rest) = client.read_to_close();
    assert_eq!(code, 1001);
    let held: Vec<_> = rest
        .iter()
        .filter(|message| message["seq"].is_u64())
        .collect();
    assert_eq!(held.len(), 1, "{rest:?}");
    assert_eq!(
        (&held[0]["symbol"], &held[0]["skipped"]),
        (&json!("B"), &json!(1))
    );
    drop(client);
    assert!(drained.join().expect("no panic"), "drained in time");
}

#[test]
fn a_pattern_wider_than_the_token_delivers_the_intersection_and_follows_the_token() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    publisher.publish(&json!([trade("ETH-1", "1"), trade("BTC-1", "1")]));
    let narrow = token(&engine, &["BTC-*"]);
    let mut client = engine.connect("/v1/ws", &narrow, None);
    let ack = client.subscribe(json!({"symbols": ["*"]}));
    assert_eq!(ack["narrowed"], json!({"*": ["BTC-*"]}));
    assert_eq!(client.next_event()["symbol"], "BTC-1");
    assert_eq!(client.next_event()["snapshot"], true);
    // Symbols born outside the token never appear.
    publisher.publish(&json!([
        trade("ETH-2", "1"),
        trade("ETH-1", "2"),
        trade("BTC-2", "1")
    ]));
    assert_eq!(client.next_event()["symbol"], "BTC-2");
    assert_eq!(client.next_event()["symbol"], "BTC-2");

    let (before, ack) = authenticate(&mut client, &token(&engine, &["*"]));
    assert_eq!(before, Vec::<Value>::new());
    assert_eq!((&ack["lost"], &ack["narrowed"]), (&json!([]), &json!({})));
    let mut started = [client.next_event(), client.next_event()];
    started.sort_by_key(|start| start["symbol"].to_string());
    for (start, (symbol, seq)) in started.iter().zip([("ETH-1", 2), ("ETH-2", 1)]) {
        assert_eq!(start["type"], "start", "{start}");
        assert_eq!(
            (&start["symbol"], &start["trade"]),
            (&json!(symbol), &json!(seq))
        );
    }
    publisher.publish(&json!([trade("ETH-1", "3"), trade("SOL-1", "1")]));
    assert_eq!(client.next_event()["seq"], 3);
    assert_eq!(client.next_event()["symbol"], "SOL-1");
    assert_eq!(client.next_event()["seq"], 1);

    let (_, ack) = authenticate(&mut client, &narrow);
    assert_eq!(
        (&ack["lost"], &ack["narrowed"]),
        (&json!([]), &json!({"*": ["BTC-*"]}))
    );
    publisher.publish(&json!([
        trade("ETH-1", "4"),
        trade("SOL-2", "1"),
        trade("BTC-1", "2")
    ]));
    let live = client.next_event();
    assert_eq!(
        (&live["symbol"], &live["seq"]),
        (&json!("BTC-1"), &json!(2))
    );
    assert_eq!(listed(&mut client), ["*"]);
}

#[test]
fn a_token_that_leaves_and_allows_nothing_closes_with_4503() {
    let engine = TestEngine::start();
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["A", "B*"]}));
    let (_, ack) = authenticate(&mut client, &token(&engine, &["C"]));
    assert_eq!(ack["lost"], json!(["A", "B*"]));
    client.subscribe(json!({"symbols": ["C"]}));
    let (_, ack) = authenticate(&mut client, &token(&engine, &[]));
    assert_eq!(ack["lost"], json!(["C"]));
    assert_eq!(client.read_to_close().0, 4503);
}
