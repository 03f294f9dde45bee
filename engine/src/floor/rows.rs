//! The floor's table of symbols: who subscribes to each, and up to where its account runs.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tickwire_proto::{
    symbol::Symbol,
    tick::{Channel, Channels},
};

use super::encode::WireId;
use crate::tape::{Position, ReadError, SymbolId, Tape};

/// Epochs of one symbol whose wire ids are remembered; a backlog reaches no further back.
const EPOCHS_REMEMBERED: usize = 16;

/// One live subscription of one connection to one symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The connection's index on this floor.
    pub connection: u32,
    /// Which channels it wants.
    pub channels: Channels,
    /// Whether its ticks are conflated.
    pub conflate: bool,
}

/// An audience that follows a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// Its key.
    pub audience: u32,
    /// Which channels it wants.
    pub channels: Channels,
}

/// What a symbol's last records say, up to a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The symbol's epoch; 0 before its first record.
    pub epoch: u64,
    /// The last seq of each channel in that epoch.
    pub last: [Option<u64>; 2],
}

impl Account {
    /// The symbol's account over every record before `position`.
    ///
    /// # Errors
    ///
    /// [`ReadError::Lapped`] where history no longer tells.
    pub fn at(tape: &Tape, symbol: SymbolId, position: Position) -> Result<Self, ReadError> {
        let mut account = Self::default();
        for channel in Channel::BOTH {
            if let Some(record) = tape.newest_before(symbol, channel, position)? {
                account.note(channel, record.epoch, record.last_seq());
            }
        }
        Ok(account)
    }

    /// Moves the account to `seq` of `epoch`.
    pub fn note(&mut self, channel: Channel, epoch: u64, seq: u64) {
        if epoch > self.epoch {
            *self = Self {
                epoch,
                last: [None; 2],
            };
        }
        if epoch == self.epoch {
            self.last[channel.index()] = Some(seq);
        }
    }

    /// Whether any channel has a tick in the epoch.
    pub fn is_open(&self) -> bool {
        self.last.iter().any(Option::is_some)
    }

    /// The last seq of `channel`, where it is in `channels`.
    pub fn last_of(&self, channel: Channel, channels: Channels) -> Option<u64> {
        self.last[channel.index()].filter(|_| channels.contains(channel))
    }
}

/// One symbol on this floor.
#[derive(Debug)]
pub struct Row {
    name: Symbol,
    /// Up to where the floor has gone; kept only while there are subscribers.
    pub account: Account,
    /// Who gets its ticks, each by itself.
    pub subscribers: Vec<Subscriber>,
    /// Who gets them together.
    pub audiences: Vec<Listeners>,
    wire_ids: SmallVec<[(u64, WireId); 1]>,
}

impl Row {
    fn is_followed(&self) -> bool {
        !self.subscribers.is_empty() || !self.audiences.is_empty()
    }
}

/// Every symbol, by its id on the tape.
pub struct Rows {
    tape: Arc<Tape>,
    floor: u32,
    table: Vec<Row>,
    /// Which of them have a subscriber: what the search of the tape looks at.
    wanted: Vec<bool>,
    ids: FxHashMap<Symbol, SymbolId>,
    next_wire_id: u32,
}

impl Rows {
    /// An empty table for floor number `floor`.
    pub fn new(tape: Arc<Tape>, floor: u32) -> Self {
        Self {
            tape,
            floor,
            table: Vec::new(),
            wanted: Vec::new(),
            ids: FxHashMap::default(),
            next_wire_id: 0,
        }
    }

    /// Takes in the symbols that ingest has added, one at a time.
    pub fn next_newborn(&mut self) -> Option<(SymbolId, Symbol)> {
        let id = SymbolId(self.table.len() as u32);
        if id.0 >= self.tape.symbols() {
            return None;
        }
        let name = self.tape.name(id);
        self.ids.insert(name, id);
        self.table.push(Row {
            name,
            account: Account::default(),
            subscribers: Vec::new(),
            audiences: Vec::new(),
            wire_ids: SmallVec::new(),
        });
        self.wanted.push(false);
        Some((id, name))
    }

