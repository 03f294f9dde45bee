//! Cursors: when they come, and that everything before them has come.

use std::time::{Duration, Instant};

use serde_json::json;
use tickwire_proto::{cursor::Cursor, reply::Reply};

use crate::{
    harness::{TestEngine, numbered},
    resume::{run, seqs, to_replayed},
    wire_sbe::Receiver,
};

const BOTH: [&str; 2] = ["tickwire.v1.json", "tickwire.v1.sbe"];

#[test]
fn cursors_come_at_most_once_a_second_while_ticks_flow_each_behind_what_it_covers() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    let mut clients = BOTH.map(|name| Receiver::connect(&engine, name));
    for client in &mut clients {
        client
            .client
            .send(&json!({"op": "subscribe", "symbols": ["A"]}));
    }
    let begin = Instant::now();
    let flow = std::thread::spawn(move || {
        let mut seq = 0;
        while begin.elapsed() < Duration::from_millis(2_300) {
            seq += 1;
            publisher.publish(&numbered("A", 1, seq));
            std::thread::sleep(Duration::from_millis(3));
        }
        seq
    });
    let mut told: [Vec<(u64, Cursor)>; 2] = [Vec::new(), Vec::new()];
    let mut last = [0; 2];
    let readers = clients.into_iter().zip(&mut told).zip(&mut last);
    std::thread::scope(|scope| {
        for ((mut client, told), last) in readers {
            let flow = &flow;
            scope.spawn(move || {
                while !flow.is_finished() {
                    match client.next() {
                        Some(Reply::Tick(tick, _)) => *last = tick.identity.seq,
                        Some(Reply::Cursor(cursor)) => told.push((*last, cursor)),
                        _ => {}
                    }
                }
            });
        }
    });
    let total = flow.join().expect("the flow ends");
    for told in told {
        // At once when subscribed, then with the flow: at 1 s and 2 s, give or take the first tick.
        assert!((2..=4).contains(&told.len()), "{told:?}");
        assert!(
            told.is_sorted_by(|(_, a), (_, b)| a.position < b.position),
            "{told:?}"
        );
        for (covered, cursor) in told {
            let mut late = engine.subscriber();
            late.subscribe(json!({"symbols": ["A"], "since": {"cursor": cursor.to_string()}}));
            let rest = seqs(&to_replayed(&mut late));
            assert_eq!(rest, (covered + 1..=total).collect::<Vec<_>>());
        }
    }
}

#[test]
fn no_cursor_comes_while_a_since_is_unfinished_and_the_first_at_once_after() {
    const MANY: u64 = 20_000;
    let engine = TestEngine::with(|config| config.heartbeat_ms = 60_000);
    let mut publisher = engine.publisher();
    for begin in (1..=MANY).step_by(1_000) {
        publisher.send(&run("A", 1, begin..=begin + 999));
    }
    publisher.flush();
    for name in BOTH {
        let mut client = Receiver::connect(&engine, name);
        client
            .client
            .send(&json!({"op": "subscribe", "symbols": ["B"]}));
        client
            .client
            .send(&json!({"op": "subscribe", "symbols": ["A"],
            "since": {"A": {"epoch": 1, "trade": 0}}}));
        let mut ticks = 0;
        let mut replayed = false;
        loop {
            match client.next().expect("the connection stays") {
                Reply::Tick(tick, _) => {
                    ticks += 1;
                    // Slow enough for a cursor to be due, were it allowed.
                    if tick.identity.seq % (MANY / 2) == 0 {
                        std::thread::sleep(Duration::from_millis(600));
                    }
                }
                Reply::Replayed { .. } => replayed = true,
                Reply::Cursor(_) if replayed => break,
                // The one of the subscription before, where it was complete in time.
                Reply::Cursor(_) => assert_eq!(ticks, 0, "a cursor within the since"),
                other => assert!(!replayed, "{other:?} came before the cursor"),
            }
        }
        assert_eq!(ticks, MANY);
    }
}

#[test]
fn a_cursor_comes_before_a_heartbeat_when_the_position_moved() {
    let engine = TestEngine::with(|config| config.heartbeat_ms = 150);
    let mut publisher = engine.publisher();
    let mut seq = 1;
    publisher.publish(&numbered("B", 1, seq));
    for name in BOTH {
        let mut client = Receiver::connect(&engine, name);
        client
            .client
            .send(&json!({"op": "subscribe", "symbols": ["A"]}));
        let heartbeat = |client: &mut Receiver| {
            let mut cursors = Vec::new();
            loop {
                match client.next().expect("the connection stays") {
                    Reply::Heartbeat { .. } => return cursors,
                    Reply::Cursor(cursor) => cursors.push(cursor.position),
                    _ => {}
                }
            }
        };
        let first = heartbeat(&mut client);
        assert_eq!(first.len(), 1, "the first follows the subscription");
        let none: [u64; 0] = [];
        assert_eq!(heartbeat(&mut client), none, "nothing moved");
        seq += 1;
        publisher.publish(&numbered("B", 1, seq));
        // A heartbeat may have been under way.
        let told: Vec<_> = (0..3).map(|_| heartbeat(&mut client)).collect();
        let moved: Vec<_> = told.iter().flatten().collect();
        assert_eq!(moved.len(), 1, "{told:?}");
        assert!(*moved[0] > first[0], "{told:?}");
    }
}

#[test]
fn the_last_cursor_stands_behind_everything_before_a_draining_close() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    let mut clients = BOTH.map(|name| Receiver::connect(&engine, name));
    for client in &mut clients {
        client
            .client
            .send(&json!({"op": "subscribe", "symbols": ["A"]}));
        while !matches!(client.next(), Some(Reply::Cursor(_))) {}
    }
    publisher.publish(&run("A", 1, 1..=50));
    let head = engine.engine.tape().head().0;
    let drained = std::thread::spawn(move || engine.engine.drain());
    for mut client in clients {
        let mut replies = Vec::new();
        while let Some(reply) = client.next() {
            replies.push(reply);
        }
        let [.., before, Reply::Cursor(cursor), Reply::Goodbye { .. }] = &replies[..] else {
            panic!("{replies:?}");
        };
        assert!(!matches!(before, Reply::Cursor(_)));
        let ticks = replies
            .iter()
            .filter(|reply| matches!(reply, Reply::Tick(..)));
        assert_eq!(ticks.count(), 50);
        assert!(cursor.position >= head, "{} of {head}", cursor.position);
        // Ends the close handshake.
        let _ = client.client.socket.flush();
    }
    drop(publisher);
    assert!(drained.join().expect("no panic"), "drained in time");
}
