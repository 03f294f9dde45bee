use super::{fuzzing::session_ops, *};
use crate::{
    code::ErrorCode,
    reply::{Accepted, Ack, AckBody, ErrorReply, Gap, GapReason, Limits, Start, Welcome},
    request::{Point, Rejected, Selection, Subscribe},
    tick::{Body, Channel, Identity, Marks, Tick, Values},
    upgrade::Subprotocol,
};

mod arbitrary {
    use proptest::prelude::*;

    use super::session_ops;

    proptest! {
        #[test]
        fn an_engine_that_says_anything_cannot_make_a_session_repeat_or_panic(
            data in proptest::collection::vec(any::<u8>(), 0..2_000)
        ) {
            session_ops(&data);
        }
    }
}

const LIMITS: Limits = Limits {
    symbols: 1_024,
    message_bytes: 65_536,
    ops_per_s: 10,
};

fn welcome(limits: Limits) -> Reply {
    Reply::Welcome(Welcome {
        session: "s".to_owned(),
        protocol: Subprotocol::Json,
        heartbeat_ms: 2_000,
        token_exp: 0,
        limits,
    })
}

fn session(selectors: &[&str]) -> Session {
    let selectors = selectors
        .iter()
        .map(|text| Selector::parse(text).unwrap())
        .collect();
    Session::new(Options {
        selectors,
        ..Options::default()
    })
}

/// A session that is connected at time 0 and was greeted.
fn connected(selectors: &[&str], limits: Limits) -> Session {
    let mut session = session(selectors);
    session.connected(0);
    events(&mut session, [welcome(limits)]);
    session
}

fn events(session: &mut Session, replies: impl IntoIterator<Item = Reply>) -> Vec<Event> {
    let mut events = Vec::new();
    for reply in replies {
        session.receive(0, reply, |event| events.push(event));
    }
    events
}

fn requests(session: &mut Session, now_ms: u64) -> Vec<Request> {
    std::iter::from_fn(|| session.next_request(now_ms)).collect()
}

fn subscribes(requests: Vec<Request>) -> Vec<Subscribe> {
    let subscribe = |request: Request| match request.op {
        Op::Subscribe(subscribe) => subscribe,
        other => panic!("{other:?}"),
    };
    requests.into_iter().map(subscribe).collect()
}

fn symbol(text: &str) -> Symbol {
    Symbol::parse(text).unwrap()
}

fn cursor(position: u64) -> Cursor {
    Cursor {
        tape: 1,
        position,
        admitted_ns: 0,
    }
}

fn start(text: &str, epoch: u64, trade: u64) -> Reply {
    Reply::Start(Start {
        symbol: symbol(text),
        epoch,
        trade: Some(trade),
        quote: None,
        replay: None,
    })
}

fn trade(text: &str, epoch: u64, seq: u64, skipped: u32) -> Reply {
    let body = Body::Trade {
        price: 1,
        size: None,
        side: None,
    };
    Reply::Tick(
        Tick {
            symbol: symbol(text),
            identity: Identity { epoch, seq },
            ts_ns: 0,
            values: Values {
                price_exponent: 0,
                size_exponent: 0,
                body,
            },
        },
        Marks {
            skipped,
            ..Marks::default()
        },
    )
}

fn gap(text: &str, epoch: u64, from: Option<u64>, to: Option<u64>) -> Reply {
    let (symbol, channel, reason) = (symbol(text), Channel::Trade, GapReason::History);
    Reply::Gap(Gap {
        symbol,
        channel,
        epoch,
        from,
        to,
        reason,
        replay: None,
    })
}

/// Events of the account in short: seqs, gaps, losses and faults.
fn account(events: Vec<Event>) -> Vec<String> {
    let short = |event| match event {
        Event::Tick(tick, Marks { skipped: 0, .. }) => Some(format!("{}", tick.identity.seq)),
        Event::Tick(tick, marks) => Some(format!("{} after {}", tick.identity.seq, marks.skipped)),
        Event::Gap(gap) => Some(format!("gap {:?}..{:?}", gap.from, gap.to)),
        Event::Lost(lost) => Some(format!("lost {}..{:?}", lost.from, lost.to)),
        Event::Violation(violation) => Some(format!("{:?}", violation.fault)),
        _ => None,
    };
    events.into_iter().filter_map(short).collect()
}

