//! The engine goes away and comes back.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::SinkExt as _;
use tickwire_engine::{Engine, config::Config as EngineConfig};
use tokio::time::sleep;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{
    account::Account,
    harness::{PATIENCE, SECRET, Site, TestPublisher, engine, token_with},
    processes::{self, free_address},
};

/// An engine on the ports that another had.
fn again(config: &EngineConfig) -> Engine {
    let until = Instant::now() + PATIENCE;
    loop {
        match Engine::start_with_secret(config.clone(), SECRET) {
            Ok(engine) => return engine,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_see_stale_and_live_and_nothing_is_missing_without_a_gap() {
    let mut site = Site::start();
    let settings = EngineConfig {
        listen: site.engine.listen_addr(),
        admin: site.engine.admin_addr(),
        floors: 1,
        per_ip_rate: 0,
        per_ip_connections_max: 0,
        tape_slots: 1 << 16,
        drain_s: 0,
        ..EngineConfig::default()
    };
    let edge = site.edge().await;
    let mut publisher = site.publisher();
    publisher.trades("A", 1..=100);
    let mut account = Account::default();
    let mut events = edge.sse("symbols=A").await;
    publisher.trades("A", 101..=200);
    while account.at < 200 {
        account.take(&events.next().await.unwrap());
    }
    drop(publisher);
    let spare = engine(|_| {});
    std::mem::replace(&mut site.engine, spare).drain();
    let stale = events.next_of("feed").await;
    assert_eq!(
        (&stale["symbol"], &stale["state"]),
        (&"A".into(), &"stale".into())
    );
    // Clients are served all the same.
    let polled = edge.poll("symbols=A").await;
    let ticks = polled["ticks"].as_array().unwrap();
    assert!(ticks.iter().any(|tick| tick["seq"] == 200), "{ticks:?}");
    assert!(
        ticks.iter().any(|tick| tick["state"] == "stale"),
        "{ticks:?}"
    );
    sleep(Duration::from_secs(2)).await;

    // The same source goes on at an engine without history: what it had meanwhile is lost, and said so.
    let engine = again(&settings);
    let mut publisher = TestPublisher::of(&engine);
    publisher.trades("A", 251..=300);
    while account.at < 300 {
        let event = events.next().await.unwrap();
        account.take(&event);
    }
    assert_eq!(account.gapped, 50);
    assert_eq!(events.next_of("feed").await["state"], "live");
    publisher.trades("A", 301..=301);
    account.take(&events.next_of("trade").await);
    assert_eq!(account.at, 301);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_engine_takes_over_where_one_fails() {
    let mut site = Site::start();
    let second = engine(|_| {});
    let edge = site
        .edge_with(|config| {
            let url = format!("ws://{}/v1/ws", second.listen_addr());
            config.upstream.0.push(url);
        })
        .await;
    // Both engines have the same ticks, as behind a source that feeds both.
    let mut publishers = [site.publisher(), TestPublisher::of(&second)];
    let mut both = |seqs: std::ops::RangeInclusive<u64>| {
        for publisher in &mut publishers {
            publisher.trades("A", seqs.clone());
        }
    };
    both(1..=10);
    let mut account = Account::default();
    let mut events = edge.sse("symbols=A").await;
    both(11..=100);
    while account.at < 100 {
        account.take(&events.next().await.unwrap());
    }
    let spare = engine(|_| {});
    let first = std::mem::replace(&mut site.engine, spare);
    let gone = tokio::task::spawn_blocking(move || first.drain());
    publishers[1].trades("A", 101..=200);
    while account.at < 200 {
        account.take(&events.next().await.unwrap());
    }
    assert_eq!(account.gapped, 0);
    gone.await.unwrap();
}

/// Publishes trades of A to whatever engine listens there, a few hundred a second, until it is told to
/// end. What no engine takes is gone: the source goes on with the next seq.
async fn publish(address: SocketAddr, end: Arc<AtomicBool>) -> u64 {
    let mut seq = 0;
    while !end.load(Ordering::Relaxed) {
        let url = format!("ws://{address}/v1/publish");
        let mut request = url.into_client_request().unwrap();
        let token = token_with(|claims| claims.publish = Some(vec!["*".to_owned()]));
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        let socket = connect_async(request).await.ok();
        let mut socket = socket.map(|(socket, _)| socket);
        // Ticks are due whether anybody takes them or not.
        for _ in 0..50 {
            seq += 1;
            let tick =
                format!(r#"{{"type":"trade","symbol":"A","epoch":1,"seq":{seq},"price":"1.5"}}"#);
            let broken = match &mut socket {
                Some(socket) => socket.send(Message::Text(tick.into())).await.is_err(),
                None => false,
            };
            if broken {
                socket = None;
            }
            sleep(Duration::from_millis(3)).await;
        }
        while let Some(socket) = &mut socket
            && !end.load(Ordering::Relaxed)
        {
            seq += 1;
            let tick =
                format!(r#"{{"type":"trade","symbol":"A","epoch":1,"seq":{seq},"price":"1.5"}}"#);
            if socket.send(Message::Text(tick.into())).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(3)).await;
        }
    }
    seq
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_killed_for_ten_seconds_leaves_no_hole_that_is_no_gap() {
    let site = Site::start();
    let listen = free_address();
    let running = processes::engine(&site, listen);
    let edge = site
        .edge_with(|config| config.upstream.0 = vec![format!("ws://{listen}/v1/ws")])
        .await;
    let end = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn(publish(listen, Arc::clone(&end)));
    let mut account = Account::default();
    let mut events = edge.sse("symbols=A").await;
    while account.ticks < 500 {
        account.take(&events.next().await.unwrap());
    }
    drop(running);
    while account.take(&events.next().await.unwrap()) != Some("stale".to_owned()) {}
    sleep(Duration::from_secs(10)).await;
    let running = processes::engine(&site, listen);
    while account.take(&events.next().await.unwrap()) != Some("live".to_owned()) {}
    let until = account.ticks + 500;
    while account.ticks < until {
        account.take(&events.next().await.unwrap());
    }
    assert!(account.gapped > 0, "{account:?}");
    end.store(true, Ordering::Relaxed);
    let last = publishing.await.unwrap();
    assert_eq!(
        account.begin + account.ticks + account.gapped,
        account.at,
        "{account:?}"
    );
    assert!(account.at <= last);
    println!("{account:?} of {last}");
    drop(running);
}
