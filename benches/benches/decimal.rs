//! Decimal text, read and written, beside the floating point that one would use instead.
//!
//! Floats are no real choice here, since they don't give back the digits that were published. They
//! are what a parser and a formatter that many people have tuned take for the same digits.

use std::{hint::black_box, io::Write as _};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tickwire_benches::{decimal, short};
use tickwire_proto::price::Decimal;

/// Prices and sizes of stocks, currencies and tokens.
const TEXTS: [&str; 8] = [
    "187.23",
    "100",
    "64250.17",
    "0.00310000",
    "1.08423",
    "2500000",
    "0.000012345678",
    "4.5",
];

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decimal_parse");
    group.throughput(Throughput::Elements(TEXTS.len() as u64));
    group.bench_function("tickwire", |bencher| {
        bencher.iter(|| {
            for text in TEXTS {
                black_box(Decimal::parse(black_box(text)).expect("a decimal"));
            }
        });
    });
    group.bench_function("f64", |bencher| {
        bencher.iter(|| {
            for text in TEXTS {
                black_box(black_box(text).parse::<f64>().expect("a number"));
            }
        });
    });
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let decimals = TEXTS.map(decimal);
    let floats = TEXTS.map(|text| text.parse::<f64>().expect("a number"));
    let places = decimals.map(|decimal| usize::from(decimal.exponent().unsigned_abs()));
    let mut out = Vec::with_capacity(256);
    let mut group = criterion.benchmark_group("decimal_write");
    group.throughput(Throughput::Elements(TEXTS.len() as u64));
    group.bench_function("tickwire", |bencher| {
        bencher.iter(|| {
            out.clear();
            for decimal in black_box(&decimals) {
                decimal.write_to(&mut out);
            }
            black_box(out.len())
        });
    });
    // The digits that were published: as many places as the source wrote.
    group.bench_function("f64_fixed_places", |bencher| {
        bencher.iter(|| {
            out.clear();
            for (float, places) in black_box(&floats).iter().zip(places) {
                write!(out, "{float:.places$}").expect("a Vec takes every byte");
            }
            black_box(out.len())
        });
    });
    // The fewest digits that read back as the same float.
    group.bench_function("f64_serde_json", |bencher| {
        bencher.iter(|| {
            out.clear();
            for float in black_box(&floats) {
                serde_json::to_writer(&mut out, float).expect("a Vec takes every byte");
            }
            black_box(out.len())
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = short();
    targets = parse, write
}
criterion_main!(benches);
