//! A client that does not keep up: what it is told, and that nobody else notices.

use serde_json::{Value, json};
use tickwire_engine::config::Config;
use tungstenite::Message;

use crate::{
    harness::{Client, PATIENCE, TestEngine, eventually, numbered, quote},
    ledger::Ledger,
};

/// Little room between the tape and the client, so that a small backlog already lags.
fn narrow(config: &mut Config) {
    config.lag_soft_ticks = 64;
    config.notsent_lowat_bytes = 1_024;
    config.send_bytes_max = 2_048;
}

/// A client with its account.
struct Reader {
    client: Client,
    ledger: Ledger,
    told: Vec<Value>,
}

impl Reader {
    fn new(mut client: Client, request: Value) -> Self {
        client.subscribe(request);
        Self {
            client,
            ledger: Ledger::default(),
            told: Vec::new(),
        }
    }

    /// Reads until all of `accounts` stand at `seq`.
    fn read_to(&mut self, accounts: &[(&str, &str)], seq: u64) {
        let until = std::time::Instant::now() + PATIENCE;
        while accounts
            .iter()
            .any(|(symbol, channel)| self.ledger.last(symbol, channel) != seq)
        {
            assert!(std::time::Instant::now() < until, "{seq} was not reached");
            let message = self.client.next_event();
            self.ledger.take(&message);
            self.told.push(message);
        }
    }

    fn gaps(&self) -> Vec<&Value> {
        self.told
            .iter()
            .filter(|message| message["type"] == "gap")
            .collect()
    }

    fn assert_complete(&self) {
        let Ledger {
            delivered,
            skipped,
            gapped,
            ..
        } = self.ledger;
        assert_eq!(delivered + skipped + gapped, self.ledger.covered());
    }
}

/// Publishes trades of one symbol in steps that the reader takes in one by one.
fn publish_in_step(
    publisher: &mut Client,
    reader: &mut Reader,
    symbol: &str,
    epoch: u64,
    seqs: std::ops::RangeInclusive<u64>,
) {
    let all: Vec<u64> = seqs.collect();
    for seqs in all.chunks(30) {
        let ticks: Value = seqs
            .iter()
            .map(|seq| numbered(symbol, epoch, *seq))
            .collect();
        publisher.send(&ticks);
        reader.read_to(&[(symbol, "trade")], seqs[seqs.len() - 1]);
    }
}

#[test]
fn who_lags_is_told_what_is_missing_gets_the_latest_and_then_the_full_stream() {
    const ACCOUNTS: [(&str, &str); 3] = [("A", "trade"), ("A", "quote"), ("B", "trade")];
    let engine = TestEngine::with(narrow);
    let request = json!({"symbols": ["A", "B"]});
    let mut slow = Reader::new(engine.narrow_subscriber(), request.clone());
    let mut reader = Reader::new(engine.subscriber(), request);
    let mut publisher = engine.publisher();
    let publish = |publisher: &mut Client, from: u64, reader: &mut Reader| {
        let ticks: Value = (from..from + 10)
            .flat_map(|seq| {
                [
                    numbered("A", 1, seq),
                    quote("A", 1, seq),
                    numbered("B", 1, seq),
                ]
            })
            .collect();
        publisher.send(&ticks);
        reader.read_to(&ACCOUNTS, from + 9);
    };
    for step in 0..100 {
        publish(&mut publisher, 1 + 10 * step, &mut reader);
    }
    assert_eq!(
        reader.gaps(),
        Vec::<&Value>::new(),
        "who reads misses nothing"
    );
    assert_eq!(reader.ledger.delivered, 3_000);

    slow.read_to(&ACCOUNTS, 1_000);
    slow.assert_complete();
    let gaps = slow.gaps();
    assert!(gaps.iter().all(|gap| gap["reason"] == "slow_consumer"));
    for (symbol, channel) in ACCOUNTS {
        // One gap, or two where the kernel took a little more in between.
        let own = |gap: &&&Value| gap["symbol"] == symbol && gap["channel"] == channel;
        let own: Vec<_> = gaps.iter().filter(own).collect();
        assert!((1..=3).contains(&own.len()), "{own:?}");
        assert_eq!(own[own.len() - 1]["to"], 999, "the latest follows");
    }
    assert!(slow.ledger.gapped > 1_000, "{}", slow.ledger.gapped);

    publish(&mut publisher, 1_001, &mut reader);
    let gapped = slow.ledger.gapped;
    slow.read_to(&ACCOUNTS, 1_010);
    assert_eq!(slow.ledger.gapped, gapped, "the full stream again");
    assert_eq!(slow.ledger.delivered + gapped, 3_030);
}

