//! WebSocket frames (RFC 6455 § 5): the bytes that the server sends, and where a client's messages end.
//!
//! ```text
//!  byte 0        byte 1             length 126: 2 bytes, 127: 8 bytes, big-endian
//! ┌───┬─────┬──┬──────┬──────────┬────────────────────┬─────────────────┬─────────┐
//! │FIN│RSV=0│op│ MASK │ length 7 │  longer length     │ masking key (4) │ payload │
//! └───┴─────┴──┴──────┴──────────┴────────────────────┴─────────────────┴─────────┘
//! ```
//!
//! A server never masks and we never fragment, so a frame is written once and shared by everyone
//! who gets it. What clients send is parsed by a full WebSocket implementation; [`Boundary`] only
//! tells when that one holds nothing worth keeping.

use crate::text;

/// The kinds of frame that we send, by their opcode (RFC 6455 § 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A whole message of UTF-8 text.
    Text = 1,
    /// A whole message of bytes.
    Binary = 2,
    /// The start or the answer of the closing handshake.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

/// The longest payload of a close, ping or pong (RFC 6455 § 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const MASK: u8 = 0x80;
const CONTROL: u8 = 0x08;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
/// What [`write_with`] leaves room for: ticks in JSON are mostly longer than 125 bytes.
const GUESSED_HEADER_BYTES: usize = 4;

/// Appends one unmasked frame with FIN set.
///
/// The payload of a control frame has at most [`CONTROL_BYTES_MAX`] bytes.
pub fn write(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    debug_assert!(opcode as u8 & CONTROL == 0 || payload.len() <= CONTROL_BYTES_MAX);
    let (header, header_bytes) = header(opcode, payload.len());
    out.reserve(header_bytes + payload.len());
    out.extend_from_slice(&header[..header_bytes]);
    out.extend_from_slice(payload);
}

/// Appends one unmasked frame whose payload `payload` writes in place.
///
/// `payload` may only append. Its length decides the header's, so a payload that does not take the
/// usual four bytes of header is moved by two or six bytes; nothing is allocated besides `out`.
pub fn write_with(out: &mut Vec<u8>, opcode: Opcode, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; GUESSED_HEADER_BYTES]);
    payload(out);
    let payload_start = start + GUESSED_HEADER_BYTES;
    let payload_bytes = out.len() - payload_start;
    debug_assert!(opcode as u8 & CONTROL == 0 || payload_bytes <= CONTROL_BYTES_MAX);
    let (header, header_bytes) = header(opcode, payload_bytes);
    if header_bytes > GUESSED_HEADER_BYTES {
        out.resize(start + header_bytes + payload_bytes, 0);
    }
    if header_bytes != GUESSED_HEADER_BYTES {
        out.copy_within(
            payload_start..payload_start + payload_bytes,
            start + header_bytes,
        );
        out.truncate(start + header_bytes + payload_bytes);
    }
    out[start..start + header_bytes].copy_from_slice(&header[..header_bytes]);
}

/// Appends a close frame with a code and a reason, which is cut (at a character) to what fits.
pub fn write_close(out: &mut Vec<u8>, code: u16, text: &str) {
    let text = text::prefix(text, CONTROL_BYTES_MAX - 2);
    write_with(out, Opcode::Close, |out| {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    });
}

fn header(opcode: Opcode, payload_bytes: usize) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = FIN | opcode as u8;
    if payload_bytes < usize::from(LENGTH_16) {
        header[1] = payload_bytes as u8;
        (header, 2)
    } else if let Ok(short) = u16::try_from(payload_bytes) {
        header[1] = LENGTH_16;
        header[2..4].copy_from_slice(&short.to_be_bytes());
        (header, 4)
    } else {
        header[1] = LENGTH_64;
        header[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
        (header, 10)
    }
}

/// Follows the bytes that a client sent and knows whether they end between two messages.
///
/// Only lengths, FIN and the control bit are looked at; whether the frames are valid is for the
/// real parser to say. At a boundary that parser holds no state, so an idle connection may drop it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boundary {
    /// Bytes of masking key and payload still to come.
    body_left: u64,
    /// The header without the masking key, as far as it has arrived.
    header: [u8; 10],
    header_bytes: u8,
    /// A data frame without FIN was the last one that is not a control frame.
    unfinished: bool,
}

