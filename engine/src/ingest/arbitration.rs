//! Holding ticks behind a hole until another source fills it, or its time is up.

use std::collections::BTreeMap;

use tickwire_proto::tick::Values;

use super::sequencer::SourceId;
use crate::clock::Millis;

/// A tick that waits for the seqs before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who sent it.
    pub source: SourceId,
    /// In which of its messages.
    pub message: u64,
    /// The source's event time.
    pub ts_ns: u64,
    /// Prices and sizes.
    pub values: Values,
    /// When the hole before it is declared a gap.
    pub deadline: Millis,
}

/// The ticks of one channel that stand behind a hole, by seq.
#[derive(Debug, Default)]
pub struct Holding(BTreeMap<u64, Held>);

impl Holding {
    /// Holds a tick; false where a copy of it is held already.
    ///
    /// The hole below a tick is no younger than one above it: where a later tick has waited for
    /// longer, this one waits no longer than that.
    pub fn hold(&mut self, seq: u64, mut held: Held) -> bool {
        if let Some((_, later)) = self.0.range(seq..).next() {
            held.deadline = held.deadline.min(later.deadline);
        }
        match self.0.entry(seq) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(held);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
        }
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the tick of `seq`, if that is the lowest held.
    pub fn take_next(&mut self, seq: u64) -> Option<Held> {
        self.0
            .first_entry()
            .filter(|first| *first.key() == seq)
            .map(std::collections::btree_map::OccupiedEntry::remove)
    }

    /// Takes the lowest.
    pub fn take_first(&mut self) -> Option<(u64, Held)> {
        self.0.pop_first()
    }

    /// When the first hole is declared.
    pub fn deadline(&self) -> Option<Millis> {
        self.0.first_key_value().map(|(_, held)| held.deadline)
    }
}
