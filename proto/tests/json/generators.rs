//! Every message that the protocol can say, for property tests.

use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};
use tickwire_proto::{
    code::ErrorCode,
    cursor::Cursor,
    pattern::{Pattern, Selector},
    reply::{
        Accepted, Ack, AckBody, ErrorReply, Gap, GapReason, Limits, Listed, Narrowed, Published,
        Reply, Start, Welcome,
    },
    request::{
        Declaration, INTERVAL_MS, MAX_DELAY_MS_MAX, Mode, Op, Point, REQUEST_ID_MAX, Rejected,
        Replay, Request, Selection, Since, Subscribe,
    },
    symbol::Symbol,
    tick::{
        Body, Channel, Channels, FeedState, IDENTITY_MAX, Identity, Marks, PublishedTick, Side,
        Tick, Values,
    },
    upgrade::{Endpoint, Subprotocol},
};

pub fn symbol() -> impl Strategy<Value = Symbol> {
    "[A-Za-z0-9._/:-]{1,32}".prop_map(|text| text.parse().unwrap())
}

fn pattern() -> impl Strategy<Value = Pattern> {
    "[A-Za-z0-9._/:-]{0,32}".prop_map(|prefix| match format!("{prefix}*").parse() {
        Ok(Selector::Pattern(pattern)) => pattern,
        other => panic!("{other:?}"),
    })
}

fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        symbol().prop_map(Selector::from),
        pattern().prop_map(Selector::from)
    ]
}

fn cursor() -> impl Strategy<Value = Cursor> {
    any::<(u64, u64, u64)>().prop_map(|(tape, position, admitted_ns)| Cursor {
        tape,
        position,
        admitted_ns,
    })
}

fn code() -> impl Strategy<Value = ErrorCode> {
    select(&ErrorCode::ALL[..])
}

fn channel() -> impl Strategy<Value = Channel> {
    select(&Channel::BOTH[..])
}

fn channels() -> impl Strategy<Value = Channels> {
    select(vec![
        Channels::BOTH,
        Channel::Trade.into(),
        Channel::Quote.into(),
    ])
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Stream),
        INTERVAL_MS.prop_map(|interval_ms| Mode::Conflate { interval_ms })
    ]
}

fn rejected() -> impl Strategy<Value = Rejected> {
    (any::<String>(), code()).prop_map(|(symbol, code)| Rejected::new(&symbol, code))
}

/// `narrowed` is an object on the wire, so its patterns come back sorted and without repeats.
fn narrowed() -> impl Strategy<Value = Vec<Narrowed>> {
    btree_map("[A-Za-z0-9._/:-]{0,32}", vec(selector(), 0..3), 0..3).prop_map(|entries| {
        let entry = |(prefix, to)| match format!("{prefix}*").parse() {
            Ok(Selector::Pattern(pattern)) => Narrowed { pattern, to },
            other => panic!("{other:?}"),
        };
        let mut narrowed: Vec<_> = entries.into_iter().map(entry).collect();
        narrowed.sort_by_key(|narrowed| narrowed.pattern.to_string());
        narrowed
    })
}

fn side() -> impl Strategy<Value = Side> {
    select(vec![Side::Buy, Side::Sell])
}

pub fn values() -> impl Strategy<Value = Values> {
    let price = || i64::MIN + 1..=i64::MAX;
    let size = || option::of(0..=i64::MAX);
    let body = prop_oneof![
        (price(), size(), option::of(side())).prop_map(|(price, size, side)| Body::Trade {
            price,
            size,
            side
        }),
        (price(), size(), price(), size()).prop_map(|(bid, bid_size, ask, ask_size)| Body::Quote {
            bid,
            bid_size,
            ask,
            ask_size
        }),
    ];
    (-18i8..=0, -18i8..=0, body).prop_map(|(price_exponent, size_exponent, body)| {
        let unsized_tick = matches!(
            body,
            Body::Trade { size: None, .. }
                | Body::Quote {
                    bid_size: None,
                    ask_size: None,
                    ..
                }
        );
        // The exponent of sizes is on the wire only where there is a size.
        let size_exponent = if unsized_tick { 0 } else { size_exponent };
        Values {
            price_exponent,
            size_exponent,
            body,
        }
    })
}

fn identity() -> impl Strategy<Value = Identity> {
    (1..=IDENTITY_MAX, 1..=IDENTITY_MAX).prop_map(|(epoch, seq)| Identity { epoch, seq })
}

