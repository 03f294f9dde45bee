//! One subscriber's connection.

use std::{collections::VecDeque, net::TcpStream};

use tickwire_proto::{
    claims::{Entitlement, Grant},
    close::CloseReason,
    request::MAX_DELAY_MS_MAX,
    upgrade::Subprotocol,
};

use super::{
    conflate::Conflated, join::JoinKey, outbox::Outbox, selections::Selections, sends::Unsent,
    timers::Armed,
};
use crate::{
    clock::Millis,
    config::Config,
    door::ConnectionSlot,
    few::FewMap,
    peer::{
        conduct::{Conduct, Pace, op_limits},
        inbound::Inbound,
        liveness::Liveness,
    },
    tape::{Position, SymbolId},
};

/// Everything that a floor keeps of one subscriber. There may be a hundred thousand, most of them
/// silent, so what few of them need is boxed.
// In this order: what a tick touches on its way lies together, since the kernel's part of a send
// leaves nothing of it in the caches.
#[repr(C)]
pub struct Connection {
    /// What is to go out.
    pub outbox: Outbox,
    /// Tells it from earlier ones at the same index.
    pub generation: u32,
    /// How ticks are encoded for it.
    pub format: Subprotocol,
    /// Whether it stands in the floor's list of those with something to send.
    pub dirty: bool,
    /// Whether it has been silent, so that it gives its queues' memory back with the next send.
    pub resting: bool,
    /// Whether its ticks wait for the end of a latency budget, so that one more changes nothing.
    pub holding: bool,
    /// What the socket has yet to take of the last send, before anything else goes out.
    pub unsent: Option<Box<Unsent>>,
    /// Set once it is being closed.
    pub closing: Option<Box<Closing>>,
    /// Requests that take more than a moment; `None` while there are none.
    pub under_way: Option<Box<UnderWay>>,
    /// Since when ticks are held for it.
    pub held_since: Option<Millis>,
    /// Its last cursor, and when; `None` before the first.
    pub cursor: Option<(Position, Millis)>,
    /// The socket.
    pub socket: TcpStream,
    /// Its latency budget, see [`budget`].
    pub max_delay_ms: u16,
    /// Whether others may get exactly the same ticks, which is looked for once it has all of its own.
    pub seeks_audience: bool,
    /// Heartbeats, pings, expiry.
    pub liveness: Liveness,
    /// What it follows in `conflate` mode.
    pub conflated: Option<Box<FewMap<SymbolId, Conflated>>>,
    /// Its place in the door's count, given back on drop; and its name in logs.
    pub slot: ConnectionSlot,
    /// Framing of what comes in.
    pub inbound: Inbound,
    /// What its token allows.
    pub rights: Rights,
    /// Rates and offences.
    pub conduct: Conduct,
    /// What it asked for.
    pub selections: Selections,
    /// What it is live on, with its index among the symbol's subscribers, or, the same for all,
    /// among the members of its audience.
    pub members: FewMap<SymbolId, u32>,
    /// Its entry among the timers.
    pub armed: Armed,
    /// Counts its subscription requests, so that a later one wins over one under way.
    pub requests: u32,
}

// What an idle subscriber costs is promised in the README: together with its subscription, its
// user's entry and its timer less than 700 bytes.
const _: () = assert!(size_of::<Connection>() <= 320);

/// What a token allows, as far as a floor has to know.
#[derive(Debug)]
pub struct Rights {
    /// Expiry, seconds since 1970 UTC.
    pub exp: u64,
    /// `None` where the token says nothing but who and until when.
    own: Option<Box<OwnRights>>,
}

/// Where a token departs from the settings.
#[derive(Debug)]
struct OwnRights {
    symbols: Entitlement,
    symbols_max: Option<u32>,
    ops_per_s: Option<u32>,
}

impl Rights {
    /// Those of `grant`.
    pub fn new(grant: Grant) -> Self {
        let own = OwnRights {
            symbols: grant.symbols,
            symbols_max: grant.max_symbols,
            ops_per_s: grant.ops_per_s,
        };
        let says_nothing = own.symbols == Entitlement::all()
            && own.symbols_max.is_none()
            && own.ops_per_s.is_none();
        Self {
            exp: grant.exp,
            own: (!says_nothing).then(|| Box::new(own)),
        }
    }

    /// What may be subscribed to.
    pub fn symbols(&self) -> &Entitlement {
        static ALL: Entitlement = Entitlement::all();
        self.own.as_ref().map_or(&ALL, |own| &own.symbols)
    }

    /// Symbols and patterns at once.
    pub fn symbols_max(&self, config: &Config) -> u32 {
        let claimed = self.own.as_ref().and_then(|own| own.symbols_max);
        claimed.unwrap_or(config.symbols_per_connection)
    }

