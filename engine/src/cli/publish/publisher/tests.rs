use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

use serde_json::{Value, json};
use tungstenite::{WebSocket, handshake::server};

use super::*;
use crate::cli::{
    publish::source::{Replay, Replaying, Speed},
    token_source::TokenArgs,
};

type Socket = WebSocket<TcpStream>;

/// A scripted engine: `serve` gets each connection, its number and a greeted socket.
fn engine(
    connections: usize,
    serve: fn(usize, &mut Socket) -> Vec<Value>,
) -> (Target, JoinHandle<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::parse(&format!(
        "ws://{}/v1/publish",
        listener.local_addr().unwrap()
    ))
    .unwrap();
    let seen = move || {
        (0..connections)
            .flat_map(|number| serve(number, &mut greet(&listener)))
            .collect()
    };
    (target, thread::spawn(seen))
}

#[expect(
    clippy::result_large_err,
    reason = "the callback's error type is tungstenite's"
)]
fn greet(listener: &TcpListener) -> Socket {
    let stream = listener.accept().unwrap().0;
    let mut socket = tungstenite::accept_hdr(
        stream,
        |request: &server::Request, mut response: server::Response| {
            let name = "sec-websocket-protocol";
            response
                .headers_mut()
                .insert(name, request.headers()[name].clone());
            Ok(response)
        },
    )
    .unwrap();
    let limits = json!({"symbols": 1024, "message_bytes": 65_536, "ops_per_s": 10});
    send(
        &mut socket,
        &json!({"type": "welcome", "session": "s1", "protocol": "tickwire.v1.json", "heartbeat_ms": 5000,
            "token_exp": 1_900_000_000, "limits": limits}),
    );
    socket
}

fn send(socket: &mut Socket, message: &Value) {
    socket.send(message.to_string().into()).unwrap();
}

fn receive(socket: &mut Socket) -> Value {
    serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap()
}

fn ack(id: Option<u32>, accepted: u64, messages: u64) -> Value {
    let mut ack = json!({"type": "ack", "accepted": accepted, "rejected": 0, "duplicates": 0, "messages": messages});
    if let Some(id) = id {
        ack["id"] = id.into();
    }
    ack
}

/// Two messages of one tick each, since the second is due 20 ms after the first.
fn source(rows: &str) -> Source {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(
        file,
        "ts,type,symbol,price,size,side,bid,bid_size,ask,ask_size\n{rows}"
    )
    .unwrap();
    let how = Replaying {
        speed: Speed::Times(1.0),
        passes: 1,
        pause_max: Duration::from_secs(1),
    };
    // The open file outlives its name.
    Source::Replay(Box::new(Replay::open(file.path(), how).unwrap()))
}

const TWO: &str = "1000000,trade,A,1.5,,,,,,\n1020000,trade,B,2,,,,,,";

fn publisher(target: Target) -> Publisher {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "a.b.c").unwrap();
    let token = TokenSource::open(&TokenArgs::from_file(file.path())).unwrap();
    Publisher::connect(
        target,
        token,
        Subprotocol::Json,
        Stop::default(),
        Ids::default(),
    )
    .unwrap()
}

fn run(publisher: &mut Publisher, rows: &str, strict: bool) -> anyhow::Result<()> {
    publisher.run(&mut source(rows), strict, &Progress::on_stderr(true))
}

#[test]
fn a_run_ends_with_the_ack_of_its_flush() {
    let (target, engine) = engine(1, |_, socket| {
        let seen = vec![receive(socket), receive(socket), receive(socket)];
        send(socket, &ack(Some(FLUSH_ID), 2, 2));
        seen
    });
    let mut publisher = publisher(target);
    run(&mut publisher, TWO, true).unwrap();
    assert_eq!(publisher.account().counts().accepted, 2);
    let seen = engine.join().unwrap();
    assert_eq!(
        seen[0],
        json!({"type": "trade", "symbol": "A", "ts": 1_000_000, "price": "1.5"})
    );
    assert_eq!(seen[2], json!({"op": "flush", "id": FLUSH_ID}));
}

#[test]
fn after_a_loss_only_what_is_undecided_is_sent_again() {
    let (target, engine) = engine(2, |number, socket| {
        let mut seen = vec![receive(socket)];
        if number == 0 {
            send(socket, &ack(None, 1, 1));
            seen.push(receive(socket));
        } else {
            seen.push(receive(socket));
            send(socket, &ack(Some(FLUSH_ID), 1, 1));
        }
        seen
    });
    let mut publisher = publisher(target);
    run(&mut publisher, TWO, true).unwrap();
    assert_eq!(
        (
            publisher.account().counts().accepted,
            publisher.reconnects()
        ),
        (2, 1)
    );
    let symbols: Vec<_> = engine
        .join()
        .unwrap()
        .iter()
        .map(|message| message["symbol"].clone())
        .collect();
    assert_eq!(symbols, [json!("A"), json!("B"), json!("B"), Value::Null]);
}

#[test]
fn a_close_that_says_stay_away_ends_the_run() {
    let (target, engine) = engine(1, |_, socket| {
        let seen = vec![receive(socket)];
        let frame = tungstenite::protocol::CloseFrame {
            code: 4503.into(),
            reason: "no longer entitled".into(),
        };
        socket.close(Some(frame)).unwrap();
        let _ = socket.read();
        seen
    });
    let mut publisher = publisher(target);
    let error = run(&mut publisher, TWO, false).unwrap_err();
    assert!(format!("{error:#}").contains("4503"), "{error:#}");
    assert!(
        publisher.elapsed() < Duration::from_secs(5),
        "it tried to come back"
    );
    engine.join().unwrap();
}

#[test]
fn a_strict_run_publishes_what_stands_before_a_bad_row() {
    let (target, engine) = engine(1, |_, socket| {
        let seen = vec![receive(socket), receive(socket)];
        send(socket, &ack(Some(FLUSH_ID), 1, 1));
        seen
    });
    let mut publisher = publisher(target);
    let error = run(
        &mut publisher,
        "1,trade,A,1,,,,,,\n2,trade,A,x,,,,,,\n3,trade,A,3,,,,,,",
        true,
    )
    .unwrap_err();
    assert!(error.to_string().starts_with("line 3: `price`"), "{error}");
    assert_eq!(publisher.account().counts().accepted, 1);
    assert_eq!(engine.join().unwrap()[0]["price"], "1");
}
