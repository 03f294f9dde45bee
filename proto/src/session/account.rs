//! The account of one symbol, kept twice: as the engine told it on this connection, and as the
//! caller heard it over all connections.
//!
//! ```text
//!   seq      s ........ at ......... q
//!   engine   start      last word     next tick: q − at − 1 + owed must equal its `skipped`
//!   caller        last word           whatever is not above `at` is a repeat, and clipped
//! ```
//!
//! The first is where invariants are checked, exactly. The second decides what is new. They
//! differ only after a resume that began before what the caller already had (`proto/README.md`,
//! "The account").
//!
//! Identities in here are within 1…2⁵³−1, `at` may be 0, and `owed` never exceeds `at`: the
//! session lets nothing else through, so none of the sums can overflow.

use super::event::{Event, Fault, Lost, Violation};
use crate::{
    reply::{Gap, Start},
    request::Point,
    symbol::Symbol,
    tick::{Channel, Identity, Marks, Tick},
};

/// Both views of one symbol.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    engine: Ledger,
    caller: Ledger,
    /// Whether this connection opened the account already.
    started: bool,
    /// Whether nothing is wanted of the symbol any more.
    closed: bool,
}

/// The lines of one epoch; epoch 0 stands for "nothing heard".
#[derive(Clone, Copy, Debug, Default)]
struct Ledger {
    epoch: u64,
    lines: [Option<Line>; 2],
}

/// How far one channel is accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    /// Every seq up to this one is delivered, in a gap, or `owed`.
    at: u64,
    /// Seqs at or below `at` that stood before a gap: the next tick's `skipped` names them.
    owed: u64,
    /// The epoch's end was told.
    closed: bool,
    /// A gap came before the `start` that opens the line.
    early: bool,
}

impl Line {
    fn opened_at(at: u64) -> Self {
        Self {
            at,
            owed: 0,
            closed: false,
            early: false,
        }
    }

    /// How many seqs the `skipped` of a tick at `seq` has to name. `seq` is above `at`.
    fn unnamed_before(self, seq: u64) -> u64 {
        seq - self.at - 1 + self.owed
    }

    /// Takes a gap up to `to`, above `at`. No tick below a gap can follow it, so what lies
    /// between `at` and the gap was conflated away.
    fn take_gap(&mut self, from: u64, to: u64) {
        self.owed += from - self.at - 1;
        self.at = to;
    }
}

impl Account {
    /// Forgets the engine's view, as a new connection begins; whether there is anything to resume.
    pub(super) fn reconnected(&mut self) -> bool {
        self.engine = Ledger::default();
        self.started = false;
        !self.closed
    }

    /// The subscription has ended: until the next `start` nothing counts.
    pub(super) fn close(&mut self) {
        *self = Self {
            closed: true,
            ..Self::default()
        };
    }

    /// Whether what comes is left over from a subscription that has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Where to resume; `None` while no account is open.
    pub(super) fn point(&self) -> Option<Point> {
        // Seq 0 is no tick: without it the channel is replayed from its base, which is the same.
        let at = |channel: Channel| {
            self.caller.lines[channel.index()]
                .map(|line| line.at)
                .filter(|&at| at != 0)
        };
        (self.caller.epoch != 0).then(|| Point {
            epoch: self.caller.epoch,
            trade: at(Channel::Trade),
            quote: at(Channel::Quote),
        })
    }

    /// Opens or moves accounts, and reports what a `start` steps over.
    pub(super) fn start(&mut self, start: &Start, each: &mut impl FnMut(Event)) {
        self.closed = false;
        let first_of_connection = !std::mem::replace(&mut self.started, true);
        let named = [(Channel::Trade, start.trade), (Channel::Quote, start.quote)];
        self.open(start.epoch, named);
        if start.epoch < self.caller.epoch {
            return;
        }
        let new_epoch = self.enter(start.symbol, start.epoch, first_of_connection, each);
        let mut opened = Start {
            trade: None,
            quote: None,
            ..*start
        };
        for (channel, at) in named {
            let Some(at) = at else { continue };
            if self.reach(start.symbol, channel, at, each) {
                match channel {
                    Channel::Trade => opened.trade = Some(at),
                    Channel::Quote => opened.quote = Some(at),
                }
            }
        }
        if new_epoch || opened.trade.is_some() || opened.quote.is_some() {
            each(Event::Started(opened));
        }
    }

