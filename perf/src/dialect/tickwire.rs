//! tickwire's own protocol, in JSON or SBE (`proto/README.md`); peers speak its JSON.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{
    Channel, Dialect, Event, LostReason, Opening, Outlet, Reader, Replies, json, not_a_message,
    sbe::Sbe,
};
use crate::{
    frame::{Opcode, each_frame, masked, write_masked},
    publisher::{Link, PublishError},
    ticks::{Batch, Symbols},
};

const SUBSCRIBE_ID: u32 = 1;
const OPTIONS_ID: u32 = 2;

/// The dialect.
pub(super) struct Tickwire {
    /// Ticks in binary.
    pub sbe: bool,
    /// The latency budget asked for.
    pub max_delay_ms: Option<u32>,
    /// Whether `*` is understood.
    pub patterns: bool,
}

/// Messages other than ticks.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Control {
    /// Opens an account.
    Start {
        symbol: String,
        epoch: u64,
        trade: Option<u64>,
        quote: Option<u64>,
        replay: Option<u32>,
    },
    /// Ticks that will not come.
    Gap {
        symbol: String,
        channel: Channel,
        epoch: u64,
        from: Option<u64>,
        to: Option<u64>,
        replay: Option<u32>,
    },
    /// A request was carried out, or a publisher's counts.
    Ack {
        id: Option<u32>,
        accepted: Option<u64>,
        /// Subscribers: a list of refused entries. Publishers: ticks refused.
        #[serde(default)]
        rejected: serde_json::Value,
    },
    /// A request or a tick was refused.
    Error { code: String, message: String },
    /// `welcome`, `heartbeat`, `cursor`, `feed`, …
    #[serde(other)]
    Other,
}

struct JsonReader;

struct SbeReader(Sbe);

struct Publish;

impl Tickwire {
    /// The part of it that peers speak.
    pub(super) fn of_peers() -> Self {
        Self {
            sbe: false,
            max_delay_ms: None,
            patterns: false,
        }
    }

    fn opening_of(
        &self,
        symbols: &[&str],
        since: Option<serde_json::Value>,
        token: &str,
    ) -> Opening {
        let mut headers = vec![("Authorization", format!("Bearer {token}"))];
        if self.sbe {
            headers.push(("Sec-WebSocket-Protocol", "tickwire.v1.sbe".to_owned()));
        }
        let mut message = Vec::new();
        if let Some(max_delay_ms) = self.max_delay_ms {
            let options =
                format!(r#"{{"op":"options","id":{OPTIONS_ID},"max_delay_ms":{max_delay_ms}}}"#);
            write_masked(&mut message, Opcode::Text, options.as_bytes());
        }
        let mut subscribe = serde_json::json!({
            "op": "subscribe", "id": SUBSCRIBE_ID, "symbols": symbols,
        });
        match since {
            Some(since) => subscribe["since"] = since,
            None => subscribe["snapshot"] = false.into(),
        }
        write_masked(&mut message, Opcode::Text, subscribe.to_string().as_bytes());
        Opening {
            path: "/v1/ws".to_owned(),
            headers,
            messages: [message].into(),
        }
    }
}

impl Dialect for Tickwire {
    fn name(&self) -> &'static str {
        if self.sbe { "tickwire-sbe" } else { "tickwire" }
    }

    fn opening(&self, symbols: &[&str], token: &str) -> Opening {
        self.opening_of(symbols, None, token)
    }

    fn opening_since(&self, symbols: &[&str], (epoch, seq): (u64, u64), token: &str) -> Opening {
        // Peers that speak its JSON have no history.
        let since = self.patterns.then(|| {
            let point = serde_json::json!({"epoch": epoch, "trade": seq});
            let points = symbols
                .iter()
                .map(|&symbol| (symbol.to_owned(), point.clone()));
            points.collect::<serde_json::Map<_, _>>().into()
        });
        self.opening_of(symbols, since, token)
    }

    fn opening_all(&self, token: &str) -> Option<Opening> {
        self.patterns.then(|| self.opening_of(&["*"], None, token))
    }

    fn reader(&self) -> Box<dyn Reader> {
        if self.sbe {
            Box::new(SbeReader(Sbe::default()))
        } else {
            Box::new(JsonReader)
        }
    }

