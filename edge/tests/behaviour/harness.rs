//! An engine and edges in this process, and clients that speak HTTP to them.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use reqwest::{Client, RequestBuilder, Response, header::HeaderMap};
use serde_json::Value;
use tempfile::TempDir;
use tickwire_edge::{
    Edge,
    config::{Config, Texts},
};
use tickwire_engine::{Engine, Publisher, config::Config as EngineConfig, door::auth::sign_hs256};
use tickwire_proto::{
    claims::Claims,
    price::Decimal,
    symbol::Symbol,
    tick::{Identity, PublishedTick, Values},
};
use tokio::time::{sleep, timeout};

/// How long any single wait may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// What tokens are signed with.
pub const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

/// An engine, and a folder with the files that its edges need.
pub struct Site {
    pub engine: Engine,
    pub files: TempDir,
}

impl Site {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// With changed settings of the engine.
    pub fn with(change: impl FnOnce(&mut EngineConfig)) -> Self {
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("secret"), SECRET).unwrap();
        std::fs::write(files.path().join("token"), token()).unwrap();
        Self {
            engine: engine(change),
            files,
        }
    }

    /// The settings of an edge of this site.
    pub fn settings(&self) -> Config {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let upstream = format!("ws://{}/v1/ws", self.engine.listen_addr());
        Config {
            listen: any,
            admin: any,
            upstream: Texts(vec![upstream]),
            upstream_token_file: Some(self.files.path().join("token")),
            jwt_hs256_file: Some(self.files.path().join("secret")),
            per_ip_rate: 0,
            per_ip_connections_max: 0,
            drain_s: 2,
            ..Config::default()
        }
    }

    pub async fn edge(&self) -> TestEdge {
        self.edge_with(|_| {}).await
    }

    /// An edge with changed settings.
    pub async fn edge_with(&self, change: impl FnOnce(&mut Config)) -> TestEdge {
        let mut config = self.settings();
        change(&mut config);
        TestEdge::start(config).await
    }

    pub fn publisher(&self) -> TestPublisher {
        TestPublisher::of(&self.engine)
    }
}

/// An engine on ports of its own.
pub fn engine(change: impl FnOnce(&mut EngineConfig)) -> Engine {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = EngineConfig {
        listen: any,
        admin: any,
        floors: 1,
        per_ip_rate: 0,
        per_ip_connections_max: 0,
        tape_slots: 1 << 16,
        drain_s: 1,
        ..EngineConfig::default()
    };
    change(&mut config);
    Engine::start_with_secret(config, SECRET).unwrap()
}

/// A source within this process, whose ticks carry their own numbers.
pub struct TestPublisher(Publisher);

impl TestPublisher {
    /// A source of an engine.
    pub fn of(engine: &Engine) -> Self {
        Self(engine.publisher("test").unwrap())
    }

    /// Publishes the trade `seq` of `symbol`.
    pub fn trade(&mut self, symbol: &str, epoch: u64, seq: u64) {
        let mut tick = PublishedTick {
            symbol: Symbol::parse(symbol).unwrap(),
            identity: Some(Identity { epoch, seq }),
            ts_ns: None,
            values: Values::trade(Decimal::parse("1.5").unwrap(), None, None).unwrap(),
        };
        while let Err(tickwire_engine::PublishError::Full(back)) = self.0.publish(tick) {
            tick = back;
            std::thread::yield_now();
        }
    }

    /// Publishes trades of `symbol`.
    pub fn trades(&mut self, symbol: &str, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs {
            self.trade(symbol, 1, seq);
        }
    }
}

/// An edge on ports of its own.
pub struct TestEdge {
    pub edge: Edge,
    http: Client,
}

impl TestEdge {
    pub async fn start(config: Config) -> Self {
        let started = timeout(PATIENCE, Edge::start(config)).await;
        Self {
            edge: started.expect("an engine lets it in").unwrap(),
            http: Client::new(),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.edge.listen_addr())
    }

