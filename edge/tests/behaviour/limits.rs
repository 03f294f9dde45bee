//! Every bound, and every bad request.

use std::{io::Write as _, net::TcpStream, time::Duration};

use crate::harness::{Events, Site, refused, token, token_with};

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_what_is_wrong() {
    let site = Site::start();
    let edge = site.edge().await;
    for (path, status, code) in [
        ("/v1/sse", 400, "bad_request"),
        ("/v1/sse?symbols=", 400, "bad_request"),
        ("/v1/sse?symbols=A&mode=fast", 400, "bad_request"),
        ("/v1/sse?symbols=A&wait=3", 400, "unknown_field"),
        ("/v1/sse?symbols=A&max_delay_ms=3", 400, "unknown_field"),
        ("/v1/sse?symbols=A&cursor=nonsense", 400, "bad_cursor"),
        ("/v1/poll?symbols=A&wait=61", 400, "bad_request"),
        ("/v1/poll?symbols=A&token=x", 400, "bad_request"),
        ("/v1/nothing", 404, "not_found"),
        ("/nothing.js", 404, "not_found"),
    ] {
        refused(edge.get(path), status, code).await;
    }
    let bad_id = edge
        .get("/v1/sse?symbols=A")
        .header("last-event-id", "nonsense");
    refused(bad_id, 400, "bad_cursor").await;
    let fields = refused(edge.plain("/v1/sse?symbols=A"), 401, "unauthorized").await;
    assert_eq!(fields["www-authenticate"], "Bearer");
    let narrow = token_with(|claims| claims.symbols = Some(vec!["B*".to_owned()]));
    let foreign = edge.plain("/v1/sse?symbols=A").bearer_auth(narrow);
    refused(foreign, 403, "not_entitled").await;
    refused(edge.post("/v1/sse?symbols=A"), 405, "method_not_allowed").await;
    // What cannot be read of a list costs the others nothing.
    let mut events = edge.sse("symbols=A,%20,B").await;
    let ack = events.next().await.unwrap();
    assert_eq!(ack["symbols"], serde_json::json!(["A", "B"]));
    assert_eq!(ack["rejected"][0]["code"], "bad_symbol");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_beyond_the_bound_is_taken_as_far_as_it_goes() {
    let site = Site::start();
    let edge = site.edge_with(|config| config.symbols_per_client = 3).await;
    // A token may name another bound, as this one does not.
    let token = token_with(|claims| claims.max_symbols = None);
    let request = edge.plain("/v1/sse?symbols=A,B,C,D").bearer_auth(token);
    let mut events = Events::open(request).await;
    let ack = events.next().await.unwrap();
    assert_eq!(ack["symbols"].as_array().unwrap().len(), 3);
    assert_eq!(ack["rejected"][0]["code"], "too_many_symbols");
    // The head of a request has a bound of its own.
    let long = format!("/v1/sse?symbols={}", "A".repeat(40_000));
    let answered = edge.get(&long).send().await;
    let status = answered.map(|response| response.status().as_u16());
    assert!(matches!(status, Ok(400 | 414 | 431) | Err(_)), "{status:?}");
    let mut still = edge.sse("symbols=A").await;
    assert_eq!(still.next().await.unwrap()["type"], "ack");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ip_over_its_allowance_is_told_when_to_come_back() {
    let site = Site::start();
    let edge = site
        .edge_with(|config| {
            config.per_ip_rate = 1;
            config.per_ip_burst = 2;
        })
        .await;
    // Asking spends nothing of it; questions have one of their own. They may name no symbols.
    let bare = edge
        .get("/v1/admit")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(bare, r#"{"admitted":true}"#);
    let admit = || edge.get("/v1/admit?symbols=A");
    {
        let answer = admit().send().await.unwrap().text().await.unwrap();
        assert_eq!(answer, r#"{"admitted":true}"#);
    }
    for _ in 0..2 {
        edge.poll("symbols=A").await;
    }
    let fields = refused(edge.get("/v1/sse?symbols=A"), 429, "rate_limited").await;
    let wait_s: u64 = fields["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=6).contains(&wait_s));
    let answer = admit().send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let answer: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(
        (&answer["admitted"], &answer["status"]),
        (&false.into(), &429.into())
    );
    assert!(answer["retry_after_ms"].as_u64().unwrap() >= 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_see_through_a_trusted_proxy_and_through_no_other() {
    let site = Site::start();
    let change = |config: &mut tickwire_edge::config::Config| {
        config.per_ip_rate = 1;
        config.per_ip_burst = 1;
    };
    let from = |edge: &crate::harness::TestEdge, client: &str| {
        edge.get("/v1/poll?symbols=A")
            .header("x-forwarded-for", client.to_owned())
    };
    let direct = site.edge_with(change).await;
    assert_eq!(
        from(&direct, "192.0.2.1").send().await.unwrap().status(),
        200
    );
    refused(from(&direct, "192.0.2.2"), 429, "rate_limited").await;
    let behind = site
        .edge_with(|config| {
            change(config);
            config.trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
        })
        .await;
    for client in ["192.0.2.1", "192.0.2.2"] {
        assert_eq!(from(&behind, client).send().await.unwrap().status(), 200);
    }
    refused(from(&behind, "192.0.2.2"), 429, "rate_limited").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_polls_have_places_and_give_them_back() {
    let site = Site::start();
    let edge = site
        .edge_with(|config| {
            config.streams_max = 2;
            config.polls_max = 1;
            config.per_ip_connections_max = 2;
        })
        .await;
    let first = edge.sse("symbols=A").await;
    let _second = edge.sse("symbols=A").await;
    let fields = refused(edge.get("/v1/sse?symbols=A"), 429, "rate_limited").await;
    assert!(fields.contains_key("retry-after"));
    drop(first);
    edge.reaches("tickwire_edge_streams", 1).await;
    let _third = edge.sse("symbols=A").await;
    let cursor = edge.poll("symbols=A").await["cursor"]
        .as_str()
        .unwrap()
        .to_owned();
    let query = format!("symbols=A&cursor={cursor}&wait=20");
    let waiting = edge.get(&format!("/v1/poll?{query}"));
    let waiting = tokio::spawn(waiting.send());
    edge.reaches("tickwire_edge_polls", 1).await;
    refused(edge.get("/v1/poll?symbols=A"), 503, "at_capacity").await;
    waiting.abort();
    edge.reaches("tickwire_edge_polls", 0).await;
    edge.poll("symbols=A").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_have_places_too_and_a_slow_head_loses_its_own() {
    let site = Site::start();
    let edge = site
        .edge_with(|config| {
            config.sockets_max = 3;
            config.head_timeout_ms = 500;
        })
        .await;
    let mut silent: Vec<TcpStream> = (0..3)
        .map(|_| TcpStream::connect(edge.edge.listen_addr()).unwrap())
        .collect();
    silent[0].write_all(b"GET /v1/sse HTTP/1.1\r\n").unwrap();
    edge.reaches("tickwire_edge_sockets", 3).await;
    assert!(edge.get("/v1/poll?symbols=A").send().await.is_err());
    edge.reaches("tickwire_edge_sockets", 0).await;
    edge.poll("symbols=A").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_costs_itself_only() {
    let site = Site::start();
    let edge = site
        .edge_with(|config| {
            config.lag_soft_ticks = 10_000;
            config.stall_s = 2;
            config.notsent_lowat_bytes = 16 * 1024;
        })
        .await;
    let mut reader = edge.sse("symbols=A").await;
    reader.next().await.unwrap();
    let mut slow = TcpStream::connect(edge.edge.listen_addr()).unwrap();
    slow.write_all(stream_of_a().as_bytes()).unwrap();
    edge.reaches("tickwire_edge_streams", 2).await;
    let mut publisher = site.publisher();
    let publishing = std::thread::spawn(move || {
        for begin in 0..1_000 {
            publisher.trades("A", begin * 50 + 1..=(begin + 1) * 50);
            std::thread::sleep(Duration::from_millis(5));
        }
        publisher
    });
    let mut account = crate::account::Account::default();
    while account.at < 50_000 {
        account.take(&reader.next().await.unwrap());
    }
    assert_eq!(account.gapped, 0);
    let publisher = publishing.join().unwrap();
    edge.reaches("tickwire_edge_streams", 1).await;
    assert_eq!(
        edge.metric("tickwire_edge_ended_total", "slow_consumer")
            .await,
        1
    );
    assert!(edge.metric("tickwire_edge_dropped_ticks_total", "").await > 0);
    drop(publisher);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_edge_refuses_newcomers_and_says_so() {
    let site = Site::start();
    let edge = site.edge().await;
    // Somebody who takes its time.
    let mut held = TcpStream::connect(edge.edge.listen_addr()).unwrap();
    held.write_all(stream_of_a().as_bytes()).unwrap();
    edge.reaches("tickwire_edge_streams", 1).await;
    let mut publisher = site.publisher();
    for begin in 0..60 {
        publisher.trades("A", begin * 1_000 + 1..=(begin + 1) * 1_000);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (poll, admin) = (edge.get("/v1/poll?symbols=A"), edge.edge.admin_addr());
    let draining = tokio::spawn(edge.edge.drain());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let fields = refused(poll, 503, "draining").await;
    assert!(fields.contains_key("retry-after"));
    let ready = reqwest::get(format!("http://{admin}/readyz"))
        .await
        .unwrap();
    assert_eq!(ready.status(), 503);
    drop(held);
    assert!(draining.await.unwrap());
}

/// A request by hand, for clients of whose answer nothing is read.
fn stream_of_a() -> String {
    format!(
        "GET /v1/sse?symbols=A HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        token()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_without_an_engine_does_not_listen() {
    let site = Site::start();
    let mut config = site.settings();
    config.upstream.0 = vec!["ws://127.0.0.1:9/v1/ws".to_owned()];
    let started = tokio::time::timeout(
        Duration::from_millis(500),
        tickwire_edge::Edge::start(config),
    );
    assert!(started.await.is_err());
    let mut events = Events::open(site.edge().await.get("/v1/sse?symbols=A")).await;
    assert_eq!(events.next().await.unwrap()["type"], "ack");
}
