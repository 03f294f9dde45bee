//! One of two processes is restarted while a publisher feeds both.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::Message;

use crate::{
    harness::{Client, PATIENCE, numbered, raise_open_files, trade},
    process::Serve,
    ticks::is_tick,
};

const SUBSCRIBERS: usize = 2_000;
const EPOCH: u64 = 7;
/// Between two ticks of a symbol.
const PAUSE: Duration = Duration::from_millis(100);
/// What `Serve` gives a drain.
const DRAIN: Duration = Duration::from_secs(5);
/// The publisher goes on for longer than that.
const FED_ON: Duration = Duration::from_secs(7);

fn serve() -> Serve {
    Serve::with(&["--set=per_ip_connections_max=0"])
}

/// Publishes ticks of `OWN`, which its source numbers, and of `COUNTED`, which the engine does, to
/// whatever process takes them, until told to stop. Returns the last seq.
fn feed(mut processes: Vec<Client>, stop: Arc<AtomicBool>) -> JoinHandle<u64> {
    thread::spawn(move || {
        let mut seq = 0;
        while !stop.load(Ordering::Relaxed) {
            seq += 1;
            let ticks = json!([numbered("OWN", EPOCH, seq), trade("COUNTED", "1")]).to_string();
            // One of them ends on the way.
            processes.retain_mut(|process| process.socket.send(Message::text(&ticks)).is_ok());
            thread::sleep(PAUSE);
        }
        assert_eq!(processes.len(), 1);
        for process in &mut processes {
            process.flush();
        }
        seq
    })
}

/// What a subscriber has, in order, none missing and none twice.
#[derive(Default)]
struct Account {
    own: u64,
    /// Epoch and seq.
    counted: Option<(u64, u64)>,
    /// The epoch of `COUNTED` that was declared over.
    over: Option<u64>,
    reconnect_after_ms: Option<u64>,
}

impl Account {
    fn take(&mut self, message: &Value) {
        let number = |name: &str| message[name].as_u64().expect("a number");
        if message["type"] == "gap" {
            assert_eq!(message["symbol"], "COUNTED", "{message}");
            assert_eq!(message["to"], Value::Null, "{message}");
            assert_eq!(self.over.replace(number("epoch")), None, "{message}");
        }
        if message["type"] == "goodbye" {
            self.reconnect_after_ms = Some(number("reconnect_after_ms"));
        }
        if !is_tick(message) {
            return;
        }
        let (epoch, seq) = (number("epoch"), number("seq"));
        if message["symbol"] == "OWN" {
            assert_eq!((epoch, seq), (EPOCH, self.own + 1), "{message}");
            self.own = seq;
            return;
        }
        let last = self.counted.replace((epoch, seq));
        match last {
            Some((before, last)) if before == epoch => assert_eq!(seq, last + 1, "{message}"),
            // What the other process numbers begins anew, and that was said.
            Some((before, _)) => assert_eq!(self.over, Some(before), "{message}"),
            None => assert_eq!(seq, 1, "{message}"),
        }
    }

    fn since(&self) -> Value {
        let (epoch, seq) = self.counted.expect("ticks came before the restart");
        json!({
            "OWN": {"epoch": EPOCH, "trade": self.own},
            "COUNTED": {"epoch": epoch, "trade": seq},
        })
    }
}

#[test]
fn two_thousand_go_from_one_process_to_the_next_without_a_tick_missing_or_twice() {
    raise_open_files();
    let (first, second) = (serve(), serve());
    let publishers = [&first, &second].map(|serve| serve.connect("/v1/publish", None));
    let symbols = json!(["OWN", "COUNTED"]);
    let subscribers: Vec<Client> = (0..SUBSCRIBERS)
        .map(|_| {
            let mut subscriber = first.connect("/v1/ws", None);
            subscriber.subscribe(json!({"symbols": symbols}));
            subscriber
        })
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let feeding = feed(publishers.into(), Arc::clone(&stop));
    thread::sleep(10 * PAUSE);
    first.process.signal(Signal::TERM);
    let stopping = thread::spawn(move || {
        thread::sleep(FED_ON);
        stop.store(true, Ordering::Relaxed);
    });

    let mut resumed = Vec::new();
    for mut subscriber in subscribers {
        let mut account = Account::default();
        let (code, told) = subscriber.read_to_close();
        for message in &told {
            account.take(message);
        }
        assert_eq!(code, 1001);
        let mut again = second.connect("/v1/ws", None);
        again.subscribe(json!({"symbols": symbols, "since": account.since()}));
        resumed.push((again, account));
    }
    stopping.join().expect("it only waits");
    let last = feeding.join().expect("the second process takes all");
    let mut waits_ms = Vec::new();
    let until = Instant::now() + 3 * PATIENCE;
    for (mut client, mut account) in resumed {
        while account.own < last || account.counted.is_none_or(|(_, seq)| seq < last) {
            assert!(Instant::now() < until, "{last} does not come");
            account.take(&client.next());
        }
        assert!(
            account.over.is_some(),
            "the engine's own numbers began anew"
        );
        waits_ms.extend(account.reconnect_after_ms);
    }
    assert_eq!(waits_ms.len(), SUBSCRIBERS);
    let (soonest, latest) = (waits_ms.iter().min(), waits_ms.iter().max());
    let spread = Duration::from_millis(latest.unwrap() - soonest.unwrap());
    assert!(spread > DRAIN / 2 && spread <= DRAIN, "{spread:?}");
    first.process.wait().ok();
}
