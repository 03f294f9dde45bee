//! Every HTTP answer before the upgrade (`proto/README.md`, "HTTP answers").
//!
//! An answer is formatted when it is needed: that is well under a microsecond, a small part of the
//! `write` that sends it, and most carry a number of their own.

use tickwire_proto::code::ErrorCode;

use super::auth::TokenError;

/// Why an upgrade is refused, with what its answer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// 400: not HTTP/1.1, not RFC 6455, or a query or offer that makes no sense.
    BadRequest {
        /// The body's code.
        code: ErrorCode,
        /// The body's message, without secrets.
        message: String,
    },
    /// 401 without an error attribute: no token was sent (RFC 6750 § 3.1).
    NoToken,
    /// 401: the token does not verify.
    BadToken(TokenError),
    /// 403: the token is good and allows nothing of this.
    NotEntitled,
    /// 404: no such path.
    NotFound,
    /// 405: not a GET.
    MethodNotAllowed,
    /// 408: the head took too long.
    Timeout,
    /// 426: not an upgrade to WebSocket 13.
    UpgradeRequired,
    /// 429: over the limit of its IP.
    RateLimited {
        /// When to come back.
        retry_after_s: u64,
    },
    /// 429: its IP has as many connections as it may have.
    TooManyConnections {
        /// When to come back.
        retry_after_s: u64,
    },
    /// 431: the head is too large, or has too many fields.
    HeadTooLarge,
    /// 503: no place left.
    AtCapacity {
        /// When to come back.
        retry_after_s: u64,
    },
    /// 503: the process is about to end.
    Draining {
        /// When to come back.
        retry_after_s: u64,
    },
}

impl Refusal {
    /// 400 with the code `bad_request`.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest {
            code: ErrorCode::BadRequest,
            message: message.into(),
        }
    }

    /// The status line's code and text.
    pub fn status(&self) -> (u16, &'static str) {
        match self {
            Self::BadRequest { .. } => (400, "Bad Request"),
            Self::NoToken | Self::BadToken(_) => (401, "Unauthorized"),
            Self::NotEntitled => (403, "Forbidden"),
            Self::NotFound => (404, "Not Found"),
            Self::MethodNotAllowed => (405, "Method Not Allowed"),
            Self::Timeout => (408, "Request Timeout"),
            Self::UpgradeRequired => (426, "Upgrade Required"),
            Self::RateLimited { .. } | Self::TooManyConnections { .. } => {
                (429, "Too Many Requests")
            }
            Self::HeadTooLarge => (431, "Request Header Fields Too Large"),
            Self::AtCapacity { .. } | Self::Draining { .. } => (503, "Service Unavailable"),
        }
    }

    /// The body's `code`, and the metric's `outcome`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest { code, .. } => code.as_str(),
            Self::NoToken => "unauthorized",
            Self::BadToken(_) => "bad_token",
            Self::NotEntitled => "not_entitled",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Timeout => "timeout",
            Self::UpgradeRequired => "upgrade_required",
            Self::RateLimited { .. } | Self::TooManyConnections { .. } => "rate_limited",
            Self::HeadTooLarge => "head_too_large",
            Self::AtCapacity { .. } => "at_capacity",
            Self::Draining { .. } => "draining",
        }
    }

    /// The metric's `reason`: what was wrong with a token, which limit of an IP it was, else nothing.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadToken(error) => error.label(),
            Self::RateLimited { .. } => "handshakes",
            Self::TooManyConnections { .. } => "connections",
            _ => "",
        }
    }

    /// When to come back, where waiting helps.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_s }
            | Self::TooManyConnections { retry_after_s }
            | Self::AtCapacity { retry_after_s }
            | Self::Draining { retry_after_s } => Some(*retry_after_s),
            _ => None,
        }
    }

    /// The body's `message`, a sentence for humans.
    pub fn message(&self) -> String {
        match self {
            Self::BadRequest { message, .. } => message.clone(),
            Self::NoToken => {
                "a token is needed: Authorization: Bearer, or tickwire.bearer. in Sec-WebSocket-Protocol".to_owned()
            }
            Self::BadToken(error) => error.to_string(),
            Self::NotEntitled => "the token allows none of this".to_owned(),
            Self::NotFound => "there are /v1/ws, /v1/publish and /v1/admit".to_owned(),
            Self::MethodNotAllowed => "only GET is served here".to_owned(),
            Self::Timeout => "the request took too long to arrive".to_owned(),
            Self::UpgradeRequired => "a WebSocket upgrade (version 13) is needed".to_owned(),
            Self::RateLimited { .. } => "too many handshakes from this address".to_owned(),
            Self::TooManyConnections { .. } => "too many connections from this address".to_owned(),
            Self::HeadTooLarge => "the request head is too large".to_owned(),
            Self::AtCapacity { .. } => "no place left at the moment".to_owned(),
            Self::Draining { .. } => "this host is about to end".to_owned(),
        }
    }

    fn own_fields(&self) -> String {
        match self {
            Self::NoToken => "WWW-Authenticate: Bearer\r\n".to_owned(),
            Self::BadToken(_) => "WWW-Authenticate: Bearer error=\"invalid_token\"\r\n".to_owned(),
            Self::MethodNotAllowed => "Allow: GET\r\n".to_owned(),
            // RFC 9110 § 15.5.22 asks for Upgrade, RFC 6455 § 4.4 for the version. Connection must
            // name Upgrade, and close beside it ends the connection (RFC 9110 § 7.8).
            Self::UpgradeRequired => {
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    .to_owned()
            }
            _ => self
                .retry_after_s()
                .map(|seconds| format!("Retry-After: {seconds}\r\n"))
                .unwrap_or_default(),
        }
    }

    /// The whole answer, ready to be sent; the connection closes behind it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let body =
            serde_json::json!({ "code": self.code(), "message": self.message() }).to_string();
        response(self.status(), &self.own_fields(), Some(&body))
    }
}

