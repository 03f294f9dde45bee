use tickwire_proto::{
    reply::GapReason,
    sbe::entry::{Item, decode_entry},
    symbol::Symbol,
    tick::{Body, Channel, Values},
};

use super::*;
use crate::tape::{self, TapeOptions, Writer};

const HOST: u64 = 5;
const WALL_NS: u64 = 1_700_000_000_000_000_000;
const LIMITS: Limits = Limits {
    batch_bytes: 4_096,
    queue: 8,
    backlog: 32,
};

struct Follower {
    writer: Writer,
    outgoing: Outgoing,
}

impl Follower {
    fn new(limits: Limits) -> Self {
        let options = TapeOptions {
            slots: 64,
            symbols_max: 8,
            id: 1,
        };
        let (writer, tape) = tape::create(options).unwrap();
        let shard = Shard { number: 0, of: 1 };
        let mut outgoing = Outgoing::new(HOST, shard, tape, limits, at(0));
        outgoing.stamp(WALL_NS, true);
        Self { writer, outgoing }
    }

    /// One that has said hello already.
    fn met(limits: Limits) -> Self {
        let mut follower = Self::new(limits);
        follower.outgoing.run_due(at(0));
        follower.sent();
        follower
    }

    fn push(&mut self, origin: Origin, name: &str, event: Event) {
        let id = self.writer.intern(symbol(name)).unwrap();
        self.writer.push_from(origin, id, 7, 0, event);
    }

    fn carried(&mut self, name: &str) {
        let carried = Event::Carried(Some(Numbering::Source));
        self.push(Origin::Here, name, carried);
    }

    fn tick(&mut self, origin: Origin, name: &str, seq: u64) {
        self.push(origin, name, tick(seq));
    }

    /// Everything that is to be sent, confirmed at once.
    fn sent(&mut self) -> Vec<(Head, Vec<Item>)> {
        let mut sent = Vec::new();
        while let Some(sealed) = self.outgoing.send_next() {
            sent.push(decode_entry(&sealed).unwrap());
            self.outgoing.confirm();
        }
        sent
    }

    /// What one entry says after the tape was followed to its end.
    fn said(&mut self, now: u64) -> Vec<Item> {
        assert!(!self.outgoing.take(at(now)));
        self.outgoing.run_due(at(now));
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0).1
    }
}

fn at(ms: u64) -> Millis {
    Millis::new(ms)
}

fn symbol(name: &str) -> Symbol {
    Symbol::parse(name).unwrap()
}

fn tick(seq: u64) -> Event {
    Event::Tick {
        seq,
        ts_ns: seq,
        values: Values {
            price_exponent: 0,
            size_exponent: 0,
            body: Body::Trade {
                price: seq as i64,
                size: None,
                side: None,
            },
        },
    }
}

fn gap(from: u64, to: u64) -> Event {
    Event::Gap {
        channel: Channel::Trade,
        from,
        to,
        reason: GapReason::Source,
    }
}

/// An item in short: what is placed before it, a tick's seq, a gap's ends, a feed.
fn short(items: &[Item]) -> Vec<String> {
    let short = items.iter().map(|item| match item {
        Item::Carried(carried) => {
            let trade = carried.placed[0].map_or("none".to_owned(), |seq| seq.to_string());
            format!("{} from {trade}", carried.symbol)
        }
        Item::Tick(tick) => tick.identity.seq.to_string(),
        Item::Gap(gap) => format!("{}–{}", gap.from.unwrap(), gap.to.unwrap()),
        Item::Feed { state, .. } => state.as_str().to_owned(),
    });
    short.collect()
}

#[test]
fn a_host_says_hello_with_its_roll_and_asks_for_those_of_the_others() {
    let mut follower = Follower::new(LIMITS);
    follower.outgoing.run_due(at(0));
    let sent = follower.sent();
    let head = Head {
        host: HOST,
        number: 1,
        shards: 1,
        is_roll: true,
        asks: true,
        hears: true,
        sent_ns: WALL_NS,
    };
    assert_eq!(sent, [(head, Vec::new())]);
}

