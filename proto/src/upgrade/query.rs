//! The query of an upgrade, or of an edge's pages: a subscription made before anything is sent.

use std::str::FromStr;

use super::{Endpoint, UpgradeError};
use crate::{
    code::ErrorCode,
    cursor::{Cursor, CursorError, EdgeCursor},
    request::{
        INTERVAL_MS, INTERVAL_MS_DEFAULT, MAX_DELAY_MS_MAX, Mode, Selection, Since, Subscribe,
    },
    tick::{Channel, Channels},
};

/// Names under which tokens are often sent; a URL ends up in logs and histories.
const SECRETS: [&str; 3] = ["token", "access_token", "jwt"];

/// The longest `wait` of a poll, s.
pub const WAIT_S_MAX: u32 = 60;
/// `wait` where a poll names none, s.
pub const WAIT_S_DEFAULT: u32 = 25;

/// A path, and the parameters that it takes.
struct Place {
    path: &'static str,
    names: &'static [&'static str],
}

const SUBSCRIBE: Place = Place {
    path: "/v1/ws",
    names: &[
        "symbols",
        "channels",
        "mode",
        "interval_ms",
        "snapshot",
        "cursor",
        "max_delay_ms",
    ],
};
const PUBLISH: Place = Place {
    path: "/v1/publish",
    names: &[],
};
const SSE: Place = Place {
    path: "/v1/sse",
    names: &[
        "symbols",
        "channels",
        "mode",
        "interval_ms",
        "snapshot",
        "cursor",
    ],
};
const POLL: Place = Place {
    path: "/v1/poll",
    names: &[
        "symbols",
        "channels",
        "mode",
        "interval_ms",
        "snapshot",
        "cursor",
        "wait",
    ],
};

/// What the query of `/v1/ws` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The subscription, where `symbols` is given.
    pub subscribe: Option<Subscribe>,
    /// The connection's latency budget, 0…[`MAX_DELAY_MS_MAX`].
    pub max_delay_ms: Option<u32>,
}

impl Query {
    /// Reads the part of a URL behind the `?`.
    ///
    /// Names and values are percent-decoded (RFC 3986; a `+` stays a `+`) before lists are split at
    /// their commas. As in a request, an entry of `symbols` that is no symbol is kept as rejected.
    ///
    /// # Errors
    ///
    /// [`UpgradeError`] for an unknown or repeated parameter, for a value outside its range, for
    /// options of a subscription without `symbols`, and for any parameter of `/v1/publish`.
    pub fn parse(raw: &str, endpoint: Endpoint) -> Result<Self, UpgradeError> {
        let place = match endpoint {
            Endpoint::Subscribe => &SUBSCRIBE,
            Endpoint::Publish => &PUBLISH,
        };
        Parameters::read(raw, place)?.into_query()
    }
}

/// The pages of an edge that give ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Page {
    /// `/v1/sse`: a stream of Server-Sent Events.
    Sse,
    /// `/v1/poll`: one answer.
    Poll,
}

/// What the query of an edge's page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeQuery {
    /// The subscription; its `since` is empty, as an edge's cursor says more.
    pub subscribe: Subscribe,
    /// Where to go on.
    pub cursor: Option<EdgeCursor>,
    /// How long a poll may wait for something newer, 0…[`WAIT_S_MAX`] s.
    pub wait_s: u32,
}

impl EdgeQuery {
    /// Reads the part of a URL behind the `?`, as [`Query::parse`] does.
    ///
    /// # Errors
    ///
    /// [`UpgradeError`] as there, and where `symbols` is missing.
    pub fn parse(raw: &str, page: Page) -> Result<Self, UpgradeError> {
        let place = match page {
            Page::Sse => &SSE,
            Page::Poll => &POLL,
        };
        let mut parameters = Parameters::read(raw, place)?;
        let cursor = parameters.cursor.take();
        let subscribe = parameters
            .subscribe()?
            .ok_or_else(|| UpgradeError::bad_request("symbols is missing"))?;
        Ok(Self {
            subscribe,
            cursor: cursor.as_deref().map(edge_cursor).transpose()?,
            wait_s: parameters
                .wait
                .as_deref()
                .map_or(Ok(WAIT_S_DEFAULT), |text| {
                    number("wait", text, 0..=WAIT_S_MAX)
                })?,
        })
    }
}

