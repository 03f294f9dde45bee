//! Cursors: an opaque text that says up to where a client has received.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The longest cursor text; the width of its field in SBE.
pub const CURSOR_BYTES_MAX: usize = 64;

const VERSION: u8 = 1;
const ENGINE_BYTES: usize = 25;
const EDGE_BYTES: usize = ENGINE_BYTES + 16;

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
        decode(text).map(|bytes| Self::of_bytes(&bytes))
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        Self {
            tape: word(bytes, 0),
            position: word(bytes, 1),
            admitted_ns: word(bytes, 2),
        }
    }

    fn words(self) -> [u64; 3] {
        [self.tape, self.position, self.admitted_ns]
    }
}

/// Where a client of an edge stands: the engine's last cursor, and how far the edge has come since.
///
/// Its text is a [`Cursor`]'s with 16 bytes behind it, which engines ignore; to an edge that did not
/// write it, it is the engine's cursor and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EdgeCursor {
    /// The last that the engine gave before.
    pub engine: Cursor,
    /// What only one edge understands.
    pub own: Option<EdgePosition>,
}

/// A position in the history of one edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EdgePosition {
    /// Which edge: drawn at its start.
    pub edge: u64,
    /// Everything before this position is accounted for.
    pub position: u64,
}

impl EdgeCursor {
    /// Reads the text.
    ///
    /// # Errors
    ///
    /// [`CursorError`] for anything that no engine or edge wrote.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let bytes = decode(text)?;
        let own = (bytes.len() == EDGE_BYTES).then(|| EdgePosition {
            edge: word(&bytes, 3),
            position: word(&bytes, 4),
        });
        Ok(Self {
            engine: Cursor::of_bytes(&bytes),
            own,
        })
    }
}

/// The bytes of a cursor, at least [`ENGINE_BYTES`] of them.
fn decode(text: &str) -> Result<Vec<u8>, CursorError> {
    if text.len() > CURSOR_BYTES_MAX {
        return Err(CursorError);
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
    if bytes.first() == Some(&VERSION) && bytes.len() >= ENGINE_BYTES {
        Ok(bytes)
    } else {
        Err(CursorError)
    }
}

/// A word behind the version.
fn word(bytes: &[u8], index: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[1 + index * 8..9 + index * 8]);
    u64::from_le_bytes(word)
}

fn write(words: &[u64], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut bytes = Vec::with_capacity(EDGE_BYTES);
    bytes.push(VERSION);
    for word in words {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(&self.words(), f)
    }
}

impl fmt::Display for EdgeCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.own.map(|own| [own.edge, own.position]);
        let words = self.engine.words().into_iter();
        let words: Vec<u64> = words.chain(own.into_iter().flatten()).collect();
        write(&words, f)
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
        fn an_edges_cursor_survives_its_text(
            engine: (u64, u64, u64),
            own: Option<(u64, u64)>,
        ) {
            let (tape, position, admitted_ns) = engine;
            let engine = Cursor { tape, position, admitted_ns };
            let own = own.map(|(edge, position)| EdgePosition { edge, position });
            let cursor = EdgeCursor { engine, own };
            let text = cursor.to_string();
            prop_assert!(text.len() <= CURSOR_BYTES_MAX);
            prop_assert_eq!(EdgeCursor::parse(&text), Ok(cursor));
            prop_assert_eq!(Cursor::parse(&text), Ok(engine));
        }

        #[test]
        fn arbitrary_text_is_refused_or_read(text in "[A-Za-z0-9_-]{0,70}") {
            prop_assert_eq!(Cursor::parse(&text).is_ok(), EdgeCursor::parse(&text).is_ok());
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
