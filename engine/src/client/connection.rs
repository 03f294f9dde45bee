//! One WebSocket over one TCP stream.

use std::{
    collections::VecDeque,
    io::{self, Read as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response, header};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tungstenite::{
    Bytes, Error as WsError, HandshakeError, Utf8Bytes, WebSocket,
    handshake::client::generate_key,
    protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
};

use super::{ConnectError, Lost, Refusal, Target};

/// Largest message taken from an engine, bytes; a longer one breaks the connection.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// How long the peer may take nothing of what is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Messages kept that came while sending; past that they wait in the socket.
const INBOX_MAX: usize = 4_096;
/// Largest body read from an HTTP refusal, bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// How long a close waits for the peer's own close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A message of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text: JSON.
    Text(Utf8Bytes),
    /// Binary: SBE.
    Binary(Bytes),
}

/// An established WebSocket; answers pings and close frames by itself.
#[derive(Debug)]
pub struct Connection {
    socket: WebSocket<TcpStream>,
    inbox: VecDeque<Message>,
    lost: Option<Lost>,
}

impl Connection {
    /// Connects and upgrades, with `Authorization: Bearer <token>` and one subprotocol offered.
    ///
    /// `timeout` bounds the TCP connect to each address and each wait for the answer.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]; an HTTP answer other than 101 is [`ConnectError::Refused`].
    pub fn open(
        target: &Target,
        token: &str,
        subprotocol: &str,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let request = upgrade_request(target, token, subprotocol)?;
        let failed = |source| ConnectError::Io {
            address: target.authority().to_owned(),
            source,
        };
        let stream = connect(target.host_and_port(), timeout).map_err(failed)?;
        let second = stream.try_clone().map_err(failed)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        match tungstenite::client::client_with_config(request, stream, Some(config)) {
            Ok((socket, _)) => {
                socket.get_ref().set_nonblocking(true).map_err(failed)?;
                Ok(Self {
                    socket,
                    inbox: VecDeque::new(),
                    lost: None,
                })
            }
            Err(HandshakeError::Interrupted(_)) => Err(failed(io::ErrorKind::TimedOut.into())),
            Err(HandshakeError::Failure(WsError::Io(source))) => Err(failed(source)),
            Err(HandshakeError::Failure(WsError::Http(response))) => {
                Err(ConnectError::Refused(refusal(*response, second)))
            }
            Err(HandshakeError::Failure(other)) => Err(ConnectError::Protocol {
                address: target.authority().to_owned(),
                message: other.to_string(),
            }),
        }
    }

    /// Sends one text message; blocks while the peer's window is full.
    ///
    /// # Errors
    ///
    /// See [`Lost`]; what came before the loss can still be received.
    pub fn send_text(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), Lost> {
        self.send(tungstenite::Message::Text(text.into()))
    }

    /// Sends one binary message; blocks while the peer's window is full.
    ///
    /// # Errors
    ///
    /// See [`Lost`]; what came before the loss can still be received.
    pub fn send_binary(&mut self, bytes: impl Into<Bytes>) -> Result<(), Lost> {
        self.send(tungstenite::Message::Binary(bytes.into()))
    }

