use proptest::prelude::*;

use super::*;
use crate::{
    code::ErrorCode,
    cursor::Cursor,
    reply::{Gap, GapReason, Reply, Start},
    symbol::Symbol,
    tick::{Body, Channel, FeedState, Identity, Marks, PublishedTick, Side, Tick, Values},
};

const TS_NS: u64 = 1_763_776_800_000_123_000;

/// The bytes of a golden vector: hex, with comments behind `#`.
fn bytes(vector: &str) -> Vec<u8> {
    let digits: Vec<u8> = vector
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().bytes())
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|digit| (digit as char).to_digit(16).expect("a hex digit") as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

macro_rules! vector {
    ($name:literal) => {
        bytes(include_str!(concat!("../../vectors/sbe/", $name, ".hex")))
    };
}

fn start(
    symbol: &str,
    epoch: u64,
    trade: Option<u64>,
    quote: Option<u64>,
    replay: Option<u32>,
) -> Start {
    Start {
        symbol: Symbol::parse(symbol).unwrap(),
        epoch,
        trade,
        quote,
        replay,
    }
}

fn aapl() -> Start {
    start("AAPL", 7, Some(41), Some(97), None)
}

fn tick(seq: u64, ts_ns: u64, values: Values) -> Tick {
    Tick {
        symbol: aapl().symbol,
        identity: Identity { epoch: 7, seq },
        ts_ns,
        values,
    }
}

fn trade(price_exponent: i8, price: i64, size: Option<i64>, side: Option<Side>) -> Values {
    Values {
        price_exponent,
        size_exponent: 0,
        body: Body::Trade { price, size, side },
    }
}

fn quote(
    exponents: (i8, i8),
    (bid, ask): (i64, i64),
    (bid_size, ask_size): (Option<i64>, Option<i64>),
) -> Values {
    Values {
        price_exponent: exponents.0,
        size_exponent: exponents.1,
        body: Body::Quote {
            bid,
            bid_size,
            ask,
            ask_size,
        },
    }
}

/// Checks a golden vector both ways; `write` gets `id` 1 as AAPL's.
fn check(vector: &[u8], replies: &[Reply]) {
    let mut out = Vec::new();
    for reply in replies {
        match reply {
            Reply::Start(start) if start.replay.is_some() => write_definition(&mut out, 3, start),
            Reply::Start(start) if start.symbol.as_bytes().len() == 32 => {
                write_definition(&mut out, 2, start);
            }
            Reply::Start(start) => write_definition(&mut out, 1, start),
            Reply::Tick(tick, marks) => write_tick(&mut out, 1, tick, marks),
            Reply::Gap(gap) => write_gap(&mut out, 1, gap),
            Reply::Feed { state, .. } => write_feed(&mut out, 1, *state),
            Reply::Heartbeat { ts_us } => write_heartbeat(&mut out, ts_us * 1_000),
            Reply::Cursor(cursor) => write_cursor(&mut out, cursor),
            other => panic!("not SBE: {other:?}"),
        }
    }
    assert_eq!(out, vector);
    let mut decoded = Vec::new();
    Decoder::new()
        .decode(vector, |reply| decoded.push(reply))
        .unwrap();
    assert_eq!(decoded, replies);
}

#[test]
fn definitions_match_the_golden_bytes() {
    let longest = start(&"X".repeat(32), (1 << 53) - 1, None, None, None);
    let replayed = start("BTC-USDT", 7, None, Some(0), Some(9));
    check(
        &vector!("definition"),
        &[aapl(), longest, replayed].map(Reply::Start),
    );
}

