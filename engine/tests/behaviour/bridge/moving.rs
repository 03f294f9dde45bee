//! Clients that go from one host to another while ticks flow.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{host_with, redis_server::RedisServer};
use crate::{
    harness::{Client, PATIENCE, numbered},
    ticks::is_tick,
};

const SYMBOLS: [&str; 10] = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"];
/// Of each symbol at once; with the pause, 10,000 ticks a second.
const BURST: u64 = 10;
const PAUSE: Duration = Duration::from_millis(10);
const EPOCH: u64 = 3;
/// How long a client stays with a host.
const STAY: Duration = Duration::from_secs(1);

/// Publishes until told to stop; returns the last seq of every symbol.
fn feed(mut publisher: Client, stop: Arc<AtomicBool>) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let (mut seq, begin) = (0, Instant::now());
        for turn in 1.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let of_one =
                |symbol| (seq + 1..=seq + BURST).map(move |seq| numbered(symbol, EPOCH, seq));
            publisher.send(&SYMBOLS.into_iter().flat_map(of_one).collect());
            seq += BURST;
            std::thread::sleep((begin + PAUSE * turn).saturating_duration_since(Instant::now()));
        }
        publisher.flush();
        seq
    })
}

/// What a client has: of each symbol everything up to a seq.
#[derive(Default)]
struct Account {
    last: HashMap<String, u64>,
    /// Where each symbol began on this connection, and what it brings next.
    run: HashMap<String, (u64, u64)>,
}

impl Account {
    fn take(&mut self, message: &Value) {
        assert_ne!(message["type"], "gap", "{message}");
        let symbol = || message["symbol"].as_str().expect("a symbol").to_owned();
        if message["type"] == "start" {
            let start = message["trade"].as_u64().expect("a seq");
            let had = self.last.get(&symbol()).copied().unwrap_or_default();
            assert!(
                start <= had,
                "something is missing before {message}: had {had}"
            );
            self.run.insert(symbol(), (start, start + 1));
        }
        if !is_tick(message) {
            return;
        }
        let (_, next) = self.run.get_mut(&symbol()).expect("a start");
        assert_eq!(message["seq"], *next, "nothing comes twice or is left out");
        let last = self.last.entry(symbol()).or_default();
        // What the other host had brought already is known by its seq.
        *last = (*last).max(*next);
        *next += 1;
    }

    fn points(&self) -> Value {
        let points = self.last.iter();
        points
            .map(|(symbol, last)| (symbol.clone(), json!({"epoch": EPOCH, "trade": last})))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// Reads for a while, and then up to a cursor.
    fn read(&mut self, client: &mut Client) -> String {
        let until = Instant::now() + STAY;
        loop {
            assert!(Instant::now() < until + PATIENCE, "no cursor comes");
            let message = client.next();
            self.take(&message);
            if message["type"] == "cursor" && Instant::now() >= until {
                return message["cursor"].as_str().expect("a text").to_owned();
            }
        }
    }
}

#[test]
fn a_client_goes_from_host_to_host_with_its_points_and_with_a_cursor() {
    let redis = RedisServer::start();
    let hosts = [(); 2].map(|()| host_with(&redis, |config| config.resume_overlap_ms = 500));
    let stop = Arc::new(AtomicBool::new(false));
    let mut account = Account::default();
    let mut client = hosts[0].subscriber();
    client.subscribe(json!({"symbols": SYMBOLS}));
    let feeding = feed(hosts[0].publisher(), Arc::clone(&stop));
    let mut cursor = account.read(&mut client);
    for (there, by_cursor) in [(1, false), (0, true), (1, true), (0, false)] {
        let since = if by_cursor {
            json!({ "cursor": cursor })
        } else {
            account.points()
        };
        account.run.clear();
        client = hosts[there].subscriber();
        client.send(
            &json!({"op": "subscribe", "symbols": SYMBOLS, "snapshot": false, "since": since}),
        );
        cursor = account.read(&mut client);
        assert_eq!(account.run.len(), SYMBOLS.len());
        // A cursor of another host's says when, and so brings a little again, but not everything.
        let begins = account.run.values().map(|(start, _)| *start);
        assert!(begins.min() > Some(0), "all that is retained came again");
    }
    stop.store(true, Ordering::Relaxed);
    let last = feeding.join().expect("the publisher does not panic");
    while account.last.values().any(|&seq| seq < last) {
        account.take(&client.next_event());
    }
    assert_eq!(account.last.len(), SYMBOLS.len());
}
