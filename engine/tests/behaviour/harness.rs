//! An engine in this process, and plain WebSocket clients that speak to it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tickwire_engine::{Engine, config::Config, door::auth::sign_hs256, threads::Driver};
use tickwire_proto::claims::Claims;
use tungstenite::{Message, WebSocket, client::IntoClientRequest, http::HeaderValue};

/// How long any single wait may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

/// An engine on ports of its own.
pub struct TestEngine {
    pub engine: Engine,
}

impl TestEngine {
    /// One floor, no limit per IP, small tables.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// As [`TestEngine::start`], with changed settings.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Self::settings();
        change(&mut config);
        let engine = Engine::start_with_secret(config, SECRET).expect("the engine starts");
        Self { engine }
    }

    /// What [`TestEngine::start`] sets, for engines that are started in other ways.
    pub fn settings() -> Config {
        if uring_is_denied() {
            deny_uring();
            // Asked once a process, so nobody may ask before in a run that goes without.
            assert_eq!(Driver::detect(), Driver::Epoll);
        }
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            floors: 1,
            per_ip_rate: 0,
            per_ip_connections_max: 0,
            tape_slots: 1 << 16,
            symbols_max: 2_048,
            drain_s: 5,
            ..Config::default()
        }
    }

    /// A token of `alice` for everything, for an hour.
    pub fn token(&self) -> String {
        self.token_with(|_| {})
    }

    /// As [`TestEngine::token`], with changed claims.
    #[expect(clippy::unused_self, reason = "a token is of an engine")]
    pub fn token_with(&self, change: impl FnOnce(&mut Claims)) -> String {
        let mut claims = Claims {
            sub: "alice".to_owned(),
            exp: now_s() + 3_600,
            publish: Some(vec!["*".to_owned()]),
            ..Claims::default()
        };
        change(&mut claims);
        sign_hs256(SECRET, &claims)
    }

    /// A subscriber that has read its `welcome`.
    pub fn subscriber(&self) -> Client {
        self.connect("/v1/ws", &self.token(), None)
    }

    /// A subscriber whose socket holds only a few ticks, and which has read its `welcome`.
    pub fn narrow_subscriber(&self) -> Client {
        let address = self.engine.listen_addr();
        let mut client = Client::open_narrow(address, "/v1/ws", &self.token());
        assert_eq!(client.next()["type"], "welcome");
        client
    }

    /// A publisher that has read its `welcome`.
    pub fn publisher(&self) -> Client {
        self.connect("/v1/publish", &self.token(), None)
    }

    /// A WebSocket on `path_and_query` that has read its `welcome`.
    pub fn connect(&self, path_and_query: &str, token: &str, subprotocol: Option<&str>) -> Client {
        let mut client = Client::open(
            self.engine.listen_addr(),
            path_and_query,
            token,
            subprotocol,
        )
        .expect("the upgrade succeeds");
        assert_eq!(client.next()["type"], "welcome");
        client
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        http_get(self.engine.admin_addr(), "/metrics")
    }

    /// The sum of a metric over all its labels that contain `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        metric(&self.metrics(), name, labels)
    }
}

/// The sum of a metric on a page of them, over all its labels that contain `labels`.
pub fn metric(page: &str, name: &str, labels: &str) -> f64 {
    page.lines()
        .filter(|line| line.starts_with(name) && line.contains(labels))
        .filter(|line| line[name.len()..].starts_with([' ', '{']))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// A gauge or counter as what it is, a whole number.
pub fn whole(value: f64) -> u64 {
    value as u64
}

/// Takes all open files that the system allows, for tests with thousands of clients.
pub fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit it may be raised");
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "{what} did not come to pass");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A foreign client: it knows WebSocket and JSON, nothing of this project's codecs.
pub struct Client {
    pub socket: WebSocket<TcpStream>,
}

impl Client {
    /// Upgrades a new connection.
    pub fn open(
        address: SocketAddr,
        path_and_query: &str,
        token: &str,
        subprotocol: Option<&str>,
    ) -> Result<Self, Box<tungstenite::Error>> {
        let stream = TcpStream::connect(address).map_err(|error| Box::new(error.into()))?;
        Self::open_on(stream, address, path_and_query, token, subprotocol)
    }

