use std::sync::Arc;

use proptest::prelude::*;
use tickwire_proto::{
    price::Decimal,
    tick::{Body, Identity},
};

use super::*;
use crate::tape::{self, Position, Tape, TapeOptions};

const A: SourceId = SourceId(1);
const B: SourceId = SourceId(2);
const START_MS: u64 = 1_700_000_000_000;
/// What the wall clock says: ten seconds after the start.
const WALL_MS: u64 = START_MS + 10_000;
const ARBITRATION_MS: u64 = 20;

/// A sequencer and what it wrote.
struct Ingest {
    sequencer: Sequencer,
    tape: Arc<Tape>,
    now: Millis,
    wall_ms: u64,
    messages: u64,
}

impl Ingest {
    fn new() -> Self {
        Self::holding(4_096)
    }

    fn holding(held_max: usize) -> Self {
        let options = TapeOptions {
            slots: 1 << 12,
            symbols_max: 4,
            id: 1,
        };
        let (writer, tape) = tape::create(options).unwrap();
        let options = SequencerOptions {
            arbitration_ms: ARBITRATION_MS,
            held_max,
            start_ms: START_MS,
            is_bridged: false,
        };
        Self {
            sequencer: Sequencer::new(writer, options),
            tape,
            now: Millis::new(0),
            wall_ms: WALL_MS,
            messages: 0,
        }
    }

    fn wall_ns(&self) -> u64 {
        self.wall_ms * 1_000_000
    }

    fn submit(&mut self, source: SourceId, tick: &PublishedTick) -> Verdict {
        self.messages += 1;
        let wall_ns = self.wall_ns();
        self.sequencer
            .submit(source, self.messages, tick, self.now, wall_ns)
    }

    /// Submits an unnumbered trade of AAPL.
    fn unnumbered(&mut self, source: SourceId) -> Verdict {
        self.submit(source, &trade("AAPL", None))
    }

    /// Submits a numbered trade of AAPL.
    fn numbered(&mut self, source: SourceId, epoch: u64, seq: u64) -> Verdict {
        self.submit(source, &trade("AAPL", Some(Identity { epoch, seq })))
    }

    fn leave(&mut self, source: SourceId) {
        let wall_ns = self.wall_ns();
        self.sequencer.leave(source, wall_ns);
    }

    fn expire_after(&mut self, span_ms: u64) {
        self.now = self.now.after(span_ms);
        let wall_ns = self.wall_ns();
        self.sequencer.expire(self.now, wall_ns);
    }

    /// All that was written, in short.
    fn written(&self) -> Vec<Short> {
        (0..self.tape.head().0)
            .map(|at| {
                let record = self.tape.read(Position(at)).unwrap();
                match record.event {
                    Event::Tick { seq, .. } => Short::Tick(record.epoch, seq),
                    Event::Gap { from, to, .. } => Short::Gap(record.epoch, from, to),
                    Event::Feed(FeedState::Live) => Short::Live,
                    Event::Feed(FeedState::Stale) => Short::Stale,
                    Event::Carried(_) => unreachable!("there is no bridge"),
                }
            })
            .collect()
    }

    fn last_epoch(&self) -> u64 {
        let head = self.tape.head().0;
        self.tape.read(Position(head - 1)).unwrap().epoch
    }
}

/// A record of the tape without what these tests do not look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Short {
    Tick(u64, u64),
    Gap(u64, u64, u64),
    Live,
    Stale,
}

use Short::{Gap, Live, Stale, Tick};

fn symbol(text: &str) -> Symbol {
    Symbol::parse(text).unwrap()
}

fn trade(name: &str, identity: Option<Identity>) -> PublishedTick {
    let price = Decimal::parse("187.23").unwrap();
    PublishedTick {
        symbol: symbol(name),
        identity,
        ts_ns: Some(1),
        values: Values::trade(price, None, None).unwrap(),
    }
}

fn quote(identity: Identity) -> PublishedTick {
    let price = Decimal::parse("187.23").unwrap();
    PublishedTick {
        values: Values::quote(price, None, price, None).unwrap(),
        ..trade("AAPL", Some(identity))
    }
}

fn refused(code: ErrorCode) -> impl Fn(Verdict) -> bool {
    move |verdict| matches!(verdict, Verdict::Refused(refusal) if refusal.code == code)
}

// --- numbering and epochs ---

#[test]
fn the_engine_numbers_from_one_in_the_epoch_of_its_start() {
    let mut ingest = Ingest::new();
    for _ in 0..3 {
        assert_eq!(ingest.unnumbered(A), Verdict::Accepted);
    }
    let expected = [
        Live,
        Tick(START_MS, 1),
        Tick(START_MS, 2),
        Tick(START_MS, 3),
    ];
    assert_eq!(ingest.written(), expected);
}

