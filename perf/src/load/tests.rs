mod streams;

use std::{
    net::{TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

use tungstenite::{Message, WebSocket, accept, protocol::CloseFrame};

use super::*;
use crate::account::Counts;

const ACK: &str = r#"{"type":"ack","id":1,"op":"subscribe","rejected":[]}"#;
const EPOCH: u64 = 1;
const PATIENCE_US: u64 = 10_000_000;

/// A server whose `script` talks to each connection in turn, one thread for all.
fn server(
    connections: usize,
    script: impl Fn(&mut WebSocket<TcpStream>) + Send + 'static,
) -> (SocketAddr, JoinHandle<Vec<WebSocket<TcpStream>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        let mut sockets = Vec::new();
        for _ in 0..connections {
            let mut socket = accept(listener.accept().unwrap().0).unwrap();
            assert!(
                socket
                    .read()
                    .unwrap()
                    .to_text()
                    .unwrap()
                    .contains("subscribe")
            );
            script(&mut socket);
            sockets.push(socket);
        }
        sockets
    };
    (address, thread::spawn(serve))
}

fn plan(server: SocketAddr, subscribers: usize) -> Plan {
    Plan {
        receive_buffer: None,
        server,
        symbols: Symbols::new(vec!["A".into(), "B".into()]),
        follows: vec![Follows::Symbols(vec![0]); subscribers],
        epoch: EPOCH,
        pace: Pace {
            connects_per_s: 10_000,
            in_progress_max: 2,
            sources: 3,
        },
    }
}

fn connect(plan: Plan, dialect: &dyn Dialect, clock: Clock) -> Result<Load<'_>, LoadError> {
    Load::connect(plan, dialect, clock, |index| format!("token-{index}"))
}

fn tickwire() -> Box<dyn Dialect> {
    crate::dialect::tickwire(false, None)
}

fn send(socket: &mut WebSocket<TcpStream>, text: &str) {
    socket.send(Message::text(text)).unwrap();
}

