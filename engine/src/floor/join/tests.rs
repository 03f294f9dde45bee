//! The end of a walk that the tape has overtaken.

use tickwire_proto::{
    pattern::Selector,
    symbol::Symbol,
    tick::{Body, Values},
};

use super::*;
use crate::{
    floor::rows::Subscriber,
    tape::{TapeOptions, Writer, create},
};

const SLOTS: usize = 64;

fn trade(seq: u64) -> Event {
    let body = Body::Trade {
        price: 1,
        size: None,
        side: None,
    };
    let values = Values {
        price_exponent: 0,
        size_exponent: 0,
        body,
    };
    Event::Tick {
        seq,
        ts_ns: 0,
        values,
    }
}

/// Symbols 0 and 1 on a small tape, and rows that know them.
fn floor() -> (Writer, Rows, [Symbol; 2]) {
    let options = TapeOptions {
        slots: SLOTS,
        symbols_max: 2,
        id: 7,
    };
    let (mut writer, tape) = create(options).unwrap();
    let names = ["A", "B"].map(|name| Symbol::parse(name).unwrap());
    for name in names {
        writer.intern(name).unwrap();
    }
    let mut rows = Rows::new(tape, 0);
    while rows.next_newborn().is_some() {}
    (writer, rows, names)
}

/// Somebody else on this floor listens, so the floor keeps the account of symbol 0.
fn listen(rows: &mut Rows, epoch: u64, seq: u64) {
    let subscriber = Subscriber {
        connection: 9,
        channels: Channels::BOTH,
        conflate: false,
    };
    rows.join(SymbolId(0), subscriber, Position(0));
    rows.row(SymbolId(0))
        .account
        .note(Channel::Trade, epoch, seq);
}

/// What a walk writes that stood at seq 3 of epoch 1 when the tape went round behind it.
fn end_of_lapped_walk(mode: Mode, reached: (u64, u64)) -> String {
    let (mut writer, mut rows, [name, _]) = floor();
    for seq in 1..=reached.1 {
        writer.push(SymbolId(0), reached.0, 0, trade(seq));
    }
    for seq in 1..=2 * SLOTS as u64 {
        writer.push(SymbolId(1), 1, 0, trade(seq));
    }
    listen(&mut rows, reached.0, reached.1);
    let plan = vec![(SymbolId(0), Selector::Symbol(name))];
    let purpose = Purpose::Resume(Since::default());
    let channels = Channels::BOTH;
    let mut join = Join::new(0, 0, None, purpose, channels, mode, 0, plan, Position(3));
    let account = Account {
        epoch: 1,
        last: [Some(3), None],
    };
    let held = [None; 2];
    join.accounts.insert(SymbolId(0), Walked { account, held });
    join.stage = Stage::Follow(Position(3));
    let tape = Arc::clone(writer.tape());
    let mut out = Piece::default();
    let mut walk = Walk {
        tape: &tape,
        rows: &mut rows,
        format: Subprotocol::Json,
        out: &mut out,
        ticks: 0,
        floor_at: tape.head(),
    };
    while join.step(&mut walk) != Progress::Reached {}
    join.end(&mut walk);
    String::from_utf8_lossy(&out.bytes).into_owned()
}

#[test]
fn a_walk_lapped_at_a_symbols_last_ticks_names_them_as_lost() {
    for mode in [Mode::Stream, Mode::Conflate { interval_ms: 250 }] {
        let told = end_of_lapped_walk(mode, (1, 5));
        assert!(
            told.contains(r#""from":4,"to":5,"reason":"history""#),
            "{told}"
        );
    }
}

#[test]
fn a_walk_lapped_at_a_new_epoch_opens_its_account() {
    let told = end_of_lapped_walk(Mode::Stream, (2, 5));
    assert!(told.contains(r#""epoch":2,"trade":5"#), "{told}");
}

#[test]
fn a_walk_that_saw_everything_adds_nothing() {
    assert_eq!(end_of_lapped_walk(Mode::Stream, (1, 3)), "");
}
