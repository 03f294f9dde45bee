//! Joining: snapshots, resumes and replays, pulled from the tape as the socket drains.
//!
//! A subscription does not simply switch on. Each of its symbols is visited: the client gets a
//! `start`, the snapshot or everything since its point, and only then live ticks, with none
//! missing and none twice.
//!
//! ```text
//!  snapshot:  visit symbol ─► start, feed, snapshot ─► live at once
//!  since:     visit symbol ─► seek back ─► start, feed, gap, ticks up to a mark ─► next symbol
//!             all visited  ─► follow the tape from the mark to where the floor stands ─► live
//!  replay:    as since, but ends at the mark and touches no subscription
//! ```
//!
//! The mark makes the last step short: after it, one pass over the tape brings all symbols to the
//! floor's own position together, so that no symbol has to be held back for another.

use std::{cmp::Ordering, sync::Arc};

use rustc_hash::FxHashMap;
use tickwire_proto::{
    pattern::Selector,
    reply::{Gap, GapReason, Start},
    request::{Mode, Since},
    tick::{Channel, Channels, FeedState, Marks},
    upgrade::Subprotocol,
};

use super::{
    encode,
    pieces::Piece,
    rows::{Account, Rows},
    seek::{Found, Seek},
};
use crate::tape::{Event, Position, ReadError, Record, SymbolId, Tape};

/// Names a join among those of its floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinKey(pub usize);

/// Records looked at between two looks at the clock.
const RECORDS_PER_STEP: usize = 128;
/// Bytes that a join hands to its connection in one piece.
const CHUNK_BYTES: usize = 16 * 1024;

/// What a join is for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// `subscribe` without `since`; the flag is whether the last trade and quote come first.
    Subscribe {
        /// See the request's `snapshot`.
        snapshot: bool,
    },
    /// `subscribe` with `since`.
    Resume(Since),
    /// `replay`.
    Replay {
        /// The request's id.
        id: u32,
        /// What it names. Its plan is laid when it begins, since it may have to queue, and covers
        /// what is born until then.
        named: Vec<Selector>,
        /// From where.
        since: Since,
    },
}

/// One request under way.
pub struct Join {
    /// Whose.
    pub connection: u32,
    /// Tells that connection from later ones at the same index.
    pub generation: u32,
    /// The request's id.
    pub id: Option<u32>,
    /// What for.
    pub purpose: Purpose,
    /// Its channels.
    pub channels: Channels,
    /// Its mode.
    pub mode: Mode,
    /// Which request of the connection it is.
    pub request: u32,
    /// The symbols to visit, with the selector of the request that governs each.
    pub plan: Vec<(SymbolId, Selector)>,
    /// How many of them have been visited.
    pub visited: usize,
    /// Where the walk stands.
    pub stage: Stage,
    /// Symbols are walked up to here, then followed together.
    pub mark: Position,
    /// Accounts of the walked symbols.
    accounts: FxHashMap<SymbolId, Walked>,
}

/// Where a walk over history stands.
pub enum Stage {
    /// The next symbol of the plan is to be visited.
    Visit,
    /// Looking for the oldest record wanted, back from the newest.
    Seek(Box<Seek>),
    /// Handing out a symbol's records, oldest first, both channels merged.
    Emit(Box<[Option<Record>; 2]>),
    /// Following the tape from here.
    Follow(Position),
}

/// A `gap` without its symbol.
struct Missing {
    channel: Channel,
    epoch: u64,
    from: Option<u64>,
    to: Option<u64>,
    reason: GapReason,
}

/// The account of a symbol during its walk, and under `conflate` what is held.
#[derive(Clone, Copy, Default)]
struct Walked {
    account: Account,
    held: [Option<(Record, u32)>; 2],
}

/// How far a step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to do, now or when the socket has drained.
    More,
    /// The current symbol is complete up to the mark, or the walk moved on.
    Moved,
    /// The history walk has reached its end.
    Reached,
}

/// Where a step's frames go, and what it reads.
pub struct Walk<'a> {
    /// The ticks.
    pub tape: &'a Arc<Tape>,
    /// Names and wire ids.
    pub rows: &'a mut Rows,
    /// The connection's wire format.
    pub format: Subprotocol,
    /// Frames so far.
    pub out: &'a mut Piece,
    /// Ticks written so far.
    pub ticks: u64,
    /// How far the floor has taken the tape.
    pub floor_at: Position,
}

