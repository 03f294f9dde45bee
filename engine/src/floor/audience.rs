//! Audiences: subscribers who get exactly the same ticks get them as one.
//!
//! A tick costs a floor something for everyone whom it queues it for. So subscribers of the same
//! symbols and channels in the same format share one [`Log`] of ticks, and each of them keeps but
//! its place in it: a tick is added once, and the next send of each member is a stretch of the log,
//! often the very same bytes. Who has no like stays by itself, and pays nothing for this.
//!
//! An audience with a latency budget is held as one: its first tick begins the hold, and nobody is
//! looked at before its end.
//!
//! A member is one only while all that it gets are the log's ticks and frames of its own. Whatever
//! changes what it follows, or drops ticks of it alone, makes it leave with a copy of what waits.

use std::{
    collections::VecDeque,
    hash::{Hash, Hasher},
    rc::Rc,
};

use rustc_hash::{FxHashMap, FxHasher};
use slab::Slab;
use tickwire_proto::{
    tick::{Channel, Channels},
    upgrade::Subprotocol,
};

use super::{
    Floor,
    connection::{Connection, hold_end},
    connection_at,
    log::Log,
    mark_dirty,
    outbox::{Queued, TICK_BYTES},
    rows::{Listeners, Subscriber},
};
use crate::{clock::Millis, tape::SymbolId};

/// Most symbols of an audience: entering and leaving one takes time for each.
const SYMBOLS_MAX: usize = 64;
/// Ticks of a log below which nobody looks whether all members have gone past them.
const LOG_KEPT: usize = 64;

/// What an audience follows, and how.
#[derive(PartialEq, Eq, Hash)]
struct Interest {
    format: Subprotocol,
    max_delay_ms: u16,
    /// In the order of symbols.
    channels: Vec<(SymbolId, Channels)>,
}

impl Interest {
    /// What it is found by.
    fn digest(&self) -> u64 {
        let mut hasher = FxHasher::default();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// Subscribers who get the same ticks.
struct Audience {
    interest: Interest,
    log: Rc<Log>,
    /// Indices of connections.
    members: Vec<u32>,
    /// Members, with their generations, that are to be told of the next tick.
    listeners: Vec<(u32, u32)>,
    /// No member is before this index of the log.
    oldest: u32,
    /// Length of the log from which on it is looked over.
    review_at: usize,
    /// The hold of a latency budget, while one runs.
    hold: Option<Hold>,
}

/// Ticks wait for more.
#[derive(Clone, Copy)]
struct Hold {
    /// The index of the first one.
    from: u32,
    /// When it ends.
    until: Millis,
}

impl Audience {
    /// Whether a member may lag, or the log may hold what nobody wants any more.
    fn is_to_be_reviewed(&self, lag_soft_ticks: usize) -> bool {
        let waiting = self.log.end().wrapping_sub(self.oldest) as usize;
        waiting > lag_soft_ticks || self.log.len() >= self.review_at
    }

    /// Whether its latency budget lets the tick just added wait.
    #[inline]
    fn may_wait(&self, hold_bytes_max: usize) -> bool {
        let held = self
            .hold
            .map_or(0, |hold| self.log.end().wrapping_sub(hold.from));
        self.interest.max_delay_ms > 0 && held as usize * TICK_BYTES < hold_bytes_max
    }

    /// Marks the members that have nothing else to do.
    #[inline]
    fn tell(&mut self, connections: &mut Slab<Box<Connection>>, dirty: &mut VecDeque<(u32, u32)>) {
        self.hold = None;
        for (index, generation) in self.listeners.drain(..) {
            let connection = connection_at(connections, index, generation);
            if let Some(connection) = connection
                && connection.outbox.hear(&self.log)
            {
                mark_dirty(dirty, connection, index);
            }
        }
    }
}

/// Who is known to follow what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// One connection, by itself.
    Single(u32),
    /// An audience.
    Audience(u32),
}

/// All audiences of a floor.
#[derive(Default)]
pub struct Audiences {
    all: Slab<Audience>,
    /// By [`Interest::digest`].
    known: FxHashMap<u64, Known>,
}

impl Audiences {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The members of an audience.
    pub fn members(&self, audience: u32) -> &[u32] {
        let audience = self.all.get(audience as usize);
        audience.map_or(&[], |audience| &audience.members)
    }

