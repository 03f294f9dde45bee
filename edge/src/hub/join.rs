//! A client comes: what it may follow, and how it begins.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use axum_server::ConnectionShutdown;
use tickwire_proto::{
    claims::{Allowed, Grant},
    code::ErrorCode,
    cursor::EdgeCursor,
    pattern::{Pattern, Selector},
    reply::{Accepted, Ack, AckBody, Narrowed, Reply},
    request::{Mode, Rejected, Subscribe},
    symbol::Symbol,
    tick::{Channels, FeedState, Marks},
};

use super::{
    Hub, Order, State, Wakers,
    block::{Item, SymbolId},
    client::{Client, Member, Phase},
    filter::Filter,
    outbox::{Bounds, Outbox},
    symbols::Follower,
};

/// What a client asks for.
#[derive(Debug)]
pub struct Request {
    /// What to follow, and how.
    pub subscribe: Subscribe,
    /// Where to go on.
    pub cursor: Option<EdgeCursor>,
    /// What its token allows.
    pub grant: Grant,
    /// Its number, higher than all before.
    pub session: u64,
    /// Whether it takes one answer and goes, so that an interval means nothing.
    pub is_poll: bool,
    /// Closes its socket, where it does not read and does not go.
    pub socket: Option<ConnectionShutdown>,
}

/// Why a client cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its token allows nothing of what it asks for.
    NotEntitled,
    /// Too many resumes wait for the engine.
    Busy,
    /// The edge is about to end.
    Draining,
}

/// What of a request is taken.
pub(super) struct Judged {
    accepted: Accepted,
    /// What is followed for it.
    pub(super) selectors: Vec<Selector>,
}

impl Hub {
    /// Takes a client in. Its outbox begins with the `ack`.
    ///
    /// # Errors
    ///
    /// [`Refused`], and nothing has changed.
    pub fn join(self: &Arc<Self>, request: &Request) -> Result<Client, Refused> {
        let mut wakers = Wakers::default();
        let mut state = self.lock();
        let key = state.join(request, &mut wakers)?;
        self.announce(&state);
        let outbox = Arc::clone(&state.clients[key].outbox);
        Ok(Client::new(Arc::clone(self), key, outbox))
    }

    /// Whether a client with this token would be taken in.
    ///
    /// # Errors
    ///
    /// [`Refused`] as [`Hub::join`].
    pub fn would_take(&self, subscribe: Option<&Subscribe>, grant: &Grant) -> Result<(), Refused> {
        let state = self.lock();
        if state.draining {
            Err(Refused::Draining)
        } else if subscribe.is_some_and(|subscribe| !is_entitled(subscribe, grant)) {
            Err(Refused::NotEntitled)
        } else if state.replays.waiting() >= state.config.replays_queued_max {
            Err(Refused::Busy)
        } else {
            Ok(())
        }
    }

    pub(super) fn leave(&self, key: usize) {
        let mut state = self.lock();
        state.leave(key);
        self.announce(&state);
    }
}

impl State {
    fn join(&mut self, request: &Request, wakers: &mut Wakers) -> Result<usize, Refused> {
        if self.draining {
            return Err(Refused::Draining);
        }
        let Subscribe {
            channels,
            mode,
            snapshot,
            ..
        } = request.subscribe;
        if !is_entitled(&request.subscribe, &request.grant) {
            return Err(Refused::NotEntitled);
        }
        let Judged {
            accepted,
            selectors,
        } = self.judge(request);
        let phase = self.first_phase(request.cursor, &selectors)?;
        let interval = match mode {
            Mode::Stream => None,
            Mode::Conflate { .. } if request.is_poll => Some(Duration::ZERO),
            Mode::Conflate { interval_ms } => Some(Duration::from_millis(interval_ms.into())),
        };
        let bounds = Bounds {
            lag_soft_ticks: self.config.lag_soft_ticks,
            queued_bytes_max: self.config.queued_bytes_max,
        };
        let outbox = Arc::new(Outbox::new(bounds, channels, interval));
        let ack = Ack {
            id: None,
            body: AckBody::Subscribe(accepted),
        };
        // Whoever polls on has had it.
        if !request.is_poll || request.cursor.is_none() {
            outbox.push_own(Item::reply("ack", &Reply::Ack(ack)));
        }
        let cursor = request.cursor.map_or_else(
            || self.cursor_at(self.history.head()).engine,
            |cursor| cursor.engine,
        );
        let is_joining = matches!(phase, Phase::Joining(_));
        let is_queued = matches!(phase, Phase::Queued { .. });
        let key = self.clients.insert(Member {
            outbox,
            sub: request.grant.sub.clone(),
            filter: selectors.iter().collect(),
            channels,
            mode,
            // Whoever resumes has had them.
            snapshot: snapshot && is_joining,
            is_poll: request.is_poll,
            is_continued: matches!(phase, Phase::CatchingUp { .. }),
            socket: request.socket.clone(),
            cut_at: None,
            session: request.session,
            exp: request.grant.exp,
            told_expiring: false,
            cursor,
            phase,
            following: HashMap::new(),
            started: HashMap::new(),
            floor: HashMap::new(),
            is_repeated: false,
            kept_bytes: 0,
            beyond: HashMap::new(),
            selectors,
        });
        self.enter_union(key);
        if is_queued {
            self.replays.queue(key);
            self.start_replays();
        } else {
            if is_joining {
                self.await_beginnings(key);
            }
            wakers.add(self.clients[key].outbox.set_behind(true));
        }
        Ok(key)
    }

