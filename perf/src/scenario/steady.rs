//! One rate, one window: `hot`, `watchlist`, `firehose`, `sse`.

use super::{Arena, P99_MAX_US, PlayError, Settings};
use crate::{run::Point, schedule::Schedule, session::Session, token::Signer};

/// How long system calls are counted.
const SYSCALLS_S: f64 = 2.0;

pub(super) fn play(
    settings: &Settings,
    arena: &Arena<'_>,
    signer: &Signer,
) -> Result<Vec<Point>, PlayError> {
    arena.play(&[], |target| {
        let mut session = Session::open(target, settings.audience(), signer)?;
        let seconds = settings.warmup_s + settings.duration_s;
        let schedule = Schedule::new(session.next_start_us(), settings.rate, seconds);
        let window = schedule.window(0, settings.warmup_s);
        let mut points = session.run(&schedule, &[window], P99_MAX_US)?;
        for point in &mut points {
            point.rate = f64::from(settings.rate);
            if settings.syscalls {
                point.syscalls_per_tick = session.syscalls_per_tick(settings.rate, SYSCALLS_S)?;
            }
        }
        Ok(points)
    })
}
