//! A host whose cable to Redis is pulled, so that nothing arrives and nobody is told; and one whose
//! cable drops packets.

use std::{collections::BTreeSet, ffi::OsStr, path::Path, process::Command, time::Duration};

use serde_json::Value;

use crate::{
    harness::eventually,
    hosts::{Hosts, NEAR},
    process::{Process, Serve, command},
};

/// In namespaces of its own every port is free.
const PORT: &str = "6379";
/// How long the publisher publishes, and how long the cable is pulled meanwhile.
const PUBLISHING: &str = "--duration=12s";
const PULLED: Duration = Duration::from_secs(5);
const SYMBOLS: usize = 20;

/// What a line of `tickwire subscribe` accounts for, over all of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Account {
    delivered: u64,
    gapped: u64,
    stale: usize,
    live: usize,
    symbols: BTreeSet<String>,
}

impl Account {
    fn of(subscriber: &Process) -> Self {
        let mut account = Self::default();
        for line in subscriber.stdout() {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            match line["type"].as_str() {
                Some("trade" | "quote") => {
                    account.delivered += 1;
                    account
                        .symbols
                        .extend(line["symbol"].as_str().map(str::to_owned));
                }
                Some("gap") => {
                    let end = |name: &str| line[name].as_u64().expect("a seq");
                    account.gapped += end("to") + 1 - end("from");
                }
                Some("feed") if line["state"] == "stale" => account.stale += 1,
                Some("feed") => account.live += 1,
                _ => panic!("{line}"),
            }
        }
        account
    }

    fn all(&self) -> u64 {
        self.delivered + self.gapped
    }
}

fn on(host: impl Fn(&Command) -> Command) -> Serve {
    Serve::adjusted(|command, _: &Path| {
        let mut serve = self::command(command.get_program());
        serve.args(command.get_args().map(OsStr::to_owned));
        serve.args([
            "--redis",
            &format!("redis://{NEAR}:{PORT}"),
            "--set=bridge_backlog=32768",
        ]);
        *command = host(&serve);
    })
}

/// Two hosts, the first beside Redis, with a subscriber of everything on each and a publisher on the first.
struct Stand {
    hosts: Hosts,
    /// They serve until the stand ends.
    _serving: [Serve; 2],
    _redis: Process,
    publisher: Process,
    here: Process,
    there: Process,
}

impl Stand {
    /// Ticks of all symbols come through.
    fn new() -> Self {
        let hosts = Hosts::new();
        let mut redis = command("redis-server");
        redis.args(["--port", PORT, "--bind", NEAR, "--protected-mode", "no"]);
        redis.args(["--save", "", "--dir", "/tmp"]);
        let redis = Process::start(hosts.near(&redis));
        redis.stdout_line(|line| line.contains("Ready to accept connections").then_some(()));
        let (first, second) = (
            on(|command| hosts.near(command)),
            on(|command| hosts.far(command)),
        );
        let everything = ["--symbols=*", "--no-snapshot"];
        let here = Process::start(hosts.near(&first.client("subscribe", &everything)));
        let there = Process::start(hosts.far(&second.client("subscribe", &everything)));
        for subscriber in [&here, &there] {
            subscriber.stderr_line(|line| line.contains("connected").then_some(()));
        }
        let symbols = format!("--symbols={SYMBOLS}");
        let market = ["--synthetic", &symbols, "--rate=500", PUBLISHING];
        let publisher = Process::start(hosts.near(&first.client("publish", &market)));
        eventually("ticks of all symbols come through", || {
            Account::of(&there).symbols.len() == SYMBOLS
        });
        Self {
            hosts,
            _serving: [first, second],
            _redis: redis,
            publisher,
            here,
            there,
        }
    }

    /// What subscribers near and far got, once that is the same; nothing is lost.
    fn ends(self) -> [Account; 2] {
        self.publisher.wait().ok();
        eventually("everything is accounted for on both", || {
            Account::of(&self.there).all() == Account::of(&self.here).all()
        });
        let [near, far] = [&self.here, &self.there].map(Account::of);
        // Redis had all of it.
        assert_eq!((near.gapped, far.gapped), (0, 0), "{near:?} {far:?}");
        for subscriber in [&self.here, &self.there] {
            let words = subscriber.stderr().join("\n");
            assert!(!words.contains("broke its account"), "{words}");
        }
        [near, far]
    }
}

#[test]
fn a_host_that_is_cut_off_from_redis_goes_stale_and_catches_up() {
    let stand = Stand::new();
    stand.hosts.pull_the_cable();
    let before = Account::of(&stand.here);
    std::thread::sleep(PULLED);
    let cut_off = Account::of(&stand.there);
    assert!(cut_off.stale >= SYMBOLS, "{cut_off:?}");
    let untouched = Account::of(&stand.here);
    assert!(
        untouched.delivered > before.delivered + 1_000 && untouched.stale == 0,
        "{before:?} {untouched:?}"
    );
    stand.hosts.plug_the_cable_in();
    let [_, far] = stand.ends();
    // Stale when cut off and when the publisher left, live in between, and that is all.
    assert_eq!((far.stale, far.live), (2 * SYMBOLS, SYMBOLS), "{far:?}");
}

#[test]
fn a_host_behind_a_line_that_drops_packets_loses_nothing() {
    let stand = Stand::new();
    // 500 ticks/s, and their names with them, are a megabit.
    stand.hosts.narrow_the_cable(250);
    std::thread::sleep(PULLED);
    let there = Account::of(&stand.there).all();
    let behind = Account::of(&stand.here).all().saturating_sub(there);
    let dropped = stand.hosts.widen_the_cable();
    assert!(
        behind > 500 && dropped > 0,
        "{behind} ticks behind, {dropped} packets dropped"
    );
    stand.ends();
}
