//! Carrying out what subscribers ask.

use rustc_hash::FxHashSet;
use tickwire_proto::{
    claims::Allowed,
    close::CloseReason,
    code::ErrorCode,
    pattern::Selector,
    reply::{Accepted, Ack, AckBody, ErrorReply, Listed, Narrowed, Reply},
    request::{Op, Rejected, Replay, Request, RequestError, Selection, Since, Subscribe},
    symbol::Symbol,
    tick::Channels,
    upgrade::Endpoint,
};

use super::{
    Authenticated, Floor, Letter,
    connection::{Rights, budget},
    encode,
    join::{Join, Purpose},
    mark_dirty,
    selections::Options,
};
use crate::{
    clock::wall_ns,
    door::{AuthRequest, TokenError},
    peer::conduct::Pace,
    tape::SymbolId,
};

impl Floor {
    /// Takes one text message from a subscriber.
    pub(super) fn take_text(&mut self, index: u32, text: &str) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        if connection.closing.is_some() {
            return;
        }
        match Request::from_json(text, Endpoint::Subscribe) {
            Err(error) => {
                let close = connection.conduct.malformed(now);
                self.refuse(index, error);
                if let Some(reason) = close {
                    self.close(index, reason);
                }
            }
            Ok(request) => match connection.take_operation(now, &self.config) {
                Pace::Granted => self.carry_out(index, request),
                pace => self.slow_down(index, request.id, pace),
            },
        }
    }

    /// A ping or a pong of WebSocket's own is an operation as well: there is work in each.
    pub(super) fn take_control(&mut self, index: u32) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        if connection.closing.is_none() {
            let pace = connection.take_operation(now, &self.config);
            self.slow_down(index, None, pace);
        }
    }

    /// Tells who is over its rate of operations, and closes where that goes on.
    fn slow_down(&mut self, index: u32, id: Option<u32>, pace: Pace) {
        if pace == Pace::Granted {
            return;
        }
        let message = "too many operations per second";
        self.refuse_with(index, id, ErrorCode::RateLimited, message);
        if let Pace::Close(reason) = pace {
            self.close(index, reason);
        }
    }

    fn carry_out(&mut self, index: u32, request: Request) {
        let id = request.id;
        match request.op {
            Op::Subscribe(subscribe) => self.subscribe(index, id, subscribe),
            Op::Replay(replay) => self.replay(index, id, replay),
            Op::Unsubscribe(selection) => self.unsubscribe(index, id, selection),
            Op::List => self.list(index, id),
            Op::Auth { token } => self.authenticate(index, id, token),
            Op::Options { max_delay_ms } => self.set_options(index, id, max_delay_ms),
            Op::Ping => self.reply(
                index,
                &Reply::Pong {
                    id,
                    ts_us: wall_ns() / 1_000,
                },
            ),
            // The parser refuses a publisher's operations on this endpoint.
            Op::Flush | Op::Declare(_) => {}
        }
    }

    /// Queues a message that may overtake ticks.
    pub(super) fn reply(&mut self, index: u32, reply: &Reply) {
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        if connection.closing.is_some() {
            // Nothing may follow the close frame.
            return;
        }
        encode::write_json(connection.outbox.control_mut(), reply);
        mark_dirty(&mut self.dirty, connection, index);
    }

    fn refuse(&mut self, index: u32, error: RequestError) {
        let RequestError { id, code, message } = error;
        self.reply(
            index,
            &Reply::Error(ErrorReply {
                id,
                code,
                message,
                msg: None,
                index: None,
                symbol: None,
            }),
        );
    }

    fn refuse_with(&mut self, index: u32, id: Option<u32>, code: ErrorCode, message: &str) {
        self.refuse(
            index,
            RequestError {
                id,
                code,
                message: message.to_owned(),
            },
        );
    }

    // --- subscribe, replay, unsubscribe ---

    /// Subscribes, by request or by the query of the upgrade.
    pub(super) fn subscribe(&mut self, index: u32, id: Option<u32>, subscribe: Subscribe) {
        let Subscribe {
            selection,
            channels,
            mode,
            snapshot,
            since,
        } = subscribe;
        let (accepted, taken) = self.judge(index, selection, true);
        self.reply(
            index,
            &Reply::Ack(Ack {
                id,
                body: AckBody::Subscribe(accepted),
            }),
        );
        if taken.is_empty() {
            return;
        }
        let connection = &mut self.connections[index as usize];
        connection.liveness.subscribed();
        connection.requests += 1;
        let (request, generation) = (connection.requests, connection.generation);
        let options = Options {
            channels,
            mode,
            request,
        };
        for selector in &taken {
            self.select(index, *selector, options);
        }
        let plan = self.plan_governed(index, &taken, request);
        let purpose = since.map_or(Purpose::Subscribe { snapshot }, |since| {
            Purpose::Resume(self.at_home(since))
        });
        self.add_join(Join::new(
            index, generation, id, purpose, channels, mode, request, plan, self.at,
        ));
    }

    fn replay(&mut self, index: u32, id: Option<u32>, replay: Replay) {
        let Some(id) = id else { return };
        let connection = &self.connections[index as usize];
        if connection.replays().count()
            >= self.config.replays_per_connection + self.config.replays_queued_max
        {
            self.refuse_with(
                index,
                Some(id),
                ErrorCode::TooManyReplays,
                "too many replays under way and queued",
            );
            return;
        }
        let reused = connection.replays().any(|key| {
            self.joins
                .get(key.0)
                .is_some_and(|join| join.replay_id() == Some(id))
        });
        if reused {
            self.refuse_with(
                index,
                Some(id),
                ErrorCode::BadRequest,
                "id: a replay with this id is in progress",
            );
            return;
        }
        let generation = connection.generation;
        let Replay {
            selection,
            channels,
            since,
        } = replay;
        let (accepted, taken) = self.judge(index, selection, false);
        self.reply(
            index,
            &Reply::Ack(Ack {
                id: Some(id),
                body: AckBody::Replay(accepted),
            }),
        );
        let purpose = Purpose::Replay {
            id,
            named: taken,
            since: self.at_home(since),
        };
        let mode = tickwire_proto::request::Mode::Stream;
        self.add_join(Join::new(
            index,
            generation,
            Some(id),
            purpose,
            channels,
            mode,
            0,
            Vec::new(),
            self.at,
        ));
    }

    /// Decides entry by entry what of a `symbols` list is taken.
    fn judge(
        &mut self,
        index: u32,
        selection: Selection,
        counts: bool,
    ) -> (Accepted, Vec<Selector>) {
        self.take_newborn();
        let connection = &self.connections[index as usize];
        let symbols_max = connection.rights.symbols_max(&self.config) as usize;
        let mut held = connection.selections.len();
        let mut accepted = Accepted {
            rejected: selection.rejected,
            ..Accepted::default()
        };
        let mut taken = Vec::with_capacity(selection.selectors.len());
        let mut named = FxHashSet::default();
        for selector in selection.selectors {
            if !named.insert(selector) {
                continue;
            }
            let allowed = connection.rights.symbols().intersect(&selector);
            let is_new = counts && !connection.selections.contains(&selector);
            let refused = if allowed == Allowed::Nothing {
                Some(ErrorCode::NotEntitled)
            } else if is_new && held >= symbols_max {
                Some(ErrorCode::TooManySymbols)
            } else {
                None
            };
            if let Some(code) = refused {
                accepted.rejected.push(Rejected {
                    symbol: selector.to_string(),
                    code,
                });
                continue;
            }
            held += usize::from(is_new);
            taken.push(selector);
            match selector {
                Selector::Symbol(symbol) => {
                    accepted.symbols.push(symbol);
                    if !self.is_published(&symbol) {
                        accepted.pending.push(symbol);
                    }
                }
                Selector::Pattern(pattern) => {
                    accepted.patterns.push(pattern);
                    if let Allowed::Narrowed(to) = allowed {
                        accepted.narrowed.push(Narrowed { pattern, to });
                    }
                }
            }
        }
        (accepted, taken)
    }

    fn is_published(&self, symbol: &Symbol) -> bool {
        self.rows.id(symbol).is_some_and(|id| {
            Channels::BOTH
                .iter()
                .any(|channel| self.tape.base(id, channel).is_some())
        })
    }

    /// Enters a subscription into the connection's list and the floor's tables of the unborn.
    fn select(&mut self, index: u32, selector: Selector, options: Options) {
        let connection = &mut self.connections[index as usize];
        connection.selections.insert(selector, options);
        match selector {
            Selector::Pattern(_) => {
                if !self.pattern_followers.contains(&index) {
                    self.pattern_followers.push(index);
                }
            }
            Selector::Symbol(symbol) if self.rows.id(&symbol).is_none() => {
                let waiting = self.pending.entry(symbol).or_default();
                if !waiting.contains(&index) {
                    waiting.push(index);
                }
            }
            Selector::Symbol(_) => {}
        }
    }

    /// The reverse of [`Floor::select`]; false where there was no such subscription.
    pub(super) fn deselect(&mut self, index: u32, selector: &Selector) -> bool {
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return false;
        };
        let known = connection.selections.remove(selector);
        if !connection.selections.has_patterns() {
            self.pattern_followers.retain(|own| *own != index);
        }
        if let Selector::Symbol(symbol) = selector
            && let Some(waiting) = self.pending.get_mut(symbol)
        {
            waiting.retain(|own| *own != index);
            if waiting.is_empty() {
                self.pending.remove(symbol);
            }
        }
        known
    }

    /// The known symbols that `taken` governs by virtue of `request`.
    fn plan_governed(
        &self,
        index: u32,
        taken: &[Selector],
        request: u32,
    ) -> Vec<(SymbolId, Selector)> {
        let connection = &self.connections[index as usize];
        let mut plan = Vec::new();
        for selector in taken {
            self.each_match(selector, |id, name| {
                let governing = connection
                    .selections
                    .governing(name, connection.rights.symbols());
                if governing
                    .is_some_and(|(own, options)| own == *selector && options.request == request)
                {
                    plan.push((id, *selector));
                }
            });
        }
        plan
    }

    /// The known symbols that `taken` names and the token allows, each once.
    pub(super) fn plan_entitled(
        &self,
        index: u32,
        taken: &[Selector],
    ) -> Vec<(SymbolId, Selector)> {
        let connection = &self.connections[index as usize];
        let mut plan = Vec::new();
        let mut planned = FxHashSet::default();
        for selector in taken {
            self.each_match(selector, |id, name| {
                if planned.insert(id) && connection.rights.symbols().allows(name) {
                    plan.push((id, *selector));
                }
            });
        }
        plan
    }

    fn each_match(&self, selector: &Selector, mut each: impl FnMut(SymbolId, &Symbol)) {
        match selector {
            Selector::Symbol(symbol) => {
                if let Some(id) = self.rows.id(symbol) {
                    each(id, symbol);
                }
            }
            Selector::Pattern(pattern) => {
                for (id, name) in self.rows.iter().filter(|(_, name)| pattern.matches(name)) {
                    each(id, name);
                }
            }
        }
    }

    fn unsubscribe(&mut self, index: u32, id: Option<u32>, selection: Selection) {
        let mut accepted = Accepted {
            rejected: selection.rejected,
            ..Accepted::default()
        };
        for selector in selection.selectors {
            if !self.deselect(index, &selector) {
                let code = ErrorCode::NotSubscribed;
                accepted.rejected.push(Rejected {
                    symbol: selector.to_string(),
                    code,
                });
                continue;
            }
            self.regovern_matches(index, &selector);
            match selector {
                Selector::Symbol(symbol) => accepted.symbols.push(symbol),
                Selector::Pattern(pattern) => accepted.patterns.push(pattern),
            }
        }
        self.reply(
            index,
            &Reply::Ack(Ack {
                id,
                body: AckBody::Unsubscribe(accepted),
            }),
        );
    }

    /// Hands the symbols of a subscription that has gone to the next that governs them.
    fn regovern_matches(&mut self, index: u32, gone: &Selector) {
        let mut affected = Vec::new();
        for symbol in self.symbols_of(index) {
            let connection = &self.connections[index as usize];
            let name = self.rows.name(symbol);
            let governing = connection
                .selections
                .governing(&name, connection.rights.symbols());
            // What a longer pattern or the symbol itself governs never was the gone one's.
            let was_its = gone.matches(&name)
                && governing.is_none_or(|(next, _)| next.covers(gone) && next != *gone);
            if was_its {
                affected.push(symbol);
            }
        }
        for symbol in affected {
            let joins: Vec<_> = self.connections[index as usize].joins().collect();
            self.forget_joined(&joins, symbol);
            self.regovern(index, symbol);
        }
    }

    // --- list, options, auth ---

    fn list(&mut self, index: u32, id: Option<u32>) {
        let listed = self.connections[index as usize]
            .selections
            .sorted()
            .into_iter()
            .map(|(selector, options)| Listed {
                selector,
                channels: options.channels,
                mode: options.mode,
            })
            .collect();
        self.reply(
            index,
            &Reply::Ack(Ack {
                id,
                body: AckBody::List(listed),
            }),
        );
    }

    fn set_options(&mut self, index: u32, id: Option<u32>, max_delay_ms: Option<u32>) {
        self.leave_audience(index);
        let connection = &mut self.connections[index as usize];
        if let Some(max_delay_ms) = max_delay_ms {
            connection.max_delay_ms = budget(max_delay_ms);
            connection.held_since = None;
        }
        let max_delay_ms = connection.max_delay_ms.into();
        self.reply(
            index,
            &Reply::Ack(Ack {
                id,
                body: AckBody::Options { max_delay_ms },
            }),
        );
    }

    /// Sends the token away to be verified: that takes too long for a floor.
    fn authenticate(&mut self, index: u32, id: Option<u32>, token: String) {
        let connection = self.connections[index as usize].generation;
        let (desk, generation) = (std::sync::Arc::clone(&self.desk), connection);
        let reply = Box::new(move |outcome| {
            let answer = Authenticated {
                connection: index,
                generation,
                id,
                outcome,
            };
            // A full mailbox loses the answer; the client still has its old token, and time to
            // ask again.
            let _ = desk.mailbox.post(Letter::Authenticated(Box::new(answer)));
        });
        if self.auth.submit(AuthRequest { token, reply }).is_err() {
            self.refuse_with(
                index,
                id,
                ErrorCode::RateLimited,
                "too many tokens are being verified",
            );
        }
    }

    /// Puts a verified token into force: entitlements are recomputed, both ways.
    pub(super) fn authenticated(&mut self, answer: Authenticated) {
        let Authenticated {
            connection: index,
            generation,
            id,
            outcome,
        } = answer;
        let now = self.now;
        let config = std::sync::Arc::clone(&self.config);
        let Some(connection) = self.connection(index, generation) else {
            return;
        };
        if connection.closing.is_some() {
            return;
        }
        let grant = match outcome {
            Ok(grant) if grant.sub == connection.slot.sub() => grant,
            Ok(_) => {
                return self.refuse_with(
                    index,
                    id,
                    ErrorCode::BadToken,
                    "the token names another sub",
                );
            }
            Err(error) => return self.refuse_token(index, id, error),
        };
        connection.liveness.token(now, grant.exp, &config);
        let token_exp = grant.exp;
        connection.rights = Rights::new(grant);
        let (lost, narrowed) = self.apply_entitlement(index);
        self.reply(
            index,
            &Reply::Ack(Ack {
                id,
                body: AckBody::Auth {
                    token_exp,
                    lost: lost.clone(),
                    narrowed,
                },
            }),
        );
        let connection = &mut self.connections[index as usize];
        let due = connection.deadline(&config);
        self.timers
            .arm(&mut connection.armed, due, index, generation);
        if !lost.is_empty()
            && connection.selections.len() == 0
            && connection.rights.symbols().is_empty()
        {
            self.close(index, CloseReason::NotEntitled);
        }
    }

    fn refuse_token(&mut self, index: u32, id: Option<u32>, error: TokenError) {
        self.refuse_with(index, id, ErrorCode::BadToken, &error.to_string());
    }

    /// Ends what the token no longer allows, and takes up what it allows now.
    fn apply_entitlement(&mut self, index: u32) -> (Vec<Selector>, Vec<Narrowed>) {
        let mut lost = Vec::new();
        let mut narrowed = Vec::new();
        for (selector, _) in self.connections[index as usize].selections.sorted() {
            match (
                self.connections[index as usize]
                    .rights
                    .symbols()
                    .intersect(&selector),
                selector,
            ) {
                (Allowed::Nothing, _) => {
                    self.deselect(index, &selector);
                    lost.push(selector);
                }
                (Allowed::Narrowed(to), Selector::Pattern(pattern)) => {
                    narrowed.push(Narrowed { pattern, to });
                }
                _ => {}
            }
        }
        for symbol in self.symbols_of(index) {
            let allowed = self.connections[index as usize].rights.symbols();
            if !allowed.allows(&self.rows.name(symbol)) {
                self.revoke_membership(index, symbol);
            }
        }
        self.take_up_allowed(index);
        (lost, narrowed)
    }

    /// The symbols that the connection is live on, joins, or replays.
    fn symbols_of(&self, index: u32) -> Vec<SymbolId> {
        let connection = &self.connections[index as usize];
        let joins = connection.joins().chain(connection.replays());
        let mut symbols: Vec<_> = joins
            .filter_map(|key| self.joins.get(key.0))
            .flat_map(|join| join.plan.iter().map(|(symbol, _)| *symbol))
            .chain(connection.members.iter().map(|(symbol, _)| *symbol))
            .collect();
        symbols.sort_unstable_by_key(|symbol| symbol.0);
        symbols.dedup();
        symbols
    }

    /// Symbols under the connection's patterns that the token did not allow before start now.
    fn take_up_allowed(&mut self, index: u32) {
        let connection = &self.connections[index as usize];
        let mut fresh = Vec::new();
        for (id, name) in self.rows.iter() {
            if connection.members.contains_key(&id) || self.is_being_joined(index, id) {
                continue;
            }
            if let Some((_, options)) = connection
                .selections
                .governing(name, connection.rights.symbols())
            {
                fresh.push((id, options));
            }
        }
        for (id, options) in fresh {
            self.start_live(index, id, options);
        }
    }

    /// Whether a subscription under way is yet to bring the symbol.
    pub(super) fn is_being_joined(&self, index: u32, symbol: SymbolId) -> bool {
        let connection = &self.connections[index as usize];
        connection
            .joins()
            .filter_map(|key| self.joins.get(key.0))
            .any(|join| join.plan.iter().any(|(own, _)| *own == symbol))
    }

    /// The same with a cursor of another host's as one of this tape, where its time can be told here.
    fn at_home(&self, mut since: Since) -> Since {
        if let Some(cursor) = since
            .cursor
            .as_mut()
            .filter(|own| own.tape != self.tape.id())
        {
            let begin_ns = self.beats.begin_ns(cursor);
            if let Some(position) = begin_ns.and_then(|ns| self.tape.admitted_since(ns)) {
                cursor.tape = self.tape.id();
                cursor.position = position.0;
            }
        }
        since
    }
}
