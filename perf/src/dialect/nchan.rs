//! Nchan (<https://nchan.io>): subscribers over WebSocket, publishers over pipelined HTTP.

use std::net::SocketAddr;

use super::{Dialect, Event, LostReason, Opening, Outlet, Reader, Replies, json, not_a_message};
use crate::{
    frame::Opcode,
    publisher::{Link, PublishError},
    ticks::{Batch, Symbols},
};

const HEADERS_MAX: usize = 32;

/// The dialect.
pub(super) struct Nchan;

struct Subscription;

struct Publish {
    symbols: Symbols,
    host: String,
    sent: u64,
    answered: u64,
    /// A flush is asked for and not answered.
    flushing: bool,
}

impl Dialect for Nchan {
    fn name(&self) -> &'static str {
        "nchan"
    }

    fn opening(&self, symbols: &[&str], token: &str) -> Opening {
        Opening {
            path: format!("/sub?id={}", symbols.join(",")),
            headers: vec![("Authorization", format!("Bearer {token}"))],
            messages: [].into(),
        }
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Subscription)
    }

    fn publisher(
        &self,
        server: SocketAddr,
        symbols: &Symbols,
        _token: &str,
    ) -> Result<(Link, Box<dyn Outlet>), PublishError> {
        let publish = Publish {
            symbols: symbols.clone(),
            host: server.to_string(),
            sent: 0,
            answered: 0,
            flushing: false,
        };
        Ok((Link::connected(server)?, Box::new(publish)))
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
        let tick = json::tick(payload, symbols).ok_or_else(|| not_a_message(payload))?;
        each(Event::Tick(tick))
    }
}

impl Outlet for Publish {
    fn publish(&mut self, batch: &Batch, out: &mut Vec<u8>) {
        for (symbol, object) in batch.objects() {
            let head = format!(
                "POST /pub?id={} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
                self.symbols.name(symbol),
                self.host,
                object.len()
            );
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(object);
            self.sent += 1;
        }
    }

    fn flush(&mut self, _out: &mut Vec<u8>) {
        self.flushing = true;
    }

    fn read(&mut self, bytes: &[u8], replies: &mut Replies) -> Result<usize, PublishError> {
        let mut used = 0;
        while let Some((status, answer_bytes)) = answer(&bytes[used..])? {
            used += answer_bytes;
            self.answered += 1;
            if (200..300).contains(&status) {
                replies.accepted += 1;
            } else {
                replies.first_error.get_or_insert(format!("HTTP {status}"));
            }
        }
        if self.flushing && self.answered == self.sent {
            self.flushing = false;
            replies.flushed += 1;
        }
        Ok(used)
    }
}

/// Status and length of the HTTP answer at the head of `bytes`; `None` while it is incomplete.
fn answer(bytes: &[u8]) -> Result<Option<(u16, usize)>, PublishError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response.parse(bytes)? else {
        return Ok(None);
    };
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("Content-Length"))
        .and_then(|header| json::number(header.value))
        .unwrap_or_default();
    let answer_bytes = head_bytes + length as usize;
    let whole = bytes.len() >= answer_bytes;
    Ok(whole.then_some((response.code.unwrap_or_default(), answer_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticks::Ticks;

    #[test]
    fn a_flush_waits_for_every_answer() {
        let symbols = Symbols::numbered(2);
        let mut publish = Publish {
            symbols: symbols.clone(),
            host: "h".to_owned(),
            sent: 0,
            answered: 0,
            flushing: false,
        };
        let mut batch = Batch::default();
        Ticks::new(&symbols, 1).fill(&mut batch, 5, 3);
        let mut out = Vec::new();
        publish.publish(&batch, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches("POST /pub?id=S0000 HTTP/1.1\r\n").count(), 2);
        publish.flush(&mut Vec::new());

        let mut replies = Replies::default();
        let two =
            b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 201 Created\r\n\r\nHTT";
        assert_eq!(publish.read(two, &mut replies).unwrap(), two.len() - 3);
        assert_eq!((replies.accepted, replies.flushed), (2, 0));
        let failed = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
        publish.read(failed, &mut replies).unwrap();
        assert_eq!((replies.accepted, replies.flushed), (2, 1));
        assert_eq!(replies.first_error.as_deref(), Some("HTTP 413"));
    }

    #[test]
    fn an_answer_is_taken_once_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..whole.len() {
            assert_eq!(answer(&whole[..cut]).unwrap(), None, "{cut}");
        }
        assert_eq!(answer(whole).unwrap(), Some((200, whole.len())));
    }

    #[test]
    fn symbols_are_multiplexed_in_the_path() {
        let opening = Nchan.opening(&["A", "B"], "t");
        assert_eq!(opening.path, "/sub?id=A,B");
        assert!(opening.messages.is_empty());
    }
}
