//! What the engine says, read back: for clients and tests.

use serde_json::{Map, Value};

use super::decode_ack;
use crate::{
    code::ErrorCode,
    cursor::Cursor,
    price::Decimal,
    reply::{ErrorReply, Gap, GapReason, Limits, Reply, Start, Welcome},
    symbol::Symbol,
    tick::{Channel, FeedState, Identity, Marks, Side, Tick, Values},
    upgrade::Subprotocol,
};

/// Why a text is not a message of the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not JSON, or not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A `type` (or an ack's `op`) of another version: clients skip the message.
    #[error("a message of unknown kind {kind:?}")]
    UnknownKind {
        /// The text of `type`, or of `op`.
        kind: String,
    },
    /// A field is missing, of the wrong type, or out of its range.
    #[error("the field {name} is missing or not what the protocol says")]
    Field {
        /// The field.
        name: &'static str,
    },
}

impl Reply {
    /// Reads a text message from the engine; unknown fields are ignored.
    ///
    /// # Errors
    ///
    /// See [`DecodeError`]; [`DecodeError::UnknownKind`] is no fault of the engine.
    pub fn from_json(text: &str) -> Result<Self, DecodeError> {
        let Ok(Value::Object(map)) = serde_json::from_str(text) else {
            return Err(DecodeError::NotAnObject);
        };
        let fields = Fields(&map);
        Ok(match fields.text("type")? {
            "welcome" => Self::Welcome(welcome(&fields)?),
            "ack" => Self::Ack(decode_ack::ack(&fields)?),
            "start" => Self::Start(start(&fields)?),
            "trade" => tick(&fields, Channel::Trade)?,
            "quote" => tick(&fields, Channel::Quote)?,
            "gap" => Self::Gap(gap(&fields)?),
            "replayed" => Self::Replayed {
                id: fields.maybe_small("id")?,
                cursor: fields.maybe("cursor", cursor)?,
            },
            "cursor" => Self::Cursor(fields.read("cursor", cursor)?),
            "feed" => Self::Feed {
                symbol: fields.symbol()?,
                state: fields.read("state", |value| FeedState::from_wire(value.as_str()?))?,
            },
            "heartbeat" => Self::Heartbeat {
                ts_us: fields.integer("ts")?,
            },
            "token_expiring" => Self::TokenExpiring {
                in_s: fields.integer("in_s")?,
            },
            "error" => Self::Error(error(&fields)?),
            "goodbye" => Self::Goodbye {
                reason: fields.text("reason")?.to_owned(),
                reconnect_after_ms: fields.maybe_integer("reconnect_after_ms")?,
            },
            "pong" => Self::Pong {
                id: fields.maybe_small("id")?,
                ts_us: fields.integer("ts")?,
            },
            kind => {
                return Err(DecodeError::UnknownKind {
                    kind: kind.to_owned(),
                });
            }
        })
    }
}

