//! How far this host has come with a symbol, as of the records of the tape that have gone out.

use tickwire_proto::{
    sbe::entry::{Carried, Ended, Numbering},
    symbol::Symbol,
    tick::Channel,
};

use crate::tape::{Origin, Position, Record, SymbolId, Tape};

/// What is known of a symbol as of the records taken so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    /// Whether it belongs to this shard.
    pub is_ours: bool,
    /// Who numbers it, while this host has publishers of it.
    pub carried: Option<Numbering>,
    /// The epoch of its newest record; 0 before the first.
    pub epoch: u64,
    placed: [Option<u64>; 2],
    /// Where the epoch began, where not with 1.
    base: [Option<u64>; 2],
    before: Option<Ended>,
    /// Whether this host has the last word: it has publishers of it, or nobody else had since.
    is_own: bool,
    /// Whether what is kept of it has changed since it was last kept.
    has_changed: bool,
    named: Named,
}

/// Where a symbol was last named; entries are numbered from 1.
#[derive(Clone, Copy, Debug, Default)]
struct Named {
    entry: u64,
    epoch: u64,
    id: u32,
}

impl Account {
    /// One of a symbol that nothing is known of yet.
    pub fn new(is_ours: bool) -> Self {
        Self {
            is_ours,
            ..Self::default()
        }
    }

    /// Enters a record that goes out.
    pub fn note(&mut self, record: &Record) {
        let is_of_ticks = record.channel().is_some();
        self.is_own = self.carried.is_some()
            || is_of_ticks && record.origin == Origin::Here
            || !is_of_ticks && self.is_own;
        if record.epoch > self.epoch {
            self.before = self.ended();
            self.epoch = record.epoch;
            self.placed = [None; 2];
            self.base = [None; 2];
        }
        let Some(channel) = record.channel() else {
            self.has_changed = true;
            return;
        };
        if record.epoch == self.epoch {
            let place = channel.index();
            if self.placed[place].is_none() {
                self.base[place] = unless_first(record.first_seq());
            }
            self.placed[place] = Some(record.last_seq());
            self.has_changed = true;
        }
    }

    /// The name of the symbol in `epoch`, for what follows in an entry.
    pub fn name(&self, symbol: Symbol, numbering: Numbering, epoch: u64) -> Carried {
        let (placed, base, before) = if epoch == self.epoch {
            (self.placed, self.base, self.before)
        } else {
            let before = self.ended().filter(|ended| ended.epoch < epoch);
            ([None; 2], [None; 2], before)
        };
        Carried {
            symbol,
            numbering,
            epoch,
            placed,
            base,
            before,
        }
    }

    /// In the entry of a number the symbol has an id from here on, in an epoch.
    pub fn set_id(&mut self, entry: u64, epoch: u64, id: u32) {
        self.named = Named { entry, epoch, id };
    }

    /// Its id in an epoch in the entry of a number, if it has one.
    pub fn id(&self, entry: u64, epoch: u64) -> Option<u32> {
        let named = self.named;
        ((named.entry, named.epoch) == (entry, epoch)).then_some(named.id)
    }

    /// Whether its last ticks are to be kept, and are not.
    pub fn is_unkept(&self) -> bool {
        self.has_changed && self.is_own && self.placed.iter().any(Option::is_some)
    }

    /// Its last ticks are kept.
    pub fn keep(&mut self) {
        self.has_changed = false;
    }

    /// Whoever kept its last ticks may have lost them.
    pub fn keep_again(&mut self) {
        self.has_changed = true;
    }

    /// Brings it to where a follower of the tape stands that has passed over records: at `at`.
    pub fn recollect(&mut self, tape: &Tape, id: SymbolId, at: Position) {
        self.carried = tape.carried(id);
        let last = Channel::BOTH.map(|channel| last_before(tape, id, channel, at));
        let newest = last.iter().flatten().map(|(epoch, _)| *epoch).max();
        let epoch = newest.unwrap_or_default().max(self.epoch);
        if epoch > self.epoch {
            self.before = self.ended().map(|known| Ended {
                placed: Channel::BOTH.map(|channel| {
                    end_of(tape, id, channel, known.epoch).or(known.placed[channel.index()])
                }),
                ..known
            });
            self.epoch = epoch;
            self.base = [None; 2];
        }
        self.placed = last.map(|last| last.filter(|(own, _)| *own == epoch).map(|(_, seq)| seq));
        for channel in Channel::BOTH {
            if let Some((_, seq)) = tape.base(id, channel).filter(|(own, _)| *own == epoch) {
                self.base[channel.index()] = unless_first(seq);
            }
        }
        self.has_changed = true;
    }

    fn ended(&self) -> Option<Ended> {
        (self.epoch > 0).then_some(Ended {
            epoch: self.epoch,
            placed: self.placed,
        })
    }
}

/// A base as entries have it, where 1 goes without saying.
fn unless_first(seq: u64) -> Option<u64> {
    Some(seq).filter(|&seq| seq != 1)
}

/// Epoch and last seq of a channel's last record before `at`; where that is gone, what the first one
/// behind it says of it.
fn last_before(tape: &Tape, id: SymbolId, channel: Channel, at: Position) -> Option<(u64, u64)> {
    let mut record = tape.newest(id, channel)?;
    while record.position >= at {
        match tape.previous(&record) {
            Ok(Some(previous)) => record = previous,
            Ok(None) => return None,
            Err(_) => return Some((record.epoch, record.first_seq() - 1)),
        }
    }
    Some((record.epoch, record.last_seq()))
}

/// The last seq of a channel in an epoch, if the tape still has it.
fn end_of(tape: &Tape, id: SymbolId, channel: Channel, epoch: u64) -> Option<u64> {
    let mut record = tape.newest(id, channel)?;
    while record.epoch > epoch {
        record = tape.previous(&record).ok()??;
    }
    (record.epoch == epoch).then(|| record.last_seq())
}
