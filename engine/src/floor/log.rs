//! The ticks of an audience, once for all of its members.

use std::cell::{Cell, Ref, RefCell};

use super::outbox::Queued;

/// Ticks in order, each by an index that counts from 0 and wraps. Members keep the index of the tick
/// that they want next, so that a tick costs the same however many they are.
pub struct Log {
    audience: u32,
    begin: Cell<u32>,
    end: Cell<u32>,
    /// Those from `begin` up to `end`.
    ticks: RefCell<Vec<Queued>>,
}

impl Log {
    /// An empty log of the audience with that key.
    pub fn new(audience: u32) -> Self {
        Self::beginning_at(audience, 0)
    }

    fn beginning_at(audience: u32, index: u32) -> Self {
        Self {
            audience,
            begin: Cell::new(index),
            end: Cell::new(index),
            ticks: RefCell::default(),
        }
    }

    /// Whose log it is.
    pub fn audience(&self) -> u32 {
        self.audience
    }

    /// How many ticks are kept.
    pub fn len(&self) -> usize {
        self.end.get().wrapping_sub(self.begin.get()) as usize
    }

    /// The index that the next tick will have.
    #[inline]
    pub fn end(&self) -> u32 {
        self.end.get()
    }

    /// Adds a tick.
    pub fn push(&self, tick: Queued) {
        self.ticks.borrow_mut().push(tick);
        self.end.set(self.end.get().wrapping_add(1));
    }

    /// The ticks from one index up to another, both kept.
    #[inline]
    pub fn ticks(&self, from: u32, to: u32) -> Ref<'_, [Queued]> {
        let begin = self.begin.get();
        let range = from.wrapping_sub(begin) as usize..to.wrapping_sub(begin) as usize;
        Ref::map(self.ticks.borrow(), |ticks| &ticks[range])
    }

    /// The tick with that index, which is kept or the next to come.
    pub fn tick(&self, index: u32) -> Option<Queued> {
        let at = index.wrapping_sub(self.begin.get()) as usize;
        self.ticks.borrow().get(at).copied()
    }

    /// Drops the ticks before an index, which nobody wants any more.
    pub fn forget_before(&self, index: u32) {
        let count = index.wrapping_sub(self.begin.get()) as usize;
        self.ticks.borrow_mut().drain(..count);
        self.begin.set(index);
    }
}

#[cfg(test)]
mod tests {
    use tickwire_proto::tick::Channel;

    use super::*;
    use crate::{
        floor::stream::Stream,
        tape::{Position, SymbolId},
    };

    #[test]
    fn ticks_keep_their_index_while_older_ones_go_and_indices_wrap() {
        let log = Log::beginning_at(7, u32::MAX - 2);
        let at = |step: u32| (u32::MAX - 2).wrapping_add(step);
        for seq in 0..6 {
            log.push(Queued {
                position: Position(seq),
                stream: Stream::new(SymbolId(0), Channel::Trade),
                epoch: 1,
                seq,
                skipped: 0,
            });
        }
        let seqs = |from, to| -> Vec<u64> {
            let ticks = log.ticks(at(from), at(to));
            ticks.iter().map(|tick| tick.seq).collect()
        };
        assert_eq!((log.end(), log.len()), (at(6), 6));
        assert_eq!(seqs(2, 5), [2, 3, 4]);
        log.forget_before(at(4));
        assert_eq!(log.len(), 2);
        assert_eq!(seqs(4, 6), [4, 5]);
        assert!(seqs(6, 6).is_empty());
    }
}
