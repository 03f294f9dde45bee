//! Tick messages, and the declarations that SBE needs before them.

use std::collections::HashMap;

use tickwire_proto::{
    request::{Declaration, Op, Request},
    sbe,
    symbol::Symbol,
    upgrade::Subprotocol,
};
use tungstenite::{Bytes, Utf8Bytes};

use super::source::Timed;

/// Ticks in one message at most: enough that a message's own cost no longer counts, few enough
/// that the first does not wait long for the last.
const TICKS_PER_MESSAGE: u32 = 256;
/// More than one tick needs in either format, with what separates it from the next.
const TICK_BYTES_MAX: usize = 512;
/// More than one entry of `declare` needs.
const DECLARATION_BYTES_MAX: usize = 96;

/// What goes into one WebSocket message; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    Text(Utf8Bytes),
    Binary(Bytes),
}

/// A tick message, kept until it is decided.
#[derive(Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub payload: Payload,
    pub ticks: u32,
    /// The line of each tick in the recording; empty where there is none.
    pub lines: Box<[u64]>,
}

/// The ids by which SBE ticks name their symbols: 1, 2, 3… on every connection, so that bytes
/// once encoded stay right after a reconnect.
#[derive(Debug, Default)]
pub struct Ids(HashMap<Symbol, u32>);

impl Ids {
    /// Gives every symbol an id.
    pub fn new(symbols: &[Symbol]) -> Self {
        Self(symbols.iter().copied().zip(1..).collect())
    }

    /// `declare` for all of them, in as few requests of at most `message_bytes` as possible.
    pub fn declarations(&self, message_bytes: usize) -> Vec<Request> {
        let mut entries: Vec<_> = self.0.iter().map(|(symbol, &id)| (id, symbol)).collect();
        entries.sort_unstable();
        let declare = |(id, part): (usize, &[(u32, &Symbol)])| Request {
            id: Some(id as u32),
            op: Op::Declare(
                part.iter()
                    .map(|&(id, symbol)| declaration(id, symbol))
                    .collect(),
            ),
        };
        let per_request = (message_bytes / DECLARATION_BYTES_MAX).max(1);
        entries
            .chunks(per_request)
            .enumerate()
            .map(declare)
            .collect()
    }
}

fn declaration(id: u32, symbol: &Symbol) -> Declaration {
    Declaration {
        symbol: symbol.to_string(),
        id: Some(id),
        epoch: None,
    }
}

/// Gathers ticks into messages.
#[derive(Debug)]
pub struct Batch {
    subprotocol: Subprotocol,
    message_bytes: usize,
    out: Vec<u8>,
    ticks: u32,
    lines: Vec<u64>,
}

impl Batch {
    /// An empty batch for messages of at most `message_bytes`.
    pub fn new(subprotocol: Subprotocol, message_bytes: usize) -> Self {
        Self {
            subprotocol,
            message_bytes,
            out: Vec::new(),
            ticks: 0,
            lines: Vec::new(),
        }
    }

    /// Adds a tick; whether the batch is full with it. A symbol without an id is written with
    /// id 0, which is never declared: the engine refuses the tick as `undeclared_id`.
    pub fn push(&mut self, Timed { tick, line, .. }: &Timed, ids: &Ids) -> bool {
        self.lines.extend(line);
        match self.subprotocol {
            Subprotocol::Json => {
                self.out.push(if self.ticks == 0 { b'[' } else { b',' });
                tick.write_json(&mut self.out);
            }
            Subprotocol::Sbe => {
                let id = ids.0.get(&tick.symbol).copied().unwrap_or(0);
                sbe::write_published(&mut self.out, id, tick);
            }
        }
        self.ticks += 1;
        self.ticks >= TICKS_PER_MESSAGE || self.out.len() + TICK_BYTES_MAX > self.message_bytes
    }

    /// The message, or `None` where no tick was added.
    pub fn take(&mut self) -> Option<Outgoing> {
        let ticks = std::mem::take(&mut self.ticks);
        let lines = std::mem::take(&mut self.lines).into();
        let mut bytes = std::mem::take(&mut self.out);
        let payload = match self.subprotocol {
            _ if ticks == 0 => return None,
            Subprotocol::Sbe => Payload::Binary(bytes.into()),
            Subprotocol::Json => {
                if ticks == 1 {
                    bytes.remove(0);
                } else {
                    bytes.push(b']');
                }
                Payload::Text(
                    String::from_utf8(bytes)
                        .expect("what writes JSON writes UTF-8")
                        .into(),
                )
            }
        };
        Some(Outgoing {
            payload,
            ticks,
            lines,
        })
    }
}

#[cfg(test)]
mod tests {
    use tickwire_engine::market::Market;

    use super::*;

    fn next(market: &mut Market) -> Timed {
        let (due, tick) = market.next();
        Timed {
            due,
            tick,
            line: None,
        }
    }

    fn texts(ticks: usize, message_bytes: usize) -> Vec<String> {
        let mut market = Market::new(1, 3, 1_000.0);
        let mut batch = Batch::new(Subprotocol::Json, message_bytes);
        let mut messages = Vec::new();
        for _ in 0..ticks {
            if batch.push(&next(&mut market), &Ids::default()) {
                messages.extend(batch.take());
            }
        }
        messages.extend(batch.take());
        let text = |message: Outgoing| match message.payload {
            Payload::Text(text) => text.to_string(),
            Payload::Binary(_) => panic!("binary"),
        };
        messages.into_iter().map(text).collect()
    }

    #[test]
    fn one_tick_is_an_object_and_several_are_an_array() {
        assert!(texts(0, 65_536).is_empty());
        let one: serde_json::Value = serde_json::from_str(&texts(1, 65_536)[0]).unwrap();
        assert!(one.is_object());
        let three: serde_json::Value = serde_json::from_str(&texts(3, 65_536)[0]).unwrap();
        assert_eq!(three.as_array().unwrap().len(), 3);
    }

    #[test]
    fn messages_stay_within_both_bounds() {
        assert_eq!(texts(600, 1 << 20).len(), 3);
        let small = texts(100, 2_048);
        assert!(small.len() > 5 && small.iter().all(|text| text.len() <= 2_048));
    }

    #[test]
    fn sbe_ticks_name_the_id_that_was_declared() {
        let mut market = Market::new(1, 1, 1_000.0);
        let ids = Ids::new(market.symbols());
        let mut batch = Batch::new(Subprotocol::Sbe, 65_536);
        batch.push(&next(&mut market), &ids);
        batch.push(&next(&mut market), &ids);
        let Some(Outgoing {
            payload: Payload::Binary(bytes),
            ticks: 2,
            ..
        }) = batch.take()
        else {
            panic!()
        };
        let mut seen = Vec::new();
        sbe::decode_published(&bytes, |_, tick| seen.push(tick.unwrap().0)).unwrap();
        assert_eq!(seen, [1, 1]);
    }

    #[test]
    fn declarations_are_split_by_message_size() {
        let ids = Ids::new(Market::new(1, 100, 1.0).symbols());
        let requests = ids.declarations(4_096);
        assert_eq!(requests.len(), 3);
        assert!(
            requests
                .iter()
                .all(|request| request.to_json().len() <= 4_096)
        );
        let first = requests[0].to_json();
        assert!(first.contains(r#"{"symbol":"BTC-USDT","id":1}"#), "{first}");
    }
}
