//! One measurement: connect, warm up, measure a window, drain.

use std::{io, thread};

use crate::{
    host::{self, CoreTime, CpuTime},
    load::{Load, LoadError, Plan},
    publisher::{PublishError, Published, Publisher},
    report::{Generator, Measurement, Memory, ServerCpu},
    schedule::{Clock, Schedule, Window},
    token::Signer,
    upgrade::ServerUrl,
};

/// From the last connection to the first tick.
const LEAD_US: u64 = 200_000;
/// How long ticks may take to arrive after the window.
const DRAIN_US: u64 = 5_000_000;
/// Descriptors beside the subscribers' sockets.
const OWN_DESCRIPTORS: u64 = 64;
/// Above this share of its core the generator measures itself.
const BUSY_MAX: f64 = 0.9;

/// The scenario `hot`: every subscriber follows the same symbol.
#[derive(Clone, Debug)]
pub struct Hot {
    /// The symbol.
    pub symbol: String,
    /// Connections.
    pub subscribers: usize,
    /// Ticks per second.
    pub rate: u32,
    /// Ticks before the window, s.
    pub warmup_s: u32,
    /// The window, s.
    pub duration_s: u32,
    /// New connections per second.
    pub connects_per_s: u32,
    /// Connections being set up at once.
    pub in_progress_max: usize,
    /// See [`Plan::sources`].
    pub sources: u32,
}

/// The server that is measured.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name in reports.
    pub name: String,
    /// Where it listens.
    pub server: ServerUrl,
    /// Its process; without it CPU and memory stay unknown.
    pub pid: Option<u32>,
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The machine refused, or the server's process is gone.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The subscribers could not be set up.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Publishing ended early.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Counters of server and generator at one moment.
struct Sample {
    server: Option<CpuTime>,
    own: CpuTime,
    cores: Vec<CoreTime>,
    all: CoreTime,
}

impl Hot {
    /// Runs it against `target`.
    pub fn run(&self, target: &Target, signer: &Signer) -> Result<Measurement, ScenarioError> {
        host::raise_descriptors(self.subscribers as u64 + OWN_DESCRIPTORS)?;
        let clock = Clock::start();
        let rss = || target.pid.map(host::rss_bytes).transpose();
        let rss_before = rss()?;
        let mut load = Load::connect(self.plan(target), clock, |index| {
            signer.subscriber(&format!("perf-{index}"))
        })?;
        let source = Publisher::connect(&target.server, &signer.publisher())?;
        let rss_connected = rss()?;

        let schedule = Schedule::new(
            clock.now_us() + LEAD_US,
            self.rate,
            self.warmup_s + self.duration_s,
        );
        let window = schedule.window_after(self.warmup_s);
        let symbols = [self.symbol.clone()];
        let publishing = thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || source.run(&clock, &schedule, &symbols))?;

        load.measure(window);
        let last_due_us = schedule.due_us(schedule.slots() - 1);
        let failed = || publishing.is_finished() && clock.now_us() < last_due_us;
        load.run_until(window.from_us, |_| failed())?;
        let before = Sample::take(target.pid)?;
        load.run_until(window.to_us, |_| failed())?;
        let after = Sample::take(target.pid)?;
        let expected = schedule.ticks_in(window) * self.subscribers as u64;
        load.run_until(window.to_us + DRAIN_US, |tally| {
            failed() || tally.in_window >= expected
        })?;
        let published = publishing
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;

        let memory = rss_before
            .zip(rss_connected)
            .zip(rss()?)
            .map(|((before, connected), end)| {
                Memory::new(before, connected, end, self.subscribers)
            });
        Ok(self.measurement(
            target,
            &load,
            published,
            (window, expected),
            memory,
            &before,
            &after,
        ))
    }

    fn plan(&self, target: &Target) -> Plan {
        Plan {
            server: target.server.clone(),
            path: "/v1/ws".to_owned(),
            subscribe: format!(
                r#"{{"op":"subscribe","id":1,"symbols":["{}"],"snapshot":false}}"#,
                self.symbol
            ),
            subscribers: self.subscribers,
            connects_per_s: self.connects_per_s,
            in_progress_max: self.in_progress_max,
            sources: self.sources,
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the one place where all of them meet"
    )]
    fn measurement(
        &self,
        target: &Target,
        load: &Load,
        published: Published,
        (window, expected): (Window, u64),
        memory: Option<Memory>,
        before: &Sample,
        after: &Sample,
    ) -> Measurement {
        let tally = load.tally();
        let cpu = before.server.as_ref().zip(after.server.as_ref());
        Measurement {
            server: target.name.clone(),
            subscribers: self.subscribers,
            rate: self.rate,
            window_s: window.seconds(),
            expected,
            delivered: tally.in_window,
            cpu: cpu.map(|(before, after)| {
                ServerCpu::new(after.since(before), tally.in_window, window.seconds())
            }),
            latency: tally.latencies.quantiles(),
            memory,
            counts: tally.counts,
            lost_connections: tally.lost,
            first_lost: tally.first_lost.as_ref().map(ToString::to_string),
            published,
            generator: after.generator_since(before, window),
            others_busy: after.others_since(before, window),
        }
    }
}

impl Sample {
    fn take(pid: Option<u32>) -> io::Result<Self> {
        let cores = host::own_cores()?;
        Ok(Self {
            server: pid.map(CpuTime::of).transpose()?,
            own: CpuTime::of(std::process::id())?,
            cores: cores
                .into_iter()
                .map(CoreTime::of)
                .collect::<io::Result<_>>()?,
            all: CoreTime::of_all()?,
        })
    }

    fn others_since(&self, before: &Self, window: Window) -> Option<f64> {
        let server = self.server.as_ref()?.since(before.server.as_ref()?);
        let known_ns = server.total_ns() + self.own.since(&before.own).total_ns();
        let all = self.all.busy_cores_since(&before.all, window.seconds());
        Some((all - known_ns as f64 / 1e9 / window.seconds()).max(0.0))
    }

    /// A thread is the bottleneck when it has no time left, and so is a core that all of them
    /// share; cores shared with the server say nothing.
    fn generator_since(&self, before: &Self, window: Window) -> Generator {
        let own = self.own.since(&before.own);
        let busiest_ns = own
            .threads
            .iter()
            .map(|thread| thread.ns)
            .max()
            .unwrap_or_default();
        let thread_busy = busiest_ns as f64 / 1e9 / window.seconds();
        let core_busy = match (&self.cores[..], &before.cores[..]) {
            ([after], [before]) => Some(after.busy_since(before)),
            _ => None,
        };
        Generator {
            cpu_busy: own.total_ns() as f64 / 1e9 / window.seconds(),
            thread_busy,
            core_busy,
            bottleneck: thread_busy.max(core_busy.unwrap_or_default()) > BUSY_MAX,
        }
    }
}
