//! One subscriber's connection.

use std::net::SocketAddr;

use rustc_hash::FxHashMap;
use tickwire_proto::{claims::Grant, close::CloseReason, upgrade::Subprotocol};

use super::{
    conflate::Conflated, join::JoinKey, outbox::Outbox, selections::Selections, sender::Sender,
    timers::Armed,
};
use crate::{
    clock::Millis,
    door::ConnectionSlot,
    peer::{conduct::Conduct, inbound::Inbound, liveness::Liveness},
    sys::socket::SocketView,
    tape::{Position, SymbolId},
};

/// Everything that a floor keeps of one subscriber.
pub struct Connection {
    /// Tells it from earlier ones at the same index.
    pub generation: u32,
    /// Its name in logs, and what the door calls it.
    pub session: u64,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Its place in the door's count, given back on drop.
    pub _slot: ConnectionSlot,
    /// The socket, for reading.
    pub socket: SocketView,
    /// The socket, for writing.
    pub sender: Sender,
    /// Framing of what comes in.
    pub inbound: Inbound,
    /// What is to go out.
    pub outbox: Outbox,
    /// How ticks are encoded for it.
    pub format: Subprotocol,
    /// What its token allows.
    pub grant: Box<Grant>,
    /// Heartbeats, pings, expiry.
    pub liveness: Liveness,
    /// Rates and offences.
    pub conduct: Conduct,
    /// What it asked for.
    pub selections: Selections,
    /// What it is live on, with its index among the symbol's subscribers.
    pub members: FxHashMap<SymbolId, u32>,
    /// What it follows in `conflate` mode.
    pub conflated: FxHashMap<SymbolId, Conflated>,
    /// Counts its subscription requests, so that a later one wins over one under way.
    pub requests: u32,
    /// Subscriptions being joined, oldest first.
    pub joins: std::collections::VecDeque<JoinKey>,
    /// `replay` requests under way or queued.
    pub replays: std::collections::VecDeque<JoinKey>,
    /// Its latency budget.
    pub max_delay_ms: u32,
    /// Since when ticks are held for it.
    pub held_since: Option<Millis>,
    /// Its last cursor, and when; `None` before the first.
    pub cursor: Option<(Position, Millis)>,
    /// Whether it stands in the floor's list of those with something to send.
    pub dirty: bool,
    /// Since when its socket has taken nothing of what is due.
    pub stalled_since: Option<Millis>,
    /// Set once it is being closed.
    pub closing: Option<Closing>,
    /// Its entry among the timers.
    pub armed: Armed,
}

/// A connection on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    /// Why, for the log and the metric.
    pub reason: CloseReason,
    /// When it ends, whether or not the peer has taken everything.
    pub by: Millis,
    /// Whether everything was handed to the kernel and the sending side shut.
    pub flushed: bool,
}

impl Connection {
    /// Whether a snapshot or `since` is unfinished, during which no cursor holds.
    pub fn is_joining(&self) -> bool {
        !self.joins.is_empty()
    }

    /// The position that a cursor may name while the floor stands at `floor_at`: a tick that is
    /// still held keeps it before that tick.
    pub fn cursor_position(&self, floor_at: Position) -> Position {
        self.conflated
            .values()
            .filter_map(Conflated::held_from)
            .min()
            .map_or(floor_at, |held| held.min(floor_at))
    }

    /// The earliest moment at which something of this connection is due.
    pub fn deadline(&self, config: &crate::config::Config) -> Millis {
        if let Some(closing) = self.closing {
            return closing.by;
        }
        let held = self
            .held_since
            // What a write in flight holds up is looked at when that is complete.
            .filter(|_| !self.sender.is_busy())
            .map(|since| since.after(u64::from(self.max_delay_ms)));
        let stalled = self
            .stalled_since
            .map(|since| since.after(config.stall_s * 1_000));
        let conflated = self
            .conflated
            .values()
            .filter_map(Conflated::release_at)
            .min();
        [held, stalled, conflated]
            .into_iter()
            .flatten()
            .fold(self.liveness.deadline(config), Millis::min)
    }
}
