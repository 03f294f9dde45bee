//! What hostile and broken peers send: each gets a clear answer, and costs nobody else anything.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::{
    harness::{Client, TestEngine, trade},
    wire::{Wire, frame, header, text},
};

const BOTH: [&str; 2] = ["/v1/ws", "/v1/publish"];

/// An engine with a bystander on each endpoint, who must not notice anything.
struct Scene {
    engine: TestEngine,
    publisher: Client,
    subscriber: Client,
}

impl Scene {
    fn start() -> Self {
        let engine = TestEngine::start();
        let mut subscriber = engine.subscriber();
        subscriber.subscribe(json!({"symbols": ["AAPL"]}));
        let mut publisher = engine.publisher();
        publisher.publish(&trade("AAPL", "1"));
        assert_eq!(subscriber.next_of("trade")["seq"], 1);
        Self {
            engine,
            publisher,
            subscriber,
        }
    }

    /// Ticks still flow between the bystanders, and a new connection is served.
    fn goes_on(&mut self) {
        self.publisher.publish(&trade("AAPL", "2"));
        assert_eq!(self.subscriber.next_event()["price"], "2");
        drop(self.engine.subscriber());
    }

    /// Sends `bytes` on a new connection, which is closed with `code`; returns what came before.
    fn closes(&mut self, path: &str, bytes: &[u8], code: u16) -> Vec<Value> {
        let mut wire = Wire::open(&self.engine, path);
        wire.send(bytes);
        let (got, messages) = wire.read_to_close();
        let start = &bytes[..bytes.len().min(24)];
        assert_eq!(got, code, "{path}: {start:?}");
        self.goes_on();
        messages
    }
}

fn joined(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.concat()
}

/// `text` with spaces behind it, `bytes` in all.
fn padded(text: &str, bytes: usize) -> String {
    format!("{text}{}", " ".repeat(bytes - text.len()))
}

fn error_code(message: &Value) -> &str {
    assert_eq!(message["type"], "error", "{message}");
    assert!(message["message"].is_string(), "{message}");
    message["code"].as_str().unwrap_or_default()
}

/// RFC 6455 §§ 5.1–5.5.
#[test]
fn violations_of_the_framing_close_with_1002() {
    let mut scene = Scene::start();
    let violations = [
        ("an unmasked frame", b"\x81\x02hi".to_vec()),
        ("a reserved bit", frame(0xc1, b"hi")),
        ("a reserved opcode", frame(0x83, b"hi")),
        ("a reserved control opcode", frame(0x8b, b"")),
        ("a fragment of a ping", frame(0x09, b"hi")),
        ("a long ping", frame(0x89, &[0; 126])),
        ("a continuation of nothing", frame(0x80, b"hi")),
        (
            "a message inside another",
            joined(&[frame(0x01, b"{"), frame(0x81, b"}")]),
        ),
        ("a close of one byte", frame(0x88, b"\x03")),
        (
            "a close with a code that is never sent",
            frame(0x88, &1005u16.to_be_bytes()),
        ),
    ];
    for path in BOTH {
        for (what, bytes) in &violations {
            let messages = scene.closes(path, bytes, 1002);
            assert_eq!(messages, Vec::<Value>::new(), "{what}");
        }
    }
}

#[test]
fn text_that_is_no_utf_8_closes_with_1007() {
    let mut scene = Scene::start();
    for path in BOTH {
        for bytes in [
            frame(0x81, b"{\"op\":\"\xff\"}"),
            frame(0x81, b"cut \xe2\x82"),
            joined(&[frame(0x01, b"a \xe2"), frame(0x80, b"\x28\xa1 b")]),
        ] {
            scene.closes(path, &bytes, 1007);
        }
    }
}

#[test]
fn a_message_above_the_bound_closes_with_1009_by_its_header_alone() {
    let mut scene = Scene::start();
    for (path, most) in [("/v1/ws", 64 * 1024), ("/v1/publish", 1024 * 1024)] {
        for declared in [most + 1, u64::from(u32::MAX), u64::MAX >> 1] {
            let mut head = header(0x81, declared);
            head.extend_from_slice(&[0; 4]);
            scene.closes(path, &head, 1009);
        }
        let half = vec![b' '; most as usize / 2 + 1];
        let fragments = joined(&[frame(0x01, &half), frame(0x80, &half)]);
        scene.closes(path, &fragments, 1009);
    }
}

#[test]
fn a_message_at_the_bound_is_read() {
    let scene = Scene::start();
    let mut wire = Wire::open(&scene.engine, "/v1/ws");
    let request = r#"{"op":"ping","id":1}"#;
    wire.send(&text(&padded(request, 64 * 1024)));
    assert_eq!(wire.json()["type"], "pong");
    let mut wire = Wire::open(&scene.engine, "/v1/publish");
    let tick = trade("BTC", "1").to_string();
    wire.send(&text(&padded(&tick, 1024 * 1024)));
    assert_eq!(wire.json()["accepted"], 1);
}

