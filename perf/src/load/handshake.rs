//! How subscribers' connections begin, by their framing.

use std::net::SocketAddr;

use crate::{
    body::Body,
    dialect::{Framing, LostReason, Opening},
    event_stream,
    upgrade::{ServerUrl, Upgrade},
};

/// What every connection to one server asks for first.
pub(super) enum Handshake {
    /// An upgrade.
    WebSocket(Upgrade),
    /// A stream of events.
    EventStream(ServerUrl),
}

impl Handshake {
    pub(super) fn new(framing: Framing, server: SocketAddr) -> Self {
        let server = ServerUrl::from(server);
        match framing {
            Framing::WebSocket => Self::WebSocket(Upgrade::new(&server)),
            Framing::EventStream => Self::EventStream(server),
        }
    }

    pub(super) fn request(&self, Opening { path, headers, .. }: &Opening) -> String {
        match self {
            Self::WebSocket(upgrade) => upgrade.request(path, headers),
            Self::EventStream(server) => event_stream::request(&server.authority, path, headers),
        }
    }

    /// Reads the answer at the head of `bytes`; once it is there whole its length, and the body that
    /// events come in.
    pub(super) fn answer(&self, bytes: &[u8]) -> Result<Option<(usize, Option<Body>)>, LostReason> {
        Ok(match self {
            Self::WebSocket(upgrade) => upgrade.answer(bytes)?.map(|length| (length, None)),
            Self::EventStream(_) => {
                event_stream::answer(bytes)?.map(|(length, body)| (length, Some(body)))
            }
        })
    }
}