    /// The next message, or `None` when `timeout` has passed or a signal came.
    ///
    /// # Errors
    ///
    /// See [`Lost`]; all messages before it have been handed out.
    pub fn receive(&mut self, timeout: Duration) -> Result<Option<Message>, Lost> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Ok(Some(message));
            }
            if let Some(lost) = self.lost.take() {
                return Err(lost);
            }
            if !self.read_available() && self.lost.is_none() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() || !self.wait(PollFlags::IN, left)? {
                    return Ok(None);
                }
            }
        }
    }

    /// Says goodbye with 1000 and waits shortly for the peer to do the same.
    ///
    /// Messages that were not received are lost.
    pub fn close(mut self) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: Utf8Bytes::from_static(""),
        };
        if self.socket.close(Some(frame)).is_err() {
            return;
        }
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while self.lost.is_none() && Instant::now() < deadline {
            self.inbox.clear();
            if !self.read_available()
                && self.wait(PollFlags::IN, deadline - Instant::now()).is_err()
            {
                return;
            }
        }
    }

    fn send(&mut self, message: tungstenite::Message) -> Result<(), Lost> {
        match self.socket.write(message) {
            Ok(()) => {}
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(self.end(error)),
        }
        let mut progress = Instant::now();
        loop {
            match self.socket.flush() {
                Ok(()) => return Ok(()),
                Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(self.end(error)),
            }
            // A peer that waits for us to read before it reads on would wait for ever.
            let room = self.inbox.len() < INBOX_MAX;
            let readable = if room {
                PollFlags::IN
            } else {
                PollFlags::empty()
            };
            if self.wait(PollFlags::OUT | readable, Duration::from_millis(250))? {
                progress = Instant::now();
            } else if progress.elapsed() > WRITE_TIMEOUT {
                return Err(Lost::Stalled);
            }
            if room {
                self.read_available();
            }
        }
    }

    /// Why the socket is of no use, preferring the close frame that may have come before.
    fn end(&mut self, error: WsError) -> Lost {
        while self.read_available() {}
        self.lost.take().unwrap_or_else(|| lost(error))
    }

    /// Moves what is there to the inbox; false where nothing was.
    fn read_available(&mut self) -> bool {
        let before = self.inbox.len();
        while self.lost.is_none() && self.inbox.len() < INBOX_MAX.max(before + 1) {
            match self.socket.read() {
                Ok(tungstenite::Message::Text(text)) => self.inbox.push_back(Message::Text(text)),
                Ok(tungstenite::Message::Binary(bytes)) => {
                    self.inbox.push_back(Message::Binary(bytes));
                }
                Ok(tungstenite::Message::Close(frame)) => {
                    // The answer to the close frame is queued; the peer may be gone already.
                    let _ = self.socket.flush();
                    self.lost = Some(closed(frame));
                }
                Ok(_) => {}
                Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(WsError::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.lost = Some(lost(error)),
            }
        }
        self.inbox.len() > before
    }

    /// Waits until the socket is ready; false on timeout or a signal.
    fn wait(&self, events: PollFlags, timeout: Duration) -> Result<bool, Lost> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as _,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(
            &mut [PollFd::new(self.socket.get_ref(), events)],
            Some(&timeout),
        ) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(Lost::Io(errno.into())),
        }
    }
}

fn upgrade_request(
    target: &Target,
    token: &str,
    subprotocol: &str,
) -> Result<Request<()>, ConnectError> {
    let mut bearer =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ConnectError::BadToken)?;
    bearer.set_sensitive(true);
    Request::get(target.uri())
        .header(header::HOST, target.authority())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .header(header::SEC_WEBSOCKET_PROTOCOL, subprotocol)
        .header(header::AUTHORIZATION, bearer)
        .body(())
        .map_err(|error| ConnectError::Protocol {
            address: target.authority().to_owned(),
            message: error.to_string(),
        })
}

/// Tries every address of the host in turn; the last failure stands for all.
fn connect(host_and_port: (&str, u16), timeout: Duration) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in host_and_port.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn refusal(response: Response<Option<Vec<u8>>>, rest: TcpStream) -> Refusal {
    let (head, body) = response.into_parts();
    let text = |name| {
        head.headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let body_bytes = text(header::CONTENT_LENGTH)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let body = whole_body(body.unwrap_or_default(), body_bytes, rest);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let field = |name: &str| body[name].as_str().map(str::to_owned);
    Refusal {
        status: head.status.as_u16(),
        code: field("code"),
        message: field("message"),
        retry_after: text(header::RETRY_AFTER)
            .and_then(|text| text.parse().ok())
            .map(Duration::from_secs),
    }
}

/// The handshake read some of the body along with the head; this reads what is missing.
fn whole_body(mut body: Vec<u8>, body_bytes: usize, rest: TcpStream) -> Vec<u8> {
    let missing = body_bytes.min(REFUSAL_BYTES_MAX).saturating_sub(body.len());
    // A body cut short is still an answer: status and headers are what counts.
    let _ = rest.take(missing as u64).read_to_end(&mut body);
    body
}

fn closed(frame: Option<CloseFrame>) -> Lost {
    match frame {
        Some(frame) => Lost::Closed {
            code: frame.code.into(),
            reason: frame.reason.to_string(),
        },
        None => Lost::Closed {
            code: 1005,
            reason: String::new(),
        },
    }
}

fn lost(error: WsError) -> Lost {
    match error {
        WsError::Io(error) => Lost::Io(error),
        WsError::ConnectionClosed | WsError::AlreadyClosed => {
            Lost::Io(io::ErrorKind::ConnectionReset.into())
        }
        other => Lost::Protocol(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
