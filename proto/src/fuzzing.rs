//! What the fuzz targets in `proto/fuzz` run, and ordinary tests run over `proto/fuzz/seeds`.
//!
//! Each function takes arbitrary bytes and panics where an invariant of the protocol breaks; a
//! crash that is found becomes a seed.

use crate::{
    frame::Boundary,
    json::{Message, PublishParser},
    price::Decimal,
    reply::Reply,
    request::Request,
    tick::PublishedTick,
    upgrade::{Endpoint, Offer, Query, bearer},
};
pub use crate::{
    sbe::fuzzing::{host_entry, sbe_message},
    session::fuzzing::session_ops,
};

/// A decimal that can be read is written with the same value, and reads back the same.
pub fn decimal(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(decimal) = Decimal::parse(text) {
        assert_eq!(Decimal::parse(&decimal.to_string()), Ok(decimal));
        assert_eq!(decimal.trim().trim(), decimal.trim());
    }
}

/// A request that can be read is written to a text that reads back the same.
pub fn json_request(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for endpoint in [Endpoint::Subscribe, Endpoint::Publish] {
        if let Ok(request) = Request::from_json(text, endpoint) {
            assert_eq!(
                Request::from_json(&request.to_json(), endpoint),
                Ok(request)
            );
        }
    }
}

/// Ticks that can be read are written to a text that reads back the same, what the parser takes for
/// JSON is JSON, and a reply that can be read reads back the same.
pub fn json_tick(data: &[u8]) {
    let mut parser = PublishParser::default();
    let mut ticks = Vec::new();
    let mut count = 0;
    let message = parser.parse(data, |index, tick| {
        assert_eq!(index, count);
        count += 1;
        ticks.extend(tick.ok());
    });
    match message {
        Ok(message) => {
            assert!(serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok());
            assert!(message == Message::Request || message == Message::Ticks { count });
        }
        Err(_) => assert_eq!(count, 0),
    }
    for tick in ticks {
        let mut out = Vec::new();
        tick.write_json(&mut out);
        let mut again = None;
        let _ = parser.parse(&out, |_, tick| again = tick.ok());
        // Trailing zeros and the exponent of absent sizes are not kept, so texts are compared.
        assert_eq!(again.map(|tick| written(&tick)), Some(out));
    }
    if let Some(reply) = std::str::from_utf8(data)
        .ok()
        .and_then(|text| Reply::from_json(text).ok())
    {
        let mut out = Vec::new();
        reply.write_json(&mut out);
        let text = String::from_utf8(out).expect("JSON is UTF-8");
        assert_eq!(Reply::from_json(&text), Ok(reply));
    }
}

fn written(tick: &PublishedTick) -> Vec<u8> {
    let mut out = Vec::new();
    tick.write_json(&mut out);
    out
}

/// Lines: a query, then `Authorization`, then any number of `Sec-WebSocket-Protocol`. No error
/// repeats a bearer token.
pub fn upgrade_head(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.split('\n');
    let query = lines.next().unwrap_or_default();
    for endpoint in [Endpoint::Subscribe, Endpoint::Publish] {
        if let Ok(Query {
            subscribe: Some(subscribe),
            ..
        }) = Query::parse(query, endpoint)
        {
            assert_eq!(endpoint, Endpoint::Subscribe);
            assert!(!subscribe.channels.is_empty());
        }
    }
    if let Some(token) = lines.next().and_then(bearer) {
        assert!(!token.is_empty());
    }
    if let Ok(offer) = Offer::parse(lines) {
        assert!(
            offer
                .bearer
                .is_none_or(|token| !token.is_empty() && !token.contains(','))
        );
    }
}

/// The first byte is the length of a chunk; how the rest is cut into chunks changes no verdict.
pub fn frame_boundary(data: &[u8]) {
    let Some((chunk_bytes, stream)) = data.split_first() else {
        return;
    };
    let mut parts = Boundary::default();
    let mut verdict = parts.advance(&[]);
    let mut position = 0;
    for chunk in stream.chunks(usize::from(*chunk_bytes).max(1)) {
        verdict = parts.advance(chunk);
        position += chunk.len();
        let mut whole = Boundary::default();
        assert_eq!(whole.advance(&stream[..position]), verdict);
        assert_eq!(whole, parts);
    }
    assert_eq!(verdict, parts.advance(&[]));
}