#[test]
fn a_source_gap_and_a_new_epoch_keep_their_place_in_a_lag() {
    let engine = TestEngine::with(narrow);
    let mut slow = Reader::new(engine.narrow_subscriber(), json!({"symbols": ["A"]}));
    let mut reader = Reader::new(engine.subscriber(), json!({"symbols": ["A"]}));
    let mut publisher = engine.publisher();
    publish_in_step(&mut publisher, &mut reader, "A", 1, 1..=1_000);
    publish_in_step(&mut publisher, &mut reader, "A", 1, 1_005..=1_500);
    publish_in_step(&mut publisher, &mut reader, "A", 2, 5..=700);
    assert_eq!(reader.ledger.reasons, ["source"]);

    while slow.ledger.last("A", "trade") != 700 || slow.ledger.epoch("A", "trade") != 2 {
        let message = slow.client.next_event();
        slow.ledger.take(&message);
        slow.told.push(message);
    }
    let tail: Vec<_> = slow.told[slow.told.len() - 8..]
        .iter()
        .map(|message| {
            let field = |name: &str| message[name].as_u64();
            let kind = message["type"].as_str().unwrap();
            (
                kind,
                field("epoch"),
                field("trade").or(field("seq")).or(field("to")),
            )
        })
        .collect();
    assert_eq!(
        tail,
        [
            ("gap", Some(1), Some(999)),
            ("trade", Some(1), Some(1_000)),
            ("gap", Some(1), Some(1_004)),
            ("gap", Some(1), Some(1_499)),
            ("trade", Some(1), Some(1_500)),
            ("start", Some(2), Some(4)),
            ("gap", Some(2), Some(699)),
            ("trade", Some(2), Some(700)),
        ]
    );
    assert_eq!(
        slow.ledger.reasons,
        ["slow_consumer", "source", "slow_consumer", "slow_consumer"]
    );
}

#[test]
fn a_lag_under_conflate_names_the_skipped_in_its_gap_as_well() {
    let engine = TestEngine::with(narrow);
    let symbols: Vec<_> = (0..20).map(|number| format!("S{number}")).collect();
    let accounts: Vec<_> = symbols
        .iter()
        .map(|symbol| (symbol.as_str(), "trade"))
        .collect();
    let request = json!({"symbols": symbols, "mode": "conflate", "interval_ms": 10});
    let mut slow = Reader::new(engine.narrow_subscriber(), request);
    let mut publisher = engine.publisher();
    for round in 0..60 {
        let ticks: Value = (1..=3)
            .flat_map(|tick| {
                symbols
                    .iter()
                    .map(move |symbol| numbered(symbol, 1, round * 3 + tick))
            })
            .collect();
        publisher.publish(&ticks);
        std::thread::sleep(std::time::Duration::from_millis(12));
    }
    slow.read_to(&accounts, 180);
    slow.assert_complete();
    assert_eq!(slow.ledger.covered(), 20 * 180);
    let Ledger {
        skipped, gapped, ..
    } = slow.ledger;
    assert!(skipped > 0 && gapped > 0, "{skipped} {gapped}");
    assert!(
        slow.ledger
            .reasons
            .iter()
            .all(|reason| reason == "slow_consumer")
    );
}

