//! Subscribers: thousands of WebSocket connections on one thread.
//!
//! One epoll, one read buffer for all, and a tail of bytes per connection only while a frame is
//! incomplete, so that the generator takes less of its core than the server does of its own.

mod subscriber;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use rustix::{
    event::{Timespec, epoll},
    fd::OwnedFd,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    account::Counts,
    frame::SHARED_BYTES,
    latency::Latencies,
    schedule::{Clock, Window},
    upgrade::{ServerUrl, Upgrade},
};
pub use subscriber::LostReason;
use subscriber::{Phase, Subscriber};

/// Connections taken from epoll at once.
const EVENTS_MAX: usize = 256;
/// How long connecting may make no progress at all.
const CONNECT_STALL: Duration = Duration::from_secs(10);
/// The longest sleep, so that a caller's own conditions are looked at.
const TURN: Duration = Duration::from_millis(100);

/// What to connect, and how fast.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub server: ServerUrl,
    /// What to ask for, with its query.
    pub path: String,
    /// The first message of each connection; it must be answered by an `ack`.
    pub subscribe: String,
    /// How many connections.
    pub subscribers: usize,
    /// New connections per second.
    pub connects_per_s: u32,
    /// Connections that may wait for their upgrade or ack at once.
    pub in_progress_max: usize,
    /// Source addresses, from 127.0.0.1 upwards; 0 leaves the choice to the kernel. One address
    /// has some 28,000 ports by default.
    pub sources: u32,
}

/// What all subscribers received.
#[derive(Debug)]
pub struct Tally {
    /// The account over all connections, since the start.
    pub counts: Counts,
    /// Ticks whose intended time lies in the window.
    pub in_window: u64,
    /// How long those took from their intended time.
    pub latencies: Latencies,
    /// Connections lost.
    pub lost: u64,
    /// Why the first was lost.
    pub first_lost: Option<LostReason>,
    window: Window,
    now_us: u64,
}

/// Connected subscribers.
pub struct Load {
    epoll: OwnedFd,
    plan: Plan,
    upgrade: Upgrade,
    subscribers: Vec<Subscriber>,
    live: usize,
    shared: Vec<u8>,
    tally: Tally,
    clock: Clock,
}

/// Why the subscribers could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The machine refused.
    #[error("{live} subscribers are connected, the next failed: {error}{}", hint(.error))]
    Io {
        /// Connected before.
        live: usize,
        /// Its answer.
        error: io::Error,
    },
    /// A connection was refused or lost while connecting.
    #[error("{live} subscribers are connected, the next failed: {reason}")]
    Lost {
        /// Connected before.
        live: usize,
        /// Why.
        reason: LostReason,
    },
    /// Nothing went on for 10 s.
    #[error("{live} of {wanted} subscribers are connected, and for 10 s no more")]
    Stalled {
        /// Connected.
        live: usize,
        /// Asked for.
        wanted: usize,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => {
            " (out of ports: spread them with --sources)"
        }
        _ if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            " (out of descriptors: raise the hard limit, ulimit -Hn)"
        }
        _ => "",
    }
}

