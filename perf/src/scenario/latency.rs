//! What a tick takes when nothing waits: few ticks, to one subscriber and to many.

use super::{Arena, P99_MAX_US, PlayError, Settings};
use crate::{echo, run::Point, schedule::Schedule, session::Session, token::Signer};

/// Subscribers and ticks per second.
const STEPS: [(u32, u32); 5] = [(1, 50), (10, 50), (100, 50), (1_000, 20), (10_000, 10)];

pub(super) fn play(
    settings: &Settings,
    arena: &Arena<'_>,
    signer: &Signer,
) -> Result<Vec<Point>, PlayError> {
    // As many hops as a tick makes: there and back again.
    let floor = echo::round_trips(arena.server_core(), settings.duration_s)?;
    let mut points = Vec::new();
    for (subscribers, rate) in STEPS {
        if subscribers > settings.subscribers {
            break;
        }
        let audience = Settings {
            subscribers,
            ..*settings
        };
        let measured = arena.play(&[], |target| {
            let mut session = Session::open(target, audience.audience(), signer)?;
            let seconds = settings.warmup_s + settings.duration_s;
            let schedule = Schedule::new(session.next_start_us(), rate, seconds);
            let window = schedule.window(0, settings.warmup_s);
            session.run(&schedule, &[window], P99_MAX_US)
        })?;
        points.extend(measured.into_iter().map(|mut point| {
            point.rate = f64::from(rate);
            point.label = match subscribers {
                1 => "1 subscriber".to_owned(),
                more => format!("{more} subscribers"),
            };
            point.add([
                ("tcp_round_trip_p50_us", floor.p50_us as f64),
                ("tcp_round_trip_p99_us", floor.p99_us as f64),
            ]);
            point
        }));
    }
    Ok(points)
}
