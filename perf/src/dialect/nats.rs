//! The NATS client protocol
//! (<https://docs.nats.io/reference/reference-protocols/nats-protocol>): subscribers over
//! WebSocket on the server's port, the publisher over TCP on the port above.

use std::{fmt::Write as _, net::SocketAddr};

use super::{Dialect, Event, LostReason, Opening, Outlet, Reader, Replies, json, not_a_message};
use crate::{
    frame::{Opcode, masked},
    publisher::{Link, PublishError},
    ticks::{Batch, Symbols},
};

const SUBJECT: &str = "ticks.";
/// A line longer than this is none of the protocol's; `INFO` is the longest.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The dialect.
pub(super) struct Nats;

#[derive(Default)]
struct Subscription {
    /// What is not a whole operation yet: messages may be cut anywhere.
    held: Vec<u8>,
}

struct Publish {
    symbols: Symbols,
    sent: u64,
}

/// One operation of the server.
#[derive(Debug, PartialEq, Eq)]
enum Operation<'a> {
    Info,
    Ping,
    Pong,
    Message(&'a [u8]),
    Error(&'a [u8]),
    Ok,
}

impl Dialect for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn opening(&self, symbols: &[&str], token: &str) -> Opening {
        let mut text = connect(token);
        for (symbol, number) in symbols.iter().zip(1..) {
            write!(text, "SUB {SUBJECT}{symbol} {number}\r\n")
                .expect("writing to a String never fails");
        }
        opening(text)
    }

    fn opening_all(&self, token: &str) -> Option<Opening> {
        Some(opening(connect(token) + &format!("SUB {SUBJECT}* 1\r\n")))
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Subscription::default())
    }

    fn publisher(
        &self,
        server: SocketAddr,
        symbols: &Symbols,
        token: &str,
    ) -> Result<(Link, Box<dyn Outlet>), PublishError> {
        let mut link = Link::connected(SocketAddr::new(server.ip(), server.port() + 1))?;
        link.send((connect(token) + "PING\r\n").as_bytes())?;
        let mut outlet: Box<dyn Outlet> = Box::new(Publish {
            symbols: symbols.clone(),
            sent: 0,
        });
        link.await_reply(outlet.as_mut())?;
        Ok((link, outlet))
    }
}

fn connect(token: &str) -> String {
    let options = serde_json::json!({
        "verbose": false, "pedantic": false, "tls_required": false, "lang": "rust",
        "version": "0", "protocol": 1, "echo": false, "auth_token": token,
    });
    format!("CONNECT {options}\r\n")
}

fn opening(text: String) -> Opening {
    Opening {
        path: "/".to_owned(),
        headers: Vec::new(),
        messages: [masked(Opcode::Binary, (text + "PING\r\n").as_bytes())].into(),
    }
}

impl Reader for Subscription {
    fn take(
        &mut self,
        _opcode: Opcode,
        payload: &[u8],
        symbols: &Symbols,
        each: &mut dyn FnMut(Event) -> Result<(), LostReason>,
    ) -> Result<(), LostReason> {
        let mut held = std::mem::take(&mut self.held);
        let bytes = if held.is_empty() {
            payload
        } else {
            held.extend_from_slice(payload);
            &held[..]
        };
        let mut used = 0;
        while let Some((operation, operation_bytes)) =
            operation(&bytes[used..]).map_err(not_a_message)?
        {
            used += operation_bytes;
            match operation {
                Operation::Message(object) => {
                    let tick = json::tick(object, symbols);
                    each(Event::Tick(tick.ok_or_else(|| not_a_message(object))?))?;
                }
                Operation::Ping => each(Event::Answer(masked(Opcode::Binary, b"PONG\r\n")))?,
                Operation::Pong => each(Event::Live)?,
                Operation::Error(text) => {
                    each(Event::Refused(String::from_utf8_lossy(text).into_owned()))?;
                }
                Operation::Info | Operation::Ok => {}
            }
        }
        self.held.extend_from_slice(&bytes[used..]);
        Ok(())
    }

    fn is_between_messages(&self) -> bool {
        self.held.is_empty()
    }
}

impl Outlet for Publish {
    fn publish(&mut self, batch: &Batch, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        for (symbol, object) in batch.objects() {
            out.extend_from_slice(b"PUB ");
            out.extend_from_slice(SUBJECT.as_bytes());
            out.extend_from_slice(self.symbols.name(symbol).as_bytes());
            out.push(b' ');
            out.extend_from_slice(digits.format(object.len()).as_bytes());
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(object);
            out.extend_from_slice(b"\r\n");
            self.sent += 1;
        }
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PING\r\n");
    }