/// Reads an edge's cursor, wherever it was sent.
///
/// # Errors
///
/// [`UpgradeError`] with the code `bad_cursor`.
pub fn edge_cursor(text: &str) -> Result<EdgeCursor, UpgradeError> {
    EdgeCursor::parse(text).map_err(bad_cursor)
}

/// The parameters as texts, before any is judged: their order in a URL means nothing.
#[derive(Default)]
struct Parameters {
    symbols: Option<String>,
    channels: Option<String>,
    mode: Option<String>,
    interval_ms: Option<String>,
    snapshot: Option<String>,
    cursor: Option<String>,
    max_delay_ms: Option<String>,
    wait: Option<String>,
}

impl Parameters {
    fn read(raw: &str, place: &Place) -> Result<Self, UpgradeError> {
        let mut parameters = Self::default();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.take(&decode(name)?, decode(value)?, place)?;
        }
        Ok(parameters)
    }

    fn take(&mut self, name: &str, value: String, place: &Place) -> Result<(), UpgradeError> {
        if SECRETS.contains(&name) {
            return Err(UpgradeError::bad_request(format!(
                "{name} is not taken from a URL; send Authorization: Bearer, or, with a WebSocket, tickwire.bearer. in Sec-WebSocket-Protocol",
            )));
        }
        let slot = match name {
            _ if !place.names.contains(&name) => return Err(unknown(name, place)),
            "symbols" => &mut self.symbols,
            "channels" => &mut self.channels,
            "mode" => &mut self.mode,
            "interval_ms" => &mut self.interval_ms,
            "snapshot" => &mut self.snapshot,
            "cursor" => &mut self.cursor,
            "max_delay_ms" => &mut self.max_delay_ms,
            _ => &mut self.wait,
        };
        if slot.replace(value).is_some() {
            return Err(UpgradeError::bad_request(format!("{name} is given twice")));
        }
        Ok(())
    }

    fn into_query(self) -> Result<Query, UpgradeError> {
        let max_delay_ms = self
            .max_delay_ms
            .as_deref()
            .map(|text| number("max_delay_ms", text, 0..=MAX_DELAY_MS_MAX))
            .transpose()?;
        Ok(Query {
            subscribe: self.subscribe()?,
            max_delay_ms,
        })
    }

    fn subscribe(&self) -> Result<Option<Subscribe>, UpgradeError> {
        let Some(symbols) = self.symbols.as_deref() else {
            return self.refuse_options().map(|()| None);
        };
        if symbols.is_empty() {
            return Err(UpgradeError::bad_request("symbols is empty"));
        }
        Ok(Some(Subscribe {
            selection: symbols.split(',').collect::<Selection>(),
            channels: self
                .channels
                .as_deref()
                .map_or(Ok(Channels::BOTH), channels)?,
            mode: mode(self.mode.as_deref(), self.interval_ms.as_deref())?,
            snapshot: self.snapshot.as_deref().map_or(Ok(true), snapshot)?,
            since: self.cursor.as_deref().map(since).transpose()?,
        }))
    }

    fn refuse_options(&self) -> Result<(), UpgradeError> {
        let options = [
            ("channels", &self.channels),
            ("mode", &self.mode),
            ("interval_ms", &self.interval_ms),
            ("snapshot", &self.snapshot),
            ("cursor", &self.cursor),
        ];
        match options.into_iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => Err(UpgradeError::bad_request(format!("{name} needs symbols"))),
            None => Ok(()),
        }
    }
}

fn unknown(name: &str, place: &Place) -> UpgradeError {
    // A name that does not look like one may be a secret without its `=`.
    let plain = name.len() <= 32
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let message = if plain {
        format!("{} takes no parameter {name}", place.path)
    } else {
        format!("{} does not take one of these parameters", place.path)
    };
    UpgradeError {
        code: ErrorCode::UnknownField,
        message,
    }
}

fn channels(text: &str) -> Result<Channels, UpgradeError> {
    text.split(',').try_fold(Channels::NONE, |channels, name| {
        Channel::from_wire(name)
            .map(|channel| channels.with(channel))
            .ok_or_else(|| UpgradeError::bad_request("channels is a list of trade and quote"))
    })
}

