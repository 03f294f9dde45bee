//! One channel of one symbol, in a word.

use tickwire_proto::tick::Channel;

use crate::tape::SymbolId;

/// The ticks of one symbol on one channel, which share a count of seqs.
// A queue holds millions of these at once: two words would make each of its entries a quarter
// larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream(u32);

impl Stream {
    /// That of `symbol` on `channel`.
    pub fn new(symbol: SymbolId, channel: Channel) -> Self {
        debug_assert!(symbol.0 < 1 << 31, "`symbols_max` is far below");
        Self(symbol.0 << 1 | channel.index() as u32)
    }

    /// Its symbol.
    pub fn symbol(self) -> SymbolId {
        SymbolId(self.0 >> 1)
    }

    /// Its channel.
    pub fn channel(self) -> Channel {
        Channel::BOTH[(self.0 & 1) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_come_back() {
        for symbol in [0, 1, 4_194_303] {
            for channel in Channel::BOTH {
                let stream = Stream::new(SymbolId(symbol), channel);
                assert_eq!(stream.symbol(), SymbolId(symbol));
                assert_eq!(stream.channel(), channel);
            }
        }
    }
}