    /// Opens lines in the engine's view. A gap that came before its `start` stays counted.
    fn open(&mut self, epoch: u64, named: [(Channel, Option<u64>); 2]) {
        if self.engine.epoch != epoch {
            self.engine = Ledger {
                epoch,
                ..Ledger::default()
            };
        }
        for (channel, at) in named {
            let Some(at) = at else { continue };
            let line = &mut self.engine.lines[channel.index()];
            let early = line.filter(|line| line.early).map_or(0, |line| line.at);
            *line = Some(Line::opened_at(at.max(early)));
        }
    }

    /// Moves the caller's line to `at`; `true` where that opened it.
    fn reach(
        &mut self,
        symbol: Symbol,
        channel: Channel,
        at: u64,
        each: &mut impl FnMut(Event),
    ) -> bool {
        let epoch = self.caller.epoch;
        match &mut self.caller.lines[channel.index()] {
            None => {
                self.caller.lines[channel.index()] = Some(Line::opened_at(at));
                true
            }
            Some(line) => {
                if at > line.at {
                    each(Event::Lost(Lost {
                        symbol,
                        channel,
                        epoch,
                        from: line.at + 1,
                        to: Some(at),
                    }));
                    line.at = at;
                }
                false
            }
        }
    }

    /// Moves the caller to `epoch` where that is a new one, and says whether it is.
    ///
    /// Within a connection the engine sends the rest of the old epoch first. Where a connection
    /// begins beyond it, its end is lost.
    fn enter(
        &mut self,
        symbol: Symbol,
        epoch: u64,
        cut: bool,
        each: &mut impl FnMut(Event),
    ) -> bool {
        if epoch == self.caller.epoch {
            return false;
        }
        let old = std::mem::replace(
            &mut self.caller,
            Ledger {
                epoch,
                ..Ledger::default()
            },
        );
        for channel in Channel::BOTH {
            if let Some(line) = old.lines[channel.index()]
                && cut
                && !line.closed
            {
                let from = line.at + 1;
                each(Event::Lost(Lost {
                    symbol,
                    channel,
                    epoch: old.epoch,
                    from,
                    to: None,
                }));
            }
        }
        true
    }

    /// Hands out a tick that is new to the caller; `false` for one that is not.
    pub(super) fn tick(&mut self, tick: &Tick, marks: Marks, each: &mut impl FnMut(Event)) -> bool {
        let Identity { epoch, seq } = tick.identity;
        let channel = tick.values.channel();
        if marks.snapshot {
            let new = epoch >= self.caller.epoch;
            if new {
                each(Event::Tick(*tick, marks));
            }
            return new;
        }
        self.open_unless_open(tick, marks.skipped, each);
        let Some(missing) = self.check(tick, marks.skipped, each) else {
            return false;
        };
        if epoch < self.caller.epoch {
            return false;
        }
        let line = self.caller.lines[channel.index()].get_or_insert(Line::opened_at(seq - 1));
        if seq <= line.at {
            return false;
        }
        let skipped = line.unnamed_before(seq).saturating_sub(missing);
        *line = Line::opened_at(seq);
        let skipped = u32::try_from(skipped).unwrap_or(u32::MAX);
        each(Event::Tick(*tick, Marks { skipped, ..marks }));
        true
    }

    /// Makes up for a missing `start`: the tick itself opens the account, just before what it
    /// says it skipped.
    fn open_unless_open(&mut self, tick: &Tick, skipped: u32, each: &mut impl FnMut(Event)) {
        let Identity { epoch, seq } = tick.identity;
        let channel = tick.values.channel();
        if self.engine.epoch == epoch && self.engine.lines[channel.index()].is_some() {
            return;
        }
        each(violation(
            tick.symbol,
            channel,
            tick.identity,
            Fault::Unopened,
        ));
        let at = (seq - 1).saturating_sub(u64::from(skipped));
        let mut start = Start {
            symbol: tick.symbol,
            epoch,
            trade: None,
            quote: None,
            replay: None,
        };
        match channel {
            Channel::Trade => start.trade = Some(at),
            Channel::Quote => start.quote = Some(at),
        }
        self.start(&start, each);
    }

