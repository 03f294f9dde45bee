//! What goes out: this host's part of the tape, as entries of one shard's stream.
//!
//! ```text
//!  tape ─► records of symbols that this host carries, in this shard ─► entry ─► queue ─► Redis
//!                                                                        number n, n + 1, …
//! ```
//!
//! No I/O and no clock here. Nothing is copied out of the tape before there is room for it, so while
//! Redis is away the tape is the buffer, up to `bridge_backlog` records. Beyond that the older half is
//! dropped, and the roll that follows tells the others how far this host had come without it.

mod kept;

use std::{collections::VecDeque, sync::Arc};

use tickwire_proto::{
    reply::Gap,
    sbe::entry::{EntryWriter, Head, Numbering},
    symbol::Symbol,
    tick::{FeedState, Identity, Tick, Values},
};

use super::{account::Account, shard::Shard};
use crate::{
    clock::Millis,
    tape::{Event, Origin, Position, ReadError, Record, SymbolId, Tape},
};

/// How much of everything there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of an entry above which it is sent.
    pub batch_bytes: usize,
    /// Entries that wait for Redis to confirm them.
    pub queue: usize,
    /// Records of the tape behind its head that may wait; beyond, the older half is given up.
    pub backlog: u64,
}

/// Longest silence of a host on a shard, ms.
pub const BEAT_MS: u64 = 1_000;
/// How often a host names all that it carries even if nobody asks, ms.
pub const ROLL_MS: u64 = 600_000;
/// The shortest time between two rolls, ms: whoever lags and asks each time must not drown in them.
const ROLL_PAUSE_MS: u64 = 1_000;

/// An entry that is complete.
pub type Sealed = Arc<[u8]>;

/// One shard's entries.
pub struct Outgoing {
    host: u64,
    shard: Shard,
    tape: Arc<Tape>,
    limits: Limits,
    /// The next record to take.
    at: Position,
    accounts: Vec<Account>,
    entry: EntryWriter,
    last_number: u64,
    /// What entries that are sealed now say of their time, ns, and of whether this host hears.
    stamp: (u64, bool),
    /// When the last record that was taken was admitted, ns.
    admitted_ns: u64,
    /// Symbols that the entry speaks of though nobody here has publishers of them, each with its id there.
    left: Vec<(SymbolId, u32)>,
    queue: VecDeque<Sealed>,
    /// How many of the queue are on their way.
    sent: usize,
    /// When the last entry was sealed.
    sealed_at: Millis,
    roll_due: Millis,
    rolled_at: Option<Millis>,
    asks: bool,
    dropped: u64,
    /// Where the next look for changed symbols begins.
    kept_to: usize,
}

impl Outgoing {
    /// Begins at the head of the tape, with a roll that asks for those of the others.
    pub fn new(host: u64, shard: Shard, tape: Arc<Tape>, limits: Limits, now: Millis) -> Self {
        let mut outgoing = Self {
            host,
            shard,
            at: tape.head(),
            tape,
            limits,
            accounts: Vec::new(),
            entry: EntryWriter::default(),
            last_number: 0,
            stamp: (0, false),
            admitted_ns: 0,
            left: Vec::new(),
            queue: VecDeque::new(),
            sent: 0,
            sealed_at: now,
            roll_due: now,
            rolled_at: None,
            asks: true,
            dropped: 0,
            kept_to: 0,
        };
        outgoing.begin();
        outgoing.recollect();
        outgoing
    }

    /// Entries that are sealed from here on were complete at `wall_ns`, nanoseconds since 1970, by a host
    /// that `hears`, or does not hear, what the others send.
    pub fn stamp(&mut self, wall_ns: u64, hears: bool) {
        self.stamp = (wall_ns, hears);
    }

    /// Takes what the tape has, as far as there is room; returns whether there is more.
    pub fn take(&mut self, now: Millis) -> bool {
        self.drop_what_is_too_old(now);
        let begin = self.at;
        let head = self.tape.head();
        while self.at < head && self.has_room() {
            let id = self.tape.symbol_at(self.at);
            self.meet(id);
            if self.accounts[id.0 as usize].is_ours && self.tape.ever_carried(id).is_some() {
                match self.tape.read(self.at) {
                    Ok(record) => self.enter(&record),
                    Err(ReadError::Lapped { .. }) => {
                        self.drop_what_is_too_old(now);
                        continue;
                    }
                    Err(ReadError::NotYet) => break,
                }
            }
            self.at = Position(self.at.0 + 1);
            if self.entry.len() >= self.limits.batch_bytes {
                self.seal(now);
            }
        }
        let oldest = self.tape.oldest();
        if oldest > begin {
            // The ring came round meanwhile, and what was passed over may have been this host's.
            self.lose(oldest.0 - begin.0, now);
        }
        self.at < head
    }

