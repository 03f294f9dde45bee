//! The tape, as its readers see it.

use std::{io, ops::Range};

use crossbeam::utils::CachePadded;
use tickwire_proto::{
    sbe::entry::Numbering,
    symbol::Symbol,
    tick::{Channel, FeedState},
};

use super::{
    Event, Position, ReadError, Record, SymbolId, TapeOptions,
    layout::{Payload, SlotWords},
    slot::{Missed, Slot},
    storage::Storage,
    symbols::Symbols,
    sync::{AtomicU32, AtomicU64, Ordering, fence},
};

/// A ring of the last `slots` records, and a table of what is known of each symbol.
///
/// Any number of threads read it, each at its own pace, and none of them slows the writer: a
/// reader that falls a whole ring behind is lapped, and told so.
///
/// Methods that take a [`SymbolId`] panic where the id is not from this tape.
pub struct Tape {
    id: u64,
    head: CachePadded<AtomicU64>,
    slots: Storage<SlotWords>,
    /// The symbol of each slot's record, sixteen to a cache line.
    hints: Storage<AtomicU32>,
    pub(super) symbols: Symbols,
}

impl Tape {
    pub(super) fn zeroed(options: &TapeOptions) -> io::Result<Self> {
        Ok(Self {
            id: options.id,
            head: CachePadded::new(AtomicU64::new(0)),
            slots: Storage::zeroed(options.slots)?,
            hints: Storage::zeroed(options.slots)?,
            symbols: Symbols::zeroed(options.symbols_max)?,
        })
    }

    /// The tape's name, which cursors carry.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How many records the ring holds.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The next position to be written: every record before it can be read, unless lapped.
    pub fn head(&self) -> Position {
        // Acquire pairs with the Release store in `publish`.
        Position(self.head.load(Ordering::Acquire))
    }

    /// The oldest position that can still be read.
    ///
    /// Conservative by one: the writer may be at work on the slot of the position before it.
    pub fn oldest(&self) -> Position {
        // Acquire pairs with the Release fence in `Slot::write`: who caught a hint of a later lap
        // finds the head that far on, as `symbol_at` promises.
        fence(Ordering::Acquire);
        let head = self.head.load(Ordering::Acquire);
        Position((head + 1).saturating_sub(self.slots() as u64))
    }

    /// Copies out the record at a position.
    ///
    /// # Errors
    ///
    /// - [`ReadError::Lapped`]: the writer reused the slot.
    /// - [`ReadError::NotYet`]: the position is at or past the head.
    pub fn read(&self, at: Position) -> Result<Record, ReadError> {
        match self.slot(at).read(at) {
            Ok(payload) => Ok(Record::unpack(at, &payload)),
            Err(missed) => Err(self.read_error(missed)),
        }
    }

    /// Whose record stands at `at`, a position before the head: a hint for passing over what
    /// nobody here wants, without touching the slots.
    ///
    /// A reader that was lapped gets the symbol of a later record. So [`Tape::read`] verifies what
    /// is taken, and [`Tape::oldest`] what is passed over: if, after the hints from `a` on were
    /// looked at, the oldest position is at most `a`, then they were all right.
    pub fn symbol_at(&self, at: Position) -> SymbolId {
        // Relaxed: ordered by the head before, and by the fence in `oldest` after.
        SymbolId(self.hints[self.index(at)].load(Ordering::Relaxed))
    }

    /// The first position in `range`, which ends at or before the head, whose symbol `wanted` names,
    /// or does not know yet; else the range's end.
    ///
    /// A hint, as [`Tape::symbol_at`] is; sixteen of them lie in a cache line.
    pub fn first_wanted(&self, range: Range<Position>, wanted: &[bool]) -> Position {
        let mut at = range.start.0;
        while at < range.end.0 {
            let from = self.index(Position(at));
            // Up to the end of the ring; the rest begins anew at its start.
            let count = (range.end.0 - at).min((self.slots() - from) as u64);
            let hints = &self.hints[from..from + count as usize];
            let is_wanted = |hint: &AtomicU32| {
                let symbol = hint.load(Ordering::Relaxed) as usize;
                wanted.get(symbol).is_none_or(|wanted| *wanted)
            };
            if let Some(passed) = hints.iter().position(is_wanted) {
                return Position(at + passed as u64);
            }
            at += count;
        }
        range.end
    }

