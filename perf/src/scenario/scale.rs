//! tickwire with one floor and with more: whether everything arrives, and what it costs.

use super::{Arena, P99_MAX_US, PlayError, Settings};
use crate::{run::Point, schedule::Schedule, session::Session, token::Signer};

const FLOORS: [u32; 4] = [1, 2, 4, 8];

pub(super) fn play(
    settings: &Settings,
    arena: &Arena<'_>,
    signer: &Signer,
) -> Result<Vec<Point>, PlayError> {
    let mut points = Vec::new();
    for floors in FLOORS {
        let measured = arena.play(&[format!("--floors={floors}")], |target| {
            let mut session = Session::open(target, settings.audience(), signer)?;
            let seconds = settings.warmup_s + settings.duration_s;
            let schedule = Schedule::new(session.next_start_us(), settings.rate, seconds);
            let window = schedule.window(0, settings.warmup_s);
            session.run(&schedule, &[window], P99_MAX_US)
        })?;
        points.extend(measured.into_iter().map(|mut point| {
            point.rate = f64::from(settings.rate);
            point.label = floors.to_string();
            point
        }));
    }
    Ok(points)
}
