//! Requests, written: for clients and publishers.

use super::object::{Object, escaped};
use crate::{
    request::{Declaration, Mode, Op, Point, Request, Selection, Since},
    symbol::Symbol,
    tick::{Channel, Channels},
};

impl Request {
    /// The request as one JSON object, without the fields that have their default value.
    pub fn to_json(&self) -> String {
        let mut out = Vec::with_capacity(128);
        let request = Object::request(&mut out, self.op.name()).maybe_integer("id", self.id);
        self.op.write_fields(request).end();
        // Every field is written from a str, so the fallback is never taken.
        String::from_utf8(out).unwrap_or_default()
    }
}

impl Op {
    /// The text of `op`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Subscribe(_) => "subscribe",
            Self::Replay(_) => "replay",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::List => "list",
            Self::Auth { .. } => "auth",
            Self::Options { .. } => "options",
            Self::Ping => "ping",
            Self::Flush => "flush",
            Self::Declare(_) => "declare",
        }
    }

    fn write_fields<'a>(&self, request: Object<'a>) -> Object<'a> {
        match self {
            Self::Subscribe(subscribe) => {
                let request = with_channels(
                    with_symbols(request, &subscribe.selection),
                    subscribe.channels,
                );
                let request = with_mode(request, subscribe.mode);
                let request = if subscribe.snapshot {
                    request
                } else {
                    request.flag("snapshot", false)
                };
                match &subscribe.since {
                    Some(since) => request.field("since", |out| write_since(out, since)),
                    None => request,
                }
            }
            Self::Replay(replay) => {
                with_channels(with_symbols(request, &replay.selection), replay.channels)
                    .field("since", |out| write_since(out, &replay.since))
            }
            Self::Unsubscribe(selection) => with_symbols(request, selection),
            Self::Auth { token } => request.text("token", token),
            Self::Options { max_delay_ms } => request.maybe_integer("max_delay_ms", *max_delay_ms),
            Self::Declare(declarations) => request.list("symbols", declarations, write_declaration),
            Self::List | Self::Ping | Self::Flush => request,
        }
    }
}

/// Entries that could not be read are written too, so that the engine tells the caller about them.
fn with_symbols<'a>(request: Object<'a>, selection: &Selection) -> Object<'a> {
    let good = selection.selectors.iter().map(ToString::to_string);
    let bad = selection
        .rejected
        .iter()
        .map(|rejected| rejected.symbol.clone());
    request.list("symbols", good.chain(bad), |out, entry| {
        escaped(out, &entry);
    })
}

fn with_channels(request: Object<'_>, channels: Channels) -> Object<'_> {
    if channels == Channels::BOTH {
        return request;
    }
    request.plain_list("channels", channels.iter().map(Channel::as_str))
}

fn with_mode(request: Object<'_>, mode: Mode) -> Object<'_> {
    match mode {
        Mode::Stream => request,
        Mode::Conflate { interval_ms } => request
            .plain("mode", "conflate")
            .integer("interval_ms", interval_ms),
    }
}

fn write_since(out: &mut Vec<u8>, since: &Since) {
    let mut object = Object::begin(out);
    if let Some(cursor) = &since.cursor {
        object = object.plain("cursor", cursor);
    }
    for (symbol, point) in &since.points {
        // A symbol named like the field can only be named where there is no cursor; where there is
        // one, that covers the symbol.
        if since.cursor.is_none() || symbol.as_str() != "cursor" {
            object = with_point(object, symbol, point);
        }
    }
    object.end();
}

fn with_point<'a>(since: Object<'a>, symbol: &Symbol, point: &Point) -> Object<'a> {
    since.field(symbol.as_str(), |out| {
        Object::begin(out)
            .integer("epoch", point.epoch)
            .maybe_integer("trade", point.trade)
            .maybe_integer("quote", point.quote)
            .end();
    })
}

fn write_declaration(out: &mut Vec<u8>, declaration: &Declaration) {
    Object::begin(out)
        .text("symbol", &declaration.symbol)
        .maybe_integer("id", declaration.id)
        .maybe_integer("epoch", declaration.epoch)
        .end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Cursor;

    #[test]
    fn defaults_are_left_out() {
        let list = Request {
            id: Some(6),
            op: Op::List,
        };
        assert_eq!(list.to_json(), r#"{"op":"list","id":6}"#);
        let auth = Request {
            id: None,
            op: Op::Auth {
                token: "a\"b".to_owned(),
            },
        };
        assert_eq!(auth.to_json(), r#"{"op":"auth","token":"a\"b"}"#);
    }

    #[test]
    fn a_cursor_stands_for_a_symbol_that_is_called_cursor() {
        let cursor = Cursor {
            tape: 1,
            position: 2,
            admitted_ns: 3,
        };
        let point = Point {
            epoch: 1,
            trade: None,
            quote: None,
        };
        let since = Since {
            cursor: Some(cursor),
            points: vec![("cursor".parse().unwrap(), point)],
        };
        let mut out = Vec::new();
        write_since(&mut out, &since);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(r#"{{"cursor":"{cursor}"}}"#)
        );
    }
}
