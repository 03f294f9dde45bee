//! A process takes over from another on the same address.

use std::{
    net::TcpListener,
    os::fd::AsRawFd as _,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::Signal,
};
use serde_json::{Value, json};

use crate::{
    harness::{Client, eventually, http_raw, trade},
    process::{self, Serve},
    resume::run,
    ticks::is_tick,
};

const EPOCH: u64 = 7;
const SUBSCRIBERS: usize = 20;

/// The last message of a kind.
fn last<'a>(messages: &'a [Value], kind: &str) -> &'a Value {
    let found = messages.iter().rfind(|message| message["type"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {messages:?}"))
}

/// The seqs of the ticks among `messages`, which hold no gap.
fn seqs(messages: &[Value]) -> Vec<u64> {
    assert!(
        messages.iter().all(|message| message["type"] != "gap"),
        "{messages:?}"
    );
    let ticks = messages.iter().filter(|message| is_tick(message));
    ticks
        .map(|tick| tick["seq"].as_u64().expect("a number"))
        .collect()
}

/// Clients that come all the while, until told to stop; how many came, none of them refused.
fn newcomers(serve: &Serve, stop: &Arc<AtomicBool>) -> thread::JoinHandle<usize> {
    let (listen, token, stop) = (serve.listen, serve.token.clone(), Arc::clone(stop));
    thread::spawn(move || {
        let mut came = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut client = Client::open(listen, "/v1/ws", &token, None).expect("let in");
            assert_eq!(client.next()["type"], "welcome");
            came += 1;
        }
        came
    })
}

#[test]
fn the_next_process_takes_over_refusing_nobody_and_losing_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("takeover").display().to_string();
    let takeover = format!("--set=takeover_socket={path}");
    let first = Serve::with(&[&takeover]);
    let mut publisher = first.connect("/v1/publish", None);
    let mut subscribers: Vec<Client> = (0..SUBSCRIBERS)
        .map(|_| {
            let mut subscriber = first.connect("/v1/ws", None);
            subscriber.subscribe(json!({"symbols": ["OWN", "COUNTED"]}));
            subscriber
        })
        .collect();
    publisher.publish(&run("OWN", EPOCH, 1..=500));
    publisher.publish(&json!([trade("COUNTED", "1")]));

    let stop = Arc::new(AtomicBool::new(false));
    let came = newcomers(&first, &stop);
    let second = Serve::with(&[&takeover]);
    assert_eq!((second.listen, second.admin), (first.listen, first.admin));

    let (code, told) = publisher.read_to_close();
    assert_eq!(code, 1001, "{told:?}");
    let mut publisher = second.connect("/v1/publish", None);
    publisher.publish(&run("OWN", EPOCH, 501..=1_000));
    publisher.publish(&json!([trade("COUNTED", "2")]));
    for subscriber in &mut subscribers {
        let (code, told) = subscriber.read_to_close();
        assert_eq!(code, 1001, "{told:?}");
        let own = |message: &&Value| message["symbol"] == "OWN";
        let before: Vec<Value> = told.iter().filter(own).cloned().collect();
        assert_eq!(seqs(&before), (1..=500).collect::<Vec<_>>());

        let cursor = &last(&told, "cursor")["cursor"];
        let mut again = second.connect("/v1/ws", None);
        let counted = told
            .iter()
            .find(|tick| tick["symbol"] == "COUNTED" && is_tick(tick));
        let epoch = &counted.expect("it came")["epoch"];
        let since = json!({"cursor": cursor, "COUNTED": {"epoch": epoch, "trade": 1}});
        again.subscribe(json!({"symbols": ["OWN", "COUNTED"], "since": since}));
        let (mut messages, mut ticks) = (Vec::new(), 0);
        while ticks < 501 {
            messages.push(again.next());
            ticks += usize::from(is_tick(messages.last().expect("just pushed")));
        }
        let (own, counted): (Vec<Value>, Vec<Value>) = messages
            .into_iter()
            .filter(|message| message["symbol"].is_string())
            .partition(|message| message["symbol"] == "OWN");
        assert_eq!(seqs(&own), (501..=1_000).collect::<Vec<_>>());
        // What the engine numbers itself begins anew with the process, and says so.
        let gap = last(&counted, "gap");
        assert_eq!((&gap["epoch"], &gap["to"]), (epoch, &Value::Null));
    }
    stop.store(true, Ordering::Relaxed);
    assert!(came.join().expect("nobody was refused") > 0);
    drop(subscribers);
    first.process.wait().ok();
    let probe = b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(http_raw(second.admin, probe).0, 200);
}

/// Passes the descriptor with the number of its first argument as systemd does, as number 3, to the
/// program that the others name.
const AS_SYSTEMD: &str = r#"exec 3<&"$0"; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@""#;

#[test]
fn a_socket_of_systemd_is_served_and_left_as_it_was() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let inherited = listener.try_clone().expect("a descriptor");
    fcntl_setfd(&inherited, FdFlags::empty()).expect("it is open");
    let serve = Serve::adjusted(|command, _| {
        let number = inherited.as_raw_fd().to_string();
        let mut wrapped: Command = process::command("bash");
        wrapped.args(["-c", AS_SYSTEMD, &number]);
        wrapped.arg(command.get_program()).args(command.get_args());
        *command = wrapped;
    });
    assert_eq!(serve.listen, address);
    let _client = serve.connect("/v1/ws", None);
    serve.process.signal(Signal::TERM);
    eventually("the process drains", || {
        serve
            .process
            .stderr()
            .iter()
            .any(|line| line.contains("draining"))
    });
    // It waits in the queue for the next process, as it would for one that systemd starts.
    let waiting = std::net::TcpStream::connect(address).expect("nobody is refused");
    serve.process.wait().ok();
    let (_, peer) = listener.accept().expect("it has waited");
    assert_eq!(peer, waiting.local_addr().expect("an address"));
}
