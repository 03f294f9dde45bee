//! Streams.

use std::time::Duration;

use crate::harness::{Events, Site, TestEdge, now_s, token_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_with_what_is_known_and_goes_on_with_what_comes() {
    let site = Site::start();
    let mut publisher = site.publisher();
    publisher.trades("A", 1..=3);
    let edge = site.edge().await;
    let mut events = edge.sse("symbols=A,B&channels=trade").await;
    let ack = events.next().await.unwrap();
    assert_eq!(ack["type"], "ack");
    assert_eq!(ack["symbols"], serde_json::json!(["A", "B"]));
    let start = events.next().await.unwrap();
    assert_eq!(
        (&start["type"], &start["trade"]),
        (&"start".into(), &3.into())
    );
    let snapshot = events.next().await.unwrap();
    assert_eq!(
        (&snapshot["seq"], &snapshot["snapshot"]),
        (&3.into(), &true.into())
    );
    publisher.trade("A", 1, 4);
    assert_eq!(events.next().await.unwrap()["seq"], 4);
    // A symbol that nobody had published begins when it is.
    publisher.trade("B", 1, 1);
    assert_eq!(events.next().await.unwrap()["type"], "start");
    assert_eq!(events.next().await.unwrap()["symbol"], "B");
    let retry_ms = events.retry_ms.unwrap();
    assert!((1_000..=2_000).contains(&retry_ms), "{retry_ms}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_broken_by_comments() {
    let site = Site::start();
    let edge = site.edge_with(|config| config.heartbeat_ms = 100).await;
    let mut events = edge.sse("symbols=A").await;
    events.next().await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(1), events.next());
    assert!(read.await.is_err());
    assert!((3..=11).contains(&events.comments), "{}", events.comments);
}

#[tokio::test(flavor = "multi_thread")]
async fn conflated_streams_say_how_many_a_tick_stands_for() {
    let site = Site::start();
    let mut publisher = site.publisher();
    let edge = site.edge().await;
    let mut events = edge.sse("symbols=A&mode=conflate&interval_ms=200").await;
    events.next().await.unwrap();
    publisher.trades("A", 1..=1);
    events.next_of("trade").await;
    publisher.trades("A", 2..=50);
    let mut told = 1;
    while told < 50 {
        let tick = events.next_of("trade").await;
        told += 1 + tick["skipped"].as_u64().unwrap_or(0);
        assert_eq!(tick["seq"], told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token() {
    let site = Site::start();
    let edge = site
        .edge_with(|config| {
            config.token_grace_s = 1;
            config.token_expiring_s = 1;
        })
        .await;
    let token = token_with(|claims| claims.exp = now_s() + 2);
    let request = edge.plain("/v1/sse?symbols=A").bearer_auth(token);
    let mut events = Events::open(request).await;
    assert_eq!(
        events.next_of("token_expiring").await["in_s"]
            .as_u64()
            .unwrap()
            / 2,
        0
    );
    assert_eq!(events.next_of("goodbye").await["reason"], "token_expired");
    assert_eq!(events.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_stream_of_a_user_takes_the_place_of_the_oldest() {
    let site = Site::start();
    let edge = site.edge().await;
    let token = token_with(|claims| claims.max_connections = Some(1));
    let open = |edge: &TestEdge| Events::open(edge.plain("/v1/sse?symbols=A").bearer_auth(&token));
    let mut first = open(&edge).await;
    let _second = open(&edge).await;
    assert_eq!(first.next_of("goodbye").await["reason"], "replaced");
    assert_eq!(first.next().await, None);
    edge.reaches("tickwire_edge_streams", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_edge_says_goodbye_with_a_cursor() {
    let site = Site::start();
    let mut publisher = site.publisher();
    publisher.trades("A", 1..=3);
    let edge = site.edge().await;
    let mut events = edge.sse("symbols=A").await;
    events.id().await;
    publisher.trades("A", 4..=5);
    events.next_of("trade").await;
    let drained = tokio::spawn(edge.edge.drain());
    let goodbye = events.next_of("goodbye").await;
    assert_eq!(goodbye["reason"], "draining");
    assert!(goodbye["reconnect_after_ms"].as_u64().unwrap() <= 2_000);
    assert_eq!(events.next().await, None);
    assert!(drained.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_streams_share_one_http2_connection() {
    let site = Site::start();
    let mut publisher = site.publisher();
    publisher.trades("A", 1..=1);
    let edge = site.edge().await;
    let http2 = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let mut streams = Vec::new();
    for _ in 0..100 {
        let request = http2
            .get(edge.url("/v1/sse?symbols=A"))
            .bearer_auth(crate::harness::token());
        streams.push(Events::open(request).await);
    }
    edge.reaches("tickwire_edge_streams", 100).await;
    assert_eq!(edge.metric("tickwire_edge_sockets", "").await, 1);
    publisher.trades("A", 2..=20);
    for events in &mut streams {
        let mut account = crate::account::Account::default();
        while account.at < 20 {
            account.take(&events.next().await.unwrap());
        }
    }
    drop(streams);
    edge.reaches("tickwire_edge_streams", 0).await;
    edge.reaches("tickwire_edge_clients", 0).await;
}
