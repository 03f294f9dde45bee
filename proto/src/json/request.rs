//! Requests, read from text that anybody may have written.

use serde_json::{Map, Value};

use super::request_fields::{Fields, Refusable, Refusal, bad_request, shortened};
use crate::{
    code::ErrorCode,
    request::{
        Declaration, MAX_DELAY_MS_MAX, Op, REQUEST_ID_MAX, Replay, Request, RequestError, Subscribe,
    },
    tick::IDENTITY_MAX,
    upgrade::Endpoint,
};

impl Request {
    /// Reads a text message that is no tick.
    ///
    /// # Errors
    ///
    /// [`RequestError`] with the request's id where that could be read: `bad_json` for what is no
    /// JSON object or nested deeper than 128 levels, `unknown_op` also for an op of the other
    /// endpoint, `unknown_field`, `bad_cursor`, `bad_symbol` for a name in `since` that is none, and
    /// `bad_request` for the rest. An entry of `symbols` that is no symbol is no error of the
    /// request: it ends up in [`crate::request::Selection::rejected`].
    pub fn from_json(text: &str, endpoint: Endpoint) -> Result<Self, RequestError> {
        let refused = |id| move |Refusal { code, message }| RequestError { id, code, message };
        let map = object(text).map_err(refused(None))?;
        let fields = Fields {
            map: &map,
            within: "",
        };
        let id = fields
            .small("id", 0..=REQUEST_ID_MAX)
            .map_err(refused(None))?;
        let op = op(&fields, id, endpoint).map_err(refused(id))?;
        Ok(Self { id, op })
    }
}

fn object(text: &str) -> Refusable<Map<String, Value>> {
    let message = match serde_json::from_str(text) {
        Ok(Value::Object(map)) => return Ok(map),
        Ok(_) => "a request is a JSON object".to_owned(),
        Err(error) => format!("not JSON: {error}"),
    };
    Err(Refusal {
        code: ErrorCode::BadJson,
        message,
    })
}

fn op(fields: &Fields<'_>, id: Option<u32>, endpoint: Endpoint) -> Refusable<Op> {
    let name = fields.text("op")?.ok_or_else(|| fields.missing("op"))?;
    match (name, endpoint) {
        ("subscribe", Endpoint::Subscribe) => subscribe(fields).map(Op::Subscribe),
        ("replay", Endpoint::Subscribe) => replay(fields, id).map(Op::Replay),
        ("unsubscribe", Endpoint::Subscribe) => {
            fields.only(&["op", "id", "symbols"])?;
            fields.selection().map(Op::Unsubscribe)
        }
        ("list", Endpoint::Subscribe) => fields.only(&["op", "id"]).map(|()| Op::List),
        ("options", Endpoint::Subscribe) => {
            fields.only(&["op", "id", "max_delay_ms"])?;
            let max_delay_ms = fields.small("max_delay_ms", 0..=MAX_DELAY_MS_MAX)?;
            Ok(Op::Options { max_delay_ms })
        }
        ("flush", Endpoint::Publish) => fields.only(&["op", "id"]).map(|()| Op::Flush),
        ("declare", Endpoint::Publish) => declare(fields).map(Op::Declare),
        ("auth", _) => {
            fields.only(&["op", "id", "token"])?;
            let token = fields
                .text("token")?
                .ok_or_else(|| fields.missing("token"))?
                .to_owned();
            Ok(Op::Auth { token })
        }
        ("ping", _) => fields.only(&["op", "id"]).map(|()| Op::Ping),
        _ => Err(Refusal {
            code: ErrorCode::UnknownOp,
            message: format!("{} has no op {:?}", endpoint.path(), shortened(name)),
        }),
    }
}

fn subscribe(fields: &Fields<'_>) -> Refusable<Subscribe> {
    fields.only(&[
        "op",
        "id",
        "symbols",
        "channels",
        "mode",
        "interval_ms",
        "snapshot",
        "since",
    ])?;
    Ok(Subscribe {
        selection: fields.selection()?,
        channels: fields.channels()?,
        mode: fields.mode()?,
        snapshot: fields
            .read("snapshot", "true or false", Value::as_bool)?
            .unwrap_or(true),
        since: fields.since()?,
    })
}

fn replay(fields: &Fields<'_>, id: Option<u32>) -> Refusable<Replay> {
    fields.only(&["op", "id", "symbols", "channels", "since"])?;
    if id.is_none() {
        return Err(fields.missing("id"));
    }
    Ok(Replay {
        selection: fields.selection()?,
        channels: fields.channels()?,
        since: fields.since()?.ok_or_else(|| fields.missing("since"))?,
    })
}

fn declare(fields: &Fields<'_>) -> Refusable<Vec<Declaration>> {
    fields.only(&["op", "id", "symbols"])?;
    fields
        .filled_array("symbols")?
        .iter()
        .map(declaration)
        .collect()
}

