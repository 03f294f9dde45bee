//! What is read from a run, by name.

use serde::{Deserialize, Deserializer, de};

use crate::run::{Point, Run};

/// A ramp counts a step as held below this p99, µs.
pub const RAMP_P99_US_MAX: u64 = 100_000;
/// Of the ticks expected, the share below which a server did not do the job.
pub const DELIVERED_SHARE_MIN: f64 = 0.999;

/// One figure of a run or of one of its points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metric {
    /// CPU time of the server per delivered tick, µs.
    Cpu,
    /// The part of it in user mode.
    CpuUser,
    /// The part of it in the kernel.
    CpuSystem,
    /// The part of it that was charged to `ksoftirqd`.
    CpuSoftirq,
    /// The part of it that was charged to the server's own threads.
    CpuOwn,
    /// Cores that the server used.
    CoresBusy,
    /// Deliveries per second.
    Deliveries,
    /// Median latency, ms.
    P50,
    /// What 99 % of latencies are below, ms.
    P99,
    /// The longest latency, ms.
    Slowest,
    /// Bytes that a subscriber receives per tick.
    Bytes,
    /// The server's system calls per delivered tick.
    Syscalls,
    /// Memory that a connection adds before the first tick, bytes.
    IdleMemory,
    /// Memory that a connection has added after the last tick, bytes.
    BusyMemory,
    /// Ticks that were expected and did not arrive.
    Undelivered,
    /// Share of the expected ticks that arrived.
    DeliveredShare,
    /// The highest rate that a ramp held, deliveries/s.
    MaxDeliveries,
    /// A figure that only one scenario has.
    Extra(String),
}

/// Which of a run's points is meant: the only one that has all that is asked for. Only what adds up
/// or has a largest value may be asked of several.
#[derive(Clone, Copy, Debug, Default)]
pub struct Which<'a> {
    /// Its label.
    pub label: Option<&'a str>,
    /// Its connections.
    pub subscribers: Option<u64>,
    /// Its ticks per second.
    pub rate: Option<f64>,
}

/// All metrics but those of single scenarios, by the name that the list of targets uses.
const NAMES: [(&str, Metric); 17] = [
    ("cpu_us_per_tick", Metric::Cpu),
    ("cpu_user_us_per_tick", Metric::CpuUser),
    ("cpu_system_us_per_tick", Metric::CpuSystem),
    ("cpu_softirq_us_per_tick", Metric::CpuSoftirq),
    ("cpu_own_us_per_tick", Metric::CpuOwn),
    ("cores_busy", Metric::CoresBusy),
    ("deliveries_per_s", Metric::Deliveries),
    ("p50_ms", Metric::P50),
    ("p99_ms", Metric::P99),
    ("max_ms", Metric::Slowest),
    ("bytes_per_tick", Metric::Bytes),
    ("syscalls_per_tick", Metric::Syscalls),
    ("idle_bytes_per_connection", Metric::IdleMemory),
    ("busy_bytes_per_connection", Metric::BusyMemory),
    ("undelivered", Metric::Undelivered),
    ("delivered_share", Metric::DeliveredShare),
    ("max_deliveries_per_s", Metric::MaxDeliveries),
];

impl Metric {
    /// The figure, where `run` has it.
    pub fn of(&self, run: &Run, which: Which<'_>) -> Option<f64> {
        let points = run.points.iter().filter(|point| which.matches(point));
        let mut figures = points.filter_map(|point| self.of_point(point));
        match self {
            Self::MaxDeliveries | Self::Slowest => figures.reduce(f64::max),
            Self::Undelivered => figures.reduce(|one, other| one + other),
            // Of two figures neither is the one meant.
            _ => figures.next().filter(|_| figures.next().is_none()),
        }
    }

