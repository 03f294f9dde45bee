//! `replay`: its limits, and that it stands beside subscriptions without touching them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    harness::{Client, TestEngine, eventually, numbered, whole},
    ledger::Ledger,
    resume::run,
};

/// Sends several requests in one write, so that the engine meets them in one turn.
fn send_at_once(client: &mut Client, requests: &[Value]) {
    for request in requests {
        let message = tungstenite::Message::text(request.to_string());
        client.socket.write(message).expect("room in the buffer");
    }
    client.socket.flush().expect("the messages go out");
}

fn replay(id: u32, symbols: &[&str]) -> Value {
    let since: serde_json::Map<_, _> = symbols
        .iter()
        .map(|&symbol| (symbol.to_owned(), json!({"epoch": 1, "trade": 0})))
        .collect();
    json!({"op": "replay", "id": id, "symbols": symbols, "since": since})
}

fn publish_run(publisher: &mut Client, symbol: &str, ticks: u64) {
    for begin in (1..=ticks).step_by(1_000) {
        publisher.send(&run(symbol, 1, begin..=ticks.min(begin + 999)));
    }
    publisher.flush();
}

#[test]
fn replays_beyond_what_may_queue_and_ids_in_progress_are_refused() {
    let engine = TestEngine::with(|config| {
        config.replays_per_connection = 2;
        config.replays_queued_max = 2;
        // Time enough in one turn for every replay that may run.
        config.replay_us_per_turn = 100_000;
    });
    publish_run(&mut engine.publisher(), "A", 3_000);
    let mut client = engine.subscriber();
    let ids = [1, 2, 1, 3, 4, 5];
    send_at_once(&mut client, &ids.map(|id| replay(id, &["A"])));
    let mut errors = Vec::new();
    let mut ledgers: BTreeMap<u64, Ledger> = BTreeMap::new();
    let mut replayed = 0;
    while replayed < 4 {
        let message = client.next();
        match message["type"].as_str() {
            Some("error") => errors.push((message["id"].clone(), message["code"].clone())),
            Some("replayed") => {
                let ledger = ledgers.remove(&message["id"].as_u64().expect("an id"));
                assert_eq!(ledger.map(|ledger| ledger.delivered), Some(3_000));
                replayed += 1;
            }
            _ => {
                if let Some(id) = message["replay"].as_u64() {
                    ledgers.entry(id).or_default().take(&message);
                    assert!(ledgers.len() <= 2, "{:?} at once", ledgers.keys());
                }
            }
        }
    }
    assert_eq!(
        errors,
        [
            (json!(1), json!("bad_request")),
            (json!(5), json!("too_many_replays"))
        ]
    );
    // What is complete is in progress no more.
    client.send(&replay(1, &["A"]));
    assert_eq!(client.next_event()["op"], "replay");
    assert_eq!(client.next_of("replayed")["id"], 1);
}

#[test]
fn a_replay_without_an_id_is_a_bad_request() {
    let engine = TestEngine::start();
    let mut client = engine.subscriber();
    let mut request = replay(1, &["A"]);
    request.as_object_mut().expect("an object").remove("id");
    client.send(&request);
    let error = client.next_event();
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("error"), &json!("bad_request"))
    );
    assert_eq!(error.get("id"), None);
}

#[test]
fn a_replay_needs_entitlement_only_and_leaves_subscriptions_alone() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    for symbol in ["A", "B", "C"] {
        publish_run(&mut publisher, symbol, 5);
    }
    let token = engine.token_with(|claims| {
        claims.symbols = Some(vec!["A".to_owned(), "B".to_owned()]);
        claims.max_symbols = Some(1);
    });
    let mut client = engine.connect("/v1/ws", &token, None);
    client.subscribe(
        json!({"symbols": ["A"], "mode": "conflate", "interval_ms": 60_000, "snapshot": false}),
    );
    assert_eq!(client.next_event()["trade"], 5);
    let list = |client: &mut Client| {
        client.send(&json!({"op": "list"}));
        client.next_of("ack")["subscriptions"].clone()
    };
    let before = list(&mut client);
    client.send(&replay(9, &["A", "B", "C"]));
    let ack = client.next_event();
    assert_eq!(ack["symbols"], json!(["A", "B"]), "{ack}");
    assert_eq!(
        ack["rejected"],
        json!([{"symbol": "C", "code": "not_entitled"}])
    );
    let mut ledger = Ledger::default();
    loop {
        let message = client.next_event();
        if message["type"] == "replayed" {
            break;
        }
        assert_eq!(message["replay"], 9, "{message}");
        assert_ne!(message["symbol"], "C");
        ledger.take(&message);
    }
    assert_eq!(ledger.delivered, 10);
    assert_eq!(list(&mut client), before);
    let wide = json!({"op": "replay", "id": 10, "symbols": ["*"], "since": {"A": {"epoch": 1}}});
    client.send(&wide);
    assert_eq!(client.next_event()["narrowed"], json!({"*": ["A", "B"]}));
    loop {
        let message = client.next_event();
        if message["type"] == "replayed" {
            break;
        }
        assert_ne!(message["symbol"], "C");
    }
    // The account goes on where it was, and B is not part of it.
    publisher.publish(&json!([numbered("B", 1, 6), numbered("A", 1, 6)]));
    let live = client.next_event();
    assert_eq!((&live["symbol"], &live["seq"]), (&json!("A"), &json!(6)));
    assert_eq!(live.get("replay"), None);
}