#[test]
fn what_this_hosts_publishers_send_goes_out_and_nothing_else() {
    let mut follower = Follower::met(LIMITS);
    follower.carried("A");
    follower.tick(Origin::Here, "A", 1);
    follower.tick(Origin::Elsewhere, "A", 2);
    follower.push(Origin::Here, "A", gap(3, 4));
    follower.tick(Origin::Here, "A", 5);
    follower.tick(Origin::Elsewhere, "B", 9);
    follower.push(Origin::Here, "A", Event::Carried(None));
    let said = short(&follower.said(10));
    assert_eq!(said, ["A from none", "live", "1", "3–4", "5", "stale"]);
}

#[test]
fn an_entry_says_what_was_placed_before_it() {
    let mut follower = Follower::met(LIMITS);
    follower.carried("A");
    follower.tick(Origin::Here, "A", 1);
    follower.said(10);
    follower.tick(Origin::Elsewhere, "A", 2);
    follower.tick(Origin::Here, "A", 3);
    assert_eq!(short(&follower.said(20)), ["A from 2", "3"]);
}

#[test]
fn a_full_entry_goes_by_itself_and_the_rest_when_there_is_nothing_else() {
    let mut follower = Follower::met(Limits {
        batch_bytes: 200,
        ..LIMITS
    });
    follower.carried("A");
    for seq in 1..=5 {
        follower.tick(Origin::Here, "A", seq);
    }
    follower.outgoing.take(at(11));
    let seqs = |sent: &[(Head, Vec<Item>)]| -> Vec<usize> {
        sent.iter().map(|(_, items)| items.len()).collect()
    };
    let sent = follower.sent();
    assert_eq!(seqs(&sent), [4, 3], "named, live and two; named and two");
    follower.outgoing.run_due(at(13));
    assert_eq!(seqs(&follower.sent()), [2]);
}

#[test]
fn a_full_queue_leaves_the_rest_on_the_tape() {
    let mut follower = Follower::met(Limits {
        batch_bytes: 1,
        queue: 2,
        ..LIMITS
    });
    follower.carried("A");
    for seq in 1..=3 {
        follower.tick(Origin::Here, "A", seq);
    }
    assert!(follower.outgoing.take(at(10)), "there is more");
    assert_eq!(
        (follower.outgoing.queued(), follower.outgoing.behind()),
        (2, 2)
    );
    follower.sent();
    assert!(!follower.outgoing.take(at(11)));
    let said: Vec<_> = follower
        .sent()
        .iter()
        .map(|(_, items)| short(items))
        .collect();
    assert_eq!(said, [["A from 1", "2"], ["A from 2", "3"]]);
}

#[test]
fn what_was_not_confirmed_is_sent_again_under_the_same_number() {
    let mut follower = Follower::met(LIMITS);
    follower.carried("A");
    follower.outgoing.take(at(10));
    follower.outgoing.run_due(at(12));
    let first = follower.outgoing.send_next().unwrap();
    assert_eq!(follower.outgoing.send_next(), None);
    follower.outgoing.send_again();
    assert_eq!(follower.outgoing.send_next(), Some(first));
    follower.outgoing.confirm();
    follower.outgoing.send_again();
    assert_eq!(follower.outgoing.send_next(), None);
    follower.outgoing.confirm();
    assert_eq!(follower.outgoing.queued(), 0, "nothing is confirmed unsent");
}

#[test]
fn a_host_that_has_nothing_to_say_says_that_it_lives() {
    let mut follower = Follower::met(LIMITS);
    follower.outgoing.run_due(at(BEAT_MS - 1));
    assert!(follower.sent().is_empty());
    follower.outgoing.run_due(at(BEAT_MS));
    let sent = follower.sent();
    assert_eq!((sent.len(), sent[0].0.number), (1, 2));
    assert!(sent[0].1.is_empty());
}

#[test]
fn a_roll_names_all_that_is_carried_and_how_far_it_has_come() {
    let mut follower = Follower::met(LIMITS);
    for name in ["A", "B", "C"] {
        follower.carried(name);
    }
    follower.tick(Origin::Here, "A", 4);
    follower.push(Origin::Here, "B", Event::Carried(None));
    follower.said(10);
    follower.outgoing.owe_roll(at(1_000));
    assert_eq!(follower.outgoing.due(), at(1_000));
    follower.outgoing.run_due(at(1_000));
    let sent = follower.sent();
    assert!(sent[0].0.is_roll && !sent[0].0.asks);
    assert_eq!(short(&sent[0].1), ["A from 4", "C from none"]);
    follower.outgoing.owe_roll(at(1_001));
    follower.outgoing.run_due(at(1_001));
    assert!(follower.sent().is_empty(), "not twice within a second");
}