    /// A request with alice's token.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.plain(path).bearer_auth(token())
    }

    /// A request without a token.
    pub fn plain(&self, path: &str) -> RequestBuilder {
        self.http.get(self.url(path))
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(self.url(path))
    }

    /// A stream of what the query asks for.
    pub async fn sse(&self, query: &str) -> Events {
        Events::open(self.get(&format!("/v1/sse?{query}"))).await
    }

    /// The body of a poll.
    pub async fn poll(&self, query: &str) -> Value {
        let response = self.get(&format!("/v1/poll?{query}")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["cache-control"], "no-store");
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    /// The sum of a metric over all its labels that contain `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> u64 {
        let url = format!("http://{}/metrics", self.edge.admin_addr());
        let page = self.http.get(url).send().await.unwrap();
        let page = page.text().await.unwrap();
        let lines = page
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(labels))
            .filter(|line| line[name.len()..].starts_with([' ', '{']));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum::<f64>() as u64
    }

    /// Waits until a metric is `expected`.
    pub async fn reaches(&self, name: &str, expected: u64) {
        let reached = async {
            while self.metric(name, "").await != expected {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect(name);
    }
}

/// A token of alice for everything, for an hour.
pub fn token() -> String {
    token_with(|_| {})
}

/// As [`token`], with changed claims.
pub fn token_with(change: impl FnOnce(&mut Claims)) -> String {
    let mut claims = Claims {
        sub: "alice".to_owned(),
        exp: now_s() + 3_600,
        max_symbols: Some(10_000),
        ops_per_s: Some(1_000),
        ..Claims::default()
    };
    change(&mut claims);
    sign_hs256(SECRET, &claims)
}

pub fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs()
}

/// Sends a request that is to be refused; the answer's header fields.
pub async fn refused(request: RequestBuilder, status: u16, code: &str) -> HeaderMap {
    let response = request.send().await.unwrap();
    let url = response.url().clone();
    let (own, fields) = (response.status(), response.headers().clone());
    let body = response.bytes().await.unwrap();
    assert_eq!(own, status, "{url} {body:?}");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], code, "{url}");
    assert!(!body["message"].as_str().unwrap().is_empty());
    assert_eq!(fields["cache-control"], "no-store");
    fields
}

/// An event stream as a browser reads it.
pub struct Events {
    response: Response,
    received: String,
    /// What a browser would send as `Last-Event-ID`.
    pub last_id: Option<String>,
    pub retry_ms: Option<u64>,
    pub comments: usize,
}

impl Events {
    pub async fn open(request: RequestBuilder) -> Self {
        let response = timeout(PATIENCE, request.send()).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            received: String::new(),
            last_id: None,
            retry_ms: None,
            comments: 0,
        }
    }

    /// The next event's data; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Value> {
        timeout(PATIENCE, self.wait())
            .await
            .expect("an event in time")
    }

    async fn wait(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.received.find("\n\n") {
                let block: String = self.received.drain(..end + 2).collect();
                if let Some(event) = self.read(&block) {
                    return Some(event);
                }
                continue;
            }
            // A stream that breaks off has ended as well.
            let chunk = self.response.chunk().await.ok().flatten()?;
            self.received.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    fn read(&mut self, block: &str) -> Option<Value> {
        let (mut name, mut data) = ("", None);
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.split_once(": ") {
                Some(("event", text)) => name = text,
                Some(("data", text)) => data = Some(text),
                Some(("id", text)) => self.last_id = Some(text.to_owned()),
                Some(("retry", text)) => self.retry_ms = text.parse().ok(),
                _ => self.comments += 1,
            }
        }
        let value: Value = serde_json::from_str(data?).unwrap();
        assert_eq!(value["type"], name);
        Some(value)
    }

    /// The next event of this type; others are passed over.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await.expect(kind);
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// Reads on until an id has come.
    pub async fn id(&mut self) -> String {
        self.last_id = None;
        let wait = async {
            while self.last_id.is_none() {
                let Some(end) = self.received.find("\n\n") else {
                    let chunk = self.response.chunk().await.unwrap().unwrap();
                    self.received.push_str(std::str::from_utf8(&chunk).unwrap());
                    continue;
                };
                let block: String = self.received.drain(..end + 2).collect();
                self.read(&block);
            }
        };
        timeout(PATIENCE, wait).await.expect("an id in time");
        self.last_id.clone().unwrap()
    }
}
