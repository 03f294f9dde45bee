//! The account that the protocol promises: from `start` s to tick q,
//! delivered + skipped + gapped = q − s. Kept per connection, symbol and channel.

use serde::{Deserialize, Serialize};

use crate::dialect::{Channel, Tick};

/// Holes remembered per channel, to tell a late tick from a repeated one.
const HOLES_MAX: usize = 16;

/// What came, and what was wrong with it, over all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Ticks in their order.
    pub delivered: u64,
    /// Ticks that conflation left out, as the server said.
    pub skipped: u64,
    /// Ticks that the server declared lost.
    pub gapped: u64,
    /// Ticks that never came and were not declared.
    pub missing: u64,
    /// Ticks that came again.
    pub duplicates: u64,
    /// Ticks that came after a later one.
    pub out_of_order: u64,
    /// Ticks, gaps or skips that contradict the account: of a symbol that was not asked for, of
    /// an epoch that no `start` opened, or not where it stands.
    pub contradictions: u64,
}

/// The accounts of one connection.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Ascending by symbol.
    entries: Vec<Entry>,
    /// Where a tick is expected next: ticks of all symbols are published in turn.
    turn: usize,
}

#[derive(Debug)]
struct Entry {
    symbol: u32,
    channels: [Account; 2],
}

/// How far one symbol's ticks in one channel have come.
#[derive(Debug)]
pub struct Account {
    epoch: u64,
    last: u64,
    /// Few accounts have any, and 20,000 connections have many accounts.
    holes: Option<Box<Holes>>,
}

/// Ranges of numbers that did not come, ends included.
#[derive(Debug, Default)]
struct Holes(Vec<(u64, u64)>);

impl Counts {
    /// Whatever was neither delivered in its place nor declared.
    pub fn unaccounted(&self) -> u64 {
        self.missing + self.duplicates + self.out_of_order + self.contradictions
    }

    /// Whether every tick was delivered or declared.
    pub fn is_sound(&self) -> bool {
        self.unaccounted() == 0
    }

    /// Whether, beyond that, none was lost.
    pub fn is_complete(&self) -> bool {
        self.is_sound() && self.gapped + self.skipped == 0
    }
}

impl Ledger {
    /// Accounts of `symbols`, ascending, whose first tick will be number 1 of `epoch`.
    pub fn new(symbols: &[u32], epoch: u64) -> Self {
        let entries = symbols.iter().map(|&symbol| Entry {
            symbol,
            channels: [Account::new(epoch, 0), Account::new(epoch, 0)],
        });
        Self {
            entries: entries.collect(),
            turn: 0,
        }
    }

    /// The symbol that a tick is expected of next, and its account of trades.
    pub fn expected(&mut self) -> Option<(u32, &mut Account)> {
        let entry = self.entries.get_mut(self.turn)?;
        Some((entry.symbol, &mut entry.channels[Channel::Trade as usize]))
    }

    /// Goes on to the symbol after the expected one.
    pub fn turn(&mut self) {
        self.turn = if self.turn + 1 < self.entries.len() {
            self.turn + 1
        } else {
            0
        };
    }

    /// Whether it is about one symbol only.
    pub fn is_single(&self) -> bool {
        self.entries.len() == 1
    }

    /// A `start`: a channel whose field is absent is left as it was. One that opens an account
    /// further on than the same epoch's stands leaves a hole.
    pub fn start(
        &mut self,
        symbol: Option<u32>,
        epoch: u64,
        last: [Option<u64>; 2],
        counts: &mut Counts,
    ) {
        let Some(place) = self.place(symbol) else {
            counts.contradictions += 1;
            return;
        };
        for (account, last) in self.entries[place].channels.iter_mut().zip(last) {
            let Some(last) = last else { continue };
            if account.epoch == epoch {
                counts.missing += last.saturating_sub(account.last);
            }
            *account = Account::new(epoch, last);
        }
    }

    /// A tick of the account. Whether it was the next one, and no other was left out before it.
    pub fn tick(&mut self, tick: &Tick, counts: &mut Counts) -> bool {
        let Some(place) = self.place(tick.symbol) else {
            counts.contradictions += 1;
            return false;
        };
        self.turn = place;
        self.turn();
        self.entries[place].channels[tick.channel as usize].tick(tick, counts)
    }

    /// A `gap`, both ends included; without `to` it closes an older epoch's account.
    pub fn gap(
        &mut self,
        (symbol, channel, epoch): (Option<u32>, Channel, u64),
        from: Option<u64>,
        to: Option<u64>,
        counts: &mut Counts,
    ) {
        let Some(place) = self.place(symbol) else {
            counts.contradictions += 1;
            return;
        };
        let Some(to) = to else { return };
        let account = &mut self.entries[place].channels[channel as usize];
        match from {
            Some(from) if account.epoch == epoch && from == account.last + 1 && to >= from => {
                counts.gapped += to - account.last;
                account.last = to;
            }
            Some(_) => counts.contradictions += 1,
            None => *account = Account::new(epoch, to),
        }
    }

    fn place(&self, symbol: Option<u32>) -> Option<usize> {
        let symbol = symbol?;
        // All symbols, or the one expected: the common cases.
        let here = |place: usize| self.entries.get(place).is_some_and(|e| e.symbol == symbol);
        [self.turn, symbol as usize]
            .into_iter()
            .find(|&place| here(place))
            .or_else(|| {
                let found = self
                    .entries
                    .binary_search_by_key(&symbol, |entry| entry.symbol);
                found.ok()
            })
    }
}

impl Account {
    fn new(epoch: u64, last: u64) -> Self {
        Self {
            epoch,
            last,
            holes: None,
        }
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The number of the last tick.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The next `ticks` ticks came, none left out.
    pub fn advance(&mut self, ticks: u64, counts: &mut Counts) {
        self.last += ticks;
        counts.delivered += ticks;
    }

    fn tick(&mut self, tick: &Tick, counts: &mut Counts) -> bool {
        if tick.epoch != self.epoch {
            counts.contradictions += 1;
            *self = Self::new(tick.epoch, tick.seq);
            return false;
        }
        if tick.seq <= self.last {
            self.late(tick.seq, counts);
            return false;
        }
        let next = tick.seq == self.last + 1 && tick.skipped == 0;
        self.next(tick, counts);
        next
    }

    fn next(&mut self, tick: &Tick, counts: &mut Counts) {
        counts.delivered += 1;
        counts.skipped += tick.skipped;
        let expected = self.last + 1 + tick.skipped;
        if tick.seq > expected {
            counts.missing += tick.seq - expected;
            self.remember(expected, tick.seq - 1);
        } else if tick.seq < expected {
            counts.contradictions += 1;
        }
        self.last = tick.seq;
    }

    fn late(&mut self, seq: u64, counts: &mut Counts) {
        let holes = &mut self.holes.get_or_insert_default().0;
        let hole = holes
            .iter()
            .position(|&(from, to)| (from..=to).contains(&seq));
        let Some(hole) = hole else {
            counts.duplicates += 1;
            return;
        };
        counts.out_of_order += 1;
        counts.missing -= 1;
        let (from, to) = holes.swap_remove(hole);
        if from < seq {
            self.remember(from, seq - 1);
        }
        if seq < to {
            self.remember(seq + 1, to);
        }
    }

    fn remember(&mut self, from: u64, to: u64) {
        let holes = &mut self.holes.get_or_insert_default().0;
        if holes.len() == HOLES_MAX {
            holes.remove(0);
        }
        holes.push((from, to));
    }
}

#[cfg(test)]
mod tests;
