//! The order of the tape: epochs, seqs, duplicates, holes, and who is a source of what.
//!
//! No I/O and no clock here: both times are arguments, so every decision can be replayed.

mod elsewhere;

use rustc_hash::FxHashMap;
use tickwire_proto::{
    code::ErrorCode,
    reply::GapReason,
    symbol::Symbol,
    tick::{Channel, FeedState, IDENTITY_MAX, PublishedTick, Values},
};

use super::{
    arbitration::{Claim, Held},
    numbering::{Numbering, check_numbering, engine_epoch, is_contest},
    symbol_state::SymbolState,
};
use crate::{
    clock::Millis,
    tape::{Event, Origin, SymbolId, Writer},
};

/// Names a publisher's connection, an in-process lane, or another host, for the life of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u64);

impl SourceId {
    const HOST: u64 = 1 << 63;

    /// The name of the `number`-th host that was met.
    pub fn host(number: u64) -> Self {
        Self(number | Self::HOST)
    }

    /// Whether its ticks come from this host's publishers.
    pub fn origin(self) -> Origin {
        if self.0 & Self::HOST == 0 {
            Origin::Here
        } else {
            Origin::Elsewhere
        }
    }

    /// Whether it is a publisher of this host's.
    pub fn is_here(self) -> bool {
        self.origin() == Origin::Here
    }
}

/// The sequencer's settings.
#[derive(Clone, Copy, Debug)]
pub struct SequencerOptions {
    /// How long a hole waits for another source.
    pub arbitration_ms: u64,
    /// Ticks held per symbol and channel.
    pub held_max: usize,
    /// Unix time at the engine's start, ms: the epoch of what the engine numbers.
    pub start_ms: u64,
    /// Whether other hosts are told which symbols have publishers here.
    pub is_bridged: bool,
}

/// What became of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is on the tape.
    Accepted,
    /// Another copy preceded it.
    Duplicate,
    /// It waits for the seqs before it; a [`Settled`] follows.
    Held,
    /// It is refused.
    Refused(Refusal),
}

/// Why a tick is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code on the wire.
    pub code: ErrorCode,
    /// A sentence for humans.
    pub message: &'static str,
}

/// A held tick was placed on the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Whose.
    pub source: SourceId,
    /// In which of its messages.
    pub message: u64,
}

/// Counts for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequencerCounts {
    /// Ticks placed.
    pub placed: u64,
    /// Copies of ticks placed before.
    pub duplicates: u64,
    /// Copies that came after their gap had been declared; among `duplicates`.
    pub late: u64,
    /// Gaps declared.
    pub gaps: u64,
    /// Ticks held for arbitration now.
    pub held: u64,
}

/// Decides and writes.
pub struct Sequencer {
    writer: Writer,
    options: SequencerOptions,
    symbols: Vec<SymbolState>,
    sources: FxHashMap<SourceId, Vec<SymbolId>>,
    /// Channels with held ticks.
    waiting: Vec<(SymbolId, Channel)>,
    settled: Vec<Settled>,
    touched: Vec<SymbolId>,
    born: bool,
    /// Whether anything was written since that other hosts may have to learn from this one.
    has_own: bool,
    /// When the last record was admitted: never later than the next one, whatever the wall clock does.
    admitted_ns: u64,
    counts: SequencerCounts,
}

impl Sequencer {
    /// A sequencer that owns the tape's only writer.
    pub fn new(writer: Writer, options: SequencerOptions) -> Self {
        Self {
            writer,
            options,
            symbols: Vec::new(),
            sources: FxHashMap::default(),
            waiting: Vec::new(),
            settled: Vec::new(),
            touched: Vec::new(),
            born: false,
            has_own: false,
            admitted_ns: 0,
            counts: SequencerCounts::default(),
        }
    }

    /// Decides one tick of `source`, the `message`-th of its messages.
    pub fn submit(
        &mut self,
        source: SourceId,
        message: u64,
        tick: &PublishedTick,
        now: Millis,
        wall_ns: u64,
    ) -> Verdict {
        if let Err(refusal) = check_ranges(tick) {
            return Verdict::Refused(refusal);
        }
        let numbering = if tick.identity.is_none() {
            Numbering::Engine
        } else if source.is_here() {
            Numbering::Source
        } else {
            // A host names a symbol before its ticks, and so has said who numbers it.
            self.known_numbering(tick.symbol)
        };
        let epoch = tick.identity.map(|identity| identity.epoch);
        let id = match self.enter(source, tick.symbol, numbering, epoch, wall_ns) {
            Ok(id) => id,
            Err(refusal) => return Verdict::Refused(refusal),
        };
        let channel = tick.values.channel();
        let ts_ns = tick.ts_ns.unwrap_or(wall_ns);
        let state = &mut self.symbols[id.0 as usize];
        let seq = match tick.identity {
            Some(identity) => identity.seq,
            None => state.last[channel.index()].unwrap_or(0) + 1,
        };
        let expected = state.last[channel.index()].map_or(seq, |last| last + 1);
        if seq < expected {
            self.counts.late += u64::from(state.gaps[channel.index()].contains(seq));
            self.counts.duplicates += 1;
            return Verdict::Duplicate;
        }
        if seq == expected {
            self.place(source, id, channel, seq, (ts_ns, tick.values), wall_ns);
            self.place_successors(id, channel, wall_ns);
            self.drop_from_waiting(id, channel);
            return Verdict::Accepted;
        }
        let deadline = now.after(self.options.arbitration_ms);
        let held = Held {
            source,
            message,
            claim: Claim::Tick {
                ts_ns,
                values: tick.values,
            },
            deadline,
        };
        self.hold(id, channel, seq, held, wall_ns)
    }