fn rejoin(session: &mut Session) {
    session.disconnected(Disconnect::Io);
    session.connected(0);
    events(session, [welcome(LIMITS)]);
}

#[test]
fn nothing_is_asked_before_welcome_and_each_subscription_once() {
    let mut session = session(&["A", "B*", "A"]);
    session.connected(0);
    assert_eq!(session.next_request(0), None);
    events(&mut session, [welcome(LIMITS), welcome(LIMITS)]);
    let subscribes = subscribes(requests(&mut session, 0));
    let [subscribe] = &subscribes[..] else {
        panic!("{subscribes:?}")
    };
    assert_eq!(subscribe.selection.selectors.len(), 2);
    assert!(subscribe.snapshot && subscribe.since.is_none());
}

#[test]
fn a_latency_budget_is_asked_for_first() {
    let mut session = Session::new(Options {
        selectors: vec![symbol("A").into()],
        max_delay_ms: 20,
        ..Options::default()
    });
    session.connected(0);
    events(&mut session, [welcome(LIMITS)]);
    let requests = requests(&mut session, 0);
    assert_eq!(
        requests[0].op,
        Op::Options {
            max_delay_ms: Some(20)
        }
    );
    assert!(matches!(requests[1].op, Op::Subscribe(_)));
    assert_ne!(requests[0].id, requests[1].id);
}

