//! The bridge: several hosts' engines as one feed, through Redis Streams.
//!
//! ```text
//!            ┌──────────── one shard of N ────────────┐
//!  tape ───► outgoing ── XADD ──► tickwire:{n} ── XREAD ──► incoming ───► lane ───► ingest
//!            what this host's        everyone's       other hosts' entries,
//!            publishers sent         entries          each once
//! ```
//!
//! The bridge is a thread of its own; no floor and no publisher waits for it. Only what this host's
//! publishers sent goes out, so nothing can go in circles. A host numbers its entries, and names with each
//! symbol how far it has come, so that whatever Redis loses shows at the other hosts as a `gap`.

mod account;
mod beats;
mod endpoint;
mod incoming;
mod lag;
mod link;
mod metrics;
mod news;
mod outgoing;
mod receiving;
mod sending;
mod shard;
mod signal;
mod status;
mod stream;

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::AsFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use prometheus::Registry;
use tokio::{
    sync::{Mutex, Notify},
    task::{JoinError, JoinSet, LocalSet},
};

pub use self::{
    beats::Beats,
    endpoint::EndpointError,
    incoming::{Arrival, BadEntry, Incoming, Taken},
    news::News,
    outgoing::{Limits, Outgoing},
    receiving::MEMORY,
    shard::Shard,
    status::Status,
};
use self::{
    endpoint::Endpoint,
    link::{Link, Phase},
    metrics::Families,
    signal::{Pause, Signal},
    stream::EntryId,
};
use crate::{clock::Clock, config::Config, ingest::HostLane, tape::Tape, threads::Placement};

/// What a bridge works with.
pub struct Parts {
    /// The settings.
    pub config: Arc<Config>,
    /// What goes out.
    pub tape: Arc<Tape>,
    /// Where it goes that comes in.
    pub lane: Arc<HostLane>,
    /// Told when this host's publishers have sent something, or others much.
    pub news: Arc<News>,
    /// What it learns of other hosts' clocks.
    pub beats: Arc<Beats>,
}

/// A running bridge.
pub struct Bridge {
    status: Arc<Status>,
    news: Arc<News>,
    orders: Arc<Orders>,
    thread: JoinHandle<io::Result<bool>>,
}

/// What the bridge's thread is told.
#[derive(Debug, Default)]
struct Orders {
    /// Send what is left, and end.
    stop: AtomicBool,
    /// End, whatever is left.
    abandon: AtomicBool,
}

/// How often a bridge that is to stop looks whether everything is sent.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Bridge {
    /// Starts a bridge; it connects by itself, and again whenever it has to.
    ///
    /// # Errors
    ///
    /// Where the settings name no Redis, or the system denies the thread.
    pub fn start(parts: Parts, registry: &Registry, placement: &Placement) -> io::Result<Self> {
        let config = &parts.config;
        let endpoint = Endpoint::new(config).map_err(io::Error::other)?;
        let families = Families::register(registry).map_err(io::Error::other)?;
        let status = Arc::new(Status::new(config.redis_shards));
        let news = Arc::clone(&parts.news);
        let orders = Arc::new(Orders::default());
        let (their_status, their_orders) = (Arc::clone(&status), Arc::clone(&orders));
        let thread = placement.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let main = run(parts, endpoint, families, their_status, their_orders);
            let outcome = LocalSet::new().block_on(&runtime, main);
            // A name that is being resolved is not waited for.
            runtime.shutdown_background();
            outcome
        })?;
        Ok(Self {
            status,
            news,
            orders,
            thread,
        })
    }

    /// What it is doing.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Whether its thread has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Sends what is left and then ends; [`Bridge::stop`] waits for it.
    pub fn finish(&self) {
        self.orders.stop.store(true, Ordering::Relaxed);
        self.news.bell().ring();
    }

    /// Ends by `deadline` at the latest; whether everything went out.
    pub fn stop(self, deadline: Instant) -> bool {
        self.finish();
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        self.orders.abandon.store(true, Ordering::Relaxed);
        let outcome = self.thread.join();
        outcome.is_ok_and(|outcome| outcome.unwrap_or(false))
    }
}

