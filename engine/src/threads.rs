//! Which thread runs where, on what driver, and at what priority.
//!
//! Roles do not know their cores; this file alone decides. On two cores a floor has core 0 and
//! everything else shares core 1; from four cores on, ingest has a core of its own.

use std::{fmt, future::Future, io};

use monoio::RuntimeBuilder;
use rustix::thread::CpuSet;

/// What an event loop is driven by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring: all sends of a turn in one system call.
    Uring,
    /// epoll: where io_uring is denied, as by many containers' seccomp profiles.
    Epoll,
}

impl Driver {
    /// What this kernel and this process's sandbox allow.
    ///
    /// A ring that is closed again still sends its thread a signal or two, which would interrupt
    /// the caller's next blocking call; so a thread of its own tries.
    pub fn detect() -> Self {
        let attempt = std::thread::spawn(|| io_uring::IoUring::new(8).is_ok());
        if attempt.join().unwrap_or(false) {
            Self::Uring
        } else {
            Self::Epoll
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

/// Entries of a floor's submission queue; a turn with more sends submits more than once.
const RING_ENTRIES: u32 = 4_096;

/// Runs a future on a new event loop of this thread.
///
/// # Errors
///
/// Where the event loop cannot be set up.
pub fn block_on<F>(driver: Driver, future: F) -> io::Result<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    match driver {
        Driver::Uring => {
            let mut builder = io_uring::IoUring::builder();
            // The ring belongs to this thread alone, and completions need no interrupt of it.
            // DEFER_TASKRUN would save a little more but never completes anything while the
            // loop spins.
            builder
                .setup_coop_taskrun()
                .setup_single_issuer()
                .setup_cqsize(4 * RING_ENTRIES);
            let mut runtime = RuntimeBuilder::<monoio::IoUringDriver>::new()
                .uring_builder(builder)
                .with_entries(RING_ENTRIES)
                .enable_timer()
                .build()
                // Kernels before 6.0 know neither flag.
                .or_else(|_| {
                    RuntimeBuilder::<monoio::IoUringDriver>::new()
                        .with_entries(RING_ENTRIES)
                        .enable_timer()
                        .build()
                })?;
            Ok(runtime.block_on(future))
        }
        Driver::Epoll => {
            let mut runtime = RuntimeBuilder::<monoio::LegacyDriver>::new()
                .enable_timer()
                .build()?;
            Ok(runtime.block_on(future))
        }
    }
}

/// One thread's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The thread's name.
    pub name: String,
    /// The core that it is pinned to.
    pub core: usize,
    /// Whether it yields to ingest and floors (nice 19).
    pub yields: bool,
}

/// The places of all threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Floor threads, by number.
    pub floors: Vec<Placement>,
    /// The one writer of the tape.
    pub ingest: Placement,
    /// Accept and handshakes.
    pub door: Placement,
    /// Metrics and health.
    pub admin: Placement,
    /// Redis, where this host is bridged to others.
    pub bridge: Option<Placement>,
}

impl Layout {
    /// Places `floors` floors (0: as many as suit) on the cores that this process may use.
    pub fn plan(floors: usize, is_bridged: bool) -> io::Result<Self> {
        Ok(Self::on(&usable_cores()?, floors, is_bridged))
    }

    fn on(cores: &[usize], floors: usize, is_bridged: bool) -> Self {
        let count = cores.len();
        // Cores for handshakes, where there are enough for ingest to have its own.
        let door_cores = if count >= 4 { count.div_ceil(8) } else { 0 };
        let floor_cores = count.saturating_sub(1 + door_cores).max(1);
        let floors = if floors == 0 { floor_cores } else { floors };
        let ingest_core = cores[floor_cores.min(count - 1)];
        let door_core = cores[count - 1];
        // Floors, ingest, door and admin.
        let yields = floors + 3 > count;
        let place = |name: &str, core, yields| Placement {
            name: name.to_owned(),
            core,
            yields,
        };
        Self {
            floors: (0..floors)
                .map(|number| {
                    place(
                        &format!("floor-{number}"),
                        cores[number % floor_cores],
                        false,
                    )
                })
                .collect(),
            ingest: place("ingest", ingest_core, false),
            door: place("door", door_core, yields),
            admin: place("admin", door_core, yields),
            // Its beats are what other hosts know this one by.
            bridge: is_bridged.then(|| place("bridge", door_core, false)),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread    core  nice")?;
        for placement in self
            .floors
            .iter()
            .chain([&self.ingest, &self.door, &self.admin])
            .chain(&self.bridge)
        {
            let nice = if placement.yields { 19 } else { 0 };
            write!(
                f,
                "\n{:<9} {:>4}  {nice:>4}",
                placement.name, placement.core
            )?;
        }
        Ok(())
    }
}

impl Placement {
    /// Starts a thread in this place.
    ///
    /// A machine that refuses the pin or the priority still runs the thread, and says so.
    pub fn spawn<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<std::thread::JoinHandle<T>> {
        let place = self.clone();
        std::thread::Builder::new()
            .name(self.name.clone())
            .spawn(move || {
                place.settle();
                body()
            })
    }

    /// Pins the calling thread, and lowers its priority where it yields.
    pub fn settle(&self) {
        let mut set = CpuSet::new();
        set.set(self.core);
        if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
            tracing::warn!(thread = self.name, core = self.core, %error, "the thread could not be pinned");
        }
        if self.yields {
            let thread = rustix::thread::gettid();
            if let Err(error) = rustix::process::setpriority_process(Some(thread), 19) {
                tracing::warn!(thread = self.name, %error, "the thread's priority could not be lowered");
            }
        }
    }
}

fn usable_cores() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|core| set.is_set(*core))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(layout: &Layout) -> (Vec<usize>, usize, usize) {
        let floors = layout.floors.iter().map(|floor| floor.core).collect();
        (floors, layout.ingest.core, layout.door.core)
    }

    #[test]
    fn small_machines_share_and_large_ones_separate() {
        assert_eq!(cores(&Layout::on(&[0], 0, false)), (vec![0], 0, 0));
        assert_eq!(cores(&Layout::on(&[0, 1], 0, false)), (vec![0], 1, 1));
        assert_eq!(
            cores(&Layout::on(&[0, 1, 2, 3], 0, false)),
            (vec![0, 1], 2, 3)
        );
        let eight: Vec<usize> = (0..8).collect();
        assert_eq!(
            cores(&Layout::on(&eight, 0, false)),
            ((0..6).collect(), 6, 7)
        );
        assert_eq!(cores(&Layout::on(&[4, 5], 3, false)), (vec![4, 4, 4], 5, 5));
    }

    #[test]
    fn the_door_yields_where_threads_outnumber_cores() {
        assert!(Layout::on(&[0, 1], 1, false).door.yields);
        let sixteen: Vec<usize> = (0..16).collect();
        assert!(!Layout::on(&sixteen, 4, false).door.yields);
    }
}
