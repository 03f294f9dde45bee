//! Results: JSON for machines, a markdown table for people.

use std::{
    fmt::Write as _,
    fs, io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::{
    account::Counts,
    host::{CpuTime, Facts},
    latency::Quantiles,
    publisher::Published,
};

/// A whole result, as it is written to a file.
#[derive(Clone, Debug, Serialize)]
pub struct Report<T> {
    /// The scenario's name.
    pub scenario: &'static str,
    /// When it was written, seconds since 1970 UTC.
    pub unix_s: u64,
    /// How it was called.
    pub command: Vec<String>,
    /// Where it ran.
    pub host: Facts,
    /// What ran: program and version.
    pub versions: Vec<String>,
    /// What came of it.
    pub result: T,
}

/// One run of a scenario against one server.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// The server's name.
    pub server: String,
    /// Connections.
    pub subscribers: usize,
    /// Ticks per second.
    pub rate: u32,
    /// Length of the window, s.
    pub window_s: f64,
    /// Ticks of the window times subscribers.
    pub expected: u64,
    /// Ticks of the window that arrived.
    pub delivered: u64,
    /// The server's CPU time in the window.
    pub cpu: Option<ServerCpu>,
    /// From the intended time to the generator's read.
    pub latency: Quantiles,
    /// The server's memory.
    pub memory: Option<Memory>,
    /// The account, warm-up included.
    pub counts: Counts,
    /// Connections lost while running.
    pub lost_connections: u64,
    /// Why the first one was.
    pub first_lost: Option<String>,
    /// The publisher's side, warm-up included.
    pub published: Published,
    /// The generator's own load.
    pub generator: Generator,
    /// Cores that neither server nor generator kept busy: noise. The kernel's own work is part
    /// of it.
    pub others_busy: Option<f64>,
}

/// CPU time of the server.
#[derive(Clone, Debug, Serialize)]
pub struct ServerCpu {
    /// Per delivered tick, all threads, µs.
    pub us_per_tick: f64,
    /// Cores used, on average.
    pub busy: f64,
    /// The share of it in user mode, 0 to 1.
    pub user_share: f64,
    /// The raw counters.
    pub time: CpuTime,
}

/// Resident memory of the server, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(clippy::struct_field_names, reason = "the unit is part of the name")]
pub struct Memory {
    /// Before the first connection.
    pub before_bytes: u64,
    /// With all connections, before the first tick.
    pub connected_bytes: u64,
    /// With all connections, after the last tick.
    pub end_bytes: u64,
    /// What one connection added, at the end.
    pub per_connection_bytes: u64,
}

/// How loaded the generator was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Generator {
    /// Cores used by all its threads.
    pub cpu_busy: f64,
    /// Share of the window that its busiest thread was running.
    pub thread_busy: f64,
    /// Busy share of its core, where it is confined to one.
    pub core_busy: Option<f64>,
    /// Whether it was too busy to be trusted: above 90 %.
    pub bottleneck: bool,
}

impl<T: Serialize> Report<T> {
    /// Puts `result` beside what it must be read with.
    pub fn new(scenario: &'static str, versions: Vec<String>, result: T) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            scenario,
            unix_s: now.as_secs(),
            command: std::env::args().collect(),
            host: Facts::read(),
            versions,
            result,
        }
    }

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(path, text)
    }
}

impl ServerCpu {
    /// From the time used in a window of `window_s`.
    pub fn new(time: CpuTime, delivered: u64, window_s: f64) -> Self {
        let total_ns = time.total_ns() as f64;
        let split_ns = (time.user_ns + time.system_ns).max(1) as f64;
        Self {
            us_per_tick: total_ns / 1e3 / delivered.max(1) as f64,
            busy: total_ns / 1e9 / window_s,
            user_share: time.user_ns as f64 / split_ns,
            time,
        }
    }
}

impl Memory {
    /// From three readings and the number of connections.
    pub fn new(before: u64, connected: u64, end: u64, connections: usize) -> Self {
        Self {
            before_bytes: before,
            connected_bytes: connected,
            end_bytes: end,
            per_connection_bytes: end.saturating_sub(before) / connections.max(1) as u64,
        }
    }
}

