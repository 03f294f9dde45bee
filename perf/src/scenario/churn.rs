//! Clients that come and go by the thousand for minutes: whether anything of them stays behind.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use super::{Arena, PlayError, Settings};
use crate::{
    load::{Rushed, Since},
    process::Tree,
    run::{Memory, Point},
    rush::Task,
    schedule::Clock,
    session::{SessionError, Target},
    token::Signer,
    worker::{Contact, Worker},
};

/// How long each client stays, s.
const STAY_S: f64 = 3.0;
/// How long a first crowd comes and goes, whose traces are the server's working size.
const FIRST_S: f64 = 10.0;
/// How long what is left may take to go: what a client left unsaid is noticed by then.
const SETTLE: Duration = Duration::from_secs(10);
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const SOURCES: u32 = 64;
/// tickwire's tables, each of which is to be empty when all have gone. `tickwire_per_ip_table` is not
/// among them: addresses are forgotten by its own clock.
const GAUGES: [&str; 9] = [
    "tickwire_connections",
    "tickwire_half_open",
    "tickwire_lingering",
    "tickwire_users",
    "tickwire_client_ips",
    "tickwire_floor_connections",
    "tickwire_subscriptions",
    "tickwire_replays",
    "tickwire_timers",
];
const HTTP_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn play(
    settings: &Settings,
    arena: &Arena<'_>,
    signer: &Signer,
) -> Result<Vec<Point>, PlayError> {
    arena.play(&[], |target| {
        crowd(settings, &target, signer, FIRST_S)?;
        let before = Traces::of(&target)?;
        let rushed = crowd(settings, &target, signer, settings.duration_s)?;
        let after = Traces::of(&target)?;
        Ok(vec![point(settings, &before, &after, &rushed)])
    })
}

/// Has a crowd come and go for a while, and waits until it has gone.
fn crowd(
    settings: &Settings,
    target: &Target<'_>,
    signer: &Signer,
    seconds: f64,
) -> Result<Rushed, SessionError> {
    let start_us = Clock::start().now_us();
    let task = Task {
        contact: Contact::of(target, signer),
        symbols: settings.symbols,
        attempts: u32::MAX,
        at_once: settings.subscribers,
        per_s: settings.pace.connects_per_s,
        stay_s: STAY_S,
        start_us,
        until_us: start_us + (seconds * 1e6) as u64,
        first_source: FIRST_SOURCE,
        sources: SOURCES,
        since: Since {
            epoch: 1,
            from_us: start_us,
            from_seq: 0,
            rate: 0.0,
            away_s: 0.0,
        },
    };
    let rushed = task.start().and_then(Worker::end)?;
    thread::sleep(SETTLE);
    Ok(rushed)
}

/// What the server has in use.
struct Traces {
    rss_bytes: u64,
    files: u64,
    /// By name; empty where there is no metrics page.
    gauges: BTreeMap<String, f64>,
}

impl Traces {
    fn of(target: &Target<'_>) -> Result<Self, SessionError> {
        // tickwire is started with its admin pages on the next port.
        let admin = SocketAddr::new(target.server.ip(), target.server.port() + 1);
        let page = metrics(admin).unwrap_or_default();
        let gauges = GAUGES.map(|name| Some((name.to_owned(), sum(&page, name)?)));
        Ok(Self {
            rss_bytes: target
                .tree
                .map(Tree::rss_bytes)
                .transpose()?
                .unwrap_or_default(),
            files: target
                .tree
                .map(Tree::open_files)
                .transpose()?
                .unwrap_or_default(),
            gauges: gauges.into_iter().flatten().collect(),
        })
    }
}

fn point(settings: &Settings, before: &Traces, after: &Traces, rushed: &Rushed) -> Point {
    let mut point = Point {
        subscribers: u64::from(settings.subscribers),
        window_s: settings.duration_s,
        memory: Some(Memory::new(
            before.rss_bytes,
            after.rss_bytes,
            after.rss_bytes,
            1,
        )),
        sustained: true,
        ..Point::default()
    };
    point.add([
        ("came", rushed.attempts as f64),
        ("admitted", rushed.admitted as f64),
        ("subscribed", rushed.subscribed as f64),
        ("at_once", rushed.at_once as f64),
        ("failed", rushed.failed as f64),
        ("rss_before_mib", before.rss_bytes as f64 / 1_048_576.0),
        ("rss_after_mib", after.rss_bytes as f64 / 1_048_576.0),
        (
            "rss_ratio",
            after.rss_bytes as f64 / before.rss_bytes.max(1) as f64,
        ),
        ("files_before", before.files as f64),
        ("files_after", after.files as f64),
    ]);
    point.extra.extend(after.gauges.clone());
    point
}

/// The page of metrics.
fn metrics(admin: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, HTTP_WITHIN)?;
    stream.set_read_timeout(Some(HTTP_WITHIN))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// A metric over all its labels; `None` where the page has no such line.
fn sum(page: &str, name: &str) -> Option<f64> {
    let own = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest
            .starts_with([' ', '{'])
            .then(|| rest.rsplit(' ').next())??;
        value.parse::<f64>().ok()
    });
    own.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let page = "# HELP a b\na{floor=\"0\"} 2\na{floor=\"1\"} 3\nab 7\nb 0\n";
        assert_eq!(sum(page, "a"), Some(5.0));
        assert_eq!(sum(page, "b"), Some(0.0));
        assert_eq!(sum(page, "c"), None);
    }
}