    /// Seals what there is, and says what is due: a roll, or that the host lives.
    pub fn run_due(&mut self, now: Millis) {
        if !self.entry.is_empty() && self.has_room() {
            self.seal(now);
        }
        if now >= self.roll_due && self.has_room() {
            self.call_roll(now);
        }
        if now >= self.sealed_at.after(BEAT_MS) && self.has_room() {
            self.seal(now);
        }
    }

    /// When [`Outgoing::run_due`] has something to do even if nothing is published.
    pub fn due(&self) -> Millis {
        self.sealed_at.after(BEAT_MS).min(self.roll_due)
    }

    /// The next entry to send, which is on its way from here on.
    pub fn send_next(&mut self) -> Option<Sealed> {
        let sealed = self.queue.get(self.sent)?.clone();
        self.sent += 1;
        Some(sealed)
    }

    /// Redis has the oldest entry that is on its way.
    pub fn confirm(&mut self) {
        if self.sent > 0 {
            self.sent -= 1;
            self.queue.pop_front();
        }
    }

    /// What was on its way may be lost: it is sent again, under the same numbers.
    pub fn send_again(&mut self) {
        self.sent = 0;
    }

    /// The next roll is due at once, or a second after the last.
    pub fn owe_roll(&mut self, now: Millis) {
        let earliest = self
            .rolled_at
            .map_or(now, |rolled| rolled.after(ROLL_PAUSE_MS).max(now));
        self.roll_due = self.roll_due.min(earliest);
    }

    /// The next roll asks for those of the others.
    pub fn ask(&mut self) {
        self.asks = true;
    }

    /// Whether Redis has all that was taken.
    pub fn is_all_sent(&self) -> bool {
        self.queue.is_empty() && self.entry.is_empty()
    }

    /// Entries that Redis has not confirmed.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether all before a position of the tape was taken.
    pub fn has_passed(&self, position: Position) -> bool {
        self.at >= position
    }

    /// Records of the tape that this shard's follower has yet to look at.
    pub fn behind(&self) -> u64 {
        self.tape.head().0.saturating_sub(self.at.0)
    }

