//! Several hosts' ingests, bridged without Redis: whatever one of them sends reaches the others in
//! order, late, twice or not at all.

use std::sync::Arc;

use proptest::prelude::*;
use tickwire_proto::{
    code::ErrorCode,
    price::Decimal,
    reply::GapReason,
    sbe::entry::decode_entry,
    tick::{Identity, Values},
};

use super::*;
use crate::{
    bridge::{Incoming, Limits, Outgoing, Taken},
    ingest::SequencerOptions,
    tape::{self, Event, Position, Tape, TapeOptions},
};

const SHARD: Shard = Shard { number: 0, of: 1 };
const WALL_NS: u64 = 1_700_000_000_000_000_000;
const LIMITS: Limits = Limits {
    batch_bytes: 1_024,
    queue: 1_024,
    backlog: 1 << 12,
};

struct Host {
    sequencer: Sequencer,
    hosts: Hosts,
    tape: Arc<Tape>,
    outgoing: Outgoing,
    incoming: Incoming,
    /// How many entries of the stream it has read.
    read: usize,
}

/// Hosts, and the stream between them.
struct World {
    hosts: Vec<Host>,
    stream: Vec<Vec<u8>>,
    now: Millis,
}

impl World {
    fn new(count: u64) -> Self {
        let now = Millis::new(0);
        let hosts = (0..count)
            .map(|number| {
                let options = TapeOptions {
                    slots: 1 << 12,
                    symbols_max: 8,
                    id: number,
                };
                let (writer, tape) = tape::create(options).unwrap();
                let options = SequencerOptions {
                    arbitration_ms: 20,
                    held_max: 64,
                    // Each started a second after the one before.
                    start_ms: 1_700_000_000_000 + 1_000 * number,
                    is_bridged: true,
                };
                Host {
                    sequencer: Sequencer::new(writer, options),
                    hosts: Hosts::default(),
                    outgoing: Outgoing::new(number, SHARD, Arc::clone(&tape), LIMITS, now),
                    tape,
                    incoming: Incoming::new(number, 1, 8),
                    read: 0,
                }
            })
            .collect();
        Self {
            hosts,
            stream: Vec::new(),
            now,
        }
    }

    /// Hosts of which the first has published the first tick, and which have all called their rolls.
    fn met(count: u64) -> Self {
        let mut world = Self::new(count);
        world.numbered(0, 7, 1);
        for _ in 0..3 {
            world.exchange();
            world.pass(1_000);
        }
        for host in &mut world.hosts {
            host.incoming.take_need();
        }
        world
    }

    fn publish(&mut self, host: usize, identity: Option<Identity>) -> Verdict {
        let price = Decimal::parse("1").unwrap();
        let tick = PublishedTick {
            symbol: symbol(),
            identity,
            ts_ns: Some(1),
            values: Values::trade(price, None, None).unwrap(),
        };
        let source = SourceId(1);
        let sequencer = &mut self.hosts[host].sequencer;
        sequencer.submit(source, 1, &tick, self.now, WALL_NS)
    }

    fn numbered(&mut self, host: usize, epoch: u64, seq: u64) -> Verdict {
        self.publish(host, Some(Identity { epoch, seq }))
    }

    /// What a host has to say goes into the stream.
    fn send(&mut self, host: usize) {
        let outgoing = &mut self.hosts[host].outgoing;
        while outgoing.take(self.now) {}
        outgoing.run_due(self.now);
        while let Some(sealed) = outgoing.send_next() {
            self.stream.push(sealed.to_vec());
            outgoing.confirm();
        }
    }

    /// A host reads the stream to its end.
    fn receive(&mut self, host: usize) {
        let own = &mut self.hosts[host];
        while let Some(bytes) = self.stream.get(own.read) {
            own.read += 1;
            if let Taken::New(arrivals) = own.incoming.take(bytes, self.now, WALL_NS).unwrap() {
                for arrival in arrivals {
                    let sequencer = &mut own.sequencer;
                    own.hosts.take(sequencer, SHARD, arrival, self.now, WALL_NS);
                }
            }
        }
        if own.incoming.take_asked() {
            own.outgoing.owe_roll(self.now);
        }
    }

