//! The tape beside the queues that one would reach for instead.
//!
//! - `tape_publish`: what a record costs the writer, nobody reading. The tape also links it into its
//!   symbol's history and keeps it as a snapshot, which the others don't.
//! - `tape_take`: what a record costs a reader that is behind, the writer being silent. The tape keeps
//!   the record, the queues give it up.
//! - `tape_read`: from the first push of a batch until each of 1 or 4 readers has all of it.
//!   Queues hand each element to one reader, so there it takes one queue a reader.
//!
//! Time is per record published, of 64 symbols in turn. With more threads than cores, `tape_read`
//! measures the scheduler too.

use std::{
    hint::black_box,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::{channel, queue::ArrayQueue};
use tickwire_engine::tape::{
    Event, Origin, Position, Record, SymbolId, Tape, TapeOptions, Writer, create,
};
use tickwire_proto::{
    symbol::Symbol,
    tick::{Body, Values},
};
use tokio::sync::broadcast;

/// Records that each contender has room for.
const CAPACITY: usize = 1 << 14;
const SYMBOLS: u32 = 64;

fn tape() -> (Writer, Arc<Tape>) {
    let options = TapeOptions {
        slots: CAPACITY,
        symbols_max: SYMBOLS as usize,
        id: 1,
    };
    let (mut writer, tape) = create(options).expect("the options are right");
    for id in 0..SYMBOLS {
        let symbol = Symbol::parse(&format!("S{id}")).expect("a symbol");
        writer.intern(symbol).expect("room for all symbols");
    }
    (writer, tape)
}

fn record(at: u64) -> Record {
    let body = Body::Trade {
        price: at as i64,
        size: Some(100),
        side: None,
    };
    let values = Values {
        price_exponent: -2,
        size_exponent: 0,
        body,
    };
    Record {
        position: Position(at),
        symbol: SymbolId(at as u32 % SYMBOLS),
        epoch: 1,
        admitted_ns: at,
        previous: None,
        origin: Origin::Here,
        event: Event::Tick {
            seq: at,
            ts_ns: at,
            values,
        },
    }
}

fn push(writer: &mut Writer, at: u64) {
    let Record {
        symbol,
        epoch,
        admitted_ns,
        event,
        ..
    } = record(at);
    writer.push(symbol, epoch, admitted_ns, event);
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tape_publish");
    group.throughput(Throughput::Elements(1));
    let (mut writer, _) = tape();
    let mut at = 0;
    group.bench_function("tickwire", |bencher| {
        bencher.iter(|| {
            push(&mut writer, at);
            at += 1;
        });
    });
    let queue = ArrayQueue::new(CAPACITY);
    group.bench_function("crossbeam_array_queue", |bencher| {
        bencher.iter(|| {
            black_box(queue.force_push(record(at)));
            at += 1;
        });
    });
    let (sender, receiver) = channel::bounded(CAPACITY);
    group.bench_function("crossbeam_channel", |bencher| {
        bencher.iter_custom(|records| {
            fill(
                records,
                |at| sender.try_send(record(at)).is_ok(),
                || {
                    receiver.try_iter().for_each(drop);
                },
            )
        });
    });
    // Without a receiver nothing is stored; this one never receives and is lapped.
    let (sender, _receiver) = broadcast::channel(CAPACITY);
    group.bench_function("tokio_broadcast", |bencher| {
        bencher.iter(|| {
            black_box(sender.send(record(at)).is_ok());
            at += 1;
        });
    });
    group.finish();
}

fn take(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tape_take");
    group.throughput(Throughput::Elements(1));
    let capacity = CAPACITY as u64;
    let (mut writer, tape) = tape();
    (0..capacity).for_each(|at| push(&mut writer, at));
    let mut at = 0;
    group.bench_function("tickwire", |bencher| {
        bencher.iter(|| {
            at = (at + 1) % capacity;
            black_box(tape.read(Position(at))).is_ok()
        });
    });
    let queue = ArrayQueue::new(CAPACITY);
    group.bench_function("crossbeam_array_queue", |bencher| {
        bencher.iter_custom(|records| {
            let publish = |at| assert!(queue.push(record(at)).is_ok(), "the batch fits");
            drain(records, publish, || queue.pop())
        });
    });
    let (sender, mut receiver) = broadcast::channel(CAPACITY);
    group.bench_function("tokio_broadcast", |bencher| {
        bencher.iter_custom(|records| {
            let publish = |at| assert!(sender.send(record(at)).is_ok(), "there is a receiver");
            drain(records, publish, || receiver.try_recv().ok())
        });
    });
    group.finish();
}

/// Times `take` alone: each batch is published before.
fn drain(
    records: u64,
    mut publish: impl FnMut(u64),
    mut take: impl FnMut() -> Option<Record>,
) -> Duration {
    let mut elapsed = Duration::ZERO;
    for batch in batches(records) {
        (0..batch).for_each(&mut publish);
        let start = Instant::now();
        for _ in 0..batch {
            assert!(black_box(take()).is_some(), "it was published");
        }
        elapsed += start.elapsed();
    }
    elapsed
}

/// Times `send` alone: the channel does not overwrite, so it is emptied between batches.
fn fill(records: u64, mut send: impl FnMut(u64) -> bool, mut drain: impl FnMut()) -> Duration {
    let mut elapsed = Duration::ZERO;
    for batch in batches(records) {
        let start = Instant::now();
        for at in 0..batch {
            assert!(send(at), "the batch fits");
        }
        elapsed += start.elapsed();
        drain();
    }
    elapsed
}

/// Splits a number of records into batches that every contender has room for.
fn batches(records: u64) -> impl Iterator<Item = u64> {
    let capacity = CAPACITY as u64;
    (0..records.div_ceil(capacity)).map(move |batch| capacity.min(records - batch * capacity))
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tape_read");
    group.throughput(Throughput::Elements(1));
    for readers in [1, 4] {
        let mut bench = |name: &str, measure: fn(u64, usize) -> Duration| {
            group.bench_function(BenchmarkId::new(name, readers), |bencher| {
                bencher.iter_custom(|records| measure(records, readers));
            });
        };
        bench("tickwire", read_tape);
        bench("crossbeam_array_queue", read_array_queues);
        bench("crossbeam_channel", read_channels);
        bench("tokio_broadcast", read_broadcast);
    }
    group.finish();
}

fn read_tape(records: u64, readers: usize) -> Duration {
    let (mut writer, tape) = tape();
    let reader = || {
        let tape = Arc::clone(&tape);
        let (mut at, mut head) = (Position(0), Position(0));
        move || {
            // As floors do: one look at the head for all that is new.
            if at == head {
                head = tape.head();
            }
            let record = tape.read(at).ok()?;
            at.0 += 1;
            Some(record)
        }
    };
    let readers = (0..readers).map(|_| reader()).collect();
    beside_readers(records, |at| push(&mut writer, at), readers)
}

fn read_array_queues(records: u64, readers: usize) -> Duration {
    let queues: Vec<_> = (0..readers).map(|_| ArrayQueue::new(CAPACITY)).collect();
    let publish = |at| {
        for queue in &queues {
            assert!(queue.push(record(at)).is_ok(), "the batch fits");
        }
    };
    let readers = queues.iter().map(|queue| || queue.pop()).collect();
    beside_readers(records, publish, readers)
}

fn read_channels(records: u64, readers: usize) -> Duration {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..readers).map(|_| channel::bounded(CAPACITY)).unzip();
    let publish = |at| {
        for sender in &senders {
            assert!(sender.try_send(record(at)).is_ok(), "the batch fits");
        }
    };
    let readers = receivers
        .iter()
        .map(|receiver| || receiver.try_recv().ok())
        .collect();
    beside_readers(records, publish, readers)
}

