//! A PUBLISH for each tick, as adapters for chats do it, without anything around it: the publisher
//! writes what is due, the subscriber reads what comes, and both count.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use rustix::{
    net::{RecvFlags, recv},
    time::{ClockId, clock_gettime},
};

use super::super::{P99_MAX_US, Settings};
use crate::{
    host,
    latency::Latencies,
    publisher::be_punctual,
    redis::Redis,
    run::{Point, Published},
    schedule::{Clock, Schedule, Window},
    session::LEAD_US,
    ticks::{Batch, Symbols, Ticks},
};

const CHANNEL: &str = "ticks";
/// How long nothing may come before the subscriber gives up.
const SILENCE: Duration = Duration::from_secs(5);
/// Taken from the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// What one side did.
struct Side {
    ticks: u64,
    cpu_ns: u64,
    latencies: Latencies,
}

impl Side {
    fn new() -> Self {
        Self {
            ticks: 0,
            cpu_ns: 0,
            latencies: Latencies::new(),
        }
    }

    /// The same, where the server takes or brings no more: too much was asked of it, which is an answer.
    fn ended_by(self, error: io::Error) -> io::Result<Self> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, WouldBlock};

        match error.kind() {
            WouldBlock | BrokenPipe | ConnectionReset => Ok(self),
            _ => Err(error),
        }
    }
}

/// Publishes at `rate`; what came.
pub(super) fn play(
    redis: &Redis,
    symbols: &Symbols,
    settings: &Settings,
    rate: u32,
) -> io::Result<Point> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, redis.port()));
    let clock = Clock::start();
    let schedule = Schedule::new(
        clock.now_us() + LEAD_US,
        rate,
        settings.warmup_s + settings.duration_s,
    );
    let window = schedule.window(0, settings.warmup_s);
    let due = |slots: &dyn Fn(u64) -> bool| -> u64 {
        let due = schedule.slots().filter(|slot| slots(slot.due_us));
        due.map(|slot| u64::from(slot.ticks)).sum()
    };
    let (all, expected) = (due(&|_| true), due(&|us| window.contains(us)));
    let of_redis =
        || -> io::Result<u64> { redis.trees().map(|tree| Ok(tree.cpu()?.total_ns())).sum() };
    let before = of_redis()?;
    let subscriber = subscribed(at)?;
    let (out, into) = thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(at, symbols, &schedule, &clock));
        let receiving = scope.spawn(|| receive(subscriber, all, window, &clock));
        let [out, into] = [publishing, receiving].map(|side| {
            let joined = side.join();
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        io::Result::Ok((out?, into?))
    })?;
    let redis_ns = of_redis()?.saturating_sub(before);
    let delivered = into.latencies.len();
    let mut point = Point {
        subscribers: 1,
        window_s: window.seconds(),
        expected,
        delivered,
        deliveries_per_s: delivered as f64 / window.seconds(),
        latency: into.latencies.quantiles(),
        percentiles: into.latencies.percentiles(),
        published: Published {
            ticks: out.ticks,
            accepted: out.ticks,
            late: out.latencies.quantiles(),
            ..Published::default()
        },
        ..Point::default()
    };
    point.sustained = [out.ticks, into.ticks] == [all; 2] && point.latency.p99_us < P99_MAX_US;
    let per_tick = |ns: u64| ns as f64 / 1e3 / all.max(1) as f64;
    point.add([
        ("out_us_per_tick", per_tick(out.cpu_ns)),
        ("in_us_per_tick", per_tick(into.cpu_ns)),
        ("redis_us_per_tick", per_tick(redis_ns)),
    ]);
    Ok(point)
}

fn connected(at: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    Ok(stream)
}

fn subscribed(at: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = connected(at)?;
    stream.write_all(&command(&[b"SUBSCRIBE", CHANNEL.as_bytes()]))?;
    let answer = b"*3\r\n$9\r\nsubscribe\r\n$5\r\nticks\r\n:1\r\n";
    let mut read = vec![0; answer.len()];
    stream.read_exact(&mut read)?;
    if read == answer {
        Ok(stream)
    } else {
        Err(io::Error::other(
            String::from_utf8_lossy(&read).into_owned(),
        ))
    }
}

