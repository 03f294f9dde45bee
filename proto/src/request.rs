//! What clients and publishers ask of the engine.

use std::collections::HashSet;

use crate::{
    code::ErrorCode, cursor::Cursor, pattern::Selector, symbol::Symbol, text, tick::Channels,
};

/// The largest request id: 2³² − 2, since SBE reserves 2³² − 1 for "none".
pub const REQUEST_ID_MAX: u32 = u32::MAX - 1;
/// The range of `interval_ms`.
pub const INTERVAL_MS: std::ops::RangeInclusive<u32> = 10..=60_000;
/// `interval_ms` where a request names none.
pub const INTERVAL_MS_DEFAULT: u32 = 250;
/// The largest `max_delay_ms`.
pub const MAX_DELAY_MS_MAX: u32 = 1_000;

/// One request: what to do, and the id that its replies will carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The client's own number for it.
    pub id: Option<u32>,
    /// What is asked.
    pub op: Op,
}

/// The operations, by their `op`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Subscribers: take up, or replace, subscriptions.
    Subscribe(Subscribe),
    /// Subscribers: history without touching subscriptions. Always has an id.
    Replay(Replay),
    /// Subscribers: end subscriptions.
    Unsubscribe(Selection),
    /// Subscribers: name the subscriptions.
    List,
    /// Both: bring a fresh token.
    Auth {
        /// The JWT.
        token: String,
    },
    /// Subscribers: options of the connection.
    Options {
        /// The latency budget, 0…[`MAX_DELAY_MS_MAX`].
        max_delay_ms: Option<u32>,
    },
    /// Both: ask for a `pong`.
    Ping,
    /// Publishers: decide everything sent so far, then ack.
    Flush,
    /// Publishers: become a source of symbols, and name their SBE ids.
    Declare(Vec<Declaration>),
}

/// A `symbols` list as it arrived: what could be read, and what could not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Symbols and patterns in the order of the request, without repeats.
    pub selectors: Vec<Selector>,
    /// Entries that are neither; they are reported and cost the others nothing.
    pub rejected: Vec<Rejected>,
}

/// The longest text of a refused entry that is sent back, in bytes.
pub const REJECTED_BYTES_MAX: usize = 64;

impl<'a> FromIterator<&'a str> for Selection {
    fn from_iter<T: IntoIterator<Item = &'a str>>(texts: T) -> Self {
        let mut selection = Self::default();
        // A message holds thousands of entries; looking for repeats in a list would be quadratic.
        let mut seen = HashSet::new();
        // What is cut here is too long to be a selector, and is cut where it is reported anyway.
        let entries = texts
            .into_iter()
            .map(|text| text::prefix(text, REJECTED_BYTES_MAX));
        for text in entries.filter(|text| seen.insert(*text)) {
            match Selector::parse(text) {
                Ok(selector) => selection.selectors.push(selector),
                Err(_) => selection
                    .rejected
                    .push(Rejected::new(text, ErrorCode::BadSymbol)),
            }
        }
        selection
    }
}

/// An entry of a request that was refused, by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The entry's text, cut to 64 bytes where it is longer.
    pub symbol: String,
    /// Why.
    pub code: ErrorCode,
}

impl Rejected {
    /// Keeps at most [`REJECTED_BYTES_MAX`] bytes of `text`, whole characters only.
    pub fn new(text: &str, code: ErrorCode) -> Self {
        Self {
            symbol: text::prefix(text, REJECTED_BYTES_MAX).to_owned(),
            code,
        }
    }
}

/// `subscribe`: also made from the query of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// What to subscribe to.
    pub selection: Selection,
    /// Which channels.
    pub channels: Channels,
    /// Every tick, or the latest per interval.
    pub mode: Mode,
    /// Whether the last trade and quote come first; without meaning beside `since`.
    pub snapshot: bool,
    /// Where to resume.
    pub since: Option<Since>,
}

/// `replay`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// What to replay.
    pub selection: Selection,
    /// Which channels.
    pub channels: Channels,
    /// From where.
    pub since: Since,
}

/// How ticks reach a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Every tick.
    #[default]
    Stream,
    /// The latest tick per channel, at most every `interval_ms`.
    Conflate {
        /// 10–60,000.
        interval_ms: u32,
    },
}

/// The point after which ticks are wanted. A named symbol wins over the cursor; a symbol that
/// neither covers is replayed from its base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Covers everything that the request matches.
    pub cursor: Option<Cursor>,
    /// Symbols by name.
    pub points: Vec<(Symbol, Point)>,
}

/// The last seq that a client has seen of each channel of one symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The epoch of both seqs.
    pub epoch: u64,
    /// Last trade; `None` replays from the channel's base.
    pub trade: Option<u64>,
    /// Last quote; `None` replays from the channel's base.
    pub quote: Option<u64>,
}

/// One entry of `declare`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// The symbol's text, not yet checked: a bad one is a `rejected` entry.
    pub symbol: String,
    /// The id that SBE ticks will name it by; JSON publishers may leave it out.
    pub id: Option<u32>,
    /// The source's epoch; without it the engine numbers.
    pub epoch: Option<u64>,
}

/// Why a request was refused as a whole; becomes an `error` reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct RequestError {
    /// The request's id, where it could be read.
    pub id: Option<u32>,
    /// The code on the wire.
    pub code: ErrorCode,
    /// A sentence for humans that names the field and the allowed range.
    pub message: String,
}
