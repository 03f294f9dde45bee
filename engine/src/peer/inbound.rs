//! From received bytes to messages: tungstenite's framing over memory.
//!
//! A `WebSocketContext` costs some 700 bytes with its buffers, and most subscribers send a few
//! messages in a day. It is therefore built when bytes arrive and kept only while a message is
//! incomplete or a close is under way.

use std::io::{self, Read, Write};

use tickwire_proto::{close::CloseReason, frame::Boundary};
use tungstenite::{
    Message, Utf8Bytes,
    error::{CapacityError, Error},
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

/// The receiving half of one connection.
#[derive(Default)]
pub struct Inbound {
    partial: Option<Box<Partial>>,
}

/// What of a message that is not whole shows that its sender is alive: in `ping_idle_s` and
/// `pong_wait_s`, or some hundred bytes a second.
const PART_BYTES: usize = 4 * 1024;

/// What is kept while a message is incomplete.
struct Partial {
    context: WebSocketContext,
    boundary: Boundary,
    /// Received since the last [`Received::Part`].
    unheard_bytes: usize,
}

/// One message from the peer.
pub enum Received {
    /// UTF-8 text.
    Text(Utf8Bytes),
    /// Bytes.
    Binary(tungstenite::Bytes),
    /// A ping, which is answered already.
    Ping,
    /// A pong.
    Pong,
    /// [`PART_BYTES`] more of a message that is not whole yet: whoever sends that much is alive.
    Part,
}

/// What the bytes left the connection in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    Open,
    /// The peer closed; the answer is among the replies, and nothing may follow it.
    Closed,
}

impl Inbound {
    /// Takes in `bytes`, hands every complete message to `each`, and appends to `replies` what
    /// RFC 6455 wants answered (pongs, the echo of a close).
    ///
    /// # Errors
    ///
    /// The reason to close with: a protocol violation, invalid UTF-8, or a message above
    /// `message_bytes_max`. What was complete before it has been handed over.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        message_bytes_max: usize,
        replies: &mut Vec<u8>,
        mut each: impl FnMut(Received),
    ) -> Result<Flow, CloseReason> {
        let partial = self.partial.get_or_insert_with(|| {
            Box::new(Partial {
                context: context(message_bytes_max),
                boundary: Boundary::default(),
                unheard_bytes: 0,
            })
        });
        let complete = partial.boundary.advance(bytes);
        let context = &mut partial.context;
        let mut memory = Memory {
            input: bytes,
            replies,
        };
        let flow = loop {
            match context.read(&mut memory) {
                Ok(Message::Text(text)) => each(Received::Text(text)),
                Ok(Message::Binary(bytes)) => each(Received::Binary(bytes)),
                Ok(Message::Ping(_)) => each(Received::Ping),
                Ok(Message::Pong(_)) => each(Received::Pong),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    break Flow::Open;
                }
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => break Flow::Closed,
                Err(error) => return Err(reason(&error)),
            }
        };
        partial.unheard_bytes += bytes.len();
        if complete && flow == Flow::Open && context.can_write() {
            self.partial = None;
        } else if partial.unheard_bytes >= PART_BYTES {
            partial.unheard_bytes = 0;
            each(Received::Part);
        }
        Ok(flow)
    }
}

fn context(message_bytes_max: usize) -> WebSocketContext {
    // The codec reserves a frame's declared length at once, so the limit is also what a hostile
    // peer can make us reserve.
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4096)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max));
    WebSocketContext::new(Role::Server, Some(config))
}

fn reason(error: &Error) -> CloseReason {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => CloseReason::MessageTooBig,
        Error::Utf8(_) => CloseReason::InvalidUtf8,
        _ => CloseReason::ProtocolError,
    }
}

/// A stream that reads from a slice and writes to a vector.
struct Memory<'a> {
    input: &'a [u8],
    replies: &'a mut Vec<u8>,
}

