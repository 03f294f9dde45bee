//! One connection to `/v1/publish`, from `welcome` to its end.

use std::time::{Duration, Instant};

use tickwire_engine::client::{ConnectError, Connection, Lost, Message, Target};
use tickwire_proto::{
    close::AfterClose,
    json::DecodeError,
    reply::{Reply, Welcome},
    upgrade::Subprotocol,
};

use super::message::Payload;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// What a client waits beyond `heartbeat_ms` of silence before it reconnects.
const SILENCE_GRACE: Duration = Duration::from_secs(5);

/// Why there is no connection, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error("the engine fell silent")]
    Silent,
    #[error("the engine said something unreadable: {0}")]
    Unreadable(String),
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Reconnect, not before this.
    Reconnect { at_least: Option<Duration> },
    /// Reconnect with another token, if there is one.
    FreshToken,
    /// Nothing helps.
    GiveUp,
}

impl Broken {
    /// What to do about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Connect(ConnectError::Refused(refusal)) => match refusal.status {
                401 => Remedy::FreshToken,
                _ if refusal.is_temporary() => Remedy::Reconnect {
                    at_least: refusal.retry_after,
                },
                _ => Remedy::GiveUp,
            },
            Self::Lost(lost) => match AfterClose::of(lost.code()) {
                AfterClose::Reconnect => Remedy::Reconnect { at_least: None },
                AfterClose::ReconnectWithFreshToken => Remedy::FreshToken,
                AfterClose::StayAway => Remedy::GiveUp,
            },
            Self::Connect(ConnectError::Io { .. }) | Self::Silent => {
                Remedy::Reconnect { at_least: None }
            }
            Self::Connect(_) | Self::Unreadable(_) => Remedy::GiveUp,
        }
    }
}

/// An open connection that was greeted.
#[derive(Debug)]
pub struct Link {
    connection: Connection,
    welcome: Welcome,
    heard: Instant,
}

impl Link {
    /// Connects and waits for `welcome`.
    pub fn open(target: &Target, token: &str, subprotocol: Subprotocol) -> Result<Self, Broken> {
        let mut connection =
            Connection::open(target, token, subprotocol.as_str(), CONNECT_TIMEOUT)?;
        let deadline = Instant::now() + WELCOME_TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match connection.receive(left)?.map(read).transpose()?.flatten() {
                Some(Reply::Welcome(welcome)) => {
                    return Ok(Self {
                        connection,
                        welcome,
                        heard: Instant::now(),
                    });
                }
                Some(other) => {
                    return Err(Broken::Unreadable(format!("{other:?} instead of welcome")));
                }
                None if left.is_zero() => return Err(Broken::Silent),
                None => {}
            }
        }
    }

    /// Bytes of one message at most.
    pub fn message_bytes(&self) -> usize {
        self.welcome.limits.message_bytes as usize
    }

    /// Sends a message.
    pub fn send(&mut self, payload: Payload) -> Result<(), Broken> {
        Ok(match payload {
            Payload::Text(text) => self.connection.send_text(text),
            Payload::Binary(bytes) => self.connection.send_binary(bytes),
        }?)
    }

    /// The next reply, or `None` after `wait`.
    pub fn receive(&mut self, wait: Duration) -> Result<Option<Reply>, Broken> {
        let Some(message) = self.connection.receive(wait)? else {
            let patience = Duration::from_millis(self.welcome.heartbeat_ms) + SILENCE_GRACE;
            return if self.heard.elapsed() > patience {
                Err(Broken::Silent)
            } else {
                Ok(None)
            };
        };
        self.heard = Instant::now();
        read(message)
    }

    /// Closes with 1000.
    pub fn close(self) {
        self.connection.close();
    }
}

/// Reads a reply; kinds that a newer engine may say are `None`. Nothing that concerns publishers
/// comes as SBE but heartbeats.
fn read(message: Message) -> Result<Option<Reply>, Broken> {
    let Message::Text(text) = message else {
        return Ok(None);
    };
    match Reply::from_json(&text) {
        Ok(reply) => Ok(Some(reply)),
        Err(DecodeError::UnknownKind { .. }) => Ok(None),
        Err(error) => Err(Broken::Unreadable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use tickwire_engine::client::Refusal;

    use super::*;

    fn refused(status: u16) -> Broken {
        let retry_after = Some(Duration::from_secs(7));
        Broken::Connect(ConnectError::Refused(Refusal {
            status,
            code: None,
            message: None,
            retry_after,
        }))
    }

    fn closed(code: u16) -> Broken {
        Broken::Lost(Lost::Closed {
            code,
            reason: String::new(),
        })
    }

    #[test]
    fn codes_decide_whether_to_come_back() {
        let again = Remedy::Reconnect { at_least: None };
        for (broken, remedy) in [
            (
                refused(429),
                Remedy::Reconnect {
                    at_least: Some(Duration::from_secs(7)),
                },
            ),
            (refused(401), Remedy::FreshToken),
            (refused(403), Remedy::GiveUp),
            (closed(1001), again),
            (closed(4401), Remedy::FreshToken),
            (closed(4503), Remedy::GiveUp),
            (Broken::Lost(Lost::Stalled), again),
            (Broken::Silent, again),
        ] {
            assert_eq!(broken.remedy(), remedy, "{broken}");
        }
    }
}
