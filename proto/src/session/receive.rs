//! What each reply does to a session.

use super::{
    Goodbye, SYMBOLS_MAX, Session,
    account::{self, Account},
    event::{Event, Fault},
    requests::{self, Requests},
};
use crate::{
    close::CloseReason,
    code::ErrorCode,
    cursor::Cursor,
    pattern::Selector,
    reply::{Ack, AckBody, ErrorReply, Gap, Reply, Start, Welcome},
    request::{Op, Request, Selection, Since, Subscribe},
    symbol::Symbol,
    tick::{Channel, IDENTITY_MAX, Identity, Marks, Tick},
};

impl Session {
    /// As [`Session::receive`]; whether the reply was a tick that the caller already had.
    pub(super) fn take(&mut self, now_ms: u64, reply: Reply, each: &mut impl FnMut(Event)) -> bool {
        match reply {
            Reply::Tick(tick, marks) => {
                self.backoff.delivering(now_ms);
                return self.take_tick(tick, marks, each);
            }
            Reply::Heartbeat { .. } => self.backoff.delivering(now_ms),
            Reply::Start(start) => self.take_start(start, each),
            Reply::Gap(gap) => self.take_gap(gap, each),
            Reply::Feed { symbol, state } => each(Event::Feed { symbol, state }),
            Reply::Cursor(cursor) => self.take_cursor(cursor, each),
            Reply::Welcome(welcome) => self.take_welcome(now_ms, welcome, each),
            Reply::Ack(ack) => self.take_ack(ack, each),
            Reply::Replayed { id, cursor } => self.take_replayed(id, cursor, each),
            Reply::Error(error) => self.take_error(now_ms, error, each),
            Reply::TokenExpiring { in_s } => each(Event::TokenExpiring { in_s }),
            Reply::Goodbye {
                reason,
                reconnect_after_ms,
            } => {
                self.take_goodbye(&reason, reconnect_after_ms);
                each(Event::Goodbye { reason });
            }
            Reply::Pong { .. } => each(Event::Answer(reply)),
        }
        false
    }

    fn take_tick(&mut self, tick: Tick, marks: Marks, each: &mut impl FnMut(Event)) -> bool {
        if marks.replay.is_some() {
            each(Event::Answer(Reply::Tick(tick, marks)));
            return false;
        }
        let channel = tick.values.channel();
        if !is_identity(tick.identity.epoch) || !is_identity(tick.identity.seq) {
            each(account::violation(
                tick.symbol,
                channel,
                tick.identity,
                Fault::OutOfRange,
            ));
            return false;
        }
        let Some(account) = self.account(tick.symbol) else {
            each(account::violation(
                tick.symbol,
                channel,
                tick.identity,
                Fault::TooManySymbols,
            ));
            each(Event::Tick(tick, marks));
            return false;
        };
        !account.is_closed() && !account.tick(&tick, marks, each)
    }

    fn take_start(&mut self, start: Start, each: &mut impl FnMut(Event)) {
        if start.replay.is_some() {
            each(Event::Answer(Reply::Start(start)));
            return;
        }
        let named = [(Channel::Trade, start.trade), (Channel::Quote, start.quote)];
        for (channel, at) in named {
            let seq = at.unwrap_or(0);
            if !is_identity(start.epoch) || seq > IDENTITY_MAX {
                let identity = Identity {
                    epoch: start.epoch,
                    seq,
                };
                each(account::violation(
                    start.symbol,
                    channel,
                    identity,
                    Fault::OutOfRange,
                ));
                return;
            }
        }
        let is_wanted = self.wanted.cover(&start.symbol);
        if let Some(account) = self.account(start.symbol)
            && (is_wanted || !account.is_closed())
        {
            account.start(&start, each);
        }
    }

    fn take_gap(&mut self, gap: Gap, each: &mut impl FnMut(Event)) {
        if gap.replay.is_some() {
            each(Event::Answer(Reply::Gap(gap)));
            return;
        }
        let (from, to) = (gap.from.unwrap_or(1), gap.to.unwrap_or(IDENTITY_MAX));
        if !is_identity(gap.epoch) || !is_identity(from) || !is_identity(to) || from > to {
            let identity = Identity {
                epoch: gap.epoch,
                seq: from,
            };
            each(account::violation(
                gap.symbol,
                gap.channel,
                identity,
                Fault::OutOfRange,
            ));
            return;
        }
        match self.account(gap.symbol) {
            Some(account) if account.is_closed() => {}
            Some(account) => account.gap(&gap, each),
            None => each(Event::Gap(gap)),
        }
    }

    /// The account of `symbol`; `None` where there are too many.
    fn account(&mut self, symbol: Symbol) -> Option<&mut Account> {
        if self.accounts.len() >= SYMBOLS_MAX && !self.accounts.contains_key(&symbol) {
            return None;
        }
        Some(self.accounts.entry(symbol).or_default())
    }

