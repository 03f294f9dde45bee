//! The hub by itself: events in, what each client is told out.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;
use serde_json::Value;
use tickwire_proto::{
    claims::{Claims, Grant},
    price::Decimal,
    reply::{Accepted, Gap, GapReason, Limits, Reply, Start, Welcome},
    request::{Mode, Selection, Subscribe},
    session::Lost,
    tick::{Channel, Channels, FeedState, Identity, Marks, Tick, Values},
    upgrade::Subprotocol,
};

use super::{
    outbox::{Enough, Taken},
    *,
};

fn hub(change: impl FnOnce(&mut Config)) -> Arc<Hub> {
    let mut config = Config::default();
    change(&mut config);
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let hub = Hub::new(Arc::new(config), metrics);
    hub.tell(vec![connected("s")]);
    hub
}

fn connected(session: &str) -> Event {
    Event::Connected(Welcome {
        session: session.to_owned(),
        protocol: Subprotocol::Sbe,
        heartbeat_ms: 5_000,
        token_exp: 0,
        limits: Limits {
            symbols: 1_024,
            message_bytes: 65_536,
            ops_per_s: 10,
        },
    })
}

fn symbol(text: &str) -> Symbol {
    Symbol::parse(text).unwrap()
}

fn start(text: &str, epoch: u64, trade: Option<u64>, quote: Option<u64>) -> Event {
    Event::Started(Start {
        symbol: symbol(text),
        epoch,
        trade,
        quote,
        replay: None,
    })
}

fn tick(text: &str, channel: Channel, epoch: u64, seq: u64) -> Tick {
    let price = Decimal::parse("1.5").unwrap();
    let values = match channel {
        Channel::Trade => Values::trade(price, None, None),
        Channel::Quote => Values::quote(price, None, price, None),
    };
    Tick {
        symbol: symbol(text),
        identity: Identity { epoch, seq },
        ts_ns: 1_000,
        values: values.unwrap(),
    }
}

fn trade(text: &str, seq: u64) -> Event {
    Event::Tick(tick(text, Channel::Trade, 1, seq), Marks::default())
}

fn gap(text: &str, from: u64, to: u64) -> Event {
    Event::Gap(Gap {
        symbol: symbol(text),
        channel: Channel::Trade,
        epoch: 1,
        from: Some(from),
        to: Some(to),
        reason: GapReason::Source,
        replay: None,
    })
}

fn cursor(position: u64) -> Event {
    Event::Cursor(Cursor {
        tape: 7,
        position,
        admitted_ns: 0,
    })
}

/// A cursor that this edge's history does not reach.
fn foreign(own: Option<EdgePosition>) -> EdgeCursor {
    EdgeCursor {
        engine: Cursor {
            tape: 7,
            position: 3,
            admitted_ns: 0,
        },
        own,
    }
}

/// A trade of `A` that the replay `id` brings.
fn answer(id: u32, seq: u64) -> Event {
    let marks = Marks {
        replay: Some(id),
        ..Marks::default()
    };
    Event::Answer(Reply::Tick(tick("A", Channel::Trade, 1, seq), marks))
}

/// The end of the replay `id`.
fn replayed(id: u32) -> Event {
    Event::Answer(Reply::Replayed {
        id: Some(id),
        cursor: None,
    })
}

fn request(symbols: &str, cursor: Option<EdgeCursor>) -> Request {
    Request {
        subscribe: Subscribe {
            selection: symbols.split(',').collect::<Selection>(),
            channels: Channels::BOTH,
            mode: Mode::Stream,
            snapshot: true,
            since: None,
        },
        cursor,
        grant: Grant::from_claims(
            Claims {
                sub: "a".to_owned(),
                exp: u64::MAX / 2,
                ..Claims::default()
            },
            false,
        ),
        session: rand::random(),
        is_poll: false,
        socket: None,
    }
}

/// Everything that a client can be told now: JSON objects, and cursors as texts.
fn told(client: &Client) -> Vec<Value> {
    let mut told = Vec::new();
    loop {
        let taken = client.outbox().take(Instant::now(), None, |item| {
            told.push(match &item {
                block::Item::Cursor(cursor) => Value::from(cursor.to_string()),
                item => {
                    let mut json = Vec::new();
                    item.write_json(&mut json);
                    serde_json::from_slice(&json).unwrap()
                }
            });
            Enough::No
        });
        match taken {
            Taken::Some(_) => {}
            Taken::Behind => client.fetch(),
            Taken::Nothing(_) | Taken::End => return told,
        }
    }
}

