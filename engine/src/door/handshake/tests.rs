use tickwire_proto::claims::Claims;

use super::*;
use crate::{
    config::TokenRules,
    door::auth::{TokenError, sign_hs256},
};

const NOW: u64 = 1_763_776_800;
const SECRET: &[u8] = b"a secret of more than thirty-two bytes";
const UPGRADE: &str = "Host: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn verdict(received: &[u8]) -> Verdict {
    let verifier = Verifier::from_hs256_secret(SECRET, &TokenRules::default()).unwrap();
    let rules = Rules {
        verifier: &verifier,
        head_bytes_max: 2_048,
    };
    judge(received, &rules, NOW, |_| Ok(()))
}

fn claims() -> Claims {
    Claims {
        sub: "alice".to_owned(),
        exp: NOW + 60,
        ..Claims::default()
    }
}

fn token(claims: &Claims) -> String {
    sign_hs256(SECRET, claims)
}

fn bearer(claims: &Claims) -> String {
    format!("Authorization: Bearer {}\r\n", token(claims))
}

fn upgrade(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{UPGRADE}{fields}\r\n")
}

fn refusal(request: &str) -> Refusal {
    match verdict(request.as_bytes()) {
        Verdict::Refuse(refusal) => refusal,
        other => panic!("{other:?} for {request}"),
    }
}

fn admission(request: &str) -> Admission {
    match verdict(request.as_bytes()) {
        Verdict::Admit(admission) => *admission,
        other => panic!("{other:?} for {request}"),
    }
}

fn status(request: &str) -> u16 {
    refusal(request).status().0
}

#[test]
fn a_native_client_is_admitted_with_its_query() {
    let request = upgrade(
        "/v1/ws?symbols=AAPL,BTC-*&max_delay_ms=20",
        &bearer(&claims()),
    );
    let admission = admission(&request);
    assert_eq!(admission.head_bytes, request.len());
    assert_eq!(admission.endpoint, Endpoint::Subscribe);
    assert_eq!(admission.subprotocol, Subprotocol::Json);
    assert_eq!(admission.grant.sub, "alice");
    assert_eq!(admission.subscribe.unwrap().selection.selectors.len(), 2);
    assert_eq!(admission.max_delay_ms, 20);
    let response = String::from_utf8(admission.response)
        .unwrap()
        .to_lowercase();
    assert!(response.starts_with("http/1.1 101 switching protocols\r\n"));
    // RFC 6455 § 1.3 has this key and its answer.
    assert!(
        response.contains(&"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_lowercase())
    );
    assert!(response.ends_with("\r\n\r\n"));
    for absent in ["sec-websocket-protocol", "sec-websocket-extensions"] {
        assert!(!response.contains(absent), "{response}");
    }
}

#[test]
fn a_browser_is_admitted_and_its_token_is_not_echoed() {
    let token = token(&claims());
    let fields = format!(
        "Sec-WebSocket-Protocol: tickwire.v1.sbe, tickwire.bearer.{token}\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n"
    );
    let admission = admission(&upgrade("/v1/ws", &fields));
    assert_eq!(admission.subprotocol, Subprotocol::Sbe);
    let response = String::from_utf8(admission.response).unwrap();
    assert!(
        response.contains("sec-websocket-protocol: tickwire.v1.sbe\r\n"),
        "{response}"
    );
    assert!(!response.contains(&token) && !response.contains("deflate"));
}

#[test]
fn authorization_wins_over_the_subprotocol() {
    let other = token(&Claims {
        sub: "bob".to_owned(),
        ..claims()
    });
    let offer = format!("Sec-WebSocket-Protocol: tickwire.v1.json, tickwire.bearer.{other}\r\n");
    let both = upgrade("/v1/ws", &(offer.clone() + &bearer(&claims())));
    assert_eq!(admission(&both).grant.sub, "alice");
    let basic = upgrade("/v1/ws", &(offer + "Authorization: Basic eDp5\r\n"));
    assert_eq!(admission(&basic).grant.sub, "bob");
}

#[test]
fn what_comes_behind_the_head_is_left_alone() {
    let head = upgrade("/v1/ws", &bearer(&claims()));
    assert_eq!(
        admission(&(head.clone() + "\u{1}\u{2}frames")).head_bytes,
        head.len()
    );
}

#[test]
fn an_incomplete_head_needs_more_at_every_byte() {
    let request = upgrade("/v1/ws", &bearer(&claims()));
    for bytes in 0..request.len() {
        assert!(
            matches!(verdict(&request.as_bytes()[..bytes]), Verdict::NeedMore),
            "{bytes}"
        );
    }
}

#[test]
fn a_head_that_is_too_large_or_has_too_many_fields_is_431() {
    let long = format!("X: {}\r\n", "a".repeat(2_048));
    assert_eq!(status(&upgrade("/v1/ws", &long)), 431);
    assert_eq!(status(&format!("GET /{} ", "a".repeat(2_048))), 431);
    assert_eq!(status(&upgrade("/v1/ws", &"X: y\r\n".repeat(60))), 431);
}

#[test]
fn what_is_not_http_1_1_is_400() {
    for garbage in [
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}",
        "GET\r\n\r\n",
        "GET /v1/ws HTTP/1.0\r\nHost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /v1/ws HTTP/1.1\r\nHost x\r\n\r\n",
        "GET /v1/ws HTTP/1.1\r\n\r\n",
        "GET /v1/ws HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /v1/ws HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "GET /v1/ws HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(status(garbage), 400, "{garbage:?}");
    }
}

