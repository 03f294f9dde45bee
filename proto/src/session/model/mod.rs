//! A model of market, engine and caller: whatever happens to connections, the caller must end up
//! with exactly what was published, but for what it was told is missing.
//!
//! The model engine keeps the rules of the protocol by the letter and is free where they are:
//! whether a gap precedes its `start`, how far a resume overlaps, what history still reaches.

mod caller;
mod engine;

use std::collections::VecDeque;

use proptest::prelude::*;

use self::{
    caller::Caller,
    engine::{Account, Connection, Record, SYMBOLS, Tape},
};
use super::{Disconnect, Next, Options, Session};
use crate::{
    pattern::Selector,
    reply::{GapReason, Limits, Reply, Welcome},
    request::{Mode, Request},
    tick::Channel,
    upgrade::{Endpoint, Subprotocol},
};

/// So many of the symbols, the first ones, are subscribed to.
const SUBSCRIBED: usize = 3;

/// One step of a run; the numbers are reduced to what is there.
#[derive(Clone, Debug)]
enum Step {
    Publish {
        symbol: usize,
        channel: bool,
        hole: u64,
    },
    NewEpoch {
        symbol: usize,
        base: u64,
    },
    SlowConsumer {
        symbol: usize,
        channel: bool,
        ticks: u64,
    },
    Deliver {
        replies: usize,
    },
    SendCursor,
    Flush,
    Evict {
        keep: usize,
    },
    Reconnect {
        gap_first: bool,
        overlap: usize,
        cut_again_after: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let symbol = 0..SYMBOLS.len();
    prop_oneof![
        12 => (symbol.clone(), any::<bool>()).prop_map(|(symbol, channel)| Step::Publish { symbol, channel, hole: 0 }),
        2 => (symbol.clone(), any::<bool>(), 1u64..4)
            .prop_map(|(symbol, channel, hole)| Step::Publish { symbol, channel, hole }),
        1 => (symbol.clone(), 0u64..100).prop_map(|(symbol, base)| Step::NewEpoch { symbol, base }),
        1 => (symbol, any::<bool>(), 1u64..4)
            .prop_map(|(symbol, channel, ticks)| Step::SlowConsumer { symbol, channel, ticks }),
        8 => (0usize..12).prop_map(|replies| Step::Deliver { replies }),
        3 => Just(Step::SendCursor),
        3 => Just(Step::Flush),
        1 => (0usize..20).prop_map(|keep| Step::Evict { keep }),
        2 => (any::<bool>(), 0usize..10, 0usize..30).prop_map(|(gap_first, overlap, cut_again_after)| {
            Step::Reconnect { gap_first, overlap, cut_again_after }
        }),
    ]
}

/// Everything together.
struct World {
    tape: Tape,
    session: Session,
    connection: Connection,
    caller: Caller,
    limits: Limits,
    now_ms: u64,
    /// A connection broke before its first cursor came: what was published meanwhile to symbols
    /// that had not started is out of reach.
    was_blind: bool,
}

impl World {
    fn new(mode: Mode, limits: Limits) -> Self {
        let selectors = ["A", "B*", "D"].map(|text| Selector::parse(text).unwrap());
        let options = Options {
            selectors: selectors.to_vec(),
            mode,
            seed: 7,
            ..Options::default()
        };
        let mut tape = Tape::default();
        (0..SYMBOLS.len()).for_each(|symbol| tape.new_epoch(symbol, 0));
        let mut world = Self {
            tape,
            session: Session::new(options),
            connection: Self::connection(false, 0),
            caller: Caller {
                conflates: mode != Mode::Stream,
                ..Caller::default()
            },
            limits,
            now_ms: 0,
            was_blind: false,
        };
        world.connect(false, 0);
        world
    }

    fn connection(gap_first: bool, overlap: usize) -> Connection {
        let accounts = [Account::default(); SYMBOLS.len()];
        Connection {
            queue: VecDeque::new(),
            accounts,
            mode: Mode::Stream,
            gap_first,
            overlap,
        }
    }

    fn connect(&mut self, gap_first: bool, overlap: usize) {
        self.connection = Self::connection(gap_first, overlap);
        self.connection.queue.push_back(Reply::Welcome(Welcome {
            session: String::new(),
            protocol: Subprotocol::Json,
            heartbeat_ms: 5_000,
            token_exp: 0,
            limits: self.limits,
        }));
        self.session.connected(self.now_ms);
    }

    fn reconnect(&mut self, gap_first: bool, overlap: usize) {
        self.was_blind |= self.session.cursor().is_none();
        match self.session.disconnected(Disconnect::Io) {
            Next::ConnectAfter { ms, .. } => self.now_ms += ms,
            stop @ Next::Stop { .. } => panic!("{stop:?}"),
        }
        self.connect(gap_first, overlap);
    }

    /// Lets `replies` arrive, and what the session asks for meanwhile.
    fn deliver(&mut self, replies: usize) {
        for _ in 0..replies {
            let Some(reply) = self.connection.queue.pop_front() else {
                break;
            };
            let (caller, tape) = (&mut self.caller, &self.tape);
            self.session
                .receive(self.now_ms, reply, |event| caller.take(tape, &event));
            while let Some(request) = self.session.next_request(self.now_ms) {
                let text = request.to_json();
                assert!(text.len() <= self.limits.message_bytes as usize, "{text}");
                let read = Request::from_json(&text, Endpoint::Subscribe);
                self.connection.request(&self.tape, read.unwrap());
            }
        }
    }

    fn publish(&mut self, symbol: usize, channel: Channel, hole: u64) {
        for record in self.tape.publish(symbol, channel, hole) {
            self.connection.record(&record);
        }
    }

