//! Every setting of the engine, with its unit, default, and what happens at the bound.
//!
//! Keys are flat. A key, its environment variable (`TICKWIRE_` and the key in capitals), its
//! flag, where it has one, and its metric share one name.
//!
//! `load` puts the sources together, `check` refuses what is out of range, and
//! `engine/tickwire.sample.toml` shows every key with its default. Sources, ranges and rules for
//! tokens are an edge's as well.

mod check;
pub mod listed;
mod load;
mod networks;
mod ranges;
mod servers;

pub use check::validate;
pub use load::{ConfigError, Setting, Settings, Sources, environment, keys, to_toml};
pub use networks::Networks;
pub use ranges::{Check, Conflict, Invalid, OutOfRange};
pub use servers::Servers;

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// What a floor does while no tick comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Sleep until woken: no CPU while idle, some 10–20 µs to wake.
    Park,
    /// Never sleep: lowest latency, a whole core per floor.
    Spin,
    /// Spin for `spin_us`, then park.
    Hybrid,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The checked settings of one engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    // --- where it listens ---
    /// Address of `/v1/ws` and `/v1/publish`.
    pub listen: SocketAddr,
    /// Address of `/metrics`, `/healthz` and `/readyz`.
    pub admin: SocketAddr,
    /// Unix socket by which a process passes its listeners to the next.
    pub takeover_socket: Option<PathBuf>,
    /// Log lines as text or JSON.
    pub log_format: LogFormat,
    /// `tracing` filter, such as `info` or `tickwire_engine=debug`.
    pub log_level: String,

    // --- threads ---
    /// Floor threads, 1–64; 0 chooses by the number of cores.
    pub floors: usize,
    /// What floors do while no tick comes.
    pub idle: Idle,
    /// How long `hybrid` spins before it parks, µs.
    pub spin_us: u64,

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
    /// How long a connection outlives its token, s; then it is closed with 4401.
    pub token_grace_s: u64,
    /// How long before `exp` a client is told, s.
    pub token_expiring_s: u64,

    // --- door ---
    /// Proxies that are believed whom they speak for, by the PROXY protocol or `X-Forwarded-For`.
    pub trusted_proxies: Networks,
    /// Handshakes per second and IP (IPv6: /64), 0 for no limit; above: 429.
    pub per_ip_rate: u32,
    /// Handshakes that one IP may make at once.
    pub per_ip_burst: u32,
    /// IPs remembered; at the bound unknown IPs share one allowance.
    pub per_ip_table_max: usize,
    /// Connections of one IP (IPv6: /64), 0 for no limit; above: 429.
    pub per_ip_connections_max: u32,
    /// Handshakes per second in all, 0 for no limit; above: 503.
    pub handshakes_per_s: u32,
    /// Connections being shaken hands with; above: 503.
    pub half_open_max: usize,
    /// Connections in all; above: 503.
    pub connections_max: usize,
    /// Largest request head, bytes; above: 431.
    pub head_bytes_max: usize,
    /// How long a head may take, ms; above: 408.
    pub head_timeout_ms: u64,
    /// In-band `auth` requests waiting for verification; above: `rate_limited`.
    pub auth_queue_max: usize,
    /// Finished connections waiting for one floor or ingest; above: 503.
    pub handover_queue_max: usize,

    // --- every connection ---
    /// Silence after which `heartbeat` is sent, ms.
    pub heartbeat_ms: u64,
    /// Idle time after which a WebSocket ping is sent, s.
    pub ping_idle_s: u64,
    /// How long a client may stay silent after a ping, s; then 4408.
    pub pong_wait_s: u64,
    /// How long a connection may subscribe to nothing, s; then 4412.
    pub first_subscribe_s: u64,
    /// Operations per second; the claim `ops_per_s` overrides it. Above: `rate_limited`.
    pub ops_per_s: u32,
    /// Operations at once.
    pub ops_burst: u32,
    /// Bytes of one message from a subscriber; above: 1009.
    pub message_bytes: usize,
    /// How long a drain may take, s.
    pub drain_s: u64,

    // --- subscriptions ---
    /// Symbols and patterns per connection; the claim `max_symbols` overrides it. Above:
    /// `too_many_symbols`.
    pub symbols_per_connection: u32,
    /// Backlog of one connection, ticks; above, its symbols are conflated with a `gap`.
    pub lag_soft_ticks: usize,
    /// Bytes of frames of its own that one connection may hold queued; above: 4410.
    pub queued_bytes_max: usize,
    /// How long a connection may take nothing of what is due, s; then 4410.
    pub stall_s: u64,
    /// Bytes that `max_delay_ms` may hold; above, they are sent at once.
    pub hold_bytes_max: usize,
    /// Largest single send, bytes.
    pub send_bytes_max: usize,
    /// `TCP_NOTSENT_LOWAT`, bytes: how much unsent data the kernel takes for one connection.
    pub notsent_lowat_bytes: u32,
    /// Time for what subscribers ask in one turn of a floor, µs; the rest waits.
    pub requests_us_per_turn: u64,
    /// Time for replays and snapshots in one turn of a floor, µs; the rest waits.
    pub replay_us_per_turn: u64,
    /// Replays, resumes and snapshots under way at once per floor; the rest queue.
    pub replays_max: usize,
    /// How much earlier than its time a cursor of another host's begins, ms: for what was on its way
    /// between the hosts.
    pub resume_overlap_ms: u64,
    /// `replay` requests under way at once per connection.
    pub replays_per_connection: usize,
    /// `replay` requests queued per connection; above: `too_many_replays`.
    pub replays_queued_max: usize,
    /// Connections that a floor takes over in one turn.
    pub handovers_per_turn: usize,
    /// Tape records that a floor takes in one turn.
    pub ticks_per_turn: usize,
    /// Connections that a floor sends to before it looks for newer ticks; the rest get those in the
    /// same send. Raising it delays ticks for everyone under load, lowering it costs system calls.
    pub sends_per_turn: usize,

    // --- ingest ---
    /// Bytes of one message from a publisher; above: 1009.
    pub publish_message_bytes: usize,
    /// How long a hole waits for another source, ms.
    pub arbitration_ms: u64,
    /// Ticks held for arbitration per symbol and channel; above, the hole is declared at once.
    pub arbitration_held_max: usize,
    /// Slots of an in-process publisher's lane, a power of two; a full lane hands the tick back.
    pub lane_slots: usize,
    /// Shortest time between two acks to a publisher, ms.
    pub ack_interval_ms: u64,
    /// Errors to a publisher per `ack_interval_ms`; further ones are counted.
    pub errors_per_interval: u32,

    // --- bridge ---
    /// Redis servers as URLs: one, several of which one is the master, or some of a cluster; none:
    /// this host stands alone.
    pub redis: Servers,
    /// Whether they are a Redis Cluster.
    pub redis_cluster: bool,
    /// Streams that symbols are spread over, the same on every host.
    pub redis_shards: u32,
    /// File with the password; the user stands in the URL.
    pub redis_password_file: Option<PathBuf>,
    /// PEM file with the authorities that `rediss://` servers are checked against; the system's by
    /// default.
    pub redis_ca_file: Option<PathBuf>,
    /// Entries that a stream keeps, more or less; a host that was away for longer has a `gap`.
    pub redis_stream_entries: usize,
    /// How long a symbol's last ticks are kept in Redis that no host renews, s.
    pub redis_memory_s: u64,
    /// Bytes of an entry above which it is sent.
    pub bridge_batch_bytes: usize,
    /// The shortest time between two looks for ticks to send, µs; what comes meanwhile goes together.
    pub bridge_linger_us: u64,
    /// Entries of a shard that Redis has not confirmed; above, ticks wait on the tape.
    pub bridge_queue_max: usize,
    /// Records of the tape that may wait to be sent; beyond, the older half is dropped, with a `gap`
    /// elsewhere.
    pub bridge_backlog: usize,
    /// Other hosts' entries waiting for ingest; above, they wait in Redis.
    pub bridge_lane_slots: usize,
    /// Other hosts known at once; above, whoever has been silent for longest is forgotten.
    pub bridge_hosts_max: usize,
    /// How long a new host waits for Redis before it is ready without it, s.
    pub bridge_start_s: u64,

    // --- tape ---
    /// Slots of the tape, a power of two, 132 bytes each.
    pub tape_slots: usize,
    /// Symbols in the table, some 4 KiB each once used; above: `out_of_range`.
    pub symbols_max: usize,
    /// History below which a warning is logged, s.
    pub history_reach_s: u64,
}

