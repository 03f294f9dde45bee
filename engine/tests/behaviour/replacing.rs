//! Subscribing again: the new account starts exactly where the old one ended.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    harness::{Client, TestEngine, eventually, numbered},
    ledger::Ledger,
    resume::run,
};

/// A ledger that also checks that every further `start` stands where the account ended.
#[derive(Default)]
struct Continued {
    ledger: Ledger,
    /// Channels whose account is open.
    open: BTreeSet<&'static str>,
    starts: usize,
}

impl Continued {
    fn take(&mut self, message: &Value) {
        if message["type"] == "start" {
            self.starts += 1;
            for channel in ["trade", "quote"] {
                match message[channel].as_u64() {
                    Some(at) if self.open.contains(channel) => {
                        assert_eq!(at, self.ledger.last("A", channel), "{message}");
                    }
                    Some(_) => {
                        self.open.insert(channel);
                    }
                    None => {
                        self.open.remove(channel);
                    }
                }
            }
        }
        self.ledger.take(message);
    }
}

fn quote(seq: u64) -> Value {
    json!({"type": "quote", "symbol": "A", "epoch": 1, "seq": seq, "bid": "1", "ask": "2"})
}

/// Publishes what `ticks` makes of each seq after `seq`, one a millisecond, until told to end;
/// then returns the last seq.
fn flow(
    mut publisher: Client,
    mut seq: u64,
    over: Arc<AtomicBool>,
    ticks: fn(u64) -> Value,
) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            seq += 1;
            publisher.send(&ticks(seq));
            std::thread::sleep(Duration::from_millis(1));
        }
        publisher.flush();
        seq
    })
}

#[test]
fn a_replaced_subscription_starts_where_the_old_account_ended() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    publisher.publish(&json!([numbered("A", 1, 1), quote(1)]));
    let over = Arc::new(AtomicBool::new(false));
    let both = |seq| json!([numbered("A", 1, seq), quote(seq)]);
    let flow = flow(publisher, 1, Arc::clone(&over), both);
    let mut client = engine.subscriber();
    let mut books = Continued::default();
    for (id, request) in [
        json!({"symbols": ["A"], "channels": ["trade"]}),
        json!({"symbols": ["A"], "channels": ["trade", "quote"]}),
        json!({"symbols": ["A"], "mode": "conflate", "interval_ms": 20}),
        json!({"symbols": ["A"], "mode": "conflate", "interval_ms": 60_000, "snapshot": false}),
        json!({"symbols": ["A"], "channels": ["quote"], "snapshot": false}),
        json!({"symbols": ["A"], "mode": "conflate", "interval_ms": 10}),
        json!({"symbols": ["A"]}),
        json!({"symbols": ["A"], "snapshot": false}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut request = request;
        request["op"] = json!("subscribe");
        request["id"] = json!(id);
        client.send(&request);
        let starts = books.starts;
        let until = books.ledger.delivered + 20;
        while books.starts == starts
            || (books.ledger.delivered < until && request["interval_ms"] != 60_000)
        {
            books.take(&client.next());
        }
        if request["interval_ms"] == 60_000 {
            // So that something is held when the next request comes.
            let head = engine.engine.tape().head().0;
            eventually("ticks flow", || engine.engine.tape().head().0 > head + 40);
        }
    }
    over.store(true, Ordering::Relaxed);
    let last = flow.join().expect("the flow ends");
    while books.ledger.last("A", "trade") < last || books.ledger.last("A", "quote") < last {
        books.take(&client.next());
    }
    assert_eq!(books.starts, 8);
    assert_eq!(books.ledger.gapped, 0);
    assert!(books.ledger.skipped > 0, "conflation has skipped something");
}

#[test]
fn replacing_during_a_since_loses_nothing_and_repeats_nothing() {
    const MANY: u64 = 10_000;
    for replacement in [
        json!({"channels": ["trade"], "snapshot": false}),
        json!({"mode": "conflate", "interval_ms": 10, "snapshot": true}),
    ] {
        let engine = TestEngine::start();
        let mut publisher = engine.publisher();
        for begin in (1..=MANY).step_by(1_000) {
            publisher.send(&run("A", 1, begin..=begin + 999));
        }
        publisher.flush();
        let mut client = engine.subscriber();
        let since = json!({"A": {"epoch": 1, "trade": 0}});
        client.send(&json!({"op": "subscribe", "id": 1, "symbols": ["A"], "since": since}));
        let mut books = Continued::default();
        while books.starts == 0 {
            books.take(&client.next());
        }
        // The walk now waits for the socket.
        let mut request = replacement;
        request["op"] = json!("subscribe");
        request["id"] = json!(2);
        request["symbols"] = json!(["A"]);
        client.send(&request);
        let over = Arc::new(AtomicBool::new(false));
        let flow = flow(publisher, MANY, Arc::clone(&over), |seq| {
            numbered("A", 1, seq)
        });
        let mut replayed = false;
        while books.starts < 2 || books.ledger.last("A", "trade") < MANY + 50 {
            let message = client.next();
            if message["type"] == "start" && books.starts == 1 && message["trade"].is_u64() {
                replayed |= books.ledger.last("A", "trade") >= MANY;
            }
            books.take(&message);
        }
        assert!(replayed, "the history came before the replacement");
        over.store(true, Ordering::Relaxed);
        let last = flow.join().expect("the flow ends");
        while books.ledger.last("A", "trade") < last {
            books.take(&client.next());
        }
        assert_eq!(books.ledger.gapped, 0);
    }
}
