//! Symbols: the names of what is traded.

use std::fmt;

/// The longest symbol, in bytes; also the width of its field in SBE.
pub const SYMBOL_BYTES_MAX: usize = 32;

/// A checked symbol: 1–32 bytes of `A–Z a–z 0–9 . _ - / :`, case-sensitive.
///
/// Stored inline and padded with NUL, as in SBE's `SymbolDefinition`, so it copies like a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol([u8; SYMBOL_BYTES_MAX]);

/// Why a text is not a symbol or a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SymbolError {
    /// No bytes at all.
    #[error("a symbol has at least one byte")]
    Empty,
    /// More than 32 bytes.
    #[error("a symbol has at most {SYMBOL_BYTES_MAX} bytes")]
    TooLong,
    /// A byte outside the alphabet.
    #[error("byte {at} is outside A-Z a-z 0-9 . _ - / :")]
    BadByte {
        /// Offset of the byte, from 0.
        at: usize,
    },
}

impl Symbol {
    /// Checks and copies a symbol.
    ///
    /// # Errors
    ///
    /// See [`SymbolError`].
    pub fn parse(text: &str) -> Result<Self, SymbolError> {
        if text.is_empty() {
            return Err(SymbolError::Empty);
        }
        pad(text.as_bytes()).map(Self)
    }

    /// Reads the NUL-padded form of the wire.
    ///
    /// # Errors
    ///
    /// As [`Symbol::parse`]; a NUL inside the name is a [`SymbolError::BadByte`].
    pub fn from_padded(bytes: [u8; SYMBOL_BYTES_MAX]) -> Result<Self, SymbolError> {
        let name_bytes = bytes
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        if name_bytes == 0 {
            return Err(SymbolError::Empty);
        }
        pad(&bytes[..name_bytes]).map(Self)
    }

    /// The NUL-padded form of the wire.
    pub fn padded(&self) -> &[u8; SYMBOL_BYTES_MAX] {
        &self.0
    }

    /// The name without padding.
    pub fn as_bytes(&self) -> &[u8] {
        let name_bytes = self
            .0
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(SYMBOL_BYTES_MAX);
        &self.0[..name_bytes]
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        // The alphabet is ASCII, so the fallback is never taken.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// Checks the alphabet and pads with NUL; an empty name is the caller's to judge.
pub(crate) fn pad(name: &[u8]) -> Result<[u8; SYMBOL_BYTES_MAX], SymbolError> {
    if name.len() > SYMBOL_BYTES_MAX {
        return Err(SymbolError::TooLong);
    }
    if let Some(at) = name.iter().position(|&byte| !is_symbol_byte(byte)) {
        return Err(SymbolError::BadByte { at });
    }
    let mut padded = [0; SYMBOL_BYTES_MAX];
    padded[..name.len()].copy_from_slice(name);
    Ok(padded)
}

fn is_symbol_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':')
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Symbol({self})")
    }
}

impl std::str::FromStr for Symbol {
    type Err = SymbolError;

    fn from_str(text: &str) -> Result<Self, SymbolError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_and_the_length_are_checked() {
        for good in ["A", "BTC-USDT", "USD/JPY", "a.b_c:9", &"X".repeat(32)] {
            assert_eq!(Symbol::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(Symbol::parse(""), Err(SymbolError::Empty));
        assert_eq!(Symbol::parse(&"X".repeat(33)), Err(SymbolError::TooLong));
        for (bad, at) in [
            ("A B", 1),
            ("*", 0),
            ("BTC*", 3),
            ("é", 0),
            ("A\0", 1),
            ("A\"", 1),
        ] {
            assert_eq!(
                Symbol::parse(bad),
                Err(SymbolError::BadByte { at }),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_padded_form_is_checked_like_the_text() {
        let symbol = Symbol::parse("AAPL").unwrap();
        assert_eq!(Symbol::from_padded(*symbol.padded()), Ok(symbol));
        assert_eq!(Symbol::from_padded([0; 32]), Err(SymbolError::Empty));
        let mut inner_nul = *symbol.padded();
        inner_nul[1] = 0;
        assert_eq!(
            Symbol::from_padded(inner_nul),
            Err(SymbolError::BadByte { at: 1 })
        );
    }
}
