//! What a subscriber needs of HTTP/1.1 (RFC 9112): a GET, and the head of its answer.

/// The longest head taken, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// Why there is no answer of the status wished for.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// It is no HTTP/1.1 response.
    #[error("the answer is not HTTP: {0}")]
    NotHttp(#[from] httparse::Error),
    /// Its head goes on for too long.
    #[error("the answer has a head above {HEAD_BYTES_MAX} bytes")]
    TooLong,
    /// Another status.
    #[error("the server refused the connection: {status} {body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// As much of the body as came with it.
        body: String,
        /// `Retry-After` (RFC 9110 § 10.2.3), where it is a number, s.
        retry_after_s: Option<u64>,
    },
}

/// The request for `path`.
pub fn get<'a>(path: &str, headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    for (name, value) in headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.push_str("\r\n");
    request
}

/// Reads the head at the begin of `bytes`, which must have this `status`: once it is there whole its
/// length, and what `take` makes of it.
pub fn answer<T>(
    bytes: &[u8],
    status: u16,
    take: impl FnOnce(&httparse::Response<'_, '_>) -> T,
) -> Result<Option<(usize, T)>, AnswerError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head_bytes = match response.parse(bytes)? {
        httparse::Status::Complete(head_bytes) => head_bytes,
        httparse::Status::Partial if bytes.len() > HEAD_BYTES_MAX => {
            return Err(AnswerError::TooLong);
        }
        httparse::Status::Partial => return Ok(None),
    };
    let own = response.code.unwrap_or_default();
    if own == status {
        return Ok(Some((head_bytes, take(&response))));
    }
    let retry_after = header(&response, "Retry-After");
    Err(AnswerError::Refused {
        status: own,
        body: String::from_utf8_lossy(&bytes[head_bytes..]).into_owned(),
        retry_after_s: retry_after
            .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok()),
    })
}

/// The value of a header.
pub fn header<'a>(response: &httparse::Response<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    let mut headers = response.headers.iter();
    headers
        .find(|header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once_whole_and_leaves_what_follows() {
        let head = b"HTTP/1.1 200 OK\r\nX-Y: z\r\n\r\n";
        let bytes = [&head[..], b"body"].concat();
        let read = |bytes: &[u8]| {
            answer(bytes, 200, |response| {
                header(response, "x-y").map(<[u8]>::to_vec)
            })
            .unwrap()
        };
        for cut in 0..head.len() {
            assert_eq!(read(&bytes[..cut]), None);
        }
        assert_eq!(read(&bytes), Some((head.len(), Some(b"z".to_vec()))));
    }

    #[test]
    fn a_refusal_says_why() {
        let refused = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n{\"code\":\"x\"}";
        let error = answer(refused, 200, |_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"the server refused the connection: 503 {"code":"x"}"#
        );
        assert!(matches!(
            error,
            AnswerError::Refused {
                retry_after_s: Some(1),
                ..
            }
        ));
    }

    #[test]
    fn a_request_has_its_headers_in_their_order() {
        let request = get("/a?b=c", [("Host", "h"), ("X", "y")]);
        assert_eq!(request, "GET /a?b=c HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n");
    }
}