#[test]
fn the_engines_numbering_goes_on_over_publishers_reconnects() {
    let mut ingest = Ingest::new();
    ingest.unnumbered(A);
    ingest.leave(A);
    ingest.wall_ms += 60_000;
    ingest.unnumbered(B);
    let expected = [Live, Tick(START_MS, 1), Stale, Live, Tick(START_MS, 2)];
    assert_eq!(ingest.written(), expected);
}

#[test]
fn trades_and_quotes_are_numbered_apart() {
    let mut ingest = Ingest::new();
    let identity = |seq| Identity { epoch: 7, seq };
    ingest.numbered(A, 7, 10);
    assert_eq!(ingest.submit(A, &quote(identity(90))), Verdict::Accepted);
    assert_eq!(ingest.numbered(A, 7, 11), Verdict::Accepted);
    assert_eq!(ingest.submit(A, &quote(identity(91))), Verdict::Accepted);
    assert_eq!(
        ingest.written(),
        [Live, Tick(7, 10), Tick(7, 90), Tick(7, 11), Tick(7, 91)]
    );
}

#[test]
fn after_source_numbered_ticks_the_engine_draws_a_new_epoch_from_the_clock() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, 7, 41);
    ingest.leave(A);
    ingest.unnumbered(B);
    assert_eq!(
        ingest.written(),
        [Live, Tick(7, 41), Stale, Live, Tick(WALL_MS, 1)]
    );
}

#[test]
fn the_new_epoch_is_above_the_sources_even_where_that_lies_ahead_of_the_clock() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, WALL_MS + 5_000, 1);
    ingest.leave(A);
    ingest.unnumbered(A);
    assert_eq!(ingest.last_epoch(), WALL_MS + 5_001);
}

#[test]
fn above_the_last_epoch_there_is_none_for_the_engine() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, IDENTITY_MAX, 1);
    ingest.leave(A);
    assert!(refused(ErrorCode::OutOfRange)(ingest.unnumbered(A)));
    assert_eq!(ingest.numbered(A, IDENTITY_MAX, 2), Verdict::Accepted);
}

#[test]
fn a_higher_epoch_takes_over_at_once_and_lower_ones_are_stale() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, 7, 41);
    assert_eq!(ingest.numbered(B, 9, 3), Verdict::Accepted);
    assert!(refused(ErrorCode::StaleEpoch)(ingest.numbered(A, 7, 42)));
    assert!(refused(ErrorCode::StaleEpoch)(ingest.numbered(A, 8, 1)));
    assert_eq!(ingest.written(), [Live, Tick(7, 41), Tick(9, 3)]);
}

#[test]
fn a_higher_epoch_first_releases_what_the_old_one_held() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, 7, 1);
    ingest.numbered(B, 7, 1);
    assert_eq!(ingest.numbered(A, 7, 4), Verdict::Held);
    assert_eq!(ingest.numbered(B, 8, 1), Verdict::Accepted);
    assert_eq!(
        ingest.written(),
        [Live, Tick(7, 1), Gap(7, 2, 3), Tick(7, 4), Tick(8, 1)]
    );
    let settled = ingest.sequencer.take_settled();
    assert_eq!(
        settled,
        [Settled {
            source: A,
            message: 3
        }]
    );
}

#[test]
fn a_declared_higher_epoch_takes_over_too() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, 7, 1);
    let declared = |ingest: &mut Ingest, epoch| {
        let outcome = ingest.sequencer.declare(B, symbol("AAPL"), epoch, 0);
        outcome.map_err(|refusal| refusal.code)
    };
    assert_eq!(declared(&mut ingest, Some(6)), Err(ErrorCode::StaleEpoch));
    assert_eq!(declared(&mut ingest, None), Err(ErrorCode::MixedNumbering));
    assert_eq!(declared(&mut ingest, Some(8)), Ok(()));
    assert!(refused(ErrorCode::StaleEpoch)(ingest.numbered(A, 7, 2)));
}

#[test]
fn epochs_and_seqs_end_at_two_to_the_53_minus_one() {
    let mut ingest = Ingest::new();
    let out_of_range = refused(ErrorCode::OutOfRange);
    for (epoch, seq) in [
        (0, 1),
        (1, 0),
        (IDENTITY_MAX + 1, 1),
        (1, IDENTITY_MAX + 1),
        (u64::MAX, u64::MAX),
        (1, u64::MAX),
    ] {
        assert!(
            out_of_range(ingest.numbered(A, epoch, seq)),
            "{epoch} {seq}"
        );
    }
    assert_eq!(ingest.written(), [], "a refused tick makes nobody a source");
    assert_eq!(
        ingest.numbered(A, IDENTITY_MAX, IDENTITY_MAX),
        Verdict::Accepted
    );
    assert_eq!(
        ingest.numbered(A, IDENTITY_MAX, IDENTITY_MAX),
        Verdict::Duplicate
    );
}

