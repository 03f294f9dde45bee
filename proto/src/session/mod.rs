//! The client's session: what every client of the protocol drives, without sockets or clock.
//!
//! ```text
//!            connect ──► connected ──► next_request … ──► socket
//!               ▲                           │
//!   disconnected│            socket ──► receive ──► Event …
//!     ▲         │                           │
//!     └─────────┴── close, error, timed_out ┘
//! ```
//!
//! A session outlives its connections. It subscribes, resumes after a reconnect where the caller
//! left off, drops what comes twice, checks the engine's account and reports what is missing, so
//! that its events read as if there had been one connection. Every call takes the time, in
//! milliseconds since any fixed start.
//!
//! ```
//! use tickwire_proto::{
//!     pattern::Selector,
//!     session::{Disconnect, Next, Options, Session},
//! };
//!
//! let mut session = Session::new(Options {
//!     selectors: vec![Selector::parse("BTC-*").unwrap()],
//!     seed: 42,
//!     ..Options::default()
//! });
//! // The first attempt to connect fails.
//! let Next::ConnectAfter { ms, .. } = session.disconnected(Disconnect::Io) else {
//!     panic!("an I/O error is no reason to give up");
//! };
//! assert!((100..=300).contains(&ms));
//! // The second succeeds; now the engine has some time to say `welcome`.
//! session.connected(ms);
//! assert!(session.next_request(ms).is_none());
//! assert_eq!(session.deadline_ms(), Some(ms + 10_000));
//! ```
//!
//! Memory: some 200 bytes per symbol seen, at most [`SYMBOLS_MAX`] symbols, for as long as the
//! session lives.

mod account;
mod event;
pub mod fuzzing;
mod reconnect;
mod requests;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use self::{account::Account, reconnect::Verdict, requests::Requests};
pub use self::{
    event::{Event, Fault, Lost, Totals, Violation},
    reconnect::{Disconnect, Next, Stop, TOKEN_REFUSALS_MAX},
};
use crate::{
    backoff::Backoff,
    close::CloseReason,
    code::ErrorCode,
    cursor::Cursor,
    pattern::Selector,
    reply::{Ack, AckBody, ErrorReply, Gap, Reply, Start, Welcome},
    request::{Mode, Op, REQUEST_ID_MAX, Request, Selection, Since, Subscribe},
    symbol::Symbol,
    tick::{Channel, Channels, IDENTITY_MAX, Identity, Marks, Tick},
};

/// Symbols that a session keeps account of, some 50 MB of them. Ticks of further symbols are
/// handed out with a [`Fault::TooManySymbols`], unchecked.
pub const SYMBOLS_MAX: usize = 1 << 18;

/// What a client waits beyond `heartbeat_ms` of silence before it reconnects.
const SILENCE_GRACE_MS: u64 = 5_000;
/// The heartbeat that is assumed until `welcome` names it.
const HEARTBEAT_MS_DEFAULT: u64 = 5_000;

/// What a session is to receive, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Symbols and patterns. What exceeds the connection's limits is rejected by the engine,
    /// entry by entry.
    pub selectors: Vec<Selector>,
    /// Which channels.
    pub channels: Channels,
    /// Every tick, or the latest per interval.
    pub mode: Mode,
    /// Whether the last trade and quote come first. Resumes go without.
    pub snapshot: bool,
    /// The latency budget, 0…1000: how long the engine may hold ticks to send them together.
    pub max_delay_ms: u32,
    /// Where an earlier session ended, to go on from there.
    pub cursor: Option<Cursor>,
    /// Decides the jitter of reconnects: clients must not share it, or they come back together.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            selectors: Vec::new(),
            channels: Channels::BOTH,
            mode: Mode::Stream,
            snapshot: true,
            max_delay_ms: 0,
            cursor: None,
            seed: 0,
        }
    }
}

/// The state of one client over all its connections.
#[derive(Debug)]
pub struct Session {
    options: Options,
    accounts: HashMap<Symbol, Account>,
    cursor: Option<Cursor>,
    backoff: Backoff,
    totals: Totals,
    next_id: u32,
    tokens_refused: u32,
    link: Option<Link>,
}

/// What lasts as long as one connection.
#[derive(Debug)]
struct Link {
    heard_at_ms: u64,
    heartbeat_ms: u64,
    /// `None` until `welcome`.
    requests: Option<Requests>,
    ticks_before: u64,
    goodbye: Option<Goodbye>,
}

#[derive(Debug)]
struct Goodbye {
    reason: Option<CloseReason>,
    reconnect_after_ms: Option<u64>,
}

impl Session {
    /// A session that has not connected yet.
    pub fn new(mut options: Options) -> Self {
        let mut seen = HashSet::new();
        options.selectors.retain(|selector| seen.insert(*selector));
        Self {
            accounts: HashMap::new(),
            cursor: options.cursor,
            backoff: Backoff::new(options.seed),
            totals: Totals::default(),
            next_id: 1,
            tokens_refused: 0,
            link: None,
            options,
        }
    }

    /// The WebSocket is open. Requests follow once `welcome` has been received.
    pub fn connected(&mut self, now_ms: u64) {
        for account in self.accounts.values_mut() {
            account.reconnected();
        }
        self.link = Some(Link {
            heard_at_ms: now_ms,
            heartbeat_ms: HEARTBEAT_MS_DEFAULT,
            requests: None,
            ticks_before: self.totals.ticks,
            goodbye: None,
        });
    }

    /// The next request to send; `None` while there is none, or the rate does not allow it yet
    /// ([`Session::deadline_ms`] says when it will).
    pub fn next_request(&mut self, now_ms: u64) -> Option<Request> {
        self.requests()?.next(now_ms)
    }