fn mode(mode: Option<&str>, interval_ms: Option<&str>) -> Result<Mode, UpgradeError> {
    match (mode, interval_ms) {
        (None | Some("stream"), None) => Ok(Mode::Stream),
        (None | Some("stream"), Some(_)) => {
            Err(UpgradeError::bad_request("interval_ms needs mode conflate"))
        }
        (Some("conflate"), interval_ms) => Ok(Mode::Conflate {
            interval_ms: interval_ms.map_or(Ok(INTERVAL_MS_DEFAULT), |text| {
                number("interval_ms", text, INTERVAL_MS)
            })?,
        }),
        (Some(_), _) => Err(UpgradeError::bad_request("mode is stream or conflate")),
    }
}

fn snapshot(text: &str) -> Result<bool, UpgradeError> {
    bool::from_str(text).map_err(|_| UpgradeError::bad_request("snapshot is true or false"))
}

fn since(text: &str) -> Result<Since, UpgradeError> {
    Cursor::parse(text)
        .map(|cursor| Since {
            cursor: Some(cursor),
            points: Vec::new(),
        })
        .map_err(bad_cursor)
}

fn bad_cursor(error: CursorError) -> UpgradeError {
    UpgradeError {
        code: ErrorCode::BadCursor,
        message: error.to_string(),
    }
}

fn number(
    name: &str,
    text: &str,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, UpgradeError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number| digits && range.contains(number))
        .ok_or_else(|| {
            let (least, most) = range.into_inner();
            UpgradeError::bad_request(format!("{name} is an integer {least}…{most}"))
        })
}

