//! The symbol table: what the tape knows of each symbol, however far the ring has moved on.

use std::io;

use crossbeam::utils::CachePadded;
use tickwire_proto::{
    sbe::entry::Numbering,
    symbol::Symbol,
    tick::{Channel, FeedState},
};

use super::{
    layout::{
        BASE_EPOCH, BASE_SEQ, CARRIED, CHANNEL, CHANNEL_WORDS, COUNT, FEED, HeadWords, INTEREST,
        LAST, NAME, NAME_WORDS, Payload, RECENT, RecentWords,
    },
    record::{Position, Record, SymbolId, position_to_word, word_to_position},
    slot::Slot,
    storage::Storage,
    sync::{AtomicU32, AtomicU64, Ordering, fence, spin_loop},
};

/// Stands in for a base's epoch while the base changes.
const CHANGING: u64 = u64::MAX;

const FEED_STALE: u64 = 1;
const FEED_LIVE: u64 = 2;

const CARRIED_NUMBERED: u64 = 1;
const CARRIED_TO_NUMBER: u64 = 2;
/// The same, shifted, for what was carried before.
const CARRIED_BEFORE: u64 = 0b1100;

fn numbering(word: u64) -> Option<Numbering> {
    match word & 0b11 {
        CARRIED_NUMBERED => Some(Numbering::Source),
        CARRIED_TO_NUMBER => Some(Numbering::Host),
        _ => None,
    }
}

/// Every symbol of the tape.
pub struct Symbols {
    interned: CachePadded<AtomicU32>,
    heads: Storage<HeadWords>,
    recent: Storage<RecentWords>,
}

/// What anyone may ask.
impl Symbols {
    pub fn zeroed(symbols_max: usize) -> io::Result<Self> {
        Ok(Self {
            interned: CachePadded::new(AtomicU32::new(0)),
            heads: Storage::zeroed(symbols_max)?,
            recent: Storage::zeroed(symbols_max)?,
        })
    }

    /// How many symbols have a name.
    pub fn count(&self) -> u32 {
        // Acquire pairs with the Release store in `add`: names of the ids below can be read.
        self.interned.load(Ordering::Acquire)
    }

    pub fn name(&self, id: SymbolId) -> Symbol {
        let mut padded = [0; NAME_WORDS * 8];
        for (bytes, word) in padded.chunks_exact_mut(8).zip(&self.head(id)[NAME..]) {
            // Relaxed: written once, before the id was given to anyone.
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        Symbol::from_padded(padded).expect("ids come from this tape, which names them first")
    }

    pub fn feed(&self, id: SymbolId) -> Option<FeedState> {
        // Relaxed: one word; who must not miss a change reads the head of the tape first.
        match self.head(id)[FEED].load(Ordering::Relaxed) {
            FEED_STALE => Some(FeedState::Stale),
            FEED_LIVE => Some(FeedState::Live),
            _ => None,
        }
    }

    pub fn carried(&self, id: SymbolId) -> Option<Numbering> {
        // Relaxed: as in `feed`.
        numbering(self.head(id)[CARRIED].load(Ordering::Relaxed) & !CARRIED_BEFORE)
    }

    pub fn ever_carried(&self, id: SymbolId) -> Option<Numbering> {
        let word = self.head(id)[CARRIED].load(Ordering::Relaxed);
        numbering(word & !CARRIED_BEFORE).or(numbering(word >> CARRIED_BEFORE.trailing_zeros()))
    }

    pub fn base(&self, id: SymbolId, channel: Channel) -> Option<(u64, u64)> {
        let words = self.channel(id, channel);
        loop {
            // Acquire pairs with the Release store in `set_base`: the seq is at least this epoch's.
            let epoch = words[BASE_EPOCH].load(Ordering::Acquire);
            if epoch == 0 {
                return None;
            }
            let first_seq = words[BASE_SEQ].load(Ordering::Relaxed);
            // Acquire pairs with the Release fence in `set_base`: a later epoch's seq shows here.
            fence(Ordering::Acquire);
            if epoch != CHANGING && words[BASE_EPOCH].load(Ordering::Relaxed) == epoch {
                return Some((epoch, first_seq));
            }
            spin_loop();
        }
    }

    /// Position of a channel's newest record.
    pub fn last(&self, id: SymbolId, channel: Channel) -> Option<Position> {
        // Acquire pairs with the Release store in `append`: the record is in its entry, or was.
        word_to_position(self.channel(id, channel)[LAST].load(Ordering::Acquire))
    }

    /// The newest record of a channel.
    pub fn newest(&self, id: SymbolId, channel: Channel) -> Option<Record> {
        loop {
            // Acquire pairs with the Release store in `append`: the entry holds this record or,
            // where the writer has come round since, a later one.
            let count = self.channel(id, channel)[COUNT].load(Ordering::Acquire);
            let newest = count.checked_sub(1)?;
            if let Some((position, payload)) = self.entry(id, channel, newest).read_any() {
                return Some(Record::unpack(position, &payload));
            }
            // The writer is rewriting the entry, so a later record is the newest meanwhile.
            spin_loop();
        }
    }

    /// The record at `position`, if it is among the channel's recent ones.
    pub fn find(&self, id: SymbolId, channel: Channel, position: Position) -> Option<Record> {
        let mut entries = self.entries(id, channel);
        let payload = entries.find_map(|entry| entry.read(position).ok())?;
        Some(Record::unpack(position, &payload))
    }

    /// The record that followed the one at `position`, if it is among the channel's recent ones.
    ///
    /// An entry being rewritten is passed over: what it held is lost, and what it is about to hold
    /// was not there when the caller asked.
    pub fn successor(&self, id: SymbolId, channel: Channel, position: Position) -> Option<Record> {
        self.entries(id, channel)
            .filter_map(Slot::read_any)
            .map(|(position, payload)| Record::unpack(position, &payload))
            .find(|record| record.previous == Some(position))
    }

    pub fn interest(&self, id: SymbolId) -> u64 {
        // Relaxed: the fences do the ordering, see `add_interest`.
        self.head(id)[INTEREST].load(Ordering::Relaxed)
    }

    pub fn add_interest(&self, id: SymbolId, floor: u32) {
        self.head(id)[INTEREST].fetch_or(1 << floor, Ordering::Relaxed);
        // SeqCst pairs with the SeqCst fence of ingest between its push and its look at the mask.
        // One of the two comes first: either ingest sees the bit, or the floor sees the new head.
        fence(Ordering::SeqCst);
    }

    pub fn drop_interest(&self, id: SymbolId, floor: u32) {
        // Relaxed: seen late it costs one needless wake.
        self.head(id)[INTEREST].fetch_and(!(1 << floor), Ordering::Relaxed);
    }
}

/// What only the tape's one writer does; it alone stores these words, so it may read them Relaxed.
impl Symbols {
    pub fn capacity(&self) -> usize {
        self.heads.len()
    }