/// JSON carries whole microseconds.
fn ts_ns() -> impl Strategy<Value = u64> {
    (0..=IDENTITY_MAX).prop_map(|ts_us| ts_us * 1_000)
}

pub fn published_tick() -> impl Strategy<Value = PublishedTick> {
    (
        symbol(),
        option::of(identity()),
        option::of(ts_ns()),
        values(),
    )
        .prop_map(|(symbol, identity, ts_ns, values)| PublishedTick {
            symbol,
            identity,
            ts_ns,
            values,
        })
}

fn tick() -> impl Strategy<Value = Reply> {
    let marks = any::<(bool, u32, Option<u32>)>().prop_map(|(snapshot, skipped, replay)| Marks {
        snapshot,
        skipped,
        replay,
    });
    (symbol(), identity(), ts_ns(), values(), marks).prop_map(
        |(symbol, identity, ts_ns, values, marks)| {
            Reply::Tick(
                Tick {
                    symbol,
                    identity,
                    ts_ns,
                    values,
                },
                marks,
            )
        },
    )
}

fn accepted() -> impl Strategy<Value = Accepted> {
    (
        vec(symbol(), 0..4),
        vec(pattern(), 0..3),
        vec(symbol(), 0..3),
        narrowed(),
        vec(rejected(), 0..3),
    )
        .prop_map(
            |(symbols, patterns, pending, narrowed, rejected)| Accepted {
                symbols,
                patterns,
                pending,
                narrowed,
                rejected,
            },
        )
}

fn ack_body() -> impl Strategy<Value = AckBody> {
    let listed = (selector(), channels(), mode()).prop_map(|(selector, channels, mode)| Listed {
        selector,
        channels,
        mode,
    });
    let published = any::<[u64; 5]>().prop_map(
        |[accepted, rejected, duplicates, messages, errors_omitted]| {
            AckBody::Published(Published {
                accepted,
                rejected,
                duplicates,
                messages,
                errors_omitted,
            })
        },
    );
    prop_oneof![
        accepted().prop_map(AckBody::Subscribe),
        accepted().prop_map(AckBody::Replay),
        accepted().prop_map(|accepted| {
            AckBody::Unsubscribe(Accepted {
                pending: Vec::new(),
                narrowed: Vec::new(),
                ..accepted
            })
        }),
        vec(listed, 0..4).prop_map(AckBody::List),
        any::<u32>().prop_map(|max_delay_ms| AckBody::Options { max_delay_ms }),
        (any::<u64>(), vec(selector(), 0..3), narrowed()).prop_map(
            |(token_exp, lost, narrowed)| AckBody::Auth {
                token_exp,
                lost,
                narrowed
            }
        ),
        (vec(symbol(), 0..3), vec(rejected(), 0..3))
            .prop_map(|(symbols, rejected)| AckBody::Declare { symbols, rejected }),
        published,
    ]
}

fn welcome() -> impl Strategy<Value = Reply> {
    let limits = any::<[u32; 3]>().prop_map(|[symbols, message_bytes, ops_per_s]| Limits {
        symbols,
        message_bytes,
        ops_per_s,
    });
    (
        any::<String>(),
        select(&Subprotocol::ALL[..]),
        any::<[u64; 2]>(),
        limits,
    )
        .prop_map(|(session, protocol, [heartbeat_ms, token_exp], limits)| {
            Reply::Welcome(Welcome {
                session,
                protocol,
                heartbeat_ms,
                token_exp,
                limits,
            })
        })
}

fn start() -> impl Strategy<Value = Reply> {
    (
        symbol(),
        any::<u64>(),
        any::<[Option<u64>; 2]>(),
        any::<Option<u32>>(),
    )
        .prop_map(|(symbol, epoch, [trade, quote], replay)| {
            Reply::Start(Start {
                symbol,
                epoch,
                trade,
                quote,
                replay,
            })
        })
}

fn gap() -> impl Strategy<Value = Reply> {
    let reason = select(&GapReason::ALL[..]);
    (
        symbol(),
        channel(),
        any::<u64>(),
        any::<[Option<u64>; 2]>(),
        reason,
        any::<Option<u32>>(),
    )
        .prop_map(|(symbol, channel, epoch, [from, to], reason, replay)| {
            Reply::Gap(Gap {
                symbol,
                channel,
                epoch,
                from,
                to,
                reason,
                replay,
            })
        })
}

