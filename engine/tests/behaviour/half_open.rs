//! Connections that never become one: silent, or slower than they may be.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{PATIENCE, TestEngine, eventually, trade, whole};

const SILENT: usize = 2_000;
const PLACES: usize = 256;
const HEAD_TIMEOUT: Duration = Duration::from_secs(1);
/// For a machine that has other things to do.
const SLACK: Duration = Duration::from_secs(4);

/// The status of what the engine says to its end: 0 where it only closes.
fn status(mut stream: TcpStream) -> u16 {
    let mut answer = Vec::new();
    // A refusal may be followed by a reset.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1);
    status.and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[test]
fn thousands_that_say_half_a_head_end_by_their_deadline_and_hurt_nobody() {
    let engine = TestEngine::with(|config| {
        config.half_open_max = PLACES;
        config.head_timeout_ms = HEAD_TIMEOUT.as_millis() as u64;
    });
    let mut subscriber = engine.subscriber();
    subscriber.subscribe(json!({"symbols": ["A"]}));
    let mut publisher = engine.publisher();
    let began = Instant::now();
    let silent: Vec<TcpStream> = (0..SILENT)
        .map(|_| {
            let mut stream = TcpStream::connect(engine.engine.listen_addr()).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("an option");
            // Whom there is no place for may be closed already.
            let _ = stream.write_all(b"GET /v1/ws HTTP/1.1\r\n");
            stream
        })
        .collect();
    for seq in 1..=100 {
        publisher.send(&trade("A", "1"));
        assert_eq!(subscriber.next_of("trade")["seq"], seq);
        assert!(whole(engine.metric("tickwire_half_open", "")) <= PLACES as u64);
    }
    let statuses: Vec<u16> = silent.into_iter().map(status).collect();
    assert!(
        began.elapsed() < HEAD_TIMEOUT + SLACK,
        "{:?}",
        began.elapsed()
    );
    let timed_out = statuses.iter().filter(|status| **status == 408).count();
    let refused = statuses.iter().filter(|status| [0, 503].contains(*status));
    assert!(timed_out >= PLACES, "{timed_out}");
    assert_eq!(timed_out + refused.count(), SILENT);
    eventually("all places are free", || {
        engine.metric("tickwire_half_open", "") == 0.0
    });
    let ended = |reason| whole(engine.metric("tickwire_handshakes_total", reason));
    assert_eq!(ended("\"timeout\""), timed_out as u64);
    assert_eq!(ended("\"at_capacity\""), (SILENT - timed_out) as u64);
    engine.subscriber();
}

#[test]
fn a_head_that_comes_byte_by_byte_is_408_by_the_same_deadline() {
    let engine = TestEngine::with(|config| config.head_timeout_ms = 300);
    let began = Instant::now();
    let mut stream = TcpStream::connect(engine.engine.listen_addr()).expect("a connection");
    let pause = Duration::from_millis(20);
    stream.set_read_timeout(Some(pause)).expect("an option");
    let mut answer = [0; 12];
    loop {
        // At the end a write may meet a closed connection.
        let _ = stream.write_all(b"G");
        match stream.read_exact(&mut answer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            read => break read.expect("an answer"),
        }
    }
    assert_eq!(&answer, b"HTTP/1.1 408");
    let ended = began.elapsed();
    assert!(ended >= Duration::from_millis(300), "{ended:?}");
    assert!(ended < SLACK, "{ended:?}");
}
