//! One publisher's connection.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io,
    task::{Poll, Waker},
    time::Duration,
};

use monoio::{io::AsyncWriteRentExt, net::TcpStream};
use rustc_hash::FxHashMap;
use tickwire_proto::{
    claims::Grant,
    close::CloseReason,
    code::ErrorCode,
    frame::{self, Opcode},
    json::Message,
    reply::{Ack, AckBody, ErrorReply, Limits, Reply, Welcome},
    request::{Declaration, Op, Rejected, Request},
    sbe,
    symbol::Symbol,
    tick::{Identity, PublishedTick},
    upgrade::Endpoint,
};

use super::{
    sequencer::SourceId,
    settlement::Settlement,
    thread::{Letter, Shared},
};
use crate::{
    clock::{Millis, wall_ns, wall_s},
    door::{Admitted, AuthRequest, ConnectionSlot, TokenError},
    peer::{
        conduct::{Conduct, Pace},
        inbound::{Flow, Inbound, Received},
        liveness::{Due, Liveness},
    },
    sys::socket::SocketView,
};

/// What the rest of ingest has to tell a publisher's task.
pub enum Note {
    /// The answer to `auth`.
    Authenticated {
        /// The request's id.
        id: Option<u32>,
        /// The verdict.
        outcome: Result<Grant, TokenError>,
    },
    /// A held tick of the message was placed.
    Settled {
        /// Which message.
        message: u64,
    },
    /// A newer connection of the same user took the place.
    Replaced,
    /// The engine drains.
    Drain,
}

/// Where notes for one publisher's task lie; both ends are on ingest's thread.
pub struct Desk {
    /// The connection's session.
    pub session: u64,
    notes: RefCell<VecDeque<Note>>,
    waker: RefCell<Option<Waker>>,
    closed: Cell<bool>,
}

impl Desk {
    /// An empty desk.
    pub fn new(session: u64) -> Self {
        Self {
            session,
            notes: RefCell::default(),
            waker: RefCell::default(),
            closed: Cell::new(false),
        }
    }

