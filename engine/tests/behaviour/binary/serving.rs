//! `tickwire serve` and `tickwire token`.

use crate::{
    harness::{Client, http_get},
    process::{Process, Serve, tickwire, token},
};

/// Every bound of the configuration, and the metric that shows how full it is or what it cost.
const BOUNDS: [(&str, &str); 32] = [
    ("per_ip_rate", "tickwire_handshakes_total"),
    ("per_ip_table_max", "tickwire_per_ip_table"),
    ("per_ip_connections_max", "tickwire_client_ips"),
    ("handshakes_per_s", "tickwire_handshakes_total"),
    ("half_open_max", "tickwire_half_open"),
    ("connections_max", "tickwire_connections"),
    ("auth_queue_max", "tickwire_auth_queue"),
    ("handover_queue_max", "tickwire_handover_queue"),
    ("symbols_per_connection", "tickwire_subscriptions"),
    ("lag_soft_ticks", "tickwire_longest_backlog_ticks"),
    ("queued_bytes_max", "tickwire_queued_bytes"),
    ("hold_bytes_max", "tickwire_queued_ticks"),
    ("stall_s", "tickwire_closes_total"),
    ("send_bytes_max", "tickwire_sent_bytes_total"),
    ("replays_max", "tickwire_replays_runnable"),
    ("replays_queued_max", "tickwire_replays"),
    ("ticks_per_turn", "tickwire_tape_laps_total"),
    ("sends_per_turn", "tickwire_sends_total"),
    ("arbitration_ms", "tickwire_source_gaps_total"),
    ("arbitration_held_max", "tickwire_arbitration_held"),
    ("lane_slots", "tickwire_lane_ticks"),
    ("errors_per_interval", "tickwire_ticks_refused_total"),
    ("tape_slots", "tickwire_tape_position"),
    ("history_reach_s", "tickwire_history_reach_seconds"),
    ("symbols_max", "tickwire_symbols"),
    ("requests_us_per_turn", "tickwire_requests_waiting"),
    ("replay_us_per_turn", "tickwire_replays"),
    ("redis_stream_entries", "tickwire_bridge_missing_total"),
    ("bridge_queue_max", "tickwire_bridge_queue"),
    ("bridge_backlog", "tickwire_bridge_behind"),
    ("bridge_lane_slots", "tickwire_bridge_lane"),
    ("bridge_hosts_max", "tickwire_bridge_hosts"),
];

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let serve = Serve::adjusted(|command, folder| {
        let file = folder.join("tickwire.toml");
        std::fs::write(
            &file,
            "heartbeat_ms = 2000\nops_per_s = 77\nmessage_bytes = 10000\nlisten = \"127.0.0.1:1\"\n",
        )
        .expect("a file");
        command
            .arg("--config")
            .arg(file)
            .args(["--set", "message_bytes=20000"])
            .env("TICKWIRE_HEARTBEAT_MS", "1500")
            .env("TICKWIRE_MESSAGE_BYTES", "15000");
    });
    let mut client =
        Client::open(serve.listen, "/v1/ws", &serve.token, None).expect("the upgrade succeeds");
    let welcome = client.next();
    assert_eq!(welcome["limits"]["ops_per_s"], 77, "the file: {welcome}");
    assert_eq!(welcome["heartbeat_ms"], 1_500, "the variable: {welcome}");
    assert_eq!(
        welcome["limits"]["message_bytes"], 20_000,
        "the flag: {welcome}"
    );
    assert_ne!(serve.listen.port(), 1);
}

#[test]
fn check_prints_every_setting_and_serves_nothing() {
    let mut command = tickwire(&["serve", "--check", "--floors=3"]);
    command.env("TICKWIRE_DRAIN_S", "7");
    let printed = Process::run(command).ok().join("\n");
    let settings: toml::Table = printed.parse().expect("TOML");
    assert_eq!(settings["floors"].as_integer(), Some(3));
    assert_eq!(settings["drain_s"].as_integer(), Some(7));
    assert_eq!(settings["listen"].as_str(), Some("127.0.0.1:9001"));
}

#[test]
fn an_unknown_key_is_refused_wherever_it_stands() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "flors = 2\n").expect("a file");
    let path = file.path().display().to_string();
    let in_the_file = tickwire(&["serve", "--check", "--config", &path]);
    let on_the_line = tickwire(&["serve", "--check", "--set=flors=2"]);
    let mut in_the_environment = tickwire(&["serve", "--check"]);
    in_the_environment.env("TICKWIRE_FLORS", "2");
    for command in [in_the_file, on_the_line, in_the_environment] {
        let (code, words) = Process::run(command).failure();
        assert_eq!(code, Some(2), "{words}");
        assert!(words.contains("`flors`; did you mean `floors`?"), "{words}");
    }
    let (code, words) = Process::run(tickwire(&["serve", "--check", "--set=floors=65"])).failure();
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("`floors` is 65"), "{words}");
}

#[test]
fn a_token_of_the_command_is_accepted_with_the_claims_it_was_given() {
    let serve = Serve::start();
    let secret = serve.path("secret");
    let token = token(&secret, &["--symbols=BTC-*", "--max-symbols=5"]);
    let mut client =
        Client::open(serve.listen, "/v1/ws", &token, None).expect("the upgrade succeeds");
    assert_eq!(client.next()["limits"]["symbols"], 5);
    let ack = client.subscribe(serde_json::json!({"symbols": ["BTC-USDT", "AAPL"]}));
    assert_eq!(ack["symbols"], serde_json::json!(["BTC-USDT"]));
    assert_eq!(ack["rejected"][0]["code"], "not_entitled", "{ack}");
    let refused = Client::open(serve.listen, "/v1/publish", &token, None);
    assert!(refused.is_err(), "the token may not publish");
}

#[test]
fn the_log_says_where_io_uring_is_denied() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "x".repeat(32)).expect("a file");
    let args = ["serve", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0"];
    let mut command = tickwire(&args);
    command.arg("--jwt-hs256-file").arg(secret);
    let process = Process::start_without_uring(command);
    process.stderr_line(|line| line.contains("serving listen=").then_some(()));
    let log = process.stderr().join("\n");
    assert!(log.contains("io_uring is denied"), "{log}");
    assert!(log.contains("epoll"), "{log}");
}

#[test]
fn the_metrics_page_has_a_line_for_every_bound() {
    // A bridge that finds nobody has its metrics as well.
    let nobody = ["--redis=redis://127.0.0.1:1", "--set=bridge_backlog=32768"];
    let serve = Serve::with(&nobody);
    let mut subscriber = serve.connect("/v1/ws", None);
    subscriber.subscribe(serde_json::json!({"symbols": ["*"]}));
    let page = http_get(serve.admin, "/metrics");
    let missing: Vec<_> = BOUNDS
        .iter()
        .filter(|(_, metric)| {
            !page
                .lines()
                .any(|line| line.split(['{', ' ']).next() == Some(*metric))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}\n{page}");
}

#[test]
fn a_port_that_is_taken_is_told_with_its_key() {
    let serve = Serve::start();
    let address = serve.listen.to_string();
    let secret = serve.path("secret");
    let args = ["serve", "--admin=127.0.0.1:0", "--jwt-hs256-file", &secret];
    let mut command = tickwire(&args);
    command.args(["--listen", &address]);
    let (code, words) = Process::run(command).failure();
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains(&format!("listen = {address}")), "{words}");
    // The first one is not harmed.
    serve.connect("/v1/ws", None);
}
