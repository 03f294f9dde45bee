use std::io::Read;

use proptest::prelude::*;
use serde_json::Value;
use tickwire_proto::{close::CloseReason, price::Decimal, symbol::Symbol, tick::Values};

use super::*;
use crate::{config::Config, floor::rehearsal::Rehearsal};

const SYMBOLS: [&str; 3] = ["A", "B", "C"];

/// A floor whose subscribers hear, and keep account of it.
struct Hall {
    rehearsal: Rehearsal,
    /// By index of connection.
    accounts: Vec<Account>,
    published: [u64; SYMBOLS.len()],
}

#[derive(Default)]
struct Account {
    received: Vec<u8>,
    last: FxHashMap<String, u64>,
    delivered: u64,
    gapped: u64,
}

impl Account {
    /// Takes in the frames that are complete.
    fn take(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        while let Some((payload, end)) = frame(&self.received) {
            let message: Value = serde_json::from_slice(&self.received[payload..end]).unwrap();
            self.received.drain(..end);
            self.judge(&message);
        }
    }

    fn judge(&mut self, message: &Value) {
        let number = |field: &str| message[field].as_u64();
        let symbol = || message["symbol"].as_str().unwrap().to_owned();
        match message["type"].as_str() {
            Some("start") => {
                self.last.insert(symbol(), number("trade").unwrap());
            }
            Some("trade") => {
                let last = self.last.get_mut(&symbol()).expect("a start comes first");
                *last += 1;
                self.delivered += 1;
                assert_eq!(number("seq"), Some(*last), "in order, none twice");
            }
            Some("gap") => {
                let last = self.last.get_mut(&symbol()).expect("a start comes first");
                assert_eq!(number("from"), Some(*last + 1));
                self.gapped += number("to").unwrap() - *last;
                *last = number("to").unwrap();
            }
            _ => {}
        }
    }
}

/// Where the payload of the first frame begins and ends (RFC 6455 § 5.2).
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (payload, length) = match bytes.get(1)? {
        126 => (
            4,
            u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()).into(),
        ),
        127 => (
            10,
            u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize,
        ),
        short => (2, usize::from(*short)),
    };
    (bytes.len() >= payload + length).then_some((payload, payload + length))
}

impl Hall {
    /// Every symbol has had a tick.
    fn new(config: Config) -> Self {
        let mut hall = Self {
            rehearsal: Rehearsal::aloud(config).unwrap(),
            accounts: Vec::new(),
            published: [0; SYMBOLS.len()],
        };
        for symbol in 0..SYMBOLS.len() {
            hall.publish(symbol);
        }
        hall.settle();
        hall
    }

    fn seat(&mut self, symbols: &[&str]) {
        self.seat_with_budget(symbols, 0);
    }

    fn seat_with_budget(&mut self, symbols: &[&str], max_delay_ms: u32) {
        let symbols = symbols.iter().map(|name| Symbol::parse(name).unwrap());
        let seated = self
            .rehearsal
            .seat(Subprotocol::Json, symbols, max_delay_ms);
        seated.unwrap();
        self.accounts.push(Account::default());
    }

    fn publish(&mut self, symbol: usize) {
        let values = Values::trade(Decimal::parse("1").unwrap(), None, None).unwrap();
        let name = Symbol::parse(SYMBOLS[symbol]).unwrap();
        self.rehearsal.publish(name, 1, values).unwrap();
        self.published[symbol] += 1;
    }

    fn turn(&mut self) -> bool {
        let busy = self.rehearsal.turn().unwrap();
        for (account, mut end) in self.accounts.iter_mut().zip(&self.rehearsal.audience) {
            let mut bytes = [0; 4_096];
            while let Ok(count @ 1..) = end.read(&mut bytes) {
                account.take(&bytes[..count]);
            }
        }
        busy
    }

    /// Who comes first enters an audience after its first tick in company.
    fn gather(&mut self) {
        self.settle();
        for symbol in 0..SYMBOLS.len() {
            self.publish(symbol);
        }
        self.settle();
    }

    fn settle(&mut self) {
        while self.turn() {}
    }

    /// A turn is a millisecond.
    fn pass(&mut self, ms: usize) {
        for _ in 0..ms {
            self.turn();
        }
    }

    fn ask(&mut self, index: u32, text: &str) {
        self.rehearsal.floor.take_text(index, text);
    }

    fn members(&self) -> Vec<usize> {
        let all = self.rehearsal.floor.audiences.all.iter();
        let mut members: Vec<_> = all.map(|(_, audience)| audience.members.len()).collect();
        members.sort_unstable();
        members
    }
}

