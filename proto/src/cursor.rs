//! Cursors: an opaque text that says up to where a client has received.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The longest cursor text; the width of its field in SBE.
pub const CURSOR_BYTES_MAX: usize = 64;

const VERSION: u8 = 1;
const ENGINE_BYTES: usize = 25;

/// Where a connection stands on a tape.
///
/// As text: unpadded base64url of a version byte, then tape, position and admission time, each
/// eight bytes, little-endian. What stands behind them is an edge's own part, which engines and
/// other edges accept and ignore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Names the tape; another host's, or an earlier life's, has another.
    pub tape: u64,
    /// Every record before this position is accounted for.
    pub position: u64,
    /// When the last record before `position` was admitted, nanoseconds since 1970 UTC by the
    /// clock of the tape's host.
    pub admitted_ns: u64,
}

/// The text is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this protocol")]
pub struct CursorError;

impl Cursor {
    /// Reads the text.
    ///
    /// # Errors
    ///
    /// [`CursorError`] for anything that no engine or edge wrote.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        if text.len() > CURSOR_BYTES_MAX {
            return Err(CursorError);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let (version, rest) = bytes.split_first().ok_or(CursorError)?;
        if *version != VERSION || bytes.len() < ENGINE_BYTES {
            return Err(CursorError);
        }
        let word = |index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&rest[index * 8..index * 8 + 8]);
            u64::from_le_bytes(word)
        };
        Ok(Self {
            tape: word(0),
            position: word(1),
            admitted_ns: word(2),
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; ENGINE_BYTES];
        bytes[0] = VERSION;
        for (index, word) in [self.tape, self.position, self.admitted_ns]
            .into_iter()
            .enumerate()
        {
            bytes[1 + index * 8..9 + index * 8].copy_from_slice(&word.to_le_bytes());
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl std::str::FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(tape: u64, position: u64, admitted_ns: u64) {
            let cursor = Cursor { tape, position, admitted_ns };
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn arbitrary_text_is_refused_or_read(text in "[A-Za-z0-9_-]{0,70}") {
            let _ = Cursor::parse(&text);
        }
    }

    #[test]
    fn an_edges_own_part_is_ignored() {
        let cursor = Cursor {
            tape: 1,
            position: 2,
            admitted_ns: 3,
        };
        let mut bytes = URL_SAFE_NO_PAD.decode(cursor.to_string()).unwrap();
        bytes.extend_from_slice(&[9; 16]);
        assert_eq!(Cursor::parse(&URL_SAFE_NO_PAD.encode(bytes)), Ok(cursor));
    }

    #[test]
    fn garbage_is_refused() {
        for text in ["", "AAAA", "not base64!", &"A".repeat(65), &"A".repeat(34)] {
            assert_eq!(Cursor::parse(text), Err(CursorError), "{text}");
        }
    }
}
