//! Holding ticks behind a hole until another source fills it, or its time is up.

use std::collections::BTreeMap;

use tickwire_proto::{reply::GapReason, tick::Values};

use super::sequencer::SourceId;
use crate::clock::Millis;

/// What waits for the seqs before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who sent it.
    pub source: SourceId,
    /// In which of its messages.
    pub message: u64,
    /// What stands there.
    pub claim: Claim,
    /// When the hole before it is declared a gap.
    pub deadline: Millis,
}

/// What a source says of a seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Its tick.
    Tick {
        /// The source's event time.
        ts_ns: u64,
        /// Prices and sizes.
        values: Values,
    },
    /// Nothing up to and with it will come from this source any more.
    Missing(GapReason),
}

/// What of one channel stands behind a hole, by seq.
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
            // A tick is worth more than the word of another source that it has none.
            std::collections::btree_map::Entry::Occupied(mut known)
                if matches!(known.get().claim, Claim::Missing(_))
                    && matches!(held.claim, Claim::Tick { .. }) =>
            {
                held.deadline = held.deadline.min(known.get().deadline);
                known.insert(held);
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

    /// Takes what is held of `seq`, if that is the lowest, and forgets what is held below.
    pub fn take_next(&mut self, seq: u64) -> Option<Held> {
        while let Some(first) = self.0.first_entry() {
            // That a source will not have it does not keep others from sending it in time.
            let is_missing = matches!(first.get().claim, Claim::Missing(_));
            if *first.key() > seq || *first.key() == seq && is_missing {
                return None;
            }
            let (own, held) = first.remove_entry();
            if own == seq {
                return Some(held);
            }
        }
        None
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
