//! The client's side of the WebSocket upgrade (RFC 6455 § 4.1).

use std::net::SocketAddr;

use tungstenite::handshake::{client::generate_key, derive_accept_key};

/// The longest answer taken, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

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
    /// The answer is no HTTP/1.1 response.
    #[error("the answer to the upgrade is not HTTP: {0}")]
    NotHttp(#[from] httparse::Error),
    /// The answer's head goes on for too long.
    #[error("the answer to the upgrade has a head above {HEAD_BYTES_MAX} bytes")]
    TooLong,
    /// An answer other than 101.
    #[error("the server refused the upgrade: {status} {body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// As much of the body as came with it.
        body: String,
        /// `Retry-After` (RFC 9110 § 10.2.3), where it is a number, s.
        retry_after_s: Option<u64>,
    },
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
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n",
            self.authority, self.key,
        );
        for (name, value) in headers {
            request.extend([name, ": ", value, "\r\n"]);
        }
        request.push_str("\r\n");
        request
    }

    /// Reads the answer at the head of `bytes`; its length once it is there whole.
    pub fn answer(&self, bytes: &[u8]) -> Result<Option<usize>, UpgradeError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let head_bytes = match response.parse(bytes)? {
            httparse::Status::Complete(head_bytes) => head_bytes,
            httparse::Status::Partial if bytes.len() > HEAD_BYTES_MAX => {
                return Err(UpgradeError::TooLong);
            }
            httparse::Status::Partial => return Ok(None),
        };
        let status = response.code.unwrap_or_default();
        if status != 101 {
            let body = String::from_utf8_lossy(&bytes[head_bytes..]).into_owned();
            let retry_after = header(&response, "Retry-After");
            return Err(UpgradeError::Refused {
                status,
                body,
                retry_after_s: retry_after
                    .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok()),
            });
        }
        if header(&response, "Sec-WebSocket-Accept") == Some(self.accept.as_bytes()) {
            Ok(Some(head_bytes))
        } else {
            Err(UpgradeError::WrongAccept)
        }
    }
}

fn header<'a>(response: &httparse::Response<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    let mut headers = response.headers.iter();
    let found = headers.find(|header| header.name.eq_ignore_ascii_case(name));
    found.map(|header| header.value)
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
    fn a_refusal_says_why() {
        let refused = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n{\"code\":\"x\"}";
        let error = upgrade().answer(refused).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"the server refused the upgrade: 503 {"code":"x"}"#
        );
        assert!(matches!(
            error,
            UpgradeError::Refused {
                retry_after_s: Some(1),
                ..
            }
        ));
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