#[test]
fn values_that_no_parser_has_seen_are_checked() {
    let mut ingest = Ingest::new();
    let good = trade("AAPL", None);
    let body = |price, size| Body::Trade {
        price,
        size,
        side: None,
    };
    for (price_exponent, body) in [
        (1, body(1, None)),
        (-19, body(1, None)),
        (0, body(i64::MIN, None)),
        (0, body(1, Some(-1))),
    ] {
        let values = Values {
            price_exponent,
            size_exponent: 0,
            body,
        };
        let tick = PublishedTick { values, ..good };
        assert!(refused(ErrorCode::OutOfRange)(ingest.submit(A, &tick)));
    }
    let late = PublishedTick {
        ts_ns: Some(u64::MAX),
        ..good
    };
    assert!(refused(ErrorCode::OutOfRange)(ingest.submit(A, &late)));
    assert_eq!(ingest.submit(A, &good), Verdict::Accepted);
}

#[test]
fn numbering_is_not_mixed_while_a_source_is_live() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, 7, 1);
    let mixed = refused(ErrorCode::MixedNumbering);
    assert!(mixed(ingest.unnumbered(B)));
    assert!(mixed(ingest.unnumbered(A)), "not even by the same source");
    ingest.leave(A);
    assert_eq!(ingest.unnumbered(B), Verdict::Accepted);
    assert!(mixed(ingest.numbered(A, IDENTITY_MAX, 1)));
}

#[test]
fn the_table_of_symbols_is_bounded() {
    let mut ingest = Ingest::new();
    for name in ["S1", "S2", "S3", "S4"] {
        assert_eq!(ingest.submit(A, &trade(name, None)), Verdict::Accepted);
    }
    let verdict = ingest.submit(A, &trade("S5", None));
    assert!(refused(ErrorCode::OutOfRange)(verdict));
    assert_eq!(ingest.submit(A, &trade("S4", None)), Verdict::Accepted);
}

// --- sources ---

#[test]
fn the_first_source_brings_live_and_the_last_to_leave_stale() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, 7, 1);
    ingest.numbered(B, 7, 2);
    ingest.leave(A);
    assert_eq!(ingest.written(), [Live, Tick(7, 1), Tick(7, 2)]);
    ingest.leave(B);
    ingest.leave(B);
    ingest
        .sequencer
        .declare(B, symbol("AAPL"), Some(7), 0)
        .unwrap();
    assert_eq!(ingest.written()[3..], [Stale, Live]);
}

#[test]
fn a_source_that_only_sends_copies_is_a_source() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, 7, 1);
    assert_eq!(ingest.numbered(B, 7, 1), Verdict::Duplicate);
    assert_eq!(ingest.numbered(A, 7, 3), Verdict::Held, "B may fill it");
    assert_eq!(ingest.numbered(B, 7, 2), Verdict::Accepted);
    assert_eq!(ingest.written(), [Live, Tick(7, 1), Tick(7, 2), Tick(7, 3)]);
}

#[test]
fn when_the_last_source_leaves_its_held_ticks_are_released_first() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, 7, 1);
    ingest.numbered(B, 7, 1);
    ingest.numbered(A, 7, 3);
    ingest.leave(B);
    assert_eq!(ingest.written(), [Live, Tick(7, 1)]);
    ingest.leave(A);
    assert_eq!(ingest.written()[2..], [Gap(7, 2, 2), Tick(7, 3), Stale]);
    assert_eq!(ingest.sequencer.counts().held, 0);
}

// --- base, duplicates, holes ---

#[test]
fn a_source_may_start_anywhere() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, 7, 1_000);
    assert_eq!(ingest.numbered(A, 7, 999), Verdict::Duplicate);
    assert_eq!(ingest.written(), [Live, Tick(7, 1_000)]);
}

#[test]
fn the_first_copy_of_each_seq_wins() {
    let mut ingest = Ingest::new();
    for seq in 1..=3 {
        assert_eq!(ingest.numbered(A, 7, seq), Verdict::Accepted);
        assert_eq!(ingest.numbered(B, 7, seq), Verdict::Duplicate);
    }
    let counts = ingest.sequencer.counts();
    assert_eq!((counts.placed, counts.duplicates, counts.late), (3, 3, 0));
}

