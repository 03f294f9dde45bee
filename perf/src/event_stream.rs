//! Server-Sent Events as a client needs them: what asks for a stream, and the blocks of its body
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! Written apart from the servers' own code. Lines end with a line feed, and data are one line: no
//! server here sends anything else.

use crate::{
    body::{Body, BodyError},
    frame::{Frame, Opcode},
    http::{self, AnswerError},
};

const CONTENT_TYPE: &[u8] = b"text/event-stream";
/// The largest block taken, bytes.
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// Why there is no stream, or none as it should be.
#[derive(Debug, thiserror::Error)]
pub enum EventStreamError {
    /// No answer of status 200.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// An answer of another type.
    #[error("the answer is no event stream but {0:?}")]
    Foreign(String),
    /// No body, or its end.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A block with lines that end in another way.
    #[error("the server sent an event with a carriage return")]
    CarriageReturn,
    /// A block whose data have several lines.
    #[error("the server sent an event with several lines of data")]
    SeveralLines,
    /// Above [`BLOCK_BYTES_MAX`].
    #[error("the server sent an event above {BLOCK_BYTES_MAX} bytes")]
    TooLarge,
}

/// The request for the stream at `path`, with further headers.
pub fn request(authority: &str, path: &str, headers: &[(&'static str, String)]) -> String {
    let own = [
        ("Host", authority),
        ("Accept", "text/event-stream"),
        ("Cache-Control", "no-cache"),
    ];
    let further = headers.iter().map(|(name, value)| (*name, &**value));
    http::get(path, own.into_iter().chain(further))
}

/// Reads the answer at the head of `bytes`; once it is there whole its length, and the body behind
/// it.
pub fn answer(bytes: &[u8]) -> Result<Option<(usize, Body)>, EventStreamError> {
    let answer = http::answer(bytes, 200, |response| {
        let kind = http::header(response, "Content-Type").unwrap_or_default();
        // Parameters may follow it.
        let own = kind.get(..CONTENT_TYPE.len()).unwrap_or_default();
        if own.eq_ignore_ascii_case(CONTENT_TYPE) {
            Ok(Body::new(http::header(response, "Transfer-Encoding"))?)
        } else {
            let kind = String::from_utf8_lossy(kind).into_owned();
            Err(EventStreamError::Foreign(kind))
        }
    })?;
    answer
        .map(|(head_bytes, body)| Ok((head_bytes, body?)))
        .transpose()
}

/// The block at the head of `bytes` and its length with the empty line behind it; `None` while it is
/// incomplete. What it has as data is a text. Comments, ids and `retry` tell a subscriber no more than
/// a pong does, and count as one.
pub fn first_event(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, EventStreamError> {
    let end = bytes.windows(2).position(|two| two == b"\n\n");
    let block = &bytes[..end.unwrap_or(bytes.len())];
    if block.contains(&b'\r') {
        return Err(EventStreamError::CarriageReturn);
    }
    if block.len() > BLOCK_BYTES_MAX {
        return Err(EventStreamError::TooLarge);
    }
    let Some(end) = end else {
        return Ok(None);
    };
    let lines = block.split(|&byte| byte == b'\n');
    let mut data = lines.filter_map(|line| line.strip_prefix(b"data:"));
    let frame = match data.next() {
        Some(value) => Frame {
            opcode: Opcode::Text,
            payload: value.strip_prefix(b" ").unwrap_or(value),
        },
        None => Frame {
            opcode: Opcode::Pong,
            payload: block,
        },
    };
    if data.next().is_some() {
        return Err(EventStreamError::SeveralLines);
    }
    Ok(Some((frame, end + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: &str = "retry: 1500\n\n: hi\n\nevent: trade\ndata: {\"a\":1}\n\nid: 7\n\n\
                          id: 1:0\ndata:{\"b\":2}\n\n:\n\ndata: \n\n";

    /// The data of all events, read as they come.
    fn data(parts: &[&[u8]]) -> Vec<String> {
        let mut held = Vec::new();
        let mut data = Vec::new();
        for part in parts {
            held.extend_from_slice(part);
            let mut used = 0;
            while let Some((frame, bytes)) = first_event(&held[used..]).unwrap() {
                if frame.opcode == Opcode::Text {
                    data.push(String::from_utf8(frame.payload.to_vec()).unwrap());
                }
                used += bytes;
            }
            held.drain(..used);
        }
        assert_eq!(held, b"");
        data
    }

    #[test]
    fn events_may_be_cut_anywhere() {
        let expected = [r#"{"a":1}"#, r#"{"b":2}"#, ""];
        for cut in 0..=EVENTS.len() {
            let (head, tail) = EVENTS.as_bytes().split_at(cut);
            assert_eq!(data(&[head, tail]), expected, "{cut}");
        }
        let bytes: Vec<&[u8]> = EVENTS.as_bytes().chunks(1).collect();
        assert_eq!(data(&bytes), expected);
    }

    #[test]
    fn what_no_server_here_sends_is_refused() {
        let refused = |text: &str| first_event(text.as_bytes()).unwrap_err().to_string();
        assert!(refused("data: a\r\n").contains("carriage return"));
        assert!(refused("data: a\ndata: b\n\n").contains("several lines"));
        assert!(refused(&"x".repeat(BLOCK_BYTES_MAX + 1)).contains("above"));
    }

    #[test]
    fn an_answer_says_how_its_body_comes() {
        let taken = |fields: &str| {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            let bytes = format!("{head}data: x\n\n");
            for cut in 0..head.len() {
                assert!(answer(&bytes.as_bytes()[..cut]).unwrap().is_none());
            }
            let answer = answer(bytes.as_bytes())?.unwrap();
            assert_eq!(answer.0, head.len());
            Ok::<_, EventStreamError>(answer.1)
        };
        let unframed = taken("Content-Type: text/event-stream; charset=utf-8").unwrap();
        assert_eq!(unframed, Body::UntilClose);
        let chunked =
            taken("content-type: text/event-stream\r\ntransfer-encoding: chunked").unwrap();
        assert_eq!(chunked, Body::new(Some(b"chunked")).unwrap());
        let foreign = taken("Content-Type: text/html").unwrap_err();
        assert!(foreign.to_string().contains("text/html"), "{foreign}");
    }

    #[test]
    fn a_request_asks_for_events() {
        let headers = [("Authorization", "Bearer t".to_owned())];
        let request = request("h:1", "/x?y", &headers);
        assert!(request.starts_with("GET /x?y HTTP/1.1\r\nHost: h:1\r\n"));
        assert!(request.contains("\r\nAccept: text/event-stream\r\n"));
        assert!(request.ends_with("\r\nAuthorization: Bearer t\r\n\r\n"));
    }
}
