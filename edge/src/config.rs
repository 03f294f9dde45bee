//! Every setting of an edge, with its unit, default, and what happens at the bound.
//!
//! Keys, sources and checks are as an engine's: a key, its environment variable
//! (`TICKWIRE_EDGE_` and the key in capitals), its flag, where it has one, and its metric share one
//! name. `edge/tickwire-edge.sample.toml` shows every key with its default.

use std::{fmt, net::SocketAddr, path::PathBuf};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};
use tickwire_engine::config::{Check, Invalid, LogFormat, Networks, Settings, TokenRules};

const MIB: u64 = 1024 * 1024;
const DAY_S: u64 = 24 * 60 * 60;

/// The checked settings of one edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    // --- where it listens ---
    /// Address of the pages for clients.
    pub listen: SocketAddr,
    /// Address of `/metrics`, `/healthz` and `/readyz`.
    pub admin: SocketAddr,
    /// Certificate chain, PEM; with `tls_key_file` the edge speaks HTTPS.
    pub tls_cert_file: Option<PathBuf>,
    /// Private key of the certificate, PEM.
    pub tls_key_file: Option<PathBuf>,
    /// Worker threads; 0 is one a core.
    pub threads: usize,
    /// Log lines as text or JSON.
    pub log_format: LogFormat,
    /// `tracing` filter, such as `info` or `tickwire_edge=debug`.
    pub log_level: String,

    // --- upstream ---
    /// Engines, such as `ws://127.0.0.1:9001/v1/ws`; one is used at a time, the next when it fails.
    pub upstream: Texts,
    /// File with the token for them; read before every connection.
    pub upstream_token_file: Option<PathBuf>,
    /// How long a subscription stays after its last client, s: a poll comes back for it.
    pub linger_s: u64,
    /// Symbols and patterns that all clients together may follow; above: `too_many_symbols`.
    pub union_max: usize,

    // --- tokens ---
    /// File with the HS256 secret (trailing newline ignored), at least 32 bytes.
    pub jwt_hs256_file: Option<PathBuf>,
    /// PEM file with an RSA, EC P-256 or Ed25519 public key; pins RS256, ES256 or `EdDSA`.
    pub jwt_pem_file: Option<PathBuf>,
    /// JWKS file (RFC 7517); keys are chosen by `kid`.
    pub jwt_jwks_file: Option<PathBuf>,
    /// How often key files are looked at for changes, ms.
    pub jwt_reload_ms: u64,
    /// Required `iss`.
    pub jwt_issuer: Option<String>,
    /// Required `aud`.
    pub jwt_audience: Option<String>,
    /// Whether a token without `symbols` allows nothing (else everything).
    pub require_entitlements: bool,
    /// How long a stream outlives its token, s; then it ends with `goodbye` `token_expired`.
    pub token_grace_s: u64,
    /// How long before `exp` a client is told, s.
    pub token_expiring_s: u64,

    // --- door ---
    /// Proxies that are believed in `X-Forwarded-For` whom they speak for.
    pub trusted_proxies: Networks,
    /// Origins whose pages may use this edge, such as `https://app.example`; its own always may.
    pub allowed_origins: Texts,
    /// Requests for ticks per second and IP (IPv6: /64), 0 for no limit; above: 429.
    pub per_ip_rate: u32,
    /// Requests for ticks that one IP may make at once.
    pub per_ip_burst: u32,
    /// IPs remembered; at the bound unknown IPs share one allowance.
    pub per_ip_table_max: usize,
    /// Streams of one IP (IPv6: /64), 0 for no limit; above: 429.
    pub per_ip_connections_max: u32,
    /// Sockets in all; above, a new one is closed at once.
    pub sockets_max: usize,
    /// Sockets of one IP (IPv6: /64) that is no trusted proxy, 0 for no limit; above, as before.
    pub per_ip_sockets_max: u32,
    /// Streams in all; above: 503.
    pub streams_max: usize,
    /// Polls waiting for something new; above: 503.
    pub polls_max: usize,
    /// Streams of one HTTP/2 connection at once.
    pub http2_streams_max: u32,
    /// Largest request head, bytes; above: 431.
    pub head_bytes_max: usize,
    /// How long a head may take, ms; then the socket is closed.
    pub head_timeout_ms: u64,

    // --- every stream ---
    /// Silence after which a comment is sent, ms.
    pub heartbeat_ms: u64,
    /// Shortest `retry:`, ms; each client gets up to twice of it by chance.
    pub retry_ms: u64,
    /// Symbols and patterns of one client; the claim `max_symbols` overrides it. Above:
    /// `too_many_symbols`.
    pub symbols_per_client: u32,
    /// Backlog of one client, ticks; above, its symbols are conflated with a `gap`.
    pub lag_soft_ticks: usize,
    /// Bytes other than live ticks that one client may hold queued; above, its stream ends.
    pub queued_bytes_max: usize,
    /// How long a client may take nothing of what is due, s; then its stream ends.
    pub stall_s: u64,
    /// Largest single write, bytes.
    pub send_bytes_max: usize,
    /// `TCP_NOTSENT_LOWAT`, bytes: how much unsent data the kernel takes for one socket.
    pub notsent_lowat_bytes: u32,
    /// How long a drain may take, s.
    pub drain_s: u64,

    // --- history ---
    /// Ticks kept for resumes, of all symbols together.
    pub history_ticks: usize,
    /// Symbols in the table; ticks of further ones are dropped with a count.
    pub symbols_max: usize,
    /// Resumes that the engine serves at once; the rest queue.
    pub replays_max: usize,
    /// Resumes waiting for the engine; above: 503.
    pub replays_queued_max: usize,
    /// Bytes of one resume that are kept for a client; what is beyond becomes a `gap`.
    pub replay_bytes_max: usize,

    // --- the page ---
    /// The engine that the page connects to, as browsers see it; without it, SSE and long poll only.
    pub page_engine: Option<String>,
    /// File with a token for everyone who opens the page; for demonstrations.
    pub page_token_file: Option<PathBuf>,
    /// Symbols of the page; without, all.
    pub page_symbols: Texts,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9002)),
            admin: SocketAddr::from(([127, 0, 0, 1], 9102)),
            tls_cert_file: None,
            tls_key_file: None,
            threads: 0,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
            upstream: Texts(vec!["ws://127.0.0.1:9001/v1/ws".to_owned()]),
            upstream_token_file: None,
            linger_s: 60,
            union_max: 16_384,
            jwt_hs256_file: None,
            jwt_pem_file: None,
            jwt_jwks_file: None,
            jwt_reload_ms: 1_000,
            jwt_issuer: None,
            jwt_audience: None,
            require_entitlements: false,
            token_grace_s: 30,
            token_expiring_s: 60,
            trusted_proxies: Networks::default(),
            allowed_origins: Texts::default(),
            per_ip_rate: 20,
            per_ip_burst: 50,
            per_ip_table_max: 65_536,
            per_ip_connections_max: 1_024,
            sockets_max: 100_000,
            per_ip_sockets_max: 2_048,
            streams_max: 100_000,
            polls_max: 20_000,
            http2_streams_max: 256,
            head_bytes_max: 16 * 1024,
            head_timeout_ms: 5_000,
            heartbeat_ms: 5_000,
            retry_ms: 1_000,
            symbols_per_client: 1_024,
            lag_soft_ticks: 4_096,
            queued_bytes_max: 4 * 1024 * 1024,
            stall_s: 30,
            send_bytes_max: 64 * 1024,
            notsent_lowat_bytes: 128 * 1024,
            drain_s: 10,
            history_ticks: 1 << 18,
            symbols_max: 65_536,
            replays_max: 4,
            replays_queued_max: 1_024,
            replay_bytes_max: 64 * 1024 * 1024,
            page_engine: None,
            page_token_file: None,
            page_symbols: Texts::default(),
        }
    }
}

