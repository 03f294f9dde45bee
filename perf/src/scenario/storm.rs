//! Everyone comes back at once: what a crowd at the door does to those who are inside.

use std::net::Ipv4Addr;

use super::{Arena, P99_MAX_US, PlayError, Settings};
use crate::{
    latency::Latencies,
    load::{Follows, Measured, Pace, Rushed, Since},
    run::Point,
    rush::Task,
    schedule::{Schedule, Window},
    session::{Audience, Session, SessionError, Target},
    ticks::Symbols,
    token::Signer,
    worker::{Contact, Worker},
};

/// Before the crowd comes; longer than the crowd was away.
const CALM_S: f64 = 10.0;
const AS_FAST_AS_IT_GOES: u32 = 1_000_000;
/// How far back every second of them asks.
const AWAY_S: f64 = 5.0;
/// Where it comes from; those inside come from 127.0.0.1 upwards.
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
/// What tickwire is started with: its limits per IP are part of how it meets a storm.
pub(super) const DEFAULT_LIMITS: [&str; 3] = [
    "--set=per_ip_rate=3",
    "--set=per_ip_burst=10",
    "--set=per_ip_connections_max=1024",
];

/// A crowd, and at which rate of ticks it comes.
struct Crowd {
    label: &'static str,
    rate: u32,
    clients: u32,
    /// How many are under way at once.
    at_once: u32,
    sources: u32,
    /// How long they may take.
    seconds: f64,
    /// Whether they come back until they are let in, and stay.
    returns: bool,
}

impl Crowd {
    const fn none(rate: u32) -> Self {
        Self {
            label: "no storm",
            rate,
            clients: 0,
            at_once: 256,
            sources: 4_096,
            seconds: 15.0,
            returns: false,
        }
    }

    const fn from_many(rate: u32) -> Self {
        Self {
            label: "from many addresses",
            clients: 20_000,
            ..Self::none(rate)
        }
    }

    const fn from_one(rate: u32) -> Self {
        Self {
            label: "from one",
            sources: 1,
            ..Self::from_many(rate)
        }
    }
}

const CROWDS: [Crowd; 7] = [
    Crowd::none(20),
    Crowd::from_many(20),
    Crowd::from_one(20),
    Crowd::none(50),
    Crowd::from_many(50),
    Crowd::from_one(50),
    Crowd {
        label: "with backoff, staying",
        clients: 16_000,
        at_once: 16_000,
        seconds: 60.0,
        returns: true,
        ..Crowd::none(20)
    },
];

pub(super) fn play(
    settings: &Settings,
    arena: &Arena<'_>,
    signer: &Signer,
) -> Result<Vec<Point>, PlayError> {
    arena.play(&DEFAULT_LIMITS.map(String::from), |target| {
        let mut session = Session::open(target, audience(settings), signer)?;
        let mut points = Vec::new();
        for crowd in CROWDS {
            let mut point = storm(&mut session, &target, signer, settings, &crowd)?;
            point.label = format!("{}/s, {}", crowd.rate, crowd.label);
            points.push(point);
        }
        Ok(points)
    })
}

/// Everyone follows all symbols, from an address of its own.
pub(super) fn audience(settings: &Settings) -> Audience {
    let all = Follows::Symbols((0..settings.symbols).collect());
    Audience {
        symbols: Symbols::numbered(settings.symbols as usize),
        follows: vec![all; settings.subscribers as usize],
        pace: Pace {
            sources: settings.subscribers,
            ..settings.pace
        },
    }
}

fn storm(
    session: &mut Session<'_>,
    target: &Target<'_>,
    signer: &Signer,
    settings: &Settings,
    crowd: &Crowd,
) -> Result<Point, SessionError> {
    let rate = crowd.rate;
    let start_us = session.next_start_us();
    let schedule = Schedule::new(start_us, rate, CALM_S).then(rate, crowd.seconds);
    let whole = schedule.window(1, 0.0);
    let windows: Vec<Window> = [schedule.window(0, settings.warmup_s)]
        .into_iter()
        .chain(seconds_of(whole))
        .collect();
    let task = Task {
        contact: Contact::of(target, signer),
        symbols: settings.symbols,
        clients: crowd.clients,
        at_once: crowd.at_once,
        per_s: AS_FAST_AS_IT_GOES,
        returns: crowd.returns,
        stay_s: if crowd.returns { crowd.seconds } else { 0.0 },
        start_us: whole.from_us,
        until_us: whole.to_us,
        first_source: FIRST_SOURCE,
        sources: crowd.sources,
        since: returning(session, start_us, &Settings { rate, ..*settings }),
    };
    let worker = (crowd.clients > 0).then(|| task.start()).transpose()?;
    let points = session.run(&schedule, &windows, P99_MAX_US)?;
    let rushed: Option<Rushed> = worker.map(Worker::end).transpose()?;
    let lasted_s = rushed
        .as_ref()
        .map_or(crowd.seconds, |rushed| rushed.seconds);
    let stormy = (lasted_s.ceil() as usize).clamp(1, windows.len() - 1);
    let measured = &session.load().tally().windows[1..=stormy];
    let [calm, points @ ..] = points.as_slice() else {
        return Err(std::io::Error::other("nothing was measured").into());
    };
    Ok(summary(calm, &points[..stormy], measured, rushed))
}

