//! The market, and the engine's side of a connection.

use std::collections::VecDeque;

use crate::{
    cursor::Cursor,
    pattern::{Pattern, Selector},
    reply::{Accepted, Ack, AckBody, Gap, GapReason, Reply, Start},
    request::{Mode, Op, Point, Request, Subscribe},
    symbol::Symbol,
    tick::{Body, Channel, Identity, Marks, Tick, Values},
};

pub(super) const SYMBOLS: [&str; 4] = ["A", "B1", "B2", "C"];

/// One entry of the tape: the seqs `from..=to` of a channel, as a tick or as a hole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) symbol: usize,
    pub(super) channel: Channel,
    pub(super) epoch: u64,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) is_tick: bool,
}

impl Record {
    pub(super) fn is_of(&self, symbol: usize, channel: Channel, epoch: u64) -> bool {
        (self.symbol, self.channel, self.epoch) == (symbol, channel, epoch)
    }

    pub(super) fn tick(&self) -> Tick {
        // The price tells ticks apart, so that a mix-up shows.
        let price = (self.epoch * 1_000_000 + self.from * 10 + self.symbol as u64).cast_signed();
        let body = match self.channel {
            Channel::Trade => Body::Trade {
                price,
                size: None,
                side: None,
            },
            Channel::Quote => Body::Quote {
                bid: price,
                bid_size: None,
                ask: price,
                ask_size: None,
            },
        };
        Tick {
            symbol: symbol(self.symbol),
            identity: Identity {
                epoch: self.epoch,
                seq: self.from,
            },
            ts_ns: 0,
            values: Values {
                price_exponent: 0,
                size_exponent: 0,
                body,
            },
        }
    }

    pub(super) fn gap(&self, reason: GapReason) -> Gap {
        Gap {
            symbol: symbol(self.symbol),
            channel: self.channel,
            epoch: self.epoch,
            from: Some(self.from),
            to: Some(self.to),
            reason,
            replay: None,
        }
    }
}

pub(super) fn symbol(index: usize) -> Symbol {
    Symbol::parse(SYMBOLS[index]).unwrap()
}

pub(super) fn index_of(symbol: Symbol) -> usize {
    SYMBOLS
        .iter()
        .position(|name| *name == symbol.as_str())
        .unwrap()
}

/// What was published, and how much of it history still holds.
#[derive(Default)]
pub(super) struct Tape {
    pub(super) records: Vec<Record>,
    pub(super) oldest: usize,
    pub(super) epochs: [u64; SYMBOLS.len()],
    pub(super) last: [[u64; 2]; SYMBOLS.len()],
}

impl Tape {
    /// Publishes after a hole of `hole` seqs.
    pub(super) fn publish(&mut self, symbol: usize, channel: Channel, hole: u64) -> Vec<Record> {
        let epoch = self.epochs[symbol];
        let last = &mut self.last[symbol][channel.index()];
        let record = |from, to, is_tick| Record {
            symbol,
            channel,
            epoch,
            from,
            to,
            is_tick,
        };
        let mut new = Vec::new();
        if hole > 0 {
            new.push(record(*last + 1, *last + hole, false));
        }
        *last += hole + 1;
        new.push(record(*last, *last, true));
        self.records.extend(&new);
        new
    }

    pub(super) fn new_epoch(&mut self, symbol: usize, base: u64) {
        self.epochs[symbol] += 1;
        self.last[symbol] = [base, base + 5];
    }

    /// The symbol's epoch as its subscribers know it: a new one begins with its first tick.
    pub(super) fn current(&self, symbol: usize) -> u64 {
        self.records
            .iter()
            .rfind(|record| record.symbol == symbol)
            .map_or(1, |record| record.epoch)
    }

    /// Where the channel stands just before `position`; `None` before its first tick.
    pub(super) fn at_before(
        &self,
        position: usize,
        symbol: usize,
        channel: Channel,
        epoch: u64,
    ) -> Option<u64> {
        let before = &self.records[..position.min(self.records.len())];
        before
            .iter()
            .rfind(|record| record.is_of(symbol, channel, epoch))
            .map(|record| record.to)
    }

    pub(super) fn base_before(&self, symbol: usize, channel: Channel, epoch: u64) -> Option<u64> {
        self.records
            .iter()
            .find(|record| record.is_of(symbol, channel, epoch))
            .map(|record| record.from - 1)
    }
}

/// One subscribed symbol of a connection.
#[derive(Clone, Copy, Default)]
pub(super) struct Account {
    pub(super) live: bool,
    pub(super) epoch: u64,
    pub(super) opened: [bool; 2],
    pub(super) held: [Option<Record>; 2],
    pub(super) skipped: [u32; 2],
}

/// The engine's side of one connection.
pub(super) struct Connection {
    pub(super) queue: VecDeque<Reply>,
    pub(super) accounts: [Account; SYMBOLS.len()],
    pub(super) mode: Mode,
    /// Whether a `history` gap precedes its `start`.
    pub(super) gap_first: bool,
    /// Records that a cursor's replay goes further back than the cursor, as on another host.
    pub(super) overlap: usize,
}