#[test]
fn trades_and_quotes_match_the_golden_bytes() {
    let ticks = |ticks: [Tick; 2]| {
        let mut replies = vec![Reply::Start(aapl())];
        replies.extend(ticks.map(|tick| Reply::Tick(tick, Marks::default())));
        replies
    };
    let trades = [
        tick(42, TS_NS, trade(-2, 18_723, Some(100), Some(Side::Buy))),
        tick(
            43,
            TS_NS + 1,
            trade(-18, -37_630_000_000_000_000, None, None),
        ),
    ];
    check(&vector!("trade"), &ticks(trades));
    let quotes = [
        tick(
            98,
            TS_NS + 77_000,
            quote((-2, -3), (18_722, 18_724), (Some(300_125), Some(200_000))),
        ),
        tick(
            99,
            ((1 << 53) - 1) * 1_000,
            quote((0, 0), (-i64::MAX, i64::MAX), (None, None)),
        ),
    ];
    check(&vector!("quote"), &ticks(quotes));
}

#[test]
fn marks_match_the_golden_bytes() {
    let marks = |snapshot, skipped, replay| Marks {
        snapshot,
        skipped,
        replay,
    };
    let bbo = |sizes| quote((-2, 0), (18_722, 18_724), sizes);
    let sell = |price, size| trade(-2, price, Some(size), Some(Side::Sell));
    check(
        &vector!("marks"),
        &[
            Reply::Start(aapl()),
            Reply::Tick(tick(41, TS_NS, sell(18_723, 100)), marks(true, 0, None)),
            Reply::Tick(tick(50, TS_NS, sell(18_800, 7)), marks(false, 8, None)),
            Reply::Tick(
                tick(101, TS_NS, bbo((Some(300), None))),
                marks(false, 0, Some(9)),
            ),
            Reply::Tick(
                tick(105, TS_NS, bbo((None, Some(200)))),
                marks(false, 3, Some(0)),
            ),
        ],
    );
}

#[test]
fn gaps_match_the_golden_bytes() {
    let gap = |channel, reason, epoch, from, to, replay| {
        Reply::Gap(Gap {
            symbol: aapl().symbol,
            channel,
            epoch,
            from,
            to,
            reason,
            replay,
        })
    };
    check(
        &vector!("gap"),
        &[
            Reply::Start(aapl()),
            gap(
                Channel::Trade,
                GapReason::SlowConsumer,
                7,
                Some(44),
                Some(57),
                None,
            ),
            gap(Channel::Quote, GapReason::History, 7, None, Some(120), None),
            gap(Channel::Trade, GapReason::History, 6, Some(12), None, None),
            gap(
                Channel::Quote,
                GapReason::Overrun,
                7,
                Some(121),
                Some(121),
                None,
            ),
            gap(
                Channel::Trade,
                GapReason::Source,
                7,
                Some(58),
                Some(60),
                Some(9),
            ),
            gap(
                Channel::Trade,
                GapReason::Bridge,
                7,
                Some(61),
                Some(70),
                None,
            ),
        ],
    );
}

#[test]
fn feeds_heartbeats_and_cursors_match_the_golden_bytes() {
    let feed = |state| Reply::Feed {
        symbol: aapl().symbol,
        state,
    };
    check(
        &vector!("feed"),
        &[
            Reply::Start(aapl()),
            feed(FeedState::Stale),
            feed(FeedState::Live),
        ],
    );
    check(
        &vector!("heartbeat"),
        &[Reply::Heartbeat {
            ts_us: 1_763_776_815_000_000,
        }],
    );
    let cursor = Cursor {
        tape: 0x0102_0304_0506_0708,
        position: 123_456_789,
        admitted_ns: TS_NS,
    };
    check(&vector!("cursor"), &[Reply::Cursor(cursor)]);
}

fn published() -> [(u32, RawTick); 3] {
    let left_to_the_engine = |values| RawTick {
        seq: None,
        ts_ns: None,
        values,
    };
    let prices = (6_043_012_000_000, 6_043_013_000_000);
    let sizes = (Some(150_000_000), Some(25_000_000));
    let sell = trade(-2, 18_723, Some(100), Some(Side::Sell));
    [
        (
            5,
            RawTick {
                seq: Some(42),
                ts_ns: Some(TS_NS),
                values: sell,
            },
        ),
        (6, left_to_the_engine(quote((-8, -8), prices, sizes))),
        (6, left_to_the_engine(trade(-4, 1, None, None))),
    ]
}

