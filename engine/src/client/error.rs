//! How connecting fails, and how connections end.

use std::{fmt, io, time::Duration};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Not a `ws://` URL.
    #[error("`{url}` is not a WebSocket URL: {why}")]
    BadUrl {
        /// The text.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A `wss://` URL.
    #[error("`{url}`: TLS is not built in yet; use ws://, or a proxy that terminates TLS")]
    TlsNotBuiltIn {
        /// The text.
        url: String,
    },
    /// The token holds bytes that no header may hold.
    #[error("the token is not a text that fits a header")]
    BadToken,
    /// The host has no address, or nobody listens there, or it fell silent.
    #[error("cannot connect to {address}")]
    Io {
        /// Host and port.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The server answered the upgrade with an HTTP status.
    #[error(transparent)]
    Refused(Refusal),
    /// What listens there does not speak WebSocket, or not this protocol.
    #[error("{address} does not speak the protocol: {message}")]
    Protocol {
        /// Host and port.
        address: String,
        /// What went wrong.
        message: String,
    },
}

/// The server's HTTP answer to an upgrade that it does not grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The body's `code`, where it has one.
    pub code: Option<String>,
    /// The body's `message`, where it has one.
    pub message: Option<String>,
    /// `Retry-After`: a lower bound of the time to come back.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Whether the same request may be granted later: 408, 429 and every 5xx.
    pub fn is_temporary(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused with HTTP {}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(after) = self.retry_after {
            write!(f, " (retry after {} s)", after.as_secs())?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// How an established connection ended; it is of no further use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// The server sent a close frame.
    #[error("closed by the server with {code} {reason}")]
    Closed {
        /// The close code; 1005 where the frame has none (RFC 6455 § 7.4.1).
        code: u16,
        /// The reason text.
        reason: String,
    },
    /// The peer took nothing for the write timeout.
    #[error("the server takes nothing any more")]
    Stalled,
    /// The connection broke without a close frame.
    #[error("connection lost")]
    Io(#[from] io::Error),
    /// The server violated RFC 6455.
    #[error("connection lost: {0}")]
    Protocol(String),
}

impl Lost {
    /// The close code, 1006 where no close frame came (RFC 6455 § 7.4.1).
    pub fn code(&self) -> u16 {
        match self {
            Self::Closed { code, .. } => *code,
            _ => 1006,
        }
    }
}