fn error() -> impl Strategy<Value = Reply> {
    let place = any::<(Option<u64>, Option<u32>, Option<String>)>();
    (any::<Option<u32>>(), code(), any::<String>(), place).prop_map(
        |(id, code, message, (msg, index, symbol))| {
            Reply::Error(ErrorReply {
                id,
                code,
                message,
                msg,
                index,
                symbol,
            })
        },
    )
}

pub fn reply() -> impl Strategy<Value = Reply> {
    let state = select(vec![FeedState::Stale, FeedState::Live]);
    prop_oneof![
        welcome(),
        (any::<Option<u32>>(), ack_body()).prop_map(|(id, body)| Reply::Ack(Ack { id, body })),
        start(),
        tick(),
        gap(),
        (any::<Option<u32>>(), option::of(cursor()))
            .prop_map(|(id, cursor)| Reply::Replayed { id, cursor }),
        cursor().prop_map(Reply::Cursor),
        (symbol(), state).prop_map(|(symbol, state)| Reply::Feed { symbol, state }),
        any::<u64>().prop_map(|ts_us| Reply::Heartbeat { ts_us }),
        any::<u64>().prop_map(|in_s| Reply::TokenExpiring { in_s }),
        error(),
        any::<(String, Option<u64>)>().prop_map(|(reason, reconnect_after_ms)| Reply::Goodbye {
            reason,
            reconnect_after_ms
        }),
        any::<(Option<u32>, u64)>().prop_map(|(id, ts_us)| Reply::Pong { id, ts_us }),
    ]
}

/// At least one entry; spaces make some of them bad.
fn selection() -> impl Strategy<Value = Selection> {
    vec("[A-Z ]{0,4}[*]?", 1..5).prop_map(|texts| texts.iter().map(String::as_str).collect())
}

fn since() -> impl Strategy<Value = Since> {
    let point = (
        1..=IDENTITY_MAX,
        option::of(0..=IDENTITY_MAX),
        option::of(0..=IDENTITY_MAX),
    )
        .prop_map(|(epoch, trade, quote)| Point {
            epoch,
            trade,
            quote,
        });
    let named = "[A-Z]{1,4}".prop_map(|text| text.parse::<Symbol>().unwrap());
    (option::of(cursor()), btree_map(named, point, 0..3)).prop_map(|(cursor, points)| Since {
        cursor,
        points: points.into_iter().collect(),
    })
}

fn subscriber_op() -> impl Strategy<Value = Op> {
    let subscribe = (
        selection(),
        channels(),
        mode(),
        any::<bool>(),
        option::of(since()),
    )
        .prop_map(|(selection, channels, mode, snapshot, since)| {
            Op::Subscribe(Subscribe {
                selection,
                channels,
                mode,
                snapshot,
                since,
            })
        });
    prop_oneof![
        subscribe,
        (selection(), channels(), since()).prop_map(|(selection, channels, since)| Op::Replay(
            Replay {
                selection,
                channels,
                since
            }
        )),
        selection().prop_map(Op::Unsubscribe),
        Just(Op::List),
        option::of(0..=MAX_DELAY_MS_MAX).prop_map(|max_delay_ms| Op::Options { max_delay_ms }),
    ]
}

fn publisher_op() -> impl Strategy<Value = Op> {
    let declaration = (
        any::<String>(),
        option::of(0..=REQUEST_ID_MAX),
        option::of(1..=IDENTITY_MAX),
    )
        .prop_map(|(symbol, id, epoch)| Declaration { symbol, id, epoch });
    prop_oneof![
        Just(Op::Flush),
        vec(declaration, 1..4).prop_map(Op::Declare)
    ]
}

pub fn request() -> impl Strategy<Value = (Request, Endpoint)> {
    let both = || {
        prop_oneof![
            Just(Op::Ping),
            any::<String>().prop_map(|token| Op::Auth { token })
        ]
    };
    let op = prop_oneof![
        subscriber_op().prop_map(|op| (op, Endpoint::Subscribe)),
        publisher_op().prop_map(|op| (op, Endpoint::Publish)),
        both().prop_map(|op| (op, Endpoint::Subscribe)),
        both().prop_map(|op| (op, Endpoint::Publish)),
    ];
    (option::of(0..=REQUEST_ID_MAX), op).prop_map(|(id, (op, endpoint))| {
        let id = if matches!(op, Op::Replay(_)) {
            id.or(Some(0))
        } else {
            id
        };
        (Request { id, op }, endpoint)
    })
}