#[test]
fn a_backlog_that_the_tape_has_lost_is_one_gap_a_channel() {
    let engine = TestEngine::with(|config| {
        narrow(config);
        config.tape_slots = 1 << 10;
        config.lag_soft_ticks = 1_000;
        config.ticks_per_turn = 512;
    });
    let mut slow = Reader::new(engine.narrow_subscriber(), json!({"symbols": ["A", "B"]}));
    let mut publisher = engine.publisher();
    let run = |symbol: &str, seqs: std::ops::RangeInclusive<u64>| -> Value {
        seqs.map(|seq| numbered(symbol, 1, seq)).collect()
    };
    for seq in 1..=450 {
        publisher.send(&json!([numbered("A", 1, seq), numbered("B", 1, seq)]));
    }
    publisher.flush();
    // Somebody else's ticks go round the tape.
    publisher.publish(&run("C", 1..=3_000));
    publisher.publish(&json!([numbered("A", 1, 451), numbered("B", 1, 451)]));
    slow.read_to(&[("A", "trade"), ("B", "trade")], 451);
    slow.assert_complete();
    let gaps: Vec<_> = slow
        .gaps()
        .iter()
        .map(|gap| (&gap["symbol"], &gap["to"]))
        .collect();
    assert_eq!(
        gaps,
        [(&json!("A"), &json!(450)), (&json!("B"), &json!(450))],
        "{:?}",
        slow.gaps()
    );
}

#[test]
fn who_takes_nothing_for_stall_s_is_closed_and_others_are_not() {
    let engine = TestEngine::with(|config| {
        narrow(config);
        config.stall_s = 1;
    });
    let request = json!({"symbols": ["A"]});
    let mut slow = Reader::new(engine.narrow_subscriber(), request.clone());
    let gone = Reader::new(engine.narrow_subscriber(), request.clone());
    let mut reader = Reader::new(engine.subscriber(), request);
    let mut publisher = engine.publisher();
    publish_in_step(&mut publisher, &mut reader, "A", 1, 1..=1_000);
    eventually("both slow ones leave", || {
        engine.metric("tickwire_subscriptions", "") < 2.0
    });
    // What is in flight is finished first, so that the close frame does not stand within another.
    let (code, messages) = slow.client.read_to_close();
    assert_eq!(code, 4410);
    for message in &messages {
        slow.ledger.take(message);
    }
    publish_in_step(&mut publisher, &mut reader, "A", 1, 1_001..=1_030);
    assert_eq!(reader.ledger.delivered, 1_030);
    eventually("both are counted", || {
        engine.metric("tickwire_closes_total", "slow_consumer") >= 2.0
    });
    drop(gone);
}

#[test]
fn who_pings_without_reading_is_closed_at_the_bound_of_queued_bytes() {
    let engine = TestEngine::with(|config| {
        narrow(config);
        config.queued_bytes_max = 64 * 1_024;
        config.hold_bytes_max = 1_024;
        config.ops_burst = 10_000;
    });
    let mut client = engine.narrow_subscriber();
    let mut reader = Reader::new(engine.subscriber(), json!({"symbols": ["A"]}));
    let mut publisher = engine.publisher();
    for _ in 0..3_000 {
        if client
            .socket
            .send(Message::Ping(vec![7; 125].into()))
            .is_err()
        {
            break;
        }
    }
    let (code, _) = client.read_to_close();
    assert_eq!(code, 4410);
    publish_in_step(&mut publisher, &mut reader, "A", 1, 1..=30);
    assert_eq!(reader.ledger.delivered, 30);
}

#[test]
fn a_drain_hands_out_the_latest_of_a_lag_before_it_closes() {
    let engine = TestEngine::with(narrow);
    let mut slow = Reader::new(engine.narrow_subscriber(), json!({"symbols": ["A"]}));
    let mut reader = Reader::new(engine.subscriber(), json!({"symbols": ["A"]}));
    let mut publisher = engine.publisher();
    publish_in_step(&mut publisher, &mut reader, "A", 1, 1..=1_000);
    let draining = std::thread::spawn(move || engine.engine.drain());
    // Both get their goodbye in one go; only then the slow one reads on.
    assert_eq!(reader.client.read_to_close().0, 1001);
    let (code, messages) = slow.client.read_to_close();
    assert_eq!(code, 1001);
    for message in &messages {
        slow.ledger.take(message);
    }
    assert_eq!(slow.ledger.last("A", "trade"), 1_000);
    slow.assert_complete();
    let kinds: Vec<_> = messages[messages.len() - 2..]
        .iter()
        .map(|message| message["type"].clone())
        .collect();
    assert_eq!(kinds, ["cursor", "goodbye"]);
    drop((reader, publisher, slow));
    assert!(draining.join().unwrap());
}
