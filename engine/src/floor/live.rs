//! Live ticks: from the tape to the outboxes of those who subscribe.

use std::rc::Rc;

use tickwire_proto::{
    reply::{Gap, GapReason, Start},
    tick::{Channel, Channels, FeedState},
    upgrade::Subprotocol,
};

use super::{
    Floor, connection::Connection, encode, mark_dirty, outbox::Queued, rows::Account,
    rows::Subscriber, stream::Stream,
};
use crate::{
    clock::Millis,
    config::Config,
    tape::{Event, Position, ReadError, Record, SymbolId},
};

/// A frame of each format, encoded when the first subscriber of that format needs it.
type Frames = [Option<Rc<[u8]>>; 2];

impl Floor {
    /// Takes records from the tape, at most `ticks_per_turn` of interest; false when none was new.
    pub(super) fn take_live(&mut self) -> bool {
        self.take_newborn();
        let head = self.tape.head();
        if self.at >= head {
            return false;
        }
        let mut taken = 0;
        while self.at < head && taken < self.config.ticks_per_turn {
            self.at = self.tape.first_wanted(self.at..head, self.rows.wanted());
            if self.at == head {
                break;
            }
            // A symbol that this floor has not met yet was born after `take_newborn`.
            if self.rows.takes_in(self.tape.symbol_at(self.at)) {
                self.take_newborn();
                continue;
            }
            match self.tape.read(self.at) {
                Ok(record) => {
                    self.at = Position(self.at.0 + 1);
                    self.admitted_ns = record.admitted_ns;
                    self.fan_out(&record);
                    taken += 1;
                }
                Err(ReadError::Lapped { oldest }) => {
                    // What was missed shows in the next seq of each symbol, as a gap `overrun`.
                    self.metrics.laps.inc();
                    self.at = oldest;
                }
                Err(ReadError::NotYet) => break,
            }
        }
        true
    }

    /// Meets symbols that ingest has added, on behalf of the patterns that match them.
    pub(super) fn take_newborn(&mut self) {
        while let Some((id, name)) = self.rows.next_newborn() {
            let followers: Vec<u32> = self.pattern_followers.clone();
            for index in followers {
                self.follow_newborn(index, id, &name);
            }
            // A symbol named by itself before anyone published it.
            let pending: Vec<u32> = self.pending.remove(&name).unwrap_or_default();
            for index in pending {
                self.follow_newborn(index, id, &name);
            }
        }
    }

    fn follow_newborn(&mut self, index: u32, id: SymbolId, name: &tickwire_proto::symbol::Symbol) {
        let Some(connection) = self.connections.get(index as usize) else {
            return;
        };
        if connection.members.contains_key(&id) || connection.closing.is_some() {
            return;
        }
        if let Some((_, options)) = connection
            .selections
            .governing(name, connection.rights.symbols())
        {
            self.become_member(index, id, options);
        }
    }

    /// Hands one record to everyone who subscribes to its symbol.
    fn fan_out(&mut self, record: &Record) {
        match record.event {
            Event::Feed(state) => self.fan_out_feed(record.symbol, state),
            Event::Carried(_) => {}
            Event::Gap {
                channel,
                from,
                to,
                reason,
            } => {
                self.open_accounts(record, channel, from);
                self.fan_out_gap(record, channel, from, to, reason);
                self.rows
                    .row(record.symbol)
                    .account
                    .note(channel, record.epoch, to);
            }
            Event::Tick { seq, values, .. } => {
                let channel = values.channel();
                self.open_accounts(record, channel, seq);
                self.fan_out_tick(record, channel, seq);
                self.rows
                    .row(record.symbol)
                    .account
                    .note(channel, record.epoch, seq);
            }
        }
    }

    /// Sends what must precede a record with `first_seq`: a `start` where its epoch or channel
    /// is new, a gap where this floor itself was lapped.
    fn open_accounts(&mut self, record: &Record, channel: Channel, first_seq: u64) {
        let account = self.rows.row(record.symbol).account;
        let last = if account.epoch == record.epoch {
            account.last[channel.index()]
        } else {
            None
        };
        match last {
            Some(last) if first_seq > last + 1 => {
                self.metrics.overrun_ticks.inc_by(first_seq - last - 1);
                self.fan_out_gap(record, channel, last + 1, first_seq - 1, GapReason::Overrun);
            }
            Some(_) => {}
            None => self.fan_out_start(record, channel, first_seq - 1),
        }
    }

    fn fan_out_start(&mut self, record: &Record, channel: Channel, before: u64) {
        let mut account = Account {
            epoch: record.epoch,
            last: [None; 2],
        };
        account.last[channel.index()] = Some(before);
        let start = Start {
            symbol: self.rows.name(record.symbol),
            epoch: record.epoch,
            trade: account.last[0],
            quote: account.last[1],
            replay: None,
        };
        let wire_id = self.rows.wire_id(record.symbol, record.epoch);
        self.fan_out_frame(
            record.symbol,
            channel.into(),
            Channels::BOTH,
            |out, format| {
                encode::write_start(out, format, &start, wire_id);
            },
        );
    }

