//! What the bridge makes of a Redis that dies, lies or refuses, and of hosts that do.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{
    host, host_with, is_in_the_stream, process, read_to, redis_server::RedisServer, states,
};
use crate::{
    harness::{TestEngine, eventually, http_get, trade, whole},
    ledger::Ledger,
    process::Serve,
    resume::run,
};

/// What a subscriber of one host got of what was published on another while Redis was away.
pub struct Outlasted {
    /// Ticks in gaps.
    pub gapped: u64,
    /// How often the feed was stale.
    pub stale: usize,
}

/// Publishes on the first host while Redis is `away`, and holds what a subscriber of the second one gets
/// against it: every tick delivered or in a `gap`, in order, and each `stale` followed by a `live`.
pub fn outlasts(hosts: &[TestEngine; 2], away: impl FnOnce(&mut dyn FnMut())) -> Outlasted {
    let mut publisher = hosts[0].publisher();
    let mut client = hosts[1].subscriber();
    publisher.publish(&run("A", 1, 1..=10));
    client.send(&json!({"op": "subscribe", "symbols": ["A"]}));
    let mut ledger = Ledger::default();
    ledger.take(&client.next_of("start"));
    let mut next = 11;
    let mut publish = || {
        publisher.publish(&run("A", 1, next..=next + 99));
        next += 100;
    };
    publish();
    away(&mut publish);
    publish();
    eventually("both are connected again", || {
        hosts.iter().all(|host| {
            let page = http_get(host.engine.admin_addr(), "/readyz");
            !page.contains("away") && !page.contains("catching")
        })
    });
    publish();
    let came = read_to(&mut client, &mut ledger, "A", next - 1);
    let states = states(&came);
    let in_turn = ["stale", "live"].into_iter().cycle().take(states.len());
    assert!(
        states.len().is_multiple_of(2) && in_turn.eq(states.clone()),
        "{states:?}"
    );
    assert!(
        ledger.reasons.iter().all(|reason| reason == "bridge"),
        "{:?}",
        ledger.reasons
    );
    Outlasted {
        gapped: ledger.gapped,
        stale: states.len() / 2,
    }
}

fn two_hosts(redis: &RedisServer) -> [TestEngine; 2] {
    [host(redis), host(redis)]
}

/// The first entry of each stream, as far as Redis has it.
fn first_entries(redis: &RedisServer) -> [String; 2] {
    let first = |shard| redis.say(&["XRANGE", shard, "-", "+", "COUNT", "1"]);
    ["tickwire:{0}", "tickwire:{1}"].map(first)
}

#[test]
fn redis_is_killed_and_has_its_data_again() {
    let mut redis = RedisServer::that_remembers();
    let outlasted = outlasts(&two_hosts(&redis), |publish| {
        let first = first_entries(&redis);
        redis.kill();
        publish();
        std::thread::sleep(Duration::from_secs(1));
        redis.start_again();
        assert_eq!(first_entries(&redis), first, "it has its data");
        publish();
    });
    assert_eq!(outlasted.gapped, 0);
}

#[test]
fn redis_is_killed_and_comes_back_empty() {
    let mut redis = RedisServer::start();
    outlasts(&two_hosts(&redis), |publish| {
        let first = first_entries(&redis);
        redis.kill();
        publish();
        std::thread::sleep(Duration::from_secs(1));
        redis.start_again();
        assert_ne!(
            first_entries(&redis),
            first,
            "it has nothing of what it had"
        );
        publish();
    });
}

#[test]
fn redis_stops_for_ten_seconds() {
    let redis = RedisServer::start();
    let outlasted = outlasts(&two_hosts(&redis), |publish| {
        redis.signal(Signal::STOP);
        publish();
        std::thread::sleep(Duration::from_secs(10));
        redis.signal(Signal::CONT);
        publish();
    });
    assert_eq!((outlasted.gapped, outlasted.stale), (0, 1));
}

