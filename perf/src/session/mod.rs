//! One audience in front of one server: connect, then measure windows of schedules.

mod sample;
mod seated;
mod verdict;

use std::{io, net::SocketAddr, thread};

use crate::{
    dialect::Dialect,
    load::{Follows, Load, LoadError, Pace},
    process::Tree,
    publisher::{PublishError, Publisher},
    run::Point,
    schedule::{Clock, Schedule, Window},
    syscalls::Counter,
    ticks::Symbols,
    token::Signer,
};

pub use seated::Seated;
pub use verdict::{faults, losses, untold};

/// From now to the first tick of a schedule.
pub const LEAD_US: u64 = 200_000;

/// The server that is measured.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// How it is talked to.
    pub dialect: &'a dyn Dialect,
    /// Where it listens.
    pub server: SocketAddr,
    /// Its processes; without them CPU and memory stay unknown.
    pub tree: Option<Tree>,
}

/// Who follows what.
#[derive(Clone, Debug)]
pub struct Audience {
    /// The symbols that are published, in turn.
    pub symbols: Symbols,
    /// What each connection follows.
    pub follows: Vec<Follows>,
    /// How they connect.
    pub pace: Pace,
}

/// A connected audience and its publisher.
pub struct Session<'a> {
    seated: Seated<'a>,
    clock: Clock,
    publisher: Publisher,
    epoch: u64,
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The machine refused, or the server's process is gone.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The subscribers could not be set up.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The publisher could not be.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Audience {
    /// Deliveries that a tick of each symbol makes.
    fn followers(&self) -> Vec<u64> {
        let mut followers = vec![0; self.symbols.len()];
        for follows in &self.follows {
            match follows {
                Follows::Symbols(symbols) => {
                    for &symbol in symbols {
                        followers[symbol as usize] += 1;
                    }
                }
                Follows::All => followers.iter_mut().for_each(|count| *count += 1),
            }
        }
        followers
    }
}

impl<'a> Session<'a> {
    /// Connects everyone.
    pub fn open(
        target: Target<'a>,
        audience: Audience,
        signer: &Signer,
    ) -> Result<Self, SessionError> {
        let clock = Clock::start();
        let epoch = clock.now_us() / 1_000;
        let symbols = audience.symbols.clone();
        let seated = Seated::open(target, audience, signer, clock, epoch)?;
        let token = signer.publisher();
        let publisher = Publisher::connect(target.dialect, target.server, &symbols, &token, epoch)?;
        Ok(Self {
            seated,
            clock,
            publisher,
            epoch,
        })
    }

    /// When a schedule that is made now should begin.
    pub fn next_start_us(&self) -> u64 {
        self.clock.now_us() + LEAD_US
    }

    /// The epoch of its ticks, and how many of them were made.
    pub fn published(&self) -> (u64, u64) {
        (self.epoch, self.publisher.made())
    }

    /// The subscribers.
    pub fn load(&mut self) -> &mut Load<'a> {
        self.seated.load()
    }

    /// Whether nothing more can be measured.
    pub fn is_broken(&mut self) -> bool {
        self.publisher.is_broken() || self.seated.load().tally().lost > 0
    }

    /// Publishes as `schedule` says and measures its `windows`, which follow each other in time.
    pub fn run(
        &mut self,
        schedule: &Schedule,
        windows: &[Window],
        p99_max_us: u64,
    ) -> Result<Vec<Point>, SessionError> {
        let made = self.publisher.made();
        let expected = expected(self.seated.followers(), made, schedule, windows);
        let (seated, publisher, clock) = (&mut self.seated, &mut self.publisher, self.clock);
        let (received, published) = thread::scope(|scope| {
            let publishing = thread::Builder::new()
                .name("publisher".to_owned())
                .spawn_scoped(scope, || publisher.run(&clock, schedule))?;
            let is_over = || publishing.is_finished();
            let received = seated.receive(windows, schedule.end_us(), &expected, is_over)?;
            let published = publishing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok::<_, SessionError>((received, published))
        })?;
        self.seated
            .points(&received, &expected, &published, p99_max_us)
    }

    /// Lets connections be silent for a while; what that cost.
    pub fn rest(&mut self, seconds: f64) -> Result<Point, SessionError> {
        self.seated.rest(seconds)
    }

    /// The server's system calls per delivered tick at `rate` ticks per second; `None` where they
    /// cannot be counted.
    pub fn syscalls_per_tick(
        &mut self,
        rate: u32,
        seconds: f64,
    ) -> Result<Option<f64>, SessionError> {
        let Some(Ok(counter)) = self.seated.target().tree.map(Counter::start) else {
            return Ok(None);
        };
        let schedule = Schedule::new(self.next_start_us(), rate, seconds);
        let points = self.run(&schedule, &[schedule.window(0, 0.0)], u64::MAX)?;
        let delivered = points.first().map_or(0, |point| point.delivered);
        let counted = counter.stop().ok();
        Ok(counted.map(|calls| calls as f64 / delivered.max(1) as f64))
    }
}

/// Deliveries of each window, where ticks go to all symbols in turn, beginning with number
/// `first`, and each is delivered to so many `followers`, by symbol.
pub fn expected(
    followers: &[u64],
    first: u64,
    schedule: &Schedule,
    windows: &[Window],
) -> Vec<u64> {
    let mut expected = vec![0; windows.len()];
    let mut tick = first;
    for slot in schedule.slots() {
        let symbols = (tick..tick + u64::from(slot.ticks))
            .map(|tick| (tick % followers.len() as u64) as usize);
        tick += u64::from(slot.ticks);
        let window = windows
            .iter()
            .position(|window| window.contains(slot.due_us));
        if let Some(window) = window {
            expected[window] += symbols.map(|symbol| followers[symbol]).sum::<u64>();
        }
    }
    expected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_deliveries_follow_the_turn_of_the_symbols() {
        let schedule = Schedule::new(0, 10, 2.0);
        let window = schedule.window(0, 1.0);
        // Ticks 0 to 9 before the window, 10 to 19 in it, symbols in turn from tick 1 on.
        let followers = [100, 10, 1];
        let ticks = (11..21).map(|tick| followers[tick % 3]);
        assert_eq!(
            expected(&followers, 1, &schedule, &[window]),
            [ticks.sum::<u64>()]
        );
    }

    #[test]
    fn followers_are_counted_per_symbol() {
        let audience = Audience {
            symbols: Symbols::numbered(3),
            follows: vec![Follows::Symbols(vec![0, 2]), Follows::All],
            pace: Pace {
                connects_per_s: 1,
                in_progress_max: 1,
                sources: 0,
            },
        };
        assert_eq!(audience.followers(), [2, 1, 2]);
    }
}
