//! The upgrade: every answer of the door, and what an admitted connection begins with.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tickwire_proto::claims::Claims;

use crate::{
    harness::{Client, TestEngine, eventually, http_raw, now_s, trade},
    wire::{Wire, text, upgrade_head},
};

/// The head of an answer in lower case, and its JSON body.
fn refusal(address: SocketAddr, request: &str) -> (u16, String, Value) {
    let (status, answer) = http_raw(address, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let head = head.to_lowercase();
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{head}"
    );
    let body: Value = serde_json::from_str(body).expect("a JSON body");
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    (status, head, body)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn retry_after_s(head: &str) -> u64 {
    let (_, value) = head.split_once("retry-after: ").expect("Retry-After");
    value
        .lines()
        .next()
        .and_then(|text| text.parse().ok())
        .expect("whole seconds")
}

#[test]
fn every_refusal_names_its_status_and_code() {
    let engine = TestEngine::start();
    let address = engine.engine.listen_addr();
    let good = bearer(&engine.token());
    let reader = bearer(&engine.token_with(|claims| {
        claims.publish = None;
        claims.symbols = Some(vec!["BTC-*".to_owned()]);
    }));
    let plain =
        |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    let old_version = upgrade_head("/v1/ws", &good)
        .replace("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8");
    let long = format!("X-Long: {}\r\n", "x".repeat(9_000));
    let cases = [
        ("nonsense\r\n\r\n".to_owned(), 400, "bad_request"),
        (
            upgrade_head("/v1/ws?colour=red", &good),
            400,
            "unknown_field",
        ),
        (
            upgrade_head("/v1/ws?symbols=AAPL&cursor=!", &good),
            400,
            "bad_cursor",
        ),
        (
            upgrade_head("/v1/publish?symbols=AAPL", &good),
            400,
            "unknown_field",
        ),
        (upgrade_head("/v1/ws", ""), 401, "unauthorized"),
        (
            upgrade_head("/v1/ws", "Authorization: Basic YTpi\r\n"),
            401,
            "unauthorized",
        ),
        (upgrade_head("/v1/ws", &bearer("a.b.c")), 401, "bad_token"),
        (upgrade_head("/v1/publish", &reader), 403, "not_entitled"),
        (
            upgrade_head("/v1/ws?symbols=AAPL", &reader),
            403,
            "not_entitled",
        ),
        (upgrade_head("/v2/ws", &good), 404, "not_found"),
        (plain("GET", "/"), 404, "not_found"),
        (plain("POST", "/v1/ws"), 405, "method_not_allowed"),
        (plain("GET", "/v1/ws"), 426, "upgrade_required"),
        (old_version, 426, "upgrade_required"),
        (upgrade_head("/v1/ws", &long), 431, "head_too_large"),
    ];
    for (request, status, code) in cases {
        let (got, head, body) = refusal(address, &request);
        let case = request.lines().next().unwrap_or_default();
        assert_eq!(
            (got, body["code"].as_str()),
            (status, Some(code)),
            "{case}: {body}"
        );
        match (status, code) {
            (401, "unauthorized") => {
                assert!(head.contains("www-authenticate: bearer\r\n"), "{head}");
            }
            (401, _) => assert!(
                head.contains("www-authenticate: bearer error=\"invalid_token\""),
                "{head}"
            ),
            (426, _) => assert!(head.contains("sec-websocket-version: 13"), "{head}"),
            _ => {}
        }
    }
    engine.subscriber();
}

#[test]
fn a_slow_head_is_408() {
    let engine = TestEngine::with(|config| config.head_timeout_ms = 150);
    let (status, _, body) = refusal(engine.engine.listen_addr(), "GET /v1/ws HTTP/1.1\r\nHost:");
    assert_eq!((status, body["code"].as_str()), (408, Some("timeout")));
}

#[test]
fn an_ip_over_its_allowance_is_429_and_told_when_to_come_back() {
    let engine = TestEngine::with(|config| {
        config.per_ip_rate = 1;
        config.per_ip_burst = 2;
    });
    let address = engine.engine.listen_addr();
    let request = upgrade_head("/v1/ws", "");
    // Later ones may come when the next is allowed already, but not ten within some ms.
    let answers: Vec<_> = (0..10).map(|_| refusal(address, &request)).collect();
    assert_eq!((answers[0].0, answers[1].0), (401, 401));
    let (_, head, body) = answers
        .iter()
        .find(|(status, ..)| *status == 429)
        .expect("one is turned away");
    assert_eq!(body["code"], "rate_limited");
    assert!((1..=10).contains(&retry_after_s(head)), "{head}");
}

#[test]
fn without_a_place_it_is_503_until_one_is_free() {
    let engine = TestEngine::with(|config| config.connections_max = 1);
    let address = engine.engine.listen_addr();
    let first = engine.subscriber();
    let request = upgrade_head("/v1/ws", &bearer(&engine.token()));
    let (status, head, body) = refusal(address, &request);
    assert_eq!((status, body["code"].as_str()), (503, Some("at_capacity")));
    assert!((1..=10).contains(&retry_after_s(&head)), "{head}");
    drop(first);
    eventually("a free place", || {
        Client::open(address, "/v1/ws", &engine.token(), None).is_ok()
    });
}

#[test]
fn a_draining_engine_is_503() {
    let engine = TestEngine::start();
    let address = engine.engine.listen_addr();
    let request = upgrade_head("/v1/ws", &bearer(&engine.token()));
    // It does not answer the close, which keeps the engine from ending at once.
    let mut waiting = Wire::open(&engine, "/v1/publish");
    let TestEngine { engine } = engine;
    let drain = std::thread::spawn(move || engine.drain());
    assert_eq!(waiting.json()["type"], "goodbye");
    let (status, head, body) = refusal(address, &request);
    assert_eq!((status, body["code"].as_str()), (503, Some("draining")));
    retry_after_s(&head);
    assert_eq!(waiting.read_to_close().0, 1001);
    drop(waiting);
    assert!(drain.join().expect("the drain ends"));
}

#[test]
fn nothing_secret_travels_in_a_query() {
    let engine = TestEngine::start();
    let token = engine.token();
    for path in ["/v1/ws", "/v1/publish"] {
        for name in ["token", "access_token", "jwt"] {
            let request = upgrade_head(&format!("{path}?{name}={token}"), &bearer(&token));
            let (status, _, body) = refusal(engine.engine.listen_addr(), &request);
            assert_eq!(status, 400, "{path} {name}");
            let message = body["message"].as_str().expect("a text");
            assert!(
                message.contains(name) && !message.contains(&token),
                "{message}"
            );
        }
    }
}

#[test]
fn a_browser_brings_its_token_as_a_subprotocol_and_only_the_other_is_named() {
    let engine = TestEngine::start();
    let token = engine.token();
    for (offer, named) in [
        (
            format!("tickwire.v1.json, tickwire.bearer.{token}"),
            "tickwire.v1.json",
        ),
        (
            format!("tickwire.bearer.{token},tickwire.v1.sbe"),
            "tickwire.v1.sbe",
        ),
        (
            format!(
                "soap, tickwire.v9.json, tickwire.v1.sbe, tickwire.v1.json, tickwire.bearer.{token}"
            ),
            "tickwire.v1.sbe",
        ),
    ] {
        for path in ["/v1/ws", "/v1/publish"] {
            let fields = format!("Sec-WebSocket-Protocol: {offer}\r\n");
            let head = upgrade_head(path, &fields);
            let mut wire = Wire::send_first(engine.engine.listen_addr(), head.as_bytes());
            let answer = wire.answer();
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
            let lines: Vec<_> = answer
                .lines()
                .filter(|line| line.to_lowercase().starts_with("sec-websocket-protocol:"))
                .collect();
            assert_eq!(lines.len(), 1, "{answer}");
            assert!(lines[0].ends_with(&format!(": {named}")), "{answer}");
            assert!(!answer.contains(&token), "the token is never echoed");
            let welcome = wire.json();
            assert_eq!(welcome["protocol"], named);
        }
    }
    for offer in [format!("tickwire.bearer.{token}"), "soap".to_owned()] {
        let fields = format!("Sec-WebSocket-Protocol: {offer}\r\n{}", bearer(&token));
        let request = upgrade_head("/v1/ws", &fields);
        assert_eq!(
            refusal(engine.engine.listen_addr(), &request).0,
            400,
            "{offer}"
        );
    }
}

#[test]
fn without_an_offer_no_subprotocol_is_named_and_no_extension_ever() {
    let engine = TestEngine::start();
    let fields = format!(
        "Sec-WebSocket-Extensions: permessage-deflate\r\n{}",
        bearer(&engine.token())
    );
    let head = upgrade_head("/v1/ws", &fields);
    let mut wire = Wire::send_first(engine.engine.listen_addr(), head.as_bytes());
    let answer = wire.answer().to_lowercase();
    assert!(
        answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{answer}"
    );
    assert!(!answer.contains("sec-websocket-protocol"), "{answer}");
    assert!(!answer.contains("sec-websocket-extensions"), "{answer}");
    assert_eq!(wire.json()["protocol"], "tickwire.v1.json");
}

#[test]
fn welcome_is_first_even_where_requests_come_with_the_upgrade() {
    let engine = TestEngine::start();
    let claims = |claims: &mut Claims| {
        claims.max_symbols = Some(7);
        claims.ops_per_s = Some(3);
    };
    let token = engine.token_with(claims);
    for (target, message_bytes) in [
        ("/v1/ws?symbols=AAPL,BTC-*&channels=trade", 65_536),
        ("/v1/publish", 1_048_576),
    ] {
        let mut bytes = upgrade_head(target, &bearer(&token)).into_bytes();
        bytes.extend(text(r#"{"op":"ping","id":1}"#));
        // Half of the next request comes with the head, too.
        let second = text(r#"{"op":"ping","id":2}"#);
        bytes.extend_from_slice(&second[..9]);
        let mut wire = Wire::send_first(engine.engine.listen_addr(), &bytes);
        assert!(wire.answer().starts_with("HTTP/1.1 101 "));
        wire.send(&second[9..]);
        let welcome = wire.json();
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        let limits = json!({"symbols": 7, "message_bytes": message_bytes, "ops_per_s": 3});
        assert_eq!(welcome["limits"], limits);
        assert_eq!(welcome["heartbeat_ms"], 5_000);
        assert!(
            welcome["token_exp"]
                .as_u64()
                .is_some_and(|exp| exp > now_s())
        );
        assert!(
            welcome["session"]
                .as_str()
                .is_some_and(|session| !session.is_empty())
        );
        let mut next = wire.json();
        if target.starts_with("/v1/ws") {
            assert_eq!(next["pending"], json!(["AAPL"]), "{next}");
            assert_eq!(next.get("id"), None);
            next = wire.json();
        }
        assert_eq!((&next["type"], &next["id"]), (&json!("pong"), &json!(1)));
        let mut second = wire.json();
        // The subscription is complete, so its first cursor may stand between the two.
        if second["type"] == "cursor" {
            second = wire.json();
        }
        assert_eq!(second["id"], 2);
    }
}

#[test]
fn over_max_connections_the_oldest_is_closed_with_4509() {
    let engine = TestEngine::start();
    let token = engine.token_with(|claims| claims.max_connections = Some(2));
    let mut first = engine.connect("/v1/ws", &token, None);
    let mut second = engine.connect("/v1/publish", &token, None);
    let other = engine.token_with(|claims| claims.sub = "bob".to_owned());
    let mut bystander = engine.connect("/v1/ws", &other, None);
    let mut third = engine.connect("/v1/ws", &token, None);
    assert_eq!(first.read_to_close().0, 4509);
    assert_eq!(second.publish(&trade("AAPL", "1"))["accepted"], 1);
    let mut fourth = engine.connect("/v1/publish", &token, None);
    assert_eq!(
        second.read_to_close().0,
        4509,
        "a publisher gives way as well"
    );
    for client in [&mut third, &mut fourth, &mut bystander] {
        client.send(&json!({"op": "ping", "id": 1}));
        assert_eq!(client.next()["type"], "pong");
    }
    assert!(third.quiet_for(Duration::from_millis(50)).is_empty());
}
