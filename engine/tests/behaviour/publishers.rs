//! `/v1/publish`, and publishing from within the process.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tickwire_engine::{PublishError, PublisherCounts};
use tickwire_proto::{
    price::Decimal,
    symbol::Symbol,
    tick::{Identity, PublishedTick, Values},
};
use tungstenite::Message;

use crate::{
    harness::{Client, TestEngine, eventually, numbered, trade},
    wire::{Wire, text},
};

/// A `Trade` as the schema draws it: offsets and little-endian by hand.
fn sbe_trade(id: u32, seq: u64, price: i64, exponent: i8) -> Vec<u8> {
    let mut message = Vec::new();
    for field in [48u16, 1, 29_804, 0] {
        message.extend_from_slice(&field.to_le_bytes());
    }
    message.extend_from_slice(&id.to_le_bytes());
    message.extend_from_slice(&[0, 1, exponent.cast_unsigned(), 0]);
    message.extend_from_slice(&seq.to_le_bytes());
    message.extend_from_slice(&1_763_776_800_000_123_000u64.to_le_bytes());
    message.extend_from_slice(&price.to_le_bytes());
    message.extend_from_slice(&i64::MIN.to_le_bytes());
    message.extend_from_slice(&0u32.to_le_bytes());
    message.extend_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(message.len(), 8 + 48);
    message
}

const NULL_SEQ: u64 = u64::MAX;

fn send_binary(client: &mut Client, bytes: Vec<u8>) {
    client
        .socket
        .send(Message::binary(bytes))
        .expect("the message goes out");
}

fn declare(client: &mut Client, symbols: &Value) -> Value {
    client.send(&json!({"op": "declare", "id": 1, "symbols": symbols}));
    client.next_of("ack")
}

/// What an error says, but for its message for humans.
fn place(error: &Value) -> (&str, Option<u64>, Option<u64>, Option<&str>) {
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    (
        error["code"].as_str().unwrap_or_default(),
        error["msg"].as_u64(),
        error["index"].as_u64(),
        error["symbol"].as_str(),
    )
}

/// Everything up to and with the ack of a flush.
fn until_flushed(client: &mut Client) -> Vec<Value> {
    client.send(&json!({"op": "flush", "id": 77}));
    let mut messages = Vec::new();
    loop {
        messages.push(client.next());
        if messages.last().is_some_and(|message| message["id"] == 77) {
            return messages;
        }
    }
}

// --- acks ---

#[test]
fn acks_are_cumulative_and_a_flush_gets_its_own_at_once() {
    let engine = TestEngine::with(|config| config.ack_interval_ms = 10_000);
    let mut publisher = engine.publisher();
    let ack = publisher.publish(&json!([trade("AAPL", "1"), trade("AAPL", "x")]));
    let expected = json!({
        "type": "ack", "id": 4_242, "accepted": 1, "rejected": 1, "duplicates": 0, "messages": 1
    });
    assert_eq!(ack, expected);
    publisher.send(&json!([]));
    let ack = publisher.publish(&trade("AAPL", "2"));
    assert_eq!((&ack["accepted"], &ack["messages"]), (&json!(2), &json!(3)));
    let again = publisher.flush();
    assert_eq!(
        again["accepted"], 2,
        "a flush is answered even without news"
    );
    publisher.send(&json!({"op": "flush"}));
    assert_eq!(publisher.next_of("ack").get("id"), None);
}

