//! Subscribers: thousands of connections on one thread.
//!
//! One epoll, one read buffer for all, and a tail of bytes per connection only while a frame is
//! incomplete, so that the generator takes less of its core than the server does of its own.

mod arrivals;
mod crowd;
mod handshake;
mod subscriber;
mod tally;

use std::{
    hint, io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use rustix::{
    event::{Timespec, epoll},
    fd::OwnedFd,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    account::Ledger,
    dialect::{Dialect, LostReason, Opening},
    latency::Latencies,
    reference::References,
    schedule::{Clock, Window},
    ticks::Symbols,
};
pub use crowd::{Rush, Rushed, Since};
use handshake::Handshake;
use subscriber::{Phase, Shared, Subscriber};
pub use tally::{Measured, Tally, Timeline};

/// Connections taken from epoll at once.
const EVENTS_MAX: usize = 1_024;
/// How long connecting may make no progress at all.
const CONNECT_STALL: Duration = Duration::from_secs(10);
/// The longest sleep, so that a caller's own conditions are looked at.
const TURN: Duration = Duration::from_millis(100);
/// How long it is looked for more before the thread sleeps. Waking a sleeper on another core costs a
/// virtual machine microseconds, which the server's send would pay: more often for a server that is
/// just slower than the reader than for one that is just faster.
const AWAKE: Duration = Duration::from_micros(100);
/// Between two looks meanwhile.
const LOOK_PAUSES: u32 = 200;

/// What to connect, and how fast.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub server: SocketAddr,
    /// The symbols of the run.
    pub symbols: Symbols,
    /// What each connection follows.
    pub follows: Vec<Follows>,
    /// The epoch that ticks will be numbered under, from 1.
    pub epoch: u64,
    /// The pace.
    pub pace: Pace,
    /// `SO_RCVBUF` of each connection, bytes; without, the kernel chooses.
    pub receive_buffer: Option<usize>,
}

/// The symbols that a connection follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follows {
    /// These, ascending.
    Symbols(Vec<u32>),
    /// All of them.
    All,
}

/// How connections are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// New connections per second.
    pub connects_per_s: u32,
    /// Connections that may wait for their upgrade or ack at once.
    pub in_progress_max: usize,
    /// Source addresses, from 127.0.0.1 upwards; 0 leaves the choice to the kernel. One address
    /// has some 28,000 ports by default.
    pub sources: u32,
}

/// Connected subscribers.
pub struct Load<'a> {
    epoll: OwnedFd,
    plan: Plan,
    dialect: &'a dyn Dialect,
    handshake: Handshake,
    references: References,
    subscribers: Vec<Subscriber>,
    live: usize,
    shared: Vec<u8>,
    tally: Tally,
    clock: Clock,
    /// When something was last received.
    heard: Instant,
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