/// Where those stand who left a moment ago, in a schedule that begins at `start_us`.
pub(super) fn returning(session: &Session<'_>, start_us: u64, settings: &Settings) -> Since {
    let (epoch, made) = session.published();
    let symbols = settings.symbols;
    Since {
        epoch,
        from_us: start_us,
        from_seq: made / u64::from(symbols),
        rate: f64::from(settings.rate) / f64::from(symbols),
        away_s: AWAY_S,
    }
}

/// The whole seconds of a window, the rest of it in the last.
fn seconds_of(window: Window) -> impl Iterator<Item = Window> {
    let seconds = (window.seconds() as u64).max(1);
    (0..seconds).map(move |second| Window {
        from_us: window.from_us + second * 1_000_000,
        to_us: if second + 1 == seconds {
            window.to_us
        } else {
            window.from_us + (second + 1) * 1_000_000
        },
    })
}

/// Puts the seconds of a storm together.
fn summary(
    calm: &Point,
    seconds: &[Point],
    measured: &[Measured],
    rushed: Option<Rushed>,
) -> Point {
    let mut latencies = Latencies::new();
    for second in measured {
        latencies.add(&second.latencies);
    }
    let last = seconds.last().unwrap_or(calm);
    let mut point = Point {
        expected: seconds.iter().map(|second| second.expected).sum(),
        delivered: seconds.iter().map(|second| second.delivered).sum(),
        window_s: seconds.iter().map(|second| second.window_s).sum(),
        latency: latencies.quantiles(),
        percentiles: latencies.percentiles(),
        cpu: None,
        sustained: seconds.iter().all(|second| second.sustained),
        ..last.clone()
    };
    point.deliveries_per_s = point.delivered as f64 / point.window_s;
    let calm_p99_us = calm.latency.p99_us.max(1);
    let worse = point.latency.p99_us as f64 / calm_p99_us as f64;
    point.add([
        ("calm_p99_ms", calm_p99_us as f64 / 1e3),
        ("p99_worse", worse),
    ]);
    if let Some(rushed) = rushed {
        let refused: u64 = rushed.refused.values().sum();
        point.add([
            ("storm_s", rushed.seconds),
            ("attempts", rushed.attempts as f64),
            ("admitted", rushed.admitted as f64),
            ("subscribed", rushed.subscribed as f64),
            ("refused", refused as f64),
            ("failed", rushed.failed as f64),
            ("at_once", rushed.at_once as f64),
            ("handshakes_per_s", rushed.admitted as f64 / rushed.seconds),
            ("handshakes_peak_per_s", rushed.peak_per_s as f64),
            (
                "answers_per_s",
                (rushed.admitted + refused) as f64 / rushed.seconds,
            ),
            ("handshake_p50_ms", rushed.handshake.p50_us as f64 / 1e3),
            ("handshake_p99_ms", rushed.handshake.p99_us as f64 / 1e3),
        ]);
        point.add(rushed.all_in_s.map(|seconds| ("all_in_s", seconds)));
    }
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_looked_at_second_by_second() {
        let window = Window {
            from_us: 500,
            to_us: 2_700_500,
        };
        let seconds: Vec<Window> = seconds_of(window).collect();
        assert_eq!(seconds.len(), 2);
        assert_eq!(seconds[0].to_us, seconds[1].from_us);
        assert_eq!((seconds[0].from_us, seconds[1].to_us), (500, 2_700_500));
    }

    #[test]
    fn all_its_seconds_count() {
        let second = |us| {
            let mut latencies = Latencies::new();
            latencies.record_n(us, 100);
            Measured {
                window: Window {
                    from_us: 0,
                    to_us: 1,
                },
                delivered: 100,
                latencies,
            }
        };
        let point = Point {
            expected: 100,
            delivered: 100,
            window_s: 1.0,
            sustained: true,
            ..Point::default()
        };
        let mut calm = point.clone();
        calm.latency.p99_us = 2_000;
        let rushed = Rushed {
            admitted: 10,
            refused: [(429, 30)].into(),
            seconds: 2.0,
            ..Rushed::default()
        };
        let measured = [second(1_000), second(5_000)];
        let storm = summary(&calm, &[point.clone(), point], &measured, Some(rushed));
        assert_eq!((storm.expected, storm.delivered), (200, 200));
        assert!((storm.extra["p99_worse"] - 2.5).abs() < 0.01, "{storm:?}");
        assert!((storm.extra["answers_per_s"] - 20.0).abs() < f64::EPSILON);
    }
}
