//! Several engines and a real Redis between them.

mod cut_off;
mod failover;
mod faults;
mod memory;
mod moving;
mod redis_server;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tickwire_engine::config::Config;

use self::redis_server::RedisServer;
use crate::{
    harness::{Client, TestEngine, eventually, http_get, numbered, trade, whole},
    ledger::Ledger,
    process::Serve,
    resume::run,
};

/// An engine that shares ticks through `redis`, ready.
fn host(redis: &RedisServer) -> TestEngine {
    host_with(redis, |_| {})
}

fn host_with(redis: &RedisServer, change: impl FnOnce(&mut Config)) -> TestEngine {
    host_at(&[redis.url()], change)
}

fn host_at(urls: &[String], change: impl FnOnce(&mut Config)) -> TestEngine {
    let engine = TestEngine::with(|config| {
        config.redis = urls.iter().cloned().collect();
        config.redis_shards = 2;
        config.bridge_backlog = 1 << 15;
        change(config);
    });
    eventually("the host has caught up", || {
        http_get(engine.engine.admin_addr(), "/readyz").contains("ready\n")
    });
    engine
}

/// A host in a process of its own, which can be stopped and killed.
fn process(urls: &str) -> Serve {
    let redis = format!("--redis={urls}");
    Serve::with(&[&redis, "--redis-shards=2", "--set=bridge_backlog=32768"])
}

/// Waits until Redis has confirmed all that was published on a host.
fn is_in_the_stream(host: &TestEngine) {
    // The metrics are brought up to date every quarter of a second.
    std::thread::sleep(Duration::from_millis(600));
    eventually("all of it is in the stream", || {
        let waits = ["tickwire_bridge_queue", "tickwire_bridge_behind"];
        waits.iter().all(|name| host.metric(name, "") == 0.0)
    });
}

/// Reads until the last tick or gap of `symbol` reaches `seq`; what came.
fn read_to(client: &mut Client, ledger: &mut Ledger, symbol: &str, seq: u64) -> Vec<Value> {
    let mut came = Vec::new();
    loop {
        let message = client.next_event();
        ledger.take(&message);
        let reached = match message["type"].as_str() {
            Some("trade") => message["seq"].as_u64(),
            Some("gap") => message["to"].as_u64(),
            _ => None,
        };
        let ends = message["symbol"] == symbol && reached >= Some(seq);
        came.push(message);
        if ends {
            return came;
        }
    }
}

fn states(messages: &[Value]) -> Vec<&str> {
    let feeds = messages.iter().filter(|message| message["type"] == "feed");
    feeds
        .filter_map(|message| message["state"].as_str())
        .collect()
}