    /// Names the next id.
    pub fn add(&self, id: SymbolId, symbol: &Symbol) {
        for (word, bytes) in self.head(id)[NAME..]
            .iter()
            .zip(symbol.padded().as_chunks().0)
        {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        // Release pairs with the Acquire load in `count`.
        self.interned.store(id.0 + 1, Ordering::Release);
    }

    pub fn set_feed(&self, id: SymbolId, state: FeedState) {
        let word = match state {
            FeedState::Stale => FEED_STALE,
            FeedState::Live => FEED_LIVE,
        };
        // Relaxed: published by the head of the tape.
        self.head(id)[FEED].store(word, Ordering::Relaxed);
    }

    pub fn set_carried(&self, id: SymbolId, carried: Option<Numbering>) {
        let own = &self.head(id)[CARRIED];
        let before = own.load(Ordering::Relaxed);
        let now = match carried {
            Some(Numbering::Source) => CARRIED_NUMBERED,
            Some(Numbering::Host) => CARRIED_TO_NUMBER,
            None => 0,
        };
        // What it was last is remembered: whoever follows may be behind.
        let last = if before & !CARRIED_BEFORE == 0 {
            before & CARRIED_BEFORE
        } else {
            before << CARRIED_BEFORE.trailing_zeros() & CARRIED_BEFORE
        };
        // Relaxed: published by the head of the tape.
        own.store(now | last, Ordering::Relaxed);
    }

    /// Makes `record` the newest of its channel.
    pub fn append(&self, channel: Channel, record: &Record, payload: &Payload) {
        let words = self.channel(record.symbol, channel);
        let count = words[COUNT].load(Ordering::Relaxed);
        self.entry(record.symbol, channel, count)
            .write(record.position, payload);
        // Release pairs with the Acquire load in `last`.
        words[LAST].store(position_to_word(Some(record.position)), Ordering::Release);
        // Release pairs with the Acquire load in `newest`.
        words[COUNT].store(count + 1, Ordering::Release);
        // Epochs only ever grow; a record of an older one closes that epoch's account.
        if record.epoch > words[BASE_EPOCH].load(Ordering::Relaxed) {
            set_base(words, record.epoch, record.first_seq());
        }
    }
}

impl Symbols {
    fn head(&self, id: SymbolId) -> &HeadWords {
        &self.heads[id.0 as usize]
    }

    fn channel(&self, id: SymbolId, channel: Channel) -> &[AtomicU64] {
        &self.head(id)[CHANNEL + channel.index() * CHANNEL_WORDS..][..CHANNEL_WORDS]
    }

    fn entries(&self, id: SymbolId, channel: Channel) -> impl Iterator<Item = Slot<'_>> {
        self.recent[id.0 as usize][channel.index()]
            .iter()
            .map(|entry| Slot(entry))
    }

    /// The entry of the channel's record number `number`, counted from 0.
    fn entry(&self, id: SymbolId, channel: Channel, number: u64) -> Slot<'_> {
        Slot(&self.recent[id.0 as usize][channel.index()][number as usize & (RECENT - 1)])
    }
}

/// A seqlock whose stamp is the epoch, which never comes back to an earlier value.
fn set_base(words: &[AtomicU64], epoch: u64, first_seq: u64) {
    words[BASE_EPOCH].store(CHANGING, Ordering::Relaxed);
    // Release pairs with the Acquire fence in `base`.
    fence(Ordering::Release);
    words[BASE_SEQ].store(first_seq, Ordering::Relaxed);
    // Release pairs with the Acquire load in `base`.
    words[BASE_EPOCH].store(epoch, Ordering::Release);
}
