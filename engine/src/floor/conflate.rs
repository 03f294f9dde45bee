//! `conflate` mode: the latest tick of each channel, at most every interval.

use tickwire_proto::tick::Channel;

use super::outbox::Queued;
use crate::{clock::Millis, tape::Position};

/// One symbol that one connection follows in `conflate` mode.
#[derive(Clone, Copy, Debug)]
pub struct Conflated {
    interval_ms: u32,
    sent_at: Option<Millis>,
    held: [Option<Held>; 2],
}

/// The latest tick of a channel, and where the first of those that it stands for was.
#[derive(Clone, Copy, Debug)]
struct Held {
    tick: Queued,
    first_at: Position,
}

impl Conflated {
    /// Nothing held, nothing sent yet.
    pub fn new(interval_ms: u32) -> Self {
        Self {
            interval_ms,
            sent_at: None,
            held: [None; 2],
        }
    }

    /// Counts the interval from now, since a tick has just gone out by another way.
    pub fn begin_interval(&mut self, now: Millis) {
        self.sent_at = Some(now);
    }

    /// Takes a tick in; hands it back where it may go out at once.
    ///
    /// A held tick that it replaces is counted in `skipped` of the one that is held now.
    pub fn take(&mut self, tick: Queued, now: Millis) -> Option<Queued> {
        let due = self.due_at().is_none_or(|due| now >= due);
        if due && self.held.iter().all(Option::is_none) {
            self.sent_at = Some(now);
            return Some(tick);
        }
        let held = &mut self.held[tick.stream.channel().index()];
        let skipped = held.map_or(0, |replaced| replaced.tick.skipped.saturating_add(1));
        *held = Some(Held {
            tick: Queued { skipped, ..tick },
            first_at: held.map_or(tick.position, |replaced| replaced.first_at),
        });
        None
    }

    /// When what is held goes out; `None` where nothing is.
    pub fn release_at(&self) -> Option<Millis> {
        self.held
            .iter()
            .any(Option::is_some)
            .then(|| self.due_at().unwrap_or_default())
    }

    fn due_at(&self) -> Option<Millis> {
        self.sent_at.map(|at| at.after(u64::from(self.interval_ms)))
    }

    /// Releases what is held, trades first.
    pub fn release(&mut self, now: Millis) -> impl Iterator<Item = Queued> + use<> {
        let held = std::mem::take(&mut self.held);
        if held.iter().any(Option::is_some) {
            self.sent_at = Some(now);
        }
        held.into_iter().flatten().map(|held| held.tick)
    }

    /// Releases one channel before a `gap` of it, whose seqs no `skipped` may span; the interval
    /// begins anew.
    pub fn release_channel(&mut self, channel: Channel, now: Millis) -> Option<Queued> {
        let held = self.held[channel.index()].take()?;
        self.sent_at = Some(now);
        Some(held.tick)
    }

    /// The oldest position that a cursor must not pass.
    pub fn held_from(&self) -> Option<Position> {
        self.held.iter().flatten().map(|held| held.first_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{floor::stream::Stream, tape::SymbolId};

    fn tick(seq: u64) -> Queued {
        Queued {
            position: Position(seq),
            stream: Stream::new(SymbolId(0), Channel::Trade),
            epoch: 1,
            seq,
            skipped: 0,
        }
    }

    #[test]
    fn the_first_goes_at_once_then_the_latest_of_each_interval_with_its_count() {
        let mut conflated = Conflated::new(250);
        assert_eq!(conflated.take(tick(1), Millis::new(0)), Some(tick(1)));
        assert_eq!(conflated.take(tick(2), Millis::new(10)), None);
        assert_eq!(conflated.take(tick(3), Millis::new(20)), None);
        assert_eq!(conflated.take(tick(4), Millis::new(30)), None);
        assert_eq!(conflated.release_at(), Some(Millis::new(250)));
        let released: Vec<_> = conflated.release(Millis::new(250)).collect();
        assert_eq!(
            released,
            [Queued {
                skipped: 2,
                ..tick(4)
            }]
        );
        assert_eq!(conflated.take(tick(5), Millis::new(499)), None);
        assert_eq!(conflated.release(Millis::new(500)).count(), 1);
        assert_eq!(conflated.release_at(), None);
    }

    #[test]
    fn a_held_tick_keeps_the_cursor_before_those_that_it_stands_for() {
        let mut conflated = Conflated::new(250);
        for seq in 1..=4 {
            conflated.take(tick(seq), Millis::new(0));
        }
        assert_eq!(conflated.held_from(), Some(Position(2)));
        assert_eq!(conflated.release(Millis::new(250)).count(), 1);
        assert_eq!(conflated.held_from(), None);
    }

    #[test]
    fn every_tick_is_delivered_or_counted() {
        let mut conflated = Conflated::new(100);
        let (mut delivered, mut skipped) = (0, 0);
        for seq in 1..=1_000 {
            let now = Millis::new(seq * 7);
            let due = conflated.release_at().is_some_and(|at| now >= at);
            let released: Vec<_> = if due {
                conflated.release(now).collect()
            } else {
                Vec::new()
            };
            for out in released.into_iter().chain(conflated.take(tick(seq), now)) {
                delivered += 1;
                skipped += u64::from(out.skipped);
            }
        }
        for out in conflated.release(Millis::new(100_000)) {
            delivered += 1;
            skipped += u64::from(out.skipped);
        }
        assert_eq!(delivered + skipped, 1_000);
        assert!(delivered <= 71, "{delivered}");
    }
}