    /// The figure of one point. What nothing was delivered for has no cost and no latency.
    pub fn of_point(&self, point: &Point) -> Option<f64> {
        let memory = |bytes: fn(&crate::run::Memory) -> u64| {
            let grown = point.subscribers > 0;
            point
                .memory
                .as_ref()
                .filter(|_| grown)
                .map(|memory| bytes(memory) as f64)
        };
        let busy = point.delivered > 0;
        let per_tick = |figure: f64| (busy && figure > 0.0).then_some(figure);
        let cpu = point.cpu.filter(|_| busy);
        let ms = |us: u64| busy.then_some(us as f64 / 1e3);
        match self {
            Self::Cpu => cpu.map(|cpu| cpu.us_per_tick),
            Self::CpuUser => cpu.map(|cpu| cpu.user_us_per_tick),
            Self::CpuSystem => cpu.map(|cpu| cpu.system_us_per_tick),
            Self::CpuSoftirq => cpu.and_then(|cpu| cpu.softirq_us_per_tick),
            Self::CpuOwn => cpu.and_then(|cpu| Some(cpu.us_per_tick - cpu.softirq_us_per_tick?)),
            Self::CoresBusy => point.cpu.map(|cpu| cpu.busy),
            Self::Deliveries => per_tick(point.deliveries_per_s),
            Self::P50 => ms(point.latency.p50_us),
            Self::P99 => ms(point.latency.p99_us),
            Self::Slowest => ms(point.latency.max_us),
            Self::Bytes => per_tick(point.bytes_per_tick),
            Self::Syscalls => point.syscalls_per_tick.filter(|_| busy),
            Self::IdleMemory => memory(|memory| memory.idle_bytes_per_connection),
            Self::BusyMemory => memory(|memory| memory.busy_bytes_per_connection).filter(|_| busy),
            Self::Undelivered => Some(point.expected.saturating_sub(point.delivered) as f64),
            Self::DeliveredShare => {
                (point.expected > 0).then(|| point.delivered as f64 / point.expected as f64)
            }
            // Zero where the ramp was run and not one of its steps held.
            Self::MaxDeliveries if is_held(point) => Some(point.deliveries_per_s),
            Self::MaxDeliveries => Some(0.0),
            Self::Extra(name) => point.extra.get(name).copied(),
        }
    }

    /// Whether a larger figure is the better one.
    pub fn more_is_better(&self) -> bool {
        matches!(
            self,
            Self::Deliveries | Self::MaxDeliveries | Self::DeliveredShare
        )
    }
}

/// Whether a ramp's step was held.
pub fn is_held(point: &Point) -> bool {
    point.sustained && point.latency.p99_us < RAMP_P99_US_MAX
}

impl<'a> Which<'a> {
    /// The point of this label.
    pub fn label(label: &'a str) -> Self {
        Self {
            label: Some(label),
            ..Self::default()
        }
    }

    /// Whether a point has all that is asked for.
    pub fn matches(&self, point: &Point) -> bool {
        // A measured rate may be off by what did not fit into the window.
        let near = |rate: f64| (point.rate - rate).abs() <= rate / 100.0;
        self.label.is_none_or(|label| label == point.label)
            && self
                .subscribers
                .is_none_or(|subscribers| subscribers == point.subscribers)
            && self.rate.is_none_or(near)
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(name) = text.strip_prefix("extra.") {
            return Ok(Self::Extra(name.to_owned()));
        }
        let known = NAMES.iter().find(|(name, _)| *name == text);
        known
            .map(|(_, metric)| metric.clone())
            .ok_or_else(|| de::Error::custom(format!("unknown metric {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(points: Vec<Point>) -> Run {
        Run {
            points,
            ..Run::new("ramp-hot", "tickwire", "tickwire", 1)
        }
    }

    fn step(deliveries_per_s: f64, p99_us: u64, sustained: bool) -> Point {
        let mut point = Point {
            label: format!("{deliveries_per_s}"),
            delivered: 1,
            deliveries_per_s,
            sustained,
            ..Point::default()
        };
        point.latency.p99_us = p99_us;
        point
    }

    #[test]
    fn a_ramp_holds_what_is_sustained_and_fast() {
        let metric = Metric::MaxDeliveries;
        let ramp = run(vec![
            step(1e5, 900, true),
            step(2e5, 99_999, true),
            step(3e5, 100_000, true),
            step(4e5, 900, false),
        ]);
        assert_eq!(metric.of(&ramp, Which::default()), Some(2e5));
        let collapsed = run(vec![step(1e5, 900_000, false)]);
        assert_eq!(metric.of(&collapsed, Which::default()), Some(0.0));
        assert_eq!(metric.of(&run(Vec::new()), Which::default()), None);
    }

    #[test]
    fn an_ambiguous_point_is_no_figure() {
        let two = run(vec![step(1.0, 5, true), step(2.0, 7, true)]);
        assert_eq!(Metric::P99.of(&two, Which::default()), None);
        assert_eq!(Metric::P99.of(&two, Which::label("2")), Some(0.007));
    }

    #[test]
    fn without_deliveries_there_is_no_cost_per_tick() {
        let silent = Point {
            cpu: Some(crate::run::ServerCpu::default()),
            ..Point::default()
        };
        for metric in [Metric::Cpu, Metric::P99, Metric::Deliveries, Metric::Bytes] {
            assert_eq!(metric.of_point(&silent), None, "{metric:?}");
        }
        assert_eq!(Metric::CoresBusy.of_point(&silent), Some(0.0));
    }
}
