//! What ingest knows of one symbol.

use smallvec::SmallVec;
use tickwire_proto::sbe::entry;

use super::{arbitration::Holding, numbering::Numbering, sequencer::SourceId};
use crate::tape::Origin;

/// A symbol's account, and who adds to it.
#[derive(Debug, Default)]
pub(super) struct SymbolState {
    /// Who numbers the epoch that is in force.
    pub numbering: Option<Numbering>,
    /// Who would number it for the publishers that it has here; `None` while it has none.
    pub here: Option<Numbering>,
    /// The epoch in force; 0 before the first.
    pub epoch: u64,
    /// The last seq placed of each channel.
    pub last: [Option<u64>; 2],
    /// Whether all of a channel's epoch ought to be on the tape: this host was there when it began.
    pub is_whole: [bool; 2],
    /// What waits for the seqs before it.
    pub holding: [Holding; 2],
    /// The last gaps declared in each channel, to tell late copies from plain duplicates.
    pub gaps: [GapMemory; 2],
    /// Its live sources.
    pub sources: SmallVec<[SourceId; 2]>,
    /// Another host numbers it in the very epoch that this engine drew: the next one is drawn anew.
    pub is_contested: bool,
    /// What other hosts know of this one's part in it.
    pub told: Option<entry::Numbering>,
}

impl SymbolState {
    /// Whether it has a live source of this kind.
    pub fn has_source(&self, origin: Origin) -> bool {
        self.sources.iter().any(|source| source.origin() == origin)
    }

    /// An epoch begins.
    pub fn begin(&mut self, epoch: u64) {
        self.is_whole = [self.epoch > 0; 2];
        self.epoch = epoch;
        self.last = [None; 2];
        self.gaps = <[GapMemory; 2]>::default();
        self.is_contested = false;
    }
}

/// The bounds of the last few gaps of a channel.
#[derive(Debug, Default)]
pub(super) struct GapMemory {
    gaps: [(u64, u64); 4],
    next: usize,
}

impl GapMemory {
    /// Enters a gap.
    pub fn remember(&mut self, from: u64, to: u64) {
        self.gaps[self.next] = (from, to);
        self.next = (self.next + 1) % self.gaps.len();
    }

    /// Whether one of them has this seq.
    pub fn contains(&self, seq: u64) -> bool {
        self.gaps
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&seq))
    }
}