    fn fan_out_gap(
        &mut self,
        record: &Record,
        channel: Channel,
        from: u64,
        to: u64,
        reason: GapReason,
    ) {
        let gap = Gap {
            symbol: self.rows.name(record.symbol),
            channel,
            epoch: record.epoch,
            from: Some(from),
            to: Some(to),
            reason,
            replay: None,
        };
        let wire_id = self.rows.wire_id(record.symbol, record.epoch);
        self.metrics.gaps(reason).inc();
        self.fan_out_frame(
            record.symbol,
            channel.into(),
            channel.into(),
            |out, format| {
                encode::write_gap(out, format, &gap, wire_id);
            },
        );
    }

    /// Who has no account of the symbol yet learns from its first `start` that it is live.
    fn fan_out_feed(&mut self, symbol: SymbolId, state: FeedState) {
        let name = self.rows.name(symbol);
        let Account { epoch, last } = self.rows.row(symbol).account;
        let opened = Channels::BOTH
            .iter()
            .filter(|channel| last[channel.index()].is_some())
            .fold(Channels::NONE, Channels::with);
        if opened.is_empty() {
            return;
        }
        let wire_id = self.rows.wire_id(symbol, epoch);
        self.fan_out_frame(symbol, opened, Channels::BOTH, |out, format| {
            encode::write_feed(out, format, name, state, wire_id);
        });
    }

    /// Queues one frame for every subscriber with any of `channels`, behind what is held of `held`.
    fn fan_out_frame(
        &mut self,
        symbol: SymbolId,
        channels: Channels,
        held: Channels,
        write: impl Fn(&mut Vec<u8>, Subprotocol),
    ) {
        let mut frames = Frames::default();
        let row = self.rows.row(symbol);
        let subscribers = std::mem::take(&mut row.subscribers);
        let audiences = std::mem::take(&mut row.audiences);
        let wanted = |own: Channels| channels.iter().any(|channel| own.contains(channel));
        let single = subscribers
            .iter()
            .filter(|subscriber| wanted(subscriber.channels))
            .map(|subscriber| (subscriber.connection, subscriber.conflate));
        let members = audiences
            .iter()
            .filter(|listeners| wanted(listeners.channels))
            .flat_map(|listeners| self.audiences.members(listeners.audience))
            .map(|index| (*index, false));
        for (index, conflate) in single.chain(members) {
            let Some(connection) = self.connections.get_mut(index as usize) else {
                continue;
            };
            let frame = frames[connection.format as usize].get_or_insert_with(|| {
                let mut frame = Vec::new();
                write(&mut frame, connection.format);
                frame.into()
            });
            let frame = Rc::clone(frame);
            if conflate {
                release_before(
                    connection,
                    symbol,
                    held,
                    self.now,
                    self.config.lag_soft_ticks,
                );
            }
            if connection.outbox.is_lagging() {
                connection
                    .outbox
                    .settle(symbol, connection.format, &mut self.rows);
            }
            connection.outbox.push_frame(symbol, frame);
            mark_dirty(&mut self.dirty, connection, index);
        }
        let row = self.rows.row(symbol);
        (row.subscribers, row.audiences) = (subscribers, audiences);
    }

    fn fan_out_tick(&mut self, record: &Record, channel: Channel, seq: u64) {
        let tick = Queued {
            position: record.position,
            stream: Stream::new(record.symbol, channel),
            epoch: record.epoch,
            seq,
            skipped: 0,
        };
        let lag_soft_ticks = self.config.lag_soft_ticks;
        let mut dropped = 0;
        for &Subscriber {
            connection: index,
            channels,
            conflate,
        } in &self.rows.row(record.symbol).subscribers
        {
            if !channels.contains(channel) {
                continue;
            }
            let Some(connection) = self.connections.get_mut(index as usize) else {
                continue;
            };
            if conflate {
                let Some(conflation) = connection.conflation(record.symbol) else {
                    continue;
                };
                let Some(tick) = conflation.take(tick, self.now) else {
                    if let Some(due) = conflation.release_at() {
                        self.timers
                            .arm(&mut connection.armed, due, index, connection.generation);
                    }
                    continue;
                };
                dropped += connection.outbox.push_tick(tick, lag_soft_ticks);
            } else {
                dropped += connection.outbox.push_tick(tick, lag_soft_ticks);
            }
            // Most ticks of a client with a latency budget come while it runs.
            if connection.holding && has_room(connection, &self.config) {
                continue;
            }
            mark_dirty(&mut self.dirty, connection, index);
        }
        self.counts.dropped_ticks += dropped;
        self.fan_out_to_audiences(tick, channel);
        self.untold_admitted_ns.push(record.admitted_ns);
    }
}

/// Whether more ticks may be held back. Not part of the loop, which is shorter without it.
#[inline(never)]
fn has_room(connection: &Connection, config: &Config) -> bool {
    connection.outbox.waiting_bytes() < config.hold_bytes_max
}

/// Sends what is held of `channels` before a frame that may not overtake it.
fn release_before(
    connection: &mut Connection,
    symbol: SymbolId,
    channels: Channels,
    now: Millis,
    lag_soft_ticks: usize,
) {
    for channel in channels.iter() {
        let released = connection
            .conflation(symbol)
            .and_then(|conflation| conflation.release_channel(channel, now));
        if let Some(tick) = released {
            connection.outbox.push_tick(tick, lag_soft_ticks);
        }
    }
}
