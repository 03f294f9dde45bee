//! A server's processes: what the kernel says of one and all its descendants (`proc(5)`).

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::PathBuf,
};

use rustix::thread::{sched_getaffinity, sched_setaffinity};

use crate::host::{self, malformed};

/// A process, with everything that it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    root: u32,
    descendants: bool,
}

/// CPU time that processes have used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Per thread, from the scheduler, ns. Exact, but threads that ended are forgotten.
    pub threads: HashMap<u32, u64>,
    /// The same of the kernel's threads that count as well, see [`Tree::server_cpu`].
    pub softirqs: HashMap<u32, u64>,
    /// In user mode, ns: the kernel's estimate, in steps of its clock tick.
    pub user_ns: u64,
    /// In the kernel, ns: likewise.
    pub system_ns: u64,
}

impl Tree {
    /// Process `root` and its descendants.
    pub fn of(root: u32) -> Self {
        Self {
            root,
            descendants: true,
        }
    }

    /// This process alone: servers are its children.
    pub fn own() -> Self {
        Self {
            root: std::process::id(),
            descendants: false,
        }
    }

    /// Its processes; fails where the first one is gone.
    pub fn pids(self) -> io::Result<Vec<u32>> {
        if !self.descendants {
            return Ok(vec![self.root]);
        }
        let parents = parents()?;
        if !parents.contains_key(&self.root) {
            return Err(io::Error::other(format!("process {} is gone", self.root)));
        }
        let mut pids = vec![self.root];
        let mut place = 0;
        while let Some(&pid) = pids.get(place) {
            let children = parents.iter().filter(|&(_, &parent)| parent == pid);
            pids.extend(children.map(|(&child, _)| child));
            place += 1;
        }
        Ok(pids)
    }

    /// CPU time used so far by a server, with that of the kernel's threads for what interrupts leave
    /// undone (`ksoftirqd/N`) on the cores that the server has for itself.
    ///
    /// Where such a thread is woken while another is in a long system call, the scheduler charges it
    /// with the rest of that call: between the waking and the switch it does not look at its clock
    /// again (`rq_clock_skip_update` in `kernel/sched/`). A batch of a thousand sends is such a call,
    /// and a sixth of it went missing from servers that send in batches.
    pub fn server_cpu(self) -> io::Result<CpuTime> {
        let mut cpu = self.cpu()?;
        let generators = host::own_cores()?;
        let mut cores = self.cores()?;
        cores.retain(|core| !generators.contains(core));
        let tids = softirq_threads(&cores)?.into_iter();
        cpu.softirqs = tids
            .filter_map(|tid| Some((tid, thread_ns(tid, tid)?)))
            .collect();
        Ok(cpu)
    }

