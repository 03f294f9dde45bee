//! What a client takes at its own pace: what is known when it joins, and what it missed.

use std::{collections::HashMap, sync::Arc};

use tickwire_proto::{
    reply::{Gap, GapReason, Reply, Start},
    tick::{Channel, Channels, Identity},
};

use super::{
    Hub, State, Wakers,
    block::{Block, Item, SymbolId, What},
    client::{Member, Phase, Seam},
};

/// Symbols that a client begins with in one go.
const SYMBOLS_AT_ONCE: usize = 256;
/// Events of the history looked at in one go, and given to the client at most.
const EVENTS_AT_ONCE: usize = 16_384;
const GIVEN_AT_ONCE: usize = 1_024;

impl Hub {
    /// Moves what comes next into a client's outbox.
    pub(super) fn fetch(&self, key: usize) {
        let mut wakers = Wakers::default();
        let mut state = self.lock();
        state.fetch(key, &mut wakers);
        self.announce(&state);
    }
}

impl State {
    pub(super) fn fetch(&mut self, key: usize, wakers: &mut Wakers) {
        let Some(member) = self.clients.get_mut(key) else {
            return;
        };
        match &mut member.phase {
            Phase::Joining(symbols) => {
                let count = symbols.len().min(SYMBOLS_AT_ONCE);
                let next: Vec<SymbolId> = symbols.drain(..count).collect();
                let is_last = symbols.is_empty();
                for symbol in next {
                    self.attach(key, symbol, wakers);
                }
                if is_last {
                    self.arrive(key, wakers);
                }
            }
            Phase::Replayed { live_from } => {
                let at = *live_from;
                member.phase = Phase::CatchingUp { at };
                self.replays.taken(std::mem::take(&mut member.kept_bytes));
            }
            Phase::CatchingUp { at } => {
                let at = *at;
                self.catch_up(key, at, wakers);
            }
            Phase::Queued { .. } | Phase::Replaying { .. } | Phase::Live => {
                wakers.add(member.outbox.set_behind(false));
            }
        }
    }

    /// The client has everything, and gets what comes from now on.
    fn arrive(&mut self, key: usize, wakers: &mut Wakers) {
        let head = self.history.head();
        let cursor = self.cursor_at(head);
        let member = &mut self.clients[key];
        member.phase = Phase::Live;
        wakers.add(member.outbox.set_behind(false));
        if !self.cursors.is_empty() && member.takes_cursors() {
            wakers.add(member.outbox.push_cursor(Item::Cursor(cursor)));
        }
    }

    fn catch_up(&mut self, key: usize, at: u64, wakers: &mut Wakers) {
        if at < self.history.tail() {
            // Too slow for the history: the engine's reaches further back.
            let live_from = self.history.head();
            let member = &mut self.clients[key];
            member.phase = Phase::Queued { live_from };
            wakers.add(member.outbox.set_behind(false));
            self.replays.queue(key);
            self.start_replays();
            return;
        }
        let member = &self.clients[key];
        let mut looked_at = 0;
        let mut given: Vec<Arc<Block>> = Vec::new();
        // Each symbol is judged once, and what nobody wants is not touched.
        let mut wanted: HashMap<SymbolId, bool> = HashMap::new();
        for (symbol, block) in self.history.from(at).take(EVENTS_AT_ONCE) {
            looked_at += 1;
            let is_wanted = *wanted
                .entry(*symbol)
                .or_insert_with(|| member.filter.matches(&block.name));
            if is_wanted && block.what.is_for(member.channels) {
                given.push(Arc::clone(block));
                if given.len() == GIVEN_AT_ONCE {
                    break;
                }
            }
        }
        let at = at + looked_at;
        let engine = self.cursor_at(at).engine;
        let has_cursor = !self.cursors.is_empty();
        let member = &mut self.clients[key];
        for block in given {
            member.tell_past(&block, wakers);
        }
        if has_cursor {
            member.cursor = engine;
        }
        member.phase = Phase::CatchingUp { at };
        if at == self.history.head() {
            self.catch_up_last(key, wakers);
        }
    }

