use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    thread::{self, JoinHandle},
};

use tungstenite::handshake::server;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Runs `serve` with the first connection that comes.
fn listen<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (Target, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::parse(&format!("ws://{}/v1/ws", listener.local_addr().unwrap())).unwrap();
    (
        target,
        thread::spawn(move || serve(listener.accept().unwrap().0)),
    )
}

/// Upgrades as an engine would.
#[expect(
    clippy::result_large_err,
    reason = "the callback's error type is tungstenite's"
)]
fn accept(stream: TcpStream) -> WebSocket<TcpStream> {
    tungstenite::accept_hdr(
        stream,
        |request: &server::Request, mut response: server::Response| {
            let offered = request.headers()[header::SEC_WEBSOCKET_PROTOCOL].clone();
            assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer a.b.c");
            response
                .headers_mut()
                .insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
            Ok(response)
        },
    )
    .unwrap()
}

/// Reads the request's head and answers with `parts`, each a packet of its own.
fn answer(mut stream: &TcpStream, parts: &[&str]) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
    for part in parts {
        stream.write_all(part.as_bytes()).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
}

fn open(target: &Target) -> Result<Connection, ConnectError> {
    Connection::open(target, "a.b.c", "tickwire.v1.json", TIMEOUT)
}

#[test]
fn messages_go_both_ways_in_order() {
    let (target, server) = listen(|stream| {
        let mut socket = accept(stream);
        for _ in 0..2 {
            let message = socket.read().unwrap();
            socket.send(message).unwrap();
        }
    });
    let mut connection = open(&target).unwrap();
    connection.send_text("one").unwrap();
    connection.send_binary(vec![2]).unwrap();
    assert_eq!(
        connection.receive(TIMEOUT).unwrap(),
        Some(Message::Text("one".into()))
    );
    assert_eq!(
        connection.receive(TIMEOUT).unwrap(),
        Some(Message::Binary(vec![2].into()))
    );
    server.join().unwrap();
}

#[test]
fn receive_returns_when_its_time_is_over() {
    let (target, server) = listen(accept);
    let mut connection = open(&target).unwrap();
    let _socket = server.join().unwrap();
    let start = Instant::now();
    assert_eq!(connection.receive(Duration::from_millis(30)).unwrap(), None);
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_refusal_carries_status_code_message_and_retry_after() {
    let body = r#"{"code":"rate_limited","message":"slow down"}"#;
    let head = format!(
        "HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (target, server) = listen(move |stream| answer(&stream, &[&head, &body[..9], &body[9..]]));
    let Err(ConnectError::Refused(refusal)) = open(&target) else {
        panic!("granted")
    };
    assert_eq!(
        refusal,
        Refusal {
            status: 429,
            code: Some("rate_limited".into()),
            message: Some("slow down".into()),
            retry_after: Some(Duration::from_secs(7)),
        },
    );
    assert!(refusal.is_temporary());
    assert_eq!(
        refusal.to_string(),
        "refused with HTTP 429 rate_limited: slow down (retry after 7 s)"
    );
    server.join().unwrap();
}

#[test]
fn a_refusal_without_a_body_is_still_a_refusal() {
    let (target, server) = listen(|stream| answer(&stream, &["HTTP/1.1 401 Unauthorized\r\n\r\n"]));
    let Err(ConnectError::Refused(refusal)) = open(&target) else {
        panic!("granted")
    };
    assert_eq!((refusal.status, refusal.is_temporary()), (401, false));
    server.join().unwrap();
}

#[test]
fn a_server_that_stays_silent_is_a_timeout() {
    let (target, server) = listen(|stream| stream);
    let opened = Connection::open(
        &target,
        "a.b.c",
        "tickwire.v1.json",
        Duration::from_millis(50),
    );
    assert!(
        matches!(opened, Err(ConnectError::Io { source, .. }) if source.kind() == io::ErrorKind::TimedOut)
    );
    server.join().unwrap();
}

#[test]
fn what_came_before_a_close_is_received_first() {
    let (target, server) = listen(|stream| {
        let mut socket = accept(stream);
        socket.send("last words".into()).unwrap();
        let frame = CloseFrame {
            code: CloseCode::from(4401),
            reason: "token expired".into(),
        };
        socket.close(Some(frame)).unwrap();
        assert!(matches!(socket.read(), Ok(tungstenite::Message::Close(_))));
    });
    let mut connection = open(&target).unwrap();
    assert_eq!(
        connection.receive(TIMEOUT).unwrap(),
        Some(Message::Text("last words".into()))
    );
    let lost = connection.receive(TIMEOUT).unwrap_err();
    assert_eq!(lost.code(), 4401);
    assert_eq!(
        lost.to_string(),
        "closed by the server with 4401 token expired"
    );
    server.join().unwrap();
}

#[test]
fn a_broken_connection_has_code_1006() {
    let (target, server) = listen(|stream| drop(accept(stream)));
    let mut connection = open(&target).unwrap();
    assert_eq!(connection.receive(TIMEOUT).unwrap_err().code(), 1006);
    server.join().unwrap();
}

#[test]
fn pings_are_answered_while_receiving() {
    let (target, server) = listen(|stream| {
        let mut socket = accept(stream);
        socket
            .send(tungstenite::Message::Ping(vec![7].into()))
            .unwrap();
        assert_eq!(
            socket.read().unwrap(),
            tungstenite::Message::Pong(vec![7].into())
        );
        socket.send("done".into()).unwrap();
    });
    let mut connection = open(&target).unwrap();
    assert_eq!(
        connection.receive(TIMEOUT).unwrap(),
        Some(Message::Text("done".into()))
    );
    server.join().unwrap();
}

#[test]
fn a_server_that_sends_before_it_reads_does_not_deadlock() {
    let bulk = "x".repeat(8 << 20);
    let sent = bulk.clone();
    let (target, server) = listen(move |stream| {
        let mut socket = accept(stream);
        socket.send(sent.into()).unwrap();
        socket.read().unwrap().len()
    });
    let mut connection = open(&target).unwrap();
    connection.send_text(bulk.clone()).unwrap();
    assert_eq!(
        connection.receive(TIMEOUT).unwrap(),
        Some(Message::Text(bulk.clone().into()))
    );
    assert_eq!(server.join().unwrap(), bulk.len());
}

#[test]
fn a_close_says_1000() {
    let (target, server) = listen(|stream| accept(stream).read().unwrap());
    open(&target).unwrap().close();
    let tungstenite::Message::Close(Some(frame)) = server.join().unwrap() else {
        panic!("no close frame")
    };
    assert_eq!(frame.code, CloseCode::Normal);
}