    /// Publishes ticks that this connection gets as a gap.
    fn publish_unseen(&mut self, symbol: usize, channel: Channel, ticks: u64) {
        let mut unseen: Vec<Record> = (0..ticks)
            .flat_map(|_| self.tape.publish(symbol, channel, 0))
            .collect();
        let account = &self.connection.accounts[symbol];
        let is_open = account.opened[channel.index()] && account.epoch == unseen[0].epoch;
        if !is_open || self.caller.conflates {
            for record in &unseen {
                self.connection.record(record);
            }
            return;
        }
        let to = unseen[unseen.len() - 1].to;
        unseen[0].to = to;
        self.connection
            .queue
            .push_back(Reply::Gap(unseen[0].gap(GapReason::SlowConsumer)));
    }

    fn step(&mut self, step: &Step) {
        let channel = |quote: bool| {
            if quote {
                Channel::Quote
            } else {
                Channel::Trade
            }
        };
        self.now_ms += 200;
        match *step {
            Step::Publish {
                symbol,
                channel: quote,
                hole,
            } => self.publish(symbol, channel(quote), hole),
            Step::NewEpoch { symbol, base } => self.tape.new_epoch(symbol, base),
            Step::SlowConsumer {
                symbol,
                channel: quote,
                ticks,
            } => {
                self.publish_unseen(symbol, channel(quote), ticks);
            }
            Step::Deliver { replies } => self.deliver(replies),
            Step::SendCursor => self.connection.send_cursor(&self.tape),
            Step::Flush => (0..SYMBOLS.len()).for_each(|symbol| self.connection.flush(symbol)),
            Step::Evict { keep } => {
                self.tape.oldest = self
                    .tape
                    .oldest
                    .max(self.tape.records.len().saturating_sub(keep));
            }
            Step::Reconnect {
                gap_first,
                overlap,
                cut_again_after,
            } => {
                self.reconnect(gap_first, overlap);
                self.deliver(cut_again_after);
                self.reconnect(!gap_first, overlap);
            }
        }
    }

    /// Lets everything arrive; then nothing published may be missing.
    fn settle(&mut self) {
        self.deliver(usize::MAX);
        (0..SYMBOLS.len()).for_each(|symbol| self.connection.flush(symbol));
        self.deliver(usize::MAX);
        for (index, name) in SYMBOLS[..SUBSCRIBED].iter().enumerate() {
            for channel in Channel::BOTH {
                let heard = &self.caller.heard[index][channel.index()];
                let epoch = self.tape.current(index);
                let end = self.tape.at_before(usize::MAX, index, channel, epoch);
                if heard.epoch == epoch && heard.open {
                    assert!(
                        Some(heard.at) >= end,
                        "{name} {channel:?} ends at {end:?}: {heard:?}"
                    );
                } else if !self.was_blind {
                    assert_eq!(end, None, "{name} {channel:?} was never opened: {heard:?}");
                }
            }
        }
    }
}

/// Without eviction and conflation, every tick must have come, or have been named as missing, but
/// for a channel that began and ended with an epoch while nobody was connected: a point of
/// another epoch brings the current one only.
fn assert_complete(world: &World) {
    if world.was_blind || world.tape.oldest > 0 {
        return;
    }
    for record in world
        .tape
        .records
        .iter()
        .filter(|record| record.is_tick && record.symbol < SUBSCRIBED)
    {
        let heard = &world.caller.heard[record.symbol][record.channel.index()];
        let identity = record.tick().identity;
        let is_out_of_reach =
            identity.epoch < heard.epoch && !heard.epochs.contains(&identity.epoch);
        assert!(
            heard.ticks.contains(&identity) || heard.is_told(identity) || is_out_of_reach,
            "{record:?}"
        );
    }
}

fn run(mode: Mode, limits: Limits, steps: &[Step]) -> World {
    let mut world = World::new(mode, limits);
    world.deliver(usize::MAX);
    for step in steps {
        world.step(step);
    }
    world.settle();
    world
}

fn limits() -> impl Strategy<Value = Limits> {
    (1u32..5, 500u32..900).prop_map(|(symbols, message_bytes)| Limits {
        symbols,
        message_bytes,
        ops_per_s: 10,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_stream_over_any_connections_is_the_published_sequence_without_its_gaps(
        limits in limits(),
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let world = run(Mode::Stream, limits, &steps);
        assert_complete(&world);
        prop_assert_eq!(world.session.totals().skipped, 0);
        prop_assert_eq!(world.session.totals().violations, 0);
    }

    #[test]
    fn a_conflated_stream_over_any_connections_accounts_for_every_seq(
        limits in limits(),
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let world = run(Mode::Conflate { interval_ms: 250 }, limits, &steps);
        prop_assert_eq!(world.session.totals().violations, 0);
    }
}

#[test]
fn the_model_exercises_what_it_is_for() {
    let publish = |symbol| Step::Publish {
        symbol,
        channel: false,
        hole: 0,
    };
    let reconnect = Step::Reconnect {
        gap_first: false,
        overlap: 3,
        cut_again_after: 2,
    };
    let all = Step::Deliver { replies: 100 };
    let world = run(
        Mode::Stream,
        Limits {
            symbols: 4,
            message_bytes: 900,
            ops_per_s: 10,
        },
        &[
            publish(0),
            publish(1),
            all.clone(),
            Step::SendCursor,
            all,
            publish(0),
            publish(2),
            reconnect,
            publish(1),
        ],
    );
    assert_eq!(world.session.totals().ticks, 5);
    assert!(world.caller.resumed > 0);
}