/// A whole answer with fields of its own and a JSON body, if any.
pub(super) fn response(status: (u16, &str), own_fields: &str, body: Option<&str>) -> Vec<u8> {
    let (code, text) = status;
    let content = body.map_or_else(String::new, |body| {
        format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        )
    });
    format!(
        "HTTP/1.1 {code} {text}\r\n\
         {content}\
         Cache-Control: no-store\r\n\
         {own_fields}\
         Connection: close\r\n\
         \r\n\
         {body}",
        body = body.unwrap_or_default(),
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<(Refusal, u16, &'static str)> {
        vec![
            (
                Refusal::BadRequest {
                    code: ErrorCode::BadCursor,
                    message: "a \"quoted\"\nword".to_owned(),
                },
                400,
                "",
            ),
            (Refusal::NoToken, 401, "www-authenticate: Bearer"),
            (
                Refusal::BadToken(TokenError::Expired),
                401,
                "www-authenticate: Bearer error=\"invalid_token\"",
            ),
            (Refusal::NotEntitled, 403, ""),
            (Refusal::NotFound, 404, ""),
            (Refusal::MethodNotAllowed, 405, "allow: GET"),
            (Refusal::Timeout, 408, ""),
            (Refusal::UpgradeRequired, 426, "sec-websocket-version: 13"),
            (
                Refusal::RateLimited { retry_after_s: 3 },
                429,
                "retry-after: 3",
            ),
            (
                Refusal::TooManyConnections { retry_after_s: 2 },
                429,
                "retry-after: 2",
            ),
            (Refusal::HeadTooLarge, 431, ""),
            (
                Refusal::AtCapacity { retry_after_s: 4 },
                503,
                "retry-after: 4",
            ),
            (
                Refusal::Draining { retry_after_s: 5 },
                503,
                "retry-after: 5",
            ),
        ]
    }

    #[test]
    fn every_answer_is_whole_http_with_a_json_body() {
        for (refusal, status, own_field) in all() {
            let bytes = refusal.to_bytes();
            let mut fields = [httparse::EMPTY_HEADER; 16];
            let mut response = httparse::Response::new(&mut fields);
            let head = response.parse(&bytes).unwrap().unwrap();
            assert_eq!(response.code, Some(status));
            let fields: Vec<String> = response
                .headers
                .iter()
                .map(|field| {
                    format!(
                        "{}: {}",
                        field.name.to_lowercase(),
                        std::str::from_utf8(field.value).unwrap()
                    )
                })
                .collect();
            let body = &bytes[head..];
            for expected in [
                "connection: close",
                "cache-control: no-store",
                "content-type: application/json",
                &format!("content-length: {}", body.len()),
            ] {
                assert!(
                    fields.iter().any(|field| field == expected),
                    "{status}: {expected}"
                );
            }
            assert!(
                own_field.is_empty() || fields.iter().any(|field| field == own_field),
                "{fields:?}"
            );
            let body: serde_json::Value = serde_json::from_slice(body).unwrap();
            assert_eq!(body["code"], refusal.code());
            assert!(!body["message"].as_str().unwrap().is_empty());
        }
    }

    #[test]
    fn a_code_that_says_too_little_has_a_reason_beside_it() {
        for (refusal, status, _) in all() {
            let expected = status == 429 || matches!(refusal, Refusal::BadToken(_));
            assert_eq!(!refusal.reason().is_empty(), expected, "{refusal:?}");
        }
    }
}