#[test]
fn path_then_method_then_upgrade_are_judged_without_a_token() {
    assert_eq!(status("POST /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"), 404);
    assert_eq!(status("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"), 404);
    assert_eq!(status("POST /v1/ws HTTP/1.1\r\nHost: x\r\n\r\n"), 405);
    assert_eq!(status("GET /v1/ws HTTP/1.1\r\nHost: x\r\n\r\n"), 426);
    let old = upgrade("/v1/ws", "").replace("Version: 13", "Version: 8");
    assert_eq!(status(&old), 426);
    for key in ["", "dGhlIHNhbXBsZQ==", "!!!!!!!!!!!!!!!!!!!!!!!!"] {
        assert_eq!(
            status(&upgrade("/v1/ws", "").replace("dGhlIHNhbXBsZSBub25jZQ==", key)),
            400
        );
    }
}

#[test]
fn the_query_is_judged_before_the_token_and_secrets_in_it_are_refused_by_name() {
    assert_eq!(status(&upgrade("/v1/ws?what=1", "")), 400);
    let Refusal::BadRequest { message, .. } = refusal(&upgrade("/v1/ws?access_token=abc", ""))
    else {
        panic!("it should be a 400")
    };
    assert!(
        message.contains("access_token") && !message.contains("abc"),
        "{message}"
    );
    assert_eq!(
        refusal(&upgrade("/v1/ws?symbols=A&cursor=%21", "")).code(),
        "bad_cursor"
    );
}

#[test]
fn an_offer_without_a_known_subprotocol_is_400() {
    let fields = bearer(&claims()) + "Sec-WebSocket-Protocol: soap\r\n";
    assert_eq!(status(&upgrade("/v1/ws", &fields)), 400);
}

#[test]
fn a_missing_token_and_a_bad_one_are_told_apart() {
    assert_eq!(refusal(&upgrade("/v1/ws", "")), Refusal::NoToken);
    let expired = Claims {
        exp: NOW,
        ..claims()
    };
    assert_eq!(
        refusal(&upgrade("/v1/ws", &bearer(&expired))),
        Refusal::BadToken(TokenError::Expired)
    );
    assert_eq!(
        refusal(&upgrade("/v1/ws", "Authorization: Bearer x\r\n")),
        Refusal::BadToken(TokenError::Malformed)
    );
    let twice = bearer(&claims()) + &bearer(&claims());
    assert_eq!(status(&upgrade("/v1/ws", &twice)), 400);
}

#[test]
fn a_query_of_which_the_token_allows_nothing_is_403() {
    let fields = bearer(&Claims {
        symbols: Some(vec!["BTC-*".to_owned()]),
        ..claims()
    });
    assert_eq!(status(&upgrade("/v1/ws?symbols=AAPL,MSFT", &fields)), 403);
    for target in ["/v1/ws", "/v1/ws?symbols=AAPL,BTC-USDT", "/v1/ws?symbols=*"] {
        admission(&upgrade(target, &fields));
    }
}

#[test]
fn publishing_needs_the_claim() {
    assert_eq!(status(&upgrade("/v1/publish", &bearer(&claims()))), 403);
    let publisher = Claims {
        publish: Some(vec!["*".to_owned()]),
        ..claims()
    };
    assert_eq!(
        admission(&upgrade("/v1/publish", &bearer(&publisher))).endpoint,
        Endpoint::Publish
    );
}

#[test]
fn a_user_of_no_connections_has_none() {
    let none = Claims {
        max_connections: Some(0),
        ..claims()
    };
    assert_eq!(status(&upgrade("/v1/ws", &bearer(&none))), 403);
}
