//! The result of a run: one JSON file each, which plots and reports are made from.
//!
//! A file is named `<scenario>--<server>--<round>.json`. Times and sizes carry their unit in
//! their name. Fields may be added; readers ignore what they do not know, and what is absent here
//! was not measured.
//!
//! A run that could not be made has a file too: without points, and with the reason in `faults`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    account::Counts,
    host::Facts,
    latency::Quantiles,
    scenario::{Arena, Scenario, Settings},
    token::Signer,
};

/// One scenario, run once against one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// `hot`, `watchlist`, `ramp-hot`, …
    pub scenario: String,
    /// The server's name: `tickwire-sbe`, `npm-ws`, …
    pub server: String,
    /// The same for people.
    pub title: String,
    /// From 1; runs of the same round belong together.
    pub round: u32,
    /// When it ended, seconds since 1970 UTC.
    pub unix_s: u64,
    /// How the generator was called.
    pub command: Vec<String>,
    /// Where it ran.
    pub host: Facts,
    /// Program and version of all that took part, one each.
    pub versions: Vec<String>,
    /// Who had which core: `server on core 0, generator on core 1`.
    pub layout: String,
    /// What was measured: one for most scenarios, one per step of a ramp, per phase of a burst,
    /// per number of subscribers.
    pub points: Vec<Point>,
    /// Everything that spoils the run; empty for a sound one.
    #[serde(default)]
    pub faults: Vec<String>,
}

/// One measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Point {
    /// What sets it apart from the run's other points.
    pub label: String,
    /// Connections.
    pub subscribers: u64,
    /// Ticks published per second.
    pub rate: f64,
    /// Length of the window, s.
    pub window_s: f64,
    /// Deliveries that the window's ticks should make.
    pub expected: u64,
    /// Deliveries that they made, up to the end of the drain.
    pub delivered: u64,
    /// Deliveries per second of the window.
    pub deliveries_per_s: f64,
    /// CPU of the server: its process and all descendants.
    pub cpu: Option<ServerCpu>,
    /// From the intended time to the generator's read.
    pub latency: Quantiles,
    /// The whole distribution, for plots: percentile (0 to 100) and latency in µs, both ascending.
    pub percentiles: Vec<(f64, u64)>,
    /// Bytes that subscribers received, with all framing above TCP, per delivered tick.
    pub bytes_per_tick: f64,
    /// The server's system calls per delivered tick, counted in a window of its own.
    pub syscalls_per_tick: Option<f64>,
    /// The server's memory.
    pub memory: Option<Memory>,
    /// The account over all connections since they were made.
    pub counts: Counts,
    /// Connections lost.
    pub lost_connections: u64,
    /// Why the first one was.
    pub first_lost: Option<String>,
    /// The publisher's side.
    pub published: Published,
    /// The generator's own load.
    pub generator: Generator,
    /// Cores that neither server nor generator kept busy: noise.
    pub others_busy: Option<f64>,
    /// Whether the server kept up: 99.9 % delivered, nothing lost or declared lost, every tick
    /// taken, and p99 within the bound of the scenario, as is the publisher's own delay.
    pub sustained: bool,
    /// Figures that only one scenario has, by name: `max_deliveries_per_s`, `drain_ms`, …
    pub extra: BTreeMap<String, f64>,
}

/// CPU time of the server's processes in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerCpu {
    /// Per delivered tick, µs.
    pub us_per_tick: f64,
    /// The part of it in user mode.
    pub user_us_per_tick: f64,
    /// The part of it in the kernel.
    pub system_us_per_tick: f64,
    /// The part of it that was not charged to its own threads, but to `ksoftirqd` on its core.
    #[serde(default)]
    pub softirq_us_per_tick: Option<f64>,
    /// Cores used, on average.
    pub busy: f64,
}

/// Resident memory of the server's processes, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_field_names, reason = "the unit is part of the name")]
pub struct Memory {
    /// Before the first connection.
    pub before_bytes: u64,
    /// With all connections, before the first tick.
    pub connected_bytes: u64,
    /// With all connections, after the last tick.
    pub end_bytes: u64,
    /// What one connection added, before the first tick.
    pub idle_bytes_per_connection: u64,
    /// What one connection added, after the last tick.
    pub busy_bytes_per_connection: u64,
}

