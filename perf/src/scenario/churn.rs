//! Clients that come and go by the thousand for minutes: whether anything of them stays behind.

use std::{net::Ipv4Addr, thread, time::Duration};

use super::{Arena, PlayError, Settings, traces::Traces};
use crate::{
    load::{Rushed, Since},
    run::Point,
    rush::Task,
    schedule::Clock,
    session::{SessionError, Target},
    token::Signer,
    worker::{Contact, Worker},
};

/// How long each client stays, s.
pub(super) const STAY_S: f64 = 3.0;
/// How long each of the first crowds comes and goes.
const FIRST_S: f64 = 15.0;
/// Crowds before the one that counts: what a process keeps for the next crowd is there after the
/// second, and later ones add nothing to it, however many they are.
const FIRST_CROWDS: usize = 2;
/// How long what is left may take to go: what a client left unsaid is noticed by then.
pub(super) const SETTLE: Duration = Duration::from_secs(10);
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const SOURCES: u32 = 64;

pub(super) fn play(
    settings: &Settings,
    arena: &Arena<'_>,
    signer: &Signer,
) -> Result<Vec<Point>, PlayError> {
    arena.play(&[], |target| {
        for _ in 0..FIRST_CROWDS {
            crowd(settings, &target, signer, FIRST_S)?;
        }
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
        clients: u32::MAX,
        at_once: settings.subscribers,
        per_s: settings.pace.connects_per_s,
        returns: false,
        stay_s: STAY_S,
        start_us,
        until_us: start_us + (seconds * 1e6) as u64,
        first_source: FIRST_SOURCE,
        sources: SOURCES,
        since: Since::nothing(start_us),
    };
    let rushed = task.start().and_then(Worker::end)?;
    thread::sleep(SETTLE);
    Ok(rushed)
}

fn point(settings: &Settings, before: &Traces, after: &Traces, rushed: &Rushed) -> Point {
    let mut point = Point {
        subscribers: u64::from(settings.subscribers),
        window_s: settings.duration_s,
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