    /// Records that were dropped unseen, of whatever shard and host.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn has_room(&self) -> bool {
        self.queue.len() < self.limits.queue
    }

    /// Makes sure that there is an account for a symbol.
    fn meet(&mut self, id: SymbolId) {
        while self.accounts.len() <= id.0 as usize {
            let next = SymbolId(self.accounts.len() as u32);
            let is_ours = self.shard.has(&self.tape.name(next));
            self.accounts.push(Account::new(is_ours));
        }
    }

    fn enter(&mut self, record: &Record) {
        let index = record.symbol.0 as usize;
        let is_here = record.origin == Origin::Here;
        self.admitted_ns = record.admitted_ns;
        match record.event {
            Event::Carried(Some(numbering)) => {
                let account = &mut self.accounts[index];
                if account.carried.is_none() {
                    // What other hosts sent before was none of its business.
                    account.recollect(&self.tape, record.symbol, self.at);
                }
                account.carried = Some(numbering);
                // By a name of its own: it may have been given up earlier in the entry.
                let id = self.name_again(record, numbering);
                self.entry.feed(id, FeedState::Live);
            }
            Event::Carried(None) => {
                if let Some(numbering) = self.numbering(record.symbol) {
                    let account = &mut self.accounts[index];
                    account.carried = None;
                    // In the epoch that it was carried in: the record's may be another host's already.
                    let own = if account.epoch > 0 {
                        account.epoch
                    } else {
                        record.epoch
                    };
                    let ending = Record {
                        epoch: own,
                        ..*record
                    };
                    let id = self.name(&ending, numbering);
                    self.entry.feed(id, FeedState::Stale);
                }
            }
            Event::Tick { seq, ts_ns, values } if is_here => {
                if let Some(numbering) = self.numbering(record.symbol) {
                    let id = self.name(record, numbering);
                    let symbol = self.tape.name(record.symbol);
                    self.entry
                        .tick(id, &tick(symbol, record.epoch, (seq, ts_ns, values)));
                    self.stay_stale(record.symbol, id);
                }
            }
            Event::Gap {
                channel,
                from,
                to,
                reason,
            } if is_here => {
                if let Some(numbering) = self.numbering(record.symbol) {
                    let id = self.name(record, numbering);
                    let gap = Gap {
                        symbol: self.tape.name(record.symbol),
                        channel,
                        epoch: record.epoch,
                        from: Some(from),
                        to: Some(to),
                        reason,
                        replay: None,
                    };
                    self.entry.gap(id, &gap);
                    self.stay_stale(record.symbol, id);
                }
            }
            Event::Tick { .. } | Event::Gap { .. } | Event::Feed(_) => {}
        }
        self.accounts[index].note(record);
    }

    /// Who numbers a symbol of which this host has something to say.
    fn numbering(&self, id: SymbolId) -> Option<Numbering> {
        // The table may be ahead of the records, and these ahead of what a lapped follower knows.
        self.accounts[id.0 as usize]
            .carried
            .or_else(|| self.tape.ever_carried(id))
    }

    /// What was held when the symbol's last publisher left comes behind its end, and does not bring
    /// it back.
    fn stay_stale(&mut self, symbol: SymbolId, id: u32) {
        let is_left = self.accounts[symbol.0 as usize].carried.is_none();
        if is_left && !self.left.contains(&(symbol, id)) {
            self.left.push((symbol, id));
        }
    }

    /// The id of a record's symbol and epoch in the entry, which names it first if it has not.
    fn name(&mut self, record: &Record, numbering: Numbering) -> u32 {
        let account = &self.accounts[record.symbol.0 as usize];
        let known = account.id(self.number(), record.epoch);
        known.unwrap_or_else(|| self.name_again(record, numbering))
    }

    fn name_again(&mut self, record: &Record, numbering: Numbering) -> u32 {
        let (symbol, entry) = (self.tape.name(record.symbol), self.number());
        let account = &mut self.accounts[record.symbol.0 as usize];
        let name = account.name(symbol, numbering, record.epoch);
        let id = self.entry.carry(&name);
        account.set_id(entry, record.epoch, id);
        id
    }

    /// Gives up what lies further back than may be sent.
    fn drop_what_is_too_old(&mut self, now: Millis) {
        let head = self.tape.head();
        let oldest = self
            .tape
            .oldest()
            .max(Position(head.0.saturating_sub(self.limits.backlog)));
        if self.at < oldest {
            // By half, so that it does not happen again at once.
            let kept = Position(head.0.saturating_sub(self.limits.backlog / 2));
            let lost = oldest.max(kept).0 - self.at.0;
            self.at = Position(self.at.0 + lost);
            self.lose(lost, now);
        }
    }

    /// So many records before the next one are lost.
    fn lose(&mut self, count: u64, now: Millis) {
        if !self.entry.is_empty() {
            // Names are written anew behind the hole, and so show it.
            self.seal(now);
        }
        self.dropped += count;
        self.recollect();
        self.owe_roll(now);
    }

    /// Brings all accounts to where the follower stands, from what the tape remembers.
    fn recollect(&mut self) {
        if let Some(last) = self.tape.symbols().checked_sub(1) {
            self.meet(SymbolId(last));
        }
        for (index, account) in self.accounts.iter_mut().enumerate() {
            let id = SymbolId(index as u32);
            if account.is_ours {
                account.recollect(&self.tape, id, self.at);
            }
        }
    }

    /// Names everything that this host carries, as of the records taken so far.
    fn call_roll(&mut self, now: Millis) {
        if !self.entry.is_empty() {
            self.seal(now);
        }
        self.entry.begin(&Head {
            is_roll: true,
            asks: std::mem::take(&mut self.asks),
            ..self.head()
        });
        for (index, account) in self.accounts.iter().enumerate() {
            // Before its first record is seen a symbol has no epoch.
            let Some(numbering) = account.carried.filter(|_| account.epoch > 0) else {
                continue;
            };
            let symbol = self.tape.name(SymbolId(index as u32));
            let name = account.name(symbol, numbering, account.epoch);
            self.entry.carry(&name);
        }
        self.rolled_at = Some(now);
        self.roll_due = now.after(ROLL_MS);
        self.seal(now);
    }

    /// The number of the entry that is being written.
    fn number(&self) -> u64 {
        self.last_number + 1
    }

    fn head(&self) -> Head {
        Head {
            host: self.host,
            number: self.number(),
            shards: self.shard.of,
            is_roll: false,
            asks: false,
            // Both are said at its end.
            hears: false,
            sent_ns: 0,
        }
    }

    fn begin(&mut self) {
        let head = self.head();
        self.entry.begin(&head);
    }

    fn seal(&mut self, now: Millis) {
        for (symbol, id) in std::mem::take(&mut self.left) {
            if self.accounts[symbol.0 as usize].carried.is_none() {
                self.entry.feed(id, FeedState::Stale);
            }
        }
        let (sent_ns, hears) = self.stamp;
        // As cursors do: the wall clock may have gone back.
        self.entry.stamp(sent_ns.max(self.admitted_ns), hears);
        self.last_number += 1;
        self.queue.push_back(self.entry.bytes().into());
        self.sealed_at = now;
        self.begin();
    }
}

fn tick(symbol: Symbol, epoch: u64, (seq, ts_ns, values): (u64, u64, Values)) -> Tick {
    Tick {
        symbol,
        identity: Identity { epoch, seq },
        ts_ns,
        values,
    }
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
