//! What the engine says, as it comes.

use std::sync::Arc;

use tickwire_proto::{
    cursor::Cursor,
    json,
    pattern::Selector,
    reply::{Accepted, ErrorReply, Gap, Start},
    request::Rejected,
    session::{Event, Violation},
    symbol::Symbol,
    tick::{FeedState, Marks, Tick},
};

use super::{
    State, Wakers,
    block::{Block, Item, SymbolId, What, tick_json},
    client::Seam,
    symbols::{self, Reach},
};

impl State {
    pub(super) fn take(&mut self, event: Event, wakers: &mut Wakers) {
        match event {
            Event::Connected(welcome) => {
                self.connected = true;
                self.engine_symbols = welcome.limits.symbols as usize;
                self.metrics.upstream_connected.set(1);
                self.start_replays();
            }
            Event::Resumed { .. } => self.reached(wakers),
            Event::Subscribed(accepted) => self.confirm(&accepted),
            Event::Rejected(rejected) => self.refused_upstream(&rejected),
            Event::Started(start) => self.start(&start, wakers),
            Event::Tick(tick, marks) if marks.snapshot => self.snapshot(&tick, wakers),
            Event::Tick(tick, _) => self.tick(&tick, wakers),
            Event::Gap(gap) => self.gap(&gap, wakers),
            Event::Lost(lost) => self.gap(&lost.to_gap(), wakers),
            Event::Feed { symbol, state } => self.feed(symbol, state, wakers),
            Event::Cursor(cursor) => self.cursor(cursor),
            Event::Answer(reply) => self.replayed(&reply, wakers),
            Event::Refused(error) => self.refused(&error, wakers),
            Event::Violation(violation) => self.violated(&violation),
            _ => {}
        }
    }

    // --- ticks ---

    fn tick(&mut self, tick: &Tick, wakers: &mut Wakers) {
        let Some(symbol) = self.place(tick.symbol) else {
            return;
        };
        let channel = tick.values.channel();
        let state = self.symbols.get_mut(symbol);
        state.last[channel.index()] = Some(tick.identity.seq);
        state.latest[channel.index()] = Some(*tick);
        let is_back = state.reach == Reach::Awaited;
        self.metrics.ticks.inc();
        let what = What::Tick(channel, tick.identity);
        self.publish(symbol, what, tick_json(tick, &Marks::default()), wakers);
        if is_back {
            self.hear(symbol, FeedState::Live, wakers);
        }
    }

    fn gap(&mut self, gap: &Gap, wakers: &mut Wakers) {
        let Some(symbol) = self.place(gap.symbol) else {
            return;
        };
        let state = self.symbols.get_mut(symbol);
        if state.epoch == gap.epoch
            && let Some(to) = gap.to
        {
            state.last[gap.channel.index()] = Some(to);
        }
        self.metrics.gaps.inc();
        let mut text = Vec::with_capacity(128);
        json::write_gap(&mut text, gap);
        self.publish(symbol, What::Gap(*gap), text.into(), wakers);
    }

    fn start(&mut self, start: &Start, wakers: &mut Wakers) {
        let Some(symbol) = self.place(start.symbol) else {
            return;
        };
        let state = self.symbols.get_mut(symbol);
        let was_live = state.live;
        state.start(start);
        let mut text = Vec::with_capacity(128);
        json::write_start(&mut text, start);
        self.publish(symbol, What::Start(*start), text.into(), wakers);
        if !was_live {
            for client in self.interested(&start.symbol) {
                self.attach(client, symbol, wakers);
            }
            self.waiting.remove(&start.symbol);
        }
    }

    /// Adds an event to the history, and to the queues of those who follow its symbol.
    fn publish(&mut self, symbol: SymbolId, what: What, json: Box<[u8]>, wakers: &mut Wakers) {
        let block = Arc::new(Block {
            position: Some(self.history.head()),
            symbol,
            name: self.symbols.get(symbol).name,
            what,
            json,
        });
        self.history.push(Arc::clone(&block));
        for follower in &mut self.symbols.get_mut(symbol).followers {
            if follower.has_floor {
                let member = &mut self.clients[follower.client];
                match member.seam(&block) {
                    Seam::Told => continue,
                    Seam::Hole(gap) => wakers.add(follower.outbox.push_own(Item::gap(&gap))),
                    Seam::Next => {}
                }
                follower.has_floor = !member.floor.is_empty();
            }
            if block.what.is_for(follower.channels) {
                wakers.add(follower.outbox.push(&block));
            }
        }
    }