impl Join {
    /// A join that has not begun.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call site a purpose, each naming all parts"
    )]
    pub fn new(
        connection: u32,
        generation: u32,
        id: Option<u32>,
        purpose: Purpose,
        channels: Channels,
        mode: Mode,
        request: u32,
        plan: Vec<(SymbolId, Selector)>,
        mark: Position,
    ) -> Self {
        Self {
            connection,
            generation,
            id,
            purpose,
            channels,
            mode,
            request,
            plan,
            visited: 0,
            stage: Stage::Visit,
            mark,
            accounts: FxHashMap::default(),
        }
    }

    /// The request id that marks every message of a `replay`.
    pub fn replay_id(&self) -> Option<u32> {
        match self.purpose {
            Purpose::Replay { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Begins the walk of the next symbol of the plan.
    pub fn enter(&mut self, tape: &Tape, rows: &Rows) {
        let symbol = self.symbol();
        let (Purpose::Resume(since) | Purpose::Replay { since, .. }) = &self.purpose else {
            return;
        };
        let name = rows.name(symbol);
        let seek = Seek::new(tape, symbol, &name, self.channels, since, self.mark);
        self.stage = Stage::Seek(Box::new(seek));
    }

    /// Leaves a symbol out, whose subscription or entitlement has gone.
    pub fn forget(&mut self, symbol: SymbolId) {
        self.accounts.remove(&symbol);
        let Some(at) = self.plan.iter().position(|(own, _)| *own == symbol) else {
            return;
        };
        self.plan.remove(at);
        match at.cmp(&self.visited) {
            Ordering::Less => self.visited -= 1,
            Ordering::Equal if !matches!(self.stage, Stage::Follow(_)) => self.stage = Stage::Visit,
            Ordering::Equal | Ordering::Greater => {}
        }
    }

    /// Carries the history walk on by some records; call it until the chunk is full or the time is
    /// up.
    pub fn step(&mut self, walk: &mut Walk<'_>) -> Progress {
        match std::mem::replace(&mut self.stage, Stage::Visit) {
            Stage::Visit => Progress::Moved,
            Stage::Seek(seek) => self.seek(seek, walk),
            Stage::Emit(next) => self.emit(next, walk),
            Stage::Follow(at) => self.follow(at, walk),
        }
    }

    /// Whether `out` holds enough for one piece.
    pub fn is_full(walk: &Walk<'_>) -> bool {
        walk.out.bytes.len() >= CHUNK_BYTES
    }

    /// Ends the walk where the floor stands: writes what `conflate` still holds, and a gap for what
    /// the tape lost of a symbol behind the last record that the walk met.
    pub fn end(&mut self, walk: &mut Walk<'_>) {
        for index in 0..self.plan.len() {
            let symbol = self.plan[index].0;
            if let Some(mut walked) = self.accounts.remove(&symbol) {
                self.release_held(&mut walked, walk);
                if self.replay_id().is_none() {
                    self.write_unseen(symbol, &walked.account, walk);
                }
                self.accounts.insert(symbol, walked);
            }
        }
    }

    /// A hole shows in the seq of the record behind it. Where the walk was lapped at a symbol's
    /// last records there is none, and the floor, which took them in time, says what they were.
    fn write_unseen(&self, symbol: SymbolId, walked: &Account, walk: &mut Walk<'_>) {
        let reached = walk.rows.account_at(symbol, walk.floor_at);
        if reached.epoch > walked.epoch {
            self.write_start(symbol, &reached, walk);
            return;
        }
        for channel in self.channels.iter() {
            match (walked.last[channel.index()], reached.last[channel.index()]) {
                (Some(last), Some(to)) if to > last => {
                    let gap = Missing {
                        channel,
                        epoch: walked.epoch,
                        from: Some(last + 1),
                        to: Some(to),
                        reason: GapReason::History,
                    };
                    self.write_gap(symbol, &gap, walked.epoch, walk);
                }
                (None, Some(to)) => {
                    let mut opened = Account {
                        epoch: walked.epoch,
                        last: [None; 2],
                    };
                    opened.last[channel.index()] = Some(to);
                    self.write_start(symbol, &opened, walk);
                }
                _ => {}
            }
        }
    }

    /// The symbol being walked.
    fn symbol(&self) -> SymbolId {
        self.plan[self.visited].0
    }

    // --- seeking ---

    fn seek(&mut self, mut seek: Box<Seek>, walk: &mut Walk<'_>) -> Progress {
        for _ in 0..RECORDS_PER_STEP {
            if let Some(found) = seek.hop(walk.tape) {
                return self.begin(&found, seek.epoch(), walk);
            }
        }
        self.stage = Stage::Seek(seek);
        Progress::More
    }

    // --- handing out ---

    /// Writes what precedes a symbol's records: `start`, `feed` if stale, the gaps of history.
    fn begin(&mut self, found: &[Found; 2], epoch: u64, walk: &mut Walk<'_>) -> Progress {
        let symbol = self.symbol();
        let epoch = opening_epoch(found).unwrap_or(epoch);
        let mut account = Account {
            epoch,
            last: found.map(|found| {
                let (_, seq) = found.covered.filter(|(own, _)| *own == epoch)?;
                Some(seq)
            }),
        };
        let opens = account.last.iter().any(Option::is_some)
            || found.iter().any(|found| found.closed.is_some());
        if opens {
            self.write_start(symbol, &account, walk);
            if self.replay_id().is_none() && walk.tape.feed(symbol) == Some(FeedState::Stale) {
                write_feed(symbol, epoch, FeedState::Stale, walk);
            }
        }
        for (channel, found) in Channel::BOTH.into_iter().zip(found) {
            for lost in [found.closed, found.lost].into_iter().flatten() {
                let gap = Missing {
                    channel,
                    epoch: lost.epoch,
                    from: lost.from,
                    to: lost.to,
                    reason: GapReason::History,
                };
                self.write_gap(symbol, &gap, epoch, walk);
                if let (true, Some(to)) = (lost.epoch == epoch, lost.to) {
                    account.last[channel.index()] = Some(to);
                }
            }
        }
        let held = [None; 2];
        self.accounts.insert(symbol, Walked { account, held });
        self.stage = Stage::Emit(Box::new(found.map(|found| found.first)));
        Progress::More
    }

    fn emit(&mut self, mut next: Box<[Option<Record>; 2]>, walk: &mut Walk<'_>) -> Progress {
        for _ in 0..RECORDS_PER_STEP {
            let earliest = next
                .iter()
                .enumerate()
                .filter_map(|(index, record)| record.map(|record| (record.position, index)))
                .min();
            let Some((_, index)) = earliest else {
                self.visited += 1;
                return Progress::Moved;
            };
            if let Some(record) = next[index] {
                self.hand_out(&record, walk);
                next[index] = self.successor(&record, walk);
            }
        }
        self.stage = Stage::Emit(next);
        Progress::More
    }

    /// The next record of the same channel before the mark. Where the writer lapped the walk, it
    /// goes on from the oldest record that is left; the hole shows in the seq.
    fn successor(&self, record: &Record, walk: &Walk<'_>) -> Option<Record> {
        let next = match walk.tape.next(record) {
            Ok(next) => next,
            Err(ReadError::Lapped { .. }) => oldest_retained(walk.tape, record),
            Err(ReadError::NotYet) => None,
        };
        next.filter(|next| next.position < self.mark)
    }

    fn follow(&mut self, mut at: Position, walk: &mut Walk<'_>) -> Progress {
        // Skipping costs a nanosecond, so a step may skip far more than it hands out.
        for _ in 0..RECORDS_PER_STEP * 64 {
            if at >= walk.floor_at {
                self.stage = Stage::Follow(at);
                return Progress::Reached;
            }
            let symbol = walk.tape.symbol_at(at);
            if self.accounts.contains_key(&symbol) {
                match walk.tape.read(at) {
                    Ok(record) => self.hand_out_live(&record, walk),
                    Err(ReadError::Lapped { oldest }) => {
                        at = oldest;
                        continue;
                    }
                    Err(ReadError::NotYet) => {}
                }
                if Self::is_full(walk) {
                    at = Position(at.0 + 1);
                    break;
                }
            }
            at = Position(at.0 + 1);
        }
        self.stage = Stage::Follow(at);
        Progress::More
    }

    fn hand_out_live(&mut self, record: &Record, walk: &mut Walk<'_>) {
        match record.event {
            Event::Feed(state) => {
                // A symbol without an account yet: its first `start` says that it is live.
                let account = self.accounts.get(&record.symbol).map(|own| own.account);
                if let Some(opened) = account.filter(Account::is_open) {
                    write_feed(record.symbol, opened.epoch, state, walk);
                }
            }
            Event::Tick { .. } | Event::Gap { .. } => self.hand_out(record, walk),
            Event::Carried(_) => {}
        }
    }

    /// Writes one tick or gap, and what the account asks for before it.
    fn hand_out(&mut self, record: &Record, walk: &mut Walk<'_>) {
        let Some(channel) = record
            .channel()
            .filter(|channel| self.channels.contains(*channel))
        else {
            return;
        };
        let symbol = record.symbol;
        let mut walked = self.accounts.get(&symbol).copied().unwrap_or_default();
        if record.epoch < walked.account.epoch {
            return;
        }
        if record.epoch > walked.account.epoch {
            self.release_held(&mut walked, walk);
            walked.account = Account {
                epoch: record.epoch,
                last: [None; 2],
            };
        }
        let before = record.first_seq() - 1;
        match walked.account.last[channel.index()] {
            None => {
                let mut opened = Account {
                    epoch: record.epoch,
                    last: [None; 2],
                };
                opened.last[channel.index()] = Some(before);
                self.write_start(symbol, &opened, walk);
            }
            Some(last) if record.last_seq() <= last => return,
            Some(last) if before > last => {
                self.release_channel(&mut walked, channel, walk);
                let gap = Missing {
                    channel,
                    epoch: record.epoch,
                    from: Some(last + 1),
                    to: Some(before),
                    reason: GapReason::History,
                };
                self.write_gap(symbol, &gap, record.epoch, walk);
            }
            Some(_) => {}
        }
        walked.account.last[channel.index()] = Some(record.last_seq());
        match record.event {
            Event::Gap {
                from, to, reason, ..
            } => {
                self.release_channel(&mut walked, channel, walk);
                let gap = Missing {
                    channel,
                    epoch: record.epoch,
                    from: Some(from),
                    to: Some(to),
                    reason,
                };
                self.write_gap(symbol, &gap, record.epoch, walk);
            }
            Event::Tick { .. } if self.mode == Mode::Stream => self.write_tick(record, 0, walk),
            Event::Tick { .. } => {
                let held = &mut walked.held[channel.index()];
                *held = Some((
                    *record,
                    held.map_or(0, |(_, skipped)| skipped.saturating_add(1)),
                ));
            }
            Event::Feed(_) | Event::Carried(_) => {}
        }
        self.accounts.insert(symbol, walked);
    }

    fn release_held(&self, walked: &mut Walked, walk: &mut Walk<'_>) {
        for channel in Channel::BOTH {
            self.release_channel(walked, channel, walk);
        }
    }

    fn release_channel(&self, walked: &mut Walked, channel: Channel, walk: &mut Walk<'_>) {
        if let Some((record, skipped)) = walked.held[channel.index()].take() {
            self.write_tick(&record, skipped, walk);
        }
    }

    // --- frames ---

    fn write_tick(&self, record: &Record, skipped: u32, walk: &mut Walk<'_>) {
        let marks = Marks {
            snapshot: false,
            skipped,
            replay: self.replay_id(),
        };
        let wire_id = walk.rows.wire_id(record.symbol, record.epoch);
        let name = walk.rows.name(record.symbol);
        encode::write_tick(
            &mut walk.out.bytes,
            walk.format,
            record,
            &name,
            wire_id,
            &marks,
        );
        walk.out.about(record.symbol);
        walk.ticks += 1;
    }

    /// Writes a `start` for the channels of this request that `account` knows.
    pub fn write_start(&self, symbol: SymbolId, account: &Account, walk: &mut Walk<'_>) {
        let start = Start {
            symbol: walk.rows.name(symbol),
            epoch: account.epoch,
            trade: account.last_of(Channel::Trade, self.channels),
            quote: account.last_of(Channel::Quote, self.channels),
            replay: self.replay_id(),
        };
        let wire_id = walk.rows.wire_id(symbol, account.epoch);
        encode::write_start(&mut walk.out.bytes, walk.format, &start, wire_id);
        walk.out.about(symbol);
    }

    /// Writes a `gap`; SBE names the symbol by the id of `wire_epoch`, which has been defined.
    fn write_gap(&self, symbol: SymbolId, missing: &Missing, wire_epoch: u64, walk: &mut Walk<'_>) {
        let gap = Gap {
            symbol: walk.rows.name(symbol),
            channel: missing.channel,
            epoch: missing.epoch,
            from: missing.from,
            to: missing.to,
            reason: missing.reason,
            replay: self.replay_id(),
        };
        let wire_id = walk.rows.wire_id(symbol, wire_epoch);
        encode::write_gap(&mut walk.out.bytes, walk.format, &gap, wire_id);
        walk.out.about(symbol);
    }
}

/// The epoch in which the account opens. Channels may begin in different epochs: the older account
/// opens, the newer one follows with a `start` of its own when its first record comes.
fn opening_epoch(found: &[Found; 2]) -> Option<u64> {
    let epochs = |found: &Found| found.covered.map(|(epoch, _)| epoch);
    let replayed = found.iter().filter(|found| found.first.is_some());
    let oldest = replayed.filter_map(epochs).min();
    oldest.or_else(|| found.iter().filter_map(epochs).max())
}

fn write_feed(symbol: SymbolId, epoch: u64, state: FeedState, walk: &mut Walk<'_>) {
    let wire_id = walk.rows.wire_id(symbol, epoch);
    let name = walk.rows.name(symbol);
    encode::write_feed(&mut walk.out.bytes, walk.format, name, state, wire_id);
    walk.out.about(symbol);
}

/// The oldest record of a channel that is left, when the walk at `lost` was lapped.
fn oldest_retained(tape: &Tape, lost: &Record) -> Option<Record> {
    let mut at = tape.newest(lost.symbol, lost.channel()?)?;
    while let Ok(Some(previous)) = tape.previous(&at) {
        if previous.position <= lost.position {
            break;
        }
        at = previous;
    }
    (at.position > lost.position).then_some(at)
}

#[cfg(test)]
mod tests;