/// The same in short.
fn short(client: &Client) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(_) => "cursor".to_owned(),
        value => {
            let kind = value["type"].as_str().unwrap();
            let name = value["symbol"].as_str().unwrap_or_default();
            match kind {
                "trade" | "quote" => {
                    let mark = if value["snapshot"] == true { "*" } else { "" };
                    format!("{name}{}{mark}", value["seq"])
                }
                "gap" => format!("{name} gap {}-{}", value["from"], value["to"]),
                "start" => format!("{name} from {}", value["trade"]),
                "feed" => format!("{name} {}", value["state"].as_str().unwrap()),
                other => other.to_owned(),
            }
        }
    };
    told(client).iter().map(text).collect()
}

/// The last cursor among what was told.
fn last_cursor(told: &[Value]) -> EdgeCursor {
    let mut texts = told.iter().rev().filter_map(Value::as_str);
    EdgeCursor::parse(texts.next().expect("a cursor")).unwrap()
}

fn confirm(hub: &Hub, symbols: &[&str]) {
    hub.tell(vec![Event::Subscribed(Accepted {
        symbols: symbols.iter().map(|text| symbol(text)).collect(),
        ..Accepted::default()
    })]);
}

#[test]
fn the_first_client_of_a_symbol_subscribes_and_gets_it_as_it_begins() {
    let hub = hub(|_| {});
    let first = hub.join(&request("A", None)).unwrap();
    let orders = hub.take_orders();
    let expected = vec![Selector::Symbol(symbol("A"))];
    assert_eq!(orders, [Order::Subscribe(expected)]);
    assert_eq!(short(&first), ["ack"]);
    confirm(&hub, &["A"]);
    let snapshot = Marks {
        snapshot: true,
        ..Marks::default()
    };
    hub.tell(vec![
        start("A", 1, Some(41), None),
        Event::Tick(tick("A", Channel::Trade, 1, 41), snapshot),
        trade("A", 42),
    ]);
    assert_eq!(short(&first), ["A from 41", "A41*", "A42"]);
    // The next one is served from here.
    let second = hub.join(&request("A", None)).unwrap();
    assert_eq!(hub.take_orders(), []);
    assert_eq!(short(&second), ["ack", "A from 42", "A42*"]);
    hub.tell(vec![trade("A", 43)]);
    assert_eq!(short(&first), ["A43"]);
    assert_eq!(short(&second), ["A43"]);
}

#[test]
fn a_cursor_leads_back_to_where_it_was_given() {
    let hub = hub(|_| {});
    let client = hub.join(&request("A", None)).unwrap();
    confirm(&hub, &["A"]);
    hub.tell(vec![start("A", 1, Some(0), None), trade("A", 1), cursor(5)]);
    hub.keep_house(Instant::now(), 0);
    let cursor = last_cursor(&told(&client));
    drop(client);
    hub.tell(vec![trade("A", 2), gap("A", 3, 4), trade("A", 5)]);
    let again = hub.join(&request("A", Some(cursor))).unwrap();
    assert_eq!(
        short(&again),
        [
            "ack",
            "A from 1",
            "A2",
            "A gap 3-4",
            "A5",
            "replayed",
            "cursor"
        ]
    );
    hub.tell(vec![trade("A", 6)]);
    assert_eq!(short(&again), ["A6"]);
    // Nothing was asked of the engine but the subscription.
    assert_eq!(hub.take_orders().len(), 1);
}

#[test]
fn what_the_history_does_not_reach_the_engine_replays_and_the_seam_is_clean() {
    let hub = hub(|_| {});
    let _other = hub.join(&request("A", None)).unwrap();
    confirm(&hub, &["A"]);
    hub.tell(vec![start("A", 1, Some(9), None), trade("A", 10)]);
    hub.take_orders();
    let foreign = foreign(Some(EdgePosition {
        edge: 1,
        position: 2,
    }));
    let client = hub.join(&request("A", Some(foreign))).unwrap();
    let orders = hub.take_orders();
    let [
        Order::Replay {
            client: key,
            session,
            replay,
        },
    ] = &orders[..]
    else {
        panic!("{orders:?}");
    };
    assert_eq!(replay.since.cursor, Some(foreign.engine));
    hub.replay_asked(*key, *session, Some(3));
    // What comes meanwhile waits for what the engine replays.
    hub.tell(vec![trade("A", 11)]);
    let started = Reply::Start(Start {
        symbol: symbol("A"),
        epoch: 1,
        trade: Some(7),
        quote: None,
        replay: Some(3),
    });
    hub.tell(vec![Event::Answer(started), answer(3, 8), answer(3, 9)]);
    assert_eq!(short(&client), ["ack", "A from 7", "A8", "A9"]);
    // The replay reaches further than what the edge has heard so far.
    hub.tell(vec![
        answer(3, 10),
        answer(3, 11),
        answer(3, 12),
        replayed(3),
    ]);
    assert_eq!(short(&client), ["A10", "A11", "A12", "replayed"]);
    hub.tell(vec![trade("A", 12), trade("A", 13)]);
    assert_eq!(short(&client), ["A13"]);
}

