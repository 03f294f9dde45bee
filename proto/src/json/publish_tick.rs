//! One published tick, from the nodes that simd-json made of it.

use simd_json::{Node, StaticNode};

use super::publish::{TickError, entries, is_null};
use crate::{
    code::ErrorCode,
    price::{Decimal, DecimalError},
    request::REJECTED_BYTES_MAX,
    symbol::Symbol,
    text,
    tick::{IDENTITY_MAX, Identity, PublishedTick, Side, Values},
};

/// Why a tick is refused; the symbol is added where the error leaves.
struct Refusal(ErrorCode, &'static str);

type Refusable<T> = Result<T, Refusal>;

/// A field's name and what is said about it, ready made: a flood of bad ticks formats nothing.
struct Field {
    missing: &'static str,
    not_string: &'static str,
    malformed: &'static str,
    does_not_fit: &'static str,
}

macro_rules! decimal_field {
    ($name:literal) => {
        Field {
            missing: concat!($name, " is missing"),
            not_string: concat!($name, " must be a string that holds a decimal"),
            malformed: concat!($name, " is not a plain decimal such as 187.23"),
            does_not_fit: concat!(
                $name,
                " does not fit 64 bits with at most 18 digits behind the point, or is a negative size"
            ),
        }
    };
}

const PRICE: Field = decimal_field!("price");
const SIZE: Field = decimal_field!("size");
const BID: Field = decimal_field!("bid");
const BID_SIZE: Field = decimal_field!("bid_size");
const ASK: Field = decimal_field!("ask");
const ASK_SIZE: Field = decimal_field!("ask_size");

const BAD_EPOCH: &str = "epoch is an integer 1…9007199254740991";
const BAD_SEQ: &str = "seq is an integer 1…9007199254740991";
const BAD_TS: &str = "ts is an integer 0…9007199254740991, microseconds since 1970 UTC";

/// The fields of a tick as they stand, before any is judged.
#[derive(Default)]
struct Fields<'de> {
    kind: Option<Node<'de>>,
    symbol: Option<Node<'de>>,
    epoch: Option<Node<'de>>,
    seq: Option<Node<'de>>,
    ts: Option<Node<'de>>,
    price: Option<Node<'de>>,
    size: Option<Node<'de>>,
    side: Option<Node<'de>>,
    bid: Option<Node<'de>>,
    bid_size: Option<Node<'de>>,
    ask: Option<Node<'de>>,
    ask_size: Option<Node<'de>>,
    has_op: bool,
    marked: bool,
}