#[test]
fn acks_come_by_themselves_but_not_more_often_than_the_interval() {
    const INTERVAL_MS: u128 = 200;
    let engine = TestEngine::with(|config| config.ack_interval_ms = INTERVAL_MS as u64);
    let mut publisher = engine.publisher();
    let begin = Instant::now();
    let mut acks = Vec::new();
    while acks.last().is_none_or(|ack: &Value| ack["accepted"] != 40) {
        if acks.is_empty() {
            for _ in 0..40 {
                publisher.send(&trade("AAPL", "1"));
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        acks.push(publisher.next_of("ack"));
    }
    let most = begin.elapsed().as_millis() / INTERVAL_MS + 1;
    assert!(acks.len() as u128 <= most, "{acks:?}");
    assert!(acks.len() >= 2, "{acks:?}");
    assert!(
        acks.windows(2)
            .all(|two| two[0]["accepted"].as_u64() < two[1]["accepted"].as_u64())
    );
    assert!(
        publisher.quiet_for(Duration::from_millis(300)).is_empty(),
        "no ack without news"
    );
}

#[test]
fn the_last_ack_precedes_a_close() {
    let engine = TestEngine::with(|config| config.ack_interval_ms = 60_000);
    let mut publisher = engine.publisher();
    publisher.send(&json!([trade("AAPL", "1"), trade("AAPL", "2")]));
    publisher.socket.close(None).expect("the close goes out");
    let (_, messages) = publisher.read_to_close();
    assert_eq!(messages[0]["accepted"], 2, "{messages:?}");

    let mut publisher = engine.publisher();
    publisher.send(&trade("AAPL", "3"));
    publisher.send(&json!({"op": "ping", "id": 1}));
    assert_eq!(publisher.next_event()["type"], "pong");
    let drain = std::thread::spawn(move || engine.engine.drain());
    let (code, messages) = publisher.read_to_close();
    assert_eq!(code, 1001);
    assert_eq!(messages[0]["accepted"], 1);
    assert_eq!(messages[1]["type"], "goodbye");
    assert!(messages[1]["reconnect_after_ms"].is_u64());
    drop(publisher);
    assert!(drain.join().expect("the drain ends"));
}

#[test]
fn a_flush_means_on_its_way_to_subscribers() {
    let engine = TestEngine::start();
    let mut subscriber = engine.subscriber();
    subscriber.subscribe(json!({"symbols": ["*"]}));
    let mut publisher = engine.publisher();
    let ticks: Vec<_> = (1..=500)
        .map(|price| trade("AAPL", &price.to_string()))
        .collect();
    assert_eq!(publisher.publish(&json!(ticks))["accepted"], 500);
    assert_eq!(subscriber.next_event()["type"], "start");
    for seq in 1..=500 {
        assert_eq!(subscriber.next_event()["seq"], seq);
    }
}

// --- bad ticks ---

#[test]
fn each_bad_tick_is_refused_by_itself_with_its_place_and_the_rest_is_taken() {
    let engine = TestEngine::start();
    let token = engine.token_with(|claims| {
        claims.publish = Some(vec!["AAPL".to_owned(), "BTC-*".to_owned()]);
    });
    let mut publisher = engine.connect("/v1/publish", &token, None);
    publisher.publish(&numbered("BTC-USD", 7, 1));
    let bad = [
        (json!({"type": "trade", "symbol": "AAPL"}), "bad_tick"),
        (
            json!({"type": "candle", "symbol": "AAPL", "price": "1"}),
            "bad_tick",
        ),
        (
            json!({"type": "trade", "symbol": "AAPL", "price": "1", "epoch": 7}),
            "bad_tick",
        ),
        (
            json!({"type": "trade", "symbol": "AAPL", "price": "1", "skipped": 3}),
            "bad_tick",
        ),
        (
            json!({"type": "trade", "symbol": "AAPL", "price": "1", "side": "up"}),
            "bad_tick",
        ),
        (
            json!({"type": "trade", "symbol": "AA PL", "price": "1"}),
            "bad_symbol",
        ),
        (
            json!({"type": "trade", "symbol": "AAPL", "price": 1}),
            "decimal_not_string",
        ),
        (
            json!({"type": "trade", "symbol": "AAPL", "price": "1e5"}),
            "bad_decimal",
        ),
        (
            json!({"type": "trade", "symbol": "AAPL", "price": "1", "size": "-1"}),
            "out_of_range",
        ),
        (
            json!({"type": "trade", "symbol": "AAPL", "price": "99999999999999999999"}),
            "out_of_range",
        ),
        (
            json!({"type": "trade", "symbol": "MSFT", "price": "1"}),
            "not_entitled",
        ),
        (numbered("BTC-USD", 6, 9), "stale_epoch"),
        (trade("BTC-USD", "1"), "mixed_numbering"),
    ];
    let mut ticks = Vec::new();
    for (tick, _) in &bad {
        ticks.extend([tick.clone(), trade("AAPL", "1")]);
    }
    publisher.send(&json!(ticks));
    let messages = until_flushed(&mut publisher);
    let errors: Vec<_> = messages
        .iter()
        .filter(|message| message["type"] == "error")
        .collect();
    assert_eq!(errors.len(), bad.len());
    for (number, (error, (tick, code))) in errors.iter().zip(&bad).enumerate() {
        let expected = (
            *code,
            Some(2),
            Some(2 * number as u64),
            tick["symbol"].as_str(),
        );
        assert_eq!(place(error), expected, "{tick}");
    }
    let ack = messages.last().expect("the ack");
    let good = bad.len() as u64;
    assert_eq!(
        (ack["accepted"].as_u64(), ack["rejected"].as_u64()),
        (Some(1 + good), Some(good))
    );
    assert_eq!(ack["messages"], 2);
}

#[test]
fn a_message_that_is_no_json_or_sbe_is_refused_whole_and_counts_one() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    declare(&mut publisher, &json!([{"symbol": "AAPL", "id": 1}]));
    let good = trade("AAPL", "1").to_string();
    publisher.send_text(&format!("[{good},{good}"));
    assert_eq!(
        place(&publisher.next_of("error")),
        ("bad_json", Some(1), None, None)
    );
    let mut bytes = sbe_trade(1, NULL_SEQ, 1, 0);
    bytes.extend_from_slice(&sbe_trade(1, NULL_SEQ, 1, 0)[..20]);
    send_binary(&mut publisher, bytes);
    assert_eq!(
        place(&publisher.next_of("error")),
        ("bad_sbe", Some(2), None, None)
    );
    let ack = publisher.flush();
    let expected = json!({
        "type": "ack", "id": 4_242, "accepted": 0, "rejected": 2, "duplicates": 0, "messages": 2
    });
    assert_eq!(ack, expected);
}

#[test]
fn errors_are_bounded_and_the_rest_is_counted() {
    let engine = TestEngine::with(|config| config.ack_interval_ms = 60_000);
    let mut publisher = engine.publisher();
    let ticks = vec![json!({"type": "trade"}); 1_000];
    publisher.send(&json!(ticks));
    publisher.send(&json!(ticks));
    let messages = until_flushed(&mut publisher);
    let told = messages
        .iter()
        .filter(|message| message["type"] == "error")
        .count();
    let ack = messages.last().expect("the ack");
    assert_eq!(told, 100);
    assert_eq!(
        (&ack["rejected"], &ack["errors_omitted"]),
        (&json!(2_000), &json!(1_900))
    );
}

#[test]
fn ticks_never_close_and_no_rate_of_requests_holds_them_up() {
    let engine = TestEngine::start();
    let token = engine.token_with(|claims| claims.ops_per_s = Some(1));
    let mut publisher = engine.connect("/v1/publish", &token, None);
    for number in 0..300 {
        publisher.send_text(if number % 2 == 0 {
            "nonsense"
        } else {
            r#"{"type":"trade"}"#
        });
        if number % 10 == 0 {
            publisher.send(&json!({"op": "flush"}));
        }
    }
    let ack = publisher.publish(&trade("AAPL", "1"));
    assert_eq!(
        (&ack["accepted"], &ack["rejected"]),
        (&json!(1), &json!(300))
    );
}

// --- declarations and SBE ---

#[test]
fn sbe_ticks_are_published_under_declared_ids() {
    let engine = TestEngine::start();
    let mut subscriber = engine.subscriber();
    subscriber.subscribe(json!({"symbols": ["*"]}));
    let mut publisher = engine.publisher();
    let ack = declare(
        &mut publisher,
        &json!([
            {"symbol": "AAPL", "id": 1, "epoch": 7},
            {"symbol": "BTC", "id": 2},
            {"symbol": "no symbol", "id": 3},
        ]),
    );
    assert_eq!(ack["op"], "declare");
    assert_eq!(ack["symbols"], json!(["AAPL", "BTC"]));
    assert_eq!(
        ack["rejected"],
        json!([{"symbol": "no symbol", "code": "bad_symbol"}])
    );
    let bytes = [sbe_trade(1, 41, 18_723, -2), sbe_trade(2, NULL_SEQ, 5, 0)].concat();
    send_binary(&mut publisher, bytes);
    assert_eq!(publisher.flush()["accepted"], 2);
    let aapl = subscriber.next_of("trade");
    let expected = json!({
        "type": "trade", "symbol": "AAPL", "epoch": 7, "seq": 41, "ts": 1_763_776_800_000_123u64,
        "price": "187.23", "side": "sell"
    });
    assert_eq!(aapl, expected);
    let btc = subscriber.next_of("trade");
    assert_eq!(
        (&btc["symbol"], &btc["seq"], &btc["price"]),
        (&json!("BTC"), &json!(1), &json!("5"))
    );
}

#[test]
fn sbe_ticks_must_fit_their_declaration() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    declare(
        &mut publisher,
        &json!([{"symbol": "AAPL", "id": 1, "epoch": 7}, {"symbol": "BTC", "id": 2}]),
    );
    let mut flagged = sbe_trade(1, 1, 1, 0);
    flagged[8 + 4] = 1;
    let bytes = [
        sbe_trade(9, 1, 1, 0),
        sbe_trade(1, NULL_SEQ, 1, 0),
        sbe_trade(2, 1, 1, 0),
        sbe_trade(1, 1 << 53, 1, 0),
        sbe_trade(1, 1, 1, 1),
        sbe_trade(1, 1, i64::MIN, 0),
        flagged,
        sbe_trade(1, 1, 1, 0),
    ]
    .concat();
    send_binary(&mut publisher, bytes);
    let messages = until_flushed(&mut publisher);
    let places: Vec<_> = messages[..messages.len() - 1].iter().map(place).collect();
    let at = |code, index, symbol| (code, Some(1), Some(index), symbol);
    assert_eq!(
        places,
        [
            at("undeclared_id", 0, None),
            at("bad_tick", 1, Some("AAPL")),
            at("bad_tick", 2, Some("BTC")),
            at("out_of_range", 3, Some("AAPL")),
            at("out_of_range", 4, Some("AAPL")),
            at("out_of_range", 5, Some("AAPL")),
            at("bad_tick", 6, Some("AAPL")),
        ]
    );
    assert_eq!(
        messages.last().map(|ack| ack["accepted"].clone()),
        Some(json!(1))
    );
}

