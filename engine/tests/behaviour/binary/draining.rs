//! What SIGTERM does.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    harness::{Client, eventually, http_raw, trade},
    process::Serve,
};

const DRAIN_S: u64 = 5;
const MESSAGES: u64 = 40;
const TICKS: u64 = 10;

/// The fields of the last message of a kind.
fn last<'a>(messages: &'a [Value], kind: &str) -> &'a Value {
    messages
        .iter()
        .rfind(|message| message["type"] == kind)
        .unwrap_or_else(|| panic!("no {kind} in {messages:?}"))
}

#[test]
fn sigterm_sends_everyone_away_in_order_and_ends_with_0() {
    let serve = Serve::start();
    let mut publisher = serve.connect("/v1/publish", None);
    let mut subscribers: Vec<_> = (0..8)
        .map(|_| {
            let mut subscriber = serve.connect("/v1/ws", None);
            subscriber.subscribe(json!({"symbols": ["AAPL"]}));
            subscriber
        })
        .collect();
    // Never answers a close, which keeps the drain going while it is looked at.
    let _holdout = serve.connect("/v1/ws", None);
    let ticks = vec![trade("AAPL", "187.23"); TICKS as usize];
    for _ in 0..MESSAGES {
        publisher.send(&json!(ticks));
    }

    serve.process.signal(Signal::TERM);
    let begun = Instant::now();
    eventually("readyz says that the engine drains", || {
        http_raw(
            serve.admin,
            b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
        .0 == 503
    });
    match *Client::open(serve.listen, "/v1/ws", &serve.token, None)
        .err()
        .expect("nobody is let in any longer")
    {
        tungstenite::Error::Http(answer) => {
            assert_eq!(answer.status(), 503);
            assert!(answer.headers().contains_key("retry-after"));
        }
        tungstenite::Error::Io(_) => {}
        error => panic!("{error}"),
    }

    let (code, told) = publisher.read_to_close();
    drop(publisher);
    assert_eq!(code, 1001);
    let ack = last(&told, "ack");
    let decided = ack["messages"].as_u64().expect("a number");
    assert_eq!(ack["accepted"], decided * TICKS, "{ack}");
    assert_eq!(last(&told, "goodbye")["reason"], "draining");
    let mut waits = HashSet::new();
    for subscriber in &mut subscribers {
        let (code, told) = subscriber.read_to_close();
        assert_eq!(code, 1001);
        let seqs: Vec<_> = told
            .iter()
            .filter(|message| message["type"] == "trade")
            .map(|tick| tick["seq"].as_u64().expect("a number"))
            .collect();
        assert_eq!(seqs, (1..=decided * TICKS).collect::<Vec<_>>());
        let goodbye = told.last().expect("a message");
        assert_eq!(goodbye["reason"], "draining", "{told:?}");
        let wait = goodbye["reconnect_after_ms"].as_u64().expect("a number");
        assert!((1..=DRAIN_S * 1_000).contains(&wait), "{wait}");
        waits.insert(wait);
    }
    assert!(waits.len() > 4, "the return is spread: {waits:?}");
    drop(subscribers);

    serve.process.wait().ok();
    assert!(begun.elapsed() < Duration::from_secs(DRAIN_S + 1));
}
