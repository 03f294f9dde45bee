//! A publisher's tick messages: read, judged tick by tick, refused with their place.

use tickwire_proto::{
    close::CloseReason,
    code::ErrorCode,
    json::Message,
    reply::{ErrorReply, Reply},
    sbe,
    tick::{Identity, PublishedTick},
};

use super::{ErrorBudget, Publisher};

impl Publisher<'_> {
    pub(super) fn take_text(&mut self, text: &str) -> Option<CloseReason> {
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

    pub(super) fn take_sbe(&mut self, bytes: &[u8]) {
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
            (declared, _) => {
                let message = match declared {
                    Some(_) => "the id was declared with an epoch, so every tick needs a seq",
                    None => "the id was declared without an epoch, so seq must be null",
                };
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
}
