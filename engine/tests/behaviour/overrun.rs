//! A floor that the tape itself has lapped.

use std::time::{Duration, Instant};

use serde_json::json;
use tickwire_engine::{PublishError, Publisher};
use tickwire_proto::{
    symbol::Symbol,
    tick::{Body, Identity, PublishedTick, Values},
};

use crate::{
    harness::{PATIENCE, TestEngine},
    ledger::Ledger,
};

fn hand_in(publisher: &mut Publisher, seq: u64) {
    let mut tick = PublishedTick {
        symbol: Symbol::parse("A").unwrap(),
        identity: Some(Identity { epoch: 1, seq }),
        ts_ns: None,
        values: Values {
            price_exponent: 0,
            size_exponent: 0,
            body: Body::Trade {
                price: seq as i64,
                size: None,
                side: None,
            },
        },
    };
    while let Err(PublishError::Full(back)) = publisher.publish(tick) {
        tick = back;
        std::thread::yield_now();
    }
}

#[test]
fn what_a_lapped_floor_missed_is_a_gap_overrun_and_the_account_holds() {
    const BURST: u64 = 20_000;
    let engine = TestEngine::with(|config| {
        config.tape_slots = 1 << 10;
        // The floor looks up after every tick, ingest does not.
        config.ticks_per_turn = 1;
        config.lag_soft_ticks = 1_000;
    });
    let mut client = engine.subscriber();
    client.subscribe(json!({"symbols": ["A"]}));
    let mut publisher = engine.engine.publisher("burst").expect("a lane");
    let until = Instant::now() + PATIENCE;
    let mut last = 0;
    while engine.metric("tickwire_overrun_ticks_total", "") == 0.0 {
        assert!(Instant::now() < until, "the floor was never lapped");
        for seq in last + 1..=last + BURST {
            hand_in(&mut publisher, seq);
        }
        last += BURST;
        std::thread::sleep(Duration::from_millis(50));
    }
    hand_in(&mut publisher, last + 1);
    let mut ledger = Ledger::default();
    while ledger.last("A", "trade") != last + 1 {
        ledger.take(&client.next_event());
    }
    // Where the first ticks were missed as well, `start` lies behind them.
    assert_eq!(ledger.delivered + ledger.gapped, ledger.covered());
    assert!(ledger.reasons.iter().any(|reason| reason == "overrun"));
}