    /// As [`Client::open`], with room for only a few ticks in its socket.
    pub fn open_narrow(address: SocketAddr, path_and_query: &str, token: &str) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a socket option");
        socket.connect(&address.into()).expect("a connection");
        Self::open_on(socket.into(), address, path_and_query, token, None)
            .expect("the upgrade succeeds")
    }

    fn open_on(
        stream: TcpStream,
        address: SocketAddr,
        path_and_query: &str,
        token: &str,
        subprotocol: Option<&str>,
    ) -> Result<Self, Box<tungstenite::Error>> {
        stream.set_nodelay(true).expect("a socket option");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket option");
        let mut request = format!("ws://{address}{path_and_query}").into_client_request()?;
        let bearer = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header value");
        request.headers_mut().insert("Authorization", bearer);
        if let Some(subprotocol) = subprotocol {
            let value = HeaderValue::from_str(subprotocol).expect("a header value");
            request
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", value);
        }
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(tungstenite::HandshakeError::Failure(error)) => Err(Box::new(error)),
            Err(tungstenite::HandshakeError::Interrupted(_)) => unreachable!("the socket blocks"),
        }
    }

    pub fn send(&mut self, value: &Value) {
        self.send_text(&value.to_string());
    }

    pub fn send_text(&mut self, text: &str) {
        self.socket
            .send(Message::text(text))
            .expect("the message goes out");
    }

    /// The next JSON message; WebSocket pings are answered on the way.
    pub fn next(&mut self) -> Value {
        loop {
            match self.socket.read().expect("a message comes") {
                Message::Text(text) => {
                    return serde_json::from_str(&text).expect("the message is JSON");
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// The next message that is neither a heartbeat nor a cursor.
    pub fn next_event(&mut self) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "nothing but heartbeats and cursors");
            let message = self.next();
            if message["type"] != "heartbeat" && message["type"] != "cursor" {
                return message;
            }
        }
    }

    /// Skips to the next message of `kind`.
    pub fn next_of(&mut self, kind: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "no {kind} came");
            let message = self.next();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// What arrives within `time`; ends early on nothing but time.
    pub fn quiet_for(&mut self, time: Duration) -> Vec<Value> {
        let mut messages = Vec::new();
        let until = Instant::now() + time;
        while let Some(left) = until
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            self.socket
                .get_ref()
                .set_read_timeout(Some(left))
                .expect("a socket option");
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    messages.push(serde_json::from_str(&text).expect("JSON"));
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => panic!("{error}"),
            }
        }
        self.socket
            .get_ref()
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket option");
        messages
    }

    /// Reads to the close frame; returns its code and the messages before it.
    pub fn read_to_close(&mut self) -> (u16, Vec<Value>) {
        let mut messages = Vec::new();
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "no close frame came");
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    messages.push(serde_json::from_str(&text).expect("JSON"));
                }
                Ok(Message::Close(Some(frame))) => return (frame.code.into(), messages),
                Ok(Message::Close(None)) => return (1005, messages),
                Ok(_) => {}
                Err(error) => panic!("no close frame, but {error}"),
            }
        }
    }

    /// Subscribes and reads the ack.
    pub fn subscribe(&mut self, request: Value) -> Value {
        let mut request = request;
        request["op"] = json!("subscribe");
        self.send(&request);
        self.next_of("ack")
    }

    /// Publishes ticks and waits until they are decided; returns the ack.
    pub fn publish(&mut self, ticks: &Value) -> Value {
        self.send(ticks);
        self.flush()
    }

    /// Waits until everything published is decided.
    pub fn flush(&mut self) -> Value {
        self.send(&json!({"op": "flush", "id": 4_242}));
        loop {
            let ack = self.next_of("ack");
            if ack["id"] == 4_242 {
                return ack;
            }
        }
    }
}

/// An unnumbered trade.
pub fn trade(symbol: &str, price: &str) -> Value {
    json!({"type": "trade", "symbol": symbol, "price": price, "size": "1", "side": "buy"})
}

/// A trade numbered by its source.
pub fn numbered(symbol: &str, epoch: u64, seq: u64) -> Value {
    json!({"type": "trade", "symbol": symbol, "epoch": epoch, "seq": seq, "price": seq.to_string(), "size": "1"})
}

/// A quote numbered by its source.
pub fn quote(symbol: &str, epoch: u64, seq: u64) -> Value {
    json!({"type": "quote", "symbol": symbol, "epoch": epoch, "seq": seq, "bid": "1", "bid_size": "2", "ask": "3", "ask_size": "4"})
}

/// Sends a raw request and returns the status and the whole answer.
pub fn http_raw(address: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket option");
    stream.write_all(request).expect("the request goes out");
    let mut answer = Vec::new();
    // A refusal may be followed by a reset where the request was not read to its end.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    (status, answer)
}

/// The whole answer to a GET.
pub fn http_get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    http_raw(address, request.as_bytes()).1
}

/// Whether this run is to go without io_uring.
pub fn uring_is_denied() -> bool {
    std::env::var_os("TICKWIRE_TEST_DENY_URING").is_some()
}

/// Denies io_uring to this thread and those it starts, as containers' seccomp profiles do.
pub fn deny_uring() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
    const EPERM: u32 = 1;
    /// `io_uring_setup`, on x86-64 and aarch64 alike.
    const IO_URING_SETUP: i64 = 425;
    let arch = TargetArch::try_from(std::env::consts::ARCH).expect("a known architecture");
    let filter = SeccompFilter::new(
        [(IO_URING_SETUP, vec![])].into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(EPERM),
        arch,
    )
    .expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("the filter applies");
}
