//! Who hears a symbol.

use rustc_hash::FxHashMap;

use crate::audience::Audience;

/// Audiences by what they hear.
#[derive(Default)]
pub struct Directory {
    /// Indices of audiences by symbol.
    listeners: FxHashMap<Box<[u8]>, Vec<usize>>,
    /// Index of the audience of a set of symbols, which is sorted.
    by_symbols: FxHashMap<Box<[Box<[u8]>]>, usize>,
    /// Kept when they are empty: subscribers come back with the same symbols.
    audiences: Vec<Audience>,
}

impl Directory {
    /// The audience of exactly these symbols.
    pub fn audience_of(&mut self, symbols: &[&[u8]]) -> usize {
        let mut sorted: Vec<Box<[u8]>> = symbols.iter().map(|&symbol| symbol.into()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let next = self.audiences.len();
        let index = *self.by_symbols.entry(sorted.into()).or_insert(next);
        if index == next {
            self.audiences.push(Audience::default());
            for &symbol in symbols {
                let listeners = self.listeners.entry(symbol.into()).or_default();
                if listeners.last() != Some(&index) {
                    listeners.push(index);
                }
            }
        }
        index
    }

    /// The audiences that hear `symbol`, and all audiences.
    pub fn listeners(&mut self, symbol: &[u8]) -> (&[usize], &mut [Audience]) {
        let listeners = self.listeners.get(symbol).map_or(&[][..], Vec::as_slice);
        (listeners, &mut self.audiences)
    }

    /// All audiences.
    pub fn audiences(&mut self) -> &mut [Audience] {
        &mut self.audiences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_symbols_make_one_audience_in_whatever_order() {
        let mut directory = Directory::default();
        let ab = directory.audience_of(&[b"A", b"B"]);
        let b = directory.audience_of(&[b"B", b"B"]);
        assert_eq!(directory.audience_of(&[b"B", b"A"]), ab);
        assert_ne!(ab, b);
        assert_eq!(directory.listeners(b"A").0, [ab]);
        assert_eq!(directory.listeners(b"B").0, [ab, b]);
        assert!(directory.listeners(b"C").0.is_empty());
    }
}