    /// Operations per second, and at once.
    pub fn ops(&self, config: &Config) -> (u32, u32) {
        op_limits(self.own.as_ref().and_then(|own| own.ops_per_s), config)
    }
}

/// Requests under way or queued, oldest first.
#[derive(Debug, Default)]
pub struct UnderWay {
    /// Subscriptions being joined.
    pub joins: VecDeque<JoinKey>,
    /// `replay` requests.
    pub replays: VecDeque<JoinKey>,
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

/// A latency budget as it is kept; the protocol allows none that is longer.
pub fn budget(max_delay_ms: u32) -> u16 {
    const _: () = assert!(MAX_DELAY_MS_MAX <= u16::MAX as u32);
    max_delay_ms.min(MAX_DELAY_MS_MAX) as u16
}

/// The first millisecond in which a latency budget is over, whole milliseconds being what the floor's
/// clock counts: a budget of 20 ms is used up, and not cut to 19.
pub fn hold_end(since: Millis, max_delay_ms: u16) -> Millis {
    since.after(u64::from(max_delay_ms) + 1)
}

impl Connection {
    /// Since when its socket has taken nothing of what is due.
    pub fn stalled_since(&self) -> Option<Millis> {
        self.unsent.as_ref().map(|unsent| unsent.stalled_since)
    }

    /// Whether a send that is taken whole leaves nothing to see to.
    pub fn is_settled(&self) -> bool {
        self.outbox.is_empty()
            && self.closing.is_none()
            && self.under_way.is_none()
            && !self.resting
    }

    /// Whether a snapshot or `since` is unfinished, during which no cursor holds.
    pub fn is_joining(&self) -> bool {
        self.joins().next().is_some()
    }

    /// Asks for one operation at the rate that its token allows.
    pub fn take_operation(&mut self, now: Millis, config: &Config) -> Pace {
        let (ops_per_s, ops_burst) = self.rights.ops(config);
        self.conduct.operation(now, ops_per_s, ops_burst)
    }

    /// Subscriptions being joined, oldest first.
    pub fn joins(&self) -> impl Iterator<Item = JoinKey> {
        let under_way = self.under_way.iter();
        under_way.flat_map(|under_way| under_way.joins.iter().copied())
    }

    /// `replay` requests under way or queued, oldest first.
    pub fn replays(&self) -> impl Iterator<Item = JoinKey> {
        let under_way = self.under_way.iter();
        under_way.flat_map(|under_way| under_way.replays.iter().copied())
    }

    /// Strikes a request off those under way.
    pub fn end_request(&mut self, key: JoinKey) {
        let Some(under_way) = &mut self.under_way else {
            return;
        };
        under_way.joins.retain(|own| *own != key);
        under_way.replays.retain(|own| *own != key);
        if under_way.joins.is_empty() && under_way.replays.is_empty() {
            self.under_way = None;
        }
    }

    /// The symbols in `conflate` mode.
    pub fn conflated(&self) -> impl Iterator<Item = &Conflated> {
        let conflated = self.conflated.iter();
        conflated.flat_map(|conflated| conflated.iter().map(|(_, conflation)| conflation))
    }

    /// A symbol in `conflate` mode.
    pub fn conflation(&mut self, symbol: SymbolId) -> Option<&mut Conflated> {
        self.conflated.as_mut()?.get_mut(&symbol)
    }

    /// Takes a symbol out of `conflate` mode.
    pub fn end_conflation(&mut self, symbol: SymbolId) -> Option<Conflated> {
        let conflated = self.conflated.as_mut()?;
        let ended = conflated.remove(&symbol);
        if conflated.is_empty() {
            self.conflated = None;
        }
        ended
    }

    /// The position that a cursor may name while the floor stands at `floor_at`: a tick that is
    /// still held keeps it before that tick.
    pub fn cursor_position(&self, floor_at: Position) -> Position {
        self.conflated()
            .filter_map(Conflated::held_from)
            .min()
            .map_or(floor_at, |held| held.min(floor_at))
    }

    /// When its latency budget is over.
    pub fn held_until(&self) -> Option<Millis> {
        self.held_since
            .map(|since| hold_end(since, self.max_delay_ms))
    }

    /// The earliest moment at which something of this connection is due, but for its latency budget.
    pub fn deadline(&self, config: &Config) -> Millis {
        if let Some(closing) = &self.closing {
            return closing.by;
        }
        let stalled = self
            .stalled_since()
            .map(|since| since.after(config.stall_s * 1_000));
        let conflated = self.conflated().filter_map(Conflated::release_at).min();
        [stalled, conflated]
            .into_iter()
            .flatten()
            .fold(self.liveness.deadline(config), Millis::min)
    }
}
