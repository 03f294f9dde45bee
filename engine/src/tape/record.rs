//! What stands on the tape, and how it is packed into words.

use tickwire_proto::{
    reply::GapReason,
    sbe::entry::Numbering,
    tick::{Body, Channel, FeedState, Side, Values, optional_to_word, word_to_optional},
};

use super::layout::{PAYLOAD_WORDS, Payload};

/// Where a record stands: counts records of every symbol since the tape began, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position(pub u64);

/// A symbol's number on this tape: dense, from 0, in the order of first appearance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SymbolId(pub u32);

/// Which host's publishers a record comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// This one's: the bridge carries it to the others.
    #[default]
    Here,
    /// Another one's: it goes no further.
    Elsewhere,
}

/// One record, copied out of the tape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// Where it stands.
    pub position: Position,
    /// Whose it is.
    pub symbol: SymbolId,
    /// The symbol's epoch when it was pushed.
    pub epoch: u64,
    /// When ingest took it, nanoseconds since 1970 UTC by this host's clock.
    pub admitted_ns: u64,
    /// The record before it of the same symbol and channel, even if that is no longer retained;
    /// `None` for the first of the channel and for [`Event::Feed`].
    pub previous: Option<Position>,
    /// Whose publishers it comes from.
    pub origin: Origin,
    /// What happened.
    pub event: Event,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A trade or a quote.
    Tick {
        /// Its number in its channel within the epoch.
        seq: u64,
        /// The source's event time, nanoseconds since 1970 UTC.
        ts_ns: u64,
        /// Prices and sizes.
        values: Values,
    },
    /// Ticks that never reached this tape; stands in the chain of its channel.
    Gap {
        /// The channel that misses them.
        channel: Channel,
        /// First missing seq.
        from: u64,
        /// Last missing seq.
        to: u64,
        /// Why they are missing.
        reason: GapReason,
    },
    /// The symbol's feed changed; stands in no chain.
    Feed(FeedState),
    /// This host began to have publishers of the symbol, and so it is numbered, or ceased to; stands
    /// in no chain, and is of interest to other hosts alone.
    Carried(Option<Numbering>),
}

impl Event {
    /// The channel whose chain it stands in; `None` for [`Event::Feed`] and [`Event::Carried`].
    pub fn channel(&self) -> Option<Channel> {
        match self {
            Self::Tick { values, .. } => Some(values.channel()),
            Self::Gap { channel, .. } => Some(*channel),
            Self::Feed(_) | Self::Carried(_) => None,
        }
    }

    /// A tick's seq or a gap's `from`; 0 for what has none.
    pub fn first_seq(&self) -> u64 {
        match *self {
            Self::Tick { seq, .. } => seq,
            Self::Gap { from, .. } => from,
            Self::Feed(_) | Self::Carried(_) => 0,
        }
    }

    /// A tick's seq or a gap's `to`; 0 for what has none.
    pub fn last_seq(&self) -> u64 {
        match *self {
            Self::Tick { seq, .. } => seq,
            Self::Gap { to, .. } => to,
            Self::Feed(_) | Self::Carried(_) => 0,
        }
    }
}

impl Record {
    /// The channel whose chain it stands in; `None` for [`Event::Feed`] and [`Event::Carried`].
    pub fn channel(&self) -> Option<Channel> {
        self.event.channel()
    }

    /// A tick's seq or a gap's `from`; 0 for what has none.
    pub fn first_seq(&self) -> u64 {
        self.event.first_seq()
    }

    /// A tick's seq or a gap's `to`; 0 for what has none.
    pub fn last_seq(&self) -> u64 {
        self.event.last_seq()
    }

    /// The words of the record, all but its position, which is the slot's stamp.
    pub(super) fn pack(&self) -> Payload {
        let (what, [seq, ts_ns], values) = pack_event(&self.event);
        let [a, b, c, d] = values.map(i64::cast_unsigned);
        let elsewhere = match self.origin {
            Origin::Here => 0,
            Origin::Elsewhere => ELSEWHERE,
        };
        let what = what | u64::from(elsewhere) | u64::from(self.symbol.0) << 32;
        let previous = position_to_word(self.previous);
        [
            what,
            seq,
            ts_ns,
            self.epoch,
            self.admitted_ns,
            previous,
            a,
            b,
            c,
            d,
        ]
    }

    /// The reverse of [`Record::pack`], of words that a slot's stamp has vouched for.
    pub(super) fn unpack(position: Position, payload: &Payload) -> Self {
        let [what, seq, ts_ns, epoch, admitted_ns, previous, values @ ..] = *payload;
        Self {
            position,
            symbol: SymbolId((what >> 32) as u32),
            epoch,
            admitted_ns,
            previous: word_to_position(previous),
            origin: if what as u8 & ELSEWHERE == 0 {
                Origin::Here
            } else {
                Origin::Elsewhere
            },
            event: unpack_event(what, [seq, ts_ns], values.map(u64::cast_signed)),
        }
    }
}

