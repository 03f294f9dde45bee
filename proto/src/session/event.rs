//! What a session tells its caller.

use crate::{
    cursor::Cursor,
    pattern::Selector,
    reply::{Accepted, ErrorReply, Gap, GapReason, Narrowed, Reply, Start, Welcome},
    request::Rejected,
    symbol::Symbol,
    tick::{Channel, FeedState, Marks, Tick},
};

/// One thing that happened, in the order in which it counts.
///
/// Per symbol and channel, from the seq `s` that [`Event::Started`] names to any later tick `q`
/// of the epoch, over any number of connections and hosts: ticks + `skipped` + `Gap` + `Lost` +
/// what [`Fault::Hole`] misses = q − s.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The engine greeted; subscriptions follow by themselves.
    Connected(Welcome),
    /// Every `since` of a reconnect is complete; from here on ticks are live.
    Resumed {
        /// Ticks handed out since `Connected`, all of them new to the caller.
        replayed: u64,
    },
    /// A subscription was taken up; entries that were refused come as [`Event::Rejected`].
    Subscribed(Accepted),
    /// One entry of a subscription was refused; it is asked for again after a reconnect.
    Rejected(Rejected),
    /// A request as a whole was refused.
    Refused(ErrorReply),
    /// An account opened: the symbol's first, that of a new epoch, or a further channel's. Only
    /// the channels that opened have a seq.
    Started(Start),
    /// A tick, exactly once and in the order of its channel; `skipped` counts what is new to the
    /// caller. Snapshots stand outside the account.
    Tick(Tick, Marks),
    /// Ticks that will not come, as far as the caller does not know of them yet.
    Gap(Gap),
    /// Ticks that will not come and that no `gap` named: the account went on beyond them.
    Lost(Lost),
    /// The symbol's last source went, or its first came.
    Feed {
        /// The symbol.
        symbol: Symbol,
        /// What it is now.
        state: FeedState,
    },
    /// Where a resume would begin now, for callers that outlive their process.
    Cursor(Cursor),
    /// The token is about to expire: answer with [`super::Session::fresh_token`].
    TokenExpiring {
        /// Seconds until `exp`.
        in_s: u64,
    },
    /// A fresh token is in force.
    TokenRenewed {
        /// Its `exp`, seconds since 1970 UTC.
        token_exp: u64,
        /// Subscriptions that it does not allow.
        lost: Vec<Selector>,
        /// Patterns that deliver less now than their name.
        narrowed: Vec<Narrowed>,
    },
    /// The engine is about to close; the session already took note.
    Goodbye {
        /// A label of [`crate::close::CloseReason`].
        reason: String,
    },
    /// The engine broke its own account. Nothing is repeated or reordered because of it.
    Violation(Violation),
    /// The answer to a request that the caller made by itself: `pong`, an `ack`, and all that a
    /// `replay` brings.
    Answer(Reply),
}

/// Ticks that the session found missing by itself: a `start` lay beyond them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The symbol.
    pub symbol: Symbol,
    /// The channel.
    pub channel: Channel,
    /// The epoch of both ends.
    pub epoch: u64,
    /// First missing seq.
    pub from: u64,
    /// Last missing seq; `None`: the epoch ended and nobody said where.
    pub to: Option<u64>,
}

impl Lost {
    /// The same in the words of the wire: what no engine replayed is no longer in its history.
    pub fn to_gap(&self) -> Gap {
        Gap {
            symbol: self.symbol,
            channel: self.channel,
            epoch: self.epoch,
            from: Some(self.from),
            to: self.to,
            reason: GapReason::History,
            replay: None,
        }
    }
}

/// An invariant of the account that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The symbol.
    pub symbol: Symbol,
    /// The channel.
    pub channel: Channel,
    /// The epoch of the tick or gap.
    pub epoch: u64,
    /// Its seq, or the first seq of the gap.
    pub seq: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// The ways to break the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A tick whose channel no `start` opened; it is handed out and opens the account.
    Unopened,
    /// Already accounted for on this connection; dropped.
    Repeated,
    /// Before the tick, `missing` seqs were neither delivered, nor skipped, nor in a gap.
    Hole {
        /// How many.
        missing: u64,
    },
    /// `skipped` and gaps before the tick name `excess` seqs more than there are.
    Overcounted {
        /// How many.
        excess: u64,
    },
    /// An epoch or a seq outside 1…2⁵³−1, or a gap that ends before it begins; dropped.
    OutOfRange,
    /// More symbols than [`super::SYMBOLS_MAX`]; the tick is handed out without an account.
    TooManySymbols,
}

/// What came of a session so far, over all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections that got as far as `welcome`.
    pub connections: u64,
    /// Ticks handed out, without snapshots and replays.
    pub ticks: u64,
    /// Ticks that a `conflate` dropped.
    pub skipped: u64,
    /// Ticks that gaps named, open-ended ones not counted.
    pub gapped: u64,
    /// Ticks that the session found missing, open-ended ones not counted.
    pub lost: u64,
    /// Ticks that came a second time, as they may after a resume, and were dropped.
    pub repeats: u64,
    /// Invariants broken by the engine.
    pub violations: u64,
}

impl Totals {
    pub(super) fn count(&mut self, event: &Event) {
        match event {
            Event::Connected(_) => self.connections += 1,
            Event::Tick(_, marks) if !marks.snapshot => {
                self.ticks += 1;
                self.skipped += u64::from(marks.skipped);
            }
            Event::Gap(Gap {
                from: Some(from),
                to: Some(to),
                ..
            }) => self.gapped += seqs(*from, *to),
            Event::Lost(Lost {
                from, to: Some(to), ..
            }) => self.lost += seqs(*from, *to),
            Event::Violation(_) => self.violations += 1,
            _ => {}
        }
    }
}

/// How many seqs lie in `from..=to`; a peer may send any pair.
fn seqs(from: u64, to: u64) -> u64 {
    to.saturating_sub(from).saturating_add(1)
}