fn send_tick(socket: &mut WebSocket<TcpStream>, seq: u64, ts: u64) {
    let tick = r#"{"type":"trade","symbol":"A","epoch":1,"#;
    send(
        socket,
        &format!(r#"{tick}"seq":{seq},"ts":{ts},"price":"1"}}"#),
    );
}

#[test]
fn every_delivery_is_checked_and_counted() {
    let clock = Clock::start();
    let (url, serving) = server(5, |socket| {
        send(socket, r#"{"type":"welcome","session":"1"}"#);
        send(socket, ACK);
        send(
            socket,
            r#"{"type":"start","symbol":"A","epoch":1,"trade":0}"#,
        );
        socket.send(Message::Ping("are you there".into())).unwrap();
        for seq in [1, 2, 5, 5, 4] {
            send_tick(socket, seq, 1);
        }
    });
    let dialect = tickwire();
    let mut load = connect(plan(url, 5), dialect.as_ref(), clock).unwrap();
    let all = |tally: &Tally| tally.counts.delivered + tally.counts.out_of_order >= 20;
    load.run_until(clock.now_us() + PATIENCE_US, all).unwrap();
    let expected = Counts {
        delivered: 15,
        missing: 5,
        duplicates: 5,
        out_of_order: 5,
        ..Counts::default()
    };
    assert_eq!(load.tally().counts, expected);
    for subscriber in &load.subscribers {
        let acknowledges = rustix::net::sockopt::tcp_quickack(&subscriber.stream);
        assert!(
            acknowledges.unwrap(),
            "what it reads, after its answers too"
        );
    }
    for mut socket in serving.join().unwrap() {
        assert_eq!(
            socket.read().unwrap(),
            Message::Pong("are you there".into())
        );
    }
}

#[test]
fn only_ticks_of_the_window_are_measured() {
    let clock = Clock::start();
    let ts = clock.now_us();
    let (measuring, wait) = std::sync::mpsc::channel::<()>();
    let (url, serving) = server(1, move |socket| {
        send(socket, ACK);
        wait.recv().unwrap();
        for seq in 1..=10 {
            send_tick(socket, seq, ts + seq);
        }
    });
    let dialect = tickwire();
    let mut load = connect(plan(url, 1), dialect.as_ref(), clock).unwrap();
    load.measure(&[
        Window {
            from_us: ts + 3,
            to_us: ts + 6,
        },
        Window {
            from_us: ts + 6,
            to_us: ts + 8,
        },
    ]);
    let connected_us = clock.now_us() - ts;
    measuring.send(()).unwrap();
    load.run_until(clock.now_us() + PATIENCE_US, |tally| {
        tally.counts.delivered == 10
    })
    .unwrap();
    let delivered: Vec<u64> = load
        .tally()
        .windows
        .iter()
        .map(|window| window.delivered)
        .collect();
    assert_eq!((delivered, load.tally().measured()), (vec![3, 2], 5));
    let slowest_us = load.tally().windows[0].latencies.quantiles().max_us;
    assert!(
        slowest_us + 5 >= connected_us,
        "counted from the intended time: {slowest_us}"
    );
    drop(serving.join().unwrap());
}

#[test]
fn a_lost_connection_is_counted_with_its_reason() {
    let (url, serving) = server(2, |socket| send(socket, ACK));
    let clock = Clock::start();
    let dialect = tickwire();
    let mut load = connect(plan(url, 2), dialect.as_ref(), clock).unwrap();
    let mut sockets = serving.join().unwrap();
    let frame = CloseFrame {
        code: 4410.into(),
        reason: "slow".into(),
    };
    sockets[1].close(Some(frame)).unwrap();
    load.run_until(clock.now_us() + PATIENCE_US, |tally| tally.lost > 0)
        .unwrap();
    let reason = load.tally().first_lost.as_ref().unwrap().to_string();
    assert_eq!(load.tally().lost, 1);
    assert_eq!(reason, "the server closed the connection: 4410 slow");
}

#[test]
fn a_refused_subscription_ends_the_setup() {
    let (url, serving) = server(1, |socket| {
        let rejected = r#"[{"symbol":"A","code":"not_entitled"}]"#;
        send(
            socket,
            &format!(r#"{{"type":"ack","op":"subscribe","rejected":{rejected}}}"#),
        );
    });
    let dialect = tickwire();
    let text = connect(plan(url, 1), dialect.as_ref(), Clock::start())
        .err()
        .unwrap()
        .to_string();
    assert!(text.contains("not_entitled"), "{text}");
    drop(serving.join().unwrap());
}

#[test]
fn known_frames_are_checked_as_strictly_as_others() {
    let clock = Clock::start();
    let (url, serving) = server(3, |socket| {
        send(socket, ACK);
        let mut tick = |symbol: &str, seq: u64| {
            let object = r#"{"type":"trade","symbol":"#;
            send(
                socket,
                &format!(r#"{object}"{symbol}","epoch":1,"seq":{seq},"ts":1}}"#),
            );
        };
        for seq in 1..=200 {
            tick("A", seq);
            tick("B", seq);
        }
        // All of these are known after the first connection; none is what is due.
        tick("A", 200);
        tick("A", 100);
        tick("A", 203);
    });
    let dialect = tickwire();
    let mut plan = plan(url, 3);
    plan.follows = vec![
        Follows::Symbols(vec![0, 1]),
        Follows::All,
        Follows::Symbols(vec![0]),
    ];
    let mut load = connect(plan, dialect.as_ref(), clock).unwrap();
    let all = |tally: &Tally| {
        let counts = tally.counts;
        counts.delivered + counts.duplicates + counts.contradictions >= 3 * 403
    };
    load.run_until(clock.now_us() + PATIENCE_US, all).unwrap();
    let expected = Counts {
        delivered: 400 + 400 + 200 + 3,
        missing: 2 * 3,
        duplicates: 2 * 3,
        contradictions: 200,
        ..Counts::default()
    };
    assert_eq!(load.tally().counts, expected);
    // Whoever is first with a tick has it parsed.
    assert_eq!(load.tally().compared, 1_000 - 400);
    drop(serving.join().unwrap());
}