#[test]
fn likes_meet_and_who_has_none_stays_by_itself() {
    let mut hall = Hall::new(Config::default());
    for symbols in [&["A"][..], &["B"], &["A"], &["A", "B"], &["B", "A"], &["A"]] {
        hall.seat(symbols);
    }
    hall.gather();
    assert_eq!(hall.members(), [2, 3]);
    let gathered: Vec<_> = hall.accounts.iter().map(|own| own.delivered).collect();
    let before = hall.rehearsal.sends();
    for symbol in [0, 0, 1] {
        hall.publish(symbol);
    }
    hall.settle();
    let accounts = hall.accounts.iter().zip(gathered);
    let delivered: Vec<_> = accounts
        .map(|(own, before)| own.delivered - before)
        .collect();
    assert_eq!(delivered, [2, 1, 2, 3, 3, 2]);
    assert_eq!(hall.rehearsal.sends() - before, 6, "one each");
    // The last of an audience takes it along.
    for index in [0, 2, 5] {
        let floor = &mut hall.rehearsal.floor;
        floor.drop_connection(index, CloseReason::PeerGone);
    }
    assert_eq!(hall.members(), [2]);
    hall.ask(3, r#"{"op":"unsubscribe","symbols":["B"]}"#);
    hall.ask(4, r#"{"op":"options","max_delay_ms":20}"#);
    assert!(hall.members().is_empty());
    for index in [1, 3, 4] {
        let floor = &mut hall.rehearsal.floor;
        floor.drop_connection(index, CloseReason::PeerGone);
    }
    assert!(
        hall.rehearsal.floor.audiences.known.is_empty(),
        "nothing is left behind"
    );
    assert!(
        hall.rehearsal
            .floor
            .rows
            .wanted()
            .iter()
            .all(|wanted| !wanted)
    );
}

#[test]
fn a_log_does_not_grow_while_its_members_keep_up() {
    let mut hall = Hall::new(Config::default());
    for _ in 0..2 {
        hall.seat(&["A"]);
    }
    hall.gather();
    for _ in 0..10 * LOG_KEPT {
        hall.publish(0);
        hall.settle();
        let mut logs = hall.rehearsal.floor.audiences.all.iter();
        assert!(logs.all(|(_, audience)| audience.log.len() <= LOG_KEPT));
    }
    assert_eq!(hall.members(), [2]);
}

#[test]
fn who_comes_and_goes_while_no_tick_comes_is_listed_once() {
    let mut hall = Hall::new(Config::default());
    for _ in 0..2 {
        hall.seat(&["A"]);
    }
    hall.gather();
    for _ in 0..10 {
        hall.ask(0, r#"{"op":"options","max_delay_ms":0}"#);
        hall.settle();
        assert_eq!(hall.members(), [2], "it is back with the answer");
    }
    let mut all = hall.rehearsal.floor.audiences.all.iter();
    assert!(all.all(|(_, audience)| audience.listeners.len() == 2));
}

#[test]
fn a_member_that_lags_leaves_with_a_gap_and_comes_back() {
    let config = Config {
        lag_soft_ticks: 8,
        sends_per_turn: 1,
        ..Config::default()
    };
    let mut hall = Hall::new(config);
    for _ in 0..2 {
        hall.seat(&["A"]);
    }
    hall.gather();
    assert_eq!(hall.members(), [2]);
    // Only one of them is sent to in this turn.
    for _ in 0..20 {
        hall.publish(0);
    }
    hall.turn();
    assert_eq!(
        hall.members(),
        Vec::<usize>::new(),
        "both had more than eight to get"
    );
    hall.settle();
    for account in &hall.accounts {
        assert_eq!((account.delivered, account.gapped), (1 + 1, 19));
    }
    hall.publish(0);
    hall.settle();
    assert_eq!(hall.members(), [2]);
    assert!(hall.accounts.iter().all(|account| account.last["A"] == 23));
}

/// What everyone has received, by connection.
fn delivered(hall: &Hall) -> Vec<u64> {
    hall.accounts.iter().map(|own| own.delivered).collect()
}

#[test]
fn a_budget_is_held_once_for_all_and_ends_in_its_millisecond() {
    const BUDGET: usize = 20;
    let mut hall = Hall::new(Config::default());
    for budget in [BUDGET, BUDGET, BUDGET, 0] {
        hall.seat_with_budget(&["A"], budget as u32);
    }
    hall.publish(0);
    hall.pass(2 * BUDGET);
    hall.publish(0);
    hall.pass(2 * BUDGET);
    assert_eq!(hall.members(), [3], "who has no budget is another audience");
    let (before, sends) = (delivered(&hall), hall.rehearsal.sends());
    let since = |hall: &Hall| -> Vec<u64> {
        let now = delivered(hall).into_iter().zip(&before);
        now.map(|(now, before)| now - before).collect()
    };
    hall.publish(0);
    hall.turn();
    hall.publish(0);
    hall.pass(BUDGET);
    assert_eq!(since(&hall), [0, 0, 0, 2], "still held");
    hall.turn();
    assert_eq!(since(&hall), [2, 2, 2, 2]);
    assert_eq!(hall.rehearsal.sends() - sends, 3 + 2);
    // Whoever leaves takes what is held along.
    hall.publish(0);
    hall.turn();
    hall.ask(0, r#"{"op":"options","max_delay_ms":0}"#);
    hall.settle();
    assert_eq!(since(&hall), [3, 2, 2, 3]);
    hall.pass(BUDGET);
    assert_eq!(since(&hall), [3, 3, 3, 3]);
}

#[test]
fn a_budget_ends_early_where_it_would_hold_too_much() {
    let config = Config {
        hold_bytes_max: 4 * TICK_BYTES,
        ..Config::default()
    };
    let mut hall = Hall::new(config);
    for _ in 0..2 {
        hall.seat_with_budget(&["A"], 100);
    }
    for _ in 0..2 {
        hall.publish(0);
        hall.pass(250);
    }
    assert_eq!(hall.members(), [2]);
    let before = delivered(&hall);
    for _ in 0..3 {
        hall.publish(0);
    }
    hall.turn();
    assert_eq!(delivered(&hall), before);
    // The first tick of the hold and three more are as much as may wait.
    hall.publish(0);
    hall.publish(0);
    hall.turn();
    let now = delivered(&hall).into_iter().zip(before);
    assert!(
        now.clone().all(|(now, before)| now == before + 5),
        "{now:?}"
    );
    // The first hold's end is not that of the next.
    hall.publish(0);
    let before = delivered(&hall);
    hall.pass(100);
    assert_eq!(delivered(&hall), before);
    hall.pass(2);
    assert!(delivered(&hall) > before);
}

#[test]
fn who_lags_during_a_hold_leaves_with_what_was_held() {
    let config = Config {
        lag_soft_ticks: 4,
        ..Config::default()
    };
    let mut hall = Hall::new(config);
    for _ in 0..2 {
        hall.seat_with_budget(&["A"], 20);
    }
    for _ in 0..2 {
        hall.publish(0);
        hall.pass(50);
    }
    assert_eq!(hall.members(), [2]);
    for _ in 0..5 {
        hall.publish(0);
    }
    hall.turn();
    assert!(hall.members().is_empty());
    hall.pass(50);
    assert!(hall.accounts.iter().all(|account| account.last["A"] == 8));
}

#[derive(Clone, Debug)]
enum Op {
    Publish(usize),
    Turn,
    Subscribe(u32, usize),
    Unsubscribe(u32, usize),
    Delay(u32, u32),
    Drop(u32),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let connection = 0..6_u32;
    let op = prop_oneof![
        12 => (0..SYMBOLS.len()).prop_map(Op::Publish),
        6 => Just(Op::Turn),
        2 => (connection.clone(), 0..SYMBOLS.len()).prop_map(|(own, symbol)| Op::Subscribe(own, symbol)),
        2 => (connection.clone(), 0..SYMBOLS.len()).prop_map(|(own, symbol)| Op::Unsubscribe(own, symbol)),
        1 => (connection.clone(), prop_oneof![Just(0), Just(3)]).prop_map(|(own, ms)| Op::Delay(own, ms)),
        1 => connection.prop_map(Op::Drop),
    ];
    prop::collection::vec(op, 0..200)
}

proptest! {
    /// Whoever comes, goes, lags or changes its mind: everyone's account is complete and in order.
    #[test]
    fn everyone_gets_everything_once(ops in ops(), lag_soft_ticks in 2..30_usize, sends_per_turn in 1..8_usize) {
        let config = Config { lag_soft_ticks, sends_per_turn, ..Config::default() };
        let mut hall = Hall::new(config);
        for (symbols, budget) in [(&["A"][..], 0), (&["A"], 0), (&["A"], 3), (&["A"], 3), (&["A", "B"], 3), (&["A", "B"], 3)] {
            hall.seat_with_budget(symbols, budget);
        }
        hall.settle();
        let mut present = [true; 6];
        for op in ops {
            match op {
                Op::Publish(symbol) => hall.publish(symbol),
                Op::Turn => { hall.turn(); }
                Op::Subscribe(own, symbol) if present[own as usize] => {
                    let text = format!(r#"{{"op":"subscribe","symbols":["{}"],"snapshot":false}}"#, SYMBOLS[symbol]);
                    hall.ask(own, &text);
                }
                Op::Unsubscribe(own, symbol) if present[own as usize] => {
                    let text = format!(r#"{{"op":"unsubscribe","symbols":["{}"]}}"#, SYMBOLS[symbol]);
                    hall.ask(own, &text);
                }
                Op::Delay(own, ms) if present[own as usize] => {
                    hall.ask(own, &format!(r#"{{"op":"options","max_delay_ms":{ms}}}"#));
                }
                Op::Drop(own) if present[own as usize] => {
                    present[own as usize] = false;
                    hall.rehearsal.floor.drop_connection(own, CloseReason::PeerGone);
                }
                _ => {}
            }
        }
        hall.settle();
        // Who lags is held once more for what conflation has left.
        hall.pass(30);
        hall.settle();
        for (index, account) in hall.accounts.iter().enumerate().filter(|(index, _)| present[*index]) {
            let connection = &hall.rehearsal.floor.connections[index];
            for (symbol, _) in connection.members.iter() {
                let name = hall.rehearsal.floor.rows.name(*symbol).to_string();
                let number = SYMBOLS.iter().position(|own| *own == name).unwrap();
                prop_assert_eq!(account.last[&name], hall.published[number], "{} of {}", name, index);
            }
        }
    }
}
