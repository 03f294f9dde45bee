//! One tick to all who subscribe to its symbol, until it lies in each one's buffer, ready to be sent.
//!
//! `tickwire` is a whole turn of a floor, with its deadlines, cursors and counters; sends reach nobody.
//! The others do the least that one would write: each finds the subscribers by the symbol's name,
//! shares one frame between them, and copies it into the buffer of each. `tokio_broadcast` has a
//! channel a symbol, `queues` a queue a subscriber. None of them notices slow subscribers.

use std::{
    collections::{HashMap, VecDeque},
    hint::black_box,
    sync::Arc,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tickwire_benches::{quote, short, symbol};
use tickwire_engine::{Rehearsal, config::Config};
use tickwire_proto::{
    frame::{self, Opcode},
    json,
    symbol::Symbol,
    tick::{Marks, Tick},
    upgrade::Subprotocol,
};
use tokio::sync::broadcast;

/// A tick as it goes out, shared by all who get it.
type Frame = Arc<[u8]>;

/// Who follows what.
struct Audience {
    name: &'static str,
    symbols: usize,
    subscribers: usize,
    /// Symbols that each subscriber follows.
    each: usize,
}

const AUDIENCES: [Audience; 2] = [
    Audience {
        name: "hot",
        symbols: 1,
        subscribers: 200,
        each: 1,
    },
    Audience {
        name: "watchlist",
        symbols: 250,
        subscribers: 500,
        each: 10,
    },
];

impl Audience {
    fn symbols(&self) -> Vec<Symbol> {
        let name = |at| symbol(&format!("S{at:04}"));
        (0..self.symbols).map(name).collect()
    }

    /// The symbols of one subscriber, by their place.
    fn of(&self, subscriber: usize) -> impl Iterator<Item = usize> {
        (0..self.each).map(move |at| (subscriber * 7 + at * 31) % self.symbols)
    }

    /// Deliveries per tick, on average.
    fn deliveries(&self) -> usize {
        self.subscribers * self.each / self.symbols
    }
}

/// A market that hands out one tick after the other, of each symbol in turn.
struct Market {
    symbols: Vec<Symbol>,
    next: u64,
}

impl Market {
    fn next(&mut self) -> Tick {
        let mut tick = quote();
        tick.symbol = self.symbols[self.next as usize % self.symbols.len()];
        tick.identity.seq = 1 + self.next / self.symbols.len() as u64;
        self.next += 1;
        black_box(tick)
    }
}

fn fan_out(criterion: &mut Criterion) {
    for audience in &AUDIENCES {
        let mut group = criterion.benchmark_group(format!("fan_out_{}", audience.name));
        group.throughput(Throughput::Elements(audience.deliveries() as u64));
        let market = || Market {
            symbols: audience.symbols(),
            next: 0,
        };
        let (mut ours, mut ticks) = (floor(audience), market());
        let before = ours.delivered();
        group.bench_function("tickwire", |bencher| {
            bencher.iter(|| turn(&mut ours, &ticks.next()));
        });
        let expected = ticks.next * audience.deliveries() as u64;
        let delivered = ours.delivered() - before;
        assert_eq!(delivered, expected, "everybody got every tick");
        let (mut channels, mut ticks) = (Channels::new(audience), market());
        group.bench_function("tokio_broadcast", |bencher| {
            bencher.iter(|| channels.deliver(&ticks.next()));
        });
        let (mut queues, mut ticks) = (Queues::new(audience), market());
        group.bench_function("queues", |bencher| {
            bencher.iter(|| queues.deliver(&ticks.next()));
        });
        group.finish();
    }
}

fn floor(audience: &Audience) -> Rehearsal {
    // Nobody here answers a ping.
    let config = Config {
        ping_idle_s: 1_000_000_000,
        tape_slots: 1 << 14,
        ..Config::default()
    };
    let mut floor = Rehearsal::new(config).expect("there is memory");
    let symbols = audience.symbols();
    for name in &symbols {
        let tick = quote();
        floor
            .publish(*name, tick.ts_ns, tick.values)
            .expect("there is room");
    }
    for subscriber in 0..audience.subscribers {
        let own = audience.of(subscriber).map(|at| symbols[at]);
        floor
            .seat(Subprotocol::Json, own, 0)
            .expect("there are files");
    }
    while floor.turn().expect("it cannot fail") {}
    floor
}

fn turn(floor: &mut Rehearsal, tick: &Tick) {
    floor
        .publish(tick.symbol, tick.ts_ns, tick.values)
        .expect("there is room");
    while floor.turn().expect("it cannot fail") {}
}

fn framed(tick: &Tick) -> Frame {
    let mut frame = Vec::with_capacity(256);
    frame::write_with(&mut frame, Opcode::Text, |out| {
        json::write_tick(out, tick, &Marks::default());
    });
    frame.into()
}

/// One subscription.
struct Receiver {
    channel: broadcast::Receiver<Frame>,
    subscriber: usize,
}

/// A channel a symbol with its receivers, and a buffer a subscriber.
struct Channels {
    senders: HashMap<String, broadcast::Sender<Frame>>,
    receivers: HashMap<String, Vec<Receiver>>,
    buffers: Vec<Vec<u8>>,
}

impl Channels {
    fn new(audience: &Audience) -> Self {
        let names = audience.symbols();
        let mut all = Self {
            senders: HashMap::new(),
            receivers: HashMap::new(),
            buffers: vec![Vec::with_capacity(4096); audience.subscribers],
        };
        for name in &names {
            let (sender, _) = broadcast::channel(16);
            all.senders.insert(name.as_str().to_owned(), sender);
        }
        for subscriber in 0..audience.subscribers {
            for at in audience.of(subscriber) {
                let name = names[at].as_str();
                let channel = all.senders[name].subscribe();
                let receivers = all.receivers.entry(name.to_owned()).or_default();
                receivers.push(Receiver {
                    channel,
                    subscriber,
                });
            }
        }
        all
    }

    fn deliver(&mut self, tick: &Tick) {
        let name = tick.symbol.as_str();
        assert!(self.senders[name].send(framed(tick)).is_ok());
        // A runtime would wake the task of each; here each is polled where it is.
        for receiver in self.receivers.get_mut(name).into_iter().flatten() {
            let frame = receiver.channel.try_recv().expect("it was sent");
            send(&mut self.buffers[receiver.subscriber], &frame);
        }
    }
}

/// A subscriber with its queue.
#[derive(Default)]
struct Subscriber {
    queue: VecDeque<Frame>,
    buffer: Vec<u8>,
}

/// All of them, and by symbol who subscribes to it.
struct Queues {
    by_symbol: HashMap<String, Vec<usize>>,
    subscribers: Vec<Subscriber>,
}

impl Queues {
    fn new(audience: &Audience) -> Self {
        let names = audience.symbols();
        let mut by_symbol: HashMap<String, Vec<usize>> = HashMap::new();
        for subscriber in 0..audience.subscribers {
            for at in audience.of(subscriber) {
                let name = names[at].as_str().to_owned();
                by_symbol.entry(name).or_default().push(subscriber);
            }
        }
        let subscribers = (0..audience.subscribers).map(|_| Subscriber::default());
        Self {
            by_symbol,
            subscribers: subscribers.collect(),
        }
    }

    fn deliver(&mut self, tick: &Tick) {
        let frame = framed(tick);
        let wanting = &self.by_symbol[tick.symbol.as_str()];
        for &index in wanting {
            let queue = &mut self.subscribers[index].queue;
            queue.push_back(Arc::clone(&frame));
        }
        for &index in wanting {
            let Subscriber { queue, buffer } = &mut self.subscribers[index];
            while let Some(frame) = queue.pop_front() {
                send(buffer, &frame);
            }
        }
    }
}

/// A send that takes everything and reaches nobody.
fn send(buffer: &mut Vec<u8>, frame: &[u8]) {
    buffer.extend_from_slice(frame);
    black_box(&*buffer);
    buffer.clear();
}

criterion_group! {
    name = benches;
    config = short();
    targets = fan_out
}
criterion_main!(benches);
