//! Going on after a break, at the same edge and at another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    account::Account,
    harness::{Events, Site, TestEdge, TestPublisher},
};

/// Publishes trades of A at a rate until it is dropped.
struct Feed {
    stop: Arc<AtomicBool>,
    last: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Feed {
    fn start(mut publisher: TestPublisher, per_s: u64) -> Self {
        let (stop, last) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, told) = (Arc::clone(&stop), Arc::clone(&last));
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            let mut seq = 0;
            while !stopped.load(Ordering::Relaxed) {
                let due = (began.elapsed().as_secs_f64() * per_s as f64) as u64;
                publisher.trades("A", seq + 1..=due);
                seq = seq.max(due);
                told.store(seq, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
            // The source stays until the test ends.
            std::mem::forget(publisher);
        });
        Self {
            stop,
            last,
            thread: Some(thread),
        }
    }

    fn stop(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.last.load(Ordering::Relaxed)
    }
}

async fn resume(edge: &TestEdge, last_id: &str) -> Events {
    let request = edge
        .get("/v1/sse?symbols=A")
        .header("last-event-id", last_id);
    Events::open(request).await
}

/// Reads events into the account until `ticks` of them have come and an id.
async fn read(events: &mut Events, account: &mut Account, ticks: u64) -> String {
    let until = account.ticks + ticks;
    events.last_id = None;
    while account.ticks < until || events.last_id.is_none() {
        let event = events.next().await.unwrap();
        account.take(&event);
    }
    events.last_id.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_moves_between_two_edges_at_5000_ticks_a_second() {
    let site = Site::start();
    let edges = [site.edge().await, site.edge().await];
    let mut feed = Feed::start(site.publisher(), 5_000);
    let mut account = Account::default();
    let mut events = edges[0].sse("symbols=A").await;
    let mut last_id = read(&mut events, &mut account, 2_000).await;
    for turn in 1..=6 {
        drop(events);
        events = resume(&edges[turn % 2], &last_id).await;
        last_id = read(&mut events, &mut account, 2_000).await;
    }
    let last = feed.stop();
    while account.at < last {
        account.take(&events.next().await.unwrap());
    }
    assert_eq!(account.gapped, 0);
    assert!(account.ticks >= 14_000, "{account:?}");
    // From the other edge the engine has to replay, and the second time as well: the cursor is the
    // other's.
    assert!(
        edges[1]
            .metric("tickwire_edge_resumes_engine_total", "")
            .await
            >= 3
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_edge_resumes_from_its_own_history() {
    let site = Site::start();
    let edge = site.edge().await;
    let mut feed = Feed::start(site.publisher(), 2_000);
    let mut account = Account::default();
    let mut events = edge.sse("symbols=A").await;
    for _ in 0..4 {
        let last_id = read(&mut events, &mut account, 1_000).await;
        drop(events);
        events = resume(&edge, &last_id).await;
    }
    let last = feed.stop();
    while account.at < last {
        account.take(&events.next().await.unwrap());
    }
    assert_eq!(account.gapped, 0);
    assert_eq!(edge.metric("tickwire_edge_resumes_own_total", "").await, 4);
    assert_eq!(
        edge.metric("tickwire_edge_resumes_engine_total", "").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_is_started_anew_resumes_what_its_predecessor_gave() {
    let site = Site::start();
    let mut publisher = site.publisher();
    publisher.trades("A", 1..=10);
    let first = site.edge().await;
    let mut account = Account::default();
    let mut events = first.sse("symbols=A").await;
    let id = events.id().await;
    account.take(&serde_json::json!({"type": "start", "epoch": 1, "trade": 10}));
    drop(events);
    first.edge.drain().await;
    publisher.trades("A", 11..=500);
    let second = site.edge().await;
    let mut events = resume(&second, &id).await;
    while account.at < 500 {
        account.take(&events.next().await.unwrap());
    }
    assert_eq!((account.gapped, account.ticks), (0, 490));
    publisher.trades("A", 501..=501);
    account.take(&events.next_of("trade").await);
    assert_eq!(account.at, 501);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_history_has_any_more_is_a_gap() {
    let site = Site::with(|config| {
        config.tape_slots = 1 << 10;
        config.lag_soft_ticks = 500;
        config.ticks_per_turn = 500;
    });
    let edge = site.edge_with(|config| config.history_ticks = 1_024).await;
    let mut publisher = site.publisher();
    publisher.trades("A", 1..=10);
    let mut account = Account::default();
    let mut events = edge.sse("symbols=A").await;
    let id = events.id().await;
    account.take(&serde_json::json!({"type": "start", "epoch": 1, "trade": 10}));
    drop(events);
    for begin in 0..50 {
        publisher.trades("A", 11 + begin * 100..11 + (begin + 1) * 100);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut events = resume(&edge, &id).await;
    while account.at < 5_010 {
        account.take(&events.next().await.unwrap());
    }
    assert!(account.gapped > 0);
    assert_eq!(account.ticks + account.gapped, 5_000);
}