fn declaration(value: &Value) -> Refusable<Declaration> {
    let map = value
        .as_object()
        .ok_or_else(|| bad_request("symbols is an array of objects"))?;
    let fields = Fields {
        map,
        within: "symbols",
    };
    fields.only(&["symbol", "id", "epoch"])?;
    Ok(Declaration {
        symbol: fields
            .text("symbol")?
            .ok_or_else(|| fields.missing("symbol"))?
            .to_owned(),
        id: fields.small("id", 0..=REQUEST_ID_MAX)?,
        epoch: fields.integer("epoch", 1..=IDENTITY_MAX)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cursor::Cursor,
        pattern::Selector,
        request::{Mode, Point, Rejected, Selection, Since},
        tick::{Channel, Channels},
    };

    const CURSOR: Cursor = Cursor {
        tape: 1,
        position: 2,
        admitted_ns: 3,
    };

    fn read(text: &str) -> Result<Request, RequestError> {
        Request::from_json(text, Endpoint::Subscribe)
    }

    fn selectors(texts: &[&str]) -> Selection {
        Selection {
            selectors: texts
                .iter()
                .map(|text| Selector::parse(text).unwrap())
                .collect(),
            rejected: Vec::new(),
        }
    }

    fn subscribe_to(texts: &[&str]) -> Subscribe {
        Subscribe {
            selection: selectors(texts),
            channels: Channels::BOTH,
            mode: Mode::Stream,
            snapshot: true,
            since: None,
        }
    }

    #[test]
    fn the_subscriptions_of_the_protocol_are_read() {
        let read_subscribe = |text: &str| match read(text).unwrap() {
            Request {
                id: Some(id),
                op: Op::Subscribe(subscribe),
            } => (id, subscribe),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            read_subscribe(
                r#"{"op":"subscribe","id":1,"symbols":["AAPL","BTC-*"],"channels":["trade","quote"],"snapshot":true}"#
            ),
            (1, subscribe_to(&["AAPL", "BTC-*"]))
        );
        assert_eq!(
            read_subscribe(
                r#"{"op":"subscribe","id":2,"symbols":["AAPL"],"mode":"conflate","interval_ms":250}"#
            ),
            (
                2,
                Subscribe {
                    mode: Mode::Conflate { interval_ms: 250 },
                    ..subscribe_to(&["AAPL"])
                }
            )
        );
        let point = Point {
            epoch: 7,
            trade: Some(41),
            quote: Some(97),
        };
        let since = Since {
            cursor: None,
            points: vec![("AAPL".parse().unwrap(), point)],
        };
        assert_eq!(
            read_subscribe(
                r#"{"op":"subscribe","id":3,"symbols":["AAPL"],"since":{"AAPL":{"epoch":7,"trade":41,"quote":97}}}"#
            ),
            (
                3,
                Subscribe {
                    since: Some(since),
                    ..subscribe_to(&["AAPL"])
                }
            )
        );
    }

    #[test]
    fn a_replay_is_read_and_needs_an_id() {
        let text = |id: &str| {
            format!(
                r#"{{"op":"replay",{id}"symbols":["AAPL"],"channels":["trade"],"since":{{"cursor":"{CURSOR}"}}}}"#
            )
        };
        let expected = Replay {
            selection: selectors(&["AAPL"]),
            channels: Channel::Trade.into(),
            since: Since {
                cursor: Some(CURSOR),
                points: Vec::new(),
            },
        };
        assert_eq!(
            read(&text(r#""id":9,"#)),
            Ok(Request {
                id: Some(9),
                op: Op::Replay(expected)
            })
        );
        let error = read(&text("")).unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (ErrorCode::BadRequest, "id is missing")
        );
    }

    #[test]
    fn a_bad_entry_is_rejected_by_itself_and_repeats_are_dropped() {
        let long = "é".repeat(40);
        let text =
            format!(r#"{{"op":"unsubscribe","symbols":["A","A B","A","{long}","A B","B*"]}}"#);
        let rejected = |symbol: &str| Rejected {
            symbol: symbol.to_owned(),
            code: ErrorCode::BadSymbol,
        };
        let selection = Selection {
            rejected: vec![rejected("A B"), rejected(&"é".repeat(32))],
            ..selectors(&["A", "B*"])
        };
        assert_eq!(
            read(&text),
            Ok(Request {
                id: None,
                op: Op::Unsubscribe(selection)
            })
        );
    }

    #[test]
    fn a_symbol_may_be_called_cursor() {
        let text = r#"{"op":"subscribe","symbols":["cursor"],"since":{"cursor":{"epoch":1}}}"#;
        let Op::Subscribe(subscribe) = read(text).unwrap().op else {
            panic!()
        };
        assert_eq!(subscribe.since.unwrap().points[0].0.as_str(), "cursor");
    }

    #[test]
    fn ops_belong_to_their_endpoint() {
        let declare = r#"{"op":"declare","id":1,"symbols":[{"symbol":"AAPL","id":1,"epoch":7},{"symbol":"A B"}]}"#;
        let entries = vec![
            Declaration {
                symbol: "AAPL".to_owned(),
                id: Some(1),
                epoch: Some(7),
            },
            Declaration {
                symbol: "A B".to_owned(),
                id: None,
                epoch: None,
            },
        ];
        assert_eq!(
            Request::from_json(declare, Endpoint::Publish),
            Ok(Request {
                id: Some(1),
                op: Op::Declare(entries)
            })
        );
        let with_op = |op: &str| format!(r#"{{"op":"{op}","symbols":["A"],"since":{{}},"id":1}}"#);
        for op in ["subscribe", "replay", "unsubscribe", "list", "options"] {
            let error = Request::from_json(&with_op(op), Endpoint::Publish).unwrap_err();
            assert_eq!(
                (error.id, error.code),
                (Some(1), ErrorCode::UnknownOp),
                "{op}"
            );
        }
        for op in ["flush", "declare", "Subscribe", ""] {
            assert_eq!(
                read(&with_op(op)).unwrap_err().code,
                ErrorCode::UnknownOp,
                "{op}"
            );
        }
        for endpoint in [Endpoint::Subscribe, Endpoint::Publish] {
            assert_eq!(
                Request::from_json(r#"{"op":"ping"}"#, endpoint),
                Ok(Request {
                    id: None,
                    op: Op::Ping
                })
            );
            assert!(Request::from_json(r#"{"op":"auth","token":"t"}"#, endpoint).is_ok());
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let text = format!(r#"{{"op":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
        assert_eq!(read(&text).unwrap_err().code, ErrorCode::BadJson);
    }
}
