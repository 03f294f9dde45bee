//! A bare TCP ping-pong through loopback, the floor under every latency: what two hops take when
//! nothing is done in between.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    num::NonZeroU64,
    thread,
    time::{Duration, Instant},
};

use crate::{
    host,
    latency::{Latencies, Quantiles},
};

/// About a tick in JSON.
const MESSAGE_BYTES: usize = 130;
/// As few as ticks in the scenario that this is compared with.
const PAUSE: Duration = Duration::from_millis(20);

/// Round trips for `seconds`, the other end on `core` if given.
pub fn round_trips(core: Option<usize>, seconds: f64) -> io::Result<Quantiles> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    let (peer, _) = listener.accept()?;
    let answering = thread::Builder::new()
        .name("echo".to_owned())
        .spawn(move || answer(peer, core))?;
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    stream.set_nodelay(true)?;
    let mut latencies = Latencies::new();
    let began = Instant::now();
    let mut message = [7; MESSAGE_BYTES];
    while began.elapsed().as_secs_f64() < seconds {
        thread::sleep(PAUSE);
        let sent = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        latencies.record(sent.elapsed().as_micros() as u64);
    }
    drop(stream);
    answering
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(latencies.quantiles())
}

fn answer(mut stream: TcpStream, core: Option<usize>) -> io::Result<()> {
    if let Some(core) = core {
        host::confine_self(&[core])?;
    }
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE_BYTES];
    loop {
        match stream.read_exact(&mut message) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        stream.write_all(&message)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_takes_some_microseconds() {
        let quantiles = round_trips(None, 0.2).unwrap();
        assert!((1..1_000_000).contains(&quantiles.p50_us), "{quantiles:?}");
        assert!(quantiles.max_us >= quantiles.p50_us);
    }
}
