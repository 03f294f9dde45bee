//! A floor: one pinned thread that owns its subscribers' connections and fans ticks out to them.
//!
//! ```text
//!              ┌───────────────────────── one turn ─────────────────────────┐
//!  tape ─────► live ── references ──► outbox ──┐                            │
//!  letters ──► intake (new sockets, tokens)    ├──► flush ──► sends ──► io_uring
//!  sockets ──► reader ──► requests ──► joining ┘    (encode once)           │
//!  clock ────► deadlines                                                    │
//!              └────────────────────────────────────────────────────────────┘
//! ```
//!
//! Nothing here is shared with another thread but the tape and the mailbox, so nothing is locked.
//! Live ticks go first in a turn; requests get what time `requests_us_per_turn` allows, snapshots
//! and replays `replay_us_per_turn`.

mod audience;
mod closing;
mod conflate;
mod connection;
mod deadlines;
mod encode;
mod flush;
mod holds;
mod intake;
mod join;
mod joining;
mod live;
mod log;
mod members;
mod outbox;
mod pieces;
mod queue;
mod reader;
mod rehearsal;
mod requests;
mod rows;
mod seek;
mod selections;
mod sends;
mod stream;
mod timers;
mod turn;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, atomic::AtomicUsize},
};

use rustc_hash::FxHashMap;
use slab::Slab;
use tickwire_proto::{claims::Grant, symbol::Symbol};

use self::{
    audience::Audiences,
    connection::Connection,
    encode::Encoder,
    holds::Holds,
    join::{Join, JoinKey},
    outbox::Shared,
    reader::{Reader, Ready},
    rows::Rows,
    sends::{Pool, Sends, Tried},
    timers::Timers,
};
use crate::{
    bell::Mailbox,
    bridge::Beats,
    clock::{Clock, Millis},
    config::Config,
    door::{Admitted, AuthDesk, TokenError},
    metrics::FloorMetrics,
    tape::{Position, Tape},
    tidy::Tidying,
};

/// What reaches a floor from other threads.
pub enum Letter {
    /// A finished connection.
    Admitted(Box<Admitted>),
    /// The answer to an in-band `auth`.
    Authenticated(Box<Authenticated>),
    /// Close the connection of this session with 4509.
    Replace(u64),
    /// Say goodbye to everyone, then end.
    Drain,
}

/// The answer to an in-band `auth`.
pub struct Authenticated {
    connection: u32,
    generation: u32,
    id: Option<u32>,
    outcome: Result<Grant, TokenError>,
}

/// What others see of a floor.
pub struct FloorDesk {
    /// Its letters.
    pub mailbox: Arc<Mailbox<Letter>>,
    /// Connections on it or on their way to it; placement counts them.
    pub load: AtomicUsize,
}

/// What a floor is built from.
pub struct FloorSetup {
    /// Its number, 0–63.
    pub number: u32,
    /// The settings.
    pub config: Arc<Config>,
    /// The ticks.
    pub tape: Arc<Tape>,
    /// Its own desk.
    pub desk: Arc<FloorDesk>,
    /// Other hosts' clocks.
    pub beats: Arc<Beats>,
    /// Verifies in-band tokens.
    pub auth: AuthDesk,
    /// Its counters.
    pub metrics: FloorMetrics,
}

/// What a turn did, told to the metrics at its end: an atomic addition per send would be a good
/// part of what the send costs a floor.
#[derive(Default)]
struct TurnCounts {
    sends: u64,
    sent_bytes: u64,
    delivered_ticks: u64,
    dropped_ticks: u64,
}

/// One floor, on its own thread.
struct Floor {
    config: Arc<Config>,
    tape: Arc<Tape>,
    desk: Arc<FloorDesk>,
    beats: Arc<Beats>,
    auth: AuthDesk,
    metrics: FloorMetrics,
    clock: Clock,
    /// The clock at the begin of the turn.
    now: Millis,
    /// The next record to take from the tape.
    at: Position,
    /// When the last record taken was admitted.
    admitted_ns: u64,
    // Boxed, so that the table grows without moving them.
    connections: Slab<Box<Connection>>,
    next_generation: u32,
    rows: Rows,
    audiences: Audiences,
    /// Connections that follow at least one pattern, for symbols yet to be born.
    pattern_followers: Vec<u32>,
    /// Connections that wait for a symbol that nobody has published.
    pending: FxHashMap<Symbol, Vec<u32>>,
    joins: Slab<Join>,
    /// Joins that can go on.
    runnable: VecDeque<JoinKey>,
    encoder: Encoder,
    shared: Shared,
    pool: Pool,
    reader: Reader,
    timers: Timers,
    holds: Holds,
    /// The same of audiences, each with the generation 0.
    audience_holds: Holds,
    /// Connections with something to send, who waits longest first.
    dirty: VecDeque<(u32, u32)>,
    sends: Sends,
    tried: Vec<Tried>,
    counts: TurnCounts,
    /// When the ticks were admitted whose sends are not all submitted.
    untold_admitted_ns: Vec<u64>,
    /// Connections with something to say that have not been reached yet.
    ready: VecDeque<Ready>,
    held: Vec<(u32, u32)>,
    /// When the gauges of queues were last brought up to date.
    queues_observed: Millis,
    tidying: Tidying,
    draining: bool,
}

impl Floor {
    fn new(setup: FloorSetup, sends: Sends) -> io::Result<Self> {
        let clock = Clock::default();
        Ok(Self {
            at: setup.tape.head(),
            admitted_ns: crate::clock::wall_ns(),
            rows: Rows::new(Arc::clone(&setup.tape), setup.number),
            config: setup.config,
            tape: setup.tape,
            desk: setup.desk,
            beats: setup.beats,
            auth: setup.auth,
            metrics: setup.metrics,
            now: clock.now(),
            clock,
            connections: Slab::new(),
            next_generation: 0,
            pattern_followers: Vec::new(),
            pending: FxHashMap::default(),
            joins: Slab::new(),
            runnable: VecDeque::new(),
            audiences: Audiences::default(),
            encoder: Encoder::new(),
            shared: Shared::default(),
            pool: Pool::default(),
            reader: Reader::new()?,
            timers: Timers::default(),
            holds: Holds::default(),
            audience_holds: Holds::default(),
            dirty: VecDeque::new(),
            tried: Vec::new(),
            sends,
            counts: TurnCounts::default(),
            untold_admitted_ns: Vec::new(),
            ready: VecDeque::new(),
            held: Vec::new(),
            queues_observed: Millis::default(),
            tidying: Tidying::default(),
            draining: false,
        })
    }

    /// The connection at `index`, unless another one has taken its place since.
    fn connection(&mut self, index: u32, generation: u32) -> Option<&mut Connection> {
        connection_at(&mut self.connections, index, generation)
    }
}

/// [`Floor::connection`] where other parts of the floor are in use.
fn connection_at(
    connections: &mut Slab<Box<Connection>>,
    index: u32,
    generation: u32,
) -> Option<&mut Connection> {
    connections
        .get_mut(index as usize)
        .map(Box::as_mut)
        .filter(|connection| connection.generation == generation)
}

/// Puts a connection on the list of those with something to send.
fn mark_dirty(dirty: &mut VecDeque<(u32, u32)>, connection: &mut Connection, index: u32) {
    if !connection.dirty {
        connection.dirty = true;
        // With its generation: a connection that ends leaves its entry behind, and another may get
        // its index.
        dirty.push_back((index, connection.generation));
    }
}

pub use rehearsal::Rehearsal;
pub use turn::run;
