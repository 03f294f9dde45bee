//! The upgrade of a connection (RFC 6455, section 4.2), without a look at its token.

use tungstenite::handshake::derive_accept_key;

/// Longest request head, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// `/v1/ws`.
    Subscriber,
    /// `/v1/publish`.
    Publisher,
}

/// A request head that was understood.
#[derive(Debug, PartialEq)]
pub struct Upgrade {
    /// What the connection is from now on.
    pub role: Role,
    /// The response.
    pub response: String,
    /// Bytes of the head.
    pub bytes: usize,
}

/// The request is no upgrade to anything here.
#[derive(Debug, PartialEq)]
pub struct NoUpgrade;

/// Reads a request head; `None` if it is not whole yet.
///
/// # Errors
///
/// If it is broken or asks for something else.
pub fn take(input: &[u8]) -> Result<Option<Upgrade>, NoUpgrade> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let bytes = match request.parse(input) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) if input.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => return Err(NoUpgrade),
    };
    let role = match request.path.and_then(|path| path.split('?').next()) {
        Some("/v1/ws") => Role::Subscriber,
        Some("/v1/publish") => Role::Publisher,
        _ => return Err(NoUpgrade),
    };
    let is_key = |header: &&httparse::Header| header.name.eq_ignore_ascii_case("sec-websocket-key");
    let key = request.headers.iter().find(is_key).ok_or(NoUpgrade)?;
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.value)
    );
    Ok(Some(Upgrade {
        role,
        response,
        bytes,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_is_upgraded() {
        let head = b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
            sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let upgrade = take(head).unwrap().unwrap();
        assert_eq!(
            (upgrade.role, upgrade.bytes),
            (Role::Subscriber, head.len())
        );
        assert!(
            upgrade
                .response
                .contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")
        );
        assert_eq!(take(&head[..40]), Ok(None));
        assert_eq!(take(b"GET / HTTP/1.1\r\n\r\n"), Err(NoUpgrade));
    }
}
