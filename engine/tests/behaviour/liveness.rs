//! Silence: heartbeats, pings, and connections that are good for nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    harness::{PATIENCE, TestEngine, eventually},
    wire::{Wire, header},
};

/// The template id of an SBE message (bytes 2–3 of its header).
fn template(message: &[u8]) -> u16 {
    u16::from_le_bytes([message[2], message[3]])
}

#[test]
fn silence_brings_heartbeats_in_either_format() {
    const HEARTBEAT_MS: u64 = 150;
    let engine = TestEngine::with(|config| config.heartbeat_ms = HEARTBEAT_MS);
    let mut json = engine.subscriber();
    let began = Instant::now();
    let first = json.next_of("heartbeat")["ts"].as_u64().unwrap();
    let second = json.next_of("heartbeat")["ts"].as_u64().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(HEARTBEAT_MS));
    assert!(
        second - first >= (HEARTBEAT_MS - 1) * 1_000,
        "{first} {second}"
    );

    let mut sbe = engine
        .connect("/v1/ws", &engine.token(), Some("tickwire.v1.sbe"))
        .socket;
    let message = sbe.read().expect("a heartbeat");
    assert!(message.is_binary(), "{message:?}");
    let bytes = message.into_data();
    assert_eq!((bytes.len(), template(&bytes)), (16, 5));
}

#[test]
fn who_answers_no_ping_is_closed_with_4408_and_who_does_is_not() {
    let engine = TestEngine::with(|config| {
        config.ping_idle_s = 1;
        config.pong_wait_s = 1;
    });
    let mut answers = engine.subscriber();
    let mut mute = Wire::open(&engine, "/v1/ws");
    let answering = std::thread::spawn(move || {
        answers.quiet_for(Duration::from_millis(2_600));
        answers
    });
    let (opcode, _) = loop {
        let frame = mute.next().expect("a frame");
        if frame.0 != 1 {
            break frame;
        }
    };
    assert_eq!(opcode, 9, "a ping");
    assert_eq!(mute.read_to_close().0, 4408);
    let mut answers = answering.join().unwrap();
    answers.send(&json!({"op": "ping", "id": 1}));
    assert_eq!(answers.next_of("pong")["id"], 1);
    drop(mute);
    eventually("the close is counted", || {
        engine.metric("tickwire_closes_total", "no_pong") >= 1.0
    });
}

#[test]
fn part_of_a_message_is_silence() {
    let engine = TestEngine::with(|config| {
        config.ping_idle_s = 1;
        config.pong_wait_s = 1;
    });
    for path in ["/v1/ws?symbols=A", "/v1/publish"] {
        let began = Instant::now();
        let mut drip = Wire::open(&engine, path);
        drip.send(&header(0x81, 4_000));
        let mut pinged = false;
        let code = loop {
            drip.send(b"x");
            match drip.next_within(Duration::from_millis(50)) {
                Some((8, close)) => break u16::from_be_bytes([close[0], close[1]]),
                Some((9, _)) => pinged = true,
                _ => assert!(began.elapsed() < PATIENCE, "{path} is not closed"),
            }
        };
        assert_eq!((code, pinged), (4408, true), "{path}");
    }
}

#[test]
fn who_subscribes_to_nothing_is_closed_with_4412_and_who_does_is_not() {
    let engine = TestEngine::with(|config| config.first_subscribe_s = 1);
    let mut subscribed = engine.subscriber();
    subscribed.subscribe(json!({"symbols": ["UNBORN"]}));
    let mut on_upgrade = engine.connect("/v1/ws?symbols=A", &engine.token(), None);
    for subprotocol in ["tickwire.v1.json", "tickwire.v1.sbe"] {
        let mut idle = engine.connect("/v1/ws", &engine.token(), Some(subprotocol));
        assert_eq!(idle.read_to_close().0, 4412);
    }
    for client in [&mut subscribed, &mut on_upgrade] {
        client.send(&json!({"op": "ping", "id": 1}));
        assert_eq!(client.next_of("pong")["id"], 1);
    }
}
