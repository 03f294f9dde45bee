//! Selectors: what a request or a token names, a symbol or a prefix pattern.

use std::fmt;

use crate::symbol::{self, SYMBOL_BYTES_MAX, Symbol, SymbolError};

/// A prefix pattern: zero to 32 symbol bytes, written with a `*` behind them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern([u8; SYMBOL_BYTES_MAX]);

/// One entry of a `symbols` list: a symbol, or a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// Exactly this symbol.
    Symbol(Symbol),
    /// Every symbol with this prefix, those born later included.
    Pattern(Pattern),
}

impl Pattern {
    /// The pattern `*`, which matches every symbol.
    pub const ALL: Self = Self([0; SYMBOL_BYTES_MAX]);

    /// The prefix without its `*`.
    pub fn prefix(&self) -> &[u8] {
        let prefix_bytes = self
            .0
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(SYMBOL_BYTES_MAX);
        &self.0[..prefix_bytes]
    }

    /// Whether `symbol` begins with the prefix.
    pub fn matches(&self, symbol: &Symbol) -> bool {
        symbol.as_bytes().starts_with(self.prefix())
    }
}

impl Selector {
    /// Reads a symbol, or a prefix with `*` at its end.
    ///
    /// # Errors
    ///
    /// See [`SymbolError`]; a `*` anywhere but at the end is a bad byte.
    pub fn parse(text: &str) -> Result<Self, SymbolError> {
        match text.strip_suffix('*') {
            Some(prefix) => {
                symbol::pad(prefix.as_bytes()).map(|padded| Self::Pattern(Pattern(padded)))
            }
            None => Symbol::parse(text).map(Self::Symbol),
        }
    }

    /// Whether the selector takes in `symbol`.
    pub fn matches(&self, symbol: &Symbol) -> bool {
        match self {
            Self::Symbol(own) => own == symbol,
            Self::Pattern(pattern) => pattern.matches(symbol),
        }
    }

    /// Whether everything that `other` takes in is taken in by `self` too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Symbol(symbol)) => self.matches(symbol),
            (Self::Pattern(wide), Self::Pattern(narrow)) => {
                narrow.prefix().starts_with(wide.prefix())
            }
            (Self::Symbol(_), Self::Pattern(_)) => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The alphabet is ASCII, so the fallback is never taken.
        write!(
            f,
            "{}*",
            std::str::from_utf8(self.prefix()).unwrap_or_default()
        )
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({self})")
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(symbol) => symbol.fmt(f),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

impl From<Symbol> for Selector {
    fn from(symbol: Symbol) -> Self {
        Self::Symbol(symbol)
    }
}

impl From<Pattern> for Selector {
    fn from(pattern: Pattern) -> Self {
        Self::Pattern(pattern)
    }
}

impl std::str::FromStr for Selector {
    type Err = SymbolError;

    fn from_str(text: &str) -> Result<Self, SymbolError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> Selector {
        Selector::parse(text).unwrap()
    }

    #[test]
    fn a_pattern_is_a_prefix_with_a_star_at_its_end() {
        assert_eq!(selector("*"), Selector::Pattern(Pattern::ALL));
        assert_eq!(selector("BTC-*").to_string(), "BTC-*");
        assert_eq!(Selector::parse("B*C"), Err(SymbolError::BadByte { at: 1 }));
        assert_eq!(Selector::parse("**"), Err(SymbolError::BadByte { at: 0 }));
        assert_eq!(Selector::parse(""), Err(SymbolError::Empty));
    }

    #[test]
    fn covering_follows_the_prefix() {
        assert!(selector("*").covers(&selector("BTC-*")));
        assert!(selector("BTC-*").covers(&selector("BTC-USDT")));
        assert!(!selector("BTC-USDT").covers(&selector("BTC-*")));
        assert!(!selector("BTC-*").covers(&selector("B*")));
        assert!(selector("AAPL").covers(&selector("AAPL")));
    }
}