    /// The next record of the same symbol and channel; `None` while there is none, and after an
    /// [`Event::Feed`].
    ///
    /// Never `None` where the head, read before, was already past the next record.
    ///
    /// # Errors
    ///
    /// [`ReadError::Lapped`] where the way to it is lost: `at` is no longer in the ring, and its
    /// successor no longer among the channel's last 16.
    pub fn next(&self, at: &Record) -> Result<Option<Record>, ReadError> {
        let Some(channel) = at.channel() else {
            return Ok(None);
        };
        match self.slot(at.position).next(at.position) {
            Ok(Some(next)) => self.find(at.symbol, channel, next).map(Some),
            Ok(None) | Err(Missed::NotYet) => Ok(None),
            Err(missed) => self.next_of_lapped(at, channel, missed),
        }
    }

    /// The record before `at` of the same symbol and channel; `None` for the first, and before an
    /// [`Event::Feed`].
    ///
    /// # Errors
    ///
    /// [`ReadError::Lapped`] where it is neither in the ring nor among the channel's last 16.
    pub fn previous(&self, at: &Record) -> Result<Option<Record>, ReadError> {
        match (at.channel(), at.previous) {
            (Some(channel), Some(previous)) => self.find(at.symbol, channel, previous).map(Some),
            _ => Ok(None),
        }
    }

    /// The newest record, tick or gap, of a channel. It may lie past a head that was read before.
    pub fn newest(&self, symbol: SymbolId, channel: Channel) -> Option<Record> {
        self.symbols.newest(symbol, channel)
    }

    /// The last tick of a channel before a position: its snapshot there.
    ///
    /// Walks back from the newest record, so it costs as much as the channel has records since.
    ///
    /// # Errors
    ///
    /// [`ReadError::Lapped`] where the channel's records were lost before one was found.
    pub fn newest_tick_before(
        &self,
        symbol: SymbolId,
        channel: Channel,
        before: Position,
    ) -> Result<Option<Record>, ReadError> {
        self.walk_back(symbol, channel, |record| {
            record.position < before && matches!(record.event, Event::Tick { .. })
        })
    }

    /// The last record, tick or gap, of a channel before a position.
    ///
    /// # Errors
    ///
    /// As [`Tape::newest_tick_before`].
    pub fn newest_before(
        &self,
        symbol: SymbolId,
        channel: Channel,
        before: Position,
    ) -> Result<Option<Record>, ReadError> {
        self.walk_back(symbol, channel, |record| record.position < before)
    }

