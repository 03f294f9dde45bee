//! The fields of a request, each checked for its type and range, and named where it is wrong.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::{
    code::ErrorCode,
    cursor::Cursor,
    request::{
        INTERVAL_MS, INTERVAL_MS_DEFAULT, Mode, Point, REJECTED_BYTES_MAX, Selection, Since,
    },
    symbol::Symbol,
    text,
    tick::{Channel, Channels, IDENTITY_MAX},
};

/// A [`crate::request::RequestError`] that does not know the id yet.
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

pub(super) type Refusable<T> = Result<T, Refusal>;

pub(super) fn bad_request(message: impl Into<String>) -> Refusal {
    Refusal {
        code: ErrorCode::BadRequest,
        message: message.into(),
    }
}

/// The fields of an object, named in refusals with what they stand in.
pub(super) struct Fields<'a> {
    pub(super) map: &'a Map<String, Value>,
    pub(super) within: &'a str,
}

impl<'a> Fields<'a> {
    fn name(&self, name: &str) -> String {
        if self.within.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.within)
        }
    }

    pub(super) fn missing(&self, name: &str) -> Refusal {
        bad_request(format!("{} is missing", self.name(name)))
    }

    /// Refuses every field that is not in `names`, before any value is looked at: a misspelt name
    /// should be told rather than that the right one is missing.
    pub(super) fn only(&self, names: &[&str]) -> Refusable<()> {
        match self.map.keys().find(|key| !names.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(Refusal {
                code: ErrorCode::UnknownField,
                message: format!("unknown field {:?}", self.name(shortened(key))),
            }),
        }
    }

    /// Reads a field that may be absent; `expected` completes the sentence "the field is …".
    pub(super) fn read<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Refusable<Option<T>> {
        let refusal = || bad_request(format!("{} is {expected}", self.name(name)));
        self.map
            .get(name)
            .map(|value| read(value).ok_or_else(refusal))
            .transpose()
    }

    pub(super) fn text(&self, name: &str) -> Refusable<Option<&'a str>> {
        self.read(name, "a string", Value::as_str)
    }

    pub(super) fn integer(&self, name: &str, range: RangeInclusive<u64>) -> Refusable<Option<u64>> {
        let expected = format!("an integer {}…{}", range.start(), range.end());
        self.read(name, &expected, |value| {
            value.as_u64().filter(|number| range.contains(number))
        })
    }

    pub(super) fn small(&self, name: &str, range: RangeInclusive<u32>) -> Refusable<Option<u32>> {
        let (least, most) = range.into_inner();
        let number = self.integer(name, least.into()..=most.into())?;
        Ok(number.map(|number| number as u32))
    }

    pub(super) fn filled_array(&self, name: &str) -> Refusable<&'a [Value]> {
        let filled = |value: &'a Value| {
            value
                .as_array()
                .map(Vec::as_slice)
                .filter(|array| !array.is_empty())
        };
        self.read(name, "an array with at least one entry", filled)?
            .ok_or_else(|| self.missing(name))
    }

    pub(super) fn selection(&self) -> Refusable<Selection> {
        let entries = self.filled_array("symbols")?;
        entries
            .iter()
            .map(Value::as_str)
            .collect::<Option<Selection>>()
            .ok_or_else(|| bad_request("symbols is an array of strings"))
    }

    pub(super) fn channels(&self) -> Refusable<Channels> {
        let expected = "an array of \"trade\" and \"quote\", with at least one of them";
        let read = |value: &Value| {
            let channels = value
                .as_array()?
                .iter()
                .try_fold(Channels::NONE, |channels, name| {
                    Some(channels.with(Channel::from_wire(name.as_str()?)?))
                })?;
            (!channels.is_empty()).then_some(channels)
        };
        Ok(self
            .read("channels", expected, read)?
            .unwrap_or(Channels::BOTH))
    }

    pub(super) fn mode(&self) -> Refusable<Mode> {
        let interval_ms = self.small("interval_ms", INTERVAL_MS)?;
        match (self.text("mode")?.unwrap_or("stream"), interval_ms) {
            ("stream", None) => Ok(Mode::Stream),
            ("stream", Some(_)) => Err(bad_request("interval_ms is only for mode \"conflate\"")),
            ("conflate", interval_ms) => Ok(Mode::Conflate {
                interval_ms: interval_ms.unwrap_or(INTERVAL_MS_DEFAULT),
            }),
            _ => Err(bad_request("mode is \"stream\" or \"conflate\"")),
        }
    }

    pub(super) fn since(&self) -> Refusable<Option<Since>> {
        let Some(map) = self.read("since", "an object", Value::as_object)? else {
            return Ok(None);
        };
        let mut since = Since::default();
        for (key, value) in map {
            match value {
                Value::String(cursor) if key == "cursor" => {
                    since.cursor = Some(Cursor::parse(cursor).map_err(|error| Refusal {
                        code: ErrorCode::BadCursor,
                        message: format!("since.cursor: {error}"),
                    })?);
                }
                _ => since.points.push((since_symbol(key)?, point(key, value)?)),
            }
        }
        Ok(Some(since))
    }
}

fn since_symbol(key: &str) -> Refusable<Symbol> {
    Symbol::parse(key).map_err(|error| Refusal {
        code: ErrorCode::BadSymbol,
        message: format!("since names {:?}: {error}", shortened(key)),
    })
}

fn point(symbol: &str, value: &Value) -> Refusable<Point> {
    let map = value.as_object().ok_or_else(|| {
        bad_request(format!(
            "since.{symbol} is an object with epoch, trade and quote"
        ))
    })?;
    let fields = Fields {
        map,
        within: symbol,
    };
    fields.only(&["epoch", "trade", "quote"])?;
    Ok(Point {
        epoch: fields
            .integer("epoch", 1..=IDENTITY_MAX)?
            .ok_or_else(|| fields.missing("epoch"))?,
        trade: fields.integer("trade", 0..=IDENTITY_MAX)?,
        quote: fields.integer("quote", 0..=IDENTITY_MAX)?,
    })
}

pub(super) fn shortened(foreign: &str) -> &str {
    text::prefix(foreign, REJECTED_BYTES_MAX)
}