    /// Notes a member that is to be told of the next tick.
    #[inline]
    pub fn listen(&mut self, audience: u32, member: (u32, u32)) {
        if let Some(audience) = self.all.get_mut(audience as usize) {
            audience.listeners.push(member);
        }
    }
}

impl Floor {
    /// Looks once, after what a connection follows has changed, whether it is in company.
    #[cold]
    pub(super) fn find_audience(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        connection.seeks_audience = false;
        if connection.closing.is_some() || connection.conflated.is_some() || connection.is_joining()
        {
            return;
        }
        let Some(interest) = self.interest(index) else {
            return;
        };
        let digest = interest.digest();
        match self.audiences.known.get(&digest).copied() {
            None => {
                self.audiences.known.insert(digest, Known::Single(index));
            }
            Some(Known::Single(other)) => {
                let audience = self.open_audience(digest, interest);
                self.enter_audience(index, audience);
                // It enters after its next send, when nothing waits.
                if let Some(other) = self.connections.get_mut(other as usize) {
                    other.seeks_audience = true;
                }
            }
            Some(Known::Audience(audience)) => {
                // Two interests with one digest are as good as never met, and miss only the company.
                if self.audiences.all[audience as usize].interest == interest {
                    self.enter_audience(index, audience);
                }
            }
        }
    }

    /// What a connection outside of audiences follows; `None` where it is nothing, or too much.
    fn interest(&mut self, index: u32) -> Option<Interest> {
        let connection = &self.connections[index as usize];
        if !(1..=SYMBOLS_MAX).contains(&connection.members.len()) {
            return None;
        }
        let rows = &mut self.rows;
        let members = connection.members.iter();
        let mut channels: Vec<_> = members
            .map(|(symbol, at)| {
                (
                    *symbol,
                    rows.row(*symbol).subscribers[*at as usize].channels,
                )
            })
            .collect();
        channels.sort_unstable_by_key(|(symbol, _)| symbol.0);
        Some(Interest {
            format: connection.format,
            max_delay_ms: connection.max_delay_ms,
            channels,
        })
    }

    fn open_audience(&mut self, digest: u64, interest: Interest) -> u32 {
        let entry = self.audiences.all.vacant_entry();
        let audience = entry.key() as u32;
        for (symbol, channels) in &interest.channels {
            let row = self.rows.row(*symbol);
            row.audiences.push(Listeners {
                audience,
                channels: *channels,
            });
        }
        let log = Rc::new(Log::new(audience));
        entry.insert(Audience {
            interest,
            oldest: log.end(),
            log,
            members: Vec::new(),
            listeners: Vec::new(),
            review_at: LOG_KEPT,
            hold: None,
        });
        let known = Known::Audience(audience);
        self.audiences.known.insert(digest, known);
        audience
    }

    fn enter_audience(&mut self, index: u32, audience: u32) {
        let members = self.connections[index as usize].members.iter();
        let rows: Vec<_> = members.map(|(symbol, at)| (*symbol, *at)).collect();
        for (symbol, at) in rows {
            self.leave_row(symbol, at);
        }
        let Audience {
            log,
            members,
            listeners,
            ..
        } = &mut self.audiences.all[audience as usize];
        let connection = &mut self.connections[index as usize];
        let place = members.len() as u32;
        connection.members.values_mut().for_each(|at| *at = place);
        members.push(index);
        connection.outbox.share(Rc::clone(log));
        connection.outbox.listen();
        listeners.push((index, connection.generation));
    }

    /// Makes the connection one by itself, before anything changes in what it follows.
    pub(super) fn leave_audience(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        let sought = std::mem::replace(&mut connection.seeks_audience, true);
        if let Some(audience) = connection.outbox.audience() {
            connection.outbox.unshare();
            // What its audience held waits for nobody's word any more.
            if !connection.outbox.is_empty() {
                mark_dirty(&mut self.dirty, connection, index);
            }
            self.part(index, audience);
        } else if !sought && let Some(interest) = self.interest(index) {
            let known = &mut self.audiences.known;
            let digest = interest.digest();
            if known.get(&digest) == Some(&Known::Single(index)) {
                known.remove(&digest);
            }
        }
    }

