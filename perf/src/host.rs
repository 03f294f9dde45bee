//! What the kernel says of the machine and of processes: `/proc` (`proc(5)`).

use std::{fs, io, path::PathBuf};

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
    /// Kernel release.
    pub kernel: String,
}

/// CPU time that a process has used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuTime {
    /// Per thread, from the scheduler, ns.
    pub threads: Vec<ThreadCpu>,
    /// In user mode, ns: the kernel's estimate, in steps of its clock tick.
    pub user_ns: u64,
    /// In the kernel, ns: likewise.
    pub system_ns: u64,
}

/// CPU time of one thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThreadCpu {
    /// Thread id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Time on a core, ns.
    pub ns: u64,
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
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
        }
    }
}

impl CpuTime {
    /// Of process `pid` so far.
    ///
    /// The scheduler's own account is exact to the nanosecond but forgets threads that ended;
    /// user and system time remember them, and serve as a check.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (user_ticks, system_ticks) = parse_stat(&stat).ok_or_else(|| malformed("stat"))?;
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        let threads = tids(pid)?
            .into_iter()
            .filter_map(|tid| thread_cpu(pid, tid))
            .collect();
        Ok(Self {
            threads,
            user_ns: user_ticks * tick_ns,
            system_ns: system_ticks * tick_ns,
        })
    }

    /// All threads together, ns.
    pub fn total_ns(&self) -> u64 {
        self.threads.iter().map(|thread| thread.ns).sum()
    }

    /// What was used since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |tid| earlier.threads.iter().find(|thread| thread.tid == tid);
        let threads = self.threads.iter().map(|thread| ThreadCpu {
            ns: thread
                .ns
                .saturating_sub(before(thread.tid).map_or(0, |thread| thread.ns)),
            ..thread.clone()
        });
        Self {
            threads: threads.collect(),
            user_ns: self.user_ns.saturating_sub(earlier.user_ns),
            system_ns: self.system_ns.saturating_sub(earlier.system_ns),
        }
    }
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

/// This thread's affinity has no say in it, unlike in `available_parallelism`.
fn cores_online() -> usize {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let cores = stat
        .lines()
        .filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    cores.count()
}

/// Resident memory of process `pid`, bytes. What the kernel holds for its sockets is not in it.
pub fn rss_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_rss(&status).ok_or_else(|| malformed("status"))
}

/// The cores that this thread may run on, ascending.
pub fn own_cores() -> io::Result<Vec<usize>> {
    Ok(listed(&sched_getaffinity(None)?))
}

/// Confines this thread, and those that it starts from now on, to `cores`.
pub fn confine_self(cores: &[usize]) -> io::Result<()> {
    Ok(sched_setaffinity(None, &set_of(cores))?)
}

/// Confines every thread of process `pid` to `cores`: one that pins its own threads could have
/// left them.
pub fn confine(pid: u32, cores: &[usize]) -> io::Result<()> {
    let set = set_of(cores);
    for tid in tids(pid)? {
        sched_setaffinity(rustix::process::Pid::from_raw(tid as i32), &set)?;
    }
    Ok(())
}

/// The threads of process `pid` that may run elsewhere than on `cores`.
pub fn strays(pid: u32, cores: &[usize]) -> io::Result<Vec<u32>> {
    let mut strays = tids(pid)?;
    strays.retain(|&tid| {
        sched_getaffinity(rustix::process::Pid::from_raw(tid as i32))
            .is_ok_and(|set| listed(&set).iter().any(|core| !cores.contains(core)))
    });
    Ok(strays)
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

fn set_of(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    set
}

fn listed(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .collect()
}

fn tids(pid: u32) -> io::Result<Vec<u32>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

/// `None` where the thread has ended meanwhile.
fn thread_cpu(pid: u32, tid: u32) -> Option<ThreadCpu> {
    let folder = PathBuf::from(format!("/proc/{pid}/task/{tid}"));
    let ns = parse_schedstat(&fs::read_to_string(folder.join("schedstat")).ok()?)?;
    let name = fs::read_to_string(folder.join("comm"))
        .ok()?
        .trim_end()
        .to_owned();
    Some(ThreadCpu { tid, name, ns })
}

/// The first field: time spent on a core, ns (`Documentation/scheduler/sched-stats.rst`).
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// `utime` and `stime`, clock ticks. The name, in parentheses, may hold anything.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn parse_rss(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
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

fn malformed(file: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{file} does not read as proc(5) says"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_gives_the_time_on_a_core() {
        assert_eq!(parse_schedstat("1234567890 4711 42\n"), Some(1_234_567_890));
        assert_eq!(parse_schedstat(""), None);
        assert_eq!(parse_schedstat("x 1 2"), None);
    }

    #[test]
    fn stat_is_read_past_any_name() {
        let stat = "77 (a ) b) S 1 77 77 0 -1 4194560 100 0 0 0 250 130 7 8 20 0 3 0 99 1000 200";
        assert_eq!(parse_stat(stat), Some((250, 130)));
        assert_eq!(parse_stat("77 (a) S 1"), None);
    }

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

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(
            parse_rss("Name:\tx\nVmRSS:\t    2048 kB\n"),
            Some(2 * 1024 * 1024)
        );
        assert_eq!(parse_rss("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_uses_cpu_time_that_both_accounts_see() {
        let pid = std::process::id();
        let before = CpuTime::of(pid).unwrap();
        let began = std::time::Instant::now();
        let mut used = CpuTime::default();
        while used.total_ns() < 50_000_000 {
            assert!(began.elapsed().as_secs() < 10, "{used:?}");
            used = CpuTime::of(pid).unwrap().since(&before);
        }
        assert!(used.user_ns + used.system_ns > 10_000_000, "{used:?}");
        assert!(rss_bytes(pid).unwrap() > 100_000);
    }
}