/// Percent-decoding after RFC 3986 § 2.1.
fn decode(text: &str) -> Result<String, UpgradeError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = (rest.next().and_then(hex), rest.next().and_then(hex));
            let (Some(high), Some(low)) = digits else {
                return Err(UpgradeError::bad_request(
                    "% in the query is not followed by two hex digits",
                ));
            };
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| UpgradeError::bad_request("the query is not UTF-8"))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::EdgePosition;

    fn parse(raw: &str) -> Result<Query, UpgradeError> {
        Query::parse(raw, Endpoint::Subscribe)
    }

    fn selectors(subscribe: &Subscribe) -> Vec<String> {
        subscribe
            .selection
            .selectors
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn an_edges_pages_take_what_a_socket_takes_but_the_delay() {
        let read = |raw: &str, page| EdgeQuery::parse(raw, page);
        let query = read("symbols=A,B*&channels=trade", Page::Sse).unwrap();
        assert_eq!(selectors(&query.subscribe), ["A", "B*"]);
        assert_eq!((query.cursor, query.wait_s), (None, WAIT_S_DEFAULT));
        assert_eq!(read("symbols=A&wait=0", Page::Poll).unwrap().wait_s, 0);
        let engine = Cursor {
            tape: 1,
            position: 2,
            admitted_ns: 3,
        };
        for own in [
            None,
            Some(EdgePosition {
                edge: 4,
                position: 5,
            }),
        ] {
            let cursor = EdgeCursor { engine, own };
            let query = read(&format!("symbols=A&cursor={cursor}"), Page::Poll).unwrap();
            assert_eq!(query.cursor, Some(cursor));
            assert_eq!(query.subscribe.since, None);
        }
        for (raw, page, code) in [
            ("", Page::Sse, ErrorCode::BadRequest),
            ("cursor=x&symbols=A", Page::Sse, ErrorCode::BadCursor),
            ("symbols=A&wait=5", Page::Sse, ErrorCode::UnknownField),
            ("symbols=A&wait=61", Page::Poll, ErrorCode::BadRequest),
            (
                "symbols=A&max_delay_ms=5",
                Page::Poll,
                ErrorCode::UnknownField,
            ),
            ("symbols=A&token=x", Page::Sse, ErrorCode::BadRequest),
        ] {
            assert_eq!(read(raw, page).unwrap_err().code, code, "{raw}");
        }
    }

    #[test]
    fn no_query_is_no_subscription() {
        assert_eq!(parse(""), Ok(Query::default()));
        assert_eq!(parse("&"), Ok(Query::default()));
        assert_eq!(
            parse("max_delay_ms=20"),
            Ok(Query {
                subscribe: None,
                max_delay_ms: Some(20)
            })
        );
    }

    #[test]
    fn symbols_alone_take_every_default() {
        let subscribe = parse("symbols=AAPL,BTC-*").unwrap().subscribe.unwrap();
        assert_eq!(selectors(&subscribe), ["AAPL", "BTC-*"]);
        assert_eq!(subscribe.channels, Channels::BOTH);
        assert_eq!(subscribe.mode, Mode::Stream);
        assert!(subscribe.snapshot);
        assert_eq!(subscribe.since, None);
    }

    #[test]
    fn every_option_is_read() {
        let cursor = Cursor {
            tape: 1,
            position: 2,
            admitted_ns: 3,
        };
        let query = parse(&format!(
            "snapshot=false&mode=conflate&interval_ms=1000&channels=quote&symbols=A&max_delay_ms=1000&cursor={cursor}"
        ))
        .unwrap();
        let subscribe = query.subscribe.unwrap();
        assert_eq!(subscribe.channels, Channels::from(Channel::Quote));
        assert_eq!(subscribe.mode, Mode::Conflate { interval_ms: 1000 });
        assert!(!subscribe.snapshot);
        assert_eq!(
            subscribe.since,
            Some(Since {
                cursor: Some(cursor),
                points: Vec::new()
            })
        );
        assert_eq!(query.max_delay_ms, Some(1000));
        let defaulted = parse("symbols=A&mode=conflate").unwrap().subscribe.unwrap();
        assert_eq!(
            defaulted.mode,
            Mode::Conflate {
                interval_ms: INTERVAL_MS_DEFAULT
            }
        );
    }

    #[test]
    fn percent_encoding_is_undone_and_a_plus_stays() {
        let subscribe = parse("s%79mbols=USD%2FJPY%2cBTC-%2A,A+B")
            .unwrap()
            .subscribe
            .unwrap();
        assert_eq!(selectors(&subscribe), ["USD/JPY", "BTC-*"]);
        assert_eq!(subscribe.selection.rejected[0].symbol, "A+B");
        for raw in [
            "symbols=%",
            "symbols=%4",
            "symbols=%GG",
            "symbols=%+4",
            "symbols=%FF",
        ] {
            assert_eq!(parse(raw).unwrap_err().code, ErrorCode::BadRequest, "{raw}");
        }
    }

    #[test]
    fn values_outside_their_range_are_refused_by_name() {
        for (raw, name) in [
            ("symbols=", "symbols"),
            ("symbols", "symbols"),
            ("symbols=A&symbols=B", "symbols"),
            ("symbols=A&channels=", "channels"),
            ("symbols=A&channels=trades", "channels"),
            ("symbols=A&mode=fast", "mode"),
            ("symbols=A&interval_ms=250", "interval_ms"),
            ("symbols=A&mode=stream&interval_ms=250", "interval_ms"),
            ("symbols=A&mode=conflate&interval_ms=9", "10…60000"),
            ("symbols=A&mode=conflate&interval_ms=60001", "10…60000"),
            ("symbols=A&mode=conflate&interval_ms=+50", "10…60000"),
            ("symbols=A&snapshot=1", "snapshot"),
            ("max_delay_ms=1001", "0…1000"),
            ("max_delay_ms=-1", "0…1000"),
            ("max_delay_ms=99999999999", "0…1000"),
            ("channels=trade", "needs symbols"),
            ("cursor=x&max_delay_ms=1", "needs symbols"),
        ] {
            let error = parse(raw).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadRequest, "{raw}");
            assert!(error.message.contains(name), "{raw}: {error}");
        }
    }

    #[test]
    fn an_unreadable_cursor_has_its_own_code() {
        assert_eq!(
            parse("symbols=A&cursor=nonsense").unwrap_err().code,
            ErrorCode::BadCursor
        );
    }

    #[test]
    fn secrets_are_refused_by_name_and_never_repeated() {
        for name in ["token", "access_token", "jwt", "%74oken"] {
            for endpoint in [Endpoint::Subscribe, Endpoint::Publish] {
                let error = Query::parse(&format!("{name}=s3cret"), endpoint).unwrap_err();
                assert!(error.message.contains("is not taken from a URL"), "{error}");
                assert!(!error.message.contains("s3cret"), "{error}");
            }
        }
        for raw in ["s3cret.part", "other=s3cret"] {
            let error = parse(raw).unwrap_err();
            assert_eq!(error.code, ErrorCode::UnknownField);
            assert!(!error.message.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn publishers_have_no_parameters() {
        assert_eq!(Query::parse("", Endpoint::Publish), Ok(Query::default()));
        assert!(Query::parse("symbols=A", Endpoint::Publish).is_err());
        assert!(Query::parse("max_delay_ms=1", Endpoint::Publish).is_err());
    }
}
