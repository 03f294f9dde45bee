//! One audience in front of one server: connect, then measure windows of schedules.

mod sample;
mod verdict;

use std::{io, net::SocketAddr, thread};

use crate::{
    dialect::Dialect,
    host,
    load::{Follows, Load, LoadError, Pace, Plan},
    process::Tree,
    publisher::{PublishError, Publisher},
    run::{Generator, Memory, Point, Published, ServerCpu},
    schedule::{Clock, Schedule, Window},
    syscalls::Counter,
    ticks::Symbols,
    token::Signer,
};

use sample::{Sample, server_cpu};
pub use verdict::{faults, losses};
use verdict::{is_sustained, since};

/// From now to the first tick of a schedule.
const LEAD_US: u64 = 200_000;
/// How long ticks may take to arrive after the last window.
const DRAIN_US: u64 = 5_000_000;
/// How long the publisher may take to end after that.
const PUBLISHER_US: u64 = 12_000_000;
/// Descriptors beside the subscribers' sockets.
const OWN_DESCRIPTORS: u64 = 64;
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
    target: Target<'a>,
    clock: Clock,
    load: Load<'a>,
    publisher: Publisher,
    epoch: u64,
    /// Deliveries per tick, by symbol.
    followers: Vec<u64>,
    subscribers: u64,
    rss_before: Option<u64>,
    rss_connected: Option<u64>,
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
        let subscribers = audience.follows.len() as u64;
        host::raise_descriptors(subscribers + OWN_DESCRIPTORS)?;
        let clock = Clock::start();
        let epoch = clock.now_us() / 1_000;
        let rss = || target.tree.map(Tree::rss_bytes).transpose();
        let rss_before = rss()?;
        let followers = audience.followers();
        let symbols = audience.symbols.clone();
        let plan = Plan {
            server: target.server,
            symbols: audience.symbols,
            follows: audience.follows,
            epoch,
            pace: audience.pace,
            receive_buffer: None,
        };
        let load = Load::connect(plan, target.dialect, clock, |index| {
            signer.subscriber(&format!("perf-{index}"))
        })?;
        let rss_connected = rss()?;
        let token = signer.publisher();
        let publisher = Publisher::connect(target.dialect, target.server, &symbols, &token, epoch)?;
        Ok(Self {
            target,
            clock,
            load,
            publisher,
            epoch,
            followers,
            subscribers,
            rss_before,
            rss_connected,
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
        &mut self.load
    }

    /// Whether nothing more can be measured.
    pub fn is_broken(&self) -> bool {
        self.publisher.is_broken() || self.load.tally().lost > 0
    }

    /// Publishes as `schedule` says and measures its `windows`, which follow each other in time.
    pub fn run(
        &mut self,
        schedule: &Schedule,
        windows: &[Window],
        p99_max_us: u64,
    ) -> Result<Vec<Point>, SessionError> {
        let expected = self.expected(schedule, windows);
        let all: u64 = expected.iter().sum();
        let counts_before = self.load.tally().counts;
        self.load.measure(windows);
        let (load, publisher, clock) = (&mut self.load, &mut self.publisher, self.clock);
        let tree = self.target.tree;
        let (samples, published) = thread::scope(|scope| {
            let publishing = thread::Builder::new()
                .name("publisher".to_owned())
                .spawn_scoped(scope, || publisher.run(&clock, schedule))?;
            let mut samples = Vec::new();
            for window in windows {
                load.run_until(window.from_us, |_| false)?;
                let before = Sample::take(tree, load.tally())?;
                load.run_until(window.to_us, |_| false)?;
                samples.push((before, Sample::take(tree, load.tally())?));
            }
            load.run_until(schedule.end_us() + DRAIN_US, |tally| {
                tally.measured() >= all
            })?;
            load.run_until(clock.now_us() + PUBLISHER_US, |_| publishing.is_finished())?;
            let published = publishing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok::<_, SessionError>((samples, published))
        })?;
        let memory = self.memory()?;
        let mut points = Vec::new();
        for (place, (before, after)) in samples.iter().enumerate() {
            let mut point = self.point(place, expected[place], &published, (before, after));
            point.memory = memory;
            let fresh = since(point.counts, counts_before);
            point.sustained = is_sustained(&point, fresh, p99_max_us);
            points.push(point);
        }
        Ok(points)
    }

    /// Lets connections be silent for a while; what that cost.
    pub fn rest(&mut self, seconds: f64) -> Result<Point, SessionError> {
        let before = Sample::take(self.target.tree, self.load.tally())?;
        let until = self.clock.now_us() + (seconds * 1e6) as u64;
        self.load.run_until(until, |_| false)?;
        let after = Sample::take(self.target.tree, self.load.tally())?;
        let cpu = before.server.as_ref().zip(after.server.as_ref());
        let tally = self.load.tally();
        Ok(Point {
            subscribers: self.subscribers,
            window_s: seconds,
            cpu: cpu.map(|(before, after)| ServerCpu {
                busy: after.since(before).total_ns() as f64 / 1e9 / seconds,
                ..ServerCpu::default()
            }),
            memory: self.memory()?,
            counts: tally.counts,
            lost_connections: tally.lost,
            first_lost: tally.first_lost.as_ref().map(ToString::to_string),
            // Silence cannot be too much for it, whoever else keeps its core busy.
            generator: Generator {
                reached: false,
                ..after.generator_since(&before, seconds)
            },
            others_busy: after.others_since(&before, seconds),
            sustained: tally.lost == 0,
            ..Point::default()
        })
    }

    /// The server's system calls per delivered tick at `rate` ticks per second; `None` where they
    /// cannot be counted.
    pub fn syscalls_per_tick(
        &mut self,
        rate: u32,
        seconds: f64,
    ) -> Result<Option<f64>, SessionError> {
        let Some(Ok(counter)) = self.target.tree.map(Counter::start) else {
            return Ok(None);
        };
        let schedule = Schedule::new(self.next_start_us(), rate, seconds);
        let points = self.run(&schedule, &[schedule.window(0, 0.0)], u64::MAX)?;
        let delivered = points.first().map_or(0, |point| point.delivered);
        let counted = counter.stop().ok();
        Ok(counted.map(|calls| calls as f64 / delivered.max(1) as f64))
    }

    /// The server's memory until now.
    pub fn memory(&self) -> Result<Option<Memory>, SessionError> {
        let end = self.target.tree.map(Tree::rss_bytes).transpose()?;
        let readings = self.rss_before.zip(self.rss_connected).zip(end);
        Ok(readings.map(|((before, connected), end)| {
            Memory::new(before, connected, end, self.subscribers)
        }))
    }

    /// Deliveries that the ticks of each window should make.
    fn expected(&self, schedule: &Schedule, windows: &[Window]) -> Vec<u64> {
        expected(&self.followers, self.publisher.made(), schedule, windows)
    }

    fn point(
        &self,
        place: usize,
        expected: u64,
        published: &Published,
        (before, after): (&Sample, &Sample),
    ) -> Point {
        let tally = self.load.tally();
        let measured = &tally.windows[place];
        let window_s = measured.window.seconds();
        let delivered = measured.delivered;
        let cpu = before.server.as_ref().zip(after.server.as_ref());
        let arrived = (after.delivered - before.delivered).max(1);
        Point {
            subscribers: self.subscribers,
            window_s,
            expected,
            delivered,
            deliveries_per_s: delivered as f64 / window_s,
            cpu: cpu.map(|(before, after)| server_cpu(&after.since(before), delivered, window_s)),
            latency: measured.latencies.quantiles(),
            percentiles: measured.latencies.percentiles(),
            bytes_per_tick: (after.bytes - before.bytes) as f64 / arrived as f64,
            counts: tally.counts,
            lost_connections: tally.lost,
            first_lost: tally.first_lost.as_ref().map(ToString::to_string),
            published: published.clone(),
            generator: after.generator_since(before, window_s),
            others_busy: after.others_since(before, window_s),
            ..Point::default()
        }
    }
}

/// Deliveries of each window, where ticks go to all symbols in turn, beginning with number
/// `first`.
fn expected(followers: &[u64], first: u64, schedule: &Schedule, windows: &[Window]) -> Vec<u64> {
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
