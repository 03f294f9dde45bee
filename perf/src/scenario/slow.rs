//! Subscribers that stop reading for a while, beside others that do not.

use super::{Arena, P99_MAX_US, PlayError, Settings, traces::Page};
use crate::{
    process::Tree,
    run::Point,
    schedule::{Schedule, Window},
    session::{Session, SessionError, Target},
    stall::{Stalled, Task},
    token::Signer,
    worker::{Contact, Worker},
};

/// How many stop.
const SLOW: u32 = 100;
/// What tickwire is started with, so that a minute shows it.
pub(super) const BOUNDS: [&str; 2] = ["--set=lag_soft_ticks=1024", "--set=stall_s=20"];
/// Everyone is connected and reads, s.
const BEFORE_S: f64 = 3.0;
/// Everyone reads again, s.
const AFTER_S: f64 = 5.0;
/// How long nobody reads: not at all, less than `stall_s`, more than it.
const SILENCES_S: [(&str, f64); 3] = [("none stops", 0.0), ("12 s", 12.0), ("45 s", 45.0)];

pub(super) fn play(
    settings: &Settings,
    arena: &Arena<'_>,
    signer: &Signer,
) -> Result<Vec<Point>, PlayError> {
    arena.play(&BOUNDS.map(String::from), |target| {
        let mut session = Session::open(target, settings.audience(), signer)?;
        let mut points = Vec::new();
        for (label, silence_s) in SILENCES_S {
            let mut point = silence(&mut session, &target, signer, settings, silence_s)?;
            label.clone_into(&mut point.label);
            points.push(point);
        }
        Ok(points)
    })
}

fn silence(
    session: &mut Session<'_>,
    target: &Target<'_>,
    signer: &Signer,
    settings: &Settings,
    silence_s: f64,
) -> Result<Point, SessionError> {
    let begins_us = session.next_start_us();
    let seconds = BEFORE_S + silence_s.max(SILENCES_S[1].1) + AFTER_S;
    let schedule = Schedule::new(begins_us, settings.rate, seconds);
    let after = |seconds: f64| begins_us + (seconds * 1e6) as u64;
    let task = Task {
        contact: Contact::of(target, signer),
        symbols: settings.symbols,
        count: SLOW,
        silent_from_us: after(BEFORE_S),
        silent_to_us: after(BEFORE_S + silence_s),
        until_us: schedule.end_us(),
    };
    // A client whose socket is full never reads that it was closed.
    let closed = || Page::of(target).sum("tickwire_closes_total", "slow_consumer");
    let closed_before = closed();
    let before_bytes = target.tree.map(Tree::rss_bytes).transpose()?;
    target.tree.map(Tree::forget_peak).transpose()?;
    let worker = (silence_s > 0.0).then(|| task.start()).transpose()?;
    let window = Window {
        from_us: task.silent_from_us,
        to_us: schedule.window(0, 0.0).to_us,
    };
    let points = session.run(&schedule, &[window], P99_MAX_US)?;
    let stalled: Option<Stalled> = worker.map(Worker::end).transpose()?;
    let peak_bytes = target.tree.map(Tree::peak_rss_bytes).transpose()?;
    let mut point = points.into_iter().next().unwrap_or_default();
    if let Some((before, peak)) = before_bytes.zip(peak_bytes) {
        point.add([("grown_kib", peak.saturating_sub(before) as f64 / 1024.0)]);
    }
    if let Some((before, after)) = closed_before.zip(closed()) {
        point.add([("closed_4410", after - before)]);
    }
    if let Some(stalled) = stalled {
        let counts = stalled.counts;
        point.add([
            ("slow_delivered", counts.delivered as f64),
            ("slow_gapped", counts.gapped as f64),
            ("slow_unaccounted", counts.unaccounted() as f64),
            ("slow_lost", stalled.lost as f64),
        ]);
    }
    Ok(point)
}
