//! Peers that fall silent without a word: stopped, or cut off.

use std::{
    ffi::OsStr,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    harness::{eventually, http_get, metric},
    hosts::{Hosts, NEAR},
    process::{Process, Serve, command},
    resume::run,
};

/// A second of idleness, a second for the pong.
const QUICK: [&str; 2] = ["--set=ping_idle_s=1", "--set=pong_wait_s=1"];
/// What both take, the three seconds that a close may take, and as much again for a busy machine.
const WITHIN: Duration = Duration::from_secs(10);
/// Labels of a subscriber that answered no ping.
const GIVEN_UP: &str = r#"endpoint="subscribe",reason="no_pong""#;
/// Prints the page of metrics of the engine at `$0`.
const SCRAPE: &str = r#"exec 3<>"/dev/tcp/${0/://}" &&
    printf 'GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' >&3 && cat <&3"#;

#[test]
fn a_stopped_client_is_closed_and_misses_nothing_once_it_runs_again() {
    let serve = Serve::with(&QUICK);
    let publish = |seqs| {
        let mut publisher = serve.connect("/v1/publish", None);
        publisher.publish(&run("A", 1, seqs));
    };
    publish(1..=1);
    let client = Process::start(serve.client("subscribe", &["--symbols=A"]));
    client.stdout_line(|line| line.contains(r#""seq":1,"#).then_some(()));
    client.signal(Signal::STOP);
    let stopped = Instant::now();
    let page = || http_get(serve.admin, "/metrics");
    eventually("the stopped client is given up", || {
        metric(&page(), "tickwire_closes_total", GIVEN_UP) == 1.0
    });
    assert!(stopped.elapsed() < WITHIN, "{:?}", stopped.elapsed());
    publish(2..=50);
    client.signal(Signal::CONT);
    client.stdout_line(|line| line.contains(r#""seq":50,"#).then_some(()));
    let told = client.stdout();
    let ticks = told.iter().filter(|line| line.contains(r#""seq":"#));
    assert_eq!(ticks.count(), 50, "each once: {told:?}");
}

#[test]
fn a_peer_that_is_cut_off_is_closed_whether_or_not_ticks_are_due() {
    let hosts = Hosts::new();
    let serve = Serve::adjusted(|command, _| {
        let listen = format!("--listen={NEAR}");
        let here = |arg: &OsStr| arg.to_string_lossy().replace("--listen=127.0.0.1", &listen);
        let mut served = self::command(command.get_program());
        served.args(command.get_args().map(here)).args(QUICK);
        *command = hosts.near(&served);
    });
    let admin = serve.admin.to_string();
    let page = || {
        let mut scrape = command("bash");
        scrape.args(["-c", SCRAPE, &admin]);
        Process::run(hosts.near(&scrape)).ok().join("\n")
    };
    let market = ["--synthetic", "--symbols=4", "--rate=200"];
    let _publisher = Process::start(hosts.near(&serve.client("publish", &market)));
    let subscriber = |symbols| {
        let client = serve.client("subscribe", &["--symbols", symbols]);
        Process::start(hosts.far(&client))
    };
    let (_quiet, busy) = (subscriber("NOBODY"), subscriber("*"));
    busy.stdout_line(|line| line.contains(r#""seq":"#).then_some(()));
    let connections = || metric(&page(), "tickwire_floor_connections", "");
    eventually("both are inside", || connections() == 2.0);
    hosts.pull_the_cable();
    let pulled = Instant::now();
    eventually("both are given up", || connections() == 0.0);
    assert!(pulled.elapsed() < WITHIN, "{:?}", pulled.elapsed());
    let page = page();
    let closed = metric(&page, "tickwire_closes_total", GIVEN_UP);
    assert_eq!(closed, 2.0, "{page}");
}