impl Connection {
    pub(super) fn request(&mut self, tape: &Tape, request: Request) {
        let Op::Subscribe(subscribe) = request.op else {
            panic!("{:?}", request.op)
        };
        let accepted = Accepted {
            symbols: subscribe
                .selection
                .selectors
                .iter()
                .filter_map(as_symbol)
                .collect(),
            patterns: subscribe
                .selection
                .selectors
                .iter()
                .filter_map(as_pattern)
                .collect(),
            ..Accepted::default()
        };
        self.queue.push_back(Reply::Ack(Ack {
            id: request.id,
            body: AckBody::Subscribe(accepted),
        }));
        self.mode = subscribe.mode;
        for index in 0..SYMBOLS.len() {
            if subscribe
                .selection
                .selectors
                .iter()
                .any(|selector| selector.matches(&symbol(index)))
            {
                self.subscribe(tape, index, &subscribe);
            }
        }
        if subscribe.since.is_some() {
            self.queue.push_back(Reply::Replayed {
                id: request.id,
                cursor: None,
            });
        }
        // With several requests, the first of these cursors cover the first of them only.
        self.send_cursor(tape);
    }

    /// A tick that is held keeps the position before it, so the model sends none then.
    pub(super) fn send_cursor(&mut self, tape: &Tape) {
        if self
            .accounts
            .iter()
            .all(|account| account.held == [None; 2])
        {
            let position = tape.records.len() as u64;
            self.queue.push_back(Reply::Cursor(Cursor {
                tape: 1,
                position,
                admitted_ns: 0,
            }));
        }
    }

    pub(super) fn subscribe(&mut self, tape: &Tape, index: usize, subscribe: &Subscribe) {
        assert!(
            !self.accounts[index].live,
            "{} is subscribed to twice",
            SYMBOLS[index]
        );
        self.accounts[index].live = true;
        let end = tape.records.len();
        let Some(since) = &subscribe.since else {
            self.start(tape, index, tape.current(index), end);
            self.snapshot(tape, index);
            return;
        };
        let point = since.points.iter().find(|(name, _)| *name == symbol(index));
        match (point, since.cursor) {
            (Some((_, point)), _) => self.resume_at_point(tape, index, *point),
            (None, Some(cursor)) => {
                let position = usize::try_from(cursor.position)
                    .unwrap()
                    .saturating_sub(self.overlap);
                self.resume_at_position(tape, index, position);
            }
            (None, None) => self.resume_at_position(tape, index, 0),
        }
        self.flush(index);
    }

    /// Opens the channels that have a tick of `epoch` before `position`.
    pub(super) fn start(&mut self, tape: &Tape, index: usize, epoch: u64, position: usize) {
        let at = Channel::BOTH.map(|channel| tape.at_before(position, index, channel, epoch));
        self.push_start(index, epoch, at);
    }

    pub(super) fn push_start(&mut self, index: usize, epoch: u64, at: [Option<u64>; 2]) {
        let account = &mut self.accounts[index];
        if account.epoch != epoch {
            account.epoch = epoch;
            account.opened = [false; 2];
        }
        for channel in Channel::BOTH {
            account.opened[channel.index()] |= at[channel.index()].is_some();
        }
        if at != [None; 2] {
            let [trade, quote] = at;
            let start = Start {
                symbol: symbol(index),
                epoch,
                trade,
                quote,
                replay: None,
            };
            self.queue.push_back(Reply::Start(start));
        }
    }

    pub(super) fn snapshot(&mut self, tape: &Tape, index: usize) {
        for channel in Channel::BOTH {
            let is_last = |record: &&Record| {
                record.is_of(index, channel, tape.current(index)) && record.is_tick
            };
            if let Some(record) = tape.records.iter().rfind(is_last) {
                let marks = Marks {
                    snapshot: true,
                    ..Marks::default()
                };
                self.queue.push_back(Reply::Tick(record.tick(), marks));
            }
        }
    }

    pub(super) fn resume_at_position(&mut self, tape: &Tape, index: usize, position: usize) {
        let of_symbol = |record: &&Record| record.symbol == index;
        let within = position >= tape.oldest;
        let position = position.max(tape.oldest);
        let before = tape.records[..position].iter().rfind(of_symbol);
        let Some(epoch) = before.map(|record| record.epoch) else {
            self.replay(tape, index, position, |_| true);
            return;
        };
        // Where history no longer reaches back, nobody knows from where on ticks are missing.
        let first = tape.records[position..]
            .iter()
            .find(of_symbol)
            .map_or(epoch, |record| record.epoch);
        let (epoch, gaps) = if within {
            (epoch, vec![])
        } else {
            (first, Self::unknown(tape, index, first, position))
        };
        self.open(gaps, |connection| {
            connection.start(tape, index, epoch, position);
        });
        self.replay(tape, index, position, |_| true);
    }

