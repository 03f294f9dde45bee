//! Three floors, more than this machine may have cores.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use tickwire_engine::config::Idle;
use tickwire_proto::symbol::Symbol;

use crate::{
    harness::{Client, TestEngine, numbered, whole},
    ledger::Ledger,
};

const FLOORS: usize = 3;
const SYMBOLS: usize = 6;

fn engine(idle: Idle) -> TestEngine {
    TestEngine::with(|config| {
        config.floors = FLOORS;
        config.idle = idle;
        // No heartbeat wakes a floor that ingest forgot to wake.
        config.heartbeat_ms = 60_000;
    })
}

/// A subscriber by query to each symbol, and one to all of them on each floor.
fn subscribers(engine: &TestEngine) -> Vec<(Client, Ledger, Option<usize>)> {
    let of =
        |query: String| engine.connect(&format!("/v1/ws?symbols={query}"), &engine.token(), None);
    let exact = (0..SYMBOLS).map(|symbol| (of(format!("S{symbol}")), Some(symbol)));
    let wide = (0..2 * FLOORS).map(|_| (of("*".to_owned()), None));
    exact
        .chain(wide)
        .map(|(client, symbol)| (client, Ledger::default(), symbol))
        .collect()
}

/// Reads until the client knows everything up to `seq` of what it follows.
fn catch_up(client: &mut Client, ledger: &mut Ledger, symbol: Option<usize>, seq: u64) {
    let followed = |symbol: usize| format!("S{symbol}");
    let symbols: Vec<_> = symbol.map_or_else(
        || (0..SYMBOLS).map(followed).collect(),
        |symbol| vec![followed(symbol)],
    );
    while symbols
        .iter()
        .any(|symbol| ledger.last(symbol, "trade") < seq)
    {
        ledger.take(&client.next());
    }
    assert_eq!(ledger.delivered, seq * symbols.len() as u64);
}

fn no_wake_is_lost(idle: Idle, bursts: u64) {
    let engine = engine(idle);
    let mut clients = subscribers(&engine);
    for (client, ..) in &mut clients {
        client.next_of("ack");
    }
    let shared: Vec<_> = (0..FLOORS)
        .map(|floor| {
            whole(engine.metric("tickwire_floor_connections", &format!("floor=\"{floor}\"")))
        })
        .collect();
    assert!(
        shared.iter().all(|&connections| connections >= 1),
        "{shared:?}"
    );
    assert_eq!(shared.iter().sum::<u64>(), clients.len() as u64);
    let mut publisher = engine.publisher();
    for burst in 1..=bursts {
        for symbol in 0..SYMBOLS {
            publisher.send(&json!([
                numbered(&format!("S{symbol}"), 1, 2 * burst - 1),
                numbered(&format!("S{symbol}"), 1, 2 * burst)
            ]));
        }
        for (client, ledger, symbol) in &mut clients {
            catch_up(client, ledger, *symbol, 2 * burst);
        }
        // Long enough to fall asleep, or just about.
        thread::sleep(Duration::from_micros(200 * (burst % 20)));
    }
}

#[test]
fn no_wake_is_lost_over_short_bursts_when_floors_park() {
    no_wake_is_lost(Idle::Park, 100);
}

#[test]
fn no_wake_is_lost_over_short_bursts_when_floors_spin_a_while_or_always() {
    no_wake_is_lost(Idle::Hybrid, 50);
    no_wake_is_lost(Idle::Spin, 10);
}

#[test]
fn only_floors_with_a_subscriber_are_of_interest_and_each_comes_and_goes() {
    let engine = engine(Idle::Park);
    let mut publisher = engine.publisher();
    publisher.publish(&json!([numbered("X", 1, 1), numbered("Y", 1, 1)]));
    let id = |name: &str| {
        let tape = engine.engine.tape();
        let name = Symbol::parse(name).expect("a symbol");
        (0..tape.symbols())
            .map(tickwire_engine::tape::SymbolId)
            .find(|id| tape.name(*id) == name)
            .expect("a known symbol")
    };
    let (x, y) = (id("X"), id("Y"));
    let interest = |id| engine.engine.tape().interest(id);
    let mut clients: Vec<_> = (0..FLOORS).map(|_| engine.subscriber()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.subscribe(json!({"symbols": ["X"], "snapshot": false}));
        client.next_of("start");
        assert_eq!(interest(x).count_ones(), index as u32 + 1);
    }
    assert_eq!(interest(y), 0);
    // Y wakes nobody, and X right behind it everybody, many times.
    for seq in 2..=60 {
        publisher.send(&json!([numbered("Y", 1, seq), numbered("X", 1, seq)]));
        for client in &mut clients {
            assert_eq!(client.next_of("trade")["seq"], seq);
        }
    }
    clients.pop();
    let until = Instant::now() + crate::harness::PATIENCE;
    while interest(x).count_ones() != FLOORS as u32 - 1 {
        assert!(Instant::now() < until, "the floor lost its interest");
        thread::sleep(Duration::from_millis(2));
    }
}