    /// When to call [`Session::next_request`] and [`Session::timed_out`] again, whatever the
    /// socket does; `None` while not connected.
    pub fn deadline_ms(&self) -> Option<u64> {
        let link = self.link.as_ref()?;
        let request_due_ms = link.requests.as_ref().and_then(Requests::due_ms);
        Some(request_due_ms.map_or(link.silent_at_ms(), |due_ms| {
            due_ms.min(link.silent_at_ms())
        }))
    }

    /// Whether nothing was heard for so long that the connection must be given up, with
    /// [`Disconnect::Silent`].
    pub fn timed_out(&self, now_ms: u64) -> bool {
        self.link
            .as_ref()
            .is_some_and(|link| now_ms >= link.silent_at_ms())
    }

    /// Something came that is no [`Reply`]: a WebSocket ping or pong.
    pub fn heard(&mut self, now_ms: u64) {
        if let Some(link) = &mut self.link {
            link.heard_at_ms = now_ms;
        }
    }

    /// An id for a request that the caller makes by itself; its replies come as
    /// [`Event::Answer`] or [`Event::Refused`].
    pub fn request_id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id = if id >= REQUEST_ID_MAX { 1 } else { id + 1 };
        id
    }

    /// The request that brings a fresh token, to be sent at once.
    pub fn fresh_token(&mut self, now_ms: u64, token: String) -> Request {
        if let Some(requests) = self.requests() {
            requests.spend(now_ms);
        }
        Request {
            id: Some(self.request_id()),
            op: Op::Auth { token },
        }
    }

    /// Where a resume would begin: [`Options::cursor`] of a later session.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// What came of the session so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The connection ended, or could not be made. Says whether, when and how to try again.
    pub fn disconnected(&mut self, cause: Disconnect) -> Next {
        let goodbye = self.link.take().and_then(|link| link.goodbye);
        let goodbye_after_ms = goodbye
            .as_ref()
            .and_then(|goodbye| goodbye.reconnect_after_ms);
        // A close frame may be lost where its announcement was not.
        let cause = match (cause, goodbye.and_then(|goodbye| goodbye.reason)) {
            (Disconnect::Io, Some(reason)) => Disconnect::Closed {
                code: reason.code(),
            },
            (cause, _) => cause,
        };
        let (fresh_token, at_least_ms) = match cause.verdict() {
            Verdict::Away(reason) => return Next::Stop { reason },
            Verdict::TokenRefused if self.tokens_refused >= TOKEN_REFUSALS_MAX => {
                return Next::Stop {
                    reason: Stop::TokenRefused,
                };
            }
            Verdict::TokenRefused => {
                self.tokens_refused += 1;
                (true, None)
            }
            Verdict::Again {
                fresh_token,
                at_least_ms,
            } => (fresh_token, at_least_ms),
        };
        let ms = self.backoff.failed(at_least_ms.max(goodbye_after_ms));
        Next::ConnectAfter { ms, fresh_token }
    }

    /// Takes one reply and tells what follows from it.
    ///
    /// Ignored while not connected.
    pub fn receive(&mut self, now_ms: u64, reply: Reply, mut each: impl FnMut(Event)) {
        let Some(link) = &mut self.link else { return };
        link.heard_at_ms = now_ms;
        let mut totals = self.totals;
        let mut each = |event| {
            totals.count(&event);
            each(event);
        };
        let repeated = self.take(now_ms, reply, &mut each);
        totals.repeats += u64::from(repeated);
        self.totals = totals;
    }

    /// As [`Session::receive`]; whether the reply was a tick that the caller already had.
    fn take(&mut self, now_ms: u64, reply: Reply, each: &mut impl FnMut(Event)) -> bool {
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
        !account.tick(&tick, marks, each)
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
        if let Some(account) = self.account(start.symbol) {
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
            link.requests = Some(requests);
        }
        each(Event::Connected(welcome));
    }

    /// What a connection begins with.
    fn operations(&self, welcome: &Welcome) -> Vec<Op> {
        let options = &self.options;
        let template = Subscribe {
            selection: Selection {
                selectors: options.selectors.clone(),
                rejected: Vec::new(),
            },
            channels: options.channels,
            mode: options.mode,
            snapshot: options.snapshot,
            since: self.cursor.map(|cursor| Since {
                cursor: Some(cursor),
                points: Vec::new(),
            }),
        };
        let points = self
            .accounts
            .iter()
            .filter_map(|(&symbol, account)| Some((symbol, account.point()?)));
        let subscribes = requests::plan(&template, points, &welcome.limits);
        let mut operations = Vec::with_capacity(1 + subscribes.len());
        if options.max_delay_ms != 0 {
            operations.push(Op::Options {
                max_delay_ms: Some(options.max_delay_ms),
            });
        }
        operations.extend(subscribes.into_iter().map(Op::Subscribe));
        operations
    }

    fn take_ack(&mut self, ack: Ack, each: &mut impl FnMut(Event)) {
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
        let Some(link) = &mut self.link else { return };
        if let (Some(id), Some(requests)) = (id, &mut link.requests)
            && requests.replayed(id)
        {
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

    fn requests(&mut self) -> Option<&mut Requests> {
        self.link.as_mut()?.requests.as_mut()
    }
}

impl Link {
    fn silent_at_ms(&self) -> u64 {
        self.heard_at_ms
            .saturating_add(self.heartbeat_ms)
            .saturating_add(SILENCE_GRACE_MS)
    }
}

fn is_identity(number: u64) -> bool {
    (1..=IDENTITY_MAX).contains(&number)
}
