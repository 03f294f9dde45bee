//! What the hash beside a stream remembers of symbols once the stream has forgotten them.

use serde_json::json;

use super::{host, host_with, is_in_the_stream, redis_server::RedisServer};
use crate::{
    harness::{TestEngine, eventually},
    resume::run,
};

const SHARDS: [&str; 2] = ["tickwire:{0}", "tickwire:{1}"];

/// How many symbols are remembered.
fn remembered(redis: &RedisServer) -> u64 {
    let counts = SHARDS.map(|shard| redis.say(&["HLEN", &format!("{shard}:last")]));
    let counts = counts.iter().map(|count| count.trim().parse::<u64>());
    counts.map(|count| count.expect("a number")).sum()
}

/// A host where A was published up to 50, of which the streams know nothing any more.
fn forgotten(redis: &RedisServer) -> TestEngine {
    let host = host(redis);
    let mut publisher = host.publisher();
    publisher.publish(&run("A", 1, 1..=50));
    // It leaves at once; what it sent last is remembered all the same.
    drop(publisher);
    is_in_the_stream(&host);
    eventually("it is remembered", || remembered(redis) == 1);
    for shard in SHARDS {
        redis.say(&["XTRIM", shard, "MAXLEN", "0"]);
    }
    host
}

#[test]
fn a_symbol_that_the_stream_has_forgotten_has_its_snapshot_still() {
    let redis = RedisServer::start();
    let _first = forgotten(&redis);
    let second = host(&redis);
    let mut client = second.subscriber();
    client.send(&json!({"op": "subscribe", "symbols": ["A"]}));
    assert_eq!(client.next_of("feed")["state"], "stale");
    let snapshot = client.next_of("trade");
    assert_eq!(
        (&snapshot["seq"], &snapshot["snapshot"]),
        (&json!(50), &json!(true))
    );
}

#[test]
fn what_nobody_renews_is_forgotten() {
    let redis = RedisServer::start();
    let _first = forgotten(&redis);
    let second = host_with(&redis, |config| config.redis_memory_s = 0);
    assert_eq!(remembered(&redis), 0);
    assert_eq!(second.metric("tickwire_symbols", ""), 0.0);
}