    fn unknown(tape: &Tape, index: usize, epoch: u64, position: usize) -> Vec<Gap> {
        let gap = |channel| {
            let to = tape.at_before(position, index, channel, epoch)?;
            let record = Record {
                symbol: index,
                channel,
                epoch,
                from: 1,
                to,
                is_tick: false,
            };
            Some(Gap {
                from: None,
                ..record.gap(GapReason::History)
            })
        };
        Channel::BOTH.into_iter().filter_map(gap).collect()
    }

    pub(super) fn resume_at_point(&mut self, tape: &Tape, index: usize, point: Point) {
        let epoch = tape.current(index);
        let known = [point.trade, point.quote];
        let mut at = Channel::BOTH.map(|channel| tape.base_before(index, channel, epoch));
        let mut gaps = Vec::new();
        for channel in Channel::BOTH {
            match (known[channel.index()], &mut at[channel.index()]) {
                (Some(known), Some(at)) if point.epoch == epoch => *at = known,
                // The channel has no tick yet, but the client's account is open.
                (Some(known), at) if point.epoch == epoch => *at = Some(known),
                (Some(known), _) => {
                    let (from, to) = (known + 1, known + 1);
                    let old = Record {
                        symbol: index,
                        channel,
                        epoch: point.epoch,
                        from,
                        to,
                        is_tick: false,
                    };
                    gaps.push(Gap {
                        to: None,
                        ..old.gap(GapReason::History)
                    });
                }
                (None, _) => {}
            }
        }
        for channel in Channel::BOTH {
            let Some(at) = at[channel.index()] else {
                continue;
            };
            let evicted = tape.records[..tape.oldest]
                .iter()
                .rfind(|record| record.is_of(index, channel, epoch));
            if let Some(to) = evicted.map(|record| record.to).filter(|&to| to > at) {
                let lost = Record {
                    symbol: index,
                    channel,
                    epoch,
                    from: at + 1,
                    to,
                    is_tick: false,
                };
                gaps.push(lost.gap(GapReason::History));
            }
        }
        self.open(gaps, |connection| connection.push_start(index, epoch, at));
        let is_after = |record: &Record| {
            record.epoch == epoch && at[record.channel.index()].is_none_or(|at| record.to > at)
        };
        self.replay(tape, index, tape.oldest, is_after);
    }

    pub(super) fn open(&mut self, gaps: Vec<Gap>, start: impl FnOnce(&mut Self)) {
        let gaps = gaps.into_iter().map(Reply::Gap);
        if self.gap_first {
            self.queue.extend(gaps);
            start(self);
        } else {
            start(self);
            self.queue.extend(gaps);
        }
    }

    pub(super) fn replay(
        &mut self,
        tape: &Tape,
        index: usize,
        position: usize,
        wanted: impl Fn(&Record) -> bool,
    ) {
        for record in tape.records[position..]
            .iter()
            .filter(|record| record.symbol == index && wanted(record))
        {
            self.record(record);
        }
    }

    /// Sends, holds or drops one record of a subscribed symbol.
    pub(super) fn record(&mut self, record: &Record) {
        let (index, channel) = (record.symbol, record.channel.index());
        if !self.accounts[index].live {
            return;
        }
        if self.accounts[index].epoch != record.epoch {
            self.flush(index);
        }
        if self.accounts[index].epoch != record.epoch || !self.accounts[index].opened[channel] {
            let mut at = [None; 2];
            at[channel] = Some(record.from - 1);
            self.push_start(index, record.epoch, at);
        }
        let conflates = matches!(self.mode, Mode::Conflate { .. });
        let account = &mut self.accounts[index];
        match (record.is_tick, conflates) {
            (true, false) => self
                .queue
                .push_back(Reply::Tick(record.tick(), Marks::default())),
            (true, true) => {
                account.skipped[channel] += u32::from(account.held[channel].is_some());
                account.held[channel] = Some(*record);
            }
            (false, _) => {
                account.skipped[channel] += u32::from(account.held[channel].take().is_some());
                self.queue
                    .push_back(Reply::Gap(record.gap(GapReason::Source)));
            }
        }
    }

    /// Ends a `conflate` interval.
    pub(super) fn flush(&mut self, index: usize) {
        for channel in 0..2 {
            let account = &mut self.accounts[index];
            if let Some(record) = account.held[channel].take() {
                let skipped = std::mem::take(&mut account.skipped[channel]);
                self.queue.push_back(Reply::Tick(
                    record.tick(),
                    Marks {
                        skipped,
                        ..Marks::default()
                    },
                ));
            }
        }
    }
}

pub(super) fn as_symbol(selector: &Selector) -> Option<Symbol> {
    match selector {
        Selector::Symbol(symbol) => Some(*symbol),
        Selector::Pattern(_) => None,
    }
}

pub(super) fn as_pattern(selector: &Selector) -> Option<Pattern> {
    match selector {
        Selector::Symbol(_) => None,
        Selector::Pattern(pattern) => Some(*pattern),
    }
}