#[test]
fn a_replay_begins_again_with_the_next_engine_and_repeats_nothing() {
    let hub = hub(|_| {});
    let client = hub.join(&request("A", Some(foreign(None)))).unwrap();
    let asked = |hub: &Hub, id| {
        let orders = hub.take_orders();
        let replay = orders.into_iter().find_map(|order| match order {
            Order::Replay {
                client, session, ..
            } => Some((client, session)),
            _ => None,
        });
        let (client, session) = replay.unwrap();
        hub.replay_asked(client, session, Some(id));
    };
    asked(&hub, 3);
    hub.tell(vec![answer(3, 8), answer(3, 9)]);
    hub.lost();
    hub.tell(vec![connected("t")]);
    asked(&hub, 4);
    hub.tell(vec![
        answer(3, 10),
        answer(4, 8),
        answer(4, 9),
        answer(4, 10),
        replayed(4),
    ]);
    assert_eq!(
        short(&client),
        ["ack", "A from 7", "A8", "A9", "A10", "replayed"]
    );
}

#[test]
fn more_than_is_kept_of_a_replay_becomes_a_gap() {
    let hub = hub(|config| config.replay_bytes_max = 200);
    let client = hub.join(&request("A", Some(foreign(None)))).unwrap();
    let orders = hub.take_orders();
    let Some(Order::Replay {
        client: key,
        session,
        ..
    }) = orders.last()
    else {
        panic!("{orders:?}");
    };
    hub.replay_asked(*key, *session, Some(3));
    hub.tell((1..=5).map(|seq| answer(3, seq)).collect());
    hub.tell(vec![replayed(3)]);
    assert_eq!(
        short(&client),
        ["ack", "A from 0", "A1", "A2", "A gap 3-5", "replayed"]
    );
}

#[test]
fn an_engine_out_of_reach_makes_everything_stale_until_it_is_back() {
    let hub = hub(|_| {});
    let client = hub.join(&request("A,B", None)).unwrap();
    confirm(&hub, &["A", "B"]);
    hub.tell(vec![
        start("A", 1, Some(0), None),
        start("B", 1, Some(0), None),
    ]);
    hub.tell(vec![Event::Feed {
        symbol: symbol("B"),
        state: FeedState::Stale,
    }]);
    short(&client);
    hub.lost();
    assert_eq!(short(&client), ["A stale"]);
    let joined = hub.join(&request("A", None)).unwrap();
    assert_eq!(short(&joined), ["ack", "A from 0", "A stale"]);
    let lost = Lost {
        symbol: symbol("A"),
        channel: Channel::Trade,
        epoch: 1,
        from: 1,
        to: Some(3),
    };
    // The engine says again what is stale, and nothing of what is not.
    hub.tell(vec![
        Event::Feed {
            symbol: symbol("B"),
            state: FeedState::Stale,
        },
        Event::Lost(lost),
        trade("A", 4),
        Event::Resumed { replayed: 1 },
    ]);
    assert_eq!(short(&client), ["A gap 1-3", "A4", "A live"]);
}

#[test]
fn what_nobody_follows_any_more_is_given_up_and_begins_anew() {
    let hub = hub(|config| config.linger_s = 60);
    let client = hub.join(&request("A", None)).unwrap();
    confirm(&hub, &["A"]);
    hub.tell(vec![start("A", 1, Some(0), None), trade("A", 1), cursor(1)]);
    hub.keep_house(Instant::now(), 0);
    let cursor = last_cursor(&told(&client));
    drop(client);
    hub.take_orders();
    let later = Instant::now() + Duration::from_secs(61);
    hub.keep_house(later, 0);
    let expected = vec![Selector::Symbol(symbol("A"))];
    assert_eq!(hub.take_orders(), [Order::Unsubscribe(expected)]);
    // The history has a hole from here on, so the engine has to fill it.
    let again = hub.join(&request("A", Some(cursor))).unwrap();
    let orders = hub.take_orders();
    assert!(
        matches!(&orders[..], [Order::Subscribe(_), Order::Replay { .. }]),
        "{orders:?}"
    );
    assert_eq!(short(&again), ["ack"]);
}

