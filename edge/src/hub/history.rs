//! What the edge has seen, the last `history_ticks` events of all symbols together, in the order in
//! which they came: resumes are served from here.

use std::{collections::VecDeque, sync::Arc};

use super::block::{Block, SymbolId};

/// A ring of events; the oldest makes room for the newest.
#[derive(Debug)]
pub struct History {
    /// With the symbol beside it, so that a search touches no block that it does not want.
    blocks: VecDeque<(SymbolId, Arc<Block>)>,
    most: usize,
    head: u64,
}

impl History {
    /// An empty one of at most `most` events.
    pub fn new(most: usize) -> Self {
        Self {
            blocks: VecDeque::new(),
            most,
            head: 0,
        }
    }

    /// The position of the next event.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The position of the oldest event that is still there.
    pub fn tail(&self) -> u64 {
        self.head - self.blocks.len() as u64
    }

    /// Adds an event, whose position must be [`History::head`].
    pub fn push(&mut self, block: Arc<Block>) {
        debug_assert_eq!(block.position, Some(self.head));
        if self.blocks.len() == self.most {
            self.blocks.pop_front();
        }
        self.blocks.push_back((block.symbol, block));
        self.head += 1;
    }

    /// The events from `from` on, oldest first. What is older than [`History::tail`] is not among them.
    pub fn from(&self, from: u64) -> impl Iterator<Item = &(SymbolId, Arc<Block>)> {
        let skip = from.saturating_sub(self.tail()) as usize;
        self.blocks.range(skip.min(self.blocks.len())..)
    }
}

#[cfg(test)]
mod tests {
    use tickwire_proto::{
        symbol::Symbol,
        tick::{Channel, Identity},
    };

    use super::*;
    use crate::hub::block::What;

    #[test]
    fn the_oldest_makes_room() {
        let mut history = History::new(3);
        for seq in 0..5 {
            let identity = Identity { epoch: 1, seq };
            history.push(Arc::new(Block {
                position: Some(history.head()),
                symbol: SymbolId(0),
                name: Symbol::parse("A").unwrap(),
                what: What::Tick(Channel::Trade, identity),
                json: Box::default(),
            }));
        }
        assert_eq!((history.tail(), history.head()), (2, 5));
        let from = |from| {
            let blocks = history.from(from);
            blocks
                .filter_map(|(_, block)| block.position)
                .collect::<Vec<_>>()
        };
        assert_eq!(from(0), [2, 3, 4]);
        assert_eq!(from(4), [4]);
        assert_eq!(from(9), [0_u64; 0]);
    }
}