#[test]
fn declaring_an_id_again_replaces_it_and_ids_end_with_the_connection() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    declare(
        &mut publisher,
        &json!([{"symbol": "AAPL", "id": 1, "epoch": 7}]),
    );
    send_binary(&mut publisher, sbe_trade(1, 5, 1, 0));
    let ack = declare(
        &mut publisher,
        &json!([{"symbol": "AAPL", "id": 1, "epoch": 8}]),
    );
    assert_eq!(ack["symbols"], json!(["AAPL"]));
    send_binary(&mut publisher, sbe_trade(1, 1, 1, 0));
    assert_eq!(publisher.flush()["accepted"], 2, "seq 1 is new in epoch 8");
    let ack = declare(
        &mut publisher,
        &json!([{"symbol": "AAPL", "id": 1, "epoch": 7}]),
    );
    assert_eq!(
        ack["rejected"],
        json!([{"symbol": "AAPL", "code": "stale_epoch"}])
    );
    let mut other = engine.publisher();
    send_binary(&mut other, sbe_trade(1, 2, 1, 0));
    assert_eq!(other.next_of("error")["code"], "undeclared_id");
}

#[test]
fn declarations_are_refused_where_ticks_would_be() {
    let engine = TestEngine::start();
    let token = engine.token_with(|claims| claims.publish = Some(vec!["A*".to_owned()]));
    let mut publisher = engine.connect("/v1/publish", &token, None);
    publisher.publish(&numbered("AAPL", 7, 1));
    let ack = declare(
        &mut publisher,
        &json!([{"symbol": "BTC", "id": 1}, {"symbol": "AAPL", "id": 2}, {"symbol": "AMD"}]),
    );
    assert_eq!(ack["symbols"], json!(["AMD"]));
    let rejected = json!([
        {"symbol": "BTC", "code": "not_entitled"},
        {"symbol": "AAPL", "code": "mixed_numbering"}
    ]);
    assert_eq!(ack["rejected"], rejected);
}

