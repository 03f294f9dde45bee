//! A client on the level of bytes, for what no WebSocket library would send.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::harness::{PATIENCE, TestEngine};

/// The head of a good upgrade with further fields, each ended by CRLF.
pub fn upgrade_head(target: &str, fields: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    )
}

/// One frame of a client as RFC 6455 § 5.2 wants it, masked, with `first` as its first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = header(first, payload.len() as u64);
    frame.extend_from_slice(&KEY);
    frame.extend(
        payload
            .iter()
            .zip(KEY.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

/// The header of such a frame, without the masking key.
pub fn header(first: u8, payload_bytes: u64) -> Vec<u8> {
    let mut header = vec![first];
    match payload_bytes {
        0..=125 => header.push(0x80 | payload_bytes as u8),
        126..=0xffff => {
            header.push(0x80 | 0x7e);
            header.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 | 0x7f);
            header.extend_from_slice(&payload_bytes.to_be_bytes());
        }
    }
    header
}

/// A whole text message.
pub fn text(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}

/// An upgraded connection without a WebSocket library.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// Connects and sends `bytes`.
    pub fn send_first(address: SocketAddr, bytes: &[u8]) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("a socket option");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket option");
        let mut wire = Self {
            stream,
            buffer: Vec::new(),
        };
        wire.send(bytes);
        wire
    }

    /// Upgrades as `alice`, and reads the answer and `welcome`.
    pub fn open(engine: &TestEngine, path: &str) -> Self {
        let bearer = format!("Authorization: Bearer {}\r\n", engine.token());
        let head = upgrade_head(path, &bearer);
        let mut wire = Self::send_first(engine.engine.listen_addr(), head.as_bytes());
        let answer = wire.answer();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert_eq!(wire.json()["type"], "welcome");
        wire
    }

    /// Reads the head of an HTTP answer.
    pub fn answer(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|end| end == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return String::from_utf8(head).expect("a head is text");
            }
            assert!(self.fill(), "the connection ended within a head");
        }
    }

    /// Reads what follows the head of a refusal, to the end of the connection.
    pub fn body(mut self) -> String {
        while self.fill() {}
        String::from_utf8(self.buffer).expect("a body is text")
    }

    /// Sends; that the engine has closed meanwhile shows when reading.
    pub fn send(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Vanishes without a close frame, in the way of a killed process.
    pub fn vanish(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// The next frame's opcode and payload; `None` at the end of the stream.
    pub fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((frame, bytes)) = parse(&self.buffer) {
                self.buffer.drain(..bytes);
                return Some(frame);
            }
            if !self.fill() {
                assert!(self.buffer.is_empty(), "the stream ended within a frame");
                return None;
            }
        }
    }

    /// As [`Wire::next`], but only within `time`: `None` where nothing is whole by then.
    pub fn next_within(&mut self, time: Duration) -> Option<(u8, Vec<u8>)> {
        if parse(&self.buffer).is_none() {
            let mut stream = &self.stream;
            stream.set_read_timeout(Some(time)).expect("an option");
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes);
            stream.set_read_timeout(Some(PATIENCE)).expect("an option");
            match read {
                Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
                Err(error)
                    if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let (frame, bytes) = parse(&self.buffer)?;
        self.buffer.drain(..bytes);
        Some(frame)
    }

    /// The next message, which is text.
    pub fn json(&mut self) -> Value {
        let (opcode, payload) = self.next().expect("a frame comes");
        assert_eq!(opcode, 1, "{payload:?}");
        serde_json::from_slice(&payload).expect("the message is JSON")
    }

    /// Reads to the end: the messages, then the code of the close frame, which is the last.
    pub fn read_to_close(&mut self) -> (u16, Vec<Value>) {
        let mut messages = Vec::new();
        loop {
            match self.next().expect("a close frame comes") {
                (1, text) => messages.push(serde_json::from_slice(&text).expect("JSON")),
                (8, payload) => {
                    assert_eq!(self.next(), None, "nothing follows a close frame");
                    let code = payload
                        .get(..2)
                        .map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                    return (code, messages);
                }
                _ => {}
            }
        }
    }

    fn fill(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let read = self.stream.read(&mut bytes).expect("bytes come in time");
        self.buffer.extend_from_slice(&bytes[..read]);
        read > 0
    }
}

/// An unmasked frame, as servers send them, and its length.
fn parse(bytes: &[u8]) -> Option<((u8, Vec<u8>), usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0xf0, 0x80, "a whole message without reserved bits");
    let (start, length) = match second {
        126 => (
            4,
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            (10, usize::try_from(length).expect("a length that fits"))
        }
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    Some(((first & 0x0f, payload), start + length))
}
