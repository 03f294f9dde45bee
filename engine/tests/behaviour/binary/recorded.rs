//! A recording through the whole engine, to many subscribers.
//!
//! `TICKWIRE_RECORDED_TICKS` names another file with the same columns.

use std::{env, fs, path::PathBuf, thread, time::Instant};

use serde_json::{Value, json};
use tickwire_proto::{
    reply::Reply,
    sbe::Decoder,
    tick::{Marks, Tick},
};
use tungstenite::Message;

use crate::{
    harness::Client,
    process::Serve,
    ticks::{self, assert_equal, delivered, fixture, is_tick},
};

/// Subscribers per wire format.
const SUBSCRIBERS: usize = 100;
/// How often the tests' own file is repeated.
const REPEATS: usize = 5;
/// Published behind the file.
const END: &str = "END-OF-FILE";

/// The file to publish.
fn recording(serve: &Serve) -> PathBuf {
    if let Some(path) = env::var_os("TICKWIRE_RECORDED_TICKS") {
        return path.into();
    }
    let text = fs::read_to_string(fixture()).expect("the fixture");
    let (header, rows) = text.split_once('\n').expect("a header");
    let path = PathBuf::from(serve.path("ticks.csv"));
    fs::write(&path, format!("{header}\n{}", rows.repeat(REPEATS))).expect("a file");
    path
}

/// The ticks of a JSON subscriber, as they came, up to the end.
fn read_json(mut client: Client) -> Vec<String> {
    let mut ticks = Vec::new();
    loop {
        let Message::Text(text) = client.socket.read().expect("a message") else {
            continue;
        };
        if text.contains(END) && text.contains(r#""type":"trade""#) {
            return ticks;
        }
        assert!(!text.contains(r#""type":"gap""#), "{text}");
        if text.starts_with(r#"{"type":"trade""#) || text.starts_with(r#"{"type":"quote""#) {
            ticks.push(text.to_string());
        }
    }
}

/// The ticks of an SBE subscriber.
fn read_sbe(mut client: Client) -> Vec<(Tick, Marks)> {
    let mut decoder = Decoder::new();
    let mut ticks = Vec::new();
    let mut ended = false;
    while !ended {
        let Message::Binary(bytes) = client.socket.read().expect("a message") else {
            continue;
        };
        let each = |reply| match reply {
            Reply::Tick(tick, _) if tick.symbol.as_str() == END => ended = true,
            Reply::Tick(tick, marks) => ticks.push((tick, marks)),
            Reply::Gap(gap) => panic!("{gap:?}"),
            _ => {}
        };
        decoder.decode(&bytes, each).expect("SBE");
    }
    ticks
}

/// Starts a thread for each of many subscribers of everything.
fn subscribers<T: Send + 'static>(
    serve: &Serve,
    subprotocol: &str,
    read: fn(Client) -> Vec<T>,
) -> Vec<thread::JoinHandle<Vec<T>>> {
    (0..SUBSCRIBERS)
        .map(|_| {
            let mut client = serve.connect("/v1/ws", Some(subprotocol));
            client.subscribe(json!({"symbols": ["*"]}));
            thread::spawn(move || read(client))
        })
        .collect()
}

/// What each of them has got: the same for all.
fn the_same_for_all<T: PartialEq>(subscribers: Vec<thread::JoinHandle<Vec<T>>>) -> Vec<T> {
    let mut all = subscribers
        .into_iter()
        .map(|subscriber| subscriber.join().expect("a subscriber reads to the end"));
    let first = all.next().expect("at least one");
    for (number, other) in all.enumerate() {
        assert_eq!(other.len(), first.len(), "subscriber {number}");
        assert!(other == first, "subscriber {number} got something else");
    }
    first
}

#[test]
fn every_subscriber_gets_every_tick_of_a_recording_in_order_and_exactly() {
    let serve = Serve::with(&["--set=lag_soft_ticks=65536", "--set=tape_slots=262144"]);
    let path = recording(&serve);
    let file = ticks::read(&path);
    let in_json = subscribers(&serve, "tickwire.v1.json", read_json);
    let in_sbe = subscribers(&serve, "tickwire.v1.sbe", read_sbe);

    let begun = Instant::now();
    let summary = serve.publish(&path, &["--strict"]);
    assert!(
        summary[0].starts_with(&format!("accepted {}, ", file.len())),
        "{summary:?}"
    );
    serve
        .connect("/v1/publish", None)
        .publish(&json!({"type": "trade", "symbol": END, "price": "1"}));
    let in_json = the_same_for_all(in_json);
    let in_sbe = the_same_for_all(in_sbe);
    println!(
        "{} ticks to {} subscribers in {:?}",
        file.len(),
        2 * SUBSCRIBERS,
        begun.elapsed()
    );

    let in_json: Vec<Value> = in_json
        .iter()
        .map(|text| serde_json::from_str(text).expect("JSON"))
        .collect();
    assert!(
        in_json
            .iter()
            .all(|tick| is_tick(tick) && tick["snapshot"].is_null())
    );
    assert_equal(&in_json.iter().map(delivered).collect::<Vec<_>>(), &file);
    let in_sbe: Vec<Value> = in_sbe
        .iter()
        .map(|(tick, marks)| {
            let mut text = Vec::new();
            tickwire_proto::json::write_tick(&mut text, tick, marks);
            serde_json::from_slice(&text).expect("JSON")
        })
        .collect();
    assert_eq!(in_sbe, in_json);
}