#[test]
fn beyond_the_backlog_records_are_dropped_and_the_roll_shows_it() {
    let mut follower = Follower::met(LIMITS);
    follower.carried("A");
    for seq in 1..=200 {
        follower.tick(Origin::Here, "A", seq);
    }
    assert!(!follower.outgoing.take(at(10)));
    assert_eq!(follower.outgoing.dropped(), 201 - LIMITS.backlog / 2);
    follower.outgoing.run_due(at(12));
    let sent = follower.sent();
    let first = short(&sent[0].1);
    assert_eq!(first[..2], ["A from 184", "185"]);
    assert_eq!(first.len(), 1 + LIMITS.backlog as usize / 2);
    follower.outgoing.run_due(at(1_000));
    let sent = follower.sent();
    assert!(sent[0].0.is_roll);
    assert_eq!(short(&sent[0].1), ["A from 200"]);
}

#[test]
fn what_was_published_goes_out_though_its_publisher_has_left() {
    let mut follower = Follower::met(LIMITS);
    follower.carried("A");
    follower.tick(Origin::Here, "A", 1);
    follower.push(Origin::Here, "A", Event::Carried(None));
    // Held behind a hole when its publisher left.
    follower.tick(Origin::Here, "A", 3);
    let said = short(&follower.said(10));
    assert_eq!(said, ["A from none", "live", "1", "stale", "3", "stale"]);
}

#[test]
fn who_gives_a_symbol_up_and_takes_it_again_names_it_again() {
    let mut follower = Follower::met(LIMITS);
    follower.carried("A");
    follower.push(Origin::Here, "A", Event::Carried(None));
    follower.carried("A");
    let said = short(&follower.said(10));
    assert_eq!(
        said,
        ["A from none", "live", "stale", "A from none", "live"]
    );
}

#[test]
fn last_ticks_are_kept_once_they_have_changed() {
    let mut follower = Follower::met(LIMITS);
    follower.carried("A");
    follower.carried("B");
    follower.tick(Origin::Here, "A", 4);
    follower.tick(Origin::Elsewhere, "A", 5);
    follower.tick(Origin::Elsewhere, "C", 1);
    follower.said(10);
    let kept = follower.outgoing.changed(8);
    let names: Vec<_> = kept.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, [symbol("A")]);
    let (head, items) = decode_entry(&kept[0].1).unwrap();
    assert_eq!((head.host, head.number, head.sent_ns), (HOST, 0, WALL_NS));
    assert_eq!(short(&items), ["A from 4", "5", "live"]);
    assert!(follower.outgoing.is_kept());
    assert!(follower.outgoing.changed(8).is_empty());
    follower.outgoing.keep_again();
    assert!(!follower.outgoing.is_kept());
    assert_eq!(follower.outgoing.changed(8).len(), 1, "B has no tick");
    // The last before its publisher left counts as well.
    follower.tick(Origin::Here, "A", 6);
    follower.push(Origin::Here, "A", Event::Carried(None));
    follower.said(20);
    let kept = follower.outgoing.changed(8);
    let (_, items) = decode_entry(&kept[0].1).unwrap();
    assert_eq!(short(&items), ["A from 5", "6", "stale"]);
}

#[test]
fn who_carries_a_symbol_says_how_far_others_had_brought_it() {
    let mut follower = Follower::met(LIMITS);
    for seq in 1..=3 {
        follower.tick(Origin::Elsewhere, "A", seq);
    }
    follower.carried("A");
    assert_eq!(short(&follower.said(10)), ["A from 3", "live"]);
}

#[test]
fn whose_ticks_others_carry_on_keeps_them_no_more() {
    let mut follower = Follower::met(LIMITS);
    follower.carried("A");
    follower.tick(Origin::Here, "A", 1);
    follower.push(Origin::Here, "A", Event::Carried(None));
    follower.said(10);
    assert_eq!(follower.outgoing.changed(8).len(), 1);
    follower.tick(Origin::Elsewhere, "A", 2);
    follower.outgoing.take(at(20));
    assert!(follower.outgoing.is_kept() && follower.outgoing.changed(8).is_empty());
    follower.outgoing.keep_again();
    assert!(follower.outgoing.changed(8).is_empty());
}