    /// The latest tick before a subscription. Whoever joins later gets it from the table.
    fn snapshot(&mut self, tick: &Tick, wakers: &mut Wakers) {
        let Some(symbol) = self.place(tick.symbol) else {
            return;
        };
        let channel = tick.values.channel();
        let state = self.symbols.get_mut(symbol);
        let latest = &mut state.latest[channel.index()];
        if latest.is_some() {
            return;
        }
        *latest = Some(*tick);
        let marks = Marks {
            snapshot: true,
            ..Marks::default()
        };
        for follower in &state.followers {
            if follower.snapshot && follower.channels.contains(channel) {
                wakers.add(follower.outbox.push_own(Item::tick(tick, &marks)));
            }
        }
    }

    fn place(&mut self, name: Symbol) -> Option<SymbolId> {
        let place = self.symbols.enter(name);
        if place.is_none() {
            self.metrics.symbols_refused.inc();
        }
        place
    }

    /// Clients that follow a symbol which has just begun.
    fn interested(&self, name: &Symbol) -> Vec<usize> {
        let exact = self.waiting.get(name).into_iter().flatten().copied();
        let by_pattern = self
            .pattern_followers
            .iter()
            .copied()
            .filter(|client| self.clients[*client].filter.matches(name));
        exact.chain(by_pattern).collect()
    }

    // --- what stands beside them ---

    fn feed(&mut self, name: Symbol, feed: FeedState, wakers: &mut Wakers) {
        if let Some(symbol) = self.place(name) {
            self.hear(symbol, feed, wakers);
        }
    }

    /// The feed state is known from the engine.
    fn hear(&mut self, symbol: SymbolId, feed: FeedState, wakers: &mut Wakers) {
        self.symbols.get_mut(symbol).reach = Reach::Heard;
        self.set_feed(symbol, feed, wakers);
    }

    fn set_feed(&mut self, symbol: SymbolId, feed: FeedState, wakers: &mut Wakers) {
        let state = self.symbols.get_mut(symbol);
        if state.feed == feed {
            return;
        }
        state.feed = feed;
        let mut text = Vec::with_capacity(64);
        json::write_feed(&mut text, &state.name, feed);
        self.publish(symbol, What::Feed(feed), text.into(), wakers);
    }

    fn cursor(&mut self, cursor: Cursor) {
        self.union.settle();
        let head = self.history.head();
        // Of several at one place the last says most.
        if self.cursors.back().is_some_and(|(at, _)| *at == head) {
            self.cursors.pop_back();
        }
        self.cursors.push_back((head, cursor));
        // The last one before the history begins holds for its beginning.
        let tail = self.history.tail();
        while self.cursors.get(1).is_some_and(|(at, _)| *at <= tail) {
            self.cursors.pop_front();
        }
    }

    fn confirm(&mut self, accepted: &Accepted) {
        let position = self.history.head();
        let symbols = accepted.symbols.iter().copied().map(Selector::Symbol);
        let patterns = accepted.patterns.iter().copied().map(Selector::Pattern);
        for selector in symbols.chain(patterns) {
            self.union.confirm(&selector, position);
        }
        for name in &accepted.pending {
            self.union.settle_pending(&Selector::Symbol(*name));
            if let Some(symbol) = self.symbols.id(name) {
                let state = self.symbols.get_mut(symbol);
                if state.reach == Reach::CutOff {
                    state.reach = Reach::Awaited;
                }
            }
        }
    }

    fn refused_upstream(&mut self, rejected: &Rejected) {
        self.metrics.upstream_refused.inc();
        tracing::warn!(
            symbol = rejected.symbol,
            code = %rejected.code,
            "the engine refuses a subscription: its clients get nothing of it"
        );
    }

    fn refused(&mut self, error: &ErrorReply, wakers: &mut Wakers) {
        let is_replay = error
            .id
            .is_some_and(|id| self.replay_refused(id, error.code, wakers));
        if !is_replay {
            self.metrics.upstream_refused.inc();
            tracing::warn!(code = %error.code, message = error.message, "the engine refuses a request");
        }
    }

    fn violated(&mut self, violation: &Violation) {
        self.metrics.violations.inc();
        tracing::warn!(?violation, "the engine broke its own account");
    }

    // --- the engine out of reach ---

    /// The engine has gone: what it has begun is stale until it is back.
    pub(super) fn lose(&mut self, wakers: &mut Wakers) {
        self.connected = false;
        self.metrics.upstream_connected.set(0);
        self.interrupt_replays(wakers);
        for symbol in self.all(|state| state.live) {
            self.symbols.get_mut(symbol).reach = Reach::CutOff;
            self.set_feed(symbol, FeedState::Stale, wakers);
        }
    }

    /// The engine is back, and nothing is missing any more that it still had.
    fn reached(&mut self, wakers: &mut Wakers) {
        for symbol in self.all(|state| state.reach == Reach::CutOff) {
            self.hear(symbol, FeedState::Live, wakers);
        }
    }

    fn all(&self, matches: impl Fn(&symbols::State) -> bool) -> Vec<SymbolId> {
        let all = self.symbols.iter();
        all.filter(|(_, state)| matches(state))
            .map(|(symbol, _)| symbol)
            .collect()
    }
}