impl Boundary {
    /// Takes the next bytes of the stream and says whether they end exactly on a message boundary.
    ///
    /// Without any bytes so far that is the case.
    pub fn advance(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let taken = if self.body_left > 0 {
                self.skip_body(bytes.len())
            } else {
                self.take_header_byte(bytes[0]);
                1
            };
            bytes = &bytes[taken..];
        }
        self.body_left == 0 && self.header_bytes == 0 && !self.unfinished
    }

    fn skip_body(&mut self, available: usize) -> usize {
        let taken = usize::try_from(self.body_left).map_or(available, |left| left.min(available));
        self.body_left -= taken as u64;
        taken
    }

    fn take_header_byte(&mut self, byte: u8) {
        self.header[usize::from(self.header_bytes)] = byte;
        self.header_bytes += 1;
        if self.header_bytes < 2 {
            return;
        }
        let length = self.header[1] & !MASK;
        let complete_bytes = match length {
            LENGTH_16 => 4,
            LENGTH_64 => 10,
            _ => 2,
        };
        if self.header_bytes == complete_bytes {
            self.enter_body(length);
        }
    }

    fn enter_body(&mut self, length: u8) {
        let tail = &self.header[2..usize::from(self.header_bytes)];
        let payload_bytes = match length {
            LENGTH_16 | LENGTH_64 => tail.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        let key_bytes = if self.header[1] & MASK == 0 { 0 } else { 4 };
        self.body_left = payload_bytes.saturating_add(key_bytes);
        // Control frames may stand between the fragments of a message (RFC 6455 § 5.4).
        if self.header[0] & CONTROL == 0 {
            self.unfinished = self.header[0] & FIN == 0;
        }
        self.header_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client_frame(first: u8, payload_bytes: usize) -> Vec<u8> {
        let (mut header, header_bytes) = header(Opcode::Text, payload_bytes);
        header[0] = first;
        header[1] |= MASK;
        let mut frame = header[..header_bytes].to_vec();
        frame.extend_from_slice(&[0xFF; 4]);
        frame.resize(header_bytes + 4 + payload_bytes, 0xFF);
        frame
    }

    #[test]
    fn the_header_grows_with_the_payload() {
        for (payload_bytes, header) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xFF, 0xFF]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let payload: Vec<u8> = (0..payload_bytes).map(|at| at as u8).collect();
            let mut expected = b"before".to_vec();
            expected.extend_from_slice(header);
            expected.extend_from_slice(&payload);

            let mut copied = b"before".to_vec();
            write(&mut copied, Opcode::Text, &payload);
            assert!(copied == expected, "{payload_bytes} bytes copied");

            let mut in_place = b"before".to_vec();
            write_with(&mut in_place, Opcode::Text, |out| {
                out.extend_from_slice(&payload);
            });
            assert!(in_place == expected, "{payload_bytes} bytes in place");
        }
    }

    #[test]
    fn a_close_carries_its_code_and_as_much_text_as_fits() {
        let mut out = Vec::new();
        write_close(&mut out, 4410, "slow");
        assert_eq!(out, [0x88, 6, 0x11, 0x3A, b's', b'l', b'o', b'w']);
        out.clear();
        write_close(&mut out, 1000, &"é".repeat(100));
        assert_eq!(out[1], 124);
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }

    #[test]
    fn a_message_ends_with_its_last_payload_byte() {
        for payload_bytes in [0, 5, 126, 70_000] {
            let frame = client_frame(0x81, payload_bytes);
            let mut boundary = Boundary::default();
            assert!(boundary.advance(&[]));
            for byte in &frame[..frame.len() - 1] {
                assert!(!boundary.advance(&[*byte]));
            }
            assert!(
                boundary.advance(&frame[frame.len() - 1..]),
                "{payload_bytes} bytes"
            );
        }
    }

    #[test]
    fn a_fragmented_message_ends_with_its_final_frame() {
        let mut boundary = Boundary::default();
        assert!(!boundary.advance(&client_frame(0x01, 3)));
        assert!(
            !boundary.advance(&client_frame(0x89, 2)),
            "a ping between fragments"
        );
        assert!(!boundary.advance(&client_frame(0x00, 3)));
        assert!(boundary.advance(&client_frame(0x80, 3)));
        assert!(boundary.advance(&client_frame(0x89, 0)));
    }

    #[test]
    fn the_largest_length_does_not_overflow() {
        let mut boundary = Boundary::default();
        assert!(!boundary.advance(&[0x82, 0xFF, 255, 255, 255, 255, 255, 255, 255, 255]));
        assert!(!boundary.advance(&[0; 100]));
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing(bytes: Vec<u8>, cut in 0usize..64) {
            let cut = cut.min(bytes.len());
            let (mut whole, mut parts) = (Boundary::default(), Boundary::default());
            parts.advance(&bytes[..cut]);
            prop_assert_eq!(parts.advance(&bytes[cut..]), whole.advance(&bytes));
            prop_assert_eq!(parts, whole);
        }
    }
}
