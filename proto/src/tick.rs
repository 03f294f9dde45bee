//! Ticks: trades and quotes, as they are published and as they are delivered.

use crate::{
    price::{Decimal, DecimalError, NULL_MANTISSA},
    symbol::Symbol,
};

/// The largest epoch and seq: 2⁵³ − 1, the last integer that a JavaScript number holds exactly.
pub const IDENTITY_MAX: u64 = (1 << 53) - 1;

/// The two streams of a symbol; each is numbered by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Channel {
    /// Executed trades.
    Trade = 0,
    /// Best bid and ask.
    Quote = 1,
}

impl Channel {
    /// Both channels, in the order of their numbers.
    pub const BOTH: [Self; 2] = [Self::Trade, Self::Quote];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trade => "trade",
            Self::Quote => "quote",
        }
    }

    /// The reverse of [`Channel::as_str`].
    pub fn from_wire(text: &str) -> Option<Self> {
        Self::BOTH
            .into_iter()
            .find(|channel| channel.as_str() == text)
    }

    /// 0 for trades, 1 for quotes: SBE's number, and the index into per-channel arrays.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// A set of channels; never empty where a request is involved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Channels(u8);

impl Channels {
    /// Trades and quotes, the default of every request.
    pub const BOTH: Self = Self(0b11);
    /// No channel.
    pub const NONE: Self = Self(0);

    /// The set with `channel` added.
    #[must_use]
    pub fn with(self, channel: Channel) -> Self {
        Self(self.0 | 1 << channel.index())
    }

    /// Whether `channel` is in the set.
    pub fn contains(self, channel: Channel) -> bool {
        self.0 & (1 << channel.index()) != 0
    }

    /// Whether the set holds no channel.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The channels in the set, trades first.
    pub fn iter(self) -> impl Iterator<Item = Channel> {
        Channel::BOTH
            .into_iter()
            .filter(move |&channel| self.contains(channel))
    }
}

impl From<Channel> for Channels {
    fn from(channel: Channel) -> Self {
        Self::NONE.with(channel)
    }
}

/// The aggressor of a trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// The buyer took liquidity.
    Buy = 0,
    /// The seller took liquidity.
    Sell = 1,
}

impl Side {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
        }
    }

    /// The reverse of [`Side::as_str`].
    pub fn from_wire(text: &str) -> Option<Self> {
        [Self::Buy, Self::Sell]
            .into_iter()
            .find(|side| side.as_str() == text)
    }
}

/// Whether a symbol has a live source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FeedState {
    /// The last live source, or the bridge that carries it, went away.
    Stale = 0,
    /// At least one source is live.
    Live = 1,
}

impl FeedState {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Live => "live",
        }
    }

    /// The reverse of [`FeedState::as_str`].
    pub fn from_wire(text: &str) -> Option<Self> {
        [Self::Stale, Self::Live]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// Where a tick stands in its channel: with its symbol and channel, its identity on every host.
///
/// Both parts lie in 1…[`IDENTITY_MAX`]. Ordered by epoch, then seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The numbering's generation; the highest wins.
    pub epoch: u64,
    /// The tick's number in its channel within the epoch.
    pub seq: u64,
}

/// What a tick says, in mantissas that share `price_exponent` and `size_exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Values {
    /// Exponent of every price, −18…0.
    pub price_exponent: i8,
    /// Exponent of every size, −18…0; 0 where there is no size.
    pub size_exponent: i8,
    /// The mantissas.
    pub body: Body,
}

/// The mantissas of a tick, by channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// One execution.
    Trade {
        /// Price mantissa.
        price: i64,
        /// Size mantissa, where the source has one.
        size: Option<i64>,
        /// Aggressor, where the source says it.
        side: Option<Side>,
    },
    /// The top of the book.
    Quote {
        /// Bid price mantissa.
        bid: i64,
        /// Bid size mantissa, where the source has one.
        bid_size: Option<i64>,
        /// Ask price mantissa.
        ask: i64,
        /// Ask size mantissa, where the source has one.
        ask_size: Option<i64>,
    },
}

impl Values {
    /// A trade from decimals.
    ///
    /// # Errors
    ///
    /// [`DecimalError::OutOfRange`] for a negative size.
    pub fn trade(
        price: Decimal,
        size: Option<Decimal>,
        side: Option<Side>,
    ) -> Result<Self, DecimalError> {
        if size.is_some_and(|size| size.mantissa() < 0) {
            return Err(DecimalError::OutOfRange);
        }
        Ok(Self {
            price_exponent: price.exponent(),
            size_exponent: size.map_or(0, Decimal::exponent),
            body: Body::Trade {
                price: price.mantissa(),
                size: size.map(Decimal::mantissa),
                side,
            },
        })
    }

