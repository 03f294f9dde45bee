//! Readers beside a running writer: whatever they get is what was pushed, and nothing is missing
//! that the tape does not own up to.

use std::thread;

use super::*;
use crate::tape::{Origin, Position, ReadError, Record};

const SYMBOLS: u64 = 3;
/// Positions after which symbol and channel repeat.
const PERIOD: u64 = SYMBOLS * 2;
const SLOTS: usize = 64;
const PUSHES: u64 = if cfg!(miri) { 300 } else { 50_000 };

/// What stands at a position, all of it.
fn expected(position: Position) -> Record {
    let at = position.0;
    Record {
        position,
        symbol: SymbolId((at % SYMBOLS) as u32),
        epoch: 1 + at / 1_000,
        admitted_ns: at.wrapping_mul(31),
        previous: at.checked_sub(PERIOD).map(Position),
        origin: [Origin::Here, Origin::Elsewhere][(at % 2) as usize],
        event: tick(Channel::BOTH[(at / SYMBOLS % 2) as usize], at),
    }
}

/// Pushes everything while `readers` run, each until the tape is full and it has read the end.
fn beside_a_writer(readers: &[fn(&Tape)]) {
    let (mut writer, tape) = tape(SLOTS, SYMBOLS as u32);
    thread::scope(|scope| {
        for reader in readers {
            scope.spawn(|| reader(&tape));
        }
        for at in 0..PUSHES {
            let record = expected(Position(at));
            let position = writer.push_from(
                record.origin,
                record.symbol,
                record.epoch,
                record.admitted_ns,
                record.event,
            );
            assert_eq!(position, record.position);
            // Lets the readers in, sometimes in time and sometimes too late.
            if at.is_multiple_of(SLOTS as u64 - 5) {
                thread::yield_now();
            }
        }
    });
}

fn is_done(tape: &Tape) -> bool {
    tape.head().0 == PUSHES
}

fn follow_the_head(tape: &Tape) {
    let (mut at, mut read, mut missed) = (Position(0), 0, 0);
    while at.0 < PUSHES {
        let head = tape.head();
        match tape.read(at) {
            Ok(record) => {
                assert_eq!(record, expected(at));
                read += 1;
                at.0 += 1;
            }
            Err(ReadError::Lapped { oldest }) => {
                assert!(oldest > at);
                missed += oldest.0 - at.0;
                at = oldest;
            }
            Err(ReadError::NotYet) => {
                assert!(head <= at);
                thread::yield_now();
            }
        }
    }
    assert_eq!(read + missed, PUSHES);
    assert!(read > 0);
}

fn pass_over_by_hints(tape: &Tape) {
    let mut from = 0;
    while from < PUSHES {
        let until = tape.head().0.min(from + 16);
        let hints: Vec<_> = (from..until)
            .map(|at| tape.symbol_at(Position(at)))
            .collect();
        if tape.oldest().0 <= from {
            for (at, hint) in (from..until).zip(hints) {
                assert_eq!(hint, expected(Position(at)).symbol);
            }
            from = until;
        } else {
            from = tape.oldest().0;
        }
    }
}

fn walk_forward(tape: &Tape) {
    while !is_done(tape) {
        let Ok(mut record) = tape.read(tape.oldest()) else {
            continue;
        };
        while let Ok(Some(next)) = tape.next(&record) {
            assert_eq!(next, expected(Position(record.position.0 + PERIOD)));
            record = next;
        }
    }
}

fn a_link_is_there_before_the_head_passes_it(tape: &Tape) {
    while !is_done(tape) {
        let head = tape.head().0;
        let Some(at) = head.checked_sub(PERIOD + 1) else {
            continue;
        };
        let next = tape.next(&expected(Position(at)));
        match next {
            Ok(next) => assert_eq!(next, Some(expected(Position(at + PERIOD)))),
            Err(error) => assert!(matches!(error, ReadError::Lapped { .. })),
        }
    }
}

fn walk_back_from_the_newest(tape: &Tape) {
    while !is_done(tape) {
        let head = tape.head();
        for symbol in (0..SYMBOLS).map(|id| SymbolId(id as u32)) {
            let Some(newest) = tape.newest(symbol, Channel::Trade) else {
                continue;
            };
            assert!(newest.position.0 + PERIOD >= head.0);
            let mut record = newest;
            for _ in 0..20 {
                assert_eq!(record, expected(record.position));
                let Ok(Some(previous)) = tape.previous(&record) else {
                    break;
                };
                assert_eq!(Some(previous.position), record.previous);
                record = previous;
            }
        }
    }
}

fn ask_for_the_base(tape: &Tape) {
    while !is_done(tape) {
        let Some((epoch, first_seq)) = tape.base(SymbolId(0), Channel::Trade) else {
            continue;
        };
        // Symbol 0 trades at every multiple of the period.
        let first = ((epoch - 1) * 1_000).next_multiple_of(PERIOD);
        assert_eq!(first_seq, first + 1);
    }
}

#[test]
fn a_reader_gets_every_record_once_or_learns_how_many_it_missed() {
    beside_a_writer(&[follow_the_head, follow_the_head, pass_over_by_hints]);
}

#[test]
fn links_lead_to_the_neighbours_in_the_chain_while_the_writer_runs() {
    beside_a_writer(&[
        walk_forward,
        a_link_is_there_before_the_head_passes_it,
        walk_back_from_the_newest,
    ]);
}

#[test]
fn the_symbol_table_answers_whole_while_the_writer_runs() {
    beside_a_writer(&[ask_for_the_base, walk_back_from_the_newest]);
}

#[test]
fn a_tape_that_nobody_laps_delivers_everything() {
    let (mut writer, tape) = tape(1 << 12, SYMBOLS as u32);
    thread::scope(|scope| {
        scope.spawn(|| {
            for at in (0..1 << 12).map(Position) {
                while tape.head() <= at {
                    thread::yield_now();
                }
                assert_eq!(tape.read(at), Ok(expected(at)));
            }
        });
        for at in 0..1 << 12 {
            let record = expected(Position(at));
            writer.push_from(
                record.origin,
                record.symbol,
                record.epoch,
                record.admitted_ns,
                record.event,
            );
        }
    });
}