#[test]
fn with_one_source_a_hole_is_a_gap_at_once() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, 7, 1);
    assert_eq!(ingest.numbered(A, 7, 5), Verdict::Accepted);
    assert_eq!(
        ingest.written(),
        [Live, Tick(7, 1), Gap(7, 2, 4), Tick(7, 5)]
    );
    assert!(ingest.sequencer.take_settled().is_empty());
}

#[test]
fn a_late_copy_is_counted_and_not_placed() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, 7, 1);
    ingest.numbered(A, 7, 5);
    assert_eq!(ingest.numbered(B, 7, 3), Verdict::Duplicate);
    let counts = ingest.sequencer.counts();
    assert_eq!((counts.gaps, counts.duplicates, counts.late), (1, 1, 1));
    assert_eq!(ingest.written().len(), 4);
}

#[test]
fn with_two_sources_a_hole_waits_until_it_is_filled() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, 7, 1);
    ingest.numbered(B, 7, 1);
    assert_eq!(ingest.numbered(A, 7, 3), Verdict::Held);
    assert_eq!(ingest.numbered(A, 7, 4), Verdict::Held);
    assert_eq!(ingest.numbered(B, 7, 3), Verdict::Duplicate);
    assert_eq!(ingest.sequencer.counts().held, 2);
    assert_eq!(ingest.numbered(B, 7, 2), Verdict::Accepted);
    let settled: Vec<_> = ingest
        .sequencer
        .take_settled()
        .iter()
        .map(|settled| (settled.source, settled.message))
        .collect();
    assert_eq!(settled, [(A, 3), (A, 4)]);
    assert_eq!(
        ingest.written(),
        [Live, Tick(7, 1), Tick(7, 2), Tick(7, 3), Tick(7, 4)]
    );
    assert_eq!(ingest.sequencer.deadline(), None);
}

#[test]
fn a_hole_that_nobody_fills_is_declared_after_arbitration_ms() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, 7, 1);
    ingest.numbered(B, 7, 1);
    ingest.numbered(A, 7, 3);
    ingest.expire_after(ARBITRATION_MS - 1);
    assert_eq!(ingest.written().len(), 2);
    assert_eq!(
        ingest.sequencer.deadline(),
        Some(Millis::new(ARBITRATION_MS))
    );
    ingest.expire_after(1);
    assert_eq!(ingest.written()[2..], [Gap(7, 2, 2), Tick(7, 3)]);
    assert_eq!(ingest.sequencer.deadline(), None);
}

#[test]
fn a_hole_is_not_renewed_by_ticks_that_come_inside_it() {
    let mut ingest = Ingest::new();
    ingest.numbered(A, 7, 1);
    ingest.numbered(B, 7, 1);
    for seq in (3..=9).rev().step_by(2) {
        assert_eq!(ingest.numbered(A, 7, seq), Verdict::Held);
        ingest.expire_after(6);
    }
    let whole = ingest.written();
    assert_eq!(
        whole[2..],
        [
            Gap(7, 2, 2),
            Tick(7, 3),
            Gap(7, 4, 4),
            Tick(7, 5),
            Gap(7, 6, 6),
            Tick(7, 7),
            Gap(7, 8, 8),
            Tick(7, 9)
        ]
    );
}

#[test]
fn more_than_held_max_declares_the_first_hole_at_once() {
    let mut ingest = Ingest::holding(2);
    ingest.numbered(A, 7, 1);
    ingest.numbered(B, 7, 1);
    assert_eq!(ingest.numbered(A, 7, 3), Verdict::Held);
    assert_eq!(ingest.numbered(A, 7, 5), Verdict::Held);
    assert_eq!(ingest.numbered(A, 7, 7), Verdict::Held);
    assert_eq!(ingest.written()[2..], [Gap(7, 2, 2), Tick(7, 3)]);
    assert_eq!(ingest.sequencer.counts().held, 2);
    assert_eq!(
        ingest.numbered(A, 7, 4),
        Verdict::Accepted,
        "it follows on what was released"
    );
}

#[test]
fn a_tick_that_its_own_arrival_releases_is_accepted_and_not_settled_again() {
    let mut ingest = Ingest::holding(1);
    ingest.numbered(A, 7, 1);
    ingest.numbered(B, 7, 1);
    assert_eq!(ingest.numbered(A, 7, 8), Verdict::Held);
    assert_eq!(ingest.numbered(A, 7, 4), Verdict::Accepted);
    assert!(ingest.sequencer.take_settled().is_empty());
    assert_eq!(ingest.written()[2..], [Gap(7, 2, 3), Tick(7, 4)]);
}