    /// A quote from decimals, aligned to common exponents.
    ///
    /// # Errors
    ///
    /// [`DecimalError::Overflow`] where bid and ask (or their sizes) share no exponent,
    /// [`DecimalError::OutOfRange`] for a negative size.
    pub fn quote(
        bid: Decimal,
        bid_size: Option<Decimal>,
        ask: Decimal,
        ask_size: Option<Decimal>,
    ) -> Result<Self, DecimalError> {
        if [bid_size, ask_size]
            .into_iter()
            .flatten()
            .any(|size| size.mantissa() < 0)
        {
            return Err(DecimalError::OutOfRange);
        }
        let (bid, ask, price_exponent) = bid.align(ask)?;
        let (bid_size, ask_size, size_exponent) = match (bid_size, ask_size) {
            (Some(bid_size), Some(ask_size)) => {
                let (bid_size, ask_size, exponent) = bid_size.align(ask_size)?;
                (Some(bid_size), Some(ask_size), exponent)
            }
            (one, other) => (
                one.map(Decimal::mantissa),
                other.map(Decimal::mantissa),
                one.or(other).map_or(0, Decimal::exponent),
            ),
        };
        Ok(Self {
            price_exponent,
            size_exponent,
            body: Body::Quote {
                bid,
                bid_size,
                ask,
                ask_size,
            },
        })
    }

    /// Checks mantissas and exponents that came from a binary source.
    ///
    /// # Errors
    ///
    /// [`DecimalError::OutOfRange`] for an exponent outside −18…0, a null price or a negative size.
    pub fn checked(self) -> Result<Self, DecimalError> {
        let (prices, sizes) = match self.body {
            Body::Trade { price, size, .. } => ([price, price], [size, None]),
            Body::Quote {
                bid,
                bid_size,
                ask,
                ask_size,
            } => ([bid, ask], [bid_size, ask_size]),
        };
        for price in prices {
            Decimal::new(price, self.price_exponent)?;
        }
        Decimal::new(0, self.size_exponent)?;
        if sizes.into_iter().flatten().any(|size| size < 0) {
            return Err(DecimalError::OutOfRange);
        }
        Ok(self)
    }

    /// The channel that the values belong to.
    pub fn channel(&self) -> Channel {
        match self.body {
            Body::Trade { .. } => Channel::Trade,
            Body::Quote { .. } => Channel::Quote,
        }
    }

    /// A price mantissa of this tick as a decimal.
    pub fn price(&self, mantissa: i64) -> Decimal {
        Decimal::new(mantissa, self.price_exponent).unwrap_or(Decimal::ZERO)
    }

    /// A size mantissa of this tick as a decimal.
    pub fn size(&self, mantissa: i64) -> Decimal {
        Decimal::new(mantissa, self.size_exponent).unwrap_or(Decimal::ZERO)
    }
}

/// An optional mantissa as its word in SBE and on the tape: [`NULL_MANTISSA`] for none.
pub fn optional_to_word(mantissa: Option<i64>) -> i64 {
    mantissa.unwrap_or(NULL_MANTISSA)
}

/// The reverse of [`optional_to_word`].
pub fn word_to_optional(word: i64) -> Option<i64> {
    (word != NULL_MANTISSA).then_some(word)
}

/// A tick as it is delivered: numbered, stamped, complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// What was traded or quoted.
    pub symbol: Symbol,
    /// Its epoch and seq.
    pub identity: Identity,
    /// The source's event time, nanoseconds since 1970 UTC.
    pub ts_ns: u64,
    /// Prices and sizes.
    pub values: Values,
}

/// A tick as a publisher hands it in: identity and time may be left to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedTick {
    /// What was traded or quoted.
    pub symbol: Symbol,
    /// The source's own numbering, or `None` to let the engine number it.
    pub identity: Option<Identity>,
    /// The source's event time in nanoseconds, or `None` to let the engine stamp it.
    pub ts_ns: Option<u64>,
    /// Prices and sizes.
    pub values: Values,
}

/// What a delivery adds to a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The tick is a snapshot: the last of its channel, outside the account.
    pub snapshot: bool,
    /// How many ticks of its channel a `conflate` dropped before it; 0 for none.
    pub skipped: u32,
    /// The `replay` request that it answers.
    pub replay: Option<u32>,
}