impl Config {
    /// How clients' tokens are verified.
    pub fn token_rules(&self) -> TokenRules {
        TokenRules {
            hs256_file: self.jwt_hs256_file.clone(),
            pem_file: self.jwt_pem_file.clone(),
            jwks_file: self.jwt_jwks_file.clone(),
            issuer: self.jwt_issuer.clone(),
            audience: self.jwt_audience.clone(),
            require_entitlements: self.require_entitlements,
        }
    }
}

impl Settings for Config {
    const ENV_PREFIX: &'static str = "TICKWIRE_EDGE_";
    const ENV_IGNORED: &'static [&'static str] = &[];

    fn validate(&self) -> Result<(), Invalid> {
        let mut check = Check::default();
        self.check_listeners(&mut check);
        self.check_door(&mut check);
        self.check_streams(&mut check);
        self.check_history(&mut check);
        check.result()
    }
}

impl Config {
    fn check_listeners(&self, check: &mut Check) {
        check.log_level(&self.log_level);
        check.range("threads", self.threads, 0..=1_024);
        check.holds(
            self.listen != self.admin || self.listen.port() == 0,
            "admin",
            "listen",
            "two listeners need two addresses",
        );
        check.holds(
            self.tls_cert_file.is_some() == self.tls_key_file.is_some(),
            "tls_cert_file",
            "tls_key_file",
            "a certificate and its key come together",
        );
        if self.upstream.0.is_empty() {
            check.refuse("upstream", "empty", "one address at least".to_owned());
        }
        for url in &self.upstream.0 {
            if let Err(error) = tickwire_engine::client::Target::parse(url) {
                check.refuse("upstream", url, error.to_string());
            }
        }
        for origin in &self.allowed_origins.0 {
            let is_origin = origin
                .parse::<http::Uri>()
                .is_ok_and(|uri| uri.scheme().is_some() && !origin.ends_with('/'));
            if !is_origin {
                let allowed = "an origin such as https://app.example".to_owned();
                check.refuse("allowed_origins", origin, allowed);
            }
        }
    }

