//! What the benchmarks of every hot step share: their settings, and ticks that look like a market's.
//!
//! The steps themselves are in `benches/`; `README.md` says what each shows.

use std::time::Duration;

use criterion::Criterion;
use tickwire_proto::{
    price::Decimal,
    symbol::Symbol,
    tick::{Identity, PublishedTick, Side, Tick, Values},
};

/// Settings under which the whole suite takes about two minutes.
///
/// They are enough to read a ratio of contenders to some percent on a quiet machine.
pub fn short() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700))
}

/// A decimal from a text that is known to be one.
///
/// # Panics
///
/// Where it is not.
pub fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).expect("a plain decimal")
}

/// A symbol from a text that is known to be one.
///
/// # Panics
///
/// Where it is not.
pub fn symbol(text: &str) -> Symbol {
    Symbol::parse(text).expect("a symbol")
}

/// A trade such as a crypto exchange reports.
///
/// # Panics
///
/// Never: the values are in range.
pub fn trade() -> Tick {
    let values = Values::trade(
        decimal("64250.17"),
        Some(decimal("0.00310000")),
        Some(Side::Buy),
    );
    tick("BTC-USDT", values.expect("the size is positive"))
}

/// A quote such as a stock exchange reports.
///
/// # Panics
///
/// Never: the values are in range.
pub fn quote() -> Tick {
    let values = Values::quote(
        decimal("187.22"),
        Some(decimal("300")),
        decimal("187.24"),
        Some(decimal("1200")),
    );
    tick("AAPL", values.expect("the sizes are positive"))
}

fn tick(name: &str, values: Values) -> Tick {
    Tick {
        symbol: symbol(name),
        identity: Identity {
            epoch: 1_763_776_800,
            seq: 4_211_907,
        },
        ts_ns: 1_763_776_800_000_123_000,
        values,
    }
}

/// The tick as its publisher sends it, with its own numbering and time.
pub fn published(tick: &Tick) -> PublishedTick {
    PublishedTick {
        symbol: tick.symbol,
        identity: Some(tick.identity),
        ts_ns: Some(tick.ts_ns),
        values: tick.values,
    }
}
