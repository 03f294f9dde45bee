//! `since`, `replay` and cursors: nothing missing, nothing twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    harness::{Client, TestEngine, numbered, trade},
    ledger::Ledger,
};

pub fn run(symbol: &str, epoch: u64, seqs: std::ops::RangeInclusive<u64>) -> Value {
    seqs.map(|seq| numbered(symbol, epoch, seq)).collect()
}

fn cursor_of(client: &mut Client) -> Value {
    client.next_of("cursor")["cursor"].clone()
}

/// What comes up to and with `replayed`.
pub fn to_replayed(client: &mut Client) -> Vec<Value> {
    let mut messages = Vec::new();
    loop {
        let message = client.next_event();
        let ends = message["type"] == "replayed";
        messages.push(message);
        if ends {
            return messages;
        }
    }
}

pub fn seqs(messages: &[Value]) -> Vec<u64> {
    messages
        .iter()
        .filter(|message| message["type"] == "trade")
        .filter_map(|message| message["seq"].as_u64())
        .collect()
}

#[test]
fn a_symbol_not_named_is_replayed_from_its_base_in_the_current_epoch() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    publisher.publish(&run("B", 1, 1..=3));
    publisher.publish(&run("B", 2, 8..=9));
    publisher.publish(&run("A", 1, 1..=3));
    let mut client = engine.subscriber();
    client.subscribe(
        json!({"id": 1, "symbols": ["A", "B"], "since": {"A": {"epoch": 1, "trade": 99}}}),
    );
    let messages = to_replayed(&mut client);
    let starts: Vec<_> = messages
        .iter()
        .filter(|message| message["type"] == "start")
        .map(|start| (start["symbol"].as_str().unwrap(), start["trade"].as_u64()))
        .collect();
    assert!(
        starts.contains(&("A", Some(3))),
        "a point ahead: {messages:?}"
    );
    assert!(starts.contains(&("B", Some(7))), "{messages:?}");
    assert_eq!(seqs(&messages), [8, 9]);
}

#[test]
fn a_point_in_an_older_epoch_is_closed_and_all_of_the_current_one_follows() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    publisher.publish(&run("A", 7, 1..=50));
    publisher.publish(&run("A", 8, 1..=3));
    let mut client = engine.subscriber();
    client.subscribe(
        json!({"symbols": ["A"], "since": {"A": {"epoch": 7, "trade": 41, "quote": 5}}}),
    );
    let messages = to_replayed(&mut client);
    assert_eq!(messages[0]["type"], "start");
    assert_eq!(messages[0]["epoch"], 8);
    for (gap, channel, from) in [(&messages[1], "trade", 42), (&messages[2], "quote", 6)] {
        assert_eq!(
            *gap,
            json!({"type": "gap", "symbol": "A", "channel": channel, "epoch": 7, "from": from,
                   "to": null, "reason": "history"})
        );
    }
    assert_eq!(seqs(&messages), [1, 2, 3]);
}

#[test]
fn lost_history_is_a_gap_first_and_its_begin_is_unknown_to_a_cursor() {
    let engine = TestEngine::with(|config| config.tape_slots = 1 << 10);
    let mut publisher = engine.publisher();
    publisher.publish(&run("A", 1, 1..=5));
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["A"]}));
    let cursor = cursor_of(&mut client);
    publisher.publish(&run("A", 1, 6..=3_000));
    for (since, from) in [
        (json!({"A": {"epoch": 1, "trade": 5}}), json!(6)),
        (json!({"cursor": cursor}), Value::Null),
    ] {
        let mut late = engine.subscriber();
        late.subscribe(json!({"symbols": ["A"], "since": since}));
        let messages = to_replayed(&mut late);
        assert_eq!(
            (&messages[0]["type"], &messages[1]["type"]),
            (&json!("start"), &json!("gap"))
        );
        assert_eq!(
            (&messages[1]["from"], &messages[1]["reason"]),
            (&from, &json!("history"))
        );
        let first = messages[1]["to"].as_u64().unwrap() + 1;
        assert_eq!(seqs(&messages), (first..=3_000).collect::<Vec<_>>());
    }
}