    /// Leaves a note.
    pub fn post(&self, note: Note) {
        if self.closed.get() {
            return;
        }
        self.notes.borrow_mut().push_back(note);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    async fn noted(&self) {
        poll_fn(|cx| {
            if self.notes.borrow().is_empty() {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }
}

/// A publisher's connection, on ingest's thread.
struct Publisher<'a> {
    shared: &'a Shared,
    source: SourceId,
    session: u64,
    grant: Grant,
    inbound: Inbound,
    out: Vec<u8>,
    liveness: Liveness,
    conduct: Conduct,
    settlement: Settlement,
    declared: FxHashMap<u32, (Symbol, Option<u64>)>,
    ack_due: Option<Millis>,
    errors: ErrorBudget,
    _slot: ConnectionSlot,
}

/// Errors told in the current interval.
#[derive(Default)]
struct ErrorBudget {
    began: Millis,
    told: u32,
}

/// How the connection's turn ended.
enum Step {
    Go,
    /// Close with this, after what is queued.
    Close(CloseReason),
    /// The peer closed, or is gone: send what is queued, then end.
    End,
}

/// Serves one publisher until its connection ends.
pub async fn serve(shared: &Shared, source: SourceId, desk: &Desk, admitted: Admitted) {
    let session = admitted.session;
    let reason = match converse(shared, source, desk, admitted).await {
        Ok(reason) => reason,
        Err(_) => CloseReason::PeerGone,
    };
    desk.closed.set(true);
    shared.metrics.closes(reason).inc();
    tracing::debug!(session, reason = reason.label(), "publisher closed");
}

async fn converse(
    shared: &Shared,
    source: SourceId,
    desk: &Desk,
    admitted: Admitted,
) -> io::Result<CloseReason> {
    let Admitted {
        socket,
        response,
        early,
        subprotocol,
        grant,
        session,
        slot,
        ..
    } = admitted;
    let mut stream = TcpStream::from_std(socket)?;
    let view = SocketView::of(&stream);
    let now = shared.clock.now();
    let mut publisher = Publisher {
        shared,
        source,
        session,
        liveness: Liveness::new(now, grant.exp, false, &shared.config),
        grant,
        inbound: Inbound::default(),
        out: response,
        conduct: Conduct::default(),
        settlement: Settlement::default(),
        declared: FxHashMap::default(),
        ack_due: None,
        errors: ErrorBudget::default(),
        _slot: slot,
    };
    publisher.welcome(subprotocol);
    let mut step = if early.is_empty() {
        Step::Go
    } else {
        publisher.take_bytes(&early)
    };
    let reason = loop {
        publisher.write(&mut stream).await?;
        match step {
            Step::Go => {}
            Step::Close(reason) => break reason,
            Step::End => return Ok(CloseReason::Normal),
        }
        let wait = shared.clock.until(publisher.deadline());
        let woken = monoio::select! {
            ready = stream.readable(false) => ready.map(|()| Woken::Bytes)?,
            () = desk.noted() => Woken::Notes,
            () = monoio::time::sleep(wait) => Woken::Time,
        };
        step = match woken {
            Woken::Bytes => match publisher.read(&view)? {
                Some(step) => step,
                None => return Ok(CloseReason::PeerGone),
            },
            Woken::Notes => publisher.take_notes(desk),
            Woken::Time => Step::Go,
        };
        if let Step::Go = step {
            step = publisher.run_deadlines();
        }
    };
    publisher.end(reason);
    publisher.write(&mut stream).await?;
    let _ = rustix::net::shutdown(&view, rustix::net::Shutdown::Write);
    // Until the peer has read the close and closed its side, or for as long as that may take.
    let _ = monoio::time::timeout(CLOSE_WITHIN, read_to_end(&stream, &view)).await;
    Ok(reason)
}

/// What ended a wait.
enum Woken {
    Bytes,
    Notes,
    Time,
}

const CLOSE_WITHIN: Duration = Duration::from_secs(2);

async fn read_to_end(stream: &TcpStream, view: &SocketView) {
    let mut sink = [0; 4096];
    while stream.readable(false).await.is_ok() {
        match rustix::net::recv(view, &mut sink[..], rustix::net::RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return,
            Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
            Err(_) => return,
        }
    }
}

impl Publisher<'_> {
    fn welcome(&mut self, protocol: tickwire_proto::upgrade::Subprotocol) {
        let config = &self.shared.config;
        let welcome = Welcome {
            session: format!("{:016x}", self.session),
            protocol,
            heartbeat_ms: config.heartbeat_ms,
            token_exp: self.grant.exp,
            limits: Limits {
                symbols: self
                    .grant
                    .max_symbols
                    .unwrap_or(config.symbols_per_connection),
                message_bytes: config.publish_message_bytes as u32,
                ops_per_s: self.grant.ops_per_s.unwrap_or(config.ops_per_s),
            },
        };
        self.say(&Reply::Welcome(welcome));
    }

    fn say(&mut self, reply: &Reply) {
        frame::write_with(&mut self.out, Opcode::Text, |out| reply.write_json(out));
    }

    /// Sends what is queued. A publisher that does not read its acks is given up on.
    async fn write(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.liveness.sent(self.shared.clock.now());
        let bytes = std::mem::take(&mut self.out);
        let stall = Duration::from_secs(self.shared.config.stall_s);
        match monoio::time::timeout(stall, stream.write_all(bytes)).await {
            Ok((Ok(_), mut bytes)) => {
                bytes.clear();
                self.out = bytes;
                Ok(())
            }
            Ok((Err(error), _)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Reads once; `None` when the peer has gone.
    fn read(&mut self, view: &SocketView) -> io::Result<Option<Step>> {
        let shared = self.shared;
        let mut buffer = shared.read_buffer.borrow_mut();
        match rustix::net::recv(view, &mut buffer[..], rustix::net::RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Ok(None),
            Ok((_, bytes)) => Ok(Some(self.take_bytes(&buffer[..bytes]))),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Some(Step::Go)),
            Err(error) => Err(error.into()),
        }
    }

    fn take_bytes(&mut self, bytes: &[u8]) -> Step {
        self.liveness.heard(self.shared.clock.now());
        let mut messages = Vec::new();
        // Apart, since the echo of a close has to stand behind the answers to what came before it.
        let mut replies = Vec::new();
        let limit = self.shared.config.publish_message_bytes;
        let flow = self
            .inbound
            .feed(bytes, limit, &mut replies, |message| messages.push(message));
        for message in messages {
            if let Some(reason) = self.take_message(&message) {
                return Step::Close(reason);
            }
            self.shared.wake_floors();
        }
        self.shared.publish();
        let step = match flow {
            Ok(Flow::Open) => Step::Go,
            Ok(Flow::Closed) => {
                self.last_ack();
                Step::End
            }
            Err(reason) => return Step::Close(reason),
        };
        self.out.append(&mut replies);
        step
    }

    fn take_message(&mut self, message: &Received) -> Option<CloseReason> {
        match message {
            Received::Text(text) => self.take_text(text),
            Received::Binary(bytes) => {
                self.take_sbe(bytes);
                self.expect_ack();
                None
            }
        }
    }

    fn take_text(&mut self, text: &str) -> Option<CloseReason> {
        let shared = self.shared;
        let number = self.settlement.begin_message();
        let parsed = shared
            .parser
            .borrow_mut()
            .parse(text.as_bytes(), |index, tick| match tick {
                Ok(tick) => self.take_tick(number, index, &tick),
                Err(error) => {
                    self.reject(number, Some(index), error.code, error.message, error.symbol);
                }
            });
        match parsed {
            Ok(Message::Ticks { .. }) => {}
            Ok(Message::Request) => {
                self.settlement.retract_message();
                return self.take_request(text);
            }
            Err(error) => self.reject(number, None, error.code, error.message, error.symbol),
        }
        self.expect_ack();
        None
    }

    fn take_sbe(&mut self, bytes: &[u8]) {
        let number = self.settlement.begin_message();
        let decoded = sbe::decode_published(bytes, |index, tick| match tick {
            Ok((id, raw)) => self.take_raw(number, index, id, raw),
            Err(refusal) => {
                let symbol = self
                    .declared
                    .get(&refusal.symbol_id)
                    .map(|(symbol, _)| symbol.to_string());
                self.reject(
                    number,
                    Some(index),
                    refusal.code,
                    &refusal.to_string(),
                    symbol,
                );
            }
        });
        if let Err(error) = decoded {
            self.reject(number, None, ErrorCode::BadSbe, &error.to_string(), None);
        }
    }

    fn take_raw(&mut self, number: u64, index: u32, id: u32, raw: sbe::RawTick) {
        let Some(&(symbol, epoch)) = self.declared.get(&id) else {
            return self.reject(
                number,
                Some(index),
                ErrorCode::UndeclaredId,
                "the id was not declared",
                None,
            );
        };
        let identity = match (epoch, raw.seq) {
            (Some(epoch), Some(seq)) => Some(Identity { epoch, seq }),
            (None, None) => None,
            (Some(_), None) => {
                let message = "the id was declared with an epoch, so every tick needs a seq";
                return self.reject(
                    number,
                    Some(index),
                    ErrorCode::BadTick,
                    message,
                    Some(symbol.to_string()),
                );
            }
            (None, Some(_)) => {
                let message = "the id was declared without an epoch, so seq must be null";
                return self.reject(
                    number,
                    Some(index),
                    ErrorCode::BadTick,
                    message,
                    Some(symbol.to_string()),
                );
            }
        };
        let tick = PublishedTick {
            symbol,
            identity,
            ts_ns: raw.ts_ns,
            values: raw.values,
        };
        self.take_tick(number, index, &tick);
    }

    fn take_tick(&mut self, number: u64, index: u32, tick: &PublishedTick) {
        let entitled = self
            .grant
            .publish
            .as_ref()
            .is_some_and(|publish| publish.allows(&tick.symbol));
        if !entitled {
            let message = "the token may not publish this symbol";
            return self.reject(
                number,
                Some(index),
                ErrorCode::NotEntitled,
                message,
                Some(tick.symbol.to_string()),
            );
        }
        let refusal = self
            .shared
            .submit(self.source, number, tick, &mut self.settlement);
        if let Some(refusal) = refusal {
            self.tell(
                number,
                Some(index),
                refusal.code,
                refusal.message,
                Some(tick.symbol.to_string()),
            );
        }
    }

    fn reject(
        &mut self,
        number: u64,
        index: Option<u32>,
        code: ErrorCode,
        message: &str,
        symbol: Option<String>,
    ) {
        self.settlement.reject();
        self.shared.metrics.refused(code).inc();
        self.tell(number, index, code, message, symbol);
    }

    /// Sends an `error`, or counts it where there have been too many of late.
    fn tell(
        &mut self,
        number: u64,
        index: Option<u32>,
        code: ErrorCode,
        message: &str,
        symbol: Option<String>,
    ) {
        let now = self.shared.clock.now();
        let config = &self.shared.config;
        if now.since(self.errors.began) >= config.ack_interval_ms {
            self.errors = ErrorBudget {
                began: now,
                told: 0,
            };
        }
        if self.errors.told >= config.errors_per_interval {
            self.settlement.omit_error();
            return;
        }
        self.errors.told += 1;
        let message = message.to_owned();
        self.say(&Reply::Error(ErrorReply {
            id: None,
            code,
            message,
            msg: Some(number),
            index,
            symbol,
        }));
    }

    // --- requests ---

    fn take_request(&mut self, text: &str) -> Option<CloseReason> {
        let now = self.shared.clock.now();
        let request = match Request::from_json(text, Endpoint::Publish) {
            Ok(request) => request,
            Err(error) => {
                self.refuse(error.id, error.code, &error.message);
                return self.conduct.malformed(now);
            }
        };
        // A flush may follow every batch; it costs no more than the ack that is due anyway.
        if !matches!(request.op, Op::Flush) {
            let config = &self.shared.config;
            let (ops_per_s, burst) = match self.grant.ops_per_s {
                Some(ops_per_s) => (ops_per_s, ops_per_s.saturating_mul(2)),
                None => (config.ops_per_s, config.ops_burst),
            };
            let pace = self.conduct.operation(now, ops_per_s, burst);
            if pace != Pace::Granted {
                self.refuse(
                    request.id,
                    ErrorCode::RateLimited,
                    "too many operations per second",
                );
            }
            match pace {
                Pace::Granted => {}
                Pace::Refused => return None,
                Pace::Close(reason) => return Some(reason),
            }
        }
        match request.op {
            Op::Flush => {
                self.settlement.flush(request.id);
                self.answer_flushes();
            }
            Op::Declare(declarations) => self.declare(request.id, declarations),
            Op::Auth { token } => self.authenticate(request.id, token),
            Op::Ping => self.say(&Reply::Pong {
                id: request.id,
                ts_us: wall_ns() / 1_000,
            }),
            // The parser refuses a subscriber's operations on this endpoint.
            Op::Subscribe(_)
            | Op::Replay(_)
            | Op::Unsubscribe(_)
            | Op::List
            | Op::Options { .. } => {}
        }
        None
    }

    fn refuse(&mut self, id: Option<u32>, code: ErrorCode, message: &str) {
        let message = message.to_owned();
        self.say(&Reply::Error(ErrorReply {
            id,
            code,
            message,
            msg: None,
            index: None,
            symbol: None,
        }));
    }

    fn declare(&mut self, id: Option<u32>, declarations: Vec<Declaration>) {
        let mut symbols = Vec::new();
        let mut rejected = Vec::new();
        for declaration in declarations {
            match self.declare_one(&declaration) {
                Ok(symbol) => symbols.push(symbol),
                Err(code) => rejected.push(Rejected {
                    symbol: declaration.symbol,
                    code,
                }),
            }
        }
        self.say(&Reply::Ack(Ack {
            id,
            body: AckBody::Declare { symbols, rejected },
        }));
    }

    fn declare_one(&mut self, declaration: &Declaration) -> Result<Symbol, ErrorCode> {
        let symbol = Symbol::parse(&declaration.symbol).map_err(|_| ErrorCode::BadSymbol)?;
        let entitled = self
            .grant
            .publish
            .as_ref()
            .is_some_and(|publish| publish.allows(&symbol));
        if !entitled {
            return Err(ErrorCode::NotEntitled);
        }
        let new_id = declaration.id.filter(|id| !self.declared.contains_key(id));
        if new_id.is_some() && self.declared.len() >= self.shared.config.symbols_max {
            return Err(ErrorCode::TooManySymbols);
        }
        let mut sequencer = self.shared.sequencer.borrow_mut();
        sequencer
            .declare(self.source, symbol, declaration.epoch, wall_ns())
            .map_err(|refusal| refusal.code)?;
        if let Some(id) = declaration.id {
            self.declared.insert(id, (symbol, declaration.epoch));
        }
        Ok(symbol)
    }

    fn authenticate(&mut self, id: Option<u32>, token: String) {
        let mailbox = std::sync::Arc::clone(&self.shared.mailbox);
        let source = self.source;
        let reply = Box::new(move |outcome| {
            // A full mailbox loses the answer; the publisher still has its old token.
            let _ = mailbox.post(Letter::Authenticated {
                source,
                id,
                outcome,
            });
        });
        if self
            .shared
            .auth
            .submit(AuthRequest { token, reply })
            .is_err()
        {
            self.refuse(
                id,
                ErrorCode::RateLimited,
                "too many tokens are being verified",
            );
        }
    }

    fn authenticated(&mut self, id: Option<u32>, outcome: Result<Grant, TokenError>) {
        let grant = match outcome {
            Ok(grant) if grant.sub == self.grant.sub => grant,
            Ok(_) => return self.refuse(id, ErrorCode::BadToken, "the token names another sub"),
            Err(error) => return self.refuse(id, ErrorCode::BadToken, &error.to_string()),
        };
        self.liveness
            .token(self.shared.clock.now(), grant.exp, &self.shared.config);
        let body = AckBody::Auth {
            token_exp: grant.exp,
            lost: Vec::new(),
            narrowed: Vec::new(),
        };
        self.grant = grant;
        self.say(&Reply::Ack(Ack { id, body }));
    }

    fn take_notes(&mut self, desk: &Desk) -> Step {
        let notes = std::mem::take(&mut *desk.notes.borrow_mut());
        for note in notes {
            match note {
                Note::Settled { message } => self.settlement.settle(message),
                Note::Authenticated { id, outcome } => self.authenticated(id, outcome),
                Note::Replaced => return Step::Close(CloseReason::Replaced),
                Note::Drain => return Step::Close(CloseReason::Draining),
            }
        }
        self.answer_flushes();
        self.expect_ack();
        Step::Go
    }

    // --- time ---

    /// An ack follows within the interval, if there is anything to tell.
    fn expect_ack(&mut self) {
        if self.ack_due.is_none() && self.settlement.has_news() {
            self.ack_due = Some(
                self.shared
                    .clock
                    .now()
                    .after(self.shared.config.ack_interval_ms),
            );
        }
    }

    fn answer_flushes(&mut self) {
        for id in self.settlement.take_flushed() {
            self.ack(id);
        }
    }

    fn ack(&mut self, id: Option<u32>) {
        self.ack_due = None;
        let counts = self.settlement.told();
        self.say(&Reply::Ack(Ack {
            id,
            body: AckBody::Published(counts),
        }));
    }

    fn last_ack(&mut self) {
        if self.settlement.has_news() {
            self.ack(None);
        }
    }

    fn deadline(&self) -> Millis {
        let liveness = self.liveness.deadline(&self.shared.config);
        self.ack_due.map_or(liveness, |ack| ack.min(liveness))
    }

    fn run_deadlines(&mut self) -> Step {
        let now = self.shared.clock.now();
        if self.ack_due.is_some_and(|due| now >= due) {
            self.ack(None);
        }
        while let Some(due) = self.liveness.due(now, &self.shared.config) {
            match due {
                Due::Heartbeat => self.say(&Reply::Heartbeat {
                    ts_us: wall_ns() / 1_000,
                }),
                Due::Ping => frame::write(&mut self.out, Opcode::Ping, b""),
                Due::TokenExpiring => {
                    let in_s = self.grant.exp.saturating_sub(wall_s());
                    self.say(&Reply::TokenExpiring { in_s });
                }
                Due::Close(reason) => return Step::Close(reason),
            }
        }
        Step::Go
    }

    /// The last words: the final ack, `goodbye` where the engine drains, the close frame.
    fn end(&mut self, reason: CloseReason) {
        self.last_ack();
        if reason == CloseReason::Draining {
            let latest_ms = (self.shared.config.drain_s * 1_000).max(1_000);
            let reconnect_after_ms =
                Some(rand::Rng::random_range(&mut rand::rng(), 200..=latest_ms));
            self.say(&Reply::Goodbye {
                reason: reason.label().to_owned(),
                reconnect_after_ms,
            });
        }
        frame::write_close(&mut self.out, reason.code(), reason.text());
    }
}
