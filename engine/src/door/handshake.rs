//! The handshake without sockets: bytes of a request head in, a verdict out (RFC 6455 § 4.2).

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use tickwire_proto::{
    claims::{Allowed, Grant},
    request::Subscribe,
    upgrade::{self, Endpoint, Offer, Query, Subprotocol, UpgradeError},
};
use tungstenite::{
    Error,
    error::ProtocolError,
    handshake::server::{create_response, write_response},
};

use super::{
    admit::{self, Question},
    answer::Refusal,
    auth::Verifier,
};

/// Most header fields of a request.
const FIELDS_MAX: usize = 64;

/// What a verdict depends on beside the bytes.
pub struct Rules<'a> {
    /// Who knows the tokens.
    pub verifier: &'a Verifier,
    /// Largest head, bytes.
    pub head_bytes_max: usize,
}

/// What is to be done with a connection.
#[derive(Debug)]
pub enum Verdict {
    /// The head is not complete.
    NeedMore,
    /// Answer, and close.
    Refuse(Refusal),
    /// Answer with `response`, and hand it over.
    Admit(Box<Admission>),
    /// No upgrade: somebody asks what one would be told.
    Tell(Question),
}

/// What the head of an upgrade that is let in says.
#[derive(Debug)]
pub struct Admission {
    /// The whole `101 Switching Protocols`.
    pub response: Vec<u8>,
    /// Length of the head: what lies behind are the client's first frames.
    pub head_bytes: usize,
    /// What the client came for.
    pub endpoint: Endpoint,
    /// The pick of its offer.
    pub subprotocol: Subprotocol,
    /// What its token allows.
    pub grant: Grant,
    /// The subscription in the query.
    pub subscribe: Option<Subscribe>,
    /// The latency budget in the query, else 0.
    pub max_delay_ms: u32,
}

/// Judges what has arrived of a request, at `now_s` (seconds since 1970 UTC).
///
/// The first failure decides, in this order: size, syntax, path, method, upgrade, query, offer,
/// token, entitlement. So a scanner costs no signature, and an anonymous peer learns nothing but
/// what the published protocol says.
///
/// `pass` is shown a request whose syntax is sound, and has a say before all the rest.
pub fn judge(
    received: &[u8],
    rules: &Rules,
    now_s: u64,
    pass: impl FnOnce(&Request<()>) -> Result<(), Refusal>,
) -> Verdict {
    let (head_bytes, request) = match parse(received, rules.head_bytes_max) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return Verdict::NeedMore,
        Err(refusal) => return Verdict::Refuse(refusal),
    };
    let passed = pass(&request);
    if request.uri().path() == admit::PATH {
        return question(&request, passed, rules, now_s);
    }
    match passed.and_then(|()| admit(head_bytes, &request, rules, now_s)) {
        Ok(admission) => Verdict::Admit(Box::new(admission)),
        Err(refusal) => Verdict::Refuse(refusal),
    }
}

fn admit(
    head_bytes: usize,
    request: &Request<()>,
    rules: &Rules,
    now_s: u64,
) -> Result<Admission, Refusal> {
    let endpoint = Endpoint::from_path(request.uri().path()).ok_or(Refusal::NotFound)?;
    let mut response = create_response(request).map_err(|error| not_an_upgrade(&error))?;
    let query = Query::parse(request.uri().query().unwrap_or_default(), endpoint)?;
    let offer = Offer::parse(texts(request, &header::SEC_WEBSOCKET_PROTOCOL)?)?;
    let token = authorization(request)?.or(offer.bearer.as_deref());
    let grant = granted(token, endpoint, &query, rules, now_s)?;
    if offer.named {
        let pick = HeaderValue::from_static(offer.subprotocol.as_str());
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, pick);
    }
    let mut bytes = Vec::with_capacity(192);
    write_response(&mut bytes, &response)
        .expect("its fields are plain text and a Vec takes all bytes");
    Ok(Admission {
        response: bytes,
        head_bytes,
        endpoint,
        subprotocol: offer.subprotocol,
        grant,
        subscribe: query.subscribe,
        max_delay_ms: query.max_delay_ms.unwrap_or(0),
    })
}

/// What `/v1/admit` is asked: as an upgrade of `/v1/ws` with its query and its `Authorization`.
fn question(
    request: &Request<()>,
    passed: Result<(), Refusal>,
    rules: &Rules,
    now_s: u64,
) -> Verdict {
    let endpoint = Endpoint::Subscribe;
    let own = || {
        let query = Query::parse(request.uri().query().unwrap_or_default(), endpoint)?;
        granted(authorization(request)?, endpoint, &query, rules, now_s).map(drop)
    };
    match *request.method() {
        Method::OPTIONS => Verdict::Tell(Question::Preflight),
        Method::GET => Verdict::Tell(Question::Verdict(passed.and_then(|()| own()))),
        _ => Verdict::Refuse(Refusal::MethodNotAllowed),
    }
}

