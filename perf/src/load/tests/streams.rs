//! Subscribers of event streams.

use std::io::{BufRead, BufReader, Write};

use super::*;

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n";

/// A server that answers each of `connections` requests with `script`, one after the other.
fn server(
    connections: usize,
    script: impl Fn(usize, &mut TcpStream) + Send + 'static,
) -> (SocketAddr, JoinHandle<Vec<TcpStream>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        let accepted = (0..connections).map(|index| {
            let mut stream = listener.accept().unwrap().0;
            stream.set_nodelay(true).unwrap();
            let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
            let request = lines.next().unwrap();
            assert_eq!(request, "GET /v1/sse?snapshot=false&symbols=A HTTP/1.1");
            assert!(lines.any(|line| line.is_empty()));
            script(index, &mut stream);
            stream
        });
        accepted.collect()
    };
    (address, thread::spawn(serve))
}

fn edge() -> Box<dyn Dialect> {
    crate::dialect::named("tickwire-sse").unwrap()
}

fn event(seq: u64) -> String {
    let tick = r#"{"type":"trade","symbol":"A","epoch":1,"#;
    format!("event: trade\ndata: {tick}\"seq\":{seq},\"ts\":1,\"price\":\"1\"}}\n\n")
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// What a subscriber gets: events alone in a chunk, several in one, and one in two.
fn body() -> String {
    let (half, rest) = (event(4), event(5));
    let (half, behind) = half.split_at(20);
    let texts = [
        "retry: 1000\n\n",
        &event(1),
        "id: 7\n\n",
        &(event(2) + ":\n\n" + &event(3)),
        half,
        &(behind.to_owned() + &rest),
    ];
    texts.map(chunk).concat()
}

fn received(load: &mut Load<'_>, clock: Clock, ticks: u64) -> Counts {
    let all = |tally: &Tally| tally.counts.delivered >= ticks || tally.lost > 0;
    load.run_until(clock.now_us() + PATIENCE_US, all).unwrap();
    load.tally().counts
}

#[test]
fn events_are_checked_and_counted_however_they_are_cut() {
    let clock = Clock::start();
    let (url, serving) = server(4, |index, stream| {
        let text = if index == 3 {
            let events: Vec<String> = (1..=5).map(event).collect();
            [HEAD, "\r\n", &events.concat()].concat()
        } else {
            [HEAD, CHUNKED, &body()].concat()
        };
        let bytes = if index == 2 { 1 } else { text.len() };
        for part in text.as_bytes().chunks(bytes) {
            stream.write_all(part).unwrap();
        }
    });
    let dialect = edge();
    let mut load = connect(plan(url, 4), dialect.as_ref(), clock).unwrap();
    let expected = Counts {
        delivered: 20,
        ..Counts::default()
    };
    assert_eq!(received(&mut load, clock, 20), expected);
    // Whoever is first with an event has it parsed.
    assert_eq!(load.tally().compared, 15);
    drop(serving.join().unwrap());
}

#[test]
fn holes_in_a_stream_are_found() {
    let clock = Clock::start();
    let (url, serving) = server(1, |_, stream| {
        let events: Vec<String> = [1, 4, 4].map(|seq| chunk(&event(seq))).into();
        let gap = r#"{"type":"gap","symbol":"A","channel":"trade","epoch":1,"from":5,"to":6}"#;
        let gap = chunk(&format!("event: gap\ndata: {gap}\n\n"));
        let text = [HEAD, CHUNKED, &events.concat(), &gap, &chunk(&event(7))];
        stream.write_all(text.concat().as_bytes()).unwrap();
    });
    let dialect = edge();
    let mut load = connect(plan(url, 1), dialect.as_ref(), clock).unwrap();
    let expected = Counts {
        delivered: 3,
        missing: 2,
        duplicates: 1,
        gapped: 2,
        ..Counts::default()
    };
    assert_eq!(received(&mut load, clock, 3), expected);
    drop(serving.join().unwrap());
}

#[test]
fn what_comes_before_the_end_of_a_stream_counts() {
    let clock = Clock::start();
    let (begin, wait) = std::sync::mpsc::channel::<()>();
    let (url, serving) = server(1, move |_, stream| {
        stream
            .write_all([HEAD, CHUNKED].concat().as_bytes())
            .unwrap();
        wait.recv().unwrap();
        let end = chunk(&event(1)) + "0\r\n\r\n";
        stream.write_all(end.as_bytes()).unwrap();
    });
    let dialect = edge();
    let mut load = connect(plan(url, 1), dialect.as_ref(), clock).unwrap();
    begin.send(()).unwrap();
    let lost = |tally: &Tally| tally.lost > 0;
    load.run_until(clock.now_us() + PATIENCE_US, lost).unwrap();
    let tally = load.tally();
    assert_eq!((tally.counts.delivered, tally.lost), (1, 1));
    let reason = tally.first_lost.as_ref().unwrap().to_string();
    assert_eq!(reason, "the server ended the stream");
    drop(serving.join().unwrap());
}

#[test]
fn a_refused_stream_ends_the_setup() {
    for (answer, reason) in [
        ("HTTP/1.1 429 Too Many Requests\r\n\r\nno", "429 no"),
        ("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\n", "a/b"),
    ] {
        let (url, serving) = server(1, move |_, stream| {
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let dialect = edge();
        let ended = connect(plan(url, 1), dialect.as_ref(), Clock::start());
        let text = ended.err().unwrap().to_string();
        assert!(text.contains(reason), "{text}");
        drop(serving.join().unwrap());
    }
}