#[test]
fn tokens_end_streams_and_clients_that_do_not_read_are_cut_off() {
    let hub = hub(|config| config.queued_bytes_max = 1_000);
    let mut own = request("A", None);
    own.grant.exp = 1_000;
    let client = hub.join(&own).unwrap();
    let now = Instant::now();
    short(&client);
    hub.keep_house(now, 900);
    assert_eq!(short(&client), [""; 0]);
    hub.keep_house(now, 940);
    hub.keep_house(now, 950);
    assert_eq!(short(&client), ["token_expiring"]);
    hub.keep_house(now, 1_030);
    assert_eq!(short(&client), ["goodbye"]);
    let silent = hub.join(&request("A", None)).unwrap();
    hub.keep_house(now + Duration::from_secs(60), 0);
    assert_eq!(short(&silent), ["goodbye"]);
}

#[test]
fn a_drain_tells_everyone_when_to_come_back() {
    let hub = hub(|_| {});
    let client = hub.join(&request("A", None)).unwrap();
    confirm(&hub, &["A"]);
    hub.tell(vec![start("A", 1, Some(0), None), cursor(1), trade("A", 1)]);
    short(&client);
    hub.drain(Duration::from_secs(5));
    let told = told(&client);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].is_string());
    assert_eq!(told[1]["reason"], "draining");
    assert!(told[1]["reconnect_after_ms"].as_u64().unwrap() <= 5_000);
    let refused = hub.join(&request("A", None)).unwrap_err();
    assert_eq!(refused, Refused::Draining);
}

