//! Finding who a tick is for, and checking it on the client's side.
//!
//! The floor's own tables are private; these are the same keys, hashes and scans from the protocol
//! crate. On the tick path the floor indexes by the tape's symbol id and hashes nothing.

use std::{
    collections::{HashMap, HashSet},
    hint::black_box,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustc_hash::FxHashMap;
use tickwire_benches::{quote, short, symbol};
use tickwire_proto::{
    claims::Entitlement,
    pattern::{Pattern, Selector},
    reply::{Reply, Start},
    session::{Options, Session},
    symbol::Symbol,
    tick::{Marks, Tick},
};

/// Symbols of one venue.
const SYMBOLS: usize = 10_000;
/// Lookups in one measured turn: enough symbols that not all of them stay in the nearest cache.
const LOOKUPS: usize = 1_024;
/// A step through the symbols that visits them out of order.
const STRIDE: usize = 7_919;

fn names() -> Vec<String> {
    (0..SYMBOLS).map(|at| format!("{at:05}-USDT")).collect()
}

fn scattered<T: Clone>(all: &[T]) -> Vec<T> {
    let at = |lookup: usize| all[lookup * STRIDE % all.len()].clone();
    (0..LOOKUPS).map(at).collect()
}

fn exact(criterion: &mut Criterion) {
    let names = names();
    let symbols: Vec<Symbol> = names.iter().map(|name| symbol(name)).collect();
    let ours: FxHashMap<Symbol, u32> = symbols.iter().copied().zip(0..).collect();
    let theirs: HashMap<String, u32> = names.iter().cloned().zip(0..).collect();
    let (symbols, names) = (scattered(&symbols), scattered(&names));
    let mut group = criterion.benchmark_group("lookup_symbol");
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    group.bench_function("tickwire", |bencher| {
        bencher.iter(|| {
            let ids = symbols
                .iter()
                .map(|symbol| u64::from(ours[black_box(symbol)]));
            ids.sum::<u64>()
        });
    });
    group.bench_function("std_string", |bencher| {
        bencher.iter(|| {
            let ids = names
                .iter()
                .map(|name| u64::from(theirs[black_box(name.as_str())]));
            ids.sum::<u64>()
        });
    });
    group.finish();
}

/// The longest pattern that matches a symbol, of 16 that a connection subscribed to.
fn patterns(criterion: &mut Criterion) {
    let symbols = scattered(&names().iter().map(|name| symbol(name)).collect::<Vec<_>>());
    let prefixes: Vec<String> = (0..16).map(|at| format!("{:03}", at * 61)).collect();
    let longest_first: Vec<Pattern> = prefixes
        .iter()
        .filter_map(|prefix| match Selector::parse(&format!("{prefix}*")) {
            Ok(Selector::Pattern(pattern)) => Some(pattern),
            _ => None,
        })
        .collect();
    let hashed: HashSet<String> = prefixes.into_iter().collect();
    let scan = |symbol: &Symbol| {
        longest_first
            .iter()
            .position(|pattern| pattern.matches(symbol))
            .is_some()
    };
    let hash = |symbol: &Symbol| {
        let name = symbol.as_str();
        (0..=name.len())
            .rev()
            .any(|end| hashed.contains(&name[..end]))
    };
    assert!(symbols.iter().any(scan), "some match");
    assert!(symbols.iter().all(|symbol| scan(symbol) == hash(symbol)));
    let mut group = criterion.benchmark_group("lookup_pattern");
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    group.bench_function("tickwire_scan", |bencher| {
        bencher.iter(|| {
            symbols
                .iter()
                .filter(|symbol| scan(black_box(symbol)))
                .count()
        });
    });
    group.bench_function("hash_of_every_prefix", |bencher| {
        bencher.iter(|| {
            symbols
                .iter()
                .filter(|symbol| hash(black_box(symbol)))
                .count()
        });
    });
    group.finish();
}

/// What a token of 16 symbols allows of what is asked for, one symbol at a time.
fn entitlement(criterion: &mut Criterion) {
    let names = names();
    let own = Entitlement::new(
        scattered(&names)[..16]
            .iter()
            .map(|name| symbol(name).into()),
    );
    let set: HashSet<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| own.allows(&symbol(name)))
        .collect();
    let symbols = scattered(&names.iter().map(|name| symbol(name)).collect::<Vec<_>>());
    let mut group = criterion.benchmark_group("entitlement");
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    group.bench_function("tickwire", |bencher| {
        bencher.iter(|| {
            symbols
                .iter()
                .filter(|symbol| own.allows(black_box(symbol)))
                .count()
        });
    });
    group.bench_function("std_string_set", |bencher| {
        bencher.iter(|| {
            let allowed = |symbol: &&Symbol| set.contains(black_box(symbol).as_str());
            symbols.iter().filter(allowed).count()
        });
    });
    group.finish();
}

/// One tick through the client's session: account, repeats, liveness.
fn session(criterion: &mut Criterion) {
    let first = quote();
    let next = |seq: u64| Tick {
        identity: tickwire_proto::tick::Identity {
            seq: first.identity.seq + seq,
            ..first.identity
        },
        ..first
    };
    let mut group = criterion.benchmark_group("session_receive");
    group.throughput(Throughput::Elements(1));
    let mut session = Session::new(Options::default());
    session.connected(0);
    let start = Start {
        symbol: first.symbol,
        epoch: first.identity.epoch,
        trade: None,
        quote: Some(first.identity.seq),
        replay: None,
    };
    session.receive(0, Reply::Start(start), |_| ());
    let mut seq = 0;
    group.bench_function("tickwire", |bencher| {
        bencher.iter(|| {
            seq += 1;
            let mut events = 0;
            let reply = Reply::Tick(black_box(next(seq)), Marks::default());
            session.receive(1, reply, |_| events += 1);
            events
        });
    });
    assert_eq!(session.totals().ticks, seq, "every tick was handed out");
    // The least that a client has to do by hand to notice what is missing. The same keys, so that
    // what hashing costs on a processor is in both.
    let mut last: HashMap<Symbol, u64> = HashMap::new();
    let mut seq = 0;
    group.bench_function("last_seq_by_hand", |bencher| {
        bencher.iter(|| {
            seq += 1;
            let tick = black_box(next(seq));
            let last = last.entry(tick.symbol).or_default();
            std::mem::replace(last, tick.identity.seq) + 1 == tick.identity.seq
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = short();
    targets = exact, patterns, entitlement, session
}
criterion_main!(benches);