    /// Decides entry by entry what of a list is taken.
    pub(super) fn judge(&self, request: &Request) -> Judged {
        let selection = &request.subscribe.selection;
        let most = request.grant.max_symbols;
        let most = most.unwrap_or(self.config.symbols_per_client) as usize;
        let mut judged = Judged {
            accepted: Accepted {
                rejected: selection.rejected.clone(),
                ..Accepted::default()
            },
            selectors: Vec::new(),
        };
        let (mut taken, mut room) = (0, self.union.room(self.engine_symbols));
        for selector in &selection.selectors {
            let parts = match request.grant.symbols.intersect(selector) {
                Allowed::Nothing => {
                    judged.reject(selector, ErrorCode::NotEntitled);
                    continue;
                }
                Allowed::Whole => vec![*selector],
                Allowed::Narrowed(parts) => parts,
            };
            let missing = self.union.missing(&parts);
            if taken == most || missing > room {
                judged.reject(selector, ErrorCode::TooManySymbols);
                continue;
            }
            (taken, room) = (taken + 1, room - missing);
            match *selector {
                Selector::Symbol(symbol) => {
                    judged.accepted.symbols.push(symbol);
                    if self.is_pending(&symbol) {
                        judged.accepted.pending.push(symbol);
                    }
                }
                Selector::Pattern(pattern) => {
                    judged.accepted.patterns.push(pattern);
                    if parts != [*selector] {
                        let to = parts.clone();
                        judged.accepted.narrowed.push(Narrowed { pattern, to });
                    }
                }
            }
            judged.selectors.extend(parts);
        }
        let mut seen = HashSet::new();
        judged.selectors.retain(|selector| seen.insert(*selector));
        judged
    }

    /// Whether no tick of the symbol is known. Of one that nobody follows yet the edge knows none.
    fn is_pending(&self, name: &Symbol) -> bool {
        self.symbols.id(name).is_none_or(|symbol| {
            let state = self.symbols.get(symbol);
            state.last == [None; 2]
        })
    }

    /// How a client begins: with what is known, in the history, or by the engine's replay.
    fn first_phase(
        &self,
        cursor: Option<EdgeCursor>,
        selectors: &[Selector],
    ) -> Result<Phase, Refused> {
        let live_from = self.history.head();
        let Some(cursor) = cursor else {
            let known = self.live_among(&selectors.iter().collect());
            return Ok(Phase::Joining(known.into()));
        };
        if let Some(at) = self.own_position(cursor)
            && selectors
                .iter()
                .all(|selector| self.union.covers(selector, at))
        {
            self.metrics.resumes_own.inc();
            return Ok(Phase::CatchingUp { at });
        }
        if self.replays.waiting() >= self.config.replays_queued_max {
            return Err(Refused::Busy);
        }
        self.metrics.resumes_engine.inc();
        Ok(Phase::Queued { live_from })
    }

    /// The symbols of a filter that have begun.
    pub(super) fn live_among(&self, filter: &Filter) -> Vec<SymbolId> {
        let exact = filter.exact.iter().filter_map(|name| self.symbols.id(name));
        let mut found: Vec<SymbolId> = exact
            .filter(|symbol| self.symbols.get(*symbol).live)
            .collect();
        // The whole table only for those who may follow any of it.
        if !filter.patterns.is_empty() {
            let others = self.symbols.iter().filter(|(_, state)| {
                let matches = |pattern: &Pattern| pattern.matches(&state.name);
                state.live
                    && !filter.exact.contains(&state.name)
                    && filter.patterns.iter().any(matches)
            });
            found.extend(others.map(|(symbol, _)| symbol));
        }
        found
    }