// --- sources ---

/// The states of `symbol`'s feed, in order.
fn next_feed(subscriber: &mut Client) -> Value {
    subscriber.next_of("feed")["state"].clone()
}

#[test]
fn a_feed_is_stale_when_its_last_publisher_leaves_and_live_when_one_returns() {
    let engine = TestEngine::start();
    let mut subscriber = engine.subscriber();
    subscriber.subscribe(json!({"symbols": ["AAPL"]}));
    let mut first = engine.publisher();
    first.publish(&trade("AAPL", "1"));
    assert_eq!(subscriber.next_of("trade")["seq"], 1);
    let mut second = engine.publisher();
    second.publish(&trade("AAPL", "2"));
    drop(first);
    second.publish(&trade("AAPL", "3"));
    assert_eq!(subscriber.next_of("trade")["seq"], 2);
    assert_eq!(subscriber.next_event()["seq"], 3, "one source is left");
    drop(second);
    assert_eq!(next_feed(&mut subscriber), "stale");
    let mut third = engine.publisher();
    declare(&mut third, &json!([{"symbol": "AAPL"}]));
    assert_eq!(next_feed(&mut subscriber), "live");
    third.publish(&trade("AAPL", "4"));
    assert_eq!(subscriber.next_event()["seq"], 4, "the numbering goes on");
}

