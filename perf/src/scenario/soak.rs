//! Everything at once, for a long time: ticks, clients that come and go, storms, slow clients, and
//! bad input. Each minute is a point, what is left behind at the end another.

use std::{io, net::Ipv4Addr, path::Path, thread};

use super::{Arena, P99_MAX_US, PlayError, Settings, churn, slow, storm, traces::Traces};
use crate::{
    abuse::{self, Abused},
    load::Rushed,
    run::Point,
    rush,
    schedule::Schedule,
    session::{Session, SessionError},
    stall::{self, Stalled},
    token::Signer,
    worker::{Contact, Worker},
};

const MINUTE_S: f64 = 60.0;
/// Memory is compared with that after so many minutes, in which history and tables fill.
const FIRST_MINUTES: usize = 4;
/// Full before that, so that what grows afterwards is not history.
const SMALL_TAPE: &str = "--set=tape_slots=32768";
/// What bad input is taken from, below the folder in which the program is started.
const CORPUS: &str = "proto/fuzz/seeds";
/// Clients that come and go, at once and new ones per second.
const VISITORS: u32 = 500;
const VISITORS_PER_S: u32 = 100;
/// One minute of so many brings a storm.
const STORM_EVERY: u32 = 4;
const STORM_CLIENTS: u32 = 10_000;
const STORM_AT_ONCE: u32 = 256;
/// Clients that stop reading in each minute; in one minute of so many for longer than they may.
const SLOW: u32 = 20;
const STALL_EVERY: u32 = 3;
/// When in a minute they stop, and for how long.
const SILENT_AFTER_S: f64 = 3.0;
const SLOW_S: f64 = 12.0;
const STALLED_S: f64 = 45.0;
const VISITORS_FROM: Ipv4Addr = Ipv4Addr::new(127, 2, 0, 1);
const STORM_FROM: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const ABUSE_FROM: Ipv4Addr = Ipv4Addr::new(127, 3, 0, 1);

pub(super) fn play(
    settings: &Settings,
    arena: &Arena<'_>,
    signer: &Signer,
) -> Result<Vec<Point>, PlayError> {
    if !Path::new(CORPUS).is_dir() {
        let missing = format!("there is no {CORPUS}: start it in the root of the repository");
        return Err(io::Error::other(missing).into());
    }
    let limits = storm::DEFAULT_LIMITS.into_iter().chain(slow::BOUNDS);
    let args = limits.chain([SMALL_TAPE]);
    let args: Vec<String> = args.map(String::from).collect();
    arena.play(&args, |target| {
        let mut session = Session::open(target, storm::audience(settings), signer)?;
        let minutes = ((settings.duration_s / MINUTE_S) as u32).max(1);
        let (mut points, mut traces) = (Vec::new(), Vec::new());
        for number in 0..minutes {
            let contact = Contact::of(&target, signer);
            let minute = Minute::new(&session, contact, settings, number);
            let mut point = minute.play(&mut session)?;
            let left = Traces::of(&target)?;
            point.label = format!("minute {}", number + 1);
            point.add([
                ("rss_mib", left.rss_bytes as f64 / 1_048_576.0),
                ("files", left.files as f64),
            ]);
            points.push(point);
            traces.push(left);
        }
        thread::sleep(churn::SETTLE);
        let before = &traces[FIRST_MINUTES.min(traces.len()) - 1];
        points.push(end(settings, before, &Traces::of(&target)?));
        Ok(points)
    })
}

/// What is left of it all, but for the subscribers, who are still there.
fn end(settings: &Settings, before: &Traces, after: &Traces) -> Point {
    let mut point = Point {
        label: "the end".to_owned(),
        subscribers: u64::from(settings.subscribers),
        sustained: true,
        ..Point::default()
    };
    let ratio = after.rss_bytes as f64 / before.rss_bytes.max(1) as f64;
    point.add([
        ("rss_mib", after.rss_bytes as f64 / 1_048_576.0),
        ("rss_ratio", ratio),
        ("files", after.files as f64),
    ]);
    point.extra.extend(after.gauges.clone());
    point
}

/// One minute, and who comes in it.
struct Minute {
    schedule: Schedule,
    visitors: rush::Task,
    slow: stall::Task,
    storm: Option<rush::Task>,
    abuse: abuse::Task,
}

impl Minute {
    fn new(session: &Session<'_>, contact: Contact, settings: &Settings, number: u32) -> Self {
        let start_us = session.next_start_us();
        let after = |seconds: f64| start_us + (seconds * 1e6) as u64;
        let schedule = Schedule::new(start_us, settings.rate, MINUTE_S);
        let silent_s = if number.is_multiple_of(STALL_EVERY) {
            STALLED_S
        } else {
            SLOW_S
        };
        let visitors = rush::Task {
            contact: contact.clone(),
            symbols: settings.symbols,
            clients: u32::MAX,
            at_once: VISITORS,
            per_s: VISITORS_PER_S,
            returns: false,
            stay_s: churn::STAY_S,
            start_us,
            until_us: schedule.end_us(),
            first_source: VISITORS_FROM,
            sources: 1_024,
            since: storm::returning(session, start_us, settings),
        };
        let storm = rush::Task {
            clients: STORM_CLIENTS,
            at_once: STORM_AT_ONCE,
            per_s: u32::MAX,
            stay_s: 0.0,
            start_us: after(MINUTE_S / 4.0),
            until_us: after(MINUTE_S / 2.0),
            first_source: STORM_FROM,
            sources: 4_096,
            ..visitors.clone()
        };
        Self {
            slow: stall::Task {
                contact: contact.clone(),
                symbols: settings.symbols,
                count: SLOW,
                silent_from_us: after(SILENT_AFTER_S),
                silent_to_us: after(SILENT_AFTER_S + silent_s),
                until_us: schedule.end_us(),
            },
            storm: number.is_multiple_of(STORM_EVERY).then_some(storm),
            abuse: abuse::Task {
                contact,
                corpus: CORPUS.into(),
                until_us: schedule.end_us(),
                first_source: ABUSE_FROM,
                sources: 256,
            },
            schedule,
            visitors,
        }
    }

    fn play(&self, session: &mut Session<'_>) -> Result<Point, SessionError> {
        let visitors = self.visitors.start()?;
        let slow = self.slow.start()?;
        let abuse = self.abuse.start()?;
        let storm = self.storm.as_ref().map(rush::Task::start).transpose()?;
        let windows = [self.schedule.window(0, 0.0)];
        let points = session.run(&self.schedule, &windows, P99_MAX_US)?;
        let visitors: Rushed = visitors.end()?;
        let stalled: Stalled = slow.end()?;
        let abused: Abused = abuse.end()?;
        let rushed: Option<Rushed> = storm.map(Worker::end).transpose()?;
        let mut point = points.into_iter().next().unwrap_or_default();
        point.add([
            ("visitors", visitors.subscribed as f64),
            ("slow_gapped", stalled.counts.gapped as f64),
            ("slow_unaccounted", stalled.counts.unaccounted() as f64),
            ("slow_lost", stalled.lost as f64),
            ("bad_connections", abused.connections as f64),
            ("bad_closed", abused.closed.values().sum::<u64>() as f64),
        ]);
        point.add(rushed.map(|rushed| ("storm_admitted", rushed.admitted as f64)));
        Ok(point)
    }
}
