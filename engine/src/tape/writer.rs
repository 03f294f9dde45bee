//! The tape's one writer.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use tickwire_proto::symbol::Symbol;

use super::{Event, Origin, Position, Record, SymbolId, SymbolsFull, Tape};

/// Puts records on the tape.
///
/// There is one per tape: it comes from [`create`](super::create), is not `Clone`, and pushes
/// through `&mut self`, so that order on the tape needs no compare-and-swap.
pub struct Writer {
    tape: Arc<Tape>,
    next: Position,
    // Hashed with std's keyed hasher: publishers choose the names.
    ids: HashMap<Symbol, SymbolId>,
}

impl Writer {
    pub(super) fn new(tape: Arc<Tape>) -> Self {
        Self {
            tape,
            next: Position(0),
            ids: HashMap::new(),
        }
    }

    /// The id of a symbol, which it gets here if it has none.
    ///
    /// # Errors
    ///
    /// [`SymbolsFull`] for a new symbol once `symbols_max` have an id; nothing is ever forgotten.
    pub fn intern(&mut self, symbol: Symbol) -> Result<SymbolId, SymbolsFull> {
        let symbols_max = self.tape.symbols.capacity();
        let count = self.ids.len();
        match self.ids.entry(symbol) {
            Entry::Occupied(known) => Ok(*known.get()),
            Entry::Vacant(_) if count == symbols_max => Err(SymbolsFull { symbols_max }),
            Entry::Vacant(new) => {
                let id = SymbolId(count as u32);
                self.tape.symbols.add(id, &symbol);
                Ok(*new.insert(id))
            }
        }
    }

    /// The id of a symbol, if it has one.
    pub fn id(&self, symbol: Symbol) -> Option<SymbolId> {
        self.ids.get(&symbol).copied()
    }

    /// Puts a record at the head of the tape, over the oldest one once the ring is full.
    ///
    /// Epochs of a symbol never fall, except in a gap that closes an older epoch's account. The
    /// record, its links, the symbol's newest, base and feed are all visible to whoever reads a
    /// [`Tape::head`] past it. Never waits, hashes or allocates.
    ///
    /// # Panics
    ///
    /// Where `symbol` is not from [`Writer::intern`] of this writer.
    pub fn push(
        &mut self,
        symbol: SymbolId,
        epoch: u64,
        admitted_ns: u64,
        event: Event,
    ) -> Position {
        self.push_from(Origin::Here, symbol, epoch, admitted_ns, event)
    }

    /// As [`Writer::push`], of a record that may come from another host.
    ///
    /// # Panics
    ///
    /// As [`Writer::push`].
    pub fn push_from(
        &mut self,
        origin: Origin,
        symbol: SymbolId,
        epoch: u64,
        admitted_ns: u64,
        event: Event,
    ) -> Position {
        assert!(
            (symbol.0 as usize) < self.ids.len(),
            "{symbol:?} was never interned"
        );
        let tape = &*self.tape;
        let channel = event.channel();
        let previous = channel.and_then(|channel| tape.symbols.last(symbol, channel));
        let position = self.next;
        let record = Record {
            position,
            symbol,
            epoch,
            admitted_ns,
            previous,
            origin,
            event,
        };
        let payload = record.pack();
        // Ring first: what the symbol table or a link names can be read in the ring.
        tape.put(&record, &payload);
        if let Some(channel) = channel {
            tape.symbols.append(channel, &record, &payload);
        }
        match event {
            Event::Feed(state) => tape.symbols.set_feed(symbol, state),
            Event::Carried(carried) => tape.symbols.set_carried(symbol, carried),
            Event::Tick { .. } | Event::Gap { .. } => {}
        }
        self.next = Position(position.0 + 1);
        tape.publish(self.next);
        position
    }

    /// The tape, for readers.
    pub fn tape(&self) -> &Arc<Tape> {
        &self.tape
    }
}
