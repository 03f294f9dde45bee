//! What the engine tells clients and publishers.

use crate::{
    code::ErrorCode,
    cursor::Cursor,
    pattern::Selector,
    request::{Mode, Rejected},
    symbol::Symbol,
    tick::{Channel, Channels, FeedState, Marks, Tick},
    upgrade::Subprotocol,
};

/// One message from the engine.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// First on every connection.
    Welcome(Welcome),
    /// A request was carried out.
    Ack(Ack),
    /// Opens an account.
    Start(Start),
    /// A trade or a quote.
    Tick(Tick, Marks),
    /// Ticks that will not come.
    Gap(Gap),
    /// A `since` or a `replay` is complete.
    Replayed {
        /// The request's id; `None` for a subscription made in the upgrade's query.
        id: Option<u32>,
        /// For `replay`: complete up to here.
        cursor: Option<Cursor>,
    },
    /// Everything up to here is accounted for.
    Cursor(Cursor),
    /// The symbol's last source went, or its first came.
    Feed {
        /// The symbol.
        symbol: Symbol,
        /// What it is now.
        state: FeedState,
    },
    /// Nothing else was said for `heartbeat_ms`.
    Heartbeat {
        /// The engine's clock, microseconds since 1970 UTC.
        ts_us: u64,
    },
    /// The token is about to expire.
    TokenExpiring {
        /// Seconds until `exp`.
        in_s: u64,
    },
    /// A request or a tick was refused.
    Error(ErrorReply),
    /// The engine is about to close.
    Goodbye {
        /// A label of [`crate::close::CloseReason`].
        reason: String,
        /// The earliest time to come back, where the engine has an opinion.
        reconnect_after_ms: Option<u64>,
    },
    /// The answer to `ping`.
    Pong {
        /// The request's id.
        id: Option<u32>,
        /// The engine's clock, microseconds since 1970 UTC.
        ts_us: u64,
    },
}

/// What a connection may do, said first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The connection's name in the engine's log.
    pub session: String,
    /// What was agreed on.
    pub protocol: Subprotocol,
    /// Silence after which the engine sends `heartbeat`.
    pub heartbeat_ms: u64,
    /// The token's `exp`, seconds since 1970 UTC.
    pub token_exp: u64,
    /// The connection's bounds.
    pub limits: Limits,
}

/// The bounds that `welcome` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Symbols and patterns.
    pub symbols: u32,
    /// Bytes of one message from the client.
    pub message_bytes: u32,
    /// Operations per second.
    pub ops_per_s: u32,
}

/// A request was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The request's id.
    pub id: Option<u32>,
    /// What came of it, by op.
    pub body: AckBody,
}

/// The bodies of `ack`, by op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckBody {
    /// `subscribe`.
    Subscribe(Accepted),
    /// `replay`.
    Replay(Accepted),
    /// `unsubscribe`: `pending` and `narrowed` stay empty and off the wire.
    Unsubscribe(Accepted),
    /// `list`.
    List(Vec<Listed>),
    /// `options`: the effective values.
    Options {
        /// The latency budget.
        max_delay_ms: u32,
    },
    /// `auth`.
    Auth {
        /// The new token's `exp`, seconds since 1970 UTC.
        token_exp: u64,
        /// Subscriptions that ended because the new token does not allow them.
        lost: Vec<Selector>,
        /// Patterns that now deliver less than their name.
        narrowed: Vec<Narrowed>,
    },
    /// `declare`.
    Declare {
        /// Symbols that this connection is a source of now.
        symbols: Vec<Symbol>,
        /// Entries refused.
        rejected: Vec<Rejected>,
    },
    /// Publishers: cumulative counts; after `flush` with its id. Has no `op` on the wire.
    Published(Published),
}

/// What became of a `symbols` list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Symbols taken.
    pub symbols: Vec<Symbol>,
    /// Patterns taken.
    pub patterns: Vec<crate::pattern::Pattern>,
    /// The subset of `symbols` that nobody has published yet.
    pub pending: Vec<Symbol>,
    /// Patterns wider than the token, with what they deliver.
    pub narrowed: Vec<Narrowed>,
    /// Entries refused.
    pub rejected: Vec<Rejected>,
}

/// A pattern and the part of it that the token allows; `narrowed` on the wire is an object of
/// pattern to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowed {
    /// The pattern as it was asked for.
    pub pattern: crate::pattern::Pattern,
    /// What it delivers.
    pub to: Vec<Selector>,
}

/// One subscription in the ack of `list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The symbol or pattern.
    pub selector: Selector,
    /// Its channels.
    pub channels: Channels,
    /// Its mode.
    pub mode: Mode,
}

/// A publisher's counts, cumulative for the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Ticks placed on the tape.
    pub accepted: u64,
    /// Ticks refused.
    pub rejected: u64,
    /// Ticks that another copy preceded.
    pub duplicates: u64,
    /// The first `messages` tick messages are decided.
    pub messages: u64,
    /// Errors that were counted but not sent; absent on the wire while 0.
    pub errors_omitted: u64,
}

/// Opens an account of a symbol: the last seqs that it does not cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The symbol.
    pub symbol: Symbol,
    /// The epoch of both seqs.
    pub epoch: u64,
    /// Last trade not covered; absent where the channel is not subscribed or has no tick yet.
    pub trade: Option<u64>,
    /// Last quote not covered; absent as above.
    pub quote: Option<u64>,
    /// The `replay` request that it answers.
    pub replay: Option<u32>,
}

/// Ticks that a subscription will not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The symbol.
    pub symbol: Symbol,
    /// The channel.
    pub channel: Channel,
    /// The epoch of both ends.
    pub epoch: u64,
    /// First missing seq; `None` where a cursor was given and the seq is unknown.
    pub from: Option<u64>,
    /// Last missing seq; `None` closes the account of an older epoch.
    pub to: Option<u64>,
    /// Why.
    pub reason: GapReason,
    /// The `replay` request that it answers.
    pub replay: Option<u32>,
}

/// Why ticks are missing; the numbers are SBE's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GapReason {
    /// The client did not keep up.
    SlowConsumer = 0,
    /// History no longer reaches back.
    History = 1,
    /// The engine itself was lapped.
    Overrun = 2,
    /// The publisher skipped them.
    Source = 3,
    /// The bridge between hosts lost them.
    Bridge = 4,
}

impl GapReason {
    /// Every reason, by its number.
    pub const ALL: [Self; 5] = [
        Self::SlowConsumer,
        Self::History,
        Self::Overrun,
        Self::Source,
        Self::Bridge,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SlowConsumer => "slow_consumer",
            Self::History => "history",
            Self::Overrun => "overrun",
            Self::Source => "source",
            Self::Bridge => "bridge",
        }
    }

    /// The reverse of [`GapReason::as_str`].
    pub fn from_wire(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// A refused request, or a refused tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply {
    /// The request's id, where it had one.
    pub id: Option<u32>,
    /// Why.
    pub code: ErrorCode,
    /// A sentence for humans.
    pub message: String,
    /// Publishers: which tick message, from 1.
    pub msg: Option<u64>,
    /// Publishers: which tick of it, from 0; absent where the whole message was refused.
    pub index: Option<u32>,
    /// The symbol concerned, as it was written (cut to 64 bytes).
    pub symbol: Option<String>,
}
