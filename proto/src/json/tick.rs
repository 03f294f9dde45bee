//! Ticks on their way out: the hot path, bytes after bytes.

use super::object::integer;
use crate::{
    price::Decimal,
    symbol::Symbol,
    tick::{Body, Channel, Identity, Marks, PublishedTick, Tick, Values},
};

/// More than the longest tick, so that `out` grows at most once: names and punctuation of a quote
/// (160), a symbol (32), four decimals (84), epoch, seq, ts and the marks (100).
const TICK_BYTES_MAX: usize = 384;

/// Appends a tick as one JSON object.
///
/// Fields stand in the order of the protocol; `skipped` is always the last, so that bytes shared
/// by several clients can be patched for one of them. `ts` is cut to microseconds.
pub fn write_tick(out: &mut Vec<u8>, tick: &Tick, marks: &Marks) {
    write_unmarked(
        out,
        &tick.symbol,
        Some(tick.identity),
        Some(tick.ts_ns),
        &tick.values,
    );
    if marks.snapshot {
        out.extend_from_slice(br#","snapshot":true"#);
    }
    if let Some(id) = marks.replay {
        write_integer(out, br#","replay":"#, id.into());
    }
    if marks.skipped > 0 {
        write_integer(out, br#","skipped":"#, marks.skipped.into());
    }
    out.push(b'}');
}

impl PublishedTick {
    /// Appends the tick as publishers send it: `epoch` and `seq`, and `ts` in microseconds, only
    /// where the source has them.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        write_unmarked(out, &self.symbol, self.identity, self.ts_ns, &self.values);
        out.push(b'}');
    }
}

fn write_unmarked(
    out: &mut Vec<u8>,
    symbol: &Symbol,
    identity: Option<Identity>,
    ts_ns: Option<u64>,
    values: &Values,
) {
    out.reserve(TICK_BYTES_MAX);
    out.extend_from_slice(match values.channel() {
        Channel::Trade => br#"{"type":"trade","symbol":""#,
        Channel::Quote => br#"{"type":"quote","symbol":""#,
    });
    out.extend_from_slice(symbol.as_bytes());
    out.push(b'"');
    if let Some(Identity { epoch, seq }) = identity {
        write_integer(out, br#","epoch":"#, epoch);
        write_integer(out, br#","seq":"#, seq);
    }
    if let Some(ts_ns) = ts_ns {
        write_integer(out, br#","ts":"#, ts_ns / 1_000);
    }
    write_values(out, values);
}

fn write_values(out: &mut Vec<u8>, values: &Values) {
    match values.body {
        Body::Trade { price, size, side } => {
            write_decimal(out, br#","price":""#, values.price(price));
            if let Some(size) = size {
                write_decimal(out, br#","size":""#, values.size(size));
            }
            if let Some(side) = side {
                out.extend_from_slice(br#","side":""#);
                out.extend_from_slice(side.as_str().as_bytes());
                out.push(b'"');
            }
        }
        Body::Quote {
            bid,
            bid_size,
            ask,
            ask_size,
        } => {
            write_decimal(out, br#","bid":""#, values.price(bid));
            if let Some(size) = bid_size {
                write_decimal(out, br#","bid_size":""#, values.size(size));
            }
            write_decimal(out, br#","ask":""#, values.price(ask));
            if let Some(size) = ask_size {
                write_decimal(out, br#","ask_size":""#, values.size(size));
            }
        }
    }
}

fn write_integer(out: &mut Vec<u8>, name: &[u8], number: u64) {
    out.extend_from_slice(name);
    integer(out, number);
}

fn write_decimal(out: &mut Vec<u8>, name: &[u8], decimal: Decimal) {
    out.extend_from_slice(name);
    decimal.write_to(out);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{price::NULL_MANTISSA, tick::Side};

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    fn trade() -> Tick {
        Tick {
            symbol: Symbol::parse("AAPL").unwrap(),
            identity: Identity { epoch: 7, seq: 42 },
            ts_ns: 1_763_776_800_000_123_999,
            values: Values::trade(decimal("187.23"), Some(decimal("100")), Some(Side::Buy))
                .unwrap(),
        }
    }

    fn written(tick: &Tick, marks: &Marks) -> String {
        let mut out = Vec::new();
        write_tick(&mut out, tick, marks);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_trade_reads_as_in_the_protocol() {
        assert_eq!(
            written(&trade(), &Marks::default()),
            r#"{"type":"trade","symbol":"AAPL","epoch":7,"seq":42,"ts":1763776800000123,"price":"187.23","size":"100","side":"buy"}"#
        );
    }

    #[test]
    fn a_quote_reads_as_in_the_protocol() {
        let sizes = (Some(decimal("300")), Some(decimal("200")));
        let tick = Tick {
            identity: Identity { epoch: 7, seq: 98 },
            ts_ns: 1_763_776_800_000_200_000,
            values: Values::quote(decimal("187.22"), sizes.0, decimal("187.24"), sizes.1).unwrap(),
            ..trade()
        };
        assert_eq!(
            written(&tick, &Marks::default()),
            r#"{"type":"quote","symbol":"AAPL","epoch":7,"seq":98,"ts":1763776800000200,"bid":"187.22","bid_size":"300","ask":"187.24","ask_size":"200"}"#
        );
    }

    #[test]
    fn what_the_source_does_not_say_is_no_field() {
        let tick = PublishedTick {
            symbol: Symbol::parse("A").unwrap(),
            identity: None,
            ts_ns: None,
            values: Values::trade(decimal("-37.63"), None, None).unwrap(),
        };
        let mut out = Vec::new();
        tick.write_json(&mut out);
        assert_eq!(out, br#"{"type":"trade","symbol":"A","price":"-37.63"}"#);
    }

    #[test]
    fn skipped_is_always_the_last_field() {
        let marks = Marks {
            snapshot: true,
            skipped: 3,
            replay: Some(0),
        };
        let text = written(&trade(), &marks);
        assert!(
            text.ends_with(r#""side":"buy","snapshot":true,"replay":0,"skipped":3}"#),
            "{text}"
        );
    }

    #[test]
    fn the_longest_tick_fits_the_reserve() {
        let values = Values {
            price_exponent: -18,
            size_exponent: -18,
            body: Body::Quote {
                bid: NULL_MANTISSA + 1,
                bid_size: Some(i64::MAX),
                ask: NULL_MANTISSA + 1,
                ask_size: Some(i64::MAX),
            },
        };
        let tick = Tick {
            symbol: Symbol::parse(&"X".repeat(32)).unwrap(),
            identity: Identity {
                epoch: u64::MAX,
                seq: u64::MAX,
            },
            ts_ns: u64::MAX,
            values,
        };
        let marks = Marks {
            snapshot: true,
            skipped: u32::MAX,
            replay: Some(u32::MAX),
        };
        assert!(written(&tick, &marks).len() <= TICK_BYTES_MAX);
    }
}