#[test]
fn subscriptions_are_split_to_fit_and_paced() {
    let names: Vec<String> = (0..50).map(|number| format!("S{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut session = connected(
        &names,
        Limits {
            symbols: 2,
            ..LIMITS
        },
    );
    assert_eq!(requests(&mut session, 0).len(), 20);
    assert_eq!(session.deadline_ms(), Some(100));
    assert_eq!(requests(&mut session, 99).len(), 0);
    assert_eq!(requests(&mut session, 100).len(), 1);
    let rest = subscribes(requests(&mut session, 5_000));
    assert_eq!(rest.len(), 4);
    assert!(
        rest.iter()
            .all(|subscribe| subscribe.selection.selectors.len() == 2)
    );
    // Nothing is left to ask, so only silence is waited for.
    assert_eq!(session.deadline_ms(), Some(7_000));

    let mut session = connected(
        &names,
        Limits {
            message_bytes: 430,
            ..LIMITS
        },
    );
    let subscribes = subscribes(requests(&mut session, 0));
    assert!(
        subscribes
            .iter()
            .all(|subscribe| subscribe.selection.selectors.len() <= 6)
    );
}

#[test]
fn an_operation_over_the_rate_is_asked_for_again_later() {
    let mut session = connected(&["A"], LIMITS);
    let first = requests(&mut session, 0);
    let refused = ErrorReply {
        id: first[0].id,
        code: ErrorCode::RateLimited,
        message: String::new(),
        msg: None,
        index: None,
        symbol: None,
    };
    assert_eq!(events(&mut session, [Reply::Error(refused)]), []);
    assert_eq!(requests(&mut session, 999), []);
    assert_eq!(requests(&mut session, 1_000), first);
}

#[test]
fn a_cursor_that_the_engine_cannot_read_is_dropped() {
    let mut session = Session::new(Options {
        selectors: vec![symbol("A").into()],
        cursor: Some(cursor(1)),
        ..Options::default()
    });
    session.connected(0);
    events(&mut session, [welcome(LIMITS)]);
    let first = requests(&mut session, 0);
    let refused = ErrorReply {
        id: first[0].id,
        code: ErrorCode::BadCursor,
        message: String::new(),
        msg: None,
        index: None,
        symbol: None,
    };
    // Nothing is left to resume.
    let told = events(&mut session, [Reply::Error(refused)]);
    assert_eq!(told, [Event::Resumed { replayed: 0 }]);
    assert_eq!(subscribes(requests(&mut session, 0))[0].since, None);
    assert_eq!(session.cursor(), None);
}

#[test]
fn a_reconnect_resumes_symbols_by_name_and_patterns_by_cursor() {
    let mut session = connected(&["A", "B*", "B1"], LIMITS);
    requests(&mut session, 0);
    let heard = [
        start("A", 7, 41),
        trade("A", 7, 42, 0),
        start("B1", 7, 5),
        start("B2", 8, 0),
    ];
    events(
        &mut session,
        heard.into_iter().chain([Reply::Cursor(cursor(9))]),
    );
    rejoin(&mut session);
    let subscribes = subscribes(requests(&mut session, 0));
    let [subscribe] = &subscribes[..] else {
        panic!("{subscribes:?}")
    };
    let since = subscribe.since.clone().unwrap();
    assert_eq!(since.cursor, Some(cursor(9)));
    let point = |epoch, trade| Point {
        epoch,
        trade,
        quote: None,
    };
    let mut points = since.points;
    points.sort_by_key(|(symbol, _)| *symbol);
    let expected = [
        (symbol("A"), point(7, Some(42))),
        (symbol("B1"), point(7, Some(5))),
        // Seq 0 is no tick: from the base.
        (symbol("B2"), point(8, None)),
    ];
    assert_eq!(points, expected);
}

#[test]
fn a_pattern_of_too_many_symbols_resumes_by_the_cursor_alone() {
    let mut session = connected(&["*", "A"], LIMITS);
    requests(&mut session, 0);
    events(
        &mut session,
        (0..100).map(|number| start(&format!("S{number}"), 1, 1)),
    );
    events(&mut session, [start("A", 1, 1)]);
    let small = welcome(Limits {
        message_bytes: 1_000,
        ..LIMITS
    });
    let points = |session: &mut Session, small| {
        session.disconnected(Disconnect::Io);
        session.connected(0);
        events(session, [small]);
        let subscribes = subscribes(requests(session, 0));
        subscribes
            .into_iter()
            .map(|subscribe| subscribe.since.unwrap().points.len())
            .collect::<Vec<_>>()
    };
    // Without a cursor as many as fit; the engine replays the others from their base.
    let without_cursor = points(&mut session, small.clone());
    assert!(
        without_cursor.iter().sum::<usize>() > 3 && without_cursor.iter().all(|&count| count < 10)
    );
    // `A` governs itself and keeps its point.
    events(
        &mut session,
        [
            Reply::Replayed {
                id: Some(2),
                cursor: None,
            },
            Reply::Replayed {
                id: Some(3),
                cursor: None,
            },
        ],
    );
    events(&mut session, [Reply::Cursor(cursor(9))]);
    assert_eq!(session.cursor(), Some(cursor(9)));
    assert_eq!(points(&mut session, small).into_iter().sum::<usize>(), 1);
}

#[test]
fn a_cursor_amid_a_resume_is_not_kept() {
    let mut session = connected(&["A"], LIMITS);
    requests(&mut session, 0);
    assert_eq!(
        events(&mut session, [Reply::Cursor(cursor(1))]),
        [Event::Cursor(cursor(1))]
    );
    rejoin(&mut session);
    let id = requests(&mut session, 0)[0].id;
    assert_eq!(events(&mut session, [Reply::Cursor(cursor(2))]), []);
    let replayed = Reply::Replayed { id, cursor: None };
    let end = events(
        &mut session,
        [
            start("A", 1, 0),
            trade("A", 1, 1, 0),
            replayed,
            Reply::Cursor(cursor(3)),
        ],
    );
    assert_eq!(
        end[2..],
        [Event::Resumed { replayed: 1 }, Event::Cursor(cursor(3))]
    );
}

#[test]
fn a_resume_whose_every_symbol_is_refused_ends_all_the_same() {
    let mut session = connected(&["A"], LIMITS);
    requests(&mut session, 0);
    events(&mut session, [Reply::Cursor(cursor(1))]);
    rejoin(&mut session);
    let id = requests(&mut session, 0)[0].id;
    let rejected = Rejected::new("A", ErrorCode::NotEntitled);
    let accepted = Accepted {
        rejected: vec![rejected.clone()],
        ..Accepted::default()
    };
    let ack = Reply::Ack(Ack {
        id,
        body: AckBody::Subscribe(accepted),
    });
    let told = events(&mut session, [ack, Reply::Cursor(cursor(2))]);
    assert_eq!(
        told[1..],
        [
            Event::Rejected(rejected),
            Event::Resumed { replayed: 0 },
            Event::Cursor(cursor(2))
        ]
    );
}

#[test]
fn what_a_resume_repeats_is_clipped() {
    let mut session = connected(&["A"], LIMITS);
    events(
        &mut session,
        [
            start("A", 7, 41),
            trade("A", 7, 42, 0),
            gap("A", 7, Some(43), Some(45)),
        ],
    );
    rejoin(&mut session);
    let told = events(
        &mut session,
        [
            start("A", 7, 38),
            trade("A", 7, 42, 3),
            gap("A", 7, Some(43), Some(50)),
            trade("A", 7, 60, 9),
        ],
    );
    assert_eq!(account(told), ["gap Some(46)..Some(50)", "60 after 9"]);
    let totals = session.totals();
    assert_eq!(
        (
            totals.repeats,
            totals.gapped,
            totals.skipped,
            totals.violations
        ),
        (1, 8, 9, 0)
    );
}

#[test]
fn skipped_ticks_before_a_gap_come_with_the_next_tick_even_over_a_reconnect() {
    let mut session = connected(&["A"], LIMITS);
    events(
        &mut session,
        [start("A", 7, 41), gap("A", 7, Some(50), Some(55))],
    );
    rejoin(&mut session);
    let told = events(&mut session, [start("A", 7, 55), trade("A", 7, 56, 0)]);
    assert_eq!(account(told), ["56 after 8"]);
}

#[test]
fn a_start_beyond_what_came_is_reported() {
    let mut session = connected(&["A"], LIMITS);
    events(&mut session, [start("A", 7, 41), trade("A", 7, 42, 0)]);
    rejoin(&mut session);
    let told = events(&mut session, [start("A", 7, 50), trade("A", 7, 51, 0)]);
    assert_eq!(account(told), ["lost 43..Some(50)", "51"]);
}

#[test]
fn an_epoch_that_ended_meanwhile_is_closed_once() {
    let closing_first = [
        gap("A", 7, Some(43), None),
        start("A", 8, 0),
        trade("A", 8, 1, 0),
    ];
    let start_first = [
        start("A", 8, 0),
        gap("A", 7, Some(43), None),
        trade("A", 8, 1, 0),
    ];
    let never = [start("A", 8, 0), trade("A", 8, 1, 0)];
    let ends = ["gap Some(43)..None", "lost 43..None", "lost 43..None"];
    for (replies, end) in [&closing_first[..], &start_first, &never]
        .into_iter()
        .zip(ends)
    {
        let mut session = connected(&["A"], LIMITS);
        events(&mut session, [start("A", 7, 41), trade("A", 7, 42, 0)]);
        rejoin(&mut session);
        assert_eq!(account(events(&mut session, replies.to_vec())), [end, "1"]);
        assert_eq!(session.totals().violations, 0);
    }
}

#[test]
fn an_epoch_that_ends_within_a_connection_loses_nothing() {
    let mut session = connected(&["A"], LIMITS);
    let told = events(
        &mut session,
        [
            start("A", 7, 41),
            trade("A", 7, 42, 0),
            start("A", 8, 0),
            trade("A", 8, 1, 0),
        ],
    );
    assert_eq!(account(told), ["42", "1"]);
}

#[test]
fn broken_accounts_are_told_and_never_repeated() {
    let mut session = connected(&["A"], LIMITS);
    let told = |session: &mut Session, reply| account(events(session, [reply]));
    assert_eq!(told(&mut session, trade("A", 7, 42, 0)), ["Unopened", "42"]);
    assert_eq!(told(&mut session, trade("A", 7, 42, 0)), ["Repeated"]);
    assert_eq!(
        told(&mut session, trade("A", 7, 45, 0)),
        ["Hole { missing: 2 }", "45"]
    );
    assert_eq!(
        told(&mut session, trade("A", 7, 47, 3)),
        ["Overcounted { excess: 2 }", "47 after 1"]
    );
    assert_eq!(
        told(&mut session, gap("A", 7, Some(40), Some(47))),
        ["Repeated"]
    );
    assert_eq!(
        told(&mut session, gap("A", 7, Some(40), Some(39))),
        ["OutOfRange"]
    );
    assert_eq!(told(&mut session, trade("A", 7, 0, 0)), ["OutOfRange"]);
    assert_eq!(
        told(&mut session, trade("A", 1 << 53, 1, 0)),
        ["OutOfRange"]
    );
    assert_eq!(session.totals().violations, 8);
}

#[test]
fn what_answers_a_replay_stands_outside_every_account() {
    let mut session = connected(&["A"], LIMITS);
    let Reply::Tick(tick, marks) = trade("A", 3, 9, 0) else {
        unreachable!()
    };
    let replayed = Reply::Tick(
        tick,
        Marks {
            replay: Some(9),
            ..marks
        },
    );
    assert_eq!(
        events(&mut session, [replayed.clone()]),
        [Event::Answer(replayed)]
    );
    assert_eq!(session.totals().ticks, 0);
}

#[test]
fn silence_is_a_reason_to_reconnect() {
    let mut session = session(&["A"]);
    assert_eq!(session.deadline_ms(), None);
    session.connected(0);
    assert!(!session.timed_out(9_999) && session.timed_out(10_000));
    session.receive(1_000, welcome(LIMITS), |_| {});
    requests(&mut session, 1_000);
    assert_eq!(session.deadline_ms(), Some(8_000));
    session.receive(5_000, Reply::Heartbeat { ts_us: 0 }, |_| {});
    assert!(!session.timed_out(11_999) && session.timed_out(12_000));
    session.heard(6_000);
    assert!(!session.timed_out(12_999));
    session.disconnected(Disconnect::Silent);
    assert!(!session.timed_out(u64::MAX));
}

#[test]
fn close_codes_and_statuses_decide_what_follows() {
    let next = |cause| session(&["A"]).disconnected(cause);
    let fresh = |cause| match next(cause) {
        Next::ConnectAfter { ms, fresh_token } if ms <= 300 => fresh_token,
        other => panic!("{cause:?}: {other:?}"),
    };
    let refused = |status| Disconnect::Refused {
        status,
        retry_after_ms: None,
    };
    let closed = |code| Disconnect::Closed { code };
    for cause in [
        Disconnect::Io,
        Disconnect::Silent,
        closed(1001),
        closed(1005),
        closed(4410),
        refused(503),
    ] {
        assert!(!fresh(cause));
    }
    assert!(fresh(closed(4401)) && fresh(refused(401)));
    for status in [400, 403, 404, 426] {
        assert_eq!(
            next(refused(status)),
            Next::Stop {
                reason: Stop::Refused { status }
            }
        );
    }
    for code in [4500, 4503, 4509, 4999] {
        assert_eq!(
            next(closed(code)),
            Next::Stop {
                reason: Stop::Closed { code }
            }
        );
    }
    let later = Disconnect::Refused {
        status: 429,
        retry_after_ms: Some(1_834),
    };
    assert_eq!(
        next(later),
        Next::ConnectAfter {
            ms: 1_834,
            fresh_token: false
        }
    );
}

#[test]
fn tokens_are_tried_a_bounded_number_of_times() {
    let mut session = session(&["A"]);
    let refused = Disconnect::Refused {
        status: 401,
        retry_after_ms: None,
    };
    for _ in 0..TOKEN_REFUSALS_MAX {
        assert!(matches!(
            session.disconnected(refused),
            Next::ConnectAfter {
                fresh_token: true,
                ..
            }
        ));
    }
    assert_eq!(
        session.disconnected(refused),
        Next::Stop {
            reason: Stop::TokenRefused
        }
    );
    session.connected(0);
    events(&mut session, [welcome(LIMITS)]);
    assert!(matches!(
        session.disconnected(refused),
        Next::ConnectAfter {
            fresh_token: true,
            ..
        }
    ));
}

#[test]
fn goodbye_is_a_lower_bound_and_stands_in_for_a_lost_close_frame() {
    let goodbye = |reason: &str, reconnect_after_ms| Reply::Goodbye {
        reason: reason.to_owned(),
        reconnect_after_ms,
    };
    let mut session = connected(&["A"], LIMITS);
    events(&mut session, [goodbye("draining", Some(5_000))]);
    let next = session.disconnected(Disconnect::Closed { code: 1001 });
    assert_eq!(
        next,
        Next::ConnectAfter {
            ms: 5_000,
            fresh_token: false
        }
    );
    session.connected(0);
    events(&mut session, [goodbye("replaced", None)]);
    assert_eq!(
        session.disconnected(Disconnect::Io),
        Next::Stop {
            reason: Stop::Closed { code: 4509 }
        }
    );
}

#[test]
fn a_fresh_token_is_an_operation_like_others() {
    let mut session = connected(&["A"], LIMITS);
    let request = session.fresh_token(0, "jwt".to_owned());
    assert_eq!(
        request.op,
        Op::Auth {
            token: "jwt".to_owned()
        }
    );
    let body = AckBody::Auth {
        token_exp: 5,
        lost: vec![],
        narrowed: vec![],
    };
    let told = events(
        &mut session,
        [Reply::Ack(Ack {
            id: request.id,
            body,
        })],
    );
    assert_eq!(
        told,
        [Event::TokenRenewed {
            token_exp: 5,
            lost: vec![],
            narrowed: vec![]
        }]
    );
}

#[test]
fn subscriptions_come_and_go_within_a_connection() {
    let mut session = connected(&["A"], LIMITS);
    requests(&mut session, 0);
    let selectors = |texts: &[&str]| -> Vec<Selector> {
        let parse = |text: &&str| Selector::parse(text).unwrap();
        texts.iter().map(parse).collect()
    };
    session.subscribe(selectors(&["A", "B", "C*"]));
    let asked = subscribes(requests(&mut session, 0));
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].selection.selectors, selectors(&["B", "C*"]));
    assert_eq!(asked[0].since, None);
    events(
        &mut session,
        [start("B", 1, 4), start("C1", 1, 4), start("C2", 1, 4)],
    );

    session.subscribe(selectors(&["C2"]));
    requests(&mut session, 0);
    session.unsubscribe(selectors(&["B", "C*", "nobody"]));
    let asked = requests(&mut session, 0);
    let ended = Op::Unsubscribe(Selection {
        selectors: selectors(&["B", "C*"]),
        rejected: Vec::new(),
    });
    assert_eq!(
        asked.iter().map(|request| &request.op).collect::<Vec<_>>(),
        [&ended]
    );
    // What is still on its way counts only where something else covers it.
    let late = [
        trade("B", 1, 5, 0),
        gap("C1", 1, Some(5), Some(6)),
        trade("C2", 1, 5, 0),
    ];
    assert_eq!(account(events(&mut session, late)), ["5"]);
    // And a new subscription opens a new account, wherever the old one was.
    session.subscribe(selectors(&["B"]));
    let told = events(&mut session, [start("B", 1, 9), trade("B", 1, 10, 0)]);
    assert_eq!(account(told), ["10"]);
    assert_eq!(session.totals().violations, 0);
    assert_eq!(session.totals().repeats, 0);

    session.disconnected(Disconnect::Io);
    session.connected(0);
    events(&mut session, [welcome(LIMITS)]);
    let asked = subscribes(requests(&mut session, 0));
    let mut all: Vec<Selector> = asked
        .iter()
        .flat_map(|subscribe| subscribe.selection.selectors.clone())
        .collect();
    all.sort_by_key(ToString::to_string);
    assert_eq!(all, selectors(&["A", "B", "C2"]));
}

#[test]
fn a_request_of_the_callers_own_waits_for_its_turn() {
    let mut session = session(&["A"]);
    assert_eq!(session.ask(Op::List), None);
    session.connected(0);
    assert_eq!(session.ask(Op::List), None);
    events(&mut session, [welcome(LIMITS)]);
    let id = session.ask(Op::List);
    let asked = requests(&mut session, 0);
    assert!(matches!(asked[0].op, Op::Subscribe(_)));
    assert_eq!((asked[1].id, &asked[1].op), (id, &Op::List));
    let listed = Reply::Ack(Ack {
        id,
        body: AckBody::List(vec![]),
    });
    assert_eq!(
        events(&mut session, [listed.clone()]),
        [Event::Answer(listed)]
    );
}