    /// The id of a symbol that somebody has published.
    pub fn id(&self, symbol: &Symbol) -> Option<SymbolId> {
        self.ids.get(symbol).copied()
    }

    /// Which symbols have a subscriber, by their ids.
    pub fn wanted(&self) -> &[bool] {
        &self.wanted
    }

    /// Whether the symbol is yet to be taken in by [`Rows::next_newborn`].
    pub fn takes_in(&self, id: SymbolId) -> bool {
        (self.table.len()..self.tape.symbols() as usize).contains(&(id.0 as usize))
    }

    /// The name of a symbol.
    pub fn name(&self, id: SymbolId) -> Symbol {
        self.table[id.0 as usize].name
    }

    /// The row of a symbol.
    pub fn row(&mut self, id: SymbolId) -> &mut Row {
        &mut self.table[id.0 as usize]
    }

    /// The ids and names of every symbol.
    pub fn iter(&self) -> impl Iterator<Item = (SymbolId, &Symbol)> {
        self.table
            .iter()
            .enumerate()
            .map(|(index, row)| (SymbolId(index as u32), &row.name))
    }

    /// The id by which SBE names the symbol in `epoch`, drawn when it is first asked for.
    pub fn wire_id(&mut self, id: SymbolId, epoch: u64) -> WireId {
        let row = &mut self.table[id.0 as usize];
        if let Some((_, wire_id)) = row.wire_ids.iter().rev().find(|(own, _)| *own == epoch) {
            return *wire_id;
        }
        let wire_id = WireId(self.next_wire_id);
        // 2³² − 1 is SBE's null.
        self.next_wire_id = if self.next_wire_id == u32::MAX - 1 {
            0
        } else {
            self.next_wire_id + 1
        };
        if row.wire_ids.len() == EPOCHS_REMEMBERED {
            row.wire_ids.remove(0);
        }
        row.wire_ids.push((epoch, wire_id));
        wire_id
    }

    /// Adds a subscriber as of `position`; returns its index, and the account it joins at.
    ///
    /// The first one makes the symbol of interest to this floor.
    pub fn join(&mut self, id: SymbolId, subscriber: Subscriber, position: Position) -> u32 {
        self.account_at(id, position);
        let row = &mut self.table[id.0 as usize];
        if !row.is_followed() {
            self.wanted[id.0 as usize] = true;
            self.tape.add_interest(id, self.floor);
        }
        row.subscribers.push(subscriber);
        row.subscribers.len() as u32 - 1
    }

    /// Removes the subscriber at `index`; returns the connection that moved into its place.
    pub fn leave(&mut self, id: SymbolId, index: u32) -> Option<u32> {
        let row = &mut self.table[id.0 as usize];
        row.subscribers.swap_remove(index as usize);
        if row.subscribers.is_empty() {
            row.subscribers.shrink_to_fit();
        }
        let moved = row.subscribers.get(index as usize);
        let moved = moved.map(|moved| moved.connection);
        self.forget_unfollowed(id);
        moved
    }

    /// Removes an audience.
    pub fn dismiss(&mut self, id: SymbolId, audience: u32) {
        let row = &mut self.table[id.0 as usize];
        row.audiences.retain(|own| own.audience != audience);
        self.forget_unfollowed(id);
    }

    fn forget_unfollowed(&mut self, id: SymbolId) {
        if !self.table[id.0 as usize].is_followed() {
            self.wanted[id.0 as usize] = false;
            self.tape.drop_interest(id, self.floor);
        }
    }

    /// The account of a symbol at `position`, which is where this floor stands.
    pub fn account_at(&mut self, id: SymbolId, position: Position) -> Account {
        let tape = Arc::clone(&self.tape);
        let row = &mut self.table[id.0 as usize];
        if !row.is_followed() {
            // Nobody was listening, so nobody kept the account. A floor that stands where the
            // tape no longer reaches starts from nothing: the first tick brings a `start`.
            row.account = Account::at(&tape, id, position).unwrap_or_default();
        }
        row.account
    }
}