/// Works until it is told to stop, and then until everything is sent, or will not be; whether it was.
async fn run(
    parts: Parts,
    endpoint: Endpoint,
    families: Families,
    status: Arc<Status>,
    orders: Arc<Orders>,
) -> io::Result<bool> {
    let config = &parts.config;
    let clock = Clock::default();
    let host = parts.tape.id();
    tracing::info!(host = format!("{host:016x}"), "bridging through redis");
    let endpoint = Rc::new(endpoint);
    let limits = Limits {
        batch_bytes: config.bridge_batch_bytes,
        queue: config.bridge_queue_max,
        backlog: config.bridge_backlog as u64,
    };
    let links: Vec<Rc<Link>> = Shard::all(config.redis_shards)
        .map(|shard| {
            let tape = Arc::clone(&parts.tape);
            Rc::new(Link {
                host,
                shard,
                endpoint: Rc::clone(&endpoint),
                outgoing: RefCell::new(Outgoing::new(host, shard, tape, limits, clock.now())),
                incoming: RefCell::new(Incoming::new(host, shard.of, config.bridge_hosts_max)),
                lane: Arc::clone(&parts.lane),
                news: Arc::clone(&parts.news),
                wake: Notify::new(),
                clock,
                metrics: families.shard(shard.number),
                status: Arc::clone(&status),
                beats: Arc::clone(&parts.beats),
                stream_entries: config.redis_stream_entries,
                memory_ms: config.redis_memory_s * 1_000,
                symbols_max: config.symbols_max,
                read_to: Cell::new(EntryId::default()),
                lag: RefCell::default(),
                phase: Cell::new(Phase::Down),
                lost_ns: Cell::default(),
                failures: Cell::new(0),
                ends: Cell::new(false),
                turn: Mutex::new(()),
            })
        })
        .collect();
    let mut tasks = JoinSet::new();
    for link in &links {
        tasks.spawn_local(sending::send(Rc::clone(link)));
        tasks.spawn_local(receiving::receive(Rc::clone(link)));
        tasks.spawn_local(receiving::listen(Rc::clone(link)));
    }
    let bell = parts.news.bell();
    let linger = Duration::from_micros(config.bridge_linger_us);
    let mut rung = Signal::on(bell.as_fd().try_clone_to_owned()?)?;
    let mut pause = Pause::new()?;
    while !orders.stop.load(Ordering::Relaxed) {
        bell.doze();
        let has_news = links.iter().any(|link| link.has_news());
        if !has_news && !orders.stop.load(Ordering::Relaxed) {
            tokio::select! {
                outcome = rung.comes() => outcome?,
                ended = tasks.join_next() => return Err(gone(ended.as_ref())),
            }
        }
        bell.rouse();
        for link in &links {
            link.wake.notify_one();
        }
        // What comes meanwhile goes together, without waking this thread each time.
        pause.take(linger).await?;
        if let Some(ended) = tasks.try_join_next() {
            return Err(gone(Some(&ended)));
        }
    }
    finish(&links, &mut tasks, &orders).await
}

/// Sends what is left. Whoever cannot be reached is tried once more.
async fn finish(links: &[Rc<Link>], tasks: &mut JoinSet<()>, orders: &Orders) -> io::Result<bool> {
    let failures: Vec<u64> = links.iter().map(|link| link.failures.get()).collect();
    let goes_on = |(link, failures): (&Rc<Link>, &u64)| {
        let is_lost = link.phase.get() == Phase::Down && link.failures.get() > *failures;
        !link.is_done() && !is_lost
    };
    for link in links {
        link.ends.set(true);
    }
    while links.iter().zip(&failures).any(goes_on) && !orders.abandon.load(Ordering::Relaxed) {
        if let Some(ended) = tasks.try_join_next() {
            return Err(gone(Some(&ended)));
        }
        for link in links {
            link.wake.notify_one();
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let left = links.iter().filter(|link| !link.is_done());
    let left: Vec<u32> = left.map(|link| link.shard.number).collect();
    if !left.is_empty() {
        tracing::warn!(shards = ?left, "the bridge ends before all of it is in redis");
    }
    Ok(left.is_empty())
}

/// A task that runs for as long as the bridge does has ended, and so has the bridge.
fn gone(ended: Option<&Result<(), JoinError>>) -> io::Error {
    io::Error::other(format!("a task of the bridge ended: {ended:?}"))
}
