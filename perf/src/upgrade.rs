//! The client's side of the WebSocket upgrade (RFC 6455 § 4.1).

use std::net::SocketAddr;

use tungstenite::handshake::{client::generate_key, derive_accept_key};

use crate::http::{self, AnswerError};

/// The server asked for, as `ws://host:port`; paths are the scenario's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// `Host`.
    pub authority: String,
    /// Where to connect.
    pub address: SocketAddr,
}

/// One key for all connections of a run: it guards against caches, of which there are none.
#[derive(Clone, Debug)]
pub struct Upgrade {
    authority: String,
    key: String,
    accept: String,
}

/// Why an upgrade did not happen.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// No answer of status 101.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// `Sec-WebSocket-Accept` does not fit the key.
    #[error("the server's Sec-WebSocket-Accept does not fit the key")]
    WrongAccept,
}

impl std::str::FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let authority = text
            .strip_prefix("ws://")
            .ok_or("a server is given as ws://host:port")?
            .trim_end_matches('/');
        let mut addresses = std::net::ToSocketAddrs::to_socket_addrs(authority)
            .map_err(|error| format!("{authority}: {error}"))?;
        let address = addresses
            .next()
            .ok_or_else(|| format!("{authority} has no address"))?;
        Ok(Self {
            authority: authority.to_owned(),
            address,
        })
    }
}

impl From<SocketAddr> for ServerUrl {
    fn from(address: SocketAddr) -> Self {
        Self {
            authority: address.to_string(),
            address,
        }
    }
}

impl Upgrade {
    /// Upgrades to `server`.
    pub fn new(server: &ServerUrl) -> Self {
        let key = generate_key();
        let accept = derive_accept_key(key.as_bytes());
        Self {
            authority: server.authority.clone(),
            key,
            accept,
        }
    }

    /// The request for `path`, with further headers.
    pub fn request(&self, path: &str, headers: &[(&'static str, String)]) -> String {
        let own = [
            ("Host", &*self.authority),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", &*self.key),
        ];
        let further = headers.iter().map(|(name, value)| (*name, &**value));
        http::get(path, own.into_iter().chain(further))
    }

    /// Reads the answer at the head of `bytes`; its length once it is there whole.
    pub fn answer(&self, bytes: &[u8]) -> Result<Option<usize>, UpgradeError> {
        let answer = http::answer(bytes, 101, |response| {
            http::header(response, "Sec-WebSocket-Accept") == Some(self.accept.as_bytes())
        })?;
        match answer {
            Some((_, false)) => Err(UpgradeError::WrongAccept),
            answer => Ok(answer.map(|(head_bytes, _)| head_bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade() -> Upgrade {
        Upgrade::new(&ServerUrl::from(SocketAddr::from(([127, 0, 0, 1], 9001))))
    }

    #[test]
    fn an_answer_is_taken_once_whole_and_leaves_what_follows() {
        let upgrade = upgrade();
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n\r\n",
            upgrade.accept
        );
        let bytes = [head.as_bytes(), b"\x81\x02hi"].concat();
        for cut in 0..head.len() {
            assert_eq!(upgrade.answer(&bytes[..cut]).unwrap(), None);
        }
        assert_eq!(upgrade.answer(&bytes).unwrap(), Some(head.len()));
    }

    #[test]
    fn an_answer_to_another_key_is_none() {
        let foreign = b"HTTP/1.1 101 OK\r\nSec-WebSocket-Accept: abc\r\n\r\n";
        assert!(matches!(
            upgrade().answer(foreign),
            Err(UpgradeError::WrongAccept)
        ));
    }

    #[test]
    fn a_server_is_a_ws_url() {
        let server: ServerUrl = "ws://127.0.0.1:9001/".parse().unwrap();
        assert_eq!(
            server,
            ServerUrl::from(SocketAddr::from(([127, 0, 0, 1], 9001)))
        );
        assert!("http://127.0.0.1:9001".parse::<ServerUrl>().is_err());
    }
}
