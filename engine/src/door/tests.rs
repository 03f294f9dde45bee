//! A real door on a port of its own, and clients that speak raw TCP.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Mutex, mpsc::Receiver},
    time::Duration,
};

use prometheus::Registry;
use tickwire_proto::{claims::Claims, upgrade::Endpoint};

use super::{auth::sign_hs256, *};
use crate::clock;

const SECRET: &[u8] = b"a secret of more than thirty-two bytes";
const PATIENCE: Duration = Duration::from_secs(5);

/// Every behaviour below is checked on `io_uring` (where the kernel has it) and on epoll.
macro_rules! on_both_drivers {
    ($($behaviour:ident)*) => {
        mod auto {
            $(#[test] fn $behaviour() { super::$behaviour(super::Driver::detect()); })*
        }
        mod epoll {
            $(#[test] fn $behaviour() { super::$behaviour(super::Driver::Epoll); })*
        }
    };
}

on_both_drivers! {
    an_upgrade_is_handed_over_with_what_came_behind_its_head
    a_head_that_drips_is_admitted
    a_handed_over_socket_belongs_to_its_taker_alone
    a_slow_head_is_408
    an_oversized_head_is_431
    garbage_is_400_at_once
    an_ip_over_its_allowance_is_429_and_told_when_to_return
    an_ip_with_its_most_connections_is_429_until_one_ends
    limits_per_ip_see_through_a_trusted_proxy
    of_anyone_else_a_proxys_words_are_not_believed
    a_proxy_that_stutters_is_told
    more_handshakes_than_a_second_has_are_503
    more_half_open_connections_than_places_are_503
    more_connections_than_places_are_503_until_one_ends
    a_full_queue_is_503_and_gives_the_place_back
    a_draining_door_is_503
    whoever_asks_is_told_what_an_upgrade_would_get
    asking_spends_no_allowance_and_needs_none
    the_oldest_connection_of_a_user_gives_way
    a_crowd_is_served_to_the_last
    in_band_tokens_are_verified
    a_full_desk_gives_the_request_back
    a_stopped_door_ends_what_was_half_open_and_listens_no_more
}

/// A taker that keeps what it gets, in order.
struct Taker {
    admitted: Mutex<mpsc::Sender<Admitted>>,
    replaced: Mutex<mpsc::Sender<u64>>,
    full: AtomicBool,
}

impl Handover for Taker {
    fn hand_over(&self, admitted: Admitted) -> Result<(), Admitted> {
        if self.full.load(Ordering::Relaxed) {
            return Err(admitted);
        }
        self.admitted.lock().unwrap().send(admitted).unwrap();
        Ok(())
    }

    fn replace(&self, session: u64) {
        self.replaced.lock().unwrap().send(session).unwrap();
    }
}

struct Stage {
    door: Door,
    desk: AuthDesk,
    taker: Arc<Taker>,
    admitted: Receiver<Admitted>,
    replaced: Receiver<u64>,
    metrics: Metrics,
}

fn stage(driver: Driver, change: impl FnOnce(&mut Config)) -> Stage {
    let mut config = Config {
        per_ip_rate: 0,
        per_ip_connections_max: 0,
        ..Config::default()
    };
    change(&mut config);
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let desk = AuthDesk::new(&config).unwrap();
    let (admitted_tx, admitted) = mpsc::channel();
    let (replaced_tx, replaced) = mpsc::channel();
    let taker = Arc::new(Taker {
        admitted: Mutex::new(admitted_tx),
        replaced: Mutex::new(replaced_tx),
        full: AtomicBool::new(false),
    });
    let parts = Parts {
        verifier: Arc::new(Verifier::from_hs256_secret(SECRET, &config.token_rules()).unwrap()),
        config: Arc::new(config),
        desk: desk.clone(),
        handover: taker.clone(),
        metrics: metrics.clone(),
        driver,
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let door = Door::start(listener, parts, || {}).unwrap();
    Stage {
        door,
        desk,
        taker,
        admitted,
        replaced,
        metrics,
    }
}

impl Stage {
    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.door.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn send(&self, bytes: impl AsRef<[u8]>) -> TcpStream {
        let mut socket = self.connect();
        socket.write_all(bytes.as_ref()).unwrap();
        socket
    }

    fn next(&self) -> Admitted {
        self.admitted.recv_timeout(PATIENCE).unwrap()
    }
}

fn claims() -> Claims {
    Claims {
        sub: "alice".to_owned(),
        exp: clock::wall_s() + 60,
        ..Claims::default()
    }
}

fn upgrade(claims: &Claims) -> String {
    format!(
        "GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Authorization: Bearer {}\r\n\r\n",
        sign_hs256(SECRET, claims)
    )
}

/// The whole answer, up to the end of the connection.
fn answer(mut socket: TcpStream) -> String {
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}

#[track_caller]
fn assert_refused(socket: TcpStream, status: u16, code: &str) -> String {
    let text = answer(socket);
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
    assert!(text.contains(&format!("\"code\":\"{code}\"")), "{text}");
    text
}

fn retry_after_s(answer: &str) -> u64 {
    let (_, rest) = answer.split_once("Retry-After: ").expect(answer);
    rest.split_once("\r\n").unwrap().0.parse().unwrap()
}

/// A question at `/v1/admit`.
fn asking(method: &str, query: &str, token: &str) -> String {
    format!(
        "{method} /v1/admit{query} HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    )
}

#[track_caller]
fn assert_told(socket: TcpStream, verdict: &str) {
    let text = answer(socket);
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(
        text.contains("Access-Control-Allow-Origin: *\r\n"),
        "{text}"
    );
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(body.starts_with(verdict), "{body}");
}

fn whoever_asks_is_told_what_an_upgrade_would_get(driver: Driver) {
    let stage = stage(driver, |config| config.connections_max = 1);
    let own = Claims {
        symbols: Some(vec!["A*".to_owned()]),
        ..claims()
    };
    let good = sign_hs256(SECRET, &own);
    let ask = |query: &str, token: &str| stage.send(asking("GET", query, token));
    let admitted = r#"{"admitted":true}"#;
    assert_told(ask("", &good), admitted);
    assert_told(ask("?symbols=A1,B1", &good), admitted);
    let refused = |status: u16, code: &str| {
        format!(r#"{{"admitted":false,"status":{status},"code":"{code}""#)
    };
    assert_told(ask("?symbols=B1", &good), &refused(403, "not_entitled"));
    assert_told(
        ask("?symbols=A1&mode=fast", &good),
        &refused(400, "bad_request"),
    );
    assert_told(ask("", "x.y.z"), &refused(401, "bad_token"));
    let preflight = answer(stage.send(asking("OPTIONS", "", "")));
    assert!(preflight.starts_with("HTTP/1.1 204 "), "{preflight}");
    assert!(
        preflight.contains("Access-Control-Allow-Headers: authorization\r\n"),
        "{preflight}"
    );
    assert_refused(
        stage.send(asking("POST", "", &good)),
        405,
        "method_not_allowed",
    );
    let _client = stage.send(upgrade(&claims()));
    let inside = stage.next();
    assert_told(ask("", &good), &refused(503, "at_capacity"));
    drop(inside);
    assert_told(ask("", &good), admitted);
    stage.door.drain();
    assert_told(ask("", &good), &refused(503, "draining"));
}

fn asking_spends_no_allowance_and_needs_none(driver: Driver) {
    let stage = stage(driver, |config| {
        config.per_ip_rate = 1;
        config.per_ip_burst = 2;
    });
    let token = sign_hs256(SECRET, &claims());
    assert_told(
        stage.send(asking("GET", "", &token)),
        r#"{"admitted":true}"#,
    );
    for _ in 0..2 {
        let _client = stage.send(upgrade(&claims()));
        stage.next();
    }
    assert_refused(stage.send(upgrade(&claims())), 429, "rate_limited");
    let over = r#"{"admitted":false,"status":429,"code":"rate_limited","message":"too many handshakes from this address","retry_after_ms":"#;
    assert_told(stage.send(asking("GET", "", &token)), over);
    // However slowly it is asked.
    let mut slow = stage.connect();
    let text = asking("GET", "", &token);
    let (begin, rest) = text.split_at(5);
    slow.write_all(begin.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    slow.write_all(rest.as_bytes()).unwrap();
    assert_told(slow, over);
    // Whoever says nothing is told why it was turned away.
    let silent = [stage.connect(), stage.send("GET /v1/admit HTTP/1.1\r\n")];
    for socket in silent {
        assert_refused(socket, 429, "rate_limited");
    }
}

fn an_upgrade_is_handed_over_with_what_came_behind_its_head(driver: Driver) {
    let stage = stage(driver, |_| {});
    let mut client = stage.send(upgrade(&claims()) + "frames");
    let mut admitted = stage.next();
    assert_eq!(admitted.endpoint, Endpoint::Subscribe);
    assert_eq!(admitted.grant.sub, "alice");
    assert_eq!(admitted.early, b"frames");
    assert_eq!(admitted.peer, client.local_addr().unwrap());
    assert_eq!(stage.metrics.connections.get(), 1);

    // The socket does not block, and both directions are the taker's from here.
    let error = admitted.socket.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert!(admitted.socket.nodelay().unwrap());
    admitted.socket.write_all(&admitted.response).unwrap();
    let mut response = vec![0; admitted.response.len()];
    client.read_exact(&mut response).unwrap();
    assert!(response.starts_with(b"HTTP/1.1 101 "));
    client.write_all(b"more").unwrap();
    admitted.socket.set_nonblocking(false).unwrap();
    let mut more = [0; 4];
    admitted.socket.read_exact(&mut more).unwrap();
    assert_eq!(&more, b"more");
}

fn a_head_that_drips_is_admitted(driver: Driver) {
    let stage = stage(driver, |_| {});
    let mut client = stage.connect();
    client.set_nodelay(true).unwrap();
    for byte in upgrade(&claims()).into_bytes() {
        client.write_all(&[byte]).unwrap();
    }
    assert_eq!(stage.next().early, b"");
}

fn a_handed_over_socket_belongs_to_its_taker_alone(driver: Driver) {
    let stage = stage(driver, |_| {});
    let mut client = stage.send(upgrade(&claims()));
    // If a duplicate stayed behind at the door, this drop would not end the connection.
    drop(stage.next());
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(stage.metrics.connections.get(), 0);
}

fn a_slow_head_is_408(driver: Driver) {
    let stage = stage(driver, |config| config.head_timeout_ms = 100);
    assert_refused(stage.connect(), 408, "timeout");
    assert_refused(stage.send("GET /v1/ws HTTP/1.1\r\n"), 408, "timeout");
    assert_eq!(stage.metrics.half_open.get(), 0);
}

fn an_oversized_head_is_431(driver: Driver) {
    let stage = stage(driver, |config| config.head_bytes_max = 1_024);
    let head = format!("GET /v1/ws HTTP/1.1\r\nX: {}", "a".repeat(60_000));
    assert_refused(stage.send(head), 431, "head_too_large");
}

fn garbage_is_400_at_once(driver: Driver) {
    let stage = stage(driver, |_| {});
    assert_refused(
        stage.send(b"\x16\x03\x01\x02\x00\x01\x00"),
        400,
        "bad_request",
    );
}

fn an_ip_over_its_allowance_is_429_and_told_when_to_return(driver: Driver) {
    let stage = stage(driver, |config| {
        config.per_ip_rate = 1;
        config.per_ip_burst = 1;
    });
    let _first = stage.send(upgrade(&claims()));
    let admitted = stage.next();
    let text = assert_refused(stage.send(upgrade(&claims())), 429, "rate_limited");
    assert!((1..=6).contains(&retry_after_s(&text)), "{text}");
    drop(admitted);
}

fn an_ip_with_its_most_connections_is_429_until_one_ends(driver: Driver) {
    let stage = stage(driver, |config| config.per_ip_connections_max = 1);
    let _client = stage.send(upgrade(&claims()));
    let first = stage.next();
    let text = assert_refused(stage.send(upgrade(&claims())), 429, "rate_limited");
    assert!(retry_after_s(&text) >= 1);
    drop(first);
    let _client = stage.send(upgrade(&claims()));
    stage.next();
}

/// A stage behind a proxy on this host, where every client has one handshake.
fn behind_a_proxy(driver: Driver) -> Stage {
    stage(driver, |config| {
        config.trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
        config.per_ip_rate = 1;
        config.per_ip_burst = 1;
    })
}

/// As a client's, who is at `address`.
fn forwarded_upgrade(address: &str) -> String {
    upgrade(&claims()).replacen("\r\n", &format!("\r\nX-Forwarded-For: {address}\r\n"), 1)
}

fn limits_per_ip_see_through_a_trusted_proxy(driver: Driver) {
    let stage = behind_a_proxy(driver);
    let by_field = |host: u8| forwarded_upgrade(&format!("198.51.100.9, 192.0.2.{host}"));
    let announced = |host: u8| {
        format!("PROXY TCP4 192.0.2.{host} 127.0.0.1 4242 443\r\n") + &upgrade(&claims())
    };
    let mut clients = Vec::new();
    for (host, request) in [(1, by_field(1)), (2, announced(2)), (3, by_field(3))] {
        clients.push(stage.send(request + "frames"));
        let admitted = stage.next();
        assert_eq!(admitted.peer.ip(), std::net::Ipv4Addr::new(192, 0, 2, host));
        assert_eq!(admitted.early, b"frames");
    }
    for request in [by_field(2), announced(1)] {
        assert_refused(stage.send(request), 429, "rate_limited");
    }
    // The proxy itself, which looks whether anyone is at home, has no limit.
    for _ in 0..3 {
        clients.push(stage.send("PROXY UNKNOWN\r\n".to_owned() + &upgrade(&claims())));
        assert!(stage.next().peer.ip().is_loopback());
    }
}

fn of_anyone_else_a_proxys_words_are_not_believed(driver: Driver) {
    let stage = stage(driver, |config| {
        config.per_ip_rate = 1;
        config.per_ip_burst = 2;
    });
    let _client = stage.send(forwarded_upgrade("192.0.2.1"));
    assert!(stage.next().peer.ip().is_loopback());
    let announced = "PROXY TCP4 192.0.2.1 127.0.0.1 4242 443\r\n".to_owned() + &upgrade(&claims());
    assert_refused(stage.send(announced), 400, "bad_request");
    let other = stage.send(forwarded_upgrade("192.0.2.2"));
    assert_refused(other, 429, "rate_limited");
}

fn a_proxy_that_stutters_is_told(driver: Driver) {
    let stage = behind_a_proxy(driver);
    let wrong = stage.send("PROXY TCP4 here there 1 2\r\n");
    assert_refused(wrong, 400, "bad_request");
    assert_refused(stage.send(forwarded_upgrade("unknown")), 400, "bad_request");
    // A header of version 2 that says it has 65,535 bytes.
    let endless = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".as_slice(),
        &[0; 10_000],
    ]
    .concat();
    assert_refused(stage.send(endless), 431, "head_too_large");
}

fn more_handshakes_than_a_second_has_are_503(driver: Driver) {
    let stage = stage(driver, |config| config.handshakes_per_s = 1);
    let _client = stage.send(upgrade(&claims()));
    stage.next();
    let text = assert_refused(stage.send(upgrade(&claims())), 503, "at_capacity");
    assert!(retry_after_s(&text) >= 1);
}

fn more_half_open_connections_than_places_are_503(driver: Driver) {
    let stage = stage(driver, |config| config.half_open_max = 1);
    let mut silent = stage.connect();
    let text = assert_refused(stage.connect(), 503, "at_capacity");
    assert!(retry_after_s(&text) >= 1);
    silent.write_all(upgrade(&claims()).as_bytes()).unwrap();
    stage.next();
}

fn more_connections_than_places_are_503_until_one_ends(driver: Driver) {
    let stage = stage(driver, |config| config.connections_max = 1);
    let _client = stage.send(upgrade(&claims()));
    let first = stage.next();
    assert_refused(stage.send(upgrade(&claims())), 503, "at_capacity");
    drop(first);
    let _client = stage.send(upgrade(&claims()));
    stage.next();
}

fn a_full_queue_is_503_and_gives_the_place_back(driver: Driver) {
    let stage = stage(driver, |_| {});
    stage.taker.full.store(true, Ordering::Relaxed);
    let text = assert_refused(stage.send(upgrade(&claims())), 503, "at_capacity");
    assert!(retry_after_s(&text) >= 1);
    assert_eq!(stage.metrics.connections.get(), 0);
}

fn a_draining_door_is_503(driver: Driver) {
    let stage = stage(driver, |_| {});
    let half_open = stage.send("GET /v1/ws HTTP/1.1\r\n");
    // It is half-open once a later connection has been dealt with.
    assert_refused(stage.send("x\u{0}\r\n\r\n"), 400, "bad_request");
    stage.door.drain();
    let text = assert_refused(half_open, 503, "draining");
    assert!(retry_after_s(&text) >= 1);
    let text = assert_refused(stage.send(upgrade(&claims())), 503, "draining");
    assert!(retry_after_s(&text) >= 1);
}

fn the_oldest_connection_of_a_user_gives_way(driver: Driver) {
    let stage = stage(driver, |_| {});
    let two = Claims {
        max_connections: Some(2),
        ..claims()
    };
    let other = Claims {
        sub: "bob".to_owned(),
        ..two.clone()
    };
    let mut taken = Vec::new();
    for claims in [&two, &other, &two, &two] {
        let client = stage.send(upgrade(claims));
        taken.push((stage.next(), client));
    }
    let replaced = stage.replaced.recv_timeout(PATIENCE).unwrap();
    assert_eq!(replaced, taken[0].0.session);
    // One that ended by itself leaves room: nobody gives way.
    taken.remove(0);
    taken.pop();
    let _client = stage.send(upgrade(&two));
    let newest = stage.next();
    drop(stage.door);
    assert!(stage.replaced.try_recv().is_err());
    assert!(newest.session > taken[0].0.session);
}

fn a_crowd_is_served_to_the_last(driver: Driver) {
    let stage = stage(driver, |_| {});
    let request = upgrade(&claims());
    // More than the loop accepts in one turn.
    let clients: Vec<TcpStream> = (0..200).map(|_| stage.send(&request)).collect();
    let sessions: std::collections::HashSet<u64> =
        clients.iter().map(|_| stage.next().session).collect();
    assert_eq!(sessions.len(), 200);
}

fn in_band_tokens_are_verified(driver: Driver) {
    let stage = stage(driver, |_| {});
    let (verdicts_tx, verdicts) = mpsc::channel();
    // More than one turn of the desk, and twice, so that it has slept in between.
    for _ in 0..2 {
        for index in 0..40 {
            let good = index % 2 == 0;
            let secret = if good { SECRET } else { b"not the secret" };
            let verdicts_tx = verdicts_tx.clone();
            let request = AuthRequest {
                token: sign_hs256(secret, &claims()),
                reply: Box::new(move |verdict| {
                    verdicts_tx
                        .send((good, verdict.map(|grant| grant.sub)))
                        .unwrap();
                }),
            };
            stage.desk.submit(request).unwrap();
        }
        for _ in 0..40 {
            let (good, verdict) = verdicts.recv_timeout(PATIENCE).unwrap();
            let expected = if good {
                Ok("alice".to_owned())
            } else {
                Err(TokenError::Signature)
            };
            assert_eq!(verdict, expected);
        }
    }
}

fn a_full_desk_gives_the_request_back(driver: Driver) {
    let stage = stage(driver, |config| config.auth_queue_max = 1);
    let (entered_tx, entered) = mpsc::channel();
    let (leave_tx, leave) = mpsc::channel::<()>();
    let blocking = AuthRequest {
        token: String::new(),
        reply: Box::new(move |_| {
            entered_tx.send(()).unwrap();
            leave.recv().unwrap();
        }),
    };
    let idle = || AuthRequest {
        token: String::new(),
        reply: Box::new(|_| {}),
    };
    stage.desk.submit(blocking).unwrap();
    entered.recv_timeout(PATIENCE).unwrap();
    stage.desk.submit(idle()).unwrap();
    assert!(stage.desk.submit(idle()).is_err());
    leave_tx.send(()).unwrap();
}

fn a_stopped_door_ends_what_was_half_open_and_listens_no_more(driver: Driver) {
    let stage = stage(driver, |_| {});
    let address = stage.door.address();
    let half_open = stage.send("GET /v1/ws HTTP/1.1\r\n");
    assert_refused(stage.send("x\u{0}\r\n\r\n"), 400, "bad_request");
    stage.door.stop().unwrap();
    assert_refused(half_open, 503, "draining");
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(stage.metrics.half_open.get(), 0);
}
