use tickwire_proto::{reply::GapReason, tick::FeedState};

use super::*;
use crate::tape::{Position, ReadError, SymbolsFull, TapeError};

const A: SymbolId = SymbolId(0);
const B: SymbolId = SymbolId(1);

fn trade(seq: u64) -> Event {
    tick(Channel::Trade, seq - 1)
}

fn gap(from: u64, to: u64) -> Event {
    Event::Gap {
        channel: Channel::Trade,
        from,
        to,
        reason: GapReason::Bridge,
    }
}

#[test]
fn an_empty_tape_has_nothing_to_read() {
    let (_, tape) = tape(8, 1);
    assert_eq!((tape.id(), tape.slots(), tape.symbols()), (7, 8, 1));
    assert_eq!((tape.head(), tape.oldest()), (Position(0), Position(0)));
    assert_eq!(tape.read(Position(0)), Err(ReadError::NotYet));
    assert_eq!(tape.newest(A, Channel::Trade), None);
    assert_eq!(tape.newest_before(A, Channel::Trade, Position(9)), Ok(None));
    assert_eq!((tape.feed(A), tape.base(A, Channel::Trade)), (None, None));
}

#[test]
fn impossible_sizes_are_refused_with_what_was_asked_for() {
    let error = |slots, symbols_max| {
        create(TapeOptions {
            slots,
            symbols_max,
            id: 0,
        })
        .err()
    };
    for slots in [0, 1, 3, 100] {
        assert!(matches!(error(slots, 1), Some(TapeError::Slots { slots: s }) if s == slots));
    }
    for symbols_max in [0, usize::MAX] {
        assert!(matches!(
            error(8, symbols_max),
            Some(TapeError::Symbols { .. })
        ));
    }
    assert!(matches!(error(1 << 62, 1), Some(TapeError::Memory { .. })));
}

#[test]
fn a_symbol_keeps_its_id_and_a_full_table_says_so() {
    let (mut writer, tape) = create(TapeOptions {
        slots: 8,
        symbols_max: 2,
        id: 0,
    })
    .unwrap();
    let [long, short, third] =
        ["X".repeat(32), "BTC-USDT".into(), "C".into()].map(|name| Symbol::parse(&name).unwrap());
    assert_eq!(writer.intern(long), Ok(A));
    assert_eq!(tape.symbols(), 1);
    assert_eq!(writer.intern(short), Ok(B));
    assert_eq!(writer.intern(long), Ok(A));
    assert_eq!(writer.intern(third), Err(SymbolsFull { symbols_max: 2 }));
    assert_eq!(
        (tape.symbols(), tape.name(A), tape.name(B)),
        (2, long, short)
    );
}

#[test]
#[should_panic(expected = "never interned")]
fn a_record_of_an_unknown_symbol_is_a_bug_of_the_caller() {
    let (mut writer, _) = create(TapeOptions {
        slots: 8,
        symbols_max: 2,
        id: 0,
    })
    .unwrap();
    writer.push(A, 1, 0, trade(1));
}

#[test]
fn a_feed_change_stands_in_no_chain() {
    let (mut writer, tape) = tape(8, 2);
    writer.push(A, 1, 0, trade(1));
    let at = writer.push(A, 1, 0, Event::Feed(FeedState::Live));
    assert_eq!(tape.feed(A), Some(FeedState::Live));
    writer.push(A, 1, 0, Event::Feed(FeedState::Stale));
    writer.push(A, 1, 0, trade(2));
    assert_eq!((tape.feed(A), tape.feed(B)), (Some(FeedState::Stale), None));
    let feed = tape.read(at).unwrap();
    assert_eq!((feed.channel(), feed.previous), (None, None));
    assert_eq!(
        (tape.next(&feed), tape.previous(&feed)),
        (Ok(None), Ok(None))
    );
    assert_eq!(
        tape.newest(A, Channel::Trade).unwrap().previous,
        Some(Position(0))
    );
}

#[test]
fn the_base_is_the_first_seq_of_the_newest_epoch_in_each_channel() {
    let (mut writer, tape) = tape(8, 1);
    writer.push(A, 5, 0, trade(41));
    writer.push(A, 5, 0, trade(42));
    assert_eq!(tape.base(A, Channel::Trade), Some((5, 41)));
    assert_eq!(tape.base(A, Channel::Quote), None);
    writer.push(A, 6, 0, gap(3, 9));
    writer.push(A, 6, 0, trade(10));
    assert_eq!(tape.base(A, Channel::Trade), Some((6, 3)));
    // A gap that closes the account of an epoch gone by.
    writer.push(A, 5, 0, gap(43, 50));
    assert_eq!(tape.base(A, Channel::Trade), Some((6, 3)));
    writer.push(A, 6, 0, tick(Channel::Quote, 0));
    assert_eq!(tape.base(A, Channel::Quote), Some((6, 1)));
}