    /// CPU time used so far by its own threads.
    pub fn cpu(self) -> io::Result<CpuTime> {
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        let mut cpu = CpuTime::default();
        for pid in self.pids()? {
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
                continue;
            };
            let (user, system) = parse_times(&stat).ok_or_else(|| malformed("stat"))?;
            cpu.user_ns += user * tick_ns;
            cpu.system_ns += system * tick_ns;
            let threads = tids(pid).unwrap_or_default().into_iter();
            cpu.threads
                .extend(threads.filter_map(|tid| Some((tid, thread_ns(pid, tid)?))));
        }
        Ok(cpu)
    }

    /// CPU time used so far by its threads of this name, ns.
    pub fn thread_ns(self, name: &str) -> io::Result<u64> {
        let mut ns = 0;
        for pid in self.pids()? {
            for tid in tids(pid).unwrap_or_default() {
                let own = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm"));
                if own.is_ok_and(|own| own.trim_end() == name) {
                    ns += thread_ns(pid, tid).unwrap_or_default();
                }
            }
        }
        Ok(ns)
    }

    /// Resident memory, bytes. What the kernel holds for sockets is not in it.
    pub fn rss_bytes(self) -> io::Result<u64> {
        self.status_sum("VmRSS:")
    }

    /// The most memory that was resident since [`Tree::forget_peak`], bytes.
    pub fn peak_rss_bytes(self) -> io::Result<u64> {
        self.status_sum("VmHWM:")
    }

    fn status_sum(self, field: &str) -> io::Result<u64> {
        let statuses = self.pids()?.into_iter();
        let statuses =
            statuses.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
        Ok(statuses
            .filter_map(|status| parse_kib(&status, field))
            .sum())
    }

    /// Begins to look for the peak anew (`proc(5)`, `clear_refs`).
    pub fn forget_peak(self) -> io::Result<()> {
        let mut pids = self.pids()?.into_iter();
        pids.try_for_each(|pid| fs::write(format!("/proc/{pid}/clear_refs"), "5"))
    }

    /// Open files.
    pub fn open_files(self) -> io::Result<u64> {
        let pids = self.pids()?.into_iter();
        let folders = pids.filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok());
        Ok(folders.map(|folder| folder.count() as u64).sum())
    }

    /// Confines every thread to `cores`: one that pins its own threads could have left them.
    pub fn confine(self, cores: &[usize]) -> io::Result<()> {
        let set = host::set_of(cores);
        for tid in self.tids()? {
            match sched_setaffinity(rustix::process::Pid::from_raw(tid as i32), &set) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The cores that any of its threads may run on.
    fn cores(self) -> io::Result<BTreeSet<usize>> {
        let sets = self
            .tids()?
            .into_iter()
            .filter_map(|tid| sched_getaffinity(rustix::process::Pid::from_raw(tid as i32)).ok());
        Ok(sets.flat_map(|set| host::listed(&set)).collect())
    }

    /// The threads that may run elsewhere than on `cores`.
    pub fn strays(self, cores: &[usize]) -> io::Result<Vec<u32>> {
        let mut strays = self.tids()?;
        strays.retain(|&tid| {
            sched_getaffinity(rustix::process::Pid::from_raw(tid as i32))
                .is_ok_and(|set| host::listed(&set).iter().any(|core| !cores.contains(core)))
        });
        Ok(strays)
    }

    fn tids(self) -> io::Result<Vec<u32>> {
        let pids = self.pids()?.into_iter();
        Ok(pids.flat_map(|pid| tids(pid).unwrap_or_default()).collect())
    }
}

impl CpuTime {
    /// All threads together, ns.
    pub fn total_ns(&self) -> u64 {
        self.threads.values().sum::<u64>() + self.softirqs_ns()
    }

    /// The kernel's threads among them, ns.
    pub fn softirqs_ns(&self) -> u64 {
        self.softirqs.values().sum()
    }

    /// The busiest thread's, ns.
    pub fn busiest_ns(&self) -> u64 {
        self.threads.values().copied().max().unwrap_or_default()
    }

    /// What was used since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let since = |now: &HashMap<u32, u64>, earlier: &HashMap<u32, u64>| {
            let before = |tid| earlier.get(tid).copied().unwrap_or_default();
            now.iter()
                .map(|(tid, ns)| (*tid, ns.saturating_sub(before(tid))))
                .collect()
        };
        Self {
            threads: since(&self.threads, &earlier.threads),
            softirqs: since(&self.softirqs, &earlier.softirqs),
            user_ns: self.user_ns.saturating_sub(earlier.user_ns),
            system_ns: self.system_ns.saturating_sub(earlier.system_ns),
        }
    }
}

/// Every process's parent.
fn parents() -> io::Result<HashMap<u32, u32>> {
    let pids = numbers(PathBuf::from("/proc"))?.into_iter();
    Ok(pids
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse_parent(&stat)?))
        })
        .collect())
}

/// None where the kernel's threads cannot be seen, as in a container.
fn softirq_threads(cores: &BTreeSet<usize>) -> io::Result<Vec<u32>> {
    let names: Vec<String> = cores
        .iter()
        .map(|core| format!("ksoftirqd/{core}"))
        .collect();
    let mut pids = numbers(PathBuf::from("/proc"))?;
    pids.retain(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| names.iter().any(|own| own == name.trim_end()))
    });
    Ok(pids)
}

