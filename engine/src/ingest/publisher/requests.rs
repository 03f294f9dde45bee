//! What a publisher asks: `declare`, `flush`, `auth`, `ping`.

use tickwire_proto::{
    claims::Grant,
    close::CloseReason,
    code::ErrorCode,
    reply::{Ack, AckBody, ErrorReply, Reply},
    request::{Declaration, Op, Rejected, Request},
    symbol::Symbol,
    upgrade::Endpoint,
};

use super::{super::thread::Letter, Publisher};
use crate::{
    clock::wall_ns,
    door::{AuthRequest, TokenError},
    peer::conduct::{Pace, op_limits},
};

impl Publisher<'_> {
    pub(super) fn take_request(&mut self, text: &str) -> Option<CloseReason> {
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
            match self.take_operation(request.id) {
                Ok(()) => {}
                Err(close) => return close,
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

    /// Asks for one operation at the rate that its token allows. Where it may not go ahead the peer
    /// is told, and closed where that went on.
    pub(super) fn take_operation(&mut self, id: Option<u32>) -> Result<(), Option<CloseReason>> {
        let now = self.shared.clock.now();
        let (ops_per_s, burst) = op_limits(self.grant.ops_per_s, &self.shared.config);
        let pace = self.conduct.operation(now, ops_per_s, burst);
        let close = match pace {
            Pace::Granted => return Ok(()),
            Pace::Refused => None,
            Pace::Close(reason) => Some(reason),
        };
        let message = "too many operations per second";
        self.refuse(id, ErrorCode::RateLimited, message);
        Err(close)
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

    pub(super) fn authenticated(&mut self, id: Option<u32>, outcome: Result<Grant, TokenError>) {
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
}
