//! The cookie for the browser's own `EventSource`, and who may use it.

use crate::harness::{Events, Site, TestEdge, now_s, refused, token, token_with};

async fn cookie(edge: &TestEdge) -> String {
    let response = edge
        .post("/v1/session")
        .bearer_auth(token())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["cache-control"], "no-store");
    response.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_becomes_a_cookie_that_opens_streams_and_polls() {
    let site = Site::start();
    let edge = site.edge().await;
    let cookie = cookie(&edge).await;
    for part in [
        "; HttpOnly",
        "; SameSite=Strict",
        "; Path=/v1",
        "; Max-Age=3",
    ] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "{cookie}");
    let pair = format!("other=1; {}", cookie.split(';').next().unwrap());
    let mut events = Events::open(edge.plain("/v1/sse?symbols=A").header("cookie", &pair)).await;
    assert_eq!(events.next().await.unwrap()["type"], "ack");
    let polled = edge.plain("/v1/poll?symbols=A").header("cookie", &pair);
    assert_eq!(polled.send().await.unwrap().status(), 200);
    // A bearer wins, even a bad one.
    let both = edge.plain("/v1/poll?symbols=A").header("cookie", &pair);
    refused(both.bearer_auth("x.y.z"), 401, "bad_token").await;
    // Sessions are made from bearers alone.
    let again = edge.post("/v1/session").header("cookie", &pair);
    refused(again, 401, "unauthorized").await;
    let expired = token_with(|claims| claims.exp = now_s() - 1);
    let expired = edge.post("/v1/session").bearer_auth(expired);
    let fields = refused(expired, 401, "bad_token").await;
    assert_eq!(fields["www-authenticate"], "Bearer error=\"invalid_token\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_is_taken_from_own_and_allowed_pages_only() {
    let site = Site::start();
    let edge = site
        .edge_with(|config| {
            config
                .allowed_origins
                .0
                .push("https://app.example".to_owned());
        })
        .await;
    let cookie = cookie(&edge).await;
    let pair = cookie.split(';').next().unwrap();
    let own = format!("http://{}", edge.edge.listen_addr());
    let poll = |origin: &str| {
        edge.plain("/v1/poll?symbols=A")
            .header("cookie", pair)
            .header("origin", origin)
    };
    for origin in [own.as_str(), "https://app.example"] {
        assert_eq!(poll(origin).send().await.unwrap().status(), 200, "{origin}");
    }
    for origin in ["https://evil.example", "null", "https://app.example.evil"] {
        refused(poll(origin), 403, "not_entitled").await;
    }
    let fetched = |site: &str| {
        edge.plain("/v1/poll?symbols=A")
            .header("cookie", pair)
            .header("sec-fetch-site", site)
    };
    assert_eq!(fetched("same-origin").send().await.unwrap().status(), 200);
    refused(fetched("cross-site"), 403, "not_entitled").await;
    // A bearer is no cookie: whoever has it may send it from anywhere.
    let bearer = edge
        .get("/v1/poll?symbols=A")
        .header("origin", "https://evil.example");
    assert_eq!(bearer.send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_may_read_answers_and_no_others() {
    let site = Site::start();
    let edge = site
        .edge_with(|config| {
            config
                .allowed_origins
                .0
                .push("https://app.example".to_owned());
        })
        .await;
    let preflight = |origin: &'static str| {
        reqwest::Client::new()
            .request(reqwest::Method::OPTIONS, edge.url("/v1/poll?symbols=A"))
            .header("origin", origin)
            .header("access-control-request-method", "GET")
            .header(
                "access-control-request-headers",
                "authorization,last-event-id",
            )
    };
    let allowed = preflight("https://app.example").send().await.unwrap();
    assert_eq!(allowed.status(), 200);
    let fields = allowed.headers();
    assert_eq!(fields["access-control-allow-origin"], "https://app.example");
    let headers = fields["access-control-allow-headers"].to_str().unwrap();
    assert!(headers.contains("authorization") && headers.contains("last-event-id"));
    let other = preflight("https://evil.example").send().await.unwrap();
    assert!(other.headers().get("access-control-allow-origin").is_none());
    // A refusal can be read as well, with when to come back.
    let poll = edge
        .plain("/v1/poll?symbols=A")
        .header("origin", "https://app.example");
    let fields = refused(poll, 401, "unauthorized").await;
    assert_eq!(fields["access-control-allow-origin"], "https://app.example");
    assert_eq!(fields["access-control-expose-headers"], "retry-after");
}