    /// Makes `source` a live source of `symbol` without a tick.
    ///
    /// # Errors
    ///
    /// As for a tick with that epoch.
    pub fn declare(
        &mut self,
        source: SourceId,
        symbol: Symbol,
        epoch: Option<u64>,
        wall_ns: u64,
    ) -> Result<(), Refusal> {
        let numbering = if epoch.is_some() {
            Numbering::Source
        } else {
            Numbering::Engine
        };
        self.enter(source, symbol, numbering, epoch, wall_ns)
            .map(|_| ())
    }

    /// A source went away: symbols that it was the last source of become stale.
    pub fn leave(&mut self, source: SourceId, wall_ns: u64) {
        for id in self.sources.remove(&source).unwrap_or_default() {
            self.lose(source, id, wall_ns);
        }
    }

    fn lose(&mut self, source: SourceId, id: SymbolId, wall_ns: u64) {
        let state = &mut self.symbols[id.0 as usize];
        state.sources.retain(|own| *own != source);
        if !state.has_source(Origin::Here) {
            state.here = None;
        }
        if state.sources.is_empty() {
            // Nobody is left to fill the holes.
            self.release_all(id, wall_ns);
            self.push(id, wall_ns, Event::Feed(FeedState::Stale));
        }
        self.tell_hosts(id, wall_ns);
    }

    /// Declares the holes whose time is up.
    pub fn expire(&mut self, now: Millis, wall_ns: u64) {
        let waiting = std::mem::take(&mut self.waiting);
        for (id, channel) in waiting {
            while self.symbols[id.0 as usize].holding[channel.index()]
                .deadline()
                .is_some_and(|at| at <= now)
            {
                self.release_first(id, channel, wall_ns);
            }
            self.keep_waiting(id, channel);
        }
    }

    /// Declares all holes, since nobody will be waited for any more.
    pub fn settle_all(&mut self, wall_ns: u64) {
        for (id, channel) in self.waiting.clone() {
            self.release_channel(id, channel, wall_ns);
        }
    }

    /// When [`Sequencer::expire`] next has something to do.
    pub fn deadline(&self) -> Option<Millis> {
        self.waiting
            .iter()
            .filter_map(|(id, channel)| {
                self.symbols[id.0 as usize].holding[channel.index()].deadline()
            })
            .min()
    }

    /// Held ticks that were placed since this was last asked.
    pub fn take_settled(&mut self) -> Vec<Settled> {
        std::mem::take(&mut self.settled)
    }

    /// Symbols written to since this was last asked, and whether any of them is new: then every
    /// floor has to be woken, since its patterns may match.
    pub fn take_touched(&mut self, mut each: impl FnMut(SymbolId)) -> bool {
        for id in self.touched.drain(..) {
            each(id);
        }
        std::mem::take(&mut self.born)
    }

    /// Whether anything was written since this was last asked that other hosts may have to learn from this
    /// one: not what came from them.
    pub fn take_own(&mut self) -> bool {
        std::mem::take(&mut self.has_own)
    }

    /// Counts since the start.
    pub fn counts(&self) -> SequencerCounts {
        let held = self
            .waiting
            .iter()
            .map(|(id, channel)| self.symbols[id.0 as usize].holding[channel.index()].len() as u64)
            .sum();
        SequencerCounts {
            held,
            ..self.counts
        }
    }

