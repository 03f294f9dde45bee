//! Who listens to a session.

use std::collections::BTreeSet;

use super::engine::{Record, SYMBOLS, Tape, index_of};
use crate::{
    reply::Start,
    session::Event,
    symbol::Symbol,
    tick::{Channel, Identity, Marks, Tick},
};

/// What the caller heard of one channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub(super) epoch: u64,
    pub(super) open: bool,
    pub(super) start: u64,
    pub(super) at: u64,
    pub(super) accounted: u64,
    pub(super) closed: bool,
    pub(super) ticks: BTreeSet<Identity>,
    pub(super) told_missing: BTreeSet<Identity>,
    /// Everything of the epoch from this seq on.
    pub(super) told_ends: BTreeSet<Identity>,
    /// Epochs that opened.
    pub(super) epochs: BTreeSet<u64>,
}

impl Heard {
    pub(super) fn is_told(&self, identity: Identity) -> bool {
        let ends = |from: &Identity| from.epoch == identity.epoch && from.seq <= identity.seq;
        self.told_missing.contains(&identity) || self.told_ends.iter().any(ends)
    }
}

/// The caller: checks every event as it comes.
#[derive(Default)]
pub(super) struct Caller {
    pub(super) heard: [[Heard; 2]; SYMBOLS.len()],
    pub(super) conflates: bool,
    pub(super) resumed: u64,
}

impl Caller {
    pub(super) fn take(&mut self, tape: &Tape, event: &Event) {
        match event {
            Event::Started(start) => self.started(tape, start),
            Event::Tick(tick, marks) if !marks.snapshot => self.tick(tick, *marks),
            Event::Gap(gap) => self.missing(gap.symbol, gap.channel, gap.epoch, gap.from, gap.to),
            Event::Lost(lost) => self.missing(
                lost.symbol,
                lost.channel,
                lost.epoch,
                Some(lost.from),
                lost.to,
            ),
            Event::Violation(violation) => panic!("the model keeps its account: {violation:?}"),
            Event::Resumed { .. } => self.resumed += 1,
            _ => {}
        }
    }

    fn started(&mut self, tape: &Tape, start: &Start) {
        for (channel, at) in [(Channel::Trade, start.trade), (Channel::Quote, start.quote)] {
            let index = index_of(start.symbol);
            let heard = &mut self.heard[index][channel.index()];
            if heard.epoch != start.epoch {
                assert!(
                    heard.epoch < start.epoch,
                    "epochs go up: {start:?} after {heard:?}"
                );
                let end = tape.at_before(usize::MAX, index, channel, heard.epoch);
                let is_complete = !heard.open || heard.closed || Some(heard.at) >= end;
                assert!(
                    is_complete,
                    "the end of an epoch is missing: {start:?} after {heard:?}"
                );
                let old = std::mem::take(heard);
                (heard.epoch, heard.ticks) = (start.epoch, old.ticks);
                (heard.told_missing, heard.told_ends) = (old.told_missing, old.told_ends);
                heard.epochs = old.epochs;
            }
            if let Some(at) = at {
                assert!(!heard.open, "opened twice: {start:?} after {heard:?}");
                (heard.open, heard.start, heard.at) = (true, at, at);
                heard.epochs.insert(start.epoch);
            }
        }
    }

    fn tick(&mut self, tick: &Tick, marks: Marks) {
        let (index, channel) = (index_of(tick.symbol), tick.values.channel());
        let Identity { epoch, seq } = tick.identity;
        let published = Record {
            symbol: index,
            channel,
            epoch,
            from: seq,
            to: seq,
            is_tick: true,
        };
        assert_eq!(*tick, published.tick());
        let heard = &mut self.heard[index][channel.index()];
        assert!(
            heard.open && heard.epoch == epoch,
            "{tick:?} after {heard:?}"
        );
        assert!(seq > heard.at, "out of order: {tick:?} after {heard:?}");
        assert!(heard.ticks.insert(tick.identity), "twice: {tick:?}");
        assert!(self.conflates || marks.skipped == 0, "{tick:?} {marks:?}");
        heard.accounted += 1 + u64::from(marks.skipped);
        heard.at = seq;
        assert_eq!(
            heard.accounted,
            seq - heard.start,
            "{tick:?} {marks:?} {heard:?}"
        );
    }

    fn missing(
        &mut self,
        symbol: Symbol,
        channel: Channel,
        epoch: u64,
        from: Option<u64>,
        to: Option<u64>,
    ) {
        let heard = &mut self.heard[index_of(symbol)][channel.index()];
        if heard.epoch != epoch || !heard.open {
            // It precedes the account, which its `start` will open behind it.
            return;
        }
        let from = from.expect("the session knows its own account");
        assert!(
            from > heard.at && !heard.closed,
            "{from}..{to:?} after {heard:?}"
        );
        if let Some(to) = to {
            heard.accounted += to + 1 - from;
            heard.at = to;
            heard
                .told_missing
                .extend((from..=to).map(|seq| Identity { epoch, seq }));
        } else {
            heard.closed = true;
            heard.told_ends.insert(Identity { epoch, seq: from });
        }
    }
}