fn tids(pid: u32) -> io::Result<Vec<u32>> {
    numbers(PathBuf::from(format!("/proc/{pid}/task")))
}

fn numbers(folder: PathBuf) -> io::Result<Vec<u32>> {
    let entries = fs::read_dir(folder)?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

/// `None` where the thread has ended meanwhile. The first field: time spent on a core, ns
/// (`Documentation/scheduler/sched-stats.rst`).
fn thread_ns(pid: u32, tid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    parse_schedstat(&text)
}

fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// The fields behind the name, which stands in parentheses and may hold anything.
fn fields(stat: &str) -> Option<impl Iterator<Item = &str>> {
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace())
}

fn parse_parent(stat: &str) -> Option<u32> {
    fields(stat)?.nth(1)?.parse().ok()
}

/// `utime` and `stime`, clock ticks.
fn parse_times(stat: &str) -> Option<(u64, u64)> {
    let mut fields = fields(stat)?.skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// A field of a `status` file that is in kB, in bytes.
fn parse_kib(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
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
        assert_eq!(parse_times(stat), Some((250, 130)));
        assert_eq!(parse_parent(stat), Some(1));
        assert_eq!(parse_times("77 (a) S 1"), None);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(
            parse_kib("Name:\tx\nVmRSS:\t    2048 kB\n", "VmRSS:"),
            Some(2 * 1024 * 1024)
        );
        assert_eq!(parse_kib("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_uses_cpu_time_that_both_accounts_see() {
        let tree = Tree::own();
        let before = tree.cpu().unwrap();
        let began = std::time::Instant::now();
        let mut used = CpuTime::default();
        while used.total_ns() < 50_000_000 {
            assert!(began.elapsed().as_secs() < 10, "{used:?}");
            used = tree.cpu().unwrap().since(&before);
        }
        assert!(used.user_ns + used.system_ns > 10_000_000, "{used:?}");
        assert!(tree.rss_bytes().unwrap() > 100_000);
        let own = std::thread::current();
        let name: String = own.name().unwrap_or_default().chars().take(15).collect();
        assert!(tree.thread_ns(&name).unwrap() > 10_000_000);
        assert_eq!(tree.thread_ns("nobody").unwrap(), 0);
    }

    #[test]
    fn a_server_is_charged_with_the_softirqs_of_cores_of_its_own() {
        let cores = Tree::own().cores().unwrap();
        assert!(cores.is_superset(&host::own_cores().unwrap().into_iter().collect()));
        let everywhere: BTreeSet<usize> = (0..1_024).collect();
        for pid in softirq_threads(&everywhere).unwrap() {
            assert!(thread_ns(pid, pid).is_some());
        }
        assert_eq!(
            softirq_threads(&BTreeSet::new()).unwrap(),
            Vec::<u32>::new()
        );
        // The generator's own cores are left out, and this is all there is on them.
        assert!(Tree::own().server_cpu().unwrap().softirqs.is_empty());
        let cpu = CpuTime {
            threads: [(1, 5)].into(),
            softirqs: [(14, 3)].into(),
            ..CpuTime::default()
        };
        assert_eq!((cpu.total_ns(), cpu.softirqs_ns()), (8, 3));
        assert_eq!(cpu.since(&cpu).total_ns(), 0);
    }

    #[test]
    fn a_tree_holds_the_children_of_children() {
        let core = host::own_cores().unwrap()[0];
        let script = "(sleep 60 & wait) & wait";
        let mut child = std::process::Command::new("sh")
            .args(["-c", script])
            .spawn()
            .unwrap();
        let tree = Tree::of(child.id());
        while tree.pids().unwrap().len() < 3 {
            std::thread::yield_now();
        }
        tree.confine(&[core]).unwrap();
        assert_eq!(tree.strays(&[core]).unwrap(), Vec::<u32>::new());
        assert_eq!(tree.strays(&[]).unwrap().len(), 3);
        let pids = tree.pids().unwrap();
        for &pid in pids[1..].iter().rev() {
            let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tree.pids().is_err());
    }
}
