//! A floor that sends ticks allocates nothing per tick.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tickwire_engine::{Engine, config::Config, door::auth::sign_hs256};
use tickwire_proto::{
    claims::Claims,
    price::Decimal,
    symbol::Symbol,
    tick::{PublishedTick, Values},
};

/// Counts what one thread allocates.
struct Counting;

static WATCHED_THREAD: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static THREAD: Cell<i32> = const { Cell::new(0) };
}

fn count() {
    let watched = WATCHED_THREAD.load(Ordering::Relaxed);
    if watched == 0 {
        return;
    }
    let own = THREAD.with(|thread| {
        if thread.get() == 0 {
            thread.set(rustix::thread::gettid().as_raw_nonzero().get());
        }
        thread.get()
    });
    if own == watched {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting neither allocates nor
// unwinds (a system call, a const-initialised thread-local, two atomics).
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
const SUBSCRIBERS: usize = 20;
const TICKS: u64 = 2_000;

#[test]
fn a_floor_that_sends_allocates_nothing_per_tick() {
    let config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        floors: 1,
        per_ip_rate: 0,
        per_ip_connections_max: 0,
        ..Config::default()
    };
    let engine = Engine::start_with_secret(config, SECRET).unwrap();
    let mut readers = Vec::new();
    let seen = Arc::new(AtomicU64::new(0));
    for number in 0..SUBSCRIBERS {
        let mut socket = subscribe(engine.listen_addr(), number);
        let seen = Arc::clone(&seen);
        readers.push(std::thread::spawn(move || {
            read_until(&mut socket, b"\"type\":\"trade\"", 2 * TICKS, &seen);
        }));
    }
    let mut publisher = engine.publisher("test").unwrap();
    publish(&mut publisher, TICKS, &seen);
    // Warm: queues and buffers have the size that they keep.
    WATCHED_THREAD.store(floor_thread(), Ordering::Relaxed);
    publish(&mut publisher, TICKS, &seen);
    for reader in readers {
        reader.join().unwrap();
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    let deliveries = TICKS * SUBSCRIBERS as u64;
    // Cursors (one a second and connection) and a timer now and then may allocate.
    assert!(
        allocations < deliveries / 100,
        "{allocations} allocations for {deliveries} deliveries"
    );
}

/// Publishes a few ticks at a time and waits until everyone has them, so that every turn of the
/// floor is alike, however busy the machine.
fn publish(publisher: &mut tickwire_engine::Publisher, ticks: u64, seen: &AtomicU64) {
    const AT_ONCE: u64 = 4;
    let values = Values::trade(Decimal::parse("187.23").unwrap(), None, None).unwrap();
    let symbol = Symbol::parse("AAPL").unwrap();
    let mut due = seen.load(Ordering::Relaxed);
    for number in 1..=ticks {
        let tick = PublishedTick {
            symbol,
            identity: None,
            ts_ns: None,
            values,
        };
        publisher.publish(tick).unwrap();
        due += SUBSCRIBERS as u64;
        while number % AT_ONCE == 0 && seen.load(Ordering::Relaxed) < due {
            std::thread::yield_now();
        }
    }
}

fn subscribe(address: SocketAddr, number: usize) -> TcpStream {
    let now_s = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = Claims {
        sub: format!("user-{number}"),
        exp: now_s + 600,
        ..Claims::default()
    };
    let token = sign_hs256(SECRET, &claims);
    let mut socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let head = format!(
        "GET /v1/ws?symbols=AAPL HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    read_until(&mut socket, b"\"op\":\"subscribe\"", 1, &AtomicU64::new(0));
    socket
}

/// Reads until `mark` has come `times` times, and adds each to `total`.
fn read_until(socket: &mut TcpStream, mark: &[u8], times: u64, total: &AtomicU64) {
    let mut seen = 0;
    let mut buffer = vec![0; 1 << 16];
    let mut kept = 0;
    while seen < times {
        let read = match socket.read(&mut buffer[kept..]) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.unwrap(),
        };
        assert!(read > 0, "closed after {seen} of {times}");
        let filled = kept + read;
        let new = buffer[..filled]
            .windows(mark.len())
            .filter(|window| *window == mark)
            .count() as u64;
        seen += new;
        total.fetch_add(new, Ordering::Relaxed);
        // A mark may be cut in two: keep what could be its beginning.
        kept = filled.min(mark.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

/// The kernel's id of the thread named `floor-0`.
fn floor_thread() -> i32 {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap();
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.trim() == "floor-0" {
            return task.file_name().to_str().unwrap().parse().unwrap();
        }
    }
    panic!("no thread is named floor-0");
}