/// What a token allows, if it is good for anything here.
fn granted(
    token: Option<&str>,
    endpoint: Endpoint,
    query: &Query,
    rules: &Rules,
    now_s: u64,
) -> Result<Grant, Refusal> {
    let token = token.ok_or(Refusal::NoToken)?;
    let verified = rules.verifier.verify(token, now_s);
    let grant = verified.map_err(Refusal::BadToken)?;
    if entitled(&grant, endpoint, query.subscribe.as_ref()) {
        Ok(grant)
    } else {
        Err(Refusal::NotEntitled)
    }
}

/// The request and the length of its head; `None` while it is incomplete.
fn parse(received: &[u8], head_bytes_max: usize) -> Result<Option<(usize, Request<()>)>, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let head_bytes = match head.parse(received) {
        Ok(httparse::Status::Complete(bytes)) if bytes <= head_bytes_max => bytes,
        Ok(httparse::Status::Partial) if received.len() < head_bytes_max => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
        Err(_) => return Err(Refusal::bad_request("not an HTTP/1.1 request")),
    };
    let request = to_request(&head)?;
    check_framing(request.headers())?;
    Ok(Some((head_bytes, request)))
}

fn to_request(head: &httparse::Request) -> Result<Request<()>, Refusal> {
    let malformed = || Refusal::bad_request("not an HTTP/1.1 request");
    if head.version != Some(1) {
        return Err(Refusal::bad_request("HTTP/1.1 is needed"));
    }
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_11;
    *request.method_mut() = head
        .method
        .and_then(|method| Method::from_bytes(method.as_bytes()).ok())
        .ok_or_else(malformed)?;
    *request.uri_mut() = head
        .path
        .and_then(|target| target.parse::<Uri>().ok())
        .ok_or_else(|| Refusal::bad_request("the request target is no URL"))?;
    let fields = request.headers_mut();
    fields.reserve(head.headers.len());
    for field in &*head.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| malformed())?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| malformed())?;
        fields.append(name, value);
    }
    Ok(request)
}

/// RFC 9112 § 3.2 asks to refuse a request without exactly one `Host`. A body would be read as
/// WebSocket frames, so there must be none.
fn check_framing(fields: &HeaderMap) -> Result<(), Refusal> {
    if fields.get_all(header::HOST).iter().count() != 1 {
        return Err(Refusal::bad_request("exactly one Host is needed"));
    }
    let empty = |length: &HeaderValue| length.as_bytes() == b"0";
    let body = fields.contains_key(header::TRANSFER_ENCODING)
        || !fields.get_all(header::CONTENT_LENGTH).iter().all(empty);
    if body {
        Err(Refusal::bad_request("an upgrade has no body"))
    } else {
        Ok(())
    }
}

fn not_an_upgrade(error: &Error) -> Refusal {
    match error {
        Error::Protocol(ProtocolError::WrongHttpMethod) => Refusal::MethodNotAllowed,
        Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => Refusal::UpgradeRequired,
        _ => Refusal::bad_request("Sec-WebSocket-Key must be 16 bytes in base64"),
    }
}

/// The bearer token of `Authorization`; other schemes are none of our business.
fn authorization(request: &Request<()>) -> Result<Option<&str>, Refusal> {
    match texts(request, &header::AUTHORIZATION)?.as_slice() {
        [] => Ok(None),
        [value] => Ok(upgrade::bearer(value)),
        _ => Err(Refusal::bad_request("Authorization is given twice")),
    }
}

fn texts<'a>(request: &'a Request<()>, name: &HeaderName) -> Result<Vec<&'a str>, Refusal> {
    request
        .headers()
        .get_all(name)
        .iter()
        .map(|value| {
            value
                .to_str()
                .map_err(|_| Refusal::bad_request(format!("{name} is no plain ASCII")))
        })
        .collect()
}

/// Whether there is anything here for the token. What it allows only in part is narrowed later.
fn entitled(grant: &Grant, endpoint: Endpoint, subscribe: Option<&Subscribe>) -> bool {
    if grant.max_connections == Some(0) {
        return false;
    }
    match endpoint {
        Endpoint::Publish => grant.publish.is_some(),
        Endpoint::Subscribe => subscribe.is_none_or(|subscribe| {
            let selectors = &subscribe.selection.selectors;
            // Where no entry could be read the ack says so, as it would for a request.
            selectors.is_empty()
                || selectors
                    .iter()
                    .any(|selector| grant.symbols.intersect(selector) != Allowed::Nothing)
        }),
    }
}

impl From<UpgradeError> for Refusal {
    fn from(error: UpgradeError) -> Self {
        Self::BadRequest {
            code: error.code,
            message: error.message,
        }
    }
}

#[cfg(test)]
mod tests;
