//! What is known of each symbol: where its account stands, its latest ticks, and who follows it.

use std::{collections::HashMap, sync::Arc};

use tickwire_proto::{
    reply::Start,
    symbol::Symbol,
    tick::{Channel, Channels, FeedState, Tick},
};

use super::{block::SymbolId, outbox::Outbox};

/// The table of symbols. Entries stay for good, `symbols_max` of them: a symbol that nobody follows
/// any more keeps its name and no more.
#[derive(Debug)]
pub struct Symbols {
    table: Vec<State>,
    by_name: HashMap<Symbol, SymbolId>,
    most: usize,
}

/// One symbol.
#[derive(Debug)]
pub struct State {
    /// Its name.
    pub name: Symbol,
    /// Whether its account is open: the edge follows it, and the engine has begun it.
    pub live: bool,
    /// The epoch of the account.
    pub epoch: u64,
    /// How far each channel is accounted for.
    pub last: [Option<u64>; 2],
    /// The latest tick of each channel.
    pub latest: [Option<Tick>; 2],
    /// Whether anyone publishes it, as far as is known.
    pub feed: FeedState,
    /// What has been heard of it since the engine was lost.
    pub reach: Reach,
    /// Clients that get its ticks now.
    pub followers: Vec<Follower>,
}

/// What has been heard of a symbol since the engine was out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its feed state, or that all is as before.
    Heard,
    /// Nothing yet: if it stays so, its sources are still there.
    CutOff,
    /// That the engine does not have it yet: its first tick will show that it is back.
    Awaited,
}

/// A client beside a symbol.
#[derive(Debug)]
pub struct Follower {
    /// Its key in the hub.
    pub client: usize,
    /// Where its ticks go.
    pub outbox: Arc<Outbox>,
    /// Which of them.
    pub channels: Channels,
    /// Whether it wants the latest tick of each channel first.
    pub snapshot: bool,
    /// Whether it may have been told some of what comes already, by a resume.
    pub has_floor: bool,
}

impl Symbols {
    /// An empty table for at most `most`.
    pub fn new(most: usize) -> Self {
        Self {
            table: Vec::new(),
            by_name: HashMap::new(),
            most,
        }
    }

    /// The symbol's place; `None` where it has none and the table is full.
    pub fn enter(&mut self, name: Symbol) -> Option<SymbolId> {
        if let Some(&id) = self.by_name.get(&name) {
            return Some(id);
        }
        if self.table.len() == self.most {
            return None;
        }
        let id = SymbolId(self.table.len() as u32);
        self.table.push(State {
            name,
            live: false,
            epoch: 0,
            last: [None; 2],
            latest: [None; 2],
            feed: FeedState::Live,
            reach: Reach::Heard,
            followers: Vec::new(),
        });
        self.by_name.insert(name, id);
        Some(id)
    }

    /// The symbol's place, if it has one.
    pub fn id(&self, name: &Symbol) -> Option<SymbolId> {
        self.by_name.get(name).copied()
    }

    /// A symbol.
    pub fn get(&self, id: SymbolId) -> &State {
        &self.table[id.0 as usize]
    }

    /// A symbol.
    pub fn get_mut(&mut self, id: SymbolId) -> &mut State {
        &mut self.table[id.0 as usize]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (SymbolId, &State)> {
        let ids = (0..).map(SymbolId);
        ids.zip(&self.table)
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut State> {
        self.table.iter_mut()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }
}

impl State {
    /// Takes note of a `start`; whether the account begins with it, here or in a new epoch.
    pub fn start(&mut self, start: &Start) -> bool {
        let begins = !self.live || start.epoch != self.epoch;
        if begins {
            self.live = true;
            self.epoch = start.epoch;
            self.last = [None; 2];
            self.latest = [None; 2];
        }
        for (channel, seq) in [(Channel::Trade, start.trade), (Channel::Quote, start.quote)] {
            if seq.is_some() {
                self.last[channel.index()] = seq;
            }
        }
        begins
    }

    /// A `start` at which a further client joins.
    pub fn current_start(&self) -> Start {
        Start {
            symbol: self.name,
            epoch: self.epoch,
            trade: self.last[Channel::Trade.index()],
            quote: self.last[Channel::Quote.index()],
            replay: None,
        }
    }

    /// Forgets the account: nobody follows the symbol any more.
    pub fn close(&mut self) {
        self.live = false;
        self.epoch = 0;
        self.last = [None; 2];
        self.latest = [None; 2];
        self.feed = FeedState::Live;
        self.reach = Reach::Heard;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(epoch: u64, trade: Option<u64>, quote: Option<u64>) -> Start {
        Start {
            symbol: Symbol::parse("A").unwrap(),
            epoch,
            trade,
            quote,
            replay: None,
        }
    }

    #[test]
    fn a_start_opens_channels_and_a_new_epoch_opens_anew() {
        let mut symbols = Symbols::new(1);
        let id = symbols.enter(Symbol::parse("A").unwrap()).unwrap();
        let state = symbols.get_mut(id);
        assert!(state.start(&start(7, Some(41), None)));
        assert!(!state.start(&start(7, None, Some(9))));
        assert_eq!(state.current_start(), start(7, Some(41), Some(9)));
        assert!(state.start(&start(8, None, Some(0))));
        assert_eq!(state.current_start(), start(8, None, Some(0)));
        state.close();
        assert!(state.start(&start(8, Some(5), None)));
    }

    #[test]
    fn the_table_has_an_end() {
        let mut symbols = Symbols::new(1);
        let a = Symbol::parse("A").unwrap();
        assert_eq!(symbols.enter(a), Some(SymbolId(0)));
        assert_eq!(symbols.enter(a), Some(SymbolId(0)));
        assert_eq!(symbols.enter(Symbol::parse("B").unwrap()), None);
        assert_eq!(symbols.len(), 1);
    }
}
