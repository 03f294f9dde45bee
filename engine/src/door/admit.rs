//! `GET /v1/admit`: the verdict that an upgrade would get now, for browsers, which hide the status of
//! one that failed (`proto/README.md`, "HTTP answers").
//!
//! It answers 200 whatever the verdict is, to pages of any origin, and spends no allowance: whoever
//! is over it must be able to ask when to come back.

use serde::Serialize;

use super::answer::{Refusal, response};

/// Where it is asked.
pub const PATH: &str = "/v1/admit";
/// What every request for it begins with.
const BEGINS: [&[u8]; 2] = [b"GET /v1/admit", b"OPTIONS /v1/admit"];

/// What is asked.
#[derive(Debug)]
pub enum Question {
    /// A browser asks whether its page may ask, the CORS preflight
    /// (<https://fetch.spec.whatwg.org/#cors-preflight-fetch>).
    Preflight,
    /// What an upgrade with this query and token would be told, as far as these decide.
    Verdict(Result<(), Refusal>),
}

/// A verdict as it is told.
#[derive(Serialize)]
struct Told<'a> {
    admitted: bool,
    #[serde(flatten)]
    why: Option<Why<'a>>,
}

/// Why somebody is not let in.
#[derive(Serialize)]
pub struct Why<'a> {
    /// The HTTP status that the upgrade would get.
    pub status: u16,
    /// Its body's code.
    pub code: &'a str,
    /// Its body's message.
    pub message: &'a str,
    /// When to come back, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// Whether what has come is, or could become, a request for it.
pub fn may_be_asked(received: &[u8]) -> bool {
    BEGINS.iter().any(|begin| {
        let bytes = received.len().min(begin.len());
        received[..bytes] == begin[..bytes]
    })
}

/// The body of an answer; `None` is admitted.
///
/// # Panics
///
/// Never: texts and numbers are plain JSON.
pub fn body(why: Option<Why<'_>>) -> String {
    let told = Told {
        admitted: why.is_none(),
        why,
    };
    serde_json::to_string(&told).expect("texts and numbers are JSON")
}

/// The whole answer, where `now` says what an upgrade would be told for other reasons than its query
/// and its token.
pub fn answer(question: Question, now: Result<(), Refusal>) -> Vec<u8> {
    let Question::Verdict(own) = question else {
        return response(
            (204, "No Content"),
            "Access-Control-Allow-Origin: *\r\n\
             Access-Control-Allow-Methods: GET\r\n\
             Access-Control-Allow-Headers: authorization\r\n\
             Access-Control-Max-Age: 600\r\n",
            None,
        );
    };
    let refusal = now.and(own).err();
    let message = refusal.as_ref().map(Refusal::message).unwrap_or_default();
    let why = refusal.as_ref().map(|refusal| Why {
        status: refusal.status().0,
        code: refusal.code(),
        message: &message,
        retry_after_ms: refusal.retry_after_s().map(|seconds| seconds * 1_000),
    });
    response(
        (200, "OK"),
        "Access-Control-Allow-Origin: *\r\n",
        Some(&body(why)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_it_is_known_by_its_begin() {
        for yes in [
            "",
            "G",
            "GET /v1/adm",
            "GET /v1/admit?symbols=A HTTP/1.1",
            "OPTIONS /v1/admit",
        ] {
            assert!(may_be_asked(yes.as_bytes()), "{yes}");
        }
        for no in ["GET /v1/ws", "POST", "\r\n"] {
            assert!(!may_be_asked(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn the_body_says_when_to_come_back() {
        let told = |question, now| {
            let bytes = answer(question, now);
            let text = String::from_utf8(bytes).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("Access-Control-Allow-Origin: *"), "{head}");
            assert!(head.contains("no-store"), "{head}");
            (head.lines().next().unwrap().to_owned(), body.to_owned())
        };
        let ok = "HTTP/1.1 200 OK".to_owned();
        assert_eq!(
            told(Question::Verdict(Ok(())), Ok(())),
            (ok.clone(), r#"{"admitted":true}"#.to_owned())
        );
        let limited = Refusal::RateLimited { retry_after_s: 3 };
        assert_eq!(
            told(Question::Verdict(Err(Refusal::NotEntitled)), Err(limited)),
            (
                ok.clone(),
                r#"{"admitted":false,"status":429,"code":"rate_limited","message":"too many handshakes from this address","retry_after_ms":3000}"#.to_owned()
            )
        );
        assert_eq!(
            told(Question::Verdict(Err(Refusal::NotEntitled)), Ok(())),
            (
                ok,
                r#"{"admitted":false,"status":403,"code":"not_entitled","message":"the token allows none of this"}"#.to_owned()
            )
        );
        let (status, body) = told(Question::Preflight, Ok(()));
        assert_eq!(
            (status.as_str(), body.as_str()),
            ("HTTP/1.1 204 No Content", "")
        );
    }
}