    fn publisher(
        &self,
        server: SocketAddr,
        _symbols: &Symbols,
        token: &str,
    ) -> Result<(Link, Box<dyn Outlet>), PublishError> {
        let headers = [("Authorization", format!("Bearer {token}"))];
        let link = Link::upgraded(server, "/v1/publish", &headers)?;
        Ok((link, Box::new(Publish)))
    }
}

impl Reader for JsonReader {
    fn take(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        symbols: &Symbols,
        each: &mut dyn FnMut(Event) -> Result<(), LostReason>,
    ) -> Result<(), LostReason> {
        if opcode == Opcode::Binary {
            return Err(LostReason::NotAMessage("a binary message".to_owned()));
        }
        match json::tick(payload, symbols) {
            Some(tick) => each(Event::Tick(tick)),
            None => control(payload, symbols, each),
        }
    }
}

impl Reader for SbeReader {
    fn take(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        symbols: &Symbols,
        each: &mut dyn FnMut(Event) -> Result<(), LostReason>,
    ) -> Result<(), LostReason> {
        if opcode == Opcode::Binary {
            self.0.take(payload, symbols, each)
        } else {
            control(payload, symbols, each)
        }
    }
}

fn control(
    text: &[u8],
    symbols: &Symbols,
    each: &mut dyn FnMut(Event) -> Result<(), LostReason>,
) -> Result<(), LostReason> {
    let control = serde_json::from_slice(text).map_err(|_| not_a_message(text))?;
    match control {
        Control::Start {
            symbol,
            epoch,
            trade,
            quote,
            replay: None,
        } => each(Event::Start(
            symbols.index(symbol.as_bytes()),
            epoch,
            [trade, quote],
        )),
        Control::Gap {
            symbol,
            channel,
            epoch,
            from,
            to,
            replay: None,
        } => {
            let account = (symbols.index(symbol.as_bytes()), channel, epoch);
            each(Event::Gap(account, from, to))
        }
        Control::Ack { id, rejected, .. } => {
            if rejected.as_array().is_some_and(|list| !list.is_empty()) {
                each(Event::Refused(rejected.to_string()))
            } else if id == Some(SUBSCRIBE_ID) {
                each(Event::Live)
            } else {
                Ok(())
            }
        }
        Control::Error { code, message } => each(Event::Refused(format!("{code}: {message}"))),
        Control::Start { .. } | Control::Gap { .. } | Control::Other => Ok(()),
    }
}