    /// Checks a tick against the engine's own account. Returns how many seqs before it went
    /// missing, or `None` where it must not be handed out.
    fn check(&mut self, tick: &Tick, skipped: u32, each: &mut impl FnMut(Event)) -> Option<u64> {
        let channel = tick.values.channel();
        let violation = |fault| violation(tick.symbol, channel, tick.identity, fault);
        let line = self.engine.lines[channel.index()].as_mut()?;
        if tick.identity.seq <= line.at {
            each(violation(Fault::Repeated));
            return None;
        }
        let (unnamed, skipped) = (line.unnamed_before(tick.identity.seq), u64::from(skipped));
        *line = Line::opened_at(tick.identity.seq);
        if skipped > unnamed {
            each(violation(Fault::Overcounted {
                excess: skipped - unnamed,
            }));
        } else if skipped < unnamed {
            each(violation(Fault::Hole {
                missing: unnamed - skipped,
            }));
        }
        Some(unnamed.saturating_sub(skipped))
    }

    /// Reports the part of a gap that the caller does not know of yet.
    pub(super) fn gap(&mut self, gap: &Gap, each: &mut impl FnMut(Event)) {
        if !self.check_gap(gap, each) || gap.epoch < self.caller.epoch {
            return;
        }
        if gap.epoch > self.caller.epoch {
            self.enter(gap.symbol, gap.epoch, !self.started, each);
        }
        let slot = &mut self.caller.lines[gap.channel.index()];
        let Some(line) = slot else {
            // The seqs before it are unknown, so it opens the account at its end.
            each(Event::Gap(*gap));
            if let Some(to) = gap.to {
                *slot = Some(Line::opened_at(to));
                each(Event::Started(start_of(
                    gap.symbol,
                    gap.channel,
                    gap.epoch,
                    to,
                )));
            }
            return;
        };
        let from = gap.from.unwrap_or(0).max(line.at + 1);
        match gap.to {
            Some(to) if to <= line.at => return,
            Some(to) => line.take_gap(from, to),
            None if line.closed => return,
            None => line.closed = true,
        }
        each(Event::Gap(Gap {
            from: Some(from),
            ..*gap
        }));
    }

    /// Enters a gap into the engine's own account; `false` where that already covers it.
    fn check_gap(&mut self, gap: &Gap, each: &mut impl FnMut(Event)) -> bool {
        if gap.epoch < self.engine.epoch {
            return true;
        }
        if gap.epoch > self.engine.epoch {
            self.engine = Ledger {
                epoch: gap.epoch,
                ..Ledger::default()
            };
        }
        let slot = &mut self.engine.lines[gap.channel.index()];
        let (Some(line), Some(to)) = (slot.as_mut(), gap.to) else {
            *slot = gap.to.map(|to| Line {
                early: true,
                ..Line::opened_at(to)
            });
            return true;
        };
        let from = gap.from.unwrap_or(line.at + 1);
        if from <= line.at {
            each(repeated(gap));
        }
        if to <= line.at {
            return false;
        }
        line.take_gap(from.max(line.at + 1), to);
        true
    }
}

/// A `start` of one channel.
fn start_of(symbol: Symbol, channel: Channel, epoch: u64, at: u64) -> Start {
    let of = |other| (channel == other).then_some(at);
    Start {
        symbol,
        epoch,
        trade: of(Channel::Trade),
        quote: of(Channel::Quote),
        replay: None,
    }
}

fn repeated(gap: &Gap) -> Event {
    let identity = Identity {
        epoch: gap.epoch,
        seq: gap.from.unwrap_or(0),
    };
    violation(gap.symbol, gap.channel, identity, Fault::Repeated)
}

pub(super) fn violation(
    symbol: Symbol,
    channel: Channel,
    identity: Identity,
    fault: Fault,
) -> Event {
    let Identity { epoch, seq } = identity;
    Event::Violation(Violation {
        symbol,
        channel,
        epoch,
        seq,
        fault,
    })
}