    /// The client has read the history to its end.
    fn catch_up_last(&mut self, key: usize, wakers: &mut Wakers) {
        for symbol in self.live_among(&self.clients[key].filter) {
            self.attach(key, symbol, wakers);
        }
        self.await_beginnings(key);
        let member = &mut self.clients[key];
        member.started.clear();
        if !member.is_poll {
            let replayed = Reply::Replayed {
                id: None,
                cursor: None,
            };
            wakers.add(member.outbox.push_own(Item::reply("replayed", &replayed)));
        }
        self.arrive(key, wakers);
    }
}

impl Member {
    /// Tells an event of the history, unless an engine's replay has told it.
    fn tell_past(&mut self, block: &Arc<Block>, wakers: &mut Wakers) {
        match self.seam(block) {
            Seam::Told => return,
            Seam::Hole(gap) => wakers.add(self.outbox.push_own(Item::gap(&gap))),
            Seam::Next => {}
        }
        match block.what {
            What::Tick(channel, identity) => {
                self.open(block, channel, identity.epoch, Some(identity.seq), wakers);
            }
            What::Gap(gap) => self.open(block, gap.channel, gap.epoch, gap.from, wakers),
            What::Start(start) => self.note_start(block.symbol, &start),
            What::Feed(_) => {}
        }
        wakers.add(self.outbox.push_past(block));
    }

    /// Opens the account of a channel just before `seq`, if it is not open.
    pub(super) fn open(
        &mut self,
        block: &Block,
        channel: Channel,
        epoch: u64,
        seq: Option<u64>,
        wakers: &mut Wakers,
    ) {
        let started = self.started(block.symbol);
        if started.contains(channel) {
            return;
        }
        self.started.insert(block.symbol, started.with(channel));
        let Some(before) = seq.map(|seq| seq - 1) else {
            return;
        };
        let of = |other| (channel == other).then_some(before);
        let start = Start {
            symbol: block.name,
            epoch,
            trade: of(Channel::Trade),
            quote: of(Channel::Quote),
            replay: None,
        };
        if let Some(start) = Item::start(&start, self.channels) {
            wakers.add(self.outbox.push_own(start));
        }
    }

    /// Takes note of which channels a `start` opens.
    pub(super) fn note_start(&mut self, symbol: SymbolId, start: &Start) {
        let mut started = self.started(symbol);
        for (channel, seq) in [(Channel::Trade, start.trade), (Channel::Quote, start.quote)] {
            if seq.is_some() {
                started = started.with(channel);
            }
        }
        if started != Channels::NONE {
            self.started.insert(symbol, started);
        }
    }

    /// How an event stands to what an engine's replay has told. What is beyond that lifts the floor.
    pub(super) fn seam(&mut self, block: &Block) -> Seam {
        let (channel, epoch, from, to) = match block.what {
            What::Tick(channel, Identity { epoch, seq }) => (channel, epoch, Some(seq), seq),
            // The end of an epoch is told where the replay has gone on to the next.
            What::Gap(gap) => (gap.channel, gap.epoch, gap.from, gap.to.unwrap_or(u64::MAX)),
            What::Start(start) => return self.seam_of_start(block.symbol, &start),
            What::Feed(_) => return Seam::Next,
        };
        let Some(floor) = self.floor.get(&(block.symbol, channel)).copied() else {
            return Seam::Next;
        };
        if (Identity { epoch, seq: to }) <= floor {
            return Seam::Told;
        }
        self.floor.remove(&(block.symbol, channel));
        match from {
            // The replay came from a host that had less than was told here before.
            Some(from) if epoch == floor.epoch && from > floor.seq + 1 => Seam::Hole(Gap {
                symbol: block.name,
                channel,
                epoch,
                from: Some(floor.seq + 1),
                to: Some(from - 1),
                reason: GapReason::History,
                replay: None,
            }),
            _ => Seam::Next,
        }
    }

    fn seam_of_start(&self, symbol: SymbolId, start: &Start) -> Seam {
        let epoch = start.epoch;
        let is_told = [(Channel::Trade, start.trade), (Channel::Quote, start.quote)]
            .into_iter()
            .filter_map(|(channel, seq)| Some((channel, seq?)))
            .any(|(channel, seq)| self.knows(symbol, channel, Identity { epoch, seq }));
        if is_told { Seam::Told } else { Seam::Next }
    }
}