#[test]
fn a_publishers_message_above_1_mib_loses_nothing_that_came_before() {
    let mut scene = Scene::start();
    let ticks = json!([trade("BTC", "1"), trade("BTC", "2")]).to_string();
    let mut bytes = text(&ticks);
    bytes.extend(header(0x81, 1024 * 1024 + 1));
    bytes.extend_from_slice(&[0; 4]);
    let messages = scene.closes("/v1/publish", &bytes, 1009);
    let last = messages.last().expect("the last ack");
    assert_eq!(
        (&last["accepted"], &last["messages"]),
        (&json!(2), &json!(1))
    );
}

#[test]
fn fragments_are_joined_around_control_frames() {
    let scene = Scene::start();
    for path in BOTH {
        let mut wire = Wire::open(&scene.engine, path);
        wire.send(&joined(&[
            frame(0x01, br#"{"op":"pi"#),
            frame(0x89, b"are you there"),
            frame(0x00, br#"ng","#),
            frame(0x00, b""),
            frame(0x8a, b"an unasked pong"),
            frame(0x80, br#""id":7}"#),
        ]));
        let (mut pong_frame, mut pong) = (None, None);
        while pong_frame.is_none() || pong.is_none() {
            match wire.next().expect("an answer") {
                (10, payload) => pong_frame = Some(payload),
                (1, payload) => {
                    pong = Some(serde_json::from_slice::<Value>(&payload).expect("JSON"));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pong_frame.as_deref(), Some(&b"are you there"[..]));
        assert_eq!(pong.map(|pong| pong["id"].clone()), Some(json!(7)));
    }
}

#[test]
fn a_close_is_echoed_behind_the_answers_to_what_came_before_it() {
    let mut scene = Scene::start();
    let close = frame(0x88, &[&1000u16.to_be_bytes()[..], b"bye"].concat());
    for path in BOTH {
        let bytes = joined(&[text(r#"{"op":"ping","id":1}"#), close.clone()]);
        let messages = scene.closes(path, &bytes, 1000);
        assert_eq!(messages.len(), 1, "{path}");
        assert_eq!(messages[0]["id"], 1);
    }
    let ticks = json!([trade("BTC", "1"), {"type": "trade"}]).to_string();
    let messages = scene.closes("/v1/publish", &joined(&[text(&ticks), close]), 1000);
    assert_eq!(error_code(&messages[0]), "bad_tick");
    assert_eq!(
        messages[1],
        json!({"type": "ack", "accepted": 1, "rejected": 1, "duplicates": 0, "messages": 1})
    );
}

#[test]
fn nothing_follows_a_close_of_ours() {
    let mut scene = Scene::start();
    let ping = text(r#"{"op":"ping","id":1}"#);
    let bytes = joined(&[
        ping.clone(),
        frame(0x82, b"binary"),
        ping.clone(),
        frame(0x89, b"ping"),
        frame(0x88, b""),
        ping,
    ]);
    // `read_to_close` asserts that the close is the last frame.
    assert_eq!(scene.closes("/v1/ws", &bytes, 1003).len(), 1);
}

#[test]
fn binary_messages_to_ws_close_with_1003() {
    let mut scene = Scene::start();
    scene.closes("/v1/ws", &frame(0x82, b"\x00"), 1003);
}

#[test]
fn unknown_ops_and_fields_are_refused_with_the_requests_id() {
    let scene = Scene::start();
    for (path, request, code, id) in [
        (
            "/v1/ws",
            json!({"op": "dance", "id": 1}),
            "unknown_op",
            json!(1),
        ),
        (
            "/v1/ws",
            json!({"op": "flush", "id": 2}),
            "unknown_op",
            json!(2),
        ),
        (
            "/v1/ws",
            json!({"op": "ping", "id": 3, "x": 1}),
            "unknown_field",
            json!(3),
        ),
        (
            "/v1/ws",
            json!({"op": "subscribe", "id": 4}),
            "bad_request",
            json!(4),
        ),
        (
            "/v1/ws",
            json!({"op": "ping", "id": -1}),
            "bad_request",
            Value::Null,
        ),
        (
            "/v1/ws",
            json!({"op": "ping", "id": 4_294_967_295u32}),
            "bad_request",
            Value::Null,
        ),
        ("/v1/ws", json!([{"op": "ping"}]), "bad_json", Value::Null),
        (
            "/v1/publish",
            json!({"op": "subscribe", "id": 1, "symbols": ["A"]}),
            "unknown_op",
            json!(1),
        ),
        (
            "/v1/publish",
            json!({"op": "flush", "id": 2, "x": 1}),
            "unknown_field",
            json!(2),
        ),
        (
            "/v1/publish",
            json!({"op": 7, "id": 3}),
            "bad_request",
            json!(3),
        ),
        (
            "/v1/publish",
            json!({"op": "declare", "id": 4, "symbols": [7]}),
            "bad_request",
            json!(4),
        ),
        (
            "/v1/publish",
            json!({"op": "auth", "id": 5}),
            "bad_request",
            json!(5),
        ),
    ] {
        let mut wire = Wire::open(&scene.engine, path);
        wire.send(&text(&request.to_string()));
        let error = wire.json();
        assert_eq!(
            (error_code(&error), &error["id"]),
            (code, &id),
            "{request}: {error}"
        );
        assert_eq!(
            error.get("msg"),
            None,
            "a request is no tick message: {error}"
        );
        wire.send(&text(r#"{"op":"ping","id":9}"#));
        assert_eq!(wire.json()["id"], 9, "the connection lives on");
    }
}

#[test]
fn deep_json_is_refused_and_nothing_more() {
    let mut scene = Scene::start();
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(10_000), close.repeat(10_000));
    for path in BOTH {
        let mut wire = Wire::open(&scene.engine, path);
        for message in [
            deep("[", "]"),
            format!(r#"{{"op":"ping","x":{}}}"#, deep("[", "]")),
            format!(r#"{{"op":"ping","x":{}}}"#, "{\"x\":".repeat(10_000)),
        ] {
            wire.send(&text(&message));
            assert_eq!(error_code(&wire.json()), "bad_json", "{path}");
        }
        scene.goes_on();
    }
}

#[test]
fn the_tenth_malformed_request_closes_with_4500() {
    let mut scene = Scene::start();
    for (path, request) in [("/v1/ws", "nonsense"), ("/v1/publish", r#"{"op":"dance"}"#)] {
        let messages = scene.closes(path, &text(request).repeat(12), 4500);
        assert_eq!(messages.len(), 10, "{path}");
        assert!(messages.iter().all(|message| message["type"] == "error"));
        let mut wire = Wire::open(&scene.engine, path);
        wire.send(&text(request).repeat(9));
        wire.send(&text(r#"{"op":"ping","id":9}"#));
        for _ in 0..9 {
            error_code(&wire.json());
        }
        assert_eq!(wire.json()["id"], 9, "nine are borne");
    }
}

/// How often it was told that the rate is exceeded.
fn rate_limited(messages: &[Value]) -> usize {
    let errors = messages.iter().filter(|message| message["type"] == "error");
    errors
        .filter(|error| error_code(error) == "rate_limited")
        .count()
}

#[test]
fn pings_over_the_rate_are_errors_and_the_tenth_closes_with_4429() {
    let mut scene = Scene::start();
    let token = scene.engine.token_with(|claims| claims.ops_per_s = Some(1));
    for path in BOTH {
        for opcode in [0x89, 0x8a] {
            let mut client = scene.engine.connect(path, &token, None);
            let pings = frame(opcode, b"x").repeat(40);
            // The engine may have closed meanwhile.
            let _ = client.socket.get_mut().write_all(&pings);
            let (code, messages) = client.read_to_close();
            assert_eq!((code, rate_limited(&messages)), (4429, 10), "{path}");
            scene.goes_on();
        }
    }
}

#[test]
fn ops_over_the_rate_are_not_executed_and_the_tenth_closes_with_4429() {
    let mut scene = Scene::start();
    let token = scene.engine.token_with(|claims| claims.ops_per_s = Some(1));
    for path in BOTH {
        let mut client = scene.engine.connect(path, &token, None);
        for id in 0..40 {
            let ping = json!({"op": "ping", "id": id}).to_string();
            // The engine may have closed meanwhile.
            if client
                .socket
                .send(tungstenite::Message::text(ping))
                .is_err()
            {
                break;
            }
        }
        let (code, messages) = client.read_to_close();
        assert_eq!(code, 4429, "{path}");
        assert_eq!(rate_limited(&messages), 10);
        let pongs = messages
            .iter()
            .filter(|message| message["type"] == "pong")
            .count();
        assert_eq!(pongs, 2, "twice the rate at once");
        scene.goes_on();
    }
}

#[test]
fn half_a_message_and_half_a_head_hurt_nobody() {
    let mut scene = Scene::start();
    for path in BOTH {
        let mut wire = Wire::open(&scene.engine, path);
        let whole = text(&trade("AAPL", "3").to_string());
        wire.send(&whole[..whole.len() - 7]);
        wire.vanish();
        scene.goes_on();
    }
    let address = scene.engine.engine.listen_addr();
    Wire::send_first(address, b"GET /v1/ws HT").vanish();
    scene.goes_on();
}
