//! Every interleaving, and every stale value that Relaxed allows, of a writer and a reader.
//!
//! `RUSTFLAGS="--cfg tickwire_loom" cargo test -p tickwire-engine --lib loom_`
//!
//! Rings of two slots and tables of two recent records, so that a few pushes lap them. Loom does
//! not explore load buffering, so green is evidence, not proof.

use std::sync::Arc;

use loom::thread;
use tickwire_proto::{
    symbol::Symbol,
    tick::{Body, Channel, FeedState, Values},
};

use super::{
    Event, Origin, Position, ReadError, Record, SymbolId, Tape, TapeOptions, Writer, create,
    layout::PAYLOAD,
    slot::{Missed, Slot},
    sync::{AtomicU64, Ordering, fence},
};

const A: SymbolId = SymbolId(0);
const SLOTS: u64 = 2;

/// Explores all that at most `preemptions` of a running thread can lead to.
///
/// Ten words of which each may be old or new are a thousand copies at every point of preemption, so
/// the models that copy a record while it is overwritten get one, which takes seconds; two take
/// minutes. The slot alone is explored without a bound.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn tape() -> (Writer, Arc<Tape>) {
    let options = TapeOptions {
        slots: SLOTS as usize,
        symbols_max: 2,
        id: 0,
    };
    let (mut writer, tape) = create(options).unwrap();
    for name in ["A", "B"] {
        writer.intern(Symbol::parse(name).unwrap()).unwrap();
    }
    (writer, tape)
}

/// The trade that stands at `at` where the tape holds nothing but trades of A.
fn trade(at: u64) -> Record {
    let body = Body::Trade {
        price: at as i64 + 50,
        size: Some(at as i64 + 60),
        side: None,
    };
    let values = Values {
        price_exponent: 0,
        size_exponent: 0,
        body,
    };
    Record {
        position: Position(at),
        symbol: A,
        epoch: at + 10,
        admitted_ns: at + 20,
        previous: at.checked_sub(1).map(Position),
        origin: Origin::Here,
        event: Event::Tick {
            seq: at + 30,
            ts_ns: at + 40,
            values,
        },
    }
}

fn push_trade(writer: &mut Writer, at: u64) {
    let Record {
        symbol,
        epoch,
        admitted_ns,
        event,
        position,
        ..
    } = trade(at);
    assert_eq!(writer.push(symbol, epoch, admitted_ns, event), position);
}

fn assert_lapped(error: ReadError, at: Position) {
    assert!(
        matches!(error, ReadError::Lapped { oldest } if oldest > at),
        "{error:?}"
    );
}

#[test]
fn loom_a_slot_gives_no_torn_copy() {
    loom::model(|| {
        // Stamp, link and two words: what holds for two holds for any two of ten.
        let words: Arc<[AtomicU64; PAYLOAD + 2]> = Arc::default();
        let [first, second] = [Position(0), Position(SLOTS)];
        Slot(&*words).write(first, &[1, 1]);
        let writer = thread::spawn({
            let words = Arc::clone(&words);
            move || Slot(&*words).write(second, &[2, 2])
        });
        match Slot(&*words).read(first) {
            Ok(payload) => assert_eq!(payload, [1, 1]),
            Err(missed) => assert_eq!(missed, Missed::Overwritten { by: second }),
        }
        match Slot(&*words).read_any() {
            Some((position, payload)) if position == first => assert_eq!(payload, [1, 1]),
            Some((position, payload)) => assert_eq!((position, payload), (second, [2, 2])),
            None => {}
        }
        writer.join().unwrap();
    });
}

#[test]
fn loom_a_record_behind_the_head_is_whole_or_lapped() {
    explore(1, || {
        let (mut writer, tape) = tape();
        (0..SLOTS).for_each(|at| push_trade(&mut writer, at));
        let reader = thread::spawn(move || match tape.read(Position(0)) {
            Ok(record) => assert_eq!(record, trade(0)),
            Err(error) => assert_lapped(error, Position(0)),
        });
        push_trade(&mut writer, SLOTS);
        reader.join().unwrap();
    });
}