#[test]
fn only_what_the_token_allows_is_followed() {
    let hub = hub(|config| config.union_max = 2);
    let mut own = request("A1,B1,X,*", None);
    own.grant.symbols = tickwire_proto::claims::Entitlement::new(
        ["A*", "C"].map(|text| Selector::parse(text).unwrap()),
    );
    let client = hub.join(&own).unwrap();
    let ack = &told(&client)[0];
    assert_eq!(ack["symbols"], serde_json::json!(["A1"]));
    // `*` would be two more than there is room for.
    let codes: Vec<_> = ack["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["code"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(codes, ["not_entitled", "not_entitled", "too_many_symbols"]);
    own.subscribe.selection = ["B1"].into_iter().collect();
    assert_eq!(hub.join(&own).unwrap_err(), Refused::NotEntitled);
}

// --- polls ---

fn poll(hub: &Arc<Hub>, symbols: &str, cursor: Option<EdgeCursor>) -> Collector {
    let mut request = request(symbols, cursor);
    request.is_poll = true;
    if let Some(parked) = hub.unpark(&request) {
        return parked;
    }
    Collector::new(hub.join(&request).unwrap())
}

fn seqs(collected: &Collected) -> Vec<u64> {
    let text = format!("[{}]", String::from_utf8_lossy(&collected.ticks));
    let objects: Vec<Value> = serde_json::from_str(&text).unwrap();
    objects
        .iter()
        .filter_map(|object| object["seq"].as_u64())
        .collect()
}

#[test]
fn polls_go_on_where_the_last_one_ended() {
    let hub = hub(|_| {});
    let first = poll(&hub, "A", None);
    assert!(!first.is_complete());
    confirm(&hub, &["A"]);
    hub.tell(vec![start("A", 1, Some(0), None), trade("A", 1), cursor(1)]);
    assert!(first.is_complete());
    let answer = first.collect();
    assert_eq!((seqs(&answer), answer.more), (vec![1], false));
    let waker = Waker::noop();
    let second = poll(&hub, "A", Some(answer.cursor));
    assert!(!second.is_ready(waker));
    // One that is given up takes nothing along.
    drop(second);
    hub.tell((2..=2_500).map(|seq| trade("A", seq)).collect());
    let (mut cursor, mut all) = (answer.cursor, Vec::new());
    loop {
        let next = poll(&hub, "A", Some(cursor));
        assert!(next.is_ready(waker));
        let answer = next.collect();
        assert!(seqs(&answer).len() <= 1_000);
        all.extend(seqs(&answer));
        cursor = answer.cursor;
        if !answer.more {
            break;
        }
    }
    assert_eq!(all, (2..=2_500).collect::<Vec<_>>());
    let nothing = poll(&hub, "A", Some(cursor)).collect();
    assert_eq!((seqs(&nothing), nothing.cursor), (vec![], cursor));
    assert_eq!(hub.clients(), 0);
}

#[test]
fn snapshots_beyond_one_answer_come_with_the_next() {
    let hub = hub(|_| {});
    let all = poll(&hub, "S*", None);
    let Ok(Selector::Pattern(pattern)) = Selector::parse("S*") else {
        panic!("it is a pattern");
    };
    hub.tell(vec![Event::Subscribed(Accepted {
        patterns: vec![pattern],
        ..Accepted::default()
    })]);
    let names: Vec<String> = (0..800).map(|number| format!("S{number}")).collect();
    for name in &names {
        hub.tell(vec![start(name, 1, Some(0), None), trade(name, 1)]);
    }
    hub.tell(vec![cursor(9)]);
    drop(all);
    let first = poll(&hub, "S*", None).collect();
    assert!(first.more);
    assert_eq!(hub.clients(), 1);
    // Nobody else can take it, and nobody can ask for something else by it.
    let mut other = request("S*", Some(first.cursor));
    other.is_poll = true;
    other.grant.sub = "b".to_owned();
    assert!(hub.unpark(&other).is_none());
    let mut wider = request("S*,T", Some(first.cursor));
    wider.is_poll = true;
    assert!(hub.unpark(&wider).is_none());
    let second = poll(&hub, "S*", Some(first.cursor)).collect();
    assert!(!second.more);
    assert_eq!(seqs(&first).len() + seqs(&second).len(), 800);
    assert_eq!(hub.clients(), 0);
    // Whoever does not come back is forgotten.
    poll(&hub, "S*", None).collect();
    assert_eq!(hub.clients(), 1);
    hub.keep_house(Instant::now() + Duration::from_secs(61), 0);
    assert_eq!(hub.clients(), 0);
}

// --- whatever happens, accounts add up ---

#[derive(Clone, Debug)]
enum Step {
    Tick { symbol: usize, quote: bool },
    Gap { symbol: usize },
    Epoch { symbol: usize },
    Join { symbols: &'static str },
    Resume { client: usize },
    Take { client: usize },
    Leave { client: usize },
    House,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..3_usize, any::<bool>()).prop_map(|(symbol, quote)| Step::Tick { symbol, quote }),
        2 => (0..3_usize).prop_map(|symbol| Step::Gap { symbol }),
        1 => (0..3_usize).prop_map(|symbol| Step::Epoch { symbol }),
        2 => prop_oneof![Just("A"), Just("B,C"), Just("*")].prop_map(|symbols| Step::Join { symbols }),
        2 => (0..6_usize).prop_map(|client| Step::Resume { client }),
        6 => (0..6_usize).prop_map(|client| Step::Take { client }),
        1 => (0..6_usize).prop_map(|client| Step::Leave { client }),
        2 => Just(Step::House),
    ]
}

/// What the engine would say.
struct Market {
    epochs: [u64; 3],
    seqs: HashMap<(usize, Channel), u64>,
}

const NAMES: [&str; 3] = ["A", "B", "C"];

impl Market {
    fn next(&mut self, symbol: usize, channel: Channel) -> (u64, u64) {
        let seq = self.seqs.entry((symbol, channel)).or_default();
        *seq += 1;
        (self.epochs[symbol], *seq)
    }
}