    /// Strikes a member off, and enters it among its symbols' subscribers.
    fn part(&mut self, index: u32, key: u32) {
        let Audience {
            interest,
            members,
            listeners,
            ..
        } = &mut self.audiences.all[key as usize];
        let own = self.connections[index as usize].members.iter().next();
        let place = own.map_or(0, |(_, place)| *place);
        members.swap_remove(place as usize);
        if let Some(moved) = members.get(place as usize) {
            let moved = &mut self.connections[*moved as usize];
            moved.members.values_mut().for_each(|at| *at = place);
        }
        let connection = &mut self.connections[index as usize];
        // Where no tick comes nothing else takes it off the list, however often it comes and goes.
        let listener = (index, connection.generation);
        if let Some(at) = listeners.iter().position(|own| *own == listener) {
            listeners.swap_remove(at);
        }
        for (symbol, channels) in &interest.channels {
            let subscriber = Subscriber {
                connection: index,
                channels: *channels,
                conflate: false,
            };
            let at = self.rows.join(*symbol, subscriber, self.at);
            connection.members.insert(*symbol, at);
        }
        if members.is_empty() {
            let audience = self.audiences.all.remove(key as usize);
            self.audiences.known.remove(&audience.interest.digest());
            for (symbol, _) in &audience.interest.channels {
                self.rows.dismiss(*symbol, key);
            }
        }
    }

    /// Adds a tick to the logs of the audiences that want it, and marks who has nothing else to do.
    pub(super) fn fan_out_to_audiences(&mut self, tick: Queued, channel: Channel) {
        let lag_soft_ticks = self.config.lag_soft_ticks;
        let mut to_be_reviewed = Vec::new();
        let row = self.rows.row(tick.stream.symbol());
        for &Listeners { audience, channels } in &row.audiences {
            if !channels.contains(channel) {
                continue;
            }
            let key = audience;
            let audience = &mut self.audiences.all[key as usize];
            audience.log.push(tick);
            if !audience.may_wait(self.config.hold_bytes_max) {
                audience.tell(&mut self.connections, &mut self.dirty);
            } else if audience.hold.is_none() {
                let until = hold_end(self.now, audience.interest.max_delay_ms);
                let from = audience.log.end().wrapping_sub(1);
                audience.hold = Some(Hold { from, until });
                self.audience_holds.add(until, key, 0);
            }
            if audience.is_to_be_reviewed(lag_soft_ticks) {
                to_be_reviewed.push(key);
            }
        }
        for key in to_be_reviewed {
            self.review(key);
        }
    }

    /// Ends an audience's hold, if it is over: one that was ended by other means may have been followed
    /// by one that goes on.
    #[cold]
    pub(super) fn end_audience_hold(&mut self, key: u32) {
        let Some(audience) = self.audiences.all.get_mut(key as usize) else {
            return;
        };
        if audience.hold.is_some_and(|hold| self.now >= hold.until) {
            audience.tell(&mut self.connections, &mut self.dirty);
        }
    }

    /// Conflates for the members that lag, who leave by that, and drops what all others are past.
    #[cold]
    fn review(&mut self, key: u32) {
        let lag_soft_ticks = self.config.lag_soft_ticks;
        let audience = &self.audiences.all[key as usize];
        let (mut late, mut longest) = (Vec::new(), 0);
        for index in &audience.members {
            let waiting = self.connections[*index as usize].outbox.ticks();
            if waiting > lag_soft_ticks {
                late.push(*index);
            } else {
                longest = longest.max(waiting);
            }
        }
        for index in late {
            self.leave_audience(index);
            let outbox = &mut self.connections[index as usize].outbox;
            self.counts.dropped_ticks += outbox.conflate_late(lag_soft_ticks);
        }
        if let Some(audience) = self.audiences.all.get_mut(key as usize) {
            audience.oldest = audience.log.end().wrapping_sub(longest as u32);
            audience.log.forget_before(audience.oldest);
            audience.review_at = LOG_KEPT.max(2 * audience.log.len());
        }
    }
}

#[cfg(test)]
mod tests;
