//! The hub: what has come from the engine, and who gets it.
//!
//! ```text
//!  engine ─► upstream ── events ──► live ──► history ─┐
//!               ▲                     │               │ fetch: join, catch up
//!               │ orders              ▼               ▼
//!             union ◄── join ── clients ──► outbox of each ──► its own task: stream or poll
//!               ▲
//!             replays: resumes that the history does not reach
//! ```
//!
//! One lock guards all of it. It is held for a batch of ticks, or for what one client asks, and
//! never while anything waits; clients write out their own queues without it.

pub mod block;
mod client;
mod fetch;
mod filter;
mod history;
mod house;
mod join;
mod late;
mod live;
pub mod outbox;
mod poll;
mod replays;
mod symbols;
mod union;

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Instant,
};

use slab::Slab;
use tickwire_proto::{
    cursor::{Cursor, EdgeCursor, EdgePosition},
    pattern::Selector,
    request::Replay,
    session::Event,
    symbol::Symbol,
};
use tokio::sync::Notify;

pub use self::{
    client::Client,
    join::{Refused, Request},
    poll::{Collected, Collector},
};
use self::{client::Member, history::History, replays::Replays, symbols::Symbols, union::Union};
use crate::{config::Config, metrics::Metrics};

/// What the upstream connection is to ask of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Follow these.
    Subscribe(Vec<Selector>),
    /// Follow these no more.
    Unsubscribe(Vec<Selector>),
    /// Replay, for the client with this key and session.
    Replay {
        /// Its key.
        client: usize,
        /// Its session, as keys are used again.
        session: u64,
        /// What.
        replay: Replay,
    },
}

/// The hub; shared by all tasks.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
    orders: Notify,
}

/// Everything behind the lock.
#[derive(Debug)]
struct State {
    config: Arc<Config>,
    metrics: Metrics,
    /// Names this edge in cursors.
    edge: u64,
    history: History,
    symbols: Symbols,
    union: Union,
    clients: Slab<Member>,
    /// Clients of symbols that have not begun.
    waiting: HashMap<Symbol, Vec<usize>>,
    /// Clients that follow a pattern.
    pattern_followers: HashSet<usize>,
    replays: Replays,
    /// The engine's cursors, and where in the history each came.
    cursors: VecDeque<(u64, Cursor)>,
    /// The last cursor that all clients were given, and how long ago, in beats of the house.
    told: Option<EdgeCursor>,
    told_beats_ago: u32,
    /// Symbols and patterns that the engine takes.
    engine_symbols: usize,
    orders: Vec<Order>,
    /// Whether the engine is within reach.
    connected: bool,
    draining: bool,
    /// Clients of polls that were cut, and until when they are kept.
    parked: HashMap<u64, (usize, Instant)>,
}

/// Tasks to wake once the lock is free; declared before it is taken.
#[derive(Default)]
struct Wakers(Vec<Waker>);

impl Wakers {
    fn add(&mut self, waker: Option<Waker>) {
        self.0.extend(waker);
    }
}

impl Drop for Wakers {
    fn drop(&mut self) {
        for waker in self.0.drain(..) {
            waker.wake();
        }
    }
}

impl Hub {
    /// A hub that nothing has come to yet.
    pub fn new(config: Arc<Config>, metrics: Metrics) -> Arc<Self> {
        let state = State {
            edge: rand::random(),
            history: History::new(config.history_ticks),
            symbols: Symbols::new(config.symbols_max),
            union: Union::new(config.union_max),
            clients: Slab::new(),
            waiting: HashMap::new(),
            pattern_followers: HashSet::new(),
            replays: Replays::default(),
            cursors: VecDeque::new(),
            told: None,
            told_beats_ago: 0,
            engine_symbols: usize::MAX,
            orders: Vec::new(),
            connected: false,
            draining: false,
            parked: HashMap::new(),
            config,
            metrics,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            orders: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in between would leave counts wrong at worst; ending all clients for it is worse.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there may be orders.
    pub async fn ordered(&self) {
        self.orders.notified().await;
    }

    /// Takes the orders, oldest first.
    pub fn take_orders(&self) -> Vec<Order> {
        std::mem::take(&mut self.lock().orders)
    }

    /// Takes what the engine has said, in order.
    pub fn tell(&self, events: Vec<Event>) {
        let mut wakers = Wakers::default();
        let mut state = self.lock();
        for event in events {
            state.take(event, &mut wakers);
        }
        self.announce(&state);
    }

    /// The connection to the engine has gone.
    pub fn lost(&self) {
        let mut wakers = Wakers::default();
        self.lock().lose(&mut wakers);
    }

    /// A client's replay was asked under this id, or could not be.
    pub fn replay_asked(&self, client: usize, session: u64, id: Option<u32>) {
        self.lock().replay_asked(client, session, id);
    }

    fn announce(&self, state: &State) {
        if !state.orders.is_empty() {
            self.orders.notify_one();
        }
    }
}

impl State {
    /// The cursor that holds at a position of the history.
    fn cursor_at(&self, position: u64) -> EdgeCursor {
        let before = self.cursors.partition_point(|(at, _)| *at <= position);
        // Without any nothing has come yet: an engine replays all it has after this one.
        let none = Cursor {
            tape: 0,
            position: 0,
            admitted_ns: 0,
        };
        EdgeCursor {
            engine: before
                .checked_sub(1)
                .map_or(none, |newest| self.cursors[newest].1),
            own: Some(EdgePosition {
                edge: self.edge,
                position,
            }),
        }
    }
}
