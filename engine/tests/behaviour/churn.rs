//! Connections that come and go leave nothing behind.

use serde_json::json;

use crate::{
    harness::{eventually, http_get, metric, trade, whole},
    process::Serve,
    resume::run,
};

const CONNECTIONS: usize = 300;
const ROUNDS: usize = 3;

/// The sum of a gauge over its labels.
fn gauge(serve: &Serve, name: &str) -> u64 {
    whole(metric(&http_get(serve.admin, "/metrics"), name, ""))
}

fn open_files(serve: &Serve) -> usize {
    let path = format!("/proc/{}/fd", serve.process.id());
    std::fs::read_dir(path).expect("a process").count()
}

/// Connections that subscribe to a pattern, some with a `since` or a replay, and end in three ways.
fn round(serve: &Serve, connections: usize) {
    let mut clients: Vec<_> = (0..connections)
        .map(|_| serve.connect("/v1/ws", None))
        .collect();
    for (index, client) in clients.iter_mut().enumerate() {
        let since = json!({"A1": {"epoch": 1, "trade": 0}});
        match index % 3 {
            0 => client.send(&json!({"op": "subscribe", "symbols": ["A*", "PENDING"]})),
            1 => client.send(&json!({"op": "subscribe", "symbols": ["A*"], "since": since})),
            _ => {
                client.send(&json!({"op": "subscribe", "symbols": ["A*"], "mode": "conflate"}));
                client.send(&json!({"op": "replay", "id": 1, "symbols": ["A*"], "since": since}));
            }
        }
    }
    for (index, mut client) in clients.into_iter().enumerate() {
        match index % 4 {
            0 => assert_eq!(client.next_of("ack")["op"], "subscribe"),
            1 => {
                client.socket.close(None).expect("a close frame");
                while client.socket.read().is_ok() {}
            }
            2 => {
                client.next_of("trade");
            }
            _ => {}
        }
    }
}

#[test]
fn connections_that_come_and_go_leave_no_count_and_no_file_behind() {
    // On a busy machine a round takes its time to connect.
    let serve = Serve::with(&[
        "--set=heartbeat_ms=500",
        "--set=first_subscribe_s=600",
        "--set=ping_idle_s=600",
    ]);
    let mut publisher = serve.connect("/v1/publish", None);
    for symbol in 0..20 {
        publisher.send(&run(&format!("A{symbol}"), 1, 1..=100));
    }
    publisher.publish(&trade("B", "1"));
    drop(publisher);
    let gauges = [
        "tickwire_floor_connections",
        "tickwire_connections",
        "tickwire_subscriptions",
        "tickwire_replays",
        "tickwire_timers",
    ];
    let is_empty = || gauges.iter().all(|name| gauge(&serve, name) == 0);
    // What the engine opens with its first connection stays.
    round(&serve, 1);
    eventually("nothing is left of the first", is_empty);
    let files = open_files(&serve);
    for _ in 0..ROUNDS {
        round(&serve, CONNECTIONS);
        eventually("nothing is left of a round", is_empty);
        // The scrape's own connection may still be open.
        eventually("the files are closed", || open_files(&serve) <= files);
    }
}

/// What the process has of the machine's memory, KiB (`proc(5)`, `VmRSS`).
fn resident_kib(serve: &Serve) -> u64 {
    let path = format!("/proc/{}/status", serve.process.id());
    let status = std::fs::read_to_string(path).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse().ok()).expect("a size")
}

#[test]
fn the_memory_of_a_crowd_goes_back_to_the_system_once_it_has_left() {
    let serve = Serve::with(&["--set=first_subscribe_s=600", "--set=ping_idle_s=600"]);
    let before = resident_kib(&serve);
    let crowd: Vec<_> = (0..CONNECTIONS)
        .map(|client| {
            let mut connection = serve.connect("/v1/ws", None);
            let symbols: Vec<_> = (0..500)
                .map(|symbol| format!("{client}-{symbol}"))
                .collect();
            connection.send(&json!({"op": "subscribe", "symbols": symbols}));
            connection.next_of("ack");
            connection
        })
        .collect();
    let with_all = resident_kib(&serve);
    assert!(with_all > before + 8 * 1_024, "{before} → {with_all} KiB");
    drop(crowd);
    // Some of it, such as the floor's buffers, is there for the next one.
    eventually("most of it goes back", || {
        resident_kib(&serve) < before + (with_all - before) / 3
    });
}