impl Outlet for Publish {
    fn publish(&mut self, batch: &Batch, out: &mut Vec<u8>) {
        let mut text = Vec::new();
        let several = batch.len() > 1;
        if several {
            text.push(b'[');
        }
        batch.write_list(&mut text);
        if several {
            text.push(b']');
        }
        write_masked(out, Opcode::Text, &text);
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        write_masked(out, Opcode::Text, br#"{"op":"flush","id":1}"#);
    }

    fn read(&mut self, bytes: &[u8], replies: &mut Replies) -> Result<usize, PublishError> {
        each_frame(bytes, |frame| {
            match frame.opcode {
                Opcode::Text => match serde_json::from_slice(frame.payload) {
                    Ok(Control::Ack { id, accepted, .. }) => {
                        replies.accepted = accepted.unwrap_or_default().max(replies.accepted);
                        replies.flushed += u64::from(id.is_some());
                    }
                    Ok(Control::Error { code, message }) => {
                        replies
                            .first_error
                            .get_or_insert(format!("{code}: {message}"));
                    }
                    _ => {}
                },
                Opcode::Ping => replies.answer.extend(masked(Opcode::Pong, frame.payload)),
                Opcode::Close => return Err(PublishError::closed(frame.payload)),
                Opcode::Binary | Opcode::Pong => {}
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dialect::Tick, ticks::Ticks};

    fn events(texts: &[&str]) -> Vec<Event> {
        let symbols = Symbols::new(vec!["A".into(), "B".into()]);
        let mut events = Vec::new();
        for text in texts {
            let mut take = |event| {
                events.push(event);
                Ok(())
            };
            let mut reader = JsonReader;
            reader
                .take(Opcode::Text, text.as_bytes(), &symbols, &mut take)
                .unwrap();
        }
        events
    }

    #[test]
    fn messages_become_events() {
        let seen = events(&[
            r#"{"type":"welcome","session":"1","limits":{"symbols":1}}"#,
            r#"{"type":"ack","id":2,"op":"options","max_delay_ms":20}"#,
            r#"{"type":"ack","id":1,"op":"subscribe","symbols":["A"],"rejected":[]}"#,
            r#"{"type":"start","symbol":"B","epoch":7,"trade":41}"#,
            r#"{"type":"trade","symbol":"B","epoch":7,"seq":42,"ts":5,"price":"1"}"#,
            r#"{"type":"gap","symbol":"B","channel":"trade","epoch":7,"from":43,"to":44,"reason":"source"}"#,
            r#"{"type":"start","symbol":"B","epoch":7,"trade":1,"replay":9}"#,
        ]);
        let tick = Tick {
            channel: Channel::Trade,
            symbol: Some(1),
            epoch: 7,
            seq: 42,
            ts_us: 5,
            skipped: 0,
            accounted: true,
        };
        let expected = [
            Event::Live,
            Event::Start(Some(1), 7, [Some(41), None]),
            Event::Tick(tick),
            Event::Gap((Some(1), Channel::Trade, 7), Some(43), Some(44)),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_refused_says_so() {
        let rejected = r#"{"type":"ack","id":1,"op":"subscribe","symbols":[],"rejected":[{"symbol":"X","code":"not_entitled"}]}"#;
        let error = r#"{"type":"error","id":1,"code":"bad_request","message":"no"}"#;
        for event in events(&[rejected, error]) {
            assert!(matches!(event, Event::Refused(_)), "{event:?}");
        }
    }

    #[test]
    fn an_opening_asks_for_what_is_wished() {
        let dialect = Tickwire {
            sbe: true,
            max_delay_ms: Some(20),
            patterns: true,
        };
        let opening = dialect.opening(&["A", "B"], "t");
        assert_eq!(opening.path, "/v1/ws");
        assert!(
            opening
                .headers
                .contains(&("Authorization", "Bearer t".to_owned()))
        );
        let protocol = ("Sec-WebSocket-Protocol", "tickwire.v1.sbe".to_owned());
        assert!(opening.headers.contains(&protocol));
        let options = masked(
            Opcode::Text,
            br#"{"op":"options","id":2,"max_delay_ms":20}"#,
        );
        assert!(opening.messages[0].starts_with(&options));
        assert!(opening.messages[0].len() > options.len());
        assert!(dialect.opening_all("t").is_some());
        assert!(Tickwire::of_peers().opening_all("t").is_none());
    }

    #[test]
    fn a_publisher_reads_its_counts() {
        let frame = |text: &str| [&[0x81, text.len() as u8], text.as_bytes()].concat();
        let bytes = [
            frame(r#"{"type":"ack","accepted":5,"rejected":0,"duplicates":0,"messages":5}"#),
            frame(r#"{"type":"error","code":"bad_tick","message":"no","msg":1}"#),
            frame(r#"{"type":"ack","id":1,"accepted":7,"rejected":1,"duplicates":0,"messages":8}"#),
            vec![0x81, 5, b'x'],
        ]
        .concat();
        let mut replies = Replies::default();
        let used = Publish.read(&bytes, &mut replies).unwrap();
        assert_eq!(used, bytes.len() - 3);
        assert_eq!((replies.accepted, replies.flushed), (7, 1));
        assert_eq!(replies.first_error.as_deref(), Some("bad_tick: no"));
    }

    #[test]
    fn one_tick_is_an_object_and_several_are_an_array() {
        let mut ticks = Ticks::new(&Symbols::numbered(2), 1);
        let mut batch = Batch::default();
        for count in [1, 3] {
            ticks.fill(&mut batch, 5, count);
            let mut out = Vec::new();
            Publish.publish(&batch, &mut out);
            let text = crate::frame::tests::unmask(&out);
            let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(value.as_array().map_or(1, Vec::len), count as usize);
        }
    }
}
