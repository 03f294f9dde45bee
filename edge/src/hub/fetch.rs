//! What a client takes at its own pace: what is known when it joins, and what it missed.

use std::sync::Arc;

use tickwire_proto::{
    reply::{Gap, Reply, Start},
    tick::{Channel, Channels, Identity},
};

use super::{
    Hub, State, Wakers,
    block::{Block, Item, SymbolId, What},
    client::{Member, Phase},
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
                self.replays.finished();
                self.start_replays();
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
        for (_, block) in self.history.from(at).take(EVENTS_AT_ONCE) {
            looked_at += 1;
            if block.what.is_for(member.channels) && member.wants(&block.name) {
                given.push(Arc::clone(block));
                if given.len() == GIVEN_AT_ONCE {
                    break;
                }
            }
        }
        let member = &mut self.clients[key];
        for block in given {
            member.tell_past(&block, wakers);
        }
        let at = at + looked_at;
        member.phase = Phase::CatchingUp { at };
        if at == self.history.head() {
            self.catch_up_last(key, wakers);
        }
    }

    /// The client has read the history to its end.
    fn catch_up_last(&mut self, key: usize, wakers: &mut Wakers) {
        let member = &self.clients[key];
        let followed: Vec<SymbolId> = self
            .symbols
            .iter()
            .filter(|(_, state)| state.live && member.wants(&state.name))
            .map(|(symbol, _)| symbol)
            .collect();
        for symbol in followed {
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
        if self.has_been_told(block) {
            return;
        }
        match block.what {
            What::Tick(channel, identity) => {
                self.open(block, channel, identity.epoch, Some(identity.seq), wakers);
            }
            What::Gap(gap) => self.open(block, gap.channel, gap.epoch, gap.from, wakers),
            What::Start(start) => self.note_start(block.symbol, &start),
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

    /// Whether an engine's replay has told this already. What is beyond it lifts the floor.
    pub(super) fn has_been_told(&mut self, block: &Block) -> bool {
        let (channel, identity) = match block.what {
            What::Tick(channel, identity) => (channel, identity),
            What::Gap(Gap {
                channel,
                epoch,
                to: Some(to),
                ..
            }) => (channel, Identity { epoch, seq: to }),
            // The end of an epoch: told where the replay has gone on to the next.
            What::Gap(Gap { channel, epoch, .. }) => {
                let seq = u64::MAX;
                (channel, Identity { epoch, seq })
            }
            What::Start(start) => {
                return Channel::BOTH.into_iter().any(|channel| {
                    let seq = match channel {
                        Channel::Trade => start.trade,
                        Channel::Quote => start.quote,
                    };
                    seq.is_some_and(|seq| {
                        let epoch = start.epoch;
                        self.knows(block.symbol, channel, Identity { epoch, seq })
                    })
                });
            }
        };
        if self.knows(block.symbol, channel, identity) {
            return true;
        }
        self.floor.remove(&(block.symbol, channel));
        false
    }
}