/// A position as its word: 0 is none, so that zeroed memory says "none".
pub(super) fn position_to_word(position: Option<Position>) -> u64 {
    position.map_or(0, |position| position.0 + 1)
}

/// The reverse of [`position_to_word`].
pub(super) fn word_to_position(word: u64) -> Option<Position> {
    word.checked_sub(1).map(Position)
}

/// The payload's last words, whose meaning depends on the kind.
const VALUES_WORDS: usize = PAYLOAD_WORDS - 6;
type ValuesWords = [i64; VALUES_WORDS];

const TRADE: u8 = 0;
const QUOTE: u8 = 1;
const TRADE_GAP: u8 = 2;
const QUOTE_GAP: u8 = 3;
const FEED: u8 = 4;
const CARRIED: u8 = 5;
/// The detail of a symbol that nobody here publishes.
const NOBODY: u8 = 255;
/// Beside the kind: the record comes from another host.
const ELSEWHERE: u8 = 0x80;

/// SBE's null for a u8 enumeration.
const NO_SIDE: u8 = 255;

fn pack_event(event: &Event) -> (u64, [u64; 2], ValuesWords) {
    match *event {
        Event::Tick { seq, ts_ns, values } => {
            let (kind, detail, words) = pack_body(&values.body);
            let exponents = [values.price_exponent, values.size_exponent].map(i8::cast_unsigned);
            (pack_what(kind, detail, exponents), [seq, ts_ns], words)
        }
        Event::Gap {
            channel,
            from,
            to,
            reason,
        } => {
            let kind = match channel {
                Channel::Trade => TRADE_GAP,
                Channel::Quote => QUOTE_GAP,
            };
            (
                pack_what(kind, reason as u8, [0; 2]),
                [from, to],
                [0; VALUES_WORDS],
            )
        }
        Event::Feed(state) => pack_detail(FEED, state as u8),
        Event::Carried(numbering) => pack_detail(
            CARRIED,
            numbering.map_or(NOBODY, |numbering| numbering as u8),
        ),
    }
}

fn pack_detail(kind: u8, detail: u8) -> (u64, [u64; 2], ValuesWords) {
    let what = pack_what(kind, detail, [0; 2]);
    (what, [0; 2], [0; VALUES_WORDS])
}

fn pack_body(body: &Body) -> (u8, u8, ValuesWords) {
    match *body {
        Body::Trade { price, size, side } => {
            let side = side.map_or(NO_SIDE, |side| side as u8);
            (TRADE, side, [price, optional_to_word(size), 0, 0])
        }
        Body::Quote {
            bid,
            bid_size,
            ask,
            ask_size,
        } => {
            let (bid_size, ask_size) = (optional_to_word(bid_size), optional_to_word(ask_size));
            (QUOTE, NO_SIDE, [bid, bid_size, ask, ask_size])
        }
    }
}

fn pack_what(kind: u8, detail: u8, [price_exponent, size_exponent]: [u8; 2]) -> u64 {
    u64::from_le_bytes([kind, detail, price_exponent, size_exponent, 0, 0, 0, 0])
}

fn unpack_event(what: u64, [first, second]: [u64; 2], words: ValuesWords) -> Event {
    let [kind, detail, price_exponent, size_exponent, ..] = what.to_le_bytes();
    let gap = |channel| Event::Gap {
        channel,
        from: first,
        to: second,
        reason: GapReason::ALL[usize::from(detail)],
    };
    let tick = |body| Event::Tick {
        seq: first,
        ts_ns: second,
        values: Values {
            price_exponent: price_exponent.cast_signed(),
            size_exponent: size_exponent.cast_signed(),
            body,
        },
    };
    match kind & !ELSEWHERE {
        TRADE => tick(unpack_trade(detail, words)),
        QUOTE => tick(unpack_quote(words)),
        TRADE_GAP => gap(Channel::Trade),
        QUOTE_GAP => gap(Channel::Quote),
        FEED if detail == FeedState::Live as u8 => Event::Feed(FeedState::Live),
        FEED => Event::Feed(FeedState::Stale),
        CARRIED => Event::Carried(match detail {
            NOBODY => None,
            host if host == Numbering::Host as u8 => Some(Numbering::Host),
            _ => Some(Numbering::Source),
        }),
        _ => unreachable!("`pack_event` is the only source of kinds, and the stamp held"),
    }
}

fn unpack_trade(detail: u8, [price, size, ..]: ValuesWords) -> Body {
    let aggressor = match detail {
        NO_SIDE => None,
        buy if buy == Side::Buy as u8 => Some(Side::Buy),
        _ => Some(Side::Sell),
    };
    Body::Trade {
        price,
        size: word_to_optional(size),
        side: aggressor,
    }
}

fn unpack_quote([bid, bid_size, ask, ask_size]: ValuesWords) -> Body {
    Body::Quote {
        bid,
        bid_size: word_to_optional(bid_size),
        ask,
        ask_size: word_to_optional(ask_size),
    }
}