/// A client that checks what it is told.
struct Checked {
    client: Option<Client>,
    symbols: &'static str,
    cursor: Option<EdgeCursor>,
    accounts: HashMap<(String, &'static str), (u64, u64)>,
}

impl Checked {
    fn take(&mut self) {
        let Some(client) = &self.client else { return };
        for value in told(client) {
            if let Some(text) = value.as_str() {
                self.cursor = Some(EdgeCursor::parse(text).unwrap());
                continue;
            }
            let name = value["symbol"].as_str().unwrap_or_default().to_owned();
            let epoch = value["epoch"].as_u64();
            match value["type"].as_str().unwrap() {
                "start" => {
                    for channel in ["trade", "quote"] {
                        if let Some(at) = value[channel].as_u64() {
                            self.accounts
                                .insert((name.clone(), channel), (epoch.unwrap(), at));
                        }
                    }
                }
                kind @ ("trade" | "quote") if value["snapshot"] != true => {
                    let channel = if kind == "trade" { "trade" } else { "quote" };
                    let account = self.accounts.get_mut(&(name, channel));
                    let (own, at) = account.expect("a start precedes every tick");
                    assert_eq!(*own, epoch.unwrap(), "{value}");
                    assert_eq!(*at + 1, value["seq"].as_u64().unwrap(), "{value}");
                    *at += 1;
                }
                "gap" => {
                    let channel = match value["channel"].as_str().unwrap() {
                        "trade" => "trade",
                        _ => "quote",
                    };
                    let account = self.accounts.get_mut(&(name, channel));
                    let (own, at) = account.expect("a start precedes every gap");
                    assert_eq!(*own, epoch.unwrap(), "{value}");
                    assert_eq!(*at + 1, value["from"].as_u64().unwrap(), "{value}");
                    *at = value["to"].as_u64().unwrap();
                }
                _ => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn every_account_adds_up(
        steps in proptest::collection::vec(step(), 1..200),
        lag_soft_ticks in 1..20_usize,
    ) {
        let hub = hub(|config| {
            config.lag_soft_ticks = lag_soft_ticks;
            config.history_ticks = 1_024;
        });
        hub.tell(vec![Event::Subscribed(Accepted {
            patterns: vec![],
            ..Accepted::default()
        })]);
        let keep = hub.join(&request("*", None)).unwrap();
        let all = tickwire_proto::pattern::Pattern::ALL;
        hub.tell(vec![Event::Subscribed(Accepted {
            patterns: vec![all],
            ..Accepted::default()
        })]);
        let mut market = Market { epochs: [1; 3], seqs: HashMap::new() };
        for name in NAMES {
            hub.tell(vec![start(name, 1, Some(0), Some(0))]);
        }
        hub.tell(vec![cursor(0)]);
        let mut clients: Vec<Checked> = Vec::new();
        for step in steps {
            match step {
                Step::Tick { symbol, quote } => {
                    let channel = if quote { Channel::Quote } else { Channel::Trade };
                    let (epoch, seq) = market.next(symbol, channel);
                    let tick = tick(NAMES[symbol], channel, epoch, seq);
                    hub.tell(vec![Event::Tick(tick, Marks::default())]);
                }
                Step::Gap { symbol } => {
                    let (epoch, from) = market.next(symbol, Channel::Trade);
                    let (_, to) = market.next(symbol, Channel::Trade);
                    hub.tell(vec![Event::Gap(Gap {
                        symbol: super::tests::symbol(NAMES[symbol]),
                        channel: Channel::Trade,
                        epoch,
                        from: Some(from),
                        to: Some(to),
                        reason: GapReason::Source,
                        replay: None,
                    })]);
                }
                Step::Epoch { symbol } => {
                    market.epochs[symbol] += 1;
                    for channel in Channel::BOTH {
                        market.seqs.remove(&(symbol, channel));
                    }
                    hub.tell(vec![start(NAMES[symbol], market.epochs[symbol], Some(0), Some(0))]);
                }
                Step::Join { symbols } if clients.len() < 6 => clients.push(Checked {
                    client: Some(hub.join(&request(symbols, None)).unwrap()),
                    symbols,
                    cursor: None,
                    accounts: HashMap::new(),
                }),
                Step::Resume { client } => {
                    if let Some(checked) = clients.get_mut(client)
                        && let Some(cursor) = checked.cursor
                    {
                        checked.client = None;
                        // What came after the cursor comes again.
                        checked.accounts.clear();
                        let request = request(checked.symbols, Some(cursor));
                        checked.client = Some(hub.join(&request).unwrap());
                    }
                }
                Step::Take { client } => {
                    if let Some(checked) = clients.get_mut(client) {
                        checked.take();
                    }
                }
                Step::Leave { client } => {
                    if let Some(checked) = clients.get_mut(client) {
                        checked.client = None;
                    }
                }
                Step::House => hub.keep_house(Instant::now(), 0),
                Step::Join { .. } => {}
            }
        }
        for checked in &mut clients {
            checked.take();
            if checked.client.is_none() {
                continue;
            }
            // Whoever reads to the end has everything.
            for ((name, channel), (epoch, at)) in &checked.accounts {
                let symbol = NAMES.iter().position(|own| own == name).unwrap();
                let channel = Channel::from_wire(channel).unwrap();
                let last = market.seqs.get(&(symbol, channel)).copied().unwrap_or(0);
                prop_assert_eq!((*epoch, *at), (market.epochs[symbol], last));
            }
        }
        drop(keep);
    }
}
