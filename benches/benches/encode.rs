//! One delivered tick to bytes: JSON by hand, JSON by serde, SBE.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::{Serialize, Serializer};
use tickwire_benches::{quote, short, trade};
use tickwire_proto::{
    json,
    price::Decimal,
    sbe,
    tick::{Body, Marks, Side, Tick},
};

/// A tick as one would declare it for serde; `D` is what holds a price.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Typed<'a, D> {
    Trade {
        symbol: &'a str,
        epoch: u64,
        seq: u64,
        ts: u64,
        price: D,
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<D>,
        #[serde(skip_serializing_if = "Option::is_none")]
        side: Option<&'static str>,
    },
    Quote {
        symbol: &'a str,
        epoch: u64,
        seq: u64,
        ts: u64,
        bid: D,
        #[serde(skip_serializing_if = "Option::is_none")]
        bid_size: Option<D>,
        ask: D,
        #[serde(skip_serializing_if = "Option::is_none")]
        ask_size: Option<D>,
    },
}

/// A decimal as a JSON string, which is what the protocol wants.
struct Text(Decimal);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

fn typed<D>(tick: &Tick, held: impl Fn(Decimal) -> D) -> Typed<'_, D> {
    let symbol = tick.symbol.as_str();
    let (epoch, seq, ts) = (tick.identity.epoch, tick.identity.seq, tick.ts_ns / 1_000);
    let values = &tick.values;
    let price = |mantissa| held(values.price(mantissa));
    let maybe_size = |mantissa: Option<i64>| mantissa.map(|mantissa| held(values.size(mantissa)));
    match values.body {
        Body::Trade {
            price: mantissa,
            size,
            side,
        } => Typed::Trade {
            symbol,
            epoch,
            seq,
            ts,
            price: price(mantissa),
            size: maybe_size(size),
            side: side.map(Side::as_str),
        },
        Body::Quote {
            bid,
            bid_size,
            ask,
            ask_size,
        } => Typed::Quote {
            symbol,
            epoch,
            seq,
            ts,
            bid: price(bid),
            bid_size: maybe_size(bid_size),
            ask: price(ask),
            ask_size: maybe_size(ask_size),
        },
    }
}

fn float(decimal: Decimal) -> f64 {
    decimal.mantissa() as f64 * 10f64.powi(decimal.exponent().into())
}

fn encode(criterion: &mut Criterion) {
    for (name, tick) in [("encode_trade", trade()), ("encode_quote", quote())] {
        let mut ours = Vec::with_capacity(512);
        json::write_tick(&mut ours, &tick, &Marks::default());
        let theirs = serde_json::to_vec(&typed(&tick, Text)).expect("it is serializable");
        assert_eq!(
            String::from_utf8_lossy(&ours),
            String::from_utf8_lossy(&theirs),
            "the contenders write the same"
        );
        group(criterion, name, &tick);
    }
}

fn group(criterion: &mut Criterion, name: &str, tick: &Tick) {
    let mut out = Vec::with_capacity(512);
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    group.bench_function("tickwire_json", |bencher| {
        bencher.iter(|| {
            out.clear();
            json::write_tick(&mut out, black_box(tick), &Marks::default());
            black_box(out.len())
        });
    });
    group.bench_function("tickwire_sbe", |bencher| {
        bencher.iter(|| {
            out.clear();
            sbe::write_tick(&mut out, 7, black_box(tick), &Marks::default());
            black_box(out.len())
        });
    });
    group.bench_function("serde_json", |bencher| {
        bencher.iter(|| {
            out.clear();
            let typed = typed(black_box(tick), Text);
            serde_json::to_writer(&mut out, &typed).expect("a Vec takes every byte");
            black_box(out.len())
        });
    });
    // What a feed of numbers instead of exact texts would cost; the conversion is not counted.
    let floats = typed(tick, float);
    group.bench_function("serde_json_f64", |bencher| {
        bencher.iter(|| {
            out.clear();
            serde_json::to_writer(&mut out, black_box(&floats)).expect("a Vec takes every byte");
            black_box(out.len())
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = short();
    targets = encode
}
criterion_main!(benches);
