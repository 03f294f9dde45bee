use std::{
    net::{TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

use tungstenite::{Message, WebSocket, accept, protocol::CloseFrame};

use super::*;

const ACK: &str = r#"{"type":"ack","id":1,"op":"subscribe","rejected":[]}"#;
const PATIENCE_US: u64 = 10_000_000;

/// A server whose `script` talks to each connection in turn, one thread for all.
fn server(
    connections: usize,
    script: impl Fn(&mut WebSocket<TcpStream>) + Send + 'static,
) -> (ServerUrl, JoinHandle<Vec<WebSocket<TcpStream>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = ServerUrl::from(listener.local_addr().unwrap());
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
    (url, thread::spawn(serve))
}

fn plan(server: ServerUrl, subscribers: usize) -> Plan {
    Plan {
        server,
        path: "/v1/ws".to_owned(),
        subscribe: r#"{"op":"subscribe","id":1,"symbols":["A"]}"#.to_owned(),
        subscribers,
        connects_per_s: 10_000,
        in_progress_max: 2,
        sources: 3,
    }
}

fn connect(plan: Plan, clock: Clock) -> Result<Load, LoadError> {
    Load::connect(plan, clock, |index| format!("token-{index}"))
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
            r#"{"type":"start","symbol":"A","epoch":1,"trade":7}"#,
        );
        socket.send(Message::Ping("are you there".into())).unwrap();
        for seq in [8, 9, 12, 12, 11] {
            send_tick(socket, seq, 1);
        }
    });
    let mut load = connect(plan(url, 5), clock).unwrap();
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
    let mut load = connect(plan(url, 1), clock).unwrap();
    load.measure(Window {
        from_us: ts + 3,
        to_us: ts + 6,
    });
    let connected_us = clock.now_us() - ts;
    measuring.send(()).unwrap();
    load.run_until(clock.now_us() + PATIENCE_US, |tally| {
        tally.counts.delivered == 10
    })
    .unwrap();
    assert_eq!(
        (load.tally().counts.delivered, load.tally().in_window),
        (10, 3)
    );
    let slowest_us = load.tally().latencies.quantiles().max_us;
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
    let mut load = connect(plan(url, 2), clock).unwrap();
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
    let text = connect(plan(url, 1), Clock::start())
        .err()
        .unwrap()
        .to_string();
    assert!(text.contains("not_entitled"), "{text}");
    drop(serving.join().unwrap());
}