impl Read for Memory<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            // Zero would mean that the peer closed the stream.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(into)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replies.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client frame as RFC 6455 § 5.2 wants it: masked, here with a key of zeros.
    fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        assert!(payload.len() < 126);
        let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        frame
    }

    fn feed(
        inbound: &mut Inbound,
        bytes: &[u8],
        replies: &mut Vec<u8>,
    ) -> (Vec<String>, Result<Flow, CloseReason>) {
        let mut texts = Vec::new();
        let flow = inbound.feed(bytes, 64, replies, |received| {
            if let Received::Text(text) = received {
                texts.push(text.to_string());
            }
        });
        (texts, flow)
    }

    #[test]
    fn a_message_may_arrive_byte_by_byte_and_leaves_nothing_behind() {
        let mut inbound = Inbound::default();
        let mut replies = Vec::new();
        let mut texts = Vec::new();
        for byte in client_frame(0x81, b"hello") {
            texts.extend(feed(&mut inbound, &[byte], &mut replies).0);
        }
        assert_eq!(texts, ["hello"]);
        assert!(inbound.partial.is_none());
    }

    #[test]
    fn pings_are_answered_and_a_close_is_echoed() {
        let mut inbound = Inbound::default();
        let mut replies = Vec::new();
        assert_eq!(
            feed(&mut inbound, &client_frame(0x89, b"x"), &mut replies).1,
            Ok(Flow::Open)
        );
        assert_eq!(replies, [0x8a, 1, b'x']);
        replies.clear();
        let flow = feed(
            &mut inbound,
            &client_frame(0x88, &1000u16.to_be_bytes()),
            &mut replies,
        )
        .1;
        assert_eq!(flow, Ok(Flow::Closed));
        assert_eq!(replies, [0x88, 2, 0x03, 0xe8]);
    }

    #[test]
    fn parts_of_a_long_message_show_life_and_a_drip_does_not() {
        let mut inbound = Inbound::default();
        let mut parts = 0;
        let mut feed = |bytes: &[u8]| {
            let each = |received| parts += usize::from(matches!(received, Received::Part));
            inbound.feed(bytes, 1 << 20, &mut Vec::new(), each).unwrap();
            parts
        };
        let header = [0x81, 0xff, 0, 0, 0, 0, 0, 0x01, 0, 0, 0, 0, 0, 0];
        assert_eq!(feed(&header), 0);
        for _ in 0..100 {
            assert_eq!(feed(b"x"), 0);
        }
        assert_eq!(feed(&vec![b'x'; PART_BYTES]), 1);
        assert_eq!(feed(&vec![b'x'; 3 * PART_BYTES]), 2);
        assert_eq!(feed(b"x"), 2);
    }

    #[test]
    fn violations_name_their_close_reason() {
        for (bytes, reason) in [
            (vec![0x81, 1, b'x'], CloseReason::ProtocolError),
            (client_frame(0xc1, b"x"), CloseReason::ProtocolError),
            (client_frame(0x81, &[0xff, 0xfe]), CloseReason::InvalidUtf8),
            (client_frame(0x81, &[b'x'; 65]), CloseReason::MessageTooBig),
            (client_frame(0x80, b"x"), CloseReason::ProtocolError),
        ] {
            let outcome = feed(&mut Inbound::default(), &bytes, &mut Vec::new()).1;
            assert_eq!(outcome, Err(reason), "{bytes:?}");
        }
    }

    #[test]
    fn fragments_join_up_to_the_bound() {
        let mut inbound = Inbound::default();
        let mut bytes = client_frame(0x01, b"hel");
        bytes.extend(client_frame(0x80, b"lo"));
        assert_eq!(feed(&mut inbound, &bytes, &mut Vec::new()).0, ["hello"]);
        let mut bytes = client_frame(0x01, &[b'x'; 40]);
        bytes.extend(client_frame(0x80, &[b'x'; 40]));
        let outcome = feed(&mut inbound, &bytes, &mut Vec::new()).1;
        assert_eq!(outcome, Err(CloseReason::MessageTooBig));
    }
}