    fn exchange(&mut self) {
        for host in 0..self.hosts.len() {
            self.send(host);
        }
        for host in 0..self.hosts.len() {
            self.receive(host);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.after(ms);
        for host in &mut self.hosts {
            host.sequencer.expire(self.now, WALL_NS);
        }
    }

    /// What a host's tape says of the symbol, in short.
    fn written(&self, host: usize) -> Vec<Short> {
        let tape = &self.hosts[host].tape;
        (0..tape.head().0)
            .filter_map(|at| {
                let record = tape.read(Position(at)).unwrap();
                match record.event {
                    Event::Tick { seq, .. } => Some(Short::Tick(record.epoch, seq)),
                    Event::Gap {
                        from, to, reason, ..
                    } => Some(Short::Gap(from, to, reason)),
                    Event::Feed(state) => Some(Short::Feed(state)),
                    Event::Carried(_) => None,
                }
            })
            .collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Short {
    Tick(u64, u64),
    Gap(u64, u64, GapReason),
    Feed(FeedState),
}

use FeedState::{Live, Stale};
use Short::{Feed, Gap, Tick};

fn symbol() -> Symbol {
    Symbol::parse("AAPL").unwrap()
}

#[test]
fn what_one_host_publishes_stands_on_all_tapes_alike() {
    let mut world = World::new(3);
    for seq in [1, 2, 5] {
        world.numbered(0, 7, seq);
    }
    world.exchange();
    let expected = [
        Feed(Live),
        Tick(7, 1),
        Tick(7, 2),
        Gap(3, 4, GapReason::Source),
        Tick(7, 5),
    ];
    for host in 0..3 {
        assert_eq!(world.written(host), expected, "host {host}");
    }
}

#[test]
fn nothing_that_came_from_elsewhere_goes_out_again() {
    let mut world = World::new(3);
    world.exchange();
    world.numbered(0, 7, 1);
    let before = world.stream.len();
    for _ in 0..5 {
        world.exchange();
    }
    let ticks = world.stream[before..].iter().flat_map(|bytes| {
        let (_, items) = decode_entry(bytes).unwrap();
        items
            .into_iter()
            .filter(|item| matches!(item, Item::Tick(_)))
    });
    assert_eq!(ticks.count(), 1);
}

#[test]
fn only_what_was_published_here_is_news_for_the_bridge() {
    let mut world = World::met(2);
    let has_news = |world: &mut World| {
        let hosts = world.hosts.iter_mut();
        let news = hosts.map(|host| host.sequencer.take_own());
        news.collect::<Vec<_>>()
    };
    has_news(&mut world);
    let before = world.hosts[1].tape.head();
    world.numbered(0, 7, 2);
    world.exchange();
    assert!(world.hosts[1].tape.head() > before);
    assert_eq!(has_news(&mut world), [true, false]);
    assert_eq!(has_news(&mut world), [false, false]);
    // A hole is a gap once nobody has it, and the last publisher leaves.
    world.numbered(0, 7, 4);
    world.pass(1_000);
    assert_eq!(has_news(&mut world), [true, false]);
    world.hosts[0].sequencer.leave(SourceId(1), WALL_NS);
    assert_eq!(has_news(&mut world), [true, false]);
    // One that has a symbol of another host's says so.
    world.numbered(1, 7, 4);
    assert_eq!(has_news(&mut world), [false, true]);
}

#[test]
fn a_symbol_is_stale_everywhere_once_its_last_host_has_it_no_longer() {
    let mut world = World::new(2);
    world.numbered(0, 7, 1);
    world.numbered(1, 7, 1);
    world.exchange();
    world.exchange();
    world.hosts[0].sequencer.leave(SourceId(1), WALL_NS);
    world.exchange();
    for host in 0..2 {
        assert_eq!(world.written(host), [Feed(Live), Tick(7, 1)], "host {host}");
    }
    world.hosts[1].sequencer.leave(SourceId(1), WALL_NS);
    world.exchange();
    for host in 0..2 {
        assert_eq!(world.written(host)[2..], [Feed(Stale)], "host {host}");
    }
}

#[test]
fn an_entry_that_is_lost_is_told_as_a_gap_of_the_bridge() {
    let mut world = World::met(2);
    for seq in 2..=4 {
        world.numbered(0, 7, seq);
    }
    world.send(0);
    world.stream.pop();
    world.numbered(0, 7, 5);
    world.exchange();
    let expected = [
        Feed(Live),
        Tick(7, 1),
        Gap(2, 4, GapReason::Bridge),
        Tick(7, 5),
    ];
    assert_eq!(world.written(1), expected);
    assert!(world.hosts[1].incoming.take_need());
}

#[test]
fn a_roll_tells_of_lost_ticks_that_nothing_followed() {
    let mut world = World::met(2);
    world.numbered(0, 7, 2);
    world.send(0);
    world.stream.pop();
    world.hosts[0].outgoing.owe_roll(world.now);
    world.exchange();
    assert_eq!(
        world.written(1),
        [Feed(Live), Tick(7, 1), Gap(2, 2, GapReason::Bridge)]
    );
}

#[test]
fn an_epoch_whose_end_was_lost_ends_with_a_gap_and_the_next_begins_with_one() {
    let mut world = World::met(2);
    world.numbered(0, 7, 2);
    world.exchange();
    // Of the next epoch, which begins with 5, too.
    for (epoch, seq) in [(7, 3), (7, 4), (9, 5), (9, 6)] {
        world.numbered(0, epoch, seq);
    }
    world.send(0);
    world.stream.pop();
    world.numbered(0, 9, 7);
    world.exchange();
    let bridge = GapReason::Bridge;
    let expected = [Gap(3, 4, bridge), Gap(5, 6, bridge), Tick(9, 7)];
    assert_eq!(world.written(1)[3..], expected);
}

#[test]
fn who_comes_within_an_epoch_lacks_nothing_of_it() {
    let mut world = World::new(2);
    for seq in 1..=3 {
        world.numbered(0, 7, seq);
    }
    world.send(0);
    world.stream.clear();
    world.numbered(0, 7, 4);
    world.exchange();
    assert_eq!(world.written(1), [Feed(Live), Tick(7, 4)]);
}

#[test]
fn a_numbering_that_came_from_elsewhere_leaves_with_its_host() {
    let mut world = World::new(2);
    assert_eq!(world.publish(0, None), Verdict::Accepted);
    // Not knowing of that, its publishers number it, in a higher epoch.
    let epoch = 1_800_000_000_000;
    assert_eq!(world.numbered(1, epoch, 1), Verdict::Accepted);
    world.exchange();
    let refused = world.publish(0, None);
    assert!(
        matches!(refused, Verdict::Refused(refusal) if refusal.code == ErrorCode::MixedNumbering),
        "{refused:?}"
    );
    world.exchange();
    world.hosts[1].sequencer.leave(SourceId(1), WALL_NS);
    world.exchange();
    assert_eq!(
        world.written(1).last(),
        Some(&Feed(Stale)),
        "nobody carries it"
    );
    assert_eq!(world.publish(0, None), Verdict::Accepted);
    world.exchange();
    for host in 0..2 {
        let written = world.written(host);
        let last = written.iter().rfind(|short| matches!(short, Tick(..)));
        assert_eq!(last, Some(&Tick(epoch + 1, 1)), "host {host}");
    }
}

#[test]
fn what_waits_for_another_host_is_settled_at_the_end() {
    let mut world = World::new(2);
    world.numbered(0, 7, 1);
    world.numbered(1, 7, 1);
    world.exchange();
    world.exchange();
    assert_eq!(world.numbered(0, 7, 3), Verdict::Held);
    let sequencer = &mut world.hosts[0].sequencer;
    sequencer.leave(SourceId(1), WALL_NS);
    sequencer.settle_all(WALL_NS);
    world.exchange();
    world.pass(20);
    let expected = [Gap(2, 2, GapReason::Source), Tick(7, 3)];
    assert_eq!(world.written(1)[2..], expected);
}

#[test]
fn a_host_that_falls_silent_leaves_its_symbols_stale_and_its_roll_brings_them_back() {
    let mut world = World::met(2);
    world.pass(3_000);
    let receiver = &mut world.hosts[1];
    for arrival in receiver.incoming.silent(world.now) {
        let sequencer = &mut receiver.sequencer;
        let hosts = &mut receiver.hosts;
        hosts.take(sequencer, SHARD, arrival, world.now, WALL_NS);
    }
    assert_eq!(world.written(1)[2..], [Feed(Stale)]);
    // A beat is no roll.
    world.send(0);
    world.receive(1);
    assert!(world.hosts[1].incoming.take_need());
    world.hosts[0].outgoing.owe_roll(world.now);
    world.exchange();
    assert_eq!(world.written(1)[2..], [Feed(Stale), Feed(Live)]);
}

#[test]
fn redundant_publishers_on_two_hosts_fill_each_others_holes() {
    let mut world = World::new(3);
    world.numbered(0, 7, 1);
    world.numbered(1, 7, 1);
    world.exchange();
    world.exchange();
    world.numbered(0, 7, 3);
    world.numbered(1, 7, 2);
    world.numbered(1, 7, 3);
    world.exchange();
    world.exchange();
    world.pass(20);
    for host in 0..3 {
        assert_eq!(
            world.written(host),
            [Feed(Live), Tick(7, 1), Tick(7, 2), Tick(7, 3)],
            "host {host}"
        );
    }
}

#[test]
fn who_started_later_numbers_a_symbol_that_two_hosts_would() {
    let mut world = World::new(2);
    assert_eq!(world.publish(0, None), Verdict::Accepted);
    world.exchange();
    assert_eq!(world.publish(1, None), Verdict::Accepted, "it takes over");
    world.exchange();
    let refused = world.publish(0, None);
    assert!(
        matches!(refused, Verdict::Refused(refusal) if refusal.code == ErrorCode::NotOwner),
        "{refused:?}"
    );
    let epochs = [1_700_000_000_000, 1_700_000_001_000];
    for host in 0..2 {
        let ticks: Vec<_> = world.written(host);
        assert_eq!(
            ticks,
            [Feed(Live), Tick(epochs[0], 1), Tick(epochs[1], 1)],
            "host {host}"
        );
    }
    // Its roll does not claim what it has lost.
    for _ in 0..3 {
        world.pass(1_000);
        world.hosts[0].outgoing.owe_roll(world.now);
        world.exchange();
    }
    assert_eq!(world.publish(1, None), Verdict::Accepted);
    assert_eq!(world.written(1).last(), Some(&Tick(epochs[1], 2)));
    world.exchange();
    // Once the other one has it no longer, this one goes on in a new epoch.
    world.hosts[1].sequencer.leave(SourceId(1), WALL_NS);
    world.exchange();
    assert_eq!(world.publish(0, None), Verdict::Accepted);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The next tick reaches one of two hosts, both, or neither.
    Publish { first: bool, second: bool },
    /// A host sends what it has.
    Send(usize),
    /// A host reads the stream.
    Receive(usize),
    /// The newest entry of the stream is lost.
    Lose,
    /// Time passes.
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (any::<bool>(), any::<bool>())
            .prop_map(|(first, second)| Step::Publish { first, second }),
        3 => (0..3usize).prop_map(Step::Send),
        3 => (0..3usize).prop_map(Step::Receive),
        1 => Just(Step::Lose),
        2 => (0..30u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn on_every_host_ticks_and_gaps_account_for_what_was_published(steps in steps()) {
        let mut world = World::new(3);
        // Both publishers and all hosts know of each other before the first loss.
        let mut seq = 1;
        world.numbered(0, 7, seq);
        world.numbered(1, 7, seq);
        world.exchange();
        world.exchange();
        let mut last = seq;
        for step in steps {
            match step {
                Step::Publish { first, second } => {
                    seq += 1;
                    if first {
                        world.numbered(0, 7, seq);
                    }
                    if second {
                        world.numbered(1, 7, seq);
                    }
                    if first || second {
                        last = seq;
                    }
                }
                Step::Send(host) => world.send(host),
                Step::Receive(host) => world.receive(host),
                Step::Lose => {
                    // Of what nobody has read yet.
                    let unread = world.stream.len();
                    if world.hosts.iter().all(|host| host.read < unread) {
                        world.stream.pop();
                    }
                }
                Step::Pass(ms) => world.pass(ms),
            }
        }
        // All is sent and read, with rolls for what was lost at the end.
        for _ in 0..3 {
            // A roll is not called twice within a second.
            world.pass(1_000);
            let now = world.now;
            for host in &mut world.hosts {
                host.outgoing.owe_roll(now);
            }
            world.exchange();
        }
        world.pass(20);
        for host in 0..3 {
            let mut accounted = 0;
            for short in world.written(host) {
                let (from, to) = match short {
                    Tick(_, seq) => (seq, seq),
                    Gap(from, to, _) => (from, to),
                    Feed(_) => continue,
                };
                prop_assert_eq!(from, accounted + 1, "host {}: {:?}", host, world.written(host));
                accounted = to;
            }
            prop_assert_eq!(accounted, last, "host {}", host);
        }
    }

    #[test]
    fn over_epochs_one_publisher_is_accounted_for(
        steps in prop::collection::vec((0..5u8, 1..4u64), 1..80)
    ) {
        let mut world = World::met(2);
        let (mut epoch, mut seq) = (7, 1);
        // First and last seq of each epoch.
        let mut epochs = vec![(7, 1, 1)];
        let mut is_whole = true;
        for (kind, number) in steps {
            match kind {
                // Lost entries between two new epochs leave no trace of the one between.
                0 if is_whole => {
                    epoch += 1;
                    seq = number;
                    epochs.push((epoch, seq, seq));
                    world.numbered(0, epoch, seq);
                    is_whole = false;
                }
                0 | 1 => {
                    seq += 1;
                    world.numbered(0, epoch, seq);
                    epochs.last_mut().unwrap().2 = seq;
                }
                2 => world.send(0),
                3 => {
                    world.receive(1);
                    world.pass(number);
                }
                _ => {
                    if world.hosts[1].read < world.stream.len() {
                        world.stream.pop();
                    }
                }
            }
            if kind == 3 {
                let known = world.written(1).iter().any(|short| matches!(short, Tick(own, _) if *own == epoch));
                is_whole |= known;
            }
        }
        for _ in 0..3 {
            world.pass(1_000);
            world.hosts[0].outgoing.owe_roll(world.now);
            world.exchange();
        }
        let mut accounted: Vec<(u64, u64, u64)> = Vec::new();
        let tape = &world.hosts[1].tape;
        for at in 0..tape.head().0 {
            let record = tape.read(Position(at)).unwrap();
            if record.channel().is_none() {
                continue;
            }
            match accounted.last_mut() {
                Some((epoch, _, last)) if *epoch == record.epoch => {
                    prop_assert_eq!(record.first_seq(), *last + 1);
                    *last = record.last_seq();
                }
                _ => accounted.push((record.epoch, record.first_seq(), record.last_seq())),
            }
        }
        prop_assert_eq!(accounted, epochs);
    }
}