#[test]
fn a_snapshot_passes_over_gaps() {
    let (mut writer, tape) = tape(8, 1);
    let first = writer.push(A, 1, 0, trade(1));
    let hole = writer.push(A, 1, 0, gap(2, 3));
    let head = tape.head();
    writer.push(A, 1, 0, trade(4));
    let positions =
        |record: Result<Option<crate::tape::Record>, ReadError>| record.unwrap().unwrap().position;
    assert_eq!(
        positions(tape.newest_tick_before(A, Channel::Trade, head)),
        first
    );
    assert_eq!(positions(tape.newest_before(A, Channel::Trade, head)), hole);
    let hole = tape.read(hole).unwrap();
    assert_eq!((hole.first_seq(), hole.last_seq()), (2, 3));
}

#[test]
fn a_hot_symbol_cannot_evict_a_quiet_ones_last_records() {
    let (mut writer, tape) = tape(8, 2);
    for seq in 1..=3 {
        writer.push(A, 1, 0, trade(seq));
    }
    let quiet: Vec<_> = (0..3).map(|at| tape.read(Position(at)).unwrap()).collect();
    for seq in 1..=100 {
        writer.push(B, 1, 0, trade(seq));
    }
    assert_eq!(
        tape.read(Position(0)),
        Err(ReadError::Lapped {
            oldest: Position(96)
        })
    );
    assert_eq!(tape.newest(A, Channel::Trade), Some(quiet[2]));
    assert_eq!(tape.previous(&quiet[2]), Ok(Some(quiet[1])));
    assert_eq!(tape.next(&quiet[1]), Ok(Some(quiet[2])));
    assert_eq!(tape.next(&quiet[2]), Ok(None));
    // And when it moves again, the way from its last lapped record on is found.
    let at = writer.push(A, 1, 0, trade(4));
    assert_eq!(tape.next(&quiet[2]), Ok(Some(tape.read(at).unwrap())));
}

#[test]
fn a_reader_lapped_by_its_own_symbol_learns_where_the_tape_begins() {
    let (mut writer, tape) = tape(8, 1);
    writer.push(A, 1, 0, trade(1));
    let first = tape.read(Position(0)).unwrap();
    for seq in 2..=100 {
        writer.push(A, 1, 0, trade(seq));
    }
    let lapped = ReadError::Lapped {
        oldest: Position(93),
    };
    assert_eq!(tape.next(&first), Err(lapped));
    assert_eq!(
        tape.newest_before(A, Channel::Trade, Position(50)),
        Err(lapped)
    );
}

#[test]
fn positions_that_no_tape_reaches_are_not_there_yet() {
    let (mut writer, tape) = tape(8, 1);
    writer.push(A, 1, 0, trade(1));
    for at in [1 << 62, 1 << 63, u64::MAX - 1, u64::MAX] {
        assert_eq!(tape.read(Position(at)), Err(ReadError::NotYet), "{at}");
    }
}

#[test]
fn interest_is_a_bit_for_each_floor() {
    let (_, tape) = tape(8, 2);
    tape.add_interest(A, 0);
    tape.add_interest(A, 63);
    tape.add_interest(A, 63);
    assert_eq!((tape.interest(A), tape.interest(B)), (1 << 63 | 1, 0));
    tape.drop_interest(A, 63);
    tape.drop_interest(A, 5);
    assert_eq!(tape.interest(A), 1);
}

#[test]
fn the_records_since_a_time_are_found_where_history_reaches_back_to_it() {
    let (mut writer, tape) = tape(8, 1);
    assert_eq!(tape.admitted_since(0), None);
    // Two at each time.
    for seq in 1..=6_u64 {
        writer.push(A, 1, 100 * seq.div_ceil(2), trade(seq));
    }
    assert_eq!(tape.admitted_since(100), None, "there may have been more");
    for (ns, at) in [
        (101, 2),
        (200, 2),
        (201, 4),
        (300, 4),
        (301, 6),
        (u64::MAX, 6),
    ] {
        assert_eq!(tape.admitted_since(ns), Some(Position(at)), "{ns}");
    }
    for seq in 7..=20_u64 {
        writer.push(A, 1, 100 * seq.div_ceil(2), trade(seq));
    }
    // What is left begins with the second of 700 ns.
    assert_eq!(tape.oldest(), Position(13));
    assert_eq!(tape.admitted_since(700), None);
    assert_eq!(tape.admitted_since(701), Some(Position(14)));
}