    /// Checks numbering and epoch, opens a new epoch where one begins, and counts the source in.
    fn enter(
        &mut self,
        source: SourceId,
        symbol: Symbol,
        numbering: Numbering,
        epoch: Option<u64>,
        wall_ns: u64,
    ) -> Result<SymbolId, Refusal> {
        if epoch.is_some_and(|epoch| !(1..=IDENTITY_MAX).contains(&epoch)) {
            return Err(Refusal {
                code: ErrorCode::OutOfRange,
                message: "epoch is outside 1…2^53-1",
            });
        }
        let id = self.writer.intern(symbol).map_err(|_| Refusal {
            code: ErrorCode::OutOfRange,
            message: "the engine's table of symbols is full (symbols_max)",
        })?;
        if id.0 as usize == self.symbols.len() {
            self.symbols.push(SymbolState::default());
            self.born = true;
        }
        let state = &mut self.symbols[id.0 as usize];
        check_numbering(state, source, numbering, self.options.start_ms)?;
        let epoch = match epoch {
            Some(epoch) => epoch,
            None => engine_epoch(state, self.options.start_ms, wall_ns / 1_000_000)?,
        };
        if epoch < state.epoch {
            return Err(Refusal {
                code: ErrorCode::StaleEpoch,
                message: "a higher epoch is in force",
            });
        }
        if epoch == state.epoch && is_contest(state, numbering) {
            // Two hosts number it and drew the same epoch: both draw a new one, and the higher wins.
            state.is_contested = true;
            return Err(Refusal {
                code: ErrorCode::NotOwner,
                message: "another host numbers the symbol in the same epoch",
            });
        }
        let is_new = epoch > state.epoch;
        if is_new {
            self.release_all(id, wall_ns);
            self.symbols[id.0 as usize].begin(epoch);
        }
        let state = &mut self.symbols[id.0 as usize];
        if source.is_here() {
            state.here = Some(numbering);
        }
        // Another host's word changes who numbers an epoch no more.
        if is_new || state.numbering.is_none() || source.is_here() {
            state.numbering = Some(numbering);
        }
        self.join(source, id, wall_ns);
        self.tell_hosts(id, wall_ns);
        Ok(id)
    }

    /// Counts a source in; a symbol's first makes it live.
    fn join(&mut self, source: SourceId, id: SymbolId, wall_ns: u64) {
        let state = &mut self.symbols[id.0 as usize];
        if state.sources.contains(&source) {
            return;
        }
        let is_first = state.sources.is_empty();
        state.sources.push(source);
        self.sources.entry(source).or_default().push(id);
        if is_first {
            self.push(id, wall_ns, Event::Feed(FeedState::Live));
        }
    }

    /// Other hosts learn whether a symbol has publishers here, and who numbers it then.
    fn tell_hosts(&mut self, id: SymbolId, wall_ns: u64) {
        if !self.options.is_bridged {
            return;
        }
        let state = &mut self.symbols[id.0 as usize];
        let carried = Numbering::told(state);
        if std::mem::replace(&mut state.told, carried) != carried {
            self.push(id, wall_ns, Event::Carried(carried));
        }
    }

    /// Holds a tick behind a hole; with one live source the hole is declared at once.
    fn hold(
        &mut self,
        id: SymbolId,
        channel: Channel,
        seq: u64,
        held: Held,
        wall_ns: u64,
    ) -> Verdict {
        let source = held.source;
        let message = held.message;
        let state = &mut self.symbols[id.0 as usize];
        let alone = state.sources.len() == 1;
        let holding = &mut state.holding[channel.index()];
        let was_empty = holding.is_empty();
        if !holding.hold(seq, held) {
            self.counts.duplicates += u64::from(matches!(held.claim, Claim::Tick { .. }));
            return Verdict::Duplicate;
        }
        if was_empty {
            self.waiting.push((id, channel));
        }
        let settled_before = self.settled.len();
        if alone {
            self.release_channel(id, channel, wall_ns);
        } else if self.symbols[id.0 as usize].holding[channel.index()].len() > self.options.held_max
        {
            self.release_first(id, channel, wall_ns);
            self.drop_from_waiting(id, channel);
        }
        // The tick itself may have been placed by that; then its verdict says so.
        let own = Settled { source, message };
        match self.settled[settled_before..]
            .iter()
            .rposition(|settled| *settled == own)
        {
            Some(at) if self.symbols[id.0 as usize].last[channel.index()] >= Some(seq) => {
                self.settled.remove(settled_before + at);
                Verdict::Accepted
            }
            _ => Verdict::Held,
        }
    }

    fn place(
        &mut self,
        source: SourceId,
        id: SymbolId,
        channel: Channel,
        seq: u64,
        (ts_ns, values): (u64, Values),
        wall_ns: u64,
    ) {
        let state = &mut self.symbols[id.0 as usize];
        state.last[channel.index()] = Some(seq);
        self.counts.placed += 1;
        let tick = Event::Tick { seq, ts_ns, values };
        self.push_from(source.origin(), id, wall_ns, tick);
    }

