//! Long poll.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::timeout;

use crate::{account::Account, harness::Site};

fn ticks(answer: &Value) -> &Vec<Value> {
    answer["ticks"].as_array().unwrap()
}

fn cursor(answer: &Value) -> &str {
    answer["cursor"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_poll_answers_at_once_with_snapshots() {
    let site = Site::start();
    let edge = site.edge().await;
    let nothing = edge.poll("symbols=A").await;
    assert_eq!(nothing["more"], false);
    assert!(!ticks(&nothing).iter().any(|tick| tick["type"] == "trade"));
    let mut publisher = site.publisher();
    publisher.trades("B", 1..=3);
    let first = edge.poll("symbols=B&channels=trade").await;
    let kinds: Vec<_> = ticks(&first).iter().map(|tick| &tick["type"]).collect();
    assert_eq!(kinds[..3], ["ack", "start", "trade"], "{first}");
    assert_eq!(ticks(&first)[2]["snapshot"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_waits_for_something_new_and_no_longer_than_told() {
    let site = Site::start();
    let mut publisher = site.publisher();
    publisher.trades("A", 1..=3);
    let edge = site.edge().await;
    let first = edge.poll("symbols=A").await;
    let began = Instant::now();
    let query = format!("symbols=A&cursor={}&wait=1", cursor(&first));
    let second = edge.poll(&query).await;
    assert!(began.elapsed() >= Duration::from_millis(900));
    assert!(!ticks(&second).iter().any(|tick| tick["type"] == "trade"));
    let query = format!("symbols=A&cursor={}&wait=20", cursor(&second));
    let began = Instant::now();
    let (third, ()) = tokio::join!(edge.poll(&query), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        publisher.trades("A", 4..=4);
    });
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(ticks(&third).last().unwrap()["seq"], 4);
    assert_eq!(edge.metric("tickwire_edge_polls", "").await, 0);
    edge.reaches("tickwire_edge_clients", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_in_a_row_miss_nothing_even_from_edge_to_edge() {
    let site = Site::start();
    let mut publisher = site.publisher();
    publisher.trades("A", 1..=10);
    let edges = [site.edge().await, site.edge().await];
    let mut account = Account::default();
    let first = edges[0].poll("symbols=A").await;
    let mut at = cursor(&first).to_owned();
    for tick in ticks(&first) {
        account.take(tick);
    }
    let mut turn = 0;
    for begin in (11..5_011).step_by(1_000) {
        publisher.trades("A", begin..begin + 1_000);
        while account.at < begin + 999 {
            let query = format!("symbols=A&cursor={at}&wait=5");
            let answer = edges[turn % 2].poll(&query).await;
            assert!(ticks(&answer).len() <= 1_000);
            for tick in ticks(&answer) {
                account.take(tick);
            }
            at = cursor(&answer).to_owned();
            // A cut answer goes on at the same edge, as behind a balancer that keeps a connection.
            turn += usize::from(answer["more"] == false);
        }
    }
    assert_eq!((account.ticks, account.gapped), (5_000, 0));
    for edge in &edges {
        edge.reaches("tickwire_edge_parked", 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_is_given_up_leaves_nothing_behind_and_loses_nothing() {
    let site = Site::start();
    let mut publisher = site.publisher();
    publisher.trades("A", 1..=3);
    let edge = site.edge().await;
    let first = edge.poll("symbols=A").await;
    let query = format!("symbols=A&cursor={}&wait=20", cursor(&first));
    let dropped = timeout(Duration::from_millis(300), edge.poll(&query)).await;
    assert!(dropped.is_err());
    edge.reaches("tickwire_edge_polls", 0).await;
    edge.reaches("tickwire_edge_clients", 0).await;
    publisher.trades("A", 4..=6);
    let answer = edge.poll(&query).await;
    let seqs: Vec<_> = ticks(&answer)
        .iter()
        .filter_map(|tick| tick["seq"].as_u64())
        .collect();
    assert_eq!(seqs.first(), Some(&4), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflated_poll_gets_the_latest_and_how_many_it_stands_for() {
    let site = Site::start();
    let mut publisher = site.publisher();
    publisher.trades("A", 1..=3);
    let edge = site.edge().await;
    let first = edge.poll("symbols=A&mode=conflate").await;
    publisher.trades("A", 4..=50);
    // All of them have come before it asks.
    let seen = edge
        .poll(&format!("symbols=A&cursor={}", cursor(&first)))
        .await;
    let mut at = ticks(&seen).last().unwrap()["seq"].as_u64().unwrap();
    while at < 50 {
        let next = edge
            .poll(&format!("symbols=A&cursor={}", cursor(&seen)))
            .await;
        at = ticks(&next).last().unwrap()["seq"].as_u64().unwrap();
    }
    let query = format!("symbols=A&mode=conflate&cursor={}", cursor(&first));
    let answer = edge.poll(&query).await;
    let trades: Vec<_> = ticks(&answer)
        .iter()
        .filter(|tick| tick["type"] == "trade")
        .collect();
    assert_eq!(trades.len(), 1, "{answer}");
    assert_eq!(
        (&trades[0]["seq"], &trades[0]["skipped"]),
        (&50.into(), &46.into())
    );
}
