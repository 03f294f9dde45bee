//! An audience in front of one server: it receives, and what that costs the server is read.

use super::{
    Audience, SessionError, Target,
    sample::{Sample, server_cpu},
    verdict::{is_sustained, since},
};
use crate::{
    account::Counts,
    host,
    load::{Load, Plan},
    process::Tree,
    run::{Generator, Memory, Point, Published, ServerCpu},
    schedule::{Clock, Window},
    token::Signer,
};

/// How long ticks may take to arrive after the last window.
const DRAIN_US: u64 = 5_000_000;
/// How long whoever publishes may take to end after that.
const PUBLISHER_US: u64 = 12_000_000;
/// Descriptors beside the subscribers' sockets.
const OWN_DESCRIPTORS: u64 = 64;

/// Connected subscribers of one server.
pub struct Seated<'a> {
    target: Target<'a>,
    clock: Clock,
    load: Load<'a>,
    /// Deliveries per tick, by symbol.
    followers: Vec<u64>,
    subscribers: u64,
    rss_before: Option<u64>,
    rss_connected: Option<u64>,
}

/// What came in some windows.
pub struct Received {
    /// Counters at the ends of each window.
    samples: Vec<(Sample, Sample)>,
    counts_before: Counts,
}

impl<'a> Seated<'a> {
    /// Connects everyone; ticks will be numbered under `epoch`.
    pub fn open(
        target: Target<'a>,
        audience: Audience,
        signer: &Signer,
        clock: Clock,
        epoch: u64,
    ) -> Result<Self, SessionError> {
        let subscribers = audience.follows.len() as u64;
        host::raise_descriptors(subscribers + OWN_DESCRIPTORS)?;
        let rss = || target.tree.map(Tree::rss_bytes).transpose();
        let rss_before = rss()?;
        let followers = audience.followers();
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
        Ok(Self {
            target,
            clock,
            load,
            followers,
            subscribers,
            rss_before,
            rss_connected: rss()?,
        })
    }

    /// The server.
    pub fn target(&self) -> Target<'a> {
        self.target
    }

    /// The subscribers' connections.
    pub fn load(&mut self) -> &mut Load<'a> {
        &mut self.load
    }

    /// Deliveries per tick, by symbol.
    pub fn followers(&self) -> &[u64] {
        &self.followers
    }

    /// Receives what is published for `windows`, which follow each other in time, until `end_us` and
    /// then until everything `expected` has come or does not come any more, and `is_over`.
    pub fn receive(
        &mut self,
        windows: &[Window],
        end_us: u64,
        expected: &[u64],
        is_over: impl Fn() -> bool,
    ) -> Result<Received, SessionError> {
        let all: u64 = expected.iter().sum();
        let counts_before = self.load.tally().counts;
        let tree = self.target.tree;
        self.load.measure(windows);
        let mut samples = Vec::new();
        for window in windows {
            self.load.run_until(window.from_us, |_| false)?;
            let before = Sample::take(tree, self.load.tally())?;
            self.load.run_until(window.to_us, |_| false)?;
            samples.push((before, Sample::take(tree, self.load.tally())?));
        }
        self.load
            .run_until(end_us + DRAIN_US, |tally| tally.measured() >= all)?;
        self.load
            .run_until(self.clock.now_us() + PUBLISHER_US, |_| is_over())?;
        Ok(Received {
            samples,
            counts_before,
        })
    }

    /// A point for each window.
    pub fn points(
        &self,
        received: &Received,
        expected: &[u64],
        published: &Published,
        p99_max_us: u64,
    ) -> Result<Vec<Point>, SessionError> {
        let memory = self.memory()?;
        let mut points = Vec::new();
        for (place, (before, after)) in received.samples.iter().enumerate() {
            let mut point = self.point(place, expected[place], published, (before, after));
            point.memory = memory;
            let fresh = since(point.counts, received.counts_before);
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

    /// The server's memory until now.
    pub fn memory(&self) -> Result<Option<Memory>, SessionError> {
        let end = self.target.tree.map(Tree::rss_bytes).transpose()?;
        let readings = self.rss_before.zip(self.rss_connected).zip(end);
        Ok(readings.map(|((before, connected), end)| {
            Memory::new(before, connected, end, self.subscribers)
        }))
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
