//! `tickwire.v1.sbe` says the same as `tickwire.v1.json`, message by message.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};
use tickwire_proto::{
    reply::Reply,
    sbe::{Decoder, layout},
};
use tungstenite::Message;

use crate::harness::{Client, TestEngine};

/// A client that reads either subprotocol into replies.
pub struct Receiver {
    pub client: Client,
    is_sbe: bool,
    decoder: Decoder,
    replies: VecDeque<Reply>,
    /// The ids that definitions gave to symbols in an epoch.
    ids: BTreeMap<(String, u64), BTreeSet<u32>>,
}

impl Receiver {
    /// A connection that has read its `welcome`, which is text in either subprotocol.
    pub fn connect(engine: &TestEngine, subprotocol: &str) -> Self {
        Self {
            client: engine.connect("/v1/ws", &engine.token(), Some(subprotocol)),
            is_sbe: subprotocol.ends_with("sbe"),
            decoder: Decoder::new(),
            replies: VecDeque::new(),
            ids: BTreeMap::new(),
        }
    }

    /// The next reply; `None` at the close frame.
    pub fn next(&mut self) -> Option<Reply> {
        loop {
            if let Some(reply) = self.replies.pop_front() {
                return Some(reply);
            }
            match self.client.socket.read().expect("a message comes") {
                Message::Text(text) => {
                    let reply = Reply::from_json(&text).expect("a reply");
                    let binary = self.is_sbe && is_binary_in_sbe(&reply);
                    assert!(!binary, "{reply:?} came as text");
                    self.replies.push_back(reply);
                }
                Message::Binary(bytes) => self.take_binary(&bytes),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    fn take_binary(&mut self, bytes: &[u8]) {
        assert!(self.is_sbe, "binary on a JSON connection");
        let replies = &mut self.replies;
        self.decoder
            .decode(bytes, |reply| {
                assert!(is_binary_in_sbe(&reply), "{reply:?} came as SBE");
                replies.push_back(reply);
            })
            .expect("SBE whose symbols are defined");
        // One SBE message a frame is what the engine sends today; the decoder takes more.
        let template = u16::from_le_bytes([bytes[2], bytes[3]]);
        if let (layout::definition::TEMPLATE_ID, Some(Reply::Start(start))) =
            (template, self.replies.back())
        {
            let at = layout::HEADER_BYTES;
            let id = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
            let key = (start.symbol.to_string(), start.epoch);
            self.ids.entry(key).or_default().insert(id);
        }
    }

    /// Reads until `is_last`, without heartbeats and cursors, whose number time decides.
    fn read_to(&mut self, is_last: impl Fn(&Reply) -> bool) -> Vec<Reply> {
        let mut replies = Vec::new();
        loop {
            let reply = self.next().expect("the connection stays");
            let ends = is_last(&reply);
            if !matches!(reply, Reply::Heartbeat { .. } | Reply::Cursor(_)) {
                replies.push(reply);
            }
            if ends {
                return replies;
            }
        }
    }
}

/// Whether the schema has a template for it.
fn is_binary_in_sbe(reply: &Reply) -> bool {
    matches!(
        reply,
        Reply::Start(_)
            | Reply::Tick(..)
            | Reply::Gap(_)
            | Reply::Feed { .. }
            | Reply::Heartbeat { .. }
            | Reply::Cursor(_)
    )
}

fn trade(symbol: &str, epoch: u64, seq: u64) -> Value {
    json!({"type": "trade", "symbol": symbol, "epoch": epoch, "seq": seq,
        "ts": 1_763_776_800_000_000_u64 + seq, "price": "187.230", "size": "0.50", "side": "sell"})
}

fn quote(symbol: &str, epoch: u64, seq: u64) -> Value {
    json!({"type": "quote", "symbol": symbol, "epoch": epoch, "seq": seq,
        "ts": 1_763_776_800_000_500_u64, "bid": "-1.5", "ask": "2"})
}

fn is_tick(reply: &Reply, symbol: &str, seq: u64) -> bool {
    matches!(reply, Reply::Tick(tick, _)
        if tick.symbol.as_str() == symbol && tick.identity.seq == seq)
}

fn is_ack(reply: &Reply) -> bool {
    matches!(reply, Reply::Ack(_))
}

/// Asks both the same, and checks that both are told the same up to `is_last`.
fn both_hear(
    both: &mut [Receiver; 2],
    request: &Value,
    is_last: impl Fn(&Reply) -> bool,
) -> Vec<Reply> {
    let [json, sbe] = both;
    let mut told = [json, sbe].map(|receiver| {
        if !request.is_null() {
            receiver.client.send(request);
        }
        receiver.read_to(&is_last)
    });
    assert_eq!(told[0], told[1]);
    std::mem::take(&mut told[0])
}

#[test]
fn one_run_reads_the_same_over_json_and_sbe() {
    let engine = TestEngine::start();
    let mut both =
        ["tickwire.v1.json", "tickwire.v1.sbe"].map(|name| Receiver::connect(&engine, name));
    let mut publisher = engine.publisher();
    publisher.publish(&json!([
        trade("A", 1, 1),
        trade("A", 1, 2),
        quote("A", 1, 1),
        quote("Q", 1, 7)
    ]));

    // Start and snapshots; a pattern, a pending symbol, and one that only one client's channels
    // would show.
    let request = json!({"op": "subscribe", "id": 1, "symbols": ["A", "Q*", "END"]});
    let told = both_hear(&mut both, &request, |reply| is_tick(reply, "Q", 7));
    assert!(is_ack(&told[0]));
    assert_eq!(told.len(), 6, "{told:?}");

    // Live, over a hole and into a new epoch, with the source away between.
    publisher.publish(&json!([
        trade("A", 1, 3),
        trade("A", 1, 6),
        quote("QX", 1, 1)
    ]));
    drop(publisher);
    let told = both_hear(
        &mut both,
        &Value::Null,
        |reply| matches!(reply, Reply::Feed { symbol, .. } if symbol.as_str() == "QX"),
    );
    assert!(told.iter().any(|reply| matches!(reply, Reply::Gap(_))));
    let mut publisher = engine.publisher();
    publisher.publish(&json!([
        trade("A", 2, 1),
        quote("A", 2, 1),
        trade("END", 1, 1)
    ]));
    let told = both_hear(&mut both, &Value::Null, |reply| is_tick(reply, "END", 1));
    assert!(told.iter().any(|reply| matches!(reply, Reply::Feed { .. })));

    // Marks of a replay, the gap that closes an old epoch, and a point ahead.
    let request = json!({"op": "replay", "id": 9, "symbols": ["A", "Q"], "since":
        {"A": {"epoch": 1, "trade": 2}, "Q": {"epoch": 1, "quote": 99}}});
    let told = both_hear(&mut both, &request, |reply| {
        matches!(reply, Reply::Replayed { .. })
    });
    assert!(
        told.iter()
            .any(|reply| matches!(reply, Reply::Tick(_, marks) if marks.replay == Some(9)))
    );
    let request =
        json!({"op": "subscribe", "id": 2, "symbols": ["A"], "since": {"A": {"epoch": 2}}});
    both_hear(&mut both, &request, |reply| {
        matches!(reply, Reply::Replayed { .. })
    });

    // Conflation counts what it skips.
    let request = json!({"op": "subscribe", "id": 3, "symbols": ["C"], "mode": "conflate", "interval_ms": 60_000});
    both_hear(&mut both, &request, is_ack);
    publisher.publish(&json!([
        trade("C", 1, 1),
        trade("C", 1, 2),
        trade("C", 1, 3),
        trade("C", 1, 4)
    ]));
    both_hear(&mut both, &Value::Null, |reply| is_tick(reply, "C", 1));
    let request = json!({"op": "unsubscribe", "id": 4, "symbols": ["C"]});
    let told = both_hear(&mut both, &request, |reply| is_tick(reply, "C", 4));
    assert!(matches!(told.last(), Some(Reply::Tick(_, marks)) if marks.skipped == 2));

    // An error is text on both.
    let told = both_hear(&mut both, &json!({"op": "dance", "id": 5}), |reply| {
        matches!(reply, Reply::Error(_))
    });
    assert_eq!(told.len(), 1);

    let ids = &both[1].ids;
    let of = |epoch| ids[&("A".to_owned(), epoch)].clone();
    assert_eq!(
        (of(1).len(), of(2).len()),
        (1, 1),
        "one id a symbol and epoch"
    );
    assert_ne!(of(1), of(2), "a new epoch has a new id");
}

#[test]
fn an_epoch_that_was_never_live_is_defined_before_its_replay() {
    let engine = TestEngine::start();
    let mut publisher = engine.publisher();
    publisher.publish(&json!([trade("W", 1, 1)]));
    let mut witness = engine.subscriber();
    witness.subscribe(json!({"symbols": ["W"]}));
    let cursor = witness.next_of("cursor")["cursor"].clone();
    publisher.publish(&json!([
        trade("A", 1, 1),
        quote("A", 1, 1),
        trade("A", 2, 1),
        quote("A", 3, 1)
    ]));
    let mut both =
        ["tickwire.v1.json", "tickwire.v1.sbe"].map(|name| Receiver::connect(&engine, name));
    let request =
        json!({"op": "subscribe", "id": 1, "symbols": ["A"], "since": {"cursor": cursor}});
    let told = both_hear(&mut both, &request, |reply| {
        matches!(reply, Reply::Replayed { .. })
    });
    let ticks = told.iter().filter(|reply| matches!(reply, Reply::Tick(..)));
    assert_eq!(ticks.count(), 4, "{told:?}");
    assert_eq!(both[1].ids.len(), 3);
}
