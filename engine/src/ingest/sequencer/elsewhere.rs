//! What other hosts say of symbols: that they have publishers of one, how far they have come with it, and
//! what they will not send.

use tickwire_proto::{
    reply::{Gap, GapReason},
    sbe::entry::{self, Carried},
    symbol::Symbol,
    tick::{Channel, IDENTITY_MAX},
};

use super::{Refusal, Sequencer, SourceId};
use crate::{
    clock::Millis,
    ingest::{
        arbitration::{Claim, Held},
        numbering::Numbering,
    },
    tape::SymbolId,
};

impl Sequencer {
    /// The host `source` has publishers of a symbol, and has accounted for its channels up to
    /// `carried.placed`, and for those of the epoch before up to its end: what of that has not come is
    /// lost on the way.
    ///
    /// # Errors
    ///
    /// As for a tick of that epoch.
    pub fn carry(
        &mut self,
        source: SourceId,
        carried: &Carried,
        now: Millis,
        wall_ns: u64,
    ) -> Result<(), Refusal> {
        let numbering = match carried.numbering {
            entry::Numbering::Source => Numbering::Source,
            entry::Numbering::Host => Numbering::Elsewhere,
        };
        self.miss_end(source, carried, now, wall_ns);
        let is_met = self.epoch(carried.symbol) == 0;
        let epoch = Some(carried.epoch);
        let id = self.enter(source, carried.symbol, numbering, epoch, wall_ns)?;
        for channel in Channel::BOTH {
            let place = channel.index();
            if is_met {
                self.symbols[id.0 as usize].is_whole[place] = carried.placed[place].is_none();
            }
            if let Some(to) = carried.placed[place] {
                let from = carried.base[place].unwrap_or(1);
                let missing = (channel, from, to, GapReason::Bridge);
                self.miss(source, id, missing, now, wall_ns);
            }
        }
        Ok(())
    }

    /// The epoch in force here has ended at the host `source`: what of it has not come is lost.
    fn miss_end(&mut self, source: SourceId, carried: &Carried, now: Millis, wall_ns: u64) {
        let epoch = self.epoch(carried.symbol);
        let ended = carried.before.filter(|ended| ended.epoch == epoch);
        let (Some(ended), Some(id)) = (ended, self.writer.id(carried.symbol)) else {
            return;
        };
        for channel in Channel::BOTH {
            let place = channel.index();
            let last = self.symbols[id.0 as usize].last[place];
            if let (Some(to), Some(last)) = (ended.placed[place], last) {
                let missing = (channel, last + 1, to, GapReason::Bridge);
                self.miss(source, id, missing, now, wall_ns);
            }
        }
    }

    /// The epoch in force of a symbol; 0 where there is none.
    fn epoch(&self, symbol: Symbol) -> u64 {
        let id = self.writer.id(symbol);
        let state = id.and_then(|id| self.symbols.get(id.0 as usize));
        state.map_or(0, |state| state.epoch)
    }

    /// The host `source` will not send a range of ticks, for the gap's own reason.
    ///
    /// # Errors
    ///
    /// As for a tick of that epoch.
    pub fn declare_gap(
        &mut self,
        source: SourceId,
        gap: &Gap,
        now: Millis,
        wall_ns: u64,
    ) -> Result<(), Refusal> {
        let numbering = self.known_numbering(gap.symbol);
        let id = self.enter(source, gap.symbol, numbering, Some(gap.epoch), wall_ns)?;
        if let Some((from, to)) = gap.from.zip(gap.to) {
            let missing = (gap.channel, from, to, gap.reason);
            self.miss(source, id, missing, now, wall_ns);
        }
        Ok(())
    }

    /// Who numbers a symbol that a host has named.
    pub(super) fn known_numbering(&self, symbol: Symbol) -> Numbering {
        let id = self.writer.id(symbol);
        let state = id.and_then(|id| self.symbols.get(id.0 as usize));
        match state.and_then(|state| state.numbering) {
            Some(Numbering::Elsewhere | Numbering::Engine) => Numbering::Elsewhere,
            Some(Numbering::Source) | None => Numbering::Source,
        }
    }

    /// Nothing up to seq `to` will come from `source` any more, which had the channel from `from` on at
    /// the latest; other sources may still have it.
    fn miss(
        &mut self,
        source: SourceId,
        id: SymbolId,
        (channel, from, to, reason): (Channel, u64, u64, GapReason),
        now: Millis,
        wall_ns: u64,
    ) {
        let state = &mut self.symbols[id.0 as usize];
        let place = channel.index();
        let last = match state.last[place] {
            Some(last) => last,
            None if state.is_whole[place] => from.saturating_sub(1),
            // Who came later has no account that could lack something.
            None => return,
        };
        if to <= last || to > IDENTITY_MAX {
            return;
        }
        state.last[place] = Some(last);
        let held = Held {
            source,
            message: 0,
            claim: Claim::Missing(reason),
            deadline: now.after(self.options.arbitration_ms),
        };
        self.hold(id, channel, to, held, wall_ns);
    }

    /// A source has a symbol no longer.
    pub fn withdraw(&mut self, source: SourceId, symbol: Symbol, wall_ns: u64) {
        let Some(id) = self.writer.id(symbol) else {
            return;
        };
        let own = self.sources.get_mut(&source);
        let had = own.is_some_and(|own| {
            let place = own.iter().position(|had| *had == id);
            place.map(|place| own.swap_remove(place)).is_some()
        });
        if had {
            self.lose(source, id, wall_ns);
        }
    }

    /// What a source is a source of.
    pub fn symbols_of(&self, source: SourceId) -> Vec<Symbol> {
        let own = self.sources.get(&source);
        let ids = own.map_or(&[][..], Vec::as_slice);
        ids.iter().map(|id| self.writer.tape().name(*id)).collect()
    }
}
