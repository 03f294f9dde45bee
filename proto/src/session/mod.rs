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
pub(crate) mod fuzzing;
mod receive;
mod reconnect;
mod requests;
mod wanted;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use self::{account::Account, reconnect::Verdict, requests::Requests, wanted::Wanted};
pub use self::{
    event::{Event, Fault, Lost, Totals, Violation},
    reconnect::{Disconnect, Next, Stop, TOKEN_REFUSALS_MAX},
};
use crate::{
    backoff::Backoff,
    close::CloseReason,
    cursor::Cursor,
    pattern::Selector,
    reply::{Limits, Reply},
    request::{Mode, Op, REQUEST_ID_MAX, Request},
    symbol::Symbol,
    tick::Channels,
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
    /// Symbols and patterns to begin with. What exceeds the connection's limits is rejected by the
    /// engine, entry by entry.
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
    /// Without its selectors, which are in `wanted`.
    options: Options,
    wanted: Wanted,
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
    /// Both `None` until `welcome`.
    requests: Option<Requests>,
    limits: Option<Limits>,
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
        let mut wanted = Wanted::default();
        wanted.add(std::mem::take(&mut options.selectors));
        Self {
            wanted,
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
        self.accounts.retain(|_, account| account.reconnected());
        self.link = Some(Link {
            heard_at_ms: now_ms,
            heartbeat_ms: HEARTBEAT_MS_DEFAULT,
            requests: None,
            limits: None,
            ticks_before: self.totals.ticks,
            goodbye: None,
        });
    }

    /// Takes up further symbols and patterns, with the session's options. What is subscribed to
    /// already stays as it is.
    pub fn subscribe(&mut self, selectors: impl IntoIterator<Item = Selector>) {
        let mut fresh = self.wanted.add(selectors);
        if fresh.is_empty() {
            return;
        }
        if let Some(limits) = self.limits() {
            // What still waits for the rate goes out in the same request.
            let mut all = self.requests().map_or_else(Vec::new, Requests::take_last);
            all.append(&mut fresh);
            let template = self.template(all, None);
            let subscribes = requests::plan(&template, std::iter::empty(), &limits);
            self.queue(subscribes.into_iter().map(Op::Subscribe));
        }
    }

    /// Ends subscriptions. What of their ticks is still on its way is dropped, unless another
    /// subscription covers it; a later subscription opens a new account.
    pub fn unsubscribe(&mut self, selectors: impl IntoIterator<Item = Selector>) {
        let gone = self.wanted.remove(selectors);
        let mut theirs = Wanted::default();
        theirs.add(gone.iter().copied());
        for (symbol, account) in &mut self.accounts {
            if theirs.cover(symbol) && !self.wanted.cover(symbol) {
                account.close();
            }
        }
        if let Some(limits) = self.limits() {
            let unsubscribes = requests::plan_end(gone, &limits);
            self.queue(unsubscribes.into_iter().map(Op::Unsubscribe));
        }
    }

    /// Queues an operation of the caller's own, to be sent when the rate allows; its replies come as
    /// [`Event::Answer`] or [`Event::Refused`] with the id that is returned. `None`, and nothing
    /// is queued, while there is no connection.
    pub fn ask(&mut self, op: Op) -> Option<u32> {
        self.requests()?;
        let id = self.request_id();
        self.requests()?.push(Request { id: Some(id), op });
        Some(id)
    }

    fn queue(&mut self, operations: impl Iterator<Item = Op>) {
        for op in operations {
            self.ask(op);
        }
    }

    fn limits(&self) -> Option<Limits> {
        self.link.as_ref()?.limits
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