#[test]
fn published_ticks_match_the_golden_bytes() {
    let mut out = Vec::new();
    for (id, raw) in published() {
        let identity = raw.seq.map(|seq| Identity { epoch: 7, seq });
        let tick = PublishedTick {
            symbol: aapl().symbol,
            identity,
            ts_ns: raw.ts_ns,
            values: raw.values,
        };
        write_published(&mut out, id, &tick);
    }
    assert_eq!(out, vector!("published"));
    let mut decoded = Vec::new();
    decode_published(&out, |index, tick| decoded.push((index, tick.unwrap()))).unwrap();
    assert_eq!(
        decoded,
        [
            (0, published()[0]),
            (1, published()[1]),
            (2, published()[2])
        ]
    );
}

/// One published trade with `field` overwritten, and what becomes of it.
fn refusal_of(offset: usize, field: &[u8]) -> Option<(ErrorCode, &'static str)> {
    let mut message = vector!("published")[..56].to_vec();
    message[8 + offset..8 + offset + field.len()].copy_from_slice(field);
    let mut refusal = None;
    decode_published(&message, |_, tick| {
        refusal = tick.err().map(|refusal| (refusal.code, refusal.field));
    })
    .unwrap();
    refusal
}

#[test]
fn bad_ticks_are_refused_by_themselves() {
    use ErrorCode::{BadTick, OutOfRange};
    let values = Some((OutOfRange, "price or size"));
    assert_eq!(refusal_of(6, &[1]), values);
    assert_eq!(refusal_of(6, &[(-19i8).cast_unsigned()]), values);
    assert_eq!(refusal_of(7, &[1]), values);
    assert_eq!(refusal_of(24, &i64::MIN.to_le_bytes()), values);
    assert_eq!(refusal_of(32, &(-1i64).to_le_bytes()), values);
    assert_eq!(
        refusal_of(8, &0u64.to_le_bytes()),
        Some((OutOfRange, "seq"))
    );
    assert_eq!(
        refusal_of(8, &(1u64 << 53).to_le_bytes()),
        Some((OutOfRange, "seq"))
    );
    let late_ns = ((1u64 << 53) - 1) * 1_000 + 1;
    assert_eq!(
        refusal_of(16, &late_ns.to_le_bytes()),
        Some((OutOfRange, "ts"))
    );
    assert_eq!(refusal_of(16, &(late_ns - 1).to_le_bytes()), None);
    assert_eq!(refusal_of(4, &[1]), Some((BadTick, "flags")));
    assert_eq!(refusal_of(5, &[2]), Some((BadTick, "side")));
    assert_eq!(refusal_of(40, &[3]), Some((BadTick, "skipped")));
    assert_eq!(
        refusal_of(44, &7u32.to_le_bytes()),
        Some((BadTick, "replay"))
    );
    assert_eq!(refusal_of(44, &0u32.to_le_bytes()), None);
    // A null size with a null exponent beside it, as generated encoders write it.
    assert_eq!(refusal_of(32, &i64::MIN.to_le_bytes()), None);
}

#[test]
fn the_rest_of_the_message_is_taken() {
    let mut message = vector!("published");
    message[8 + 5] = 9;
    let mut taken = Vec::new();
    decode_published(&message, |index, tick| taken.push((index, tick.is_ok()))).unwrap();
    assert_eq!(taken, [(0, false), (1, true), (2, true)]);
}