    fn check_door(&self, check: &mut Check) {
        check.token_rules(&self.token_rules(), self.jwt_reload_ms);
        check.token_times(self.token_grace_s, self.token_expiring_s);
        check.per_ip(
            self.per_ip_rate,
            self.per_ip_burst,
            self.per_ip_table_max,
            self.per_ip_connections_max,
        );
        check.range("sockets_max", self.sockets_max, 1..=10_000_000);
        check.range(
            "per_ip_sockets_max",
            self.per_ip_sockets_max,
            0..=10_000_000,
        );
        check.range("streams_max", self.streams_max, 1..=10_000_000);
        check.range("polls_max", self.polls_max, 1..=10_000_000);
        check.range("http2_streams_max", self.http2_streams_max, 1..=100_000);
        check.range("head_bytes_max", self.head_bytes_max, 8_192..=MIB);
        check.range("head_timeout_ms", self.head_timeout_ms, 100..=600_000);
    }

    fn check_streams(&self, check: &mut Check) {
        check.range("heartbeat_ms", self.heartbeat_ms, 100..=600_000);
        check.range("retry_ms", self.retry_ms, 100..=600_000);
        check.range("symbols_per_client", self.symbols_per_client, 1..=1_000_000);
        check.range("lag_soft_ticks", self.lag_soft_ticks, 1..=1 << 24);
        check.range(
            "queued_bytes_max",
            self.queued_bytes_max,
            64 * 1024..=1024 * MIB,
        );
        check.range("stall_s", self.stall_s, 1..=DAY_S);
        check.range("send_bytes_max", self.send_bytes_max, 1_024..=64 * MIB);
        check.range(
            "notsent_lowat_bytes",
            self.notsent_lowat_bytes,
            1_024..=1024 * MIB,
        );
        check.range("drain_s", self.drain_s, 0..=3_600);
    }

    fn check_history(&self, check: &mut Check) {
        check.range("linger_s", self.linger_s, 0..=DAY_S);
        check.range("union_max", self.union_max, 1..=1 << 24);
        check.range("history_ticks", self.history_ticks, 1_024..=1 << 28);
        check.range("symbols_max", self.symbols_max, 1..=1 << 22);
        check.range("replays_max", self.replays_max, 1..=64);
        check.range("replays_queued_max", self.replays_queued_max, 0..=1 << 20);
        check.range(
            "replay_bytes_max",
            self.replay_bytes_max,
            MIB..=64 * 1024 * MIB,
        );
    }
}

/// Texts, written as a list, or as one text with commas, which the environment and flags need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Texts(pub Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListOrText)
    }
}

struct ListOrText;

impl<'de> Visitor<'de> for ListOrText {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts, or a text with commas")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
        let entries = text.split(',').map(str::trim);
        let entries = entries.filter(|entry| !entry.is_empty());
        Ok(Texts(entries.map(str::to_owned).collect()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(entry) = entries.next_element()? {
            texts.push(entry);
        }
        Ok(Texts(texts))
    }
}

#[cfg(test)]
mod tests {
    use tickwire_engine::config::{Setting, Sources, keys, to_toml};

    use super::*;

    const SAMPLE: &str = include_str!("../tickwire-edge.sample.toml");

    fn load(flags: &[(&str, &str)]) -> Result<Config, String> {
        let setting = |(key, value): &(&str, &str)| Setting {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        let sources = Sources {
            flags: flags.iter().map(setting).collect(),
            ..Sources::default()
        };
        sources.load().map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_valid_and_survive_toml() {
        let config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        let text = to_toml(&config).unwrap();
        assert!(
            text.contains("upstream = [\"ws://127.0.0.1:9001/v1/ws\"]"),
            "{text}"
        );
        assert_eq!(load(&[]).unwrap(), config);
    }

    #[test]
    fn the_sample_shows_every_key_with_its_default() {
        for key in keys::<Config>() {
            let shown = SAMPLE.lines().any(|line| {
                line.trim_start_matches("# ")
                    .starts_with(&format!("{key} = "))
            });
            assert!(shown, "{key}");
        }
        for line in to_toml(&Config::default()).unwrap().lines() {
            assert!(SAMPLE.contains(line), "{line}");
        }
    }

    #[test]
    fn lists_can_be_one_text() {
        let config = load(&[("upstream", "ws://a/v1/ws, ws://b/v1/ws")]).unwrap();
        assert_eq!(config.upstream.0, ["ws://a/v1/ws", "ws://b/v1/ws"]);
    }

    #[test]
    fn what_does_not_go_is_named() {
        for (flags, named) in [
            (&[("upstream", "")][..], "`upstream` is empty"),
            (&[("upstream", "http://a")], "`upstream` is http://a"),
            (&[("allowed_origins", "app.example")], "`allowed_origins`"),
            (
                &[("tls_cert_file", "a.pem")],
                "`tls_cert_file` and `tls_key_file`",
            ),
            (&[("admin", "127.0.0.1:9002")], "`admin` and `listen`"),
            (&[("lag_soft_ticks", "0")], "`lag_soft_ticks` is 0"),
            (&[("lag_soft_tick", "1")], "did you mean `lag_soft_ticks`"),
        ] {
            let error = load(flags).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