impl<'a> Load<'a> {
    /// Connects all subscribers and waits until each one's subscription is in force. The token of
    /// connection `i` is `token(i)`.
    pub fn connect(
        plan: Plan,
        dialect: &'a dyn Dialect,
        clock: Clock,
        token: impl Fn(usize) -> String,
    ) -> Result<Self, LoadError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| LoadError::Io {
            live: 0,
            error: error.into(),
        })?;
        let mut load = Self {
            epoll,
            dialect,
            handshake: Handshake::new(dialect.framing(), plan.server),
            references: References::new(plan.symbols.len()),
            subscribers: Vec::with_capacity(plan.follows.len()),
            live: 0,
            shared: Vec::new(),
            tally: Tally::new(),
            clock,
            heard: Instant::now(),
            plan,
        };
        load.connect_all(token)?;
        Ok(load)
    }

    /// What was received so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Sets the spans of intended times whose ticks are measured, and forgets earlier ones.
    pub fn measure(&mut self, windows: &[Window]) {
        let measured = windows.iter().map(|&window| Measured {
            window,
            delivered: 0,
            latencies: Latencies::new(),
        });
        self.tally.windows = measured.collect();
    }

    /// Follows the age of deliveries from now on.
    pub fn follow_ages(&mut self) {
        self.tally.timeline = Some(Timeline::new(self.clock.now_us()));
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
        while self.live < self.plan.follows.len() {
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
                let wanted = self.plan.follows.len();
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
        let paced = began.elapsed().as_secs_f64() * f64::from(self.plan.pace.connects_per_s);
        started < self.plan.follows.len()
            && started - self.live < self.plan.pace.in_progress_max
            && (started as f64) <= paced
    }

    fn start_one(&mut self, token: &str) -> io::Result<()> {
        let index = self.subscribers.len();
        let source = self.plan.pace.source(index);
        let socket = connecting(self.plan.server, source, self.plan.receive_buffer)?;
        let opening = self.opening(index, token);
        let request = self.handshake.request(&opening);
        let flags = epoll::EventFlags::OUT;
        epoll::add(
            &self.epoll,
            &socket,
            epoll::EventData::new_u64(index as u64),
            flags,
        )?;
        let all: Vec<u32>;
        let symbols = match &self.plan.follows[index] {
            Follows::Symbols(symbols) => symbols,
            Follows::All => {
                all = (0..self.plan.symbols.len() as u32).collect();
                &all
            }
        };
        self.subscribers.push(Subscriber::new(
            socket.into(),
            request,
            opening.messages,
            self.dialect.reader(),
            Ledger::new(symbols, self.plan.epoch),
        ));
        Ok(())
    }

    fn opening(&self, index: usize, token: &str) -> Opening {
        let symbols = &self.plan.symbols;
        let names: Vec<&str> = match &self.plan.follows[index] {
            Follows::Symbols(followed) => followed
                .iter()
                .map(|&symbol| symbols.name(symbol))
                .collect(),
            Follows::All => {
                if let Some(opening) = self.dialect.opening_all(token) {
                    return opening;
                }
                symbols.names().iter().map(String::as_str).collect()
            }
        };
        self.dialect.opening(&names, token)
    }

    fn turn(&mut self, timeout: Duration) -> io::Result<()> {
        let mut events = no_events();
        let mut ready = look(&self.epoll, &mut events, Duration::ZERO)?;
        let began = Instant::now();
        while ready == 0 && self.heard.elapsed() < AWAKE {
            for _ in 0..LOOK_PAUSES {
                hint::spin_loop();
            }
            ready = look(&self.epoll, &mut events, Duration::ZERO)?;
        }
        self.tally.looked_in_vain += began.elapsed();
        if ready == 0 {
            ready = look(&self.epoll, &mut events, timeout)?;
        }
        if ready > 0 {
            self.heard = Instant::now();
        }
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
        let served = subscriber.receive(&mut Shared {
            bytes: &mut self.shared,
            handshake: &self.handshake,
            symbols: &self.plan.symbols,
            references: &mut self.references,
            clock: &self.clock,
            tally: &mut self.tally,
        });
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

impl Pace {
    /// Where connection `index` comes from; `None` leaves it to the kernel.
    fn source(&self, index: usize) -> Option<Ipv4Addr> {
        let offset = (index as u32).checked_rem(self.sources)?;
        Some(Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + offset))
    }
}

/// A socket on its way from `source` to `server`.
fn connecting(
    server: SocketAddr,
    source: Option<Ipv4Addr>,
    receive_buffer: Option<usize>,
) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(server),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
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

/// Room for what [`look`] finds.
fn no_events() -> [epoll::Event; EVENTS_MAX] {
    let none = epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: epoll::EventData::new_u64(0),
    };
    [none; EVENTS_MAX]
}

/// How many connections have something, waiting for the first of them.
fn look(epoll: &OwnedFd, events: &mut [epoll::Event], wait: Duration) -> io::Result<usize> {
    let wait = Timespec {
        tv_sec: wait.as_secs() as i64,
        tv_nsec: i64::from(wait.subsec_nanos()),
    };
    match epoll::wait(epoll, events, Some(&wait)) {
        Ok(ready) => Ok(ready),
        Err(rustix::io::Errno::INTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