impl Load {
    /// Connects all subscribers and waits until each one's subscription is acknowledged. The
    /// token of connection `i` is `token(i)`.
    pub fn connect(
        plan: Plan,
        clock: Clock,
        token: impl Fn(usize) -> String,
    ) -> Result<Self, LoadError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| LoadError::Io {
            live: 0,
            error: error.into(),
        })?;
        let mut load = Self {
            epoll,
            upgrade: Upgrade::new(&plan.server),
            subscribers: Vec::with_capacity(plan.subscribers),
            live: 0,
            shared: vec![0; SHARED_BYTES],
            tally: Tally::new(),
            clock,
            plan,
        };
        load.connect_all(token)?;
        Ok(load)
    }

    /// What was received so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Sets the span of intended times whose ticks are measured.
    pub fn measure(&mut self, window: Window) {
        self.tally.window = window;
    }

    /// Receives until `us`, or until `done` says so.
    pub fn run_until(&mut self, us: u64, done: impl Fn(&Tally) -> bool) -> io::Result<()> {
        loop {
            let left = self.clock.until(us);
            if left.is_zero() || done(&self.tally) {
                return Ok(());
            }
            self.turn(left.min(TURN))?;
        }
    }

    fn connect_all(&mut self, token: impl Fn(usize) -> String) -> Result<(), LoadError> {
        let began = Instant::now();
        let (mut mark, mut marked) = ((0, 0), began);
        while self.live < self.plan.subscribers {
            while self.may_start(began) {
                let token = token(self.subscribers.len());
                self.start_one(&token).map_err(|error| LoadError::Io {
                    live: self.live,
                    error,
                })?;
            }
            self.turn(Duration::from_millis(1))
                .map_err(|error| LoadError::Io {
                    live: self.live,
                    error,
                })?;
            if let Some(reason) = self.tally.first_lost.take() {
                return Err(LoadError::Lost {
                    live: self.live,
                    reason,
                });
            }
            let now = (self.live, self.subscribers.len());
            if now != mark {
                (mark, marked) = (now, Instant::now());
            } else if marked.elapsed() > CONNECT_STALL {
                let wanted = self.plan.subscribers;
                return Err(LoadError::Stalled {
                    live: self.live,
                    wanted,
                });
            }
        }
        Ok(())
    }

    fn may_start(&self, began: Instant) -> bool {
        let started = self.subscribers.len();
        let paced = began.elapsed().as_secs_f64() * f64::from(self.plan.connects_per_s);
        started < self.plan.subscribers
            && started - self.live < self.plan.in_progress_max
            && (started as f64) <= paced
    }

    fn start_one(&mut self, token: &str) -> io::Result<()> {
        let index = self.subscribers.len();
        let socket = connecting(self.plan.server.address, self.plan.sources, index)?;
        let request = self.upgrade.request(&self.plan.path, token);
        let flags = epoll::EventFlags::OUT;
        epoll::add(
            &self.epoll,
            &socket,
            epoll::EventData::new_u64(index as u64),
            flags,
        )?;
        self.subscribers
            .push(Subscriber::new(socket.into(), request));
        Ok(())
    }

    fn turn(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let none = epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        };
        let mut events = [none; EVENTS_MAX];
        let ready = match epoll::wait(&self.epoll, &mut events[..], Some(&timeout)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..ready] {
            let data = event.data;
            self.serve(data.u64() as usize)?;
        }
        Ok(())
    }

    fn serve(&mut self, index: usize) -> io::Result<()> {
        let subscriber = &mut self.subscribers[index];
        let before = subscriber.phase;
        if before == Phase::Connecting {
            return match subscriber.send_request() {
                Ok(()) => epoll::modify(
                    &self.epoll,
                    &subscriber.stream,
                    epoll::EventData::new_u64(index as u64),
                    epoll::EventFlags::IN,
                )
                .map_err(Into::into),
                Err(reason) => self.lose(index, reason),
            };
        }
        let upgrade = &self.upgrade;
        let subscribe = &self.plan.subscribe;
        let served = subscriber.receive(
            &mut self.shared,
            upgrade,
            subscribe,
            &self.clock,
            &mut self.tally,
        );
        if before != Phase::Live && subscriber.phase == Phase::Live {
            self.live += 1;
        }
        served.or_else(|reason| self.lose(index, reason))
    }

    fn lose(&mut self, index: usize, reason: LostReason) -> io::Result<()> {
        self.tally.lost += 1;
        self.tally.first_lost.get_or_insert(reason);
        Ok(epoll::delete(&self.epoll, &self.subscribers[index].stream)?)
    }
}

impl Tally {
    fn new() -> Self {
        Self {
            counts: Counts::default(),
            in_window: 0,
            latencies: Latencies::new(),
            lost: 0,
            first_lost: None,
            window: Window {
                from_us: u64::MAX,
                to_us: u64::MAX,
            },
            now_us: 0,
        }
    }

    fn delivered(&mut self, ts_us: u64) {
        if self.window.contains(ts_us) {
            self.in_window += 1;
            self.latencies.record(self.now_us.saturating_sub(ts_us));
        }
    }
}

/// A socket on its way to `server`.
fn connecting(server: SocketAddr, sources: u32, index: usize) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(server),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if sources > 0 {
        let offset = (index as u32) % sources;
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + offset);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&server.into()) {
        Err(error)
            if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            Err(error)
        }
        _ => Ok(socket),
    }
}

#[cfg(test)]
mod tests;
