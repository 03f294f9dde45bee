//! The upgrade of a WebSocket, above HTTP: path, subprotocols, bearer token and query.
//!
//! Everything here is judged before the socket is accepted, so every error is an HTTP 400. Tokens
//! pass through and are named in no message: an error's text ends up in logs and on screens.

mod offer;
mod query;

pub use offer::{Offer, bearer};
pub use query::{EdgeQuery, Page, Query, WAIT_S_DEFAULT, WAIT_S_MAX, edge_cursor};

use crate::code::ErrorCode;

/// How messages are written on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Subprotocol {
    /// One JSON object a text message; what a client gets that offers nothing.
    #[default]
    Json,
    /// Ticks and what belongs to them as SBE in binary messages, all else as JSON.
    Sbe,
}

impl Subprotocol {
    /// Both, JSON first.
    pub const ALL: [Self; 2] = [Self::Json, Self::Sbe];

    /// The name in `Sec-WebSocket-Protocol` and in `welcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "tickwire.v1.json",
            Self::Sbe => "tickwire.v1.sbe",
        }
    }

    /// The reverse of [`Subprotocol::as_str`].
    pub fn from_wire(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|subprotocol| subprotocol.as_str() == text)
    }
}

/// What a WebSocket was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/ws`: ticks go out.
    Subscribe,
    /// `/v1/publish`: ticks come in.
    Publish,
}

impl Endpoint {
    /// The endpoint of a request's path, without its query; `None` is a 404.
    pub fn from_path(path: &str) -> Option<Self> {
        match path {
            "/v1/ws" => Some(Self::Subscribe),
            "/v1/publish" => Some(Self::Publish),
            _ => None,
        }
    }

    /// The path that clients open.
    pub fn path(self) -> &'static str {
        match self {
            Self::Subscribe => "/v1/ws",
            Self::Publish => "/v1/publish",
        }
    }
}

/// Why an upgrade is malformed; becomes an HTTP 400 with `{"code":"…","message":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct UpgradeError {
    /// The code of the body.
    pub code: ErrorCode,
    /// A sentence for humans that names the parameter and the allowed range, and no secret.
    pub message: String,
}

impl UpgradeError {
    fn bad_request(message: impl Into<String>) -> Self {
        Self {
            code: ErrorCode::BadRequest,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_paths_are_endpoints() {
        for endpoint in [Endpoint::Subscribe, Endpoint::Publish] {
            assert_eq!(Endpoint::from_path(endpoint.path()), Some(endpoint));
        }
        for path in ["/", "/v1/ws/", "/v1/WS", "/v1/publish?x", ""] {
            assert_eq!(Endpoint::from_path(path), None, "{path}");
        }
    }
}