#[test]
fn under_conflate_the_replay_is_the_latest_with_its_count_and_gaps_stand_in_place() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    publisher.publish(&run("A", 1, 1..=10));
    publisher.publish(&run("A", 1, 15..=20));
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["A"], "mode": "conflate",
        "since": {"A": {"epoch": 1, "trade": 2}}}));
    let messages = to_replayed(&mut client);
    let told: Vec<_> = messages
        .iter()
        .filter(|message| message["type"] != "start" && message["type"] != "replayed")
        .map(|message| {
            (
                message["seq"].as_u64(),
                message["skipped"].as_u64(),
                message["to"].as_u64(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (Some(10), Some(7), None),
            (None, None, Some(14)),
            (Some(20), Some(5), None)
        ]
    );
}

#[test]
fn any_cursor_resumes_with_exactly_the_rest() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["P*"]}));
    let mut cursors = vec![(0_u64, cursor_of(&mut client))];
    let mut ledger = Ledger::default();
    for seq in 1..=120_u64 {
        publisher.publish(&numbered("PA", 1, seq));
        loop {
            let message = client.next();
            ledger.take(&message);
            match message["type"].as_str() {
                Some("cursor") => {
                    cursors.push((ledger.last("PA", "trade"), message["cursor"].clone()));
                }
                Some("trade") => break,
                _ => {}
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!((2..=5).contains(&cursors.len()), "{cursors:?}");
    for (last, cursor) in cursors {
        let mut late = engine.subscriber();
        late.subscribe(json!({"symbols": ["P*"], "since": {"cursor": cursor}}));
        let messages = to_replayed(&mut late);
        assert_eq!(seqs(&messages), (last + 1..=120).collect::<Vec<_>>());
    }
    let mut stranger = engine.subscriber();
    let foreign = tickwire_proto::cursor::Cursor {
        tape: 1,
        position: 5,
        admitted_ns: 9,
    };
    stranger.subscribe(json!({"symbols": ["PA"], "since": {"cursor": foreign.to_string()}}));
    assert_eq!(seqs(&to_replayed(&mut stranger)).len(), 120);
}

#[test]
fn a_cursor_stays_before_what_a_conflate_holds() {
    let engine = TestEngine::with(|config| config.heartbeat_ms = 200);
    let mut publisher = engine.publisher();
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["A"], "mode": "conflate", "interval_ms": 60_000}));
    publisher.publish(&run("A", 1, 1..=6));
    assert_eq!(client.next_of("trade")["seq"], 1);
    client.next_of("heartbeat");
    client.next_of("heartbeat");
    // The position moves on, what is held does not.
    publisher.publish(&run("B", 1, 1..=6));
    let cursor = client
        .quiet_for(Duration::from_millis(700))
        .into_iter()
        .rfind(|message| message["type"] == "cursor");
    let mut late = engine.subscriber();
    let since = match cursor {
        Some(cursor) => json!({"cursor": cursor["cursor"]}),
        None => json!({"A": {"epoch": 1, "trade": 1}}),
    };
    late.subscribe(json!({"symbols": ["A"], "since": since}));
    assert_eq!(seqs(&to_replayed(&mut late)), [2, 3, 4, 5, 6]);
}

#[test]
fn joining_while_ticks_flow_fast_leaves_no_hole_and_repeats_nothing() {
    let engine = TestEngine::start();
    let stop = Arc::new(AtomicBool::new(false));
    let mut publisher = engine.publisher();
    publisher.publish(&json!([trade("A", "1"), trade("B", "1")]));
    let flow = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                let batch: Vec<_> = (0..10)
                    .flat_map(|_| [trade("A", "1"), trade("B", "2")])
                    .collect();
                publisher.send(&json!(batch));
                std::thread::sleep(Duration::from_millis(2));
            }
            publisher.flush()
        }
    });
    let mut clients: Vec<_> = (0..6)
        .map(|round| {
            let mut client = engine.subscriber();
            let mut request = json!({"op": "subscribe", "symbols": ["A", "B"]});
            if round % 2 == 0 {
                request["since"] = json!({"C": {"epoch": 1, "trade": 1}});
            }
            client.send(&request);
            (client, Ledger::default())
        })
        .collect();
    for (client, ledger) in &mut clients {
        while ledger.delivered < 2_000 {
            ledger.take(&client.next());
        }
    }
    stop.store(true, Ordering::Relaxed);
    let ack = flow.join().unwrap();
    let total = ack["accepted"].as_u64().unwrap();
    for (client, ledger) in &mut clients {
        while ledger.last("A", "trade") + ledger.last("B", "trade") < total {
            ledger.take(&client.next());
        }
        assert_eq!(ledger.delivered + ledger.gapped, ledger.covered());
        assert_eq!(ledger.gapped, 0);
    }
}

#[test]
fn a_replay_is_marked_stands_outside_subscriptions_and_ends_with_a_cursor() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    publisher.publish(&run("A", 1, 1..=3));
    publisher.publish(&run("A", 1, 6..=7));
    let mut client = engine.subscriber();
    client.send(&json!({"op": "replay", "id": 9, "symbols": ["A"], "since": {"A": {"epoch": 1, "trade": 1}}}));
    assert_eq!(client.next_event()["op"], "replay");
    let messages = to_replayed(&mut client);
    let (last, rest) = messages.split_last().unwrap();
    assert!(
        rest.iter().all(|message| message["replay"] == 9),
        "{rest:?}"
    );
    let kinds: Vec<_> = rest
        .iter()
        .map(|message| message["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["start", "trade", "trade", "gap", "trade", "trade"]);
    assert_eq!(last["id"], 9);
    assert!(last["cursor"].is_string(), "{last}");
    publisher.publish(&numbered("A", 1, 8));
    client.send(&json!({"op": "list", "id": 1}));
    assert_eq!(client.next_event()["subscriptions"], json!([]));
}

#[test]
fn unsubscribing_during_a_since_lets_the_pattern_take_over() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    publisher.publish(&run("A", 1, 1..=3_000));
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["*"], "snapshot": false}));
    client.next_of("start");
    // All three arrive together, so that the unsubscribe meets the walk under way.
    client.send(&json!({"op": "subscribe", "id": 2, "symbols": ["A"], "since": {"A": {"epoch": 1, "trade": 0}}}));
    client.send(&json!({"op": "unsubscribe", "id": 3, "symbols": ["A"]}));
    while client.next_of("ack")["id"] != 3 {}
    publisher.publish(&numbered("A", 1, 3_001));
    while client.next_of("trade")["seq"] != 3_001 {}
}