/// What was published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Published {
    /// Ticks sent.
    pub ticks: u64,
    /// Ticks that the server took, by its own count.
    pub accepted: u64,
    /// Its first complaint.
    pub first_error: Option<String>,
    /// How much later than intended messages left: the generator's own part of every latency.
    pub late: Quantiles,
}

/// How loaded the generator was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// Cores used by all its threads.
    pub cpu_busy: f64,
    /// Share of the window that its busiest thread was running.
    pub thread_busy: f64,
    /// Busy share of its core, where it is confined to one.
    pub core_busy: Option<f64>,
    /// Deliveries per second that it could take at this point's batching: delivered ÷ busy share.
    pub ceiling_per_s: f64,
    /// Whether it was above 90 % busy. Then latencies are its own in part; but as it reads more
    /// at once the busier it is, deliveries that arrived in time are the server's merit still.
    pub reached: bool,
}

impl Point {
    /// Adds figures that only its scenario has.
    pub fn add<'a>(&mut self, figures: impl IntoIterator<Item = (&'a str, f64)>) {
        let figures = figures.into_iter();
        self.extra
            .extend(figures.map(|(name, value)| (name.to_owned(), value)));
    }
}

impl Memory {
    /// From three readings and the number of connections.
    pub fn new(before: u64, connected: u64, end: u64, connections: u64) -> Self {
        let grown = |bytes: u64| bytes.saturating_sub(before) / connections.max(1);
        Self {
            before_bytes: before,
            connected_bytes: connected,
            end_bytes: end,
            idle_bytes_per_connection: grown(connected),
            busy_bytes_per_connection: grown(end),
        }
    }
}

impl Run {
    /// A run that ended now, on this machine.
    pub fn new(scenario: &str, server: &str, title: &str, round: u32) -> Self {
        Self {
            scenario: scenario.to_owned(),
            server: server.to_owned(),
            title: title.to_owned(),
            round,
            unix_s: now_s(),
            command: std::env::args().collect(),
            host: Facts::read(),
            versions: Vec::new(),
            layout: String::new(),
            points: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Plays `scenario` and takes what was measured, or why nothing was.
    pub fn play(
        &mut self,
        scenario: Scenario,
        settings: &Settings,
        arena: &Arena<'_>,
        signer: &Signer,
    ) {
        match scenario.play(settings, arena, signer) {
            Ok(points) => {
                self.faults.extend(scenario.faults(&points));
                self.points = points;
            }
            Err(error) => self.faults.push(error.to_string().trim_end().to_owned()),
        }
        self.unix_s = now_s();
    }

    /// Where the file of a run lies in `folder`.
    pub fn path(folder: &Path, scenario: &str, server: &str, round: u32) -> PathBuf {
        folder.join(format!("{scenario}--{server}--{round}.json"))
    }

    /// Writes the file of this run into `folder`, whole or not at all.
    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let path = Self::path(folder, &self.scenario, &self.server, self.round);
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        let unfinished = path.with_extension("json.part");
        fs::write(&unfinished, text)?;
        fs::rename(&unfinished, &path)?;
        Ok(path)
    }

    /// Reads the file of a run.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        serde_json::from_str(&text).map_err(|error| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: {error}", path.display()),
            )
        })
    }
}

fn now_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = Run::new("hot", "tickwire", "tickwire", 3);
        run.points.push(Point {
            percentiles: vec![(50.0, 7), (99.9, 12)],
            cpu: Some(ServerCpu {
                us_per_tick: 5.25,
                ..ServerCpu::default()
            }),
            extra: [("drain_ms".to_owned(), 1.5)].into(),
            ..Point::default()
        });
        let path = run.write(folder.path()).unwrap();
        assert_eq!(path, folder.path().join("hot--tickwire--3.json"));
        assert_eq!(Run::read(&path).unwrap(), run);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_point_of_another_version_is_read_as_far_as_it_goes() {
        let point: Point = serde_json::from_str(r#"{"label":"x","unheard_of":1}"#).unwrap();
        assert_eq!(point.label, "x");
        assert_eq!(point.cpu, None);
    }
}