    /// Where a cursor stands in this edge's history.
    fn own_position(&self, cursor: EdgeCursor) -> Option<u64> {
        let own = cursor.own.filter(|own| own.edge == self.edge)?;
        let range = self.history.tail()..=self.history.head();
        range.contains(&own.position).then_some(own.position)
    }

    fn enter_union(&mut self, key: usize) {
        let selectors = self.clients[key].selectors.iter().copied();
        let fresh: Vec<Selector> = selectors
            .filter(|selector| self.union.enter(*selector))
            .collect();
        if !fresh.is_empty() {
            self.orders.push(Order::Subscribe(fresh));
        }
    }

    /// Has a client begin with each symbol that it follows once that begins.
    pub(super) fn await_beginnings(&mut self, key: usize) {
        let filter = &self.clients[key].filter;
        if !filter.patterns.is_empty() {
            self.pattern_followers.insert(key);
        }
        for name in &filter.exact {
            let symbol = self.symbols.id(name);
            if symbol.is_none_or(|symbol| !self.symbols.get(symbol).live) {
                self.waiting.entry(*name).or_default().push(key);
            }
        }
    }

    /// Gives a client what is known of a symbol, and from here on what comes.
    pub(super) fn attach(&mut self, key: usize, symbol: SymbolId, wakers: &mut Wakers) {
        let member = &mut self.clients[key];
        let state = self.symbols.get_mut(symbol);
        if member.following.contains_key(&symbol) || !state.live {
            return;
        }
        // Whoever polls on knows where its accounts stand; of anyone else they are open where
        // anything has been told.
        let says_where = !(member.is_poll && member.is_continued);
        let started = member.started(symbol);
        let channels = member.channels.iter();
        let unopened = channels
            .filter(|channel| !started.contains(*channel))
            .fold(Channels::NONE, Channels::with);
        if says_where {
            if let Some(start) = Item::start(&state.current_start(), unopened) {
                wakers.add(member.outbox.push_own(start));
            }
            if state.feed == FeedState::Stale {
                wakers.add(member.outbox.push_own(Item::feed(state.name, state.feed)));
            }
        }
        if member.snapshot {
            let marks = Marks {
                snapshot: true,
                ..Marks::default()
            };
            for channel in member.channels.iter() {
                if let Some(tick) = &state.latest[channel.index()] {
                    wakers.add(member.outbox.push_own(Item::tick(tick, &marks)));
                }
            }
        }
        member.following.insert(symbol, state.followers.len());
        state.followers.push(Follower {
            client: key,
            outbox: Arc::clone(&member.outbox),
            channels: member.channels,
            snapshot: member.snapshot,
            has_floor: !member.floor.is_empty(),
        });
    }

    pub(super) fn leave(&mut self, key: usize) {
        let Some(member) = self.clients.try_remove(key) else {
            return;
        };
        self.metrics
            .dropped_ticks
            .inc_by(member.outbox.take_dropped());
        for (symbol, place) in &member.following {
            let followers = &mut self.symbols.get_mut(*symbol).followers;
            followers.swap_remove(*place);
            if let Some(moved) = followers.get(*place) {
                self.clients[moved.client].following.insert(*symbol, *place);
            }
        }
        let now = Instant::now();
        for selector in &member.selectors {
            self.union.leave(selector, now);
            if let Selector::Symbol(name) = selector
                && let Some(waiting) = self.waiting.get_mut(name)
            {
                waiting.retain(|client| *client != key);
                if waiting.is_empty() {
                    self.waiting.remove(name);
                }
            }
        }
        self.pattern_followers.remove(&key);
        self.abandon_replay(key, &member);
    }
}

impl Judged {
    fn reject(&mut self, selector: &Selector, code: ErrorCode) {
        self.accepted
            .rejected
            .push(Rejected::new(&selector.to_string(), code));
    }
}

/// Whether a token allows anything of a request. Where no entry could be read the `ack` says so.
fn is_entitled(subscribe: &Subscribe, grant: &Grant) -> bool {
    let selectors = &subscribe.selection.selectors;
    grant.max_connections != Some(0)
        && (selectors.is_empty()
            || selectors
                .iter()
                .any(|selector| grant.symbols.intersect(selector) != Allowed::Nothing))
}