    /// The first record that was admitted at `ns` or later; the head where there is none. `None` where
    /// none that was admitted before can be read, and so more may have been lost than what came before.
    ///
    /// Records are admitted in the order of their stamps.
    pub fn admitted_since(&self, ns: u64) -> Option<Position> {
        let (mut low, mut high) = (self.oldest().0, self.head().0);
        let mut reaches_back = false;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.read(Position(middle)) {
                Ok(record) if record.admitted_ns < ns => {
                    reaches_back = true;
                    low = middle + 1;
                }
                Ok(_) | Err(ReadError::NotYet) => high = middle,
                Err(ReadError::Lapped { .. }) => low = middle + 1,
            }
        }
        reaches_back.then_some(Position(low))
    }

    /// How many symbols there are: ids below it have a name.
    pub fn symbols(&self) -> u32 {
        self.symbols.count()
    }

    /// The symbol of an id.
    pub fn name(&self, id: SymbolId) -> Symbol {
        self.symbols.name(id)
    }

    /// Whether the symbol has a live source; `None` before the first [`Event::Feed`].
    pub fn feed(&self, id: SymbolId) -> Option<FeedState> {
        self.symbols.feed(id)
    }

    /// Who numbers the symbol, if this host has publishers of it and is told to say so.
    pub fn carried(&self, id: SymbolId) -> Option<Numbering> {
        self.symbols.carried(id)
    }

    /// [`Tape::carried`], or what it was while this host had publishers of the symbol.
    pub fn ever_carried(&self, id: SymbolId) -> Option<Numbering> {
        self.symbols.ever_carried(id)
    }

    /// Epoch and first seq (a gap's `from`, if one came first) of the channel's newest epoch.
    pub fn base(&self, id: SymbolId, channel: Channel) -> Option<(u64, u64)> {
        self.symbols.base(id, channel)
    }

    /// The floors, a bit each, that have a subscriber of the symbol.
    ///
    /// Ingest pushes, passes a `fence(SeqCst)`, and then looks here whom to wake: one fence serves
    /// any number of pushes. With the fence in [`Tape::add_interest`] it makes sure that no record
    /// falls between a floor's first look at the head and its first wake.
    pub fn interest(&self, id: SymbolId) -> u64 {
        self.symbols.interest(id)
    }

    /// Sets the bit of a floor, 0–63, which reads the head only after this.
    pub fn add_interest(&self, id: SymbolId, floor: u32) {
        self.symbols.add_interest(id, floor);
    }

    /// Clears the bit of a floor, 0–63.
    pub fn drop_interest(&self, id: SymbolId, floor: u32) {
        self.symbols.drop_interest(id, floor);
    }

    fn walk_back(
        &self,
        symbol: SymbolId,
        channel: Channel,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Option<Record>, ReadError> {
        let mut candidate = self.newest(symbol, channel);
        while let Some(record) = candidate.filter(|record| !wanted(record)) {
            candidate = self.previous(&record)?;
        }
        Ok(candidate)
    }

    /// A record of a channel, from the ring or, where that has moved on, the symbol table.
    fn find(&self, symbol: SymbolId, channel: Channel, at: Position) -> Result<Record, ReadError> {
        self.read(at)
            .or_else(|error| self.symbols.find(symbol, channel, at).ok_or(error))
    }

    /// The successor of a record that is no longer in the ring.
    fn next_of_lapped(
        &self,
        at: &Record,
        channel: Channel,
        missed: Missed,
    ) -> Result<Option<Record>, ReadError> {
        // In this order: were the table searched first, a successor that came between the search
        // and the look at the newest would count as lost.
        let last = self.symbols.last(at.symbol, channel);
        if last.is_none_or(|last| last <= at.position) {
            return Ok(None);
        }
        let successor = self.symbols.successor(at.symbol, channel, at.position);
        successor.map(Some).ok_or_else(|| self.read_error(missed))
    }

    fn read_error(&self, missed: Missed) -> ReadError {
        match missed {
            Missed::NotYet => ReadError::NotYet,
            Missed::Overwritten { by } => {
                // The head may be seen late; the stamp alone proves that much is gone.
                let proven = Position((by.0 + 1).saturating_sub(self.slots() as u64));
                ReadError::Lapped {
                    oldest: self.oldest().max(proven),
                }
            }
        }
    }

    fn slot(&self, at: Position) -> Slot<'_> {
        Slot(&self.slots[self.index(at)])
    }

    fn index(&self, at: Position) -> usize {
        // The number of slots is a power of two, so this is the remainder.
        at.0 as usize & (self.slots() - 1)
    }
}

/// What only the tape's one writer does.
impl Tape {
    /// Writes a record into the ring and links the one before it in its channel to it.
    pub(super) fn put(&self, record: &Record, payload: &Payload) {
        self.slot(record.position).write(record.position, payload);
        // Relaxed: published by the head; and a reader that is being lapped here notices because
        // of the Release fence in `write` just above.
        self.hints[self.index(record.position)].store(record.symbol.0, Ordering::Relaxed);
        if let Some(previous) = record.previous
            && record.position.0 - previous.0 < self.slots() as u64
        {
            self.slot(previous).set_next(record.position);
        }
    }

    /// Moves the head past what was put.
    pub(super) fn publish(&self, head: Position) {
        // Release pairs with the Acquire load in `head`.
        self.head.store(head.0, Ordering::Release);
    }
}