/// The fields of an object, asked for one by one; `null` counts as absent.
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(super) fn maybe<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, DecodeError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or(DecodeError::Field { name }),
        }
    }

    pub(super) fn read<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, DecodeError> {
        self.maybe(name, read)?.ok_or(DecodeError::Field { name })
    }

    pub(super) fn list<T>(
        &self,
        name: &'static str,
        read: impl FnMut(&'a Value) -> Option<T>,
    ) -> Result<Vec<T>, DecodeError> {
        self.read(name, |value| value.as_array()?.iter().map(read).collect())
    }

    pub(super) fn text(&self, name: &'static str) -> Result<&'a str, DecodeError> {
        self.read(name, Value::as_str)
    }

    pub(super) fn integer(&self, name: &'static str) -> Result<u64, DecodeError> {
        self.read(name, Value::as_u64)
    }

    pub(super) fn maybe_integer(&self, name: &'static str) -> Result<Option<u64>, DecodeError> {
        self.maybe(name, Value::as_u64)
    }

    pub(super) fn small(&self, name: &'static str) -> Result<u32, DecodeError> {
        self.read(name, small)
    }

    pub(super) fn maybe_small(&self, name: &'static str) -> Result<Option<u32>, DecodeError> {
        self.maybe(name, small)
    }

    fn symbol(&self) -> Result<Symbol, DecodeError> {
        self.read("symbol", |value| value.as_str()?.parse().ok())
    }
}

fn small(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

fn cursor(value: &Value) -> Option<Cursor> {
    value.as_str()?.parse().ok()
}

fn decimal(value: &Value) -> Option<Decimal> {
    value.as_str()?.parse().ok()
}

fn welcome(fields: &Fields<'_>) -> Result<Welcome, DecodeError> {
    let limits = Fields(fields.read("limits", Value::as_object)?);
    Ok(Welcome {
        session: fields.text("session")?.to_owned(),
        protocol: fields.read("protocol", |value| Subprotocol::from_wire(value.as_str()?))?,
        heartbeat_ms: fields.integer("heartbeat_ms")?,
        token_exp: fields.integer("token_exp")?,
        limits: Limits {
            symbols: limits.small("symbols")?,
            message_bytes: limits.small("message_bytes")?,
            ops_per_s: limits.small("ops_per_s")?,
        },
    })
}

fn start(fields: &Fields<'_>) -> Result<Start, DecodeError> {
    Ok(Start {
        symbol: fields.symbol()?,
        epoch: fields.integer("epoch")?,
        trade: fields.maybe_integer("trade")?,
        quote: fields.maybe_integer("quote")?,
        replay: fields.maybe_small("replay")?,
    })
}

fn gap(fields: &Fields<'_>) -> Result<Gap, DecodeError> {
    Ok(Gap {
        symbol: fields.symbol()?,
        channel: fields.read("channel", |value| Channel::from_wire(value.as_str()?))?,
        epoch: fields.integer("epoch")?,
        from: fields.maybe_integer("from")?,
        to: fields.maybe_integer("to")?,
        reason: fields.read("reason", |value| GapReason::from_wire(value.as_str()?))?,
        replay: fields.maybe_small("replay")?,
    })
}

fn error(fields: &Fields<'_>) -> Result<ErrorReply, DecodeError> {
    Ok(ErrorReply {
        id: fields.maybe_small("id")?,
        code: fields.read("code", |value| ErrorCode::from_wire(value.as_str()?))?,
        message: fields.text("message")?.to_owned(),
        msg: fields.maybe_integer("msg")?,
        index: fields.maybe_small("index")?,
        symbol: fields.maybe("symbol", Value::as_str)?.map(str::to_owned),
    })
}

fn tick(fields: &Fields<'_>, channel: Channel) -> Result<Reply, DecodeError> {
    let tick = Tick {
        symbol: fields.symbol()?,
        identity: Identity {
            epoch: fields.integer("epoch")?,
            seq: fields.integer("seq")?,
        },
        ts_ns: fields.read("ts", |value| value.as_u64()?.checked_mul(1_000))?,
        values: match channel {
            Channel::Trade => trade(fields)?,
            Channel::Quote => quote(fields)?,
        },
    };
    let marks = Marks {
        snapshot: fields.maybe("snapshot", Value::as_bool)?.unwrap_or(false),
        skipped: fields.maybe_small("skipped")?.unwrap_or(0),
        replay: fields.maybe_small("replay")?,
    };
    Ok(Reply::Tick(tick, marks))
}

fn trade(fields: &Fields<'_>) -> Result<Values, DecodeError> {
    let price = fields.read("price", decimal)?;
    let size = fields.maybe("size", decimal)?;
    let side = fields.maybe("side", |value| Side::from_wire(value.as_str()?))?;
    Values::trade(price, size, side).map_err(|_| DecodeError::Field { name: "size" })
}

fn quote(fields: &Fields<'_>) -> Result<Values, DecodeError> {
    let (bid, bid_size) = (
        fields.read("bid", decimal)?,
        fields.maybe("bid_size", decimal)?,
    );
    let (ask, ask_size) = (
        fields.read("ask", decimal)?,
        fields.maybe("ask_size", decimal)?,
    );
    Values::quote(bid, bid_size, ask, ask_size).map_err(|_| DecodeError::Field { name: "ask" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_ignored_and_unknown_kinds_told_apart() {
        assert_eq!(
            Reply::from_json(r#"{"type":"heartbeat","ts":5,"mood":"fine"}"#),
            Ok(Reply::Heartbeat { ts_us: 5 })
        );
        let unknown = |kind: &str| {
            Err(DecodeError::UnknownKind {
                kind: kind.to_owned(),
            })
        };
        assert_eq!(Reply::from_json(r#"{"type":"news"}"#), unknown("news"));
        assert_eq!(
            Reply::from_json(r#"{"type":"ack","op":"dance"}"#),
            unknown("dance")
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (text, name) in [
            ("{}", "type"),
            (r#"{"type":7}"#, "type"),
            (r#"{"type":"heartbeat"}"#, "ts"),
            (r#"{"type":"heartbeat","ts":-1}"#, "ts"),
            (r#"{"type":"feed","symbol":"A B","state":"live"}"#, "symbol"),
            (
                r#"{"type":"trade","symbol":"A","epoch":1,"seq":1,"ts":1,"price":1.5}"#,
                "price",
            ),
            (
                r#"{"type":"trade","symbol":"A","epoch":1,"seq":1,"ts":99999999999999999,"price":"1"}"#,
                "ts",
            ),
            (
                r#"{"type":"gap","symbol":"A","channel":"trade","epoch":1,"reason":"boredom"}"#,
                "reason",
            ),
        ] {
            assert_eq!(
                Reply::from_json(text),
                Err(DecodeError::Field { name }),
                "{text}"
            );
        }
        for text in ["", "[]", "7", "{", "null"] {
            assert_eq!(
                Reply::from_json(text),
                Err(DecodeError::NotAnObject),
                "{text}"
            );
        }
    }
}