#[test]
fn what_is_published_on_one_host_is_delivered_on_all() {
    let redis = RedisServer::start();
    let hosts: Vec<TestEngine> = (0..3).map(|_| host(&redis)).collect();
    let mut clients: Vec<_> = hosts
        .iter()
        .map(|host| {
            let mut client = host.subscriber();
            client.subscribe(json!({"symbols": ["*"]}));
            client
        })
        .collect();
    let mut publishers: Vec<_> = hosts[..2].iter().map(TestEngine::publisher).collect();
    for first in (1..=2_000).step_by(100) {
        for (publisher, symbol) in publishers.iter_mut().zip(["A", "B"]) {
            publisher.publish(&run(symbol, 1, first..=first + 99));
        }
    }
    for client in &mut clients {
        let mut ledger = Ledger::default();
        let (mut a, mut b) = (0, 0);
        while (a, b) != (2_000, 2_000) {
            let message = client.next_event();
            ledger.take(&message);
            if let Some(seq) = message["seq"].as_u64() {
                match message["symbol"].as_str() {
                    Some("A") => a = seq,
                    _ => b = seq,
                }
            }
        }
        assert_eq!((ledger.delivered, ledger.gapped), (4_000, 0));
    }
    let sent: u64 = hosts
        .iter()
        .map(|host| whole(host.metric("tickwire_bridge_entries_total", r#"way="out""#)))
        .sum();
    assert!(sent > 0);
    for host in &hosts {
        assert_eq!(host.metric("tickwire_bridge_missing_total", ""), 0.0);
        assert_eq!(host.metric("tickwire_bridge_bad_entries_total", ""), 0.0);
    }
}

#[test]
fn a_tick_goes_at_once_beside_those_of_other_hosts() {
    let redis = RedisServer::start();
    let hosts: Vec<TestEngine> = (0..2).map(|_| host(&redis)).collect();
    let mut publishers: Vec<_> = hosts.iter().map(TestEngine::publisher).collect();
    let mut clients: Vec<_> = hosts.iter().map(TestEngine::subscriber).collect();
    for client in &mut clients {
        client.subscribe(json!({"symbols": ["*"]}));
    }
    let mut ledgers = [Ledger::default(), Ledger::default()];
    let began = Instant::now();
    for seq in 1..=20 {
        // In turn, each once the other one's has come.
        for (host, symbol) in ["A", "B"].into_iter().enumerate() {
            publishers[host].publish(&json!([numbered(symbol, 1, seq)]));
            let there = 1 - host;
            read_to(&mut clients[there], &mut ledgers[there], symbol, seq);
        }
    }
    // With what a host says each second, whatever there is, it would take twenty.
    assert!(began.elapsed() < Duration::from_secs(8));
}

#[test]
fn redundant_publishers_on_two_hosts_are_one_feed() {
    let redis = RedisServer::start();
    // What one lacks comes from the other in time, however busy the machine is.
    let patient = |config: &mut Config| {
        config.arbitration_ms = 2_000;
        config.redis_shards = 1;
    };
    let hosts: Vec<TestEngine> = (0..2).map(|_| host_with(&redis, patient)).collect();
    let mut publishers: Vec<_> = hosts.iter().map(TestEngine::publisher).collect();
    let mut clients: Vec<_> = hosts.iter().map(TestEngine::subscriber).collect();
    for client in &mut clients {
        client.subscribe(json!({"symbols": ["A"]}));
    }
    for (publisher, own) in publishers.iter_mut().zip(["B", "C"]) {
        publisher.publish(&run("A", 1, 1..=1));
        publisher.publish(&run(own, 1, 1..=1));
    }
    // Behind its A in the stream.
    eventually("each knows what the other one has", || {
        let mut hosts = hosts.iter();
        hosts.all(|host| host.metric("tickwire_symbols", "") == 3.0)
    });
    // Each lacks what the other one has.
    for seq in 2..=200 {
        publishers[seq as usize % 2].publish(&json!([numbered("A", 1, seq)]));
    }
    for client in &mut clients {
        let mut ledger = Ledger::default();
        read_to(client, &mut ledger, "A", 200);
        assert_eq!((ledger.delivered, ledger.gapped), (200, 0));
    }
}

#[test]
fn a_host_that_comes_later_has_snapshots_and_history() {
    let redis = RedisServer::start();
    let first = host(&redis);
    let mut publisher = first.publisher();
    publisher.publish(&run("A", 1, 1..=50));
    let second = host(&redis);
    let mut client = second.subscriber();
    client.send(&json!({"op": "subscribe", "id": 1, "symbols": ["A"]}));
    let snapshot = client.next_of("trade");
    assert_eq!(
        (&snapshot["seq"], &snapshot["snapshot"]),
        (&json!(50), &json!(true))
    );
    client.send(
        &json!({"op": "replay", "id": 2, "symbols": ["A"], "since": {"A": {"epoch": 1, "trade": 10}}}),
    );
    let mut seqs = Vec::new();
    loop {
        let message = client.next_event();
        match message["type"].as_str() {
            Some("trade") => seqs.extend(message["seq"].as_u64()),
            Some("replayed") => break,
            _ => {}
        }
    }
    assert_eq!(seqs, (11..=50).collect::<Vec<_>>());
}

#[test]
fn a_host_numbers_what_no_other_host_does() {
    let redis = RedisServer::start();
    let first = host(&redis);
    let mut publisher = first.publisher();
    publisher.publish(&json!([trade("A", "1")]));
    let second = host(&redis);
    let mut client = first.subscriber();
    client.send(&json!({"op": "subscribe", "symbols": ["A"]}));
    client.next_of("trade");
    // Started later, it takes over; the first is told that it has lost the symbol.
    let mut other = second.publisher();
    eventually("the second host knows the symbol", || {
        second.metric("tickwire_symbols", "") == 1.0
    });
    other.publish(&json!([trade("A", "2")]));
    let taken_over = client.next_of("trade");
    assert_eq!(
        (&taken_over["price"], &taken_over["seq"]),
        (&json!("2"), &json!(1))
    );
    publisher.send(&json!([trade("A", "3")]));
    assert_eq!(publisher.next_of("error")["code"], "not_owner");
}