/// A command as the protocol has it: an array of strings (RESP 2).
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn publish(
    at: SocketAddr,
    symbols: &Symbols,
    schedule: &Schedule,
    clock: &Clock,
) -> io::Result<Side> {
    on_all_cores()?;
    be_punctual();
    let mut stream = connected(at)?;
    let mut ticks = Ticks::new(symbols, 1);
    let mut side = Side::new();
    let (mut batch, mut bytes, mut answers) = (Batch::default(), Vec::new(), vec![0; READ_BYTES]);
    for slot in schedule.slots() {
        ticks.fill(&mut batch, slot.due_us, slot.ticks);
        thread::sleep(clock.until(slot.due_us));
        side.latencies
            .record(clock.now_us().saturating_sub(slot.due_us));
        // What it takes to make ticks is not the publisher's.
        let before_ns = own_cpu_ns();
        bytes.clear();
        for (_, object) in batch.objects() {
            write_publish(&mut bytes, object);
        }
        if let Err(error) = stream.write_all(&bytes) {
            return side.ended_by(error);
        }
        // How many have got it, which nobody asks for.
        while let Ok((_, READ_BYTES)) = recv(&stream, &mut answers[..], RecvFlags::DONTWAIT) {}
        side.cpu_ns += own_cpu_ns() - before_ns;
        side.ticks = ticks.made();
    }
    // Closed with answers unread, it would be reset, and the server would throw away what it has not read.
    stream.shutdown(Shutdown::Write)?;
    match io::copy(&mut stream, &mut io::sink()) {
        Ok(_) => Ok(side),
        Err(error) => side.ended_by(error),
    }
}

/// Appends a command that publishes `object`.
fn write_publish(out: &mut Vec<u8>, object: &[u8]) {
    out.extend_from_slice(b"*3\r\n$7\r\nPUBLISH\r\n$5\r\nticks\r\n$");
    out.extend_from_slice(itoa::Buffer::new().format(object.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(object);
    out.extend_from_slice(b"\r\n");
}

/// The generator's threads are confined to its core. These are not the generator's: hosts have all cores.
fn on_all_cores() -> io::Result<()> {
    host::confine_self(&(0..host::cores_online()).collect::<Vec<_>>())
}

fn receive(mut stream: TcpStream, all: u64, window: Window, clock: &Clock) -> io::Result<Side> {
    on_all_cores()?;
    let mut side = Side::new();
    let (mut held, mut read) = (Vec::new(), vec![0; READ_BYTES]);
    while side.ticks < all {
        let bytes = match stream.read(&mut read) {
            Ok(0) => break,
            Ok(bytes) => bytes,
            Err(error) => {
                side.cpu_ns = own_cpu_ns();
                return side.ended_by(error);
            }
        };
        held.extend_from_slice(&read[..bytes]);
        let now_us = clock.now_us();
        let mut used = 0;
        while let Some((payload, length)) = message(&held[used..])? {
            used += length;
            side.ticks += 1;
            let ts_us = stamp(payload).ok_or_else(|| io::Error::other("a tick without a time"))?;
            if window.contains(ts_us) {
                side.latencies.record(now_us.saturating_sub(ts_us));
            }
        }
        held.drain(..used);
    }
    side.cpu_ns = own_cpu_ns();
    Ok(side)
}

/// The payload of the message at the head of `bytes`, and the message's length; `None` where it is not whole.
fn message(bytes: &[u8]) -> io::Result<Option<(&[u8], usize)>> {
    const HEAD: &[u8] = b"*3\r\n$7\r\nmessage\r\n$5\r\nticks\r\n$";
    let Some(rest) = bytes.get(HEAD.len()..) else {
        return Ok(None);
    };
    if !bytes.starts_with(HEAD) {
        let head = String::from_utf8_lossy(&bytes[..HEAD.len()]);
        return Err(io::Error::other(format!("no message: {head}")));
    }
    let Some(digits) = rest.iter().position(|&byte| byte == b'\r') else {
        return Ok(None);
    };
    let length = std::str::from_utf8(&rest[..digits]).map(str::parse::<usize>);
    let Ok(Ok(length)) = length else {
        return Err(io::Error::other("a message without a length"));
    };
    let begin = digits + 2;
    let whole = HEAD.len() + begin + length + 2;
    if bytes.len() < whole {
        return Ok(None);
    }
    Ok(Some((&rest[begin..begin + length], whole)))
}

/// The `ts` of a tick, µs.
fn stamp(object: &[u8]) -> Option<u64> {
    const FIELD: &str = r#""ts":"#;
    let text = std::str::from_utf8(object).ok()?;
    let (_, rest) = text.split_once(FIELD)?;
    rest.split(',').next()?.parse().ok()
}

/// CPU time of the calling thread.
fn own_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_published_by_a_command() {
        let mut bytes = Vec::new();
        write_publish(&mut bytes, br#"{"seq":1}"#);
        assert_eq!(bytes, command(&[b"PUBLISH", b"ticks", br#"{"seq":1}"#]));
    }

    #[test]
    fn messages_are_taken_whole() {
        let object = br#"{"seq":1,"ts":1763776800000123,"price":"1"}"#;
        let mut bytes = command(&[b"message", b"ticks", object]);
        let whole = bytes.len();
        for cut in 0..whole {
            assert!(message(&bytes[..cut]).unwrap().is_none(), "{cut}");
        }
        bytes.extend_from_slice(b"*3\r\n");
        let (payload, length) = message(&bytes).unwrap().unwrap();
        assert_eq!((payload, length), (&object[..], whole));
        assert_eq!(stamp(payload), Some(1_763_776_800_000_123));
        assert!(message(&[b'x'; 100]).is_err());
    }
}