/// How tokens are verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenRules {
    /// `jwt_hs256_file`.
    pub hs256_file: Option<PathBuf>,
    /// `jwt_pem_file`.
    pub pem_file: Option<PathBuf>,
    /// `jwt_jwks_file`.
    pub jwks_file: Option<PathBuf>,
    /// `jwt_issuer`.
    pub issuer: Option<String>,
    /// `jwt_audience`.
    pub audience: Option<String>,
    /// `require_entitlements`.
    pub require_entitlements: bool,
}

impl Config {
    /// How tokens are verified.
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
    const ENV_PREFIX: &'static str = "TICKWIRE_";
    // The client commands read their token from one; the others are an edge's keys.
    const ENV_IGNORED: &'static [&'static str] = &["TICKWIRE_TOKEN", "TICKWIRE_EDGE_*"];

    fn validate(&self) -> Result<(), Invalid> {
        validate(self)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9001)),
            admin: SocketAddr::from(([127, 0, 0, 1], 9100)),
            takeover_socket: None,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
            floors: 0,
            idle: Idle::Park,
            spin_us: 50,
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
            per_ip_rate: 3,
            per_ip_burst: 10,
            per_ip_table_max: 65_536,
            per_ip_connections_max: 1_024,
            handshakes_per_s: 20_000,
            half_open_max: 1_024,
            connections_max: 100_000,
            head_bytes_max: 8_192,
            head_timeout_ms: 5_000,
            auth_queue_max: 1_024,
            handover_queue_max: 4_096,
            heartbeat_ms: 5_000,
            ping_idle_s: 20,
            pong_wait_s: 25,
            first_subscribe_s: 30,
            ops_per_s: 10,
            ops_burst: 20,
            message_bytes: 64 * 1024,
            drain_s: 10,
            symbols_per_connection: 1_024,
            lag_soft_ticks: 8_192,
            queued_bytes_max: 8 * 1024 * 1024,
            stall_s: 30,
            hold_bytes_max: 64 * 1024,
            send_bytes_max: 256 * 1024,
            notsent_lowat_bytes: 128 * 1024,
            requests_us_per_turn: 500,
            replay_us_per_turn: 500,
            replays_max: 64,
            resume_overlap_ms: 5_000,
            replays_per_connection: 4,
            replays_queued_max: 64,
            handovers_per_turn: 32,
            ticks_per_turn: 8_192,
            sends_per_turn: 1_024,
            publish_message_bytes: 1024 * 1024,
            arbitration_ms: 20,
            arbitration_held_max: 4_096,
            lane_slots: 65_536,
            ack_interval_ms: 100,
            errors_per_interval: 100,
            redis: Servers::default(),
            redis_cluster: false,
            redis_shards: 1,
            redis_password_file: None,
            redis_ca_file: None,
            redis_stream_entries: 100_000,
            redis_memory_s: 7 * 86_400,
            bridge_batch_bytes: 16 * 1024,
            bridge_linger_us: 500,
            bridge_queue_max: 1_024,
            bridge_backlog: 1 << 19,
            bridge_lane_slots: 1_024,
            bridge_hosts_max: 64,
            bridge_start_s: 30,
            tape_slots: 1 << 20,
            symbols_max: 16_384,
            history_reach_s: 60,
        }
    }
}