// --- what holds for every feed ---

/// One copy of a tick on its way to the engine.
#[derive(Clone, Copy, Debug)]
struct Copy {
    at_ms: u64,
    source: SourceId,
    channel: Channel,
    seq: u64,
}

/// Two copies of both channels, 3 ms apart, each late by up to 70 ms or lost: the arrivals in
/// their order.
fn feeds() -> impl Strategy<Value = Vec<Copy>> {
    let fate = prop_oneof![
        4 => (0..5u64).prop_map(Some),
        2 => (0..70u64).prop_map(Some),
        1 => Just(None),
    ];
    (1..1_000u64, prop::collection::vec(fate, 4..240)).prop_map(|(base, fates)| {
        let mut copies: Vec<Copy> = fates
            .iter()
            .zip(0u64..)
            .filter_map(|(delay_ms, number)| {
                Some(Copy {
                    at_ms: number / 4 * 3 + (*delay_ms)?,
                    source: [A, B][(number % 2) as usize],
                    channel: Channel::BOTH[(number / 2 % 2) as usize],
                    seq: base + number / 4,
                })
            })
            .collect();
        copies.sort_by_key(|copy| copy.at_ms);
        copies
    })
}

/// What the tape says of one channel: ticks as (seq, seq), gaps as (from, to).
fn account(ingest: &Ingest, channel: Channel) -> Vec<(u64, u64, bool)> {
    (0..ingest.tape.head().0)
        .map(|at| ingest.tape.read(Position(at)).unwrap())
        .filter(|record| record.channel() == Some(channel))
        .map(|record| {
            let is_tick = matches!(record.event, Event::Tick { .. });
            (record.first_seq(), record.last_seq(), is_tick)
        })
        .collect()
}

proptest! {
    #[test]
    fn every_tick_of_two_feeds_is_placed_once_in_order_or_lies_in_a_gap(
        copies in feeds(),
        held_max in 1..12usize,
        sources_known in any::<bool>(),
    ) {
        let mut ingest = Ingest::holding(held_max);
        if sources_known {
            for source in [A, B] {
                ingest.sequencer.declare(source, symbol("AAPL"), Some(7), 0).unwrap();
            }
        }
        let (mut accepted, mut duplicates) = (0, 0);
        let mut held: Vec<(u64, Settled)> = Vec::new();
        let mut settled = Vec::new();
        for copy in &copies {
            let elapsed_ms = copy.at_ms - ingest.now.ms();
            ingest.expire_after(elapsed_ms);
            settled.extend(ingest.sequencer.take_settled());
            for (since_ms, tick) in &held {
                let due = since_ms + ARBITRATION_MS <= copy.at_ms;
                prop_assert!(!due || settled.contains(tick), "{tick:?} waits since {since_ms}");
            }
            let identity = Identity { epoch: 7, seq: copy.seq };
            let tick = match copy.channel {
                Channel::Trade => trade("AAPL", Some(identity)),
                Channel::Quote => quote(identity),
            };
            match ingest.submit(copy.source, &tick) {
                Verdict::Accepted => accepted += 1,
                Verdict::Duplicate => duplicates += 1,
                Verdict::Held => held.push((copy.at_ms, Settled {
                    source: copy.source,
                    message: ingest.messages,
                })),
                Verdict::Refused(refusal) => panic!("{refusal:?}"),
            }
            settled.extend(ingest.sequencer.take_settled());
            prop_assert!(ingest.sequencer.counts().held <= 2 * held_max as u64);
        }
        ingest.leave(A);
        ingest.leave(B);
        settled.extend(ingest.sequencer.take_settled());

        let counts = ingest.sequencer.counts();
        prop_assert_eq!(settled.len(), held.len());
        prop_assert_eq!(counts.placed as usize, accepted + held.len());
        prop_assert_eq!(counts.duplicates, duplicates);
        prop_assert_eq!(accepted + held.len() + duplicates as usize, copies.len());
        for channel in Channel::BOTH {
            let account = account(&ingest, channel);
            for pair in account.windows(2) {
                prop_assert_eq!(pair[0].1 + 1, pair[1].0, "contiguous");
            }
            let base = account.first().map_or(u64::MAX, |first| first.0);
            for copy in copies.iter().filter(|copy| copy.channel == channel) {
                let covered = account.iter().any(|(from, to, _)| (*from..=*to).contains(&copy.seq));
                prop_assert!(covered || copy.seq < base, "{copy:?}");
            }
            prop_assert!(account.last().is_none_or(|last| last.2), "no gap at the end");
        }
    }
}
