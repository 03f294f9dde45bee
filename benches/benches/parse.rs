//! What comes in, to checked values: publishers' ticks and clients' requests.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use tickwire_benches::{published, quote, short, symbol, trade};
use tickwire_proto::{
    json::PublishParser,
    price::Decimal,
    request::Request,
    sbe,
    tick::{Identity, PublishedTick, Side, Values},
    upgrade::Endpoint,
};

/// A published tick as one would declare it for serde.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Typed<'a> {
    Trade {
        symbol: &'a str,
        epoch: Option<u64>,
        seq: Option<u64>,
        ts: Option<u64>,
        price: &'a str,
        size: Option<&'a str>,
        side: Option<&'a str>,
    },
    Quote {
        symbol: &'a str,
        epoch: Option<u64>,
        seq: Option<u64>,
        ts: Option<u64>,
        bid: &'a str,
        bid_size: Option<&'a str>,
        ask: &'a str,
        ask_size: Option<&'a str>,
    },
}

fn parsed(text: &str) -> Decimal {
    Decimal::parse(text).expect("a decimal")
}

impl Typed<'_> {
    /// The checks that [`PublishParser`] makes too.
    fn check(&self) -> PublishedTick {
        let (name, epoch, seq, ts, values) = match *self {
            Self::Trade {
                symbol,
                epoch,
                seq,
                ts,
                price,
                size,
                side,
            } => {
                let side = side.and_then(Side::from_wire);
                let values = Values::trade(parsed(price), size.map(parsed), side);
                (symbol, epoch, seq, ts, values)
            }
            Self::Quote {
                symbol,
                epoch,
                seq,
                ts,
                bid,
                bid_size,
                ask,
                ask_size,
            } => {
                let (bid_size, ask_size) = (bid_size.map(parsed), ask_size.map(parsed));
                let values = Values::quote(parsed(bid), bid_size, parsed(ask), ask_size);
                (symbol, epoch, seq, ts, values)
            }
        };
        PublishedTick {
            symbol: symbol(name),
            identity: epoch.zip(seq).map(|(epoch, seq)| Identity { epoch, seq }),
            ts_ns: ts.map(|ts_us| ts_us * 1_000),
            values: values.expect("values in range"),
        }
    }
}

/// `count` ticks as one message, trades and quotes in turn.
fn batch(count: usize) -> (Vec<PublishedTick>, Vec<u8>, Vec<u8>) {
    let kinds = [published(&trade()), published(&quote())];
    let ticks: Vec<_> = kinds.into_iter().cycle().take(count).collect();
    let (mut json, mut binary) = (vec![b'['], Vec::new());
    for (index, tick) in ticks.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        tick.write_json(&mut json);
        sbe::write_published(&mut binary, 7, tick);
    }
    json.push(b']');
    (ticks, json, binary)
}

fn by_serde(json: &[u8], read: &mut Vec<PublishedTick>) {
    read.clear();
    let typed: Vec<Typed<'_>> = serde_json::from_slice(json).expect("it is JSON");
    read.extend(typed.iter().map(Typed::check));
}

fn ticks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse_published");
    let mut parser = PublishParser::default();
    let mut by_parser = |json: &[u8], read: &mut Vec<PublishedTick>| {
        read.clear();
        let parsed = parser.parse(json, |_, tick| read.extend(tick));
        parsed.expect("it is JSON");
    };
    for count in [1, 64] {
        let (ticks, json, binary) = batch(count);
        let mut read = Vec::with_capacity(count);
        by_parser(&json, &mut read);
        assert_eq!(read, ticks);
        by_serde(&json, &mut read);
        assert_eq!(read, ticks);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("tickwire_json", count), |bencher| {
            bencher.iter(|| {
                by_parser(black_box(&json), &mut read);
                black_box(read.len())
            });
        });
        group.bench_function(BenchmarkId::new("serde_json", count), |bencher| {
            bencher.iter(|| {
                by_serde(black_box(&json), &mut read);
                black_box(read.len())
            });
        });
        let mut raw = Vec::with_capacity(count);
        group.bench_function(BenchmarkId::new("tickwire_sbe", count), |bencher| {
            bencher.iter(|| {
                raw.clear();
                sbe::decode_published(black_box(&binary), |_, tick| raw.extend(tick))
                    .expect("it is SBE");
                assert_eq!(raw.len(), count);
            });
        });
    }
    group.finish();
}

/// A request as one would declare it for serde.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum TypedRequest<'a> {
    Subscribe {
        id: Option<u32>,
        #[serde(borrow)]
        symbols: Vec<&'a str>,
        #[serde(default)]
        channels: Vec<&'a str>,
        snapshot: Option<bool>,
    },
    Ping {
        id: Option<u32>,
    },
}

/// The same without deciding by `op`: the least that serde can be asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownRequest<'a> {
    op: &'a str,
    id: Option<u32>,
    #[serde(borrow)]
    symbols: Vec<&'a str>,
    #[serde(default)]
    channels: Vec<&'a str>,
    snapshot: Option<bool>,
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse_request");
    group.throughput(Throughput::Elements(1));
    for count in [4, 100] {
        let symbols: Vec<_> = (0..count).map(|at| format!("\"SYM-{at}\"")).collect();
        let text = format!(
            r#"{{"op":"subscribe","id":1,"symbols":[{}],"channels":["trade","quote"],"snapshot":true}}"#,
            symbols.join(",")
        );
        group.bench_function(BenchmarkId::new("tickwire", count), |bencher| {
            bencher.iter(|| {
                Request::from_json(black_box(&text), Endpoint::Subscribe).expect("a request")
            });
        });
        group.bench_function(
            BenchmarkId::new("serde_tagged_unchecked", count),
            |bencher| {
                bencher.iter(|| {
                    let request: TypedRequest<'_> =
                        serde_json::from_str(black_box(&text)).expect("a request");
                    match request {
                        TypedRequest::Subscribe {
                            id,
                            symbols,
                            channels,
                            snapshot,
                        } => black_box((id, symbols.len(), channels.len(), snapshot)),
                        TypedRequest::Ping { id } => black_box((id, 0, 0, None)),
                    }
                });
            },
        );
        group.bench_function(
            BenchmarkId::new("serde_known_unchecked", count),
            |bencher| {
                bencher.iter(|| {
                    let request: KnownRequest<'_> =
                        serde_json::from_str(black_box(&text)).expect("a request");
                    let lists = (request.symbols.len(), request.channels.len());
                    black_box((request.op, request.id, lists, request.snapshot))
                });
            },
        );
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = short();
    targets = ticks, requests
}
criterion_main!(benches);