    fn read(&mut self, bytes: &[u8], replies: &mut Replies) -> Result<usize, PublishError> {
        let mut used = 0;
        let broken = |line: &[u8]| PublishError::Closed(String::from_utf8_lossy(line).into_owned());
        while let Some((operation, operation_bytes)) = operation(&bytes[used..]).map_err(broken)? {
            used += operation_bytes;
            match operation {
                Operation::Ping => replies.answer.extend_from_slice(b"PONG\r\n"),
                // A server that keeps the connection has read all that was before the PING.
                Operation::Pong => {
                    replies.flushed += 1;
                    replies.accepted = self.sent;
                }
                Operation::Error(text) => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    replies.first_error.get_or_insert(text);
                }
                Operation::Info | Operation::Ok | Operation::Message(_) => {}
            }
        }
        Ok(used)
    }
}

/// The operation at the head of `bytes` and its length; `None` while it is incomplete, the line
/// where it is none.
fn operation(bytes: &[u8]) -> Result<Option<(Operation<'_>, usize)>, &[u8]> {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() > LINE_BYTES_MAX {
            Err(bytes)
        } else {
            Ok(None)
        };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let after = end + 1;
    let operation = match line {
        [b'M', b'S', b'G', b' ', fields @ ..] => return message(bytes, after, fields),
        [b'I', b'N', b'F', b'O', ..] => Operation::Info,
        b"PING" => Operation::Ping,
        b"PONG" => Operation::Pong,
        b"+OK" => Operation::Ok,
        [b'-', b'E', b'R', b'R', b' ', text @ ..] => Operation::Error(text),
        _ => return Err(line),
    };
    Ok(Some((operation, after)))
}

/// `MSG <subject> <sid> [reply-to] <#bytes>`, and the payload from `from`.
fn message<'a>(
    bytes: &'a [u8],
    from: usize,
    fields: &'a [u8],
) -> Result<Option<(Operation<'a>, usize)>, &'a [u8]> {
    let length = fields.rsplit(|&byte| byte == b' ').next();
    let length = length.and_then(json::number).ok_or(fields)? as usize;
    let end = from.saturating_add(length);
    let Some(line_end) = bytes.get(end..end.saturating_add(2)) else {
        return Ok(None);
    };
    if line_end != b"\r\n" {
        return Err(fields);
    }
    Ok(Some((Operation::Message(&bytes[from..end]), end + 2)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OBJECT: &str = r#"{"type":"trade","symbol":"S0001","epoch":1,"seq":3,"ts":5}"#;

    fn stream() -> Vec<u8> {
        let message = format!("MSG ticks.S0001 1 {}\r\n{OBJECT}\r\n", OBJECT.len());
        let again = message.replace(r#""seq":3"#, r#""seq":4"#);
        format!("INFO {{\"x\":1}}\r\nPONG\r\n{message}PING\r\n{again}").into()
    }

    fn shape(event: &Event) -> &'static str {
        match event {
            Event::Live => "live",
            Event::Tick(tick) if tick.symbol == Some(1) && tick.seq == 3 => "3",
            Event::Tick(tick) if tick.symbol == Some(1) && tick.seq == 4 => "4",
            Event::Answer(_) => "answer",
            _ => "?",
        }
    }

    proptest! {
        #[test]
        fn a_stream_may_be_cut_anywhere(mut cuts in prop::collection::vec(0..200_usize, 0..12)) {
            let stream = stream();
            let symbols = Symbols::numbered(2);
            let mut reader = Subscription::default();
            let mut seen = Vec::new();
            cuts.retain(|&cut| cut <= stream.len());
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            for pair in cuts.windows(2) {
                let mut each = |event| { seen.push(shape(&event)); Ok(()) };
                reader.take(Opcode::Binary, &stream[pair[0]..pair[1]], &symbols, &mut each).unwrap();
            }
            prop_assert_eq!(seen, ["live", "3", "answer", "4"]);
            prop_assert!(reader.is_between_messages());
        }

        #[test]
        fn arbitrary_lines_never_panic(text in "(MSG |PING|-ERR )?[ a-z0-9]{0,30}(\r\n)?[a-z]{0,9}") {
            let _ = operation(text.as_bytes());
        }
    }

    #[test]
    fn what_is_no_operation_is_refused() {
        for line in ["HELLO\r\n", "MSG a 1 x\r\n", "MSG a 1 2\r\nabcd"] {
            assert!(operation(line.as_bytes()).is_err(), "{line}");
        }
        let error = operation(b"-ERR 'Authorization Violation'\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(error.0, Operation::Error(b"'Authorization Violation'"));
    }

    #[test]
    fn every_symbol_is_a_subscription_of_its_own() {
        let opening = Nats.opening(&["A", "B"], "t");
        let text = crate::frame::tests::unmask(&opening.messages[0]);
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("CONNECT {"), "{text}");
        assert!(
            text.ends_with("SUB ticks.A 1\r\nSUB ticks.B 2\r\nPING\r\n"),
            "{text}"
        );
    }
}
