//! Counters of server and generator, read at one moment and compared with a later one.

use std::{io, time::Duration};

use crate::{
    host::{self, CoreTime},
    load::Tally,
    process::{CpuTime, Tree},
    run::{Generator, ServerCpu},
};

/// Above this share of its core the generator measures itself.
const BUSY_MAX: f64 = 0.9;
/// Counters of server and generator at one moment.
pub(super) struct Sample {
    pub(super) server: Option<CpuTime>,
    own: CpuTime,
    cores: Vec<CoreTime>,
    all: CoreTime,
    pub(super) bytes: u64,
    pub(super) delivered: u64,
    looked_in_vain: Duration,
}

impl Sample {
    pub(super) fn take(tree: Option<Tree>, tally: &Tally) -> io::Result<Self> {
        let cores = host::own_cores()?;
        Ok(Self {
            server: tree.map(Tree::server_cpu).transpose()?,
            own: Tree::own().cpu()?,
            cores: cores
                .into_iter()
                .map(CoreTime::of)
                .collect::<io::Result<_>>()?,
            all: CoreTime::of_all()?,
            bytes: tally.bytes,
            delivered: tally.counts.delivered,
            looked_in_vain: tally.looked_in_vain,
        })
    }

    pub(super) fn others_since(&self, before: &Self, window_s: f64) -> Option<f64> {
        let server = self.server.as_ref()?.since(before.server.as_ref()?);
        let known_ns = server.total_ns() + self.own.since(&before.own).total_ns();
        let all = self.all.busy_cores_since(&before.all, window_s);
        Some((all - known_ns as f64 / 1e9 / window_s).max(0.0))
    }

    /// A thread is the bottleneck when it has no time left, and so is a core that all of them
    /// share; cores shared with the server say nothing.
    pub(super) fn generator_since(&self, before: &Self, window_s: f64) -> Generator {
        let own = self.own.since(&before.own);
        let in_vain = self.looked_in_vain.saturating_sub(before.looked_in_vain);
        let in_vain = in_vain.as_secs_f64() / window_s;
        let share = |ns: u64| (ns as f64 / 1e9 / window_s - in_vain).max(0.0);
        let thread_busy = share(own.busiest_ns());
        let core_busy = match (&self.cores[..], &before.cores[..]) {
            ([after], [before]) => Some((after.busy_since(before) - in_vain).max(0.0)),
            _ => None,
        };
        let busy = thread_busy.max(core_busy.unwrap_or_default());
        let cpu_busy = share(own.total_ns());
        // On a core of its own all threads share the limit; else the busiest one has it first.
        let limiting = core_busy.map_or(thread_busy, |_| cpu_busy);
        let deliveries_per_s = (self.delivered - before.delivered) as f64 / window_s;
        Generator {
            cpu_busy,
            thread_busy,
            core_busy,
            ceiling_per_s: deliveries_per_s / limiting.max(1e-3),
            reached: busy > BUSY_MAX,
        }
    }
}

/// What the server used in a window of `window_s`.
pub(super) fn server_cpu(used: &CpuTime, delivered: u64, window_s: f64) -> ServerCpu {
    let total_ns = used.total_ns() as f64;
    let split_ns = (used.user_ns + used.system_ns).max(1) as f64;
    let us_per_tick = total_ns / 1e3 / delivered.max(1) as f64;
    let user_share = used.user_ns as f64 / split_ns;
    ServerCpu {
        us_per_tick,
        user_us_per_tick: us_per_tick * user_share,
        system_us_per_tick: us_per_tick * (1.0 - user_share),
        softirq_us_per_tick: Some(used.softirqs_ns() as f64 / 1e3 / delivered.max(1) as f64),
        busy: total_ns / 1e9 / window_s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_counted_per_delivered_tick() {
        let used = CpuTime {
            threads: [(1, 3_000_000_000), (2, 500_000_000)].into(),
            softirqs: [(14, 500_000_000)].into(),
            user_ns: 1_000_000_000,
            system_ns: 3_000_000_000,
        };
        let cpu = server_cpu(&used, 1_000_000, 8.0);
        let expected = ServerCpu {
            us_per_tick: 4.0,
            user_us_per_tick: 1.0,
            system_us_per_tick: 3.0,
            softirq_us_per_tick: Some(0.5),
            busy: 0.5,
        };
        assert_eq!(cpu, expected);
    }
}
