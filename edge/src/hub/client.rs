//! One client, as the hub sees it, and the handle by which its own task holds on to it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use axum_server::ConnectionShutdown;
use tickwire_proto::{
    cursor::Cursor,
    pattern::Selector,
    reply::Gap,
    request::Mode,
    symbol::Symbol,
    tick::{Channel, Channels, Identity},
};

use super::{Hub, block::SymbolId, filter::Filter, outbox::Outbox};

/// What the hub keeps of a client.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own that nothing else follows from"
)]
pub(super) struct Member {
    pub(super) outbox: Arc<Outbox>,
    /// Whose it is.
    pub(super) sub: String,
    /// What it follows, as far as its token allows.
    pub(super) selectors: Vec<Selector>,
    /// The same, to look symbols up.
    pub(super) filter: Filter,
    pub(super) channels: Channels,
    pub(super) mode: Mode,
    pub(super) snapshot: bool,
    /// Whether it leaves with its first batch: that names its cursor itself.
    pub(super) is_poll: bool,
    /// Whether it goes on in this edge's history, so that its accounts are open.
    pub(super) is_continued: bool,
    /// Closes its socket, where it does not read and does not go.
    pub(super) socket: Option<ConnectionShutdown>,
    /// Since when it has been told to go for that.
    pub(super) cut_at: Option<Instant>,
    pub(super) session: u64,
    /// When its token expires, s since 1970 UTC, and whether it was told.
    pub(super) exp: u64,
    pub(super) told_expiring: bool,
    /// Where an engine would resume it.
    pub(super) cursor: Cursor,
    pub(super) phase: Phase,
    /// Its place among the followers of each symbol.
    pub(super) following: HashMap<SymbolId, usize>,
    /// During a resume: the channels whose account is open again.
    pub(super) started: HashMap<SymbolId, Channels>,
    /// What an engine's replay has told already, up to these ticks.
    pub(super) floor: HashMap<(SymbolId, Channel), Identity>,
    /// Whether a replay was interrupted and begins again.
    pub(super) is_repeated: bool,
    /// Bytes of a replay that are kept for it.
    pub(super) kept_bytes: usize,
    /// Replayed ticks that were too many to keep.
    pub(super) beyond: HashMap<(SymbolId, Channel), Beyond>,
}

/// How an event stands to what an engine's replay has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seam {
    /// It was told.
    Told,
    /// It is the next.
    Next,
    /// This is missing before it.
    Hole(Gap),
}

/// How far a client has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// It gets what is known of these symbols, one after the other.
    Joining(VecDeque<SymbolId>),
    /// It waits for the engine's replay, and will go on in the history at `live_from`.
    Queued { live_from: u64 },
    /// The engine replays.
    Replaying { live_from: u64, id: Option<u32> },
    /// The replay is complete, and on its way to the client.
    Replayed { live_from: u64 },
    /// It reads the history, up to here so far.
    CatchingUp { at: u64 },
    /// It gets what comes.
    Live,
}

/// A range of replayed ticks that were too many to keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beyond {
    pub(super) name: Symbol,
    pub(super) epoch: u64,
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Member {
    /// Whether it has everything up to now, and wants to know how far that is.
    pub(super) fn takes_cursors(&self) -> bool {
        !self.is_poll && matches!(self.phase, Phase::Live)
    }

    /// Whether the engine's replay has told this tick.
    pub(super) fn knows(&self, symbol: SymbolId, channel: Channel, identity: Identity) -> bool {
        self.floor
            .get(&(symbol, channel))
            .is_some_and(|floor| identity <= *floor)
    }

    /// The channels whose account is open again.
    pub(super) fn started(&self, symbol: SymbolId) -> Channels {
        self.started.get(&symbol).copied().unwrap_or(Channels::NONE)
    }
}

/// A client's hold on its place in the hub; dropping it leaves.
#[derive(Debug)]
pub struct Client {
    hub: Arc<Hub>,
    key: Option<usize>,
    outbox: Arc<Outbox>,
}

impl Client {
    pub(super) fn new(hub: Arc<Hub>, key: usize, outbox: Arc<Outbox>) -> Self {
        Self {
            hub,
            key: Some(key),
            outbox,
        }
    }

    /// What waits for it.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Moves what comes next into its outbox, where that is [behind](super::outbox::Taken::Behind).
    pub fn fetch(&self) {
        if let Some(key) = self.key {
            self.hub.fetch(key);
        }
    }

    /// The hub.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(super) fn key(&self) -> Option<usize> {
        self.key
    }

    /// Lets go of the place without leaving it.
    pub(super) fn let_go(mut self) {
        self.key = None;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.hub.leave(key);
        }
    }
}
