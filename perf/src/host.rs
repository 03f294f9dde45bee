//! What the kernel says of the machine: `/proc` (`proc(5)`).

use std::{fs, io};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use serde::{Deserialize, Serialize};

/// What a result must be read with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Processor model.
    pub cpu: String,
    /// Processors online.
    pub cores: usize,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Kernel release, and its TCP's congestion control.
    pub kernel: String,
}

/// What a core has done since boot, clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreTime {
    /// Everything but idling and waiting for I/O, stolen time included: nobody here had it.
    pub busy: u64,
    /// All of it.
    pub total: u64,
}

impl Facts {
    /// Of this machine.
    pub fn read() -> Self {
        let line = |path: &str, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text
                .lines()
                .find(|line| line.starts_with(key))
                .unwrap_or_default();
            line.split_once(':')
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let memory_kib = line("/proc/meminfo", "MemTotal");
        let memory_kib = memory_kib
            .split(' ')
            .next()
            .and_then(|kib| kib.parse::<u64>().ok());
        Self {
            cpu: line("/proc/cpuinfo", "model name"),
            cores: cores_online(),
            memory_mib: memory_kib.unwrap_or_default() / 1024,
            kernel: kernel(),
        }
    }
}

/// Release, and what congestion control sockets get unless they ask for another.
fn kernel() -> String {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let tcp = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
    format!(
        "{release}, TCP {}",
        tcp.as_deref().unwrap_or("unknown").trim()
    )
}

impl CoreTime {
    /// Of all cores together.
    pub fn of_all() -> io::Result<Self> {
        parse_core_line(&fs::read_to_string("/proc/stat")?, "cpu ")
            .ok_or_else(|| malformed("/proc/stat"))
    }

    /// Of core `core` since boot.
    pub fn of(core: usize) -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        parse_core(&stat, core).ok_or_else(|| malformed("/proc/stat"))
    }

    /// Cores busy since `earlier`, on average over `seconds`.
    pub fn busy_cores_since(&self, earlier: &Self, seconds: f64) -> f64 {
        let ticks_per_s = rustix::param::clock_ticks_per_second() as f64;
        self.busy.saturating_sub(earlier.busy) as f64 / ticks_per_s / seconds
    }

    /// The busy share since `earlier`, 0 to 1.
    pub fn busy_since(&self, earlier: &Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total);
        self.busy.saturating_sub(earlier.busy) as f64 / total.max(1) as f64
    }
}

/// Processors online. This thread's affinity has no say in it, unlike in `available_parallelism`.
pub fn cores_online() -> usize {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let cores = stat
        .lines()
        .filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    cores.count()
}

/// The cores that this thread may run on, ascending.
pub fn own_cores() -> io::Result<Vec<usize>> {
    Ok(listed(&sched_getaffinity(None)?))
}

/// Confines this thread, and those that it starts from now on, to `cores`.
pub fn confine_self(cores: &[usize]) -> io::Result<()> {
    Ok(sched_setaffinity(None, &set_of(cores))?)
}

/// Raises the limit of descriptors to the hard one; fails where that is below `needed`.
pub fn raise_descriptors(needed: u64) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    match limit.maximum {
        Some(hard) if hard < needed => Err(io::Error::other(format!(
            "{needed} descriptors are needed, {hard} are allowed: raise the hard limit (ulimit -Hn)"
        ))),
        _ => Ok(()),
    }
}

pub(crate) fn set_of(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    set
}

pub(crate) fn listed(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .collect()
}

fn parse_core(stat: &str, core: usize) -> Option<CoreTime> {
    parse_core_line(stat, &format!("cpu{core} "))
}

/// user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user.
fn parse_core_line(stat: &str, name: &str) -> Option<CoreTime> {
    let line = stat.lines().find_map(|line| line.strip_prefix(name))?;
    let fields: Vec<u64> = line
        .split_ascii_whitespace()
        .take(8)
        .map_while(|field| field.parse().ok())
        .collect();
    let total: u64 = fields.iter().sum();
    Some(CoreTime {
        busy: total - fields.get(3)? - fields.get(4)?,
        total,
    })
}

pub(crate) fn malformed(file: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{file} does not read as proc(5) says"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_busy_where_it_neither_idles_nor_waits() {
        let stat = "cpu  1 1 1 1\ncpu1 10 1 20 500 30 2 3 4 0 0\ncpu10 9 9 9 9 9 9 9 9 0 0\n";
        let core = parse_core(stat, 1).unwrap();
        assert_eq!(
            core,
            CoreTime {
                busy: 40,
                total: 570
            }
        );
        let later = CoreTime {
            busy: 130,
            total: 670,
        };
        assert!((later.busy_since(&core) - 0.9).abs() < 1e-9);
        assert_eq!(parse_core(stat, 2), None);
    }
}
