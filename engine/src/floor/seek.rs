//! Seeking: where on the tape one symbol's replay begins.

use tickwire_proto::{
    request::{Point, Since},
    symbol::Symbol,
    tick::{Channel, Channels},
};

use crate::tape::{Position, ReadError, Record, SymbolId, Tape};

/// The search back from the newest record of each channel to the oldest that the client lacks.
pub struct Seek {
    symbol: SymbolId,
    channels: Channels,
    /// Records from here on are not the walk's.
    mark: Position,
    /// The symbol's epoch at the mark; a later one comes with the records behind it.
    epoch: u64,
    lacks: Lacks,
    /// The channel being searched, by its number.
    channel: usize,
    at: Option<Record>,
    found: [Found; 2],
}

/// What the client lacks of the symbol.
#[derive(Clone, Copy, Debug)]
enum Lacks {
    /// What follows its own point, in the current epoch.
    After(Point),
    /// What stands at or behind a position, whatever its epoch.
    From(Position),
    /// All that is retained: its cursor is of another tape.
    Retained,
    /// The current epoch from its base.
    Epoch,
}

/// Where one channel's replay begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// The first record to hand out.
    pub first: Option<Record>,
    /// The account before it: (epoch, last seq covered).
    pub covered: Option<(u64, u64)>,
    /// The account of an older epoch that the client's point left open.
    pub closed: Option<Lost>,
    /// Ticks wanted that are no longer retained.
    pub lost: Option<Lost>,
}

/// A `gap` of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Its epoch.
    pub epoch: u64,
    /// First seq lost; `None` where only a cursor was given.
    pub from: Option<u64>,
    /// Last seq lost; `None` closes an older epoch's account.
    pub to: Option<u64>,
}

fn seen(point: &Point, channel: Channel) -> Option<u64> {
    match channel {
        Channel::Trade => point.trade,
        Channel::Quote => point.quote,
    }
}

impl Seek {
    /// A search that has not begun, for records before `mark`.
    pub fn new(
        tape: &Tape,
        symbol: SymbolId,
        name: &Symbol,
        channels: Channels,
        since: &Since,
        mark: Position,
    ) -> Self {
        let epoch = Channel::BOTH
            .into_iter()
            .filter_map(|channel| tape.newest_before(symbol, channel, mark).ok().flatten())
            .map(|newest| newest.epoch)
            .max();
        let point = since.points.iter().find(|(own, _)| own == name);
        let lacks = match (point, since.cursor) {
            (Some((_, point)), _) => Lacks::After(*point),
            (None, Some(cursor)) if cursor.tape == tape.id() => {
                Lacks::From(Position(cursor.position))
            }
            (None, Some(_)) => Lacks::Retained,
            (None, None) => Lacks::Epoch,
        };
        Self {
            symbol,
            channels,
            mark,
            epoch: epoch.unwrap_or(0),
            lacks,
            channel: 0,
            at: None,
            found: [Found::default(); 2],
        }
    }

    /// The symbol's epoch at the mark; 0 where it has no tick.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// One hop back; some result once the beginnings of both channels are found.
    pub fn hop(&mut self, tape: &Tape) -> Option<[Found; 2]> {
        let Some(&channel) = Channel::BOTH.get(self.channel) else {
            return Some(self.found);
        };
        if self.channels.contains(channel) {
            let found = self.hop_channel(tape, channel)?;
            self.found[self.channel] = Found {
                closed: self.closed_epoch(channel),
                ..found
            };
        }
        self.channel += 1;
        self.at = None;
        None
    }

    fn hop_channel(&mut self, tape: &Tape, channel: Channel) -> Option<Found> {
        let Some(record) = self.at else {
            let newest = tape.newest_before(self.symbol, channel, self.mark);
            let Ok(Some(newest)) = newest else {
                return Some(Found::default());
            };
            if !self.lacks(&newest, channel) {
                return Some(self.has_everything(&newest));
            }
            self.at = Some(newest);
            return None;
        };
        if let Some(found) = self.spans_point(&record, channel) {
            return Some(found);
        }
        match tape.previous(&record) {
            Ok(Some(previous)) if self.lacks(&previous, channel) => {
                self.at = Some(previous);
                None
            }
            Ok(Some(previous)) if previous.epoch == record.epoch => {
                Some(begins_with(&record, previous.last_seq()))
            }
            // The base of its epoch.
            Ok(_) => Some(begins_with(&record, record.first_seq() - 1)),
            Err(ReadError::Lapped { .. } | ReadError::NotYet) => {
                Some(self.history_ends(tape, &record, channel))
            }
        }
    }

    fn lacks(&self, record: &Record, channel: Channel) -> bool {
        match self.lacks {
            Lacks::After(point) if point.epoch == self.epoch => {
                record.epoch == self.epoch
                    && seen(&point, channel).is_none_or(|seen| record.last_seq() > seen)
            }
            // A point ahead of this host's epoch lacks nothing.
            Lacks::After(point) => record.epoch == self.epoch && point.epoch < self.epoch,
            Lacks::From(position) => record.position >= position,
            Lacks::Retained => true,
            Lacks::Epoch => record.epoch == self.epoch,
        }
    }

    /// The client has everything, or stands ahead of this host: the account begins where the
    /// host stands.
    fn has_everything(&self, newest: &Record) -> Found {
        let current = newest.epoch == self.epoch;
        Found {
            covered: current.then(|| (newest.epoch, newest.last_seq())),
            ..Found::default()
        }
    }

    /// A record that reaches over the point is handed out whole, and the client clips it.
    fn spans_point(&self, record: &Record, channel: Channel) -> Option<Found> {
        let Lacks::After(point) = self.lacks else {
            return None;
        };
        let seen = seen(&point, channel).filter(|_| record.epoch == point.epoch)?;
        (record.first_seq() <= seen + 1).then(|| begins_with(record, seen))
    }

    /// A point in an older epoch leaves that epoch's account open.
    fn closed_epoch(&self, channel: Channel) -> Option<Lost> {
        let Lacks::After(point) = self.lacks else {
            return None;
        };
        let seen = seen(&point, channel).filter(|_| point.epoch < self.epoch)?;
        Some(Lost {
            epoch: point.epoch,
            from: Some(seen + 1),
            to: None,
        })
    }

    /// History does not reach back to what the client has.
    fn history_ends(&self, tape: &Tape, first: &Record, channel: Channel) -> Found {
        let before_first = first.first_seq() - 1;
        let base = || {
            tape.base(self.symbol, channel)
                .filter(|(epoch, _)| *epoch == first.epoch)
                .map(|(_, seq)| seq - 1)
        };
        let covered = match self.lacks {
            Lacks::After(point) if point.epoch == first.epoch => {
                seen(&point, channel).or_else(base)
            }
            // The record before is gone, but it was covered.
            Lacks::From(position) if first.previous.is_some_and(|at| at < position) => {
                Some(before_first)
            }
            Lacks::From(_) | Lacks::Retained => None,
            Lacks::After(_) | Lacks::Epoch => base(),
        };
        Found {
            lost: (covered != Some(before_first)).then_some(Lost {
                epoch: first.epoch,
                from: covered.map(|covered| covered + 1),
                to: Some(before_first),
            }),
            ..begins_with(first, covered.unwrap_or(before_first))
        }
    }
}

fn begins_with(first: &Record, covered: u64) -> Found {
    Found {
        first: Some(*first),
        covered: Some((first.epoch, covered)),
        ..Found::default()
    }
}