    /// Writes a gap up to `to` into a channel's account.
    fn place_gap(
        &mut self,
        id: SymbolId,
        channel: Channel,
        (from, to): (u64, u64),
        reason: GapReason,
        wall_ns: u64,
    ) {
        let state = &mut self.symbols[id.0 as usize];
        state.gaps[channel.index()].remember(from, to);
        state.last[channel.index()] = Some(to);
        // Who has told the others that it has publishers tells them what those will not send.
        let origin = if state.told.is_some() {
            Origin::Here
        } else {
            Origin::Elsewhere
        };
        self.counts.gaps += 1;
        let gap = Event::Gap {
            channel,
            from,
            to,
            reason,
        };
        self.push_from(origin, id, wall_ns, gap);
    }

    /// Places the tick that was held for `seq`, which stands next.
    fn place_held(&mut self, id: SymbolId, channel: Channel, seq: u64, held: &Held, wall_ns: u64) {
        let Held {
            source,
            message,
            claim,
            ..
        } = *held;
        if let Claim::Tick { ts_ns, values } = claim {
            self.settled.push(Settled { source, message });
            self.place(source, id, channel, seq, (ts_ns, values), wall_ns);
        }
    }

    /// Places the held ticks that follow without a hole.
    fn place_successors(&mut self, id: SymbolId, channel: Channel, wall_ns: u64) {
        loop {
            let state = &mut self.symbols[id.0 as usize];
            let Some(last) = state.last[channel.index()] else {
                return;
            };
            let Some(held) = state.holding[channel.index()].take_next(last + 1) else {
                return;
            };
            self.place_held(id, channel, last + 1, &held, wall_ns);
        }
    }

    /// Declares the first hole of a channel, and places what stands behind it.
    fn release_first(&mut self, id: SymbolId, channel: Channel, wall_ns: u64) {
        let state = &mut self.symbols[id.0 as usize];
        let Some((seq, held)) = state.holding[channel.index()].take_first() else {
            return;
        };
        let last = state.last[channel.index()];
        match (held.claim, last) {
            (Claim::Missing(reason), Some(last)) if last < seq => {
                self.place_gap(id, channel, (last + 1, seq), reason, wall_ns);
            }
            (Claim::Missing(_), _) => {}
            (Claim::Tick { .. }, _) => {
                if let Some(last) = last.filter(|last| last + 1 < seq) {
                    let hole = (last + 1, seq - 1);
                    self.place_gap(id, channel, hole, GapReason::Source, wall_ns);
                }
                self.place_held(id, channel, seq, &held, wall_ns);
            }
        }
        self.place_successors(id, channel, wall_ns);
    }

    fn release_channel(&mut self, id: SymbolId, channel: Channel, wall_ns: u64) {
        while !self.symbols[id.0 as usize].holding[channel.index()].is_empty() {
            self.release_first(id, channel, wall_ns);
        }
        self.drop_from_waiting(id, channel);
    }

    fn release_all(&mut self, id: SymbolId, wall_ns: u64) {
        for channel in Channel::BOTH {
            self.release_channel(id, channel, wall_ns);
        }
    }

    fn drop_from_waiting(&mut self, id: SymbolId, channel: Channel) {
        if self.waiting.is_empty()
            || !self.symbols[id.0 as usize].holding[channel.index()].is_empty()
        {
            return;
        }
        self.waiting.retain(|own| *own != (id, channel));
    }

    fn keep_waiting(&mut self, id: SymbolId, channel: Channel) {
        if !self.symbols[id.0 as usize].holding[channel.index()].is_empty() {
            self.waiting.push((id, channel));
        }
    }

    fn push(&mut self, id: SymbolId, wall_ns: u64, event: Event) {
        self.push_from(Origin::Here, id, wall_ns, event);
    }

    fn push_from(&mut self, origin: Origin, id: SymbolId, wall_ns: u64, event: Event) {
        let epoch = self.symbols[id.0 as usize].epoch;
        self.admitted_ns = self.admitted_ns.max(wall_ns);
        let admitted_ns = self.admitted_ns;
        self.writer.push_from(origin, id, epoch, admitted_ns, event);
        self.has_own |= origin == Origin::Here;
        if self.touched.last() != Some(&id) {
            self.touched.push(id);
        }
    }
}

/// Parsers have looked already at what comes from sockets, but a lane's ticks are not parsed.
fn check_ranges(tick: &PublishedTick) -> Result<(), Refusal> {
    let message = if tick
        .identity
        .is_some_and(|identity| !(1..=IDENTITY_MAX).contains(&identity.seq))
    {
        "seq is outside 1…2^53-1"
    } else if tick.ts_ns.is_some_and(|ts_ns| ts_ns / 1_000 > IDENTITY_MAX) {
        "ts is outside 0…2^53-1 microseconds"
    } else if tick.values.checked().is_err() {
        "an exponent is outside -18…0, a price is null, or a size is negative"
    } else {
        return Ok(());
    };
    Err(Refusal {
        code: ErrorCode::OutOfRange,
        message,
    })
}

#[cfg(test)]
#[path = "sequencer_tests.rs"]
mod tests;