    /// Keeps a cursor that covers all subscriptions.
    ///
    /// One that comes while some are not made yet, or are in the middle of their replay, covers
    /// only the others: resuming from it would lose ticks.
    fn take_cursor(&mut self, cursor: Cursor, each: &mut impl FnMut(Event)) {
        if self
            .requests()
            .is_some_and(|requests| requests.are_settled())
        {
            self.cursor = Some(cursor);
            each(Event::Cursor(cursor));
        }
    }

    fn take_welcome(&mut self, now_ms: u64, welcome: Welcome, each: &mut impl FnMut(Event)) {
        if self
            .link
            .as_ref()
            .is_none_or(|link| link.requests.is_some())
        {
            return;
        }
        self.tokens_refused = 0;
        let operations = self.operations(&welcome);
        let waiting = operations.into_iter().map(|op| Request {
            id: Some(self.request_id()),
            op,
        });
        let requests = Requests::new(now_ms, welcome.limits.ops_per_s, waiting.collect());
        if let Some(link) = &mut self.link {
            link.heartbeat_ms = welcome.heartbeat_ms;
            link.limits = Some(welcome.limits);
            link.requests = Some(requests);
        }
        each(Event::Connected(welcome));
    }

    /// What a connection begins with.
    fn operations(&self, welcome: &Welcome) -> Vec<Op> {
        let max_delay_ms = self.options.max_delay_ms;
        let since = self.cursor.map(|cursor| Since {
            cursor: Some(cursor),
            points: Vec::new(),
        });
        let template = self.template(self.wanted.all().to_vec(), since);
        let points = self
            .accounts
            .iter()
            .filter_map(|(&symbol, account)| Some((symbol, account.point()?)));
        let subscribes = requests::plan(&template, points, &welcome.limits);
        let mut operations = Vec::with_capacity(1 + subscribes.len());
        if max_delay_ms != 0 {
            operations.push(Op::Options {
                max_delay_ms: Some(max_delay_ms),
            });
        }
        operations.extend(subscribes.into_iter().map(Op::Subscribe));
        operations
    }

    /// A subscription with the session's options.
    pub(super) fn template(&self, selectors: Vec<Selector>, since: Option<Since>) -> Subscribe {
        let options = &self.options;
        Subscribe {
            selection: Selection {
                selectors,
                rejected: Vec::new(),
            },
            channels: options.channels,
            mode: options.mode,
            snapshot: options.snapshot,
            since,
        }
    }

    fn take_ack(&mut self, ack: Ack, each: &mut impl FnMut(Event)) {
        if let (Some(id), Some(requests)) = (ack.id, self.requests()) {
            requests.answered(id);
        }
        match (ack.id, ack.body) {
            (id, AckBody::Subscribe(mut accepted)) => {
                if let (Some(id), Some(requests)) = (id, self.requests()) {
                    requests.subscribed(id, &accepted);
                }
                let rejected = std::mem::take(&mut accepted.rejected);
                each(Event::Subscribed(accepted));
                for entry in rejected {
                    each(Event::Rejected(entry));
                }
                self.tell_resumed(each);
            }
            (
                _,
                AckBody::Auth {
                    token_exp,
                    lost,
                    narrowed,
                },
            ) => {
                each(Event::TokenRenewed {
                    token_exp,
                    lost,
                    narrowed,
                });
            }
            (id, body) => each(Event::Answer(Reply::Ack(Ack { id, body }))),
        }
    }

    fn take_replayed(
        &mut self,
        id: Option<u32>,
        cursor: Option<Cursor>,
        each: &mut impl FnMut(Event),
    ) {
        // A cursor answers a `replay`, which is the caller's own.
        if cursor.is_some() {
            each(Event::Answer(Reply::Replayed { id, cursor }));
            return;
        }
        if let (Some(id), Some(requests)) = (id, self.requests()) {
            requests.replayed(id);
        }
        self.tell_resumed(each);
    }

    fn tell_resumed(&mut self, each: &mut impl FnMut(Event)) {
        let Some(link) = &mut self.link else { return };
        if link.requests.as_mut().is_some_and(Requests::take_resumed) {
            each(Event::Resumed {
                replayed: self.totals.ticks - link.ticks_before,
            });
        }
    }

    fn take_error(&mut self, now_ms: u64, error: ErrorReply, each: &mut impl FnMut(Event)) {
        if error.code == ErrorCode::BadCursor {
            self.cursor = None;
        }
        let will_retry = match (error.id, self.requests()) {
            (Some(id), Some(requests)) => requests.failed(id, error.code, now_ms),
            _ => false,
        };
        if !will_retry {
            each(Event::Refused(error));
        }
        self.tell_resumed(each);
    }

    fn take_goodbye(&mut self, reason: &str, reconnect_after_ms: Option<u64>) {
        if let Some(link) = &mut self.link {
            let reason = CloseReason::ALL
                .into_iter()
                .find(|known| known.label() == reason);
            link.goodbye = Some(Goodbye {
                reason,
                reconnect_after_ms,
            });
        }
    }
}

fn is_identity(number: u64) -> bool {
    (1..=IDENTITY_MAX).contains(&number)
}