/// Reads the tick that `nodes` begins with.
pub(super) fn read(nodes: &[Node<'_>]) -> Result<PublishedTick, TickError> {
    if !matches!(nodes[0], Node::Object { .. }) {
        return Err(TickError {
            code: ErrorCode::BadTick,
            message: "a tick is an object",
            symbol: None,
        });
    }
    let fields = Fields::collect(nodes);
    fields.tick().map_err(|Refusal(code, message)| TickError {
        code,
        message,
        symbol: match fields.symbol {
            Some(Node::String(symbol)) => Some(text::prefix(symbol, REJECTED_BYTES_MAX).to_owned()),
            _ => None,
        },
    })
}

impl<'de> Fields<'de> {
    fn collect(nodes: &[Node<'de>]) -> Self {
        let mut fields = Self::default();
        for (name, value) in entries(nodes) {
            fields.take(name, value);
        }
        fields
    }

    fn take(&mut self, name: &str, value: Node<'de>) {
        let slot = match name {
            "type" => &mut self.kind,
            "symbol" => &mut self.symbol,
            "epoch" => &mut self.epoch,
            "seq" => &mut self.seq,
            "ts" => &mut self.ts,
            "price" => &mut self.price,
            "size" => &mut self.size,
            "side" => &mut self.side,
            "bid" => &mut self.bid,
            "bid_size" => &mut self.bid_size,
            "ask" => &mut self.ask,
            "ask_size" => &mut self.ask_size,
            "op" => return self.has_op = true,
            "skipped" | "replay" | "snapshot" => return self.marked |= !is_empty_mark(name, value),
            _ => return,
        };
        *slot = (!is_null(value)).then_some(value);
    }

    fn tick(&self) -> Refusable<PublishedTick> {
        if self.has_op {
            return Err(Refusal(
                ErrorCode::BadTick,
                "an array holds ticks only, no requests",
            ));
        }
        let trade = match self.kind {
            Some(Node::String("trade")) => true,
            Some(Node::String("quote")) => false,
            _ => {
                return Err(Refusal(
                    ErrorCode::BadTick,
                    "type is \"trade\" or \"quote\"",
                ));
            }
        };
        let symbol = self.symbol()?;
        if self.marked {
            return Err(Refusal(
                ErrorCode::BadTick,
                "skipped, replay and snapshot are for the engine to set",
            ));
        }
        Ok(PublishedTick {
            symbol,
            identity: self.identity()?,
            ts_ns: integer(self.ts, 0, BAD_TS)?.map(|ts_us| ts_us * 1_000),
            values: if trade { self.trade()? } else { self.quote()? },
        })
    }

    fn symbol(&self) -> Refusable<Symbol> {
        match self.symbol {
            Some(Node::String(symbol)) => Symbol::parse(symbol).map_err(|_| {
                Refusal(
                    ErrorCode::BadSymbol,
                    "a symbol has 1 to 32 bytes of A-Z a-z 0-9 . _ - / :",
                )
            }),
            _ => Err(Refusal(ErrorCode::BadTick, "symbol must be a string")),
        }
    }

    fn identity(&self) -> Refusable<Option<Identity>> {
        match (
            integer(self.epoch, 1, BAD_EPOCH)?,
            integer(self.seq, 1, BAD_SEQ)?,
        ) {
            (Some(epoch), Some(seq)) => Ok(Some(Identity { epoch, seq })),
            (None, None) => Ok(None),
            _ => Err(Refusal(
                ErrorCode::BadTick,
                "epoch and seq come together or not at all",
            )),
        }
    }

    fn trade(&self) -> Refusable<Values> {
        let price = required(self.price, &PRICE)?;
        let size = decimal(self.size, &SIZE)?;
        Values::trade(price, size, side(self.side)?)
            .map_err(|error| Refusal(error.into(), "size must not be negative"))
    }

    fn quote(&self) -> Refusable<Values> {
        let (bid, bid_size) = (
            required(self.bid, &BID)?,
            decimal(self.bid_size, &BID_SIZE)?,
        );
        let (ask, ask_size) = (
            required(self.ask, &ASK)?,
            decimal(self.ask_size, &ASK_SIZE)?,
        );
        Values::quote(bid, bid_size, ask, ask_size).map_err(|error| match error {
            DecimalError::Overflow => Refusal(
                error.into(),
                "bid and ask, or their sizes, share no exponent in 64 bits",
            ),
            _ => Refusal(error.into(), "bid_size and ask_size must not be negative"),
        })
    }
}

/// Whether a mark that only the engine may set says nothing; 0 is a valid id of a `replay`.
fn is_empty_mark(name: &str, value: Node<'_>) -> bool {
    match value {
        Node::Static(StaticNode::Null) => true,
        Node::Static(StaticNode::Bool(false)) => name == "snapshot",
        Node::Static(StaticNode::U64(0) | StaticNode::I64(0)) => name == "skipped",
        _ => false,
    }
}

/// An integer `least`…[`IDENTITY_MAX`].
fn integer(node: Option<Node<'_>>, least: u64, expected: &'static str) -> Refusable<Option<u64>> {
    let number = match node {
        None => return Ok(None),
        Some(Node::Static(StaticNode::U64(number))) => Some(number),
        Some(Node::Static(StaticNode::I64(number))) => u64::try_from(number).ok(),
        Some(Node::Static(StaticNode::F64(_))) => None,
        Some(_) => return Err(Refusal(ErrorCode::BadTick, expected)),
    };
    match number.filter(|number| (least..=IDENTITY_MAX).contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(Refusal(ErrorCode::OutOfRange, expected)),
    }
}

fn required(node: Option<Node<'_>>, field: &Field) -> Refusable<Decimal> {
    decimal(node, field)?.ok_or(Refusal(ErrorCode::BadTick, field.missing))
}

fn decimal(node: Option<Node<'_>>, field: &Field) -> Refusable<Option<Decimal>> {
    let text = match node {
        None => return Ok(None),
        Some(Node::String(text)) => text,
        Some(Node::Static(StaticNode::Bool(_)) | Node::Object { .. } | Node::Array { .. }) => {
            return Err(Refusal(ErrorCode::BadTick, field.not_string));
        }
        Some(Node::Static(_)) => {
            return Err(Refusal(ErrorCode::DecimalNotString, field.not_string));
        }
    };
    Decimal::parse(text)
        .map(Some)
        .map_err(|error| match ErrorCode::from(error) {
            ErrorCode::BadDecimal => Refusal(ErrorCode::BadDecimal, field.malformed),
            code => Refusal(code, field.does_not_fit),
        })
}

fn side(node: Option<Node<'_>>) -> Refusable<Option<Side>> {
    let refusal = Refusal(ErrorCode::BadTick, "side is \"buy\" or \"sell\"");
    match node {
        None => Ok(None),
        Some(Node::String(text)) => Side::from_wire(text).map(Some).ok_or(refusal),
        Some(_) => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{json::PublishParser, tick::Body};

    fn read(text: &str) -> Result<PublishedTick, TickError> {
        let mut read = None;
        PublishParser::default()
            .parse(text.as_bytes(), |_, tick| read = Some(tick))
            .unwrap();
        read.unwrap()
    }

    /// A good trade with `rest` behind it; a field in `rest` replaces the one before.
    fn trade(rest: &str) -> Result<PublishedTick, TickError> {
        read(&format!(
            r#"{{"type":"trade","symbol":"AAPL","price":"187.23"{rest}}}"#
        ))
    }

    fn quote(rest: &str) -> Result<PublishedTick, TickError> {
        read(&format!(
            r#"{{"type":"quote","symbol":"AAPL","bid":"1.5","ask":"1.75"{rest}}}"#
        ))
    }

    #[test]
    fn a_numbered_trade_is_read_whole() {
        let tick = trade(
            r#","epoch":7,"seq":42,"ts":1763776800000123,"size":"100","side":"sell","venue":{"id":[1]}"#,
        );
        assert_eq!(
            tick,
            Ok(PublishedTick {
                symbol: Symbol::parse("AAPL").unwrap(),
                identity: Some(Identity { epoch: 7, seq: 42 }),
                ts_ns: Some(1_763_776_800_000_123_000),
                values: Values {
                    price_exponent: -2,
                    size_exponent: 0,
                    body: Body::Trade {
                        price: 18_723,
                        size: Some(100),
                        side: Some(Side::Sell)
                    },
                },
            })
        );
    }

    #[test]
    fn a_bare_quote_leaves_identity_time_and_sizes_to_others() {
        let tick = quote(r#","bid_size":null,"skipped":0,"replay":null,"snapshot":false"#).unwrap();
        assert_eq!((tick.identity, tick.ts_ns), (None, None));
        assert_eq!(
            tick.values.body,
            Body::Quote {
                bid: 150,
                bid_size: None,
                ask: 175,
                ask_size: None
            }
        );
    }

    #[test]
    fn every_refusal_has_its_code() {
        use ErrorCode::{BadDecimal, BadSymbol, BadTick, DecimalNotString, OutOfRange};
        for (rest, code) in [
            (r#","type":"bar""#, BadTick),
            (r#","type":null"#, BadTick),
            (r#","symbol":7"#, BadTick),
            (r#","symbol":"A B""#, BadSymbol),
            (r#","symbol":"BTC-*""#, BadSymbol),
            (r#","price":187.23"#, DecimalNotString),
            (r#","price":187"#, DecimalNotString),
            (r#","price":99999999999999999999999"#, DecimalNotString),
            (r#","price":true"#, BadTick),
            (r#","price":null"#, BadTick),
            (r#","price":"1e5""#, BadDecimal),
            (r#","price":"""#, BadDecimal),
            (r#","price":"9223372036854775808""#, OutOfRange),
            (r#","price":"0.0000000000000000001""#, OutOfRange),
            (r#","size":1"#, DecimalNotString),
            (r#","size":"-1""#, OutOfRange),
            (r#","side":"long""#, BadTick),
            (r#","side":1"#, BadTick),
            (r#","epoch":7"#, BadTick),
            (r#","seq":7"#, BadTick),
            (r#","epoch":"7","seq":1"#, BadTick),
            (r#","epoch":0,"seq":1"#, OutOfRange),
            (r#","epoch":1,"seq":9007199254740992"#, OutOfRange),
            (r#","epoch":1,"seq":-1"#, OutOfRange),
            (r#","epoch":1,"seq":1.5"#, OutOfRange),
            (r#","ts":-1"#, OutOfRange),
            (r#","ts":1.5"#, OutOfRange),
            (r#","ts":9007199254740992"#, OutOfRange),
            (r#","ts":99999999999999999999"#, OutOfRange),
            (r#","ts":"1""#, BadTick),
            (r#","skipped":1"#, BadTick),
            (r#","replay":0"#, BadTick),
            (r#","snapshot":true"#, BadTick),
        ] {
            assert_eq!(trade(rest).map_err(|error| error.code), Err(code), "{rest}");
        }
        for (rest, code) in [
            (r#","bid":null"#, BadTick),
            (r#","ask_size":"-0.1""#, OutOfRange),
            (r#","bid":"9000000000000000000""#, OutOfRange),
        ] {
            assert_eq!(quote(rest).map_err(|error| error.code), Err(code), "{rest}");
        }
    }

    #[test]
    fn a_refusal_names_the_field_and_the_symbol() {
        let error = trade(r#","price":7"#).unwrap_err();
        assert_eq!(error.symbol.as_deref(), Some("AAPL"));
        assert!(error.message.starts_with("price "), "{error}");
        let long = format!(r#","symbol":"{}""#, "é".repeat(40));
        assert_eq!(trade(&long).unwrap_err().symbol, Some("é".repeat(32)));
        assert_eq!(trade(r#","symbol":[]"#).unwrap_err().symbol, None);
    }

    #[test]
    fn a_request_in_an_array_is_a_bad_tick() {
        let mut codes = Vec::new();
        PublishParser::default()
            .parse(br#"[{"op":"flush","id":1}]"#, |_, tick| {
                codes.push(tick.unwrap_err().code);
            })
            .unwrap();
        assert_eq!(codes, [ErrorCode::BadTick]);
    }
}