#[test]
fn loom_what_the_head_has_passed_is_there() {
    explore(3, || {
        let (mut writer, tape) = tape();
        let reader = thread::spawn(move || {
            if tape.head() == Position(1) {
                assert_eq!(tape.feed(A), Some(FeedState::Live));
                assert!(tape.read(Position(0)).is_ok());
            }
        });
        writer.push(A, 1, 0, Event::Feed(FeedState::Live));
        reader.join().unwrap();
    });
}

#[test]
fn loom_a_link_is_there_before_the_head_passes_it() {
    explore(3, || {
        let (mut writer, tape) = tape();
        push_trade(&mut writer, 0);
        let reader = thread::spawn(move || {
            let head = tape.head();
            match tape.next(&trade(0)).expect("nobody laps") {
                Some(record) => assert_eq!(record, trade(1)),
                None => assert_eq!(head, Position(1)),
            }
        });
        push_trade(&mut writer, 1);
        reader.join().unwrap();
    });
}

#[test]
fn loom_a_link_being_lapped_leads_to_the_successor() {
    explore(3, || {
        let (mut writer, tape) = tape();
        (0..SLOTS).for_each(|at| push_trade(&mut writer, at));
        let reader = thread::spawn(move || {
            // By the link or, once that is overwritten, by the table.
            assert_eq!(tape.next(&trade(0)), Ok(Some(trade(1))));
        });
        writer.push(SymbolId(1), 1, 0, Event::Feed(FeedState::Live));
        reader.join().unwrap();
    });
}

#[test]
fn loom_the_way_on_from_a_lapped_record_is_found_in_the_table() {
    explore(3, || {
        let (mut writer, tape) = tape();
        push_trade(&mut writer, 0);
        let others = Event::Feed(FeedState::Live);
        writer.push(SymbolId(1), 1, 0, others);
        let reader = thread::spawn(move || {
            let next = tape
                .next(&trade(0))
                .expect("the table holds A's last record");
            assert!(next.is_none_or(|next| next.position == Position(3)));
            assert!(next.is_none_or(|next| next.previous == Some(Position(0))));
        });
        writer.push(SymbolId(1), 1, 0, others);
        writer.push(A, 10, 0, trade(0).event);
        reader.join().unwrap();
    });
}

#[test]
fn loom_the_newest_is_whole_and_not_older_than_the_head() {
    explore(1, || {
        let (mut writer, tape) = tape();
        push_trade(&mut writer, 0);
        let reader = thread::spawn(move || {
            let head = tape.head();
            let newest = tape
                .newest(A, Channel::Trade)
                .expect("there is one already");
            assert!(newest.position.0 + 1 >= head.0);
            assert_eq!(newest, trade(newest.position.0));
        });
        push_trade(&mut writer, 1);
        reader.join().unwrap();
    });
}

#[test]
fn loom_no_record_falls_between_the_interest_and_the_wake() {
    loom::model(|| {
        let (mut writer, tape) = tape();
        let floor = thread::spawn(move || {
            tape.add_interest(A, 3);
            tape.head()
        });
        writer.push(A, 1, 0, Event::Feed(FeedState::Live));
        fence(Ordering::SeqCst);
        let is_woken = writer.tape().interest(A) == 1 << 3;
        let seen = floor.join().unwrap();
        assert!(
            is_woken || seen == Position(1),
            "the floor sleeps through a record"
        );
    });
}

#[test]
fn loom_a_hint_of_a_later_lap_is_given_away_by_the_oldest() {
    explore(3, || {
        let (mut writer, tape) = tape();
        let feed = Event::Feed(FeedState::Live);
        writer.push(A, 1, 0, feed);
        let reader = thread::spawn(move || {
            let hint = tape.symbol_at(Position(0));
            if tape.oldest() == Position(0) {
                assert_eq!(hint, A);
            }
        });
        writer.push(A, 1, 0, feed);
        writer.push(SymbolId(1), 1, 0, feed);
        reader.join().unwrap();
    });
}

#[test]
fn loom_a_base_is_never_of_two_epochs() {
    loom::model(|| {
        let (mut writer, tape) = tape();
        push_trade(&mut writer, 0);
        let reader = thread::spawn(move || {
            let (epoch, first_seq) = tape.base(A, Channel::Trade).expect("there is one already");
            assert_eq!(first_seq, epoch + 20);
        });
        push_trade(&mut writer, 1);
        reader.join().unwrap();
    });
}