#[test]
fn a_message_that_is_not_sbe_is_rejected_whole() {
    let published = vector!("published");
    let refused = |message: &[u8]| {
        decode_published(message, |_, _| {
            panic!("a tick of a bad message was handed out")
        })
        .unwrap_err()
    };
    // The last of three messages begins at byte 128.
    assert_eq!(refused(&published[..130]), SbeError::Truncated { at: 128 });
    assert_eq!(refused(&published[..183]), SbeError::Truncated { at: 128 });
    let with = |at: usize, byte: u8| {
        let mut message = published.clone();
        message[128 + at] = byte;
        message
    };
    assert_eq!(refused(&with(4, 0)), SbeError::WrongSchema { id: 0x7400 });
    assert_eq!(
        refused(&with(2, 3)),
        SbeError::NotPublishable { template: 3 }
    );
    assert_eq!(
        refused(&with(2, 99)),
        SbeError::NotPublishable { template: 99 }
    );
    assert_eq!(
        refused(&with(0, 47)),
        SbeError::BlockTooShort {
            template: 1,
            bytes: 47
        }
    );
}

#[test]
fn what_later_versions_append_is_skipped() {
    let mut message = vector!("definition")[..72].to_vec();
    let unknown = [&[4, 0, 200, 0][..], &message[4..6], &[1, 0, 1, 2, 3, 4]].concat();
    message[0] += 8;
    message.extend_from_slice(&[0xee; 8]);
    message.extend_from_slice(&unknown);
    message.extend_from_slice(&vector!("trade")[72..]);
    let mut decoded = Vec::new();
    Decoder::new()
        .decode(&message, |reply| decoded.push(reply))
        .unwrap();
    assert_eq!(decoded.len(), 3);
    assert_eq!(decoded[0], Reply::Start(aapl()));

    let mut longer = vector!("published")[..56].to_vec();
    longer[0] += 8;
    longer.extend_from_slice(&[0xee; 8]);
    let mut ticks = Vec::new();
    decode_published(&longer, |_, tick| ticks.push(tick.unwrap())).unwrap();
    assert_eq!(ticks, published()[..1]);
}

#[test]
fn an_id_without_a_definition_is_named() {
    let undefined = Decoder::new().decode(&vector!("trade")[72..], |_| {});
    assert_eq!(undefined, Err(SbeError::UndefinedSymbol { id: 1 }));
}

#[test]
fn a_later_definition_of_an_id_replaces_the_first() {
    let mut message = Vec::new();
    write_definition(&mut message, 1, &aapl());
    write_definition(&mut message, 1, &start("MSFT", 8, Some(0), None, None));
    write_feed(&mut message, 1, FeedState::Live);
    let mut last = None;
    Decoder::new()
        .decode(&message, |reply| last = Some(reply))
        .unwrap();
    let symbol = Symbol::parse("MSFT").unwrap();
    assert_eq!(
        last,
        Some(Reply::Feed {
            symbol,
            state: FeedState::Live
        })
    );
}

#[test]
fn definitions_are_bounded() {
    let mut decoder = Decoder::new();
    let mut message = Vec::new();
    for id in 0..=DEFINITIONS_MAX as u32 {
        write_definition(&mut message, id, &aapl());
    }
    assert_eq!(
        decoder.decode(&message, |_| {}),
        Err(SbeError::TooManyDefinitions)
    );
}

/// Every vector, cut and bent: what the fuzzer begins with.
fn seeds() -> [Vec<u8>; 9] {
    [
        vector!("definition"),
        vector!("trade"),
        vector!("quote"),
        vector!("marks"),
        vector!("gap"),
        vector!("feed"),
        vector!("heartbeat"),
        vector!("cursor"),
        vector!("published"),
    ]
}

#[test]
fn seeds_survive_the_fuzz_target() {
    for seed in seeds() {
        fuzzing::sbe_message(&seed);
    }
}

proptest! {
    #[test]
    fn bent_messages_are_refused_or_read(
        seed in 0usize..9,
        bends in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        keep_whole: bool,
    ) {
        let mut message = seeds()[seed].clone();
        for (at, byte) in bends {
            let at = at.index(message.len());
            message[at] = byte;
        }
        if !keep_whole {
            message.truncate(cut.index(message.len()));
        }
        fuzzing::sbe_message(&message);
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzzing::sbe_message(&data);
    }
}
