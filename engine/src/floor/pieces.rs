//! Frames of a connection's own: whose each is, so that what a client may no longer see can be taken
//! out of them.

use std::rc::Rc;

use crate::tape::SymbolId;

/// Frames of a connection's own, and whose each stretch of them is.
#[derive(Default)]
pub struct Piece {
    /// The frames, back to back.
    pub bytes: Vec<u8>,
    /// Ends of stretches, with the symbol that each is about.
    stretches: Vec<(usize, Option<SymbolId>)>,
}

impl Piece {
    /// A piece that is about no symbol.
    pub fn of_nobody(bytes: Vec<u8>) -> Self {
        let mut piece = Self {
            bytes,
            stretches: Vec::new(),
        };
        piece.end_stretch(None);
        piece
    }

    /// Says that what was written since this was last said is about `symbol`.
    pub fn about(&mut self, symbol: SymbolId) {
        self.end_stretch(Some(symbol));
    }

    /// Says that what was written since is about no symbol.
    pub fn about_nobody(&mut self) {
        self.end_stretch(None);
    }

    fn end_stretch(&mut self, symbol: Option<SymbolId>) {
        let end = self.bytes.len();
        match self.stretches.last_mut() {
            Some((last_end, last)) if *last == symbol => *last_end = end,
            _ => self.stretches.push((end, symbol)),
        }
    }
}

/// A frame, or several, that wait for their turn.
pub struct OwnFrame {
    /// The frames, back to back; others may share them.
    pub bytes: Rc<[u8]>,
    about: About,
}

enum About {
    Symbol(SymbolId),
    Stretches(Vec<(usize, Option<SymbolId>)>),
}

impl OwnFrame {
    /// A frame that is about one symbol.
    pub fn about(symbol: SymbolId, bytes: Rc<[u8]>) -> Self {
        Self {
            bytes,
            about: About::Symbol(symbol),
        }
    }

    /// Takes out what is about `symbol`.
    pub fn forget(&mut self, symbol: SymbolId) {
        match &mut self.about {
            About::Symbol(own) if *own == symbol => self.bytes = Rc::from([]),
            About::Symbol(_) => {}
            About::Stretches(stretches) => {
                if stretches.iter().all(|(_, own)| *own != Some(symbol)) {
                    return;
                }
                let mut kept = Piece::default();
                let mut begin = 0;
                for (end, own) in stretches.drain(..) {
                    if own != Some(symbol) {
                        kept.bytes.extend_from_slice(&self.bytes[begin..end]);
                        kept.end_stretch(own);
                    }
                    begin = end;
                }
                self.bytes = kept.bytes.into();
                *stretches = kept.stretches;
            }
        }
    }
}

impl From<Piece> for OwnFrame {
    fn from(piece: Piece) -> Self {
        Self {
            bytes: piece.bytes.into(),
            about: About::Stretches(piece.stretches),
        }
    }
}