fn read_broadcast(records: u64, readers: usize) -> Duration {
    let (sender, _) = broadcast::channel(CAPACITY);
    let receivers = (0..readers).map(|_| sender.subscribe());
    let readers = receivers
        .map(|mut receiver| move || receiver.try_recv().ok())
        .collect();
    let publish = |at| assert!(sender.send(record(at)).is_ok(), "there are receivers");
    beside_readers(records, publish, readers)
}

/// Publishes while every reader, in a thread of its own, takes everything.
fn beside_readers<R>(records: u64, mut publish: impl FnMut(u64), readers: Vec<R>) -> Duration
where
    R: FnMut() -> Option<Record> + Send,
{
    let line = Barrier::new(readers.len() + 1);
    thread::scope(|scope| {
        for reader in readers {
            scope.spawn(|| take_batches(records, reader, &line));
        }
        let mut elapsed = Duration::ZERO;
        let mut next = 0;
        for batch in batches(records) {
            line.wait();
            let start = Instant::now();
            (next..next + batch).for_each(&mut publish);
            line.wait();
            elapsed += start.elapsed();
            next += batch;
        }
        elapsed
    })
}

fn take_batches(records: u64, mut reader: impl FnMut() -> Option<Record>, line: &Barrier) {
    for batch in batches(records) {
        line.wait();
        let mut taken = 0;
        while taken < batch {
            if let Some(record) = reader() {
                black_box(record);
                taken += 1;
            } else {
                thread::yield_now();
            }
        }
        line.wait();
    }
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = short();
    targets = publish, take, read
}
criterion_main!(benches);