#[test]
fn a_publisher_that_dies_within_a_frame_loses_only_that_message() {
    let engine = TestEngine::start();
    let mut subscriber = engine.subscriber();
    subscriber.subscribe(json!({"symbols": ["AAPL"]}));
    let mut wire = Wire::open(&engine, "/v1/publish");
    let mut bytes = text(&trade("AAPL", "1").to_string());
    let half = text(&json!([trade("AAPL", "2"), trade("AAPL", "3")]).to_string());
    bytes.extend_from_slice(&half[..half.len() - 1]);
    wire.send(&bytes);
    assert_eq!(subscriber.next_of("trade")["price"], "1");
    wire.vanish();
    assert_eq!(next_feed(&mut subscriber), "stale");
    let ack = engine.publisher().publish(&trade("AAPL", "4"));
    assert_eq!(ack["accepted"], 1);
    assert_eq!(subscriber.next_of("trade")["seq"], 2);
}

#[test]
fn a_publisher_need_not_publish_or_subscribe_to_stay() {
    let engine = TestEngine::with(|config| {
        config.first_subscribe_s = 1;
        config.heartbeat_ms = 400;
    });
    let mut publisher = engine.publisher();
    let mut subscriber = engine.subscriber();
    assert_eq!(subscriber.read_to_close().0, 4412);
    for _ in 0..2 {
        assert_eq!(publisher.next()["type"], "heartbeat");
    }
    assert_eq!(publisher.publish(&trade("AAPL", "1"))["accepted"], 1);
}

#[test]
fn a_silent_publisher_is_pinged_then_closed_with_4408() {
    let engine = TestEngine::with(|config| {
        config.ping_idle_s = 1;
        config.pong_wait_s = 1;
    });
    let mut wire = Wire::open(&engine, "/v1/publish");
    let ping = std::iter::from_fn(|| wire.next()).find(|(opcode, _)| *opcode == 9);
    assert!(ping.is_some());
    assert_eq!(wire.read_to_close().0, 4408);
}

// --- within the process ---

fn in_process(symbol: &str, identity: Option<Identity>) -> PublishedTick {
    let price = Decimal::parse("1.5").expect("a decimal");
    PublishedTick {
        symbol: Symbol::parse(symbol).expect("a symbol"),
        identity,
        ts_ns: None,
        values: Values::trade(price, None, None).expect("values"),
    }
}

#[test]
fn an_in_process_publisher_hands_in_and_makes_stale_when_dropped() {
    let engine = TestEngine::start();
    let mut subscriber = engine.subscriber();
    subscriber.subscribe(json!({"symbols": ["AAPL"]}));
    let mut publisher = engine.engine.publisher("test").expect("a lane");
    for _ in 0..1_000 {
        publisher
            .publish(in_process("AAPL", None))
            .expect("room in the lane");
    }
    let beyond = Identity {
        epoch: 1,
        seq: u64::MAX,
    };
    publisher
        .publish(in_process("MSFT", Some(beyond)))
        .expect("room in the lane");
    let counts = PublisherCounts {
        accepted: 1_000,
        rejected: 1,
        duplicates: 0,
    };
    eventually("all are taken", || publisher.counts() == counts);
    publisher
        .publish(in_process("AAPL", None))
        .expect("room in the lane");
    drop(publisher);
    assert_eq!(subscriber.next_event()["type"], "start");
    for seq in 1..=1_001 {
        assert_eq!(
            subscriber.next_event()["seq"],
            seq,
            "everything before the end"
        );
    }
    assert_eq!(next_feed(&mut subscriber), "stale");
}

#[test]
fn a_full_lane_hands_the_tick_back() {
    let engine = TestEngine::with(|config| config.lane_slots = 2);
    let mut publisher = engine.engine.publisher("test").expect("a lane");
    let tick = in_process("AAPL", None);
    let mut taken = 0;
    let back = loop {
        match publisher.publish(tick) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 10_000_000, "the lane never fills");
    };
    assert_eq!(back, PublishError::Full(tick));
    eventually("the others are placed", || {
        publisher.counts().accepted == taken
    });
}