#[test]
fn redis_answers_slowly() {
    let redis = RedisServer::with(&["--enable-debug-command", "yes"]);
    let hosts = two_hosts(&redis);
    let outlasted = outlasts(&hosts, |publish| {
        std::thread::scope(|scope| {
            let sleeps = || {
                for _ in 0..10 {
                    redis.say(&["DEBUG", "SLEEP", "0.3"]);
                }
            };
            let slow = scope.spawn(sleeps);
            while !slow.is_finished() {
                publish();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
    });
    assert_eq!((outlasted.gapped, outlasted.stale), (0, 0));
    for host in &hosts {
        let reconnects = host.metric("tickwire_bridge_reconnects_total", "");
        assert_eq!(reconnects, 0.0, "slow is not away");
    }
}

#[test]
fn a_host_that_is_killed_leaves_its_symbols_stale_within_four_seconds() {
    let redis = RedisServer::start();
    let other = host(&redis);
    let serve = process(&redis.url());
    let mut publisher = serve.connect("/v1/publish", None);
    publisher.publish(&run("A", 1, 1..=3));
    let mut client = other.subscriber();
    client.send(&json!({"op": "subscribe", "symbols": ["A"]}));
    client.next_of("trade");
    let killed = Instant::now();
    serve.process.signal(Signal::KILL);
    assert_eq!(client.next_of("feed")["state"], "stale");
    assert!(
        killed.elapsed() < Duration::from_secs(4),
        "{:?}",
        killed.elapsed()
    );
    drop(publisher);
    // Its successor has another id; the feed goes on where the source is.
    let again = process(&redis.url());
    let mut publisher = again.connect("/v1/publish", None);
    publisher.publish(&run("A", 1, 4..=4));
    assert_eq!(client.next_of("feed")["state"], "live");
    assert_eq!(client.next_of("trade")["seq"], 4);
}

#[test]
fn a_host_that_numbered_a_symbol_and_is_killed_numbers_it_in_a_higher_epoch() {
    let redis = RedisServer::start();
    let other = host(&redis);
    let mut client = other.subscriber();
    client.subscribe(json!({"symbols": ["A"]}));
    let mut epochs = Vec::new();
    for life in 0..2 {
        let serve = process(&redis.url());
        let mut publisher = serve.connect("/v1/publish", None);
        publisher.publish(&json!([trade("A", "1"), trade("A", "2")]));
        if life > 0 {
            assert_eq!(client.next_of("feed")["state"], "live");
        }
        let first = client.next_of("trade");
        assert_eq!(first["seq"], 1, "{first}");
        assert_eq!(client.next_of("trade")["seq"], 2);
        epochs.push(first["epoch"].as_u64().expect("an epoch"));
        let killed = Instant::now();
        serve.process.signal(Signal::KILL);
        assert_eq!(client.next_of("feed")["state"], "stale");
        assert!(killed.elapsed() < Duration::from_secs(4));
    }
    assert!(epochs[0] < epochs[1], "{epochs:?}");
}

#[test]
fn a_foreign_entry_is_passed_over() {
    let redis = RedisServer::start();
    let hosts = two_hosts(&redis);
    for shard in ["tickwire:{0}", "tickwire:{1}"] {
        redis.say(&["XADD", shard, "*", "e", "nonsense"]);
        redis.say(&["XADD", shard, "*", "foreign", "field"]);
    }
    let mut publisher = hosts[0].publisher();
    let mut client = hosts[1].subscriber();
    client.subscribe(json!({"symbols": ["A"]}));
    publisher.publish(&run("A", 1, 1..=3));
    let mut ledger = Ledger::default();
    read_to(&mut client, &mut ledger, "A", 3);
    assert_eq!((ledger.delivered, ledger.gapped), (3, 0));
    eventually("they are counted", || {
        hosts[1].metric("tickwire_bridge_bad_entries_total", "") == 4.0
    });
}

#[test]
fn a_wrong_password_is_told_and_mended() {
    let redis = RedisServer::with(&["--requirepass", "right"]);
    let file = redis.folder().join("password");
    std::fs::write(&file, "wrong\n").expect("a file");
    let engine = TestEngine::with(|config| {
        config.redis = [redis.url()].into_iter().collect();
        config.redis_password_file = Some(file.clone());
        config.bridge_backlog = 1 << 15;
    });
    eventually("it is refused", || {
        whole(engine.metric("tickwire_bridge_reconnects_total", "")) >= 2
    });
    let page = http_get(engine.engine.admin_addr(), "/readyz");
    assert!(page.contains("away"), "{page}");
    // Local ticks are none of Redis's business.
    let mut publisher = engine.publisher();
    let mut client = engine.subscriber();
    client.send(&json!({"op": "subscribe", "symbols": ["A"]}));
    publisher.publish(&run("A", 1, 1..=1));
    assert_eq!(client.next_of("trade")["seq"], 1);
    std::fs::write(&file, "right\n").expect("a file");
    eventually("it is let in once the file has the password", || {
        !http_get(engine.engine.admin_addr(), "/readyz").contains("away")
    });
}

#[test]
fn a_full_redis_and_a_replica_take_nothing_and_lose_nothing() {
    let redis = RedisServer::start();
    let hosts = two_hosts(&redis);
    let mut publisher = hosts[0].publisher();
    let mut client = hosts[1].subscriber();
    client.subscribe(json!({"symbols": ["A"]}));
    publisher.publish(&run("A", 1, 1..=10));
    let mut ledger = Ledger::default();
    read_to(&mut client, &mut ledger, "A", 10);
    redis.say(&["CONFIG", "SET", "maxmemory", "1"]);
    publisher.publish(&run("A", 1, 11..=20));
    eventually("it is refused", || {
        whole(hosts[0].metric("tickwire_bridge_reconnects_total", "")) >= 1
    });
    redis.say(&["CONFIG", "SET", "maxmemory", "0"]);
    read_to(&mut client, &mut ledger, "A", 20);
    let refusals = || whole(hosts[0].metric("tickwire_bridge_reconnects_total", ""));
    let before = refusals();
    redis.say(&["REPLICAOF", "127.0.0.1", "1"]);
    publisher.publish(&run("A", 1, 21..=30));
    eventually("a replica takes nothing", || refusals() > before);
    redis.say(&["REPLICAOF", "NO", "ONE"]);
    read_to(&mut client, &mut ledger, "A", 30);
    assert_eq!((ledger.delivered, ledger.gapped), (30, 0));
}

#[test]
fn who_was_away_for_longer_than_the_stream_reaches_has_a_gap() {
    let redis = RedisServer::start();
    let first = host_with(&redis, |config| {
        config.bridge_batch_bytes = 256;
        config.redis_stream_entries = 100;
    });
    let serve = process(&redis.url());
    let mut publisher = first.publisher();
    let mut client = serve.connect("/v1/ws", None);
    client.subscribe(json!({"symbols": ["A"]}));
    publisher.publish(&run("A", 1, 1..=10));
    let mut ledger = Ledger::default();
    read_to(&mut client, &mut ledger, "A", 10);
    serve.process.signal(Signal::STOP);
    publisher.publish(&run("A", 1, 11..=3_000));
    is_in_the_stream(&first);
    let kept = redis.say(&["XLEN", "tickwire:{0}"]).trim().parse();
    assert!(kept.is_ok_and(|kept: u64| (100..400).contains(&kept)));
    serve.process.signal(Signal::CONT);
    publisher.publish(&run("A", 1, 3_001..=3_001));
    read_to(&mut client, &mut ledger, "A", 3_001);
    assert_eq!(ledger.delivered + ledger.gapped, 3_001);
    assert!(ledger.gapped > 0);
    assert!(
        ledger.reasons.iter().all(|reason| reason == "bridge"),
        "{:?}",
        ledger.reasons
    );
}

/// How long the one connection that adds entries waits until it tries again, where a log line says so, s.
fn pause_of_sender(line: &str) -> Option<f64> {
    let (_, wait) = line.split_once("redis is away")?.1.split_once("wait=")?;
    let seconds = wait.split_once('s').map(|(number, _)| number.parse());
    line.contains("side=\"out\"").then_some(seconds?.ok()?)
}

#[test]
fn a_host_that_ends_while_redis_was_away_tries_once_more() {
    let mut redis = RedisServer::that_remembers();
    let other = host_with(&redis, |config| config.redis_shards = 1);
    let url = format!("--redis={}", redis.url());
    let serve = Serve::with(&[&url, "--set=bridge_backlog=32768"]);
    let mut publisher = serve.connect("/v1/publish", None);
    let mut client = other.subscriber();
    client.subscribe(json!({"symbols": ["A"]}));
    publisher.publish(&run("A", 1, 1..=10));
    let mut ledger = Ledger::default();
    read_to(&mut client, &mut ledger, "A", 10);
    redis.kill();
    publisher.publish(&run("A", 1, 11..=20));
    // A publisher that says nothing to a goodbye would hold the drain up.
    drop(publisher);
    // So long that without another try it ends before that.
    serve
        .process
        .stderr_line(|line| pause_of_sender(line).filter(|&pause| pause > 1.5));
    redis.start_again();
    serve.process.signal(Signal::TERM);
    read_to(&mut client, &mut ledger, "A", 20);
    assert_eq!((ledger.delivered, ledger.gapped), (20, 0));
}
