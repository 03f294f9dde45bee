//! One shard's two connections: one that [adds](super::sending) entries, one that
//! [reads](super::receiving) them.
//!
//! Each begins anew after whatever went wrong, with backoff and jitter, for as long as the engine runs.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use redis::RedisError;
use tickwire_proto::backoff::Backoff;
use tokio::{
    sync::{Mutex, Notify},
    time::sleep,
};

use super::{
    beats::Beats,
    endpoint::{ConnectError, Endpoint},
    incoming::Incoming,
    lag::Lag,
    metrics::ShardMetrics,
    news::News,
    outgoing::Outgoing,
    shard::Shard,
    status::{Side, State, Status},
    stream::EntryId,
};
use crate::{
    clock::{Clock, wall_ns},
    ingest::HostLane,
};

/// The longest pause between two attempts to connect, ms.
const PAUSE_MAX_MS: u64 = 3_000;

/// What a shard's tasks share.
pub struct Link {
    /// This host.
    pub host: u64,
    pub shard: Shard,
    pub endpoint: Rc<Endpoint>,
    pub outgoing: RefCell<Outgoing>,
    pub incoming: RefCell<Incoming>,
    pub lane: Arc<HostLane>,
    pub news: Arc<News>,
    /// Rung when there may be something to send.
    pub wake: Notify,
    pub clock: Clock,
    pub metrics: ShardMetrics,
    pub status: Arc<Status>,
    /// Other hosts' clocks, for the floors.
    pub beats: Arc<Beats>,
    /// Entries that the stream keeps, more or less (`redis_stream_entries`).
    pub stream_entries: usize,
    /// How long last ticks are kept that nobody renews, ms (`redis_memory_s`).
    pub memory_ms: u64,
    /// How many symbols this host has room for (`symbols_max`): the hash is not read beyond.
    pub symbols_max: usize,
    /// The last entry that was read by any connection.
    pub read_to: Cell<EntryId>,
    /// How many it has not read.
    pub lag: RefCell<Lag>,
    /// What the connection that adds entries does.
    pub phase: Cell<Phase>,
    /// When it ended, ns since 1970, where there is none since.
    pub lost_ns: Cell<Option<u64>>,
    /// How often that connection failed.
    pub failures: Cell<u64>,
    /// Whether the bridge is about to end: what is to be kept is kept now.
    pub ends: Cell<bool>,
    /// Held while what was taken is handed in: reading and listening would overtake each other else.
    pub turn: Mutex<()>,
}

/// What a connection that adds entries does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is none.
    Down,
    /// It is at work, and looks at the tape behind that.
    Busy,
    /// It has looked at the whole tape.
    Idle,
}

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It did not come about.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused something, or fell silent.
    #[error(transparent)]
    Redis(#[from] RedisError),
}

/// Runs a connection again and again, with a pause after each that failed.
pub async fn keep(
    link: &Link,
    side: Side,
    mut run: impl AsyncFnMut(&mut Backoff) -> Result<(), LinkError>,
) {
    let mut backoff = Backoff::new(rand::random()).at_most(PAUSE_MAX_MS);
    loop {
        let Err(error) = run(&mut backoff).await else {
            continue;
        };
        link.status.enter(link.shard, side, State::Down);
        if side == Side::Out {
            link.phase.set(Phase::Down);
            link.failures.set(link.failures.get() + 1);
            let lost_ns = link.lost_ns.get().unwrap_or_else(wall_ns);
            link.lost_ns.set(Some(lost_ns));
        }
        link.metrics.reconnects.inc();
        let wait = Duration::from_millis(backoff.failed(None));
        tracing::warn!(shard = link.shard.number, side = side.name(), %error, ?wait, "redis is away");
        sleep(wait).await;
    }
}

impl Link {
    /// Whether Redis has all that was published here, and keeps the last of it.
    pub fn is_done(&self) -> bool {
        let outgoing = self.outgoing.borrow();
        outgoing.behind() == 0 && outgoing.is_all_sent() && outgoing.is_kept()
    }

    /// Whether it waits though it was told of records that it has not looked at. One that is busy looks by
    /// itself.
    pub fn has_news(&self) -> bool {
        self.phase.get() == Phase::Idle && !self.outgoing.borrow().has_passed(self.news.end())
    }
}