impl Measurement {
    /// Everything that makes the run worthless as a comparison; empty for a sound one.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.delivered != self.expected {
            faults.push(format!(
                "{} of {} ticks arrived",
                self.delivered, self.expected
            ));
        }
        if !self.counts.is_sound() {
            faults.push(format!("the account does not balance: {:?}", self.counts));
        }
        if self.lost_connections > 0 {
            let why = self.first_lost.as_deref().unwrap_or_default();
            faults.push(format!(
                "{} connections were lost, the first: {why}",
                self.lost_connections
            ));
        }
        if self.published.accepted != self.published.ticks {
            let error = self
                .published
                .first_error
                .as_deref()
                .unwrap_or("no error sent");
            let Published {
                accepted, ticks, ..
            } = self.published;
            faults.push(format!(
                "the server took {accepted} of {ticks} ticks ({error})"
            ));
        }
        if self.generator.bottleneck {
            let Generator {
                cpu_busy,
                thread_busy,
                core_busy,
                ..
            } = self.generator;
            faults.push(format!(
                "the generator had no CPU to spare: its core was {:.0} % busy, {:.0} % with itself",
                core_busy.unwrap_or(thread_busy) * 100.0,
                cpu_busy * 100.0,
            ));
        }
        faults
    }

    /// The cells of [`TABLE_HEAD`].
    pub fn row(&self) -> String {
        let mut row = format!("| {} ", self.server);
        match &self.cpu {
            Some(cpu) => write!(
                row,
                "| {:.3} | {:.0} % | {:.0} / {:.0} % ",
                cpu.us_per_tick,
                cpu.busy * 100.0,
                cpu.user_share * 100.0,
                (1.0 - cpu.user_share) * 100.0
            ),
            None => write!(row, "| – | – | – "),
        }
        .and_then(|()| self.further_cells(&mut row))
        .expect("writing to a String never fails");
        row
    }

    fn further_cells(&self, row: &mut String) -> std::fmt::Result {
        let late = self.published.late;
        write!(
            row,
            "| {} | {} | {} / {} ",
            self.latency.p50_us, self.latency.p99_us, late.p50_us, late.p99_us
        )?;
        match self.memory {
            Some(memory) => write!(row, "| {:.1} ", memory.per_connection_bytes as f64 / 1024.0)?,
            None => row.push_str("| – "),
        }
        let generator = self
            .generator
            .core_busy
            .unwrap_or(self.generator.thread_busy)
            * 100.0;
        write!(
            row,
            "| {} / {} | {generator:.0} % ",
            self.delivered, self.expected
        )?;
        match self.others_busy {
            Some(cores) => write!(row, "| {:.0} % |", cores * 100.0),
            None => write!(row, "| – |"),
        }
    }
}

/// Head of the table of measurements.
pub const TABLE_HEAD: &str = "\
| server | CPU µs/tick | core | user / system | p50 µs | p99 µs | sent late p50 / p99 µs | KiB RSS/conn | delivered / expected | generator | others |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

/// The median of `values`, which must not be empty; the mean of the middle two of an even number.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Measurement {
        Measurement {
            server: "a".to_owned(),
            subscribers: 2,
            rate: 10,
            window_s: 1.0,
            expected: 20,
            delivered: 20,
            cpu: None,
            latency: Quantiles::default(),
            memory: None,
            counts: Counts {
                delivered: 30,
                ..Counts::default()
            },
            lost_connections: 0,
            first_lost: None,
            published: Published {
                ticks: 15,
                accepted: 15,
                first_error: None,
                late: Quantiles::default(),
            },
            others_busy: None,
            generator: Generator {
                cpu_busy: 0.1,
                thread_busy: 0.1,
                core_busy: None,
                bottleneck: false,
            },
        }
    }

    #[test]
    fn whatever_spoils_a_run_is_named() {
        assert_eq!(sound().faults(), Vec::<String>::new());
        let spoilt: [fn(&mut Measurement); 5] = [
            |run| run.delivered = 19,
            |run| run.counts.duplicates = 1,
            |run| run.lost_connections = 1,
            |run| run.published.accepted = 14,
            |run| run.generator.bottleneck = true,
        ];
        for spoil in spoilt {
            let mut run = sound();
            spoil(&mut run);
            assert_eq!(run.faults().len(), 1, "{run:?}");
        }
    }

    #[test]
    fn cpu_is_counted_per_delivered_tick() {
        let thread = |ns| crate::host::ThreadCpu {
            tid: 1,
            name: String::new(),
            ns,
        };
        let time = CpuTime {
            threads: vec![thread(3_000_000_000), thread(1_000_000_000)],
            user_ns: 1_000_000_000,
            system_ns: 3_000_000_000,
        };
        let cpu = ServerCpu::new(time, 1_000_000, 8.0);
        assert!((cpu.us_per_tick - 4.0).abs() < 1e-9);
        assert!((cpu.busy - 0.5).abs() < 1e-9);
        assert!((cpu.user_share - 0.25).abs() < 1e-9);
    }

    #[test]
    fn every_row_has_a_cell_per_column() {
        let columns = TABLE_HEAD.lines().next().unwrap().matches('|').count();
        let mut run = sound();
        assert_eq!(run.row().matches('|').count(), columns);
        run.cpu = Some(ServerCpu::new(CpuTime::default(), 1, 1.0));
        run.memory = Some(Memory::new(1, 2, 3, 2));
        assert_eq!(run.row().matches('|').count(), columns);
    }

    #[test]
    fn the_median_ignores_an_outlier() {
        assert!((median(&[9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[1.0, 100.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }
}
