//! Error codes: why a request or a tick was refused.

/// The code of an `error` reply, of a `rejected` entry, or of a refused HTTP upgrade's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorCode {
    /// Not JSON, or not an object.
    BadJson,
    /// A field is missing, of the wrong type, or out of its range.
    BadRequest,
    /// No such `op`.
    UnknownOp,
    /// A field that the `op` does not have.
    UnknownField,
    /// Not a symbol or pattern.
    BadSymbol,
    /// Not a cursor.
    BadCursor,
    /// A token that does not verify, or of another `sub`.
    BadToken,
    /// The token does not allow it.
    NotEntitled,
    /// `unsubscribe` of something that is not subscribed.
    NotSubscribed,
    /// Over the connection's bound of symbols and patterns.
    TooManySymbols,
    /// Over the bounds of replays per connection or floor.
    TooManyReplays,
    /// Over the rate of operations.
    RateLimited,
    /// Not SBE.
    BadSbe,
    /// A tick with a field missing, of the wrong type, or with a mark that publishers may not set.
    BadTick,
    /// A price or size that is a bare JSON number.
    DecimalNotString,
    /// A price or size that is not a plain decimal.
    BadDecimal,
    /// A number outside the range of the wire.
    OutOfRange,
    /// An SBE id that was never declared.
    UndeclaredId,
    /// An epoch below the symbol's current one.
    StaleEpoch,
    /// Another host numbers the symbol.
    NotOwner,
    /// Numbered and unnumbered ticks of one symbol while a source is live.
    MixedNumbering,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 21] = [
        Self::BadJson,
        Self::BadRequest,
        Self::UnknownOp,
        Self::UnknownField,
        Self::BadSymbol,
        Self::BadCursor,
        Self::BadToken,
        Self::NotEntitled,
        Self::NotSubscribed,
        Self::TooManySymbols,
        Self::TooManyReplays,
        Self::RateLimited,
        Self::BadSbe,
        Self::BadTick,
        Self::DecimalNotString,
        Self::BadDecimal,
        Self::OutOfRange,
        Self::UndeclaredId,
        Self::StaleEpoch,
        Self::NotOwner,
        Self::MixedNumbering,
    ];

    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::BadRequest => "bad_request",
            Self::UnknownOp => "unknown_op",
            Self::UnknownField => "unknown_field",
            Self::BadSymbol => "bad_symbol",
            Self::BadCursor => "bad_cursor",
            Self::BadToken => "bad_token",
            Self::NotEntitled => "not_entitled",
            Self::NotSubscribed => "not_subscribed",
            Self::TooManySymbols => "too_many_symbols",
            Self::TooManyReplays => "too_many_replays",
            Self::RateLimited => "rate_limited",
            Self::BadSbe => "bad_sbe",
            Self::BadTick => "bad_tick",
            Self::DecimalNotString => "decimal_not_string",
            Self::BadDecimal => "bad_decimal",
            Self::OutOfRange => "out_of_range",
            Self::UndeclaredId => "undeclared_id",
            Self::StaleEpoch => "stale_epoch",
            Self::NotOwner => "not_owner",
            Self::MixedNumbering => "mixed_numbering",
        }
    }

    /// The code of a wire text, if it is one of this version.
    pub fn from_wire(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<crate::price::DecimalError> for ErrorCode {
    fn from(error: crate::price::DecimalError) -> Self {
        use crate::price::DecimalError::{Empty, Malformed, OutOfRange, Overflow, TooManyDigits};
        match error {
            Empty | Malformed { .. } => Self::BadDecimal,
            TooManyDigits | Overflow | OutOfRange => Self::OutOfRange,
        }
    }
}