#[test]
fn two_replays_and_a_live_subscription_keep_three_accounts() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    for symbol in ["A", "B"] {
        publish_run(&mut publisher, symbol, 2_000);
    }
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["A"], "snapshot": false}));
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&over);
    let flow = std::thread::spawn(move || {
        let mut seq = 2_000;
        while !stop.load(Ordering::Relaxed) {
            seq += 1;
            publisher.send(&json!([numbered("A", 1, seq), numbered("B", 1, seq)]));
            std::thread::sleep(Duration::from_millis(1));
        }
        publisher.flush();
        seq
    });
    send_at_once(&mut client, &[replay(1, &["A"]), replay(2, &["A", "B"])]);
    let mut ledgers: BTreeMap<Option<u64>, Ledger> = BTreeMap::new();
    let mut cursors = Vec::new();
    while cursors.len() < 2 {
        let message = client.next();
        if message["type"] == "replayed" {
            cursors.push(message["cursor"].clone());
        } else {
            ledgers
                .entry(message["replay"].as_u64())
                .or_default()
                .take(&message);
        }
    }
    over.store(true, Ordering::Relaxed);
    let last = flow.join().expect("the flow ends");
    while ledgers[&None].last("A", "trade") < last {
        let message = client.next();
        ledgers.entry(None).or_default().take(&message);
    }
    for (replay, symbols) in [(1, &["A"][..]), (2, &["A", "B"])] {
        let ledger = &ledgers[&Some(replay)];
        assert!(ledger.delivered >= 2_000 * symbols.len() as u64);
        assert_eq!(ledger.delivered, ledger.covered());
    }
    assert_eq!(ledgers[&None].last("B", "trade"), 0);
    assert_eq!(ledgers[&None].delivered, ledgers[&None].covered());
}

#[test]
fn a_large_replay_is_pulled_as_the_socket_drains_and_live_ticks_go_on() {
    const MANY: u64 = 30_000;
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    publish_run(&mut publisher, "A", MANY);
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["L"]}));
    client.send(&replay(9, &["A"]));
    eventually("the replay waits for the socket", || {
        whole(engine.metric("tickwire_replays", "")) == 1
            && whole(engine.metric("tickwire_replays_runnable", "")) == 0
    });
    let pulled = engine.metric("tickwire_ticks_out_total", "replayed");
    assert!(
        pulled < MANY as f64 / 2.0,
        "{pulled} pulled for a client that does not read"
    );
    publisher.publish(&run("L", 1, 1..=10));
    let (mut live, mut replayed) = (Ledger::default(), Ledger::default());
    let mut replayed_before_live = 0;
    loop {
        let message = client.next();
        if message["replay"] == 9 {
            replayed.take(&message);
        } else if message["type"] == "replayed" {
            break;
        } else {
            live.take(&message);
            if live.delivered == 10 && replayed_before_live == 0 {
                replayed_before_live = replayed.delivered;
            }
        }
    }
    assert_eq!(replayed.delivered, MANY);
    assert_eq!(live.delivered, 10);
    assert!(
        replayed_before_live < MANY / 2,
        "live ticks waited behind {replayed_before_live}"
    );
}

#[test]
fn a_queued_replay_is_complete_up_to_its_cursor_with_symbols_born_meanwhile() {
    let engine = TestEngine::with(|config| config.replays_per_connection = 1);
    let mut publisher = engine.publisher();
    publish_run(&mut publisher, "A", 10_000);
    let mut watcher = engine.subscriber();
    watcher.subscribe(json!({"symbols": ["A"]}));
    let cursor = watcher.next_of("cursor")["cursor"].clone();
    let mut client = engine.subscriber();
    client.send(&replay(1, &["A"]));
    client.send(&json!({"op": "replay", "id": 2, "symbols": ["N*"], "since": {"cursor": cursor}}));
    eventually("both are under way", || {
        whole(engine.metric("tickwire_replays", "")) == 2
    });
    publisher.publish(&run("N1", 1, 1..=5));
    let mut ledger = Ledger::default();
    let cursor = loop {
        let message = client.next();
        if message["replay"] == 2 {
            ledger.take(&message);
        } else if message["type"] == "replayed" && message["id"] == 2 {
            break message["cursor"].clone();
        }
    };
    client.send(&json!({"op": "replay", "id": 3, "symbols": ["N*"], "since": {"cursor": cursor}}));
    loop {
        let message = client.next();
        if message["type"] == "replayed" {
            break;
        }
        ledger.take(&message);
    }
    assert_eq!(ledger.delivered, 5, "neither before nor after the cursor");
}
