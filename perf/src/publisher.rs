//! The publisher: ticks at exact times, on a thread of its own.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
    num::NonZeroU64,
    thread,
    time::{Duration, Instant},
};

use rustix::net::{RecvFlags, recv};

use crate::{
    dialect::{Dialect, Outlet, Replies},
    frame::FrameError,
    latency::Latencies,
    run::Published,
    schedule::{Clock, Schedule},
    ticks::{Batch, Symbols, Ticks},
    upgrade::{ServerUrl, Upgrade, UpgradeError},
};

/// How long the server may take for the upgrade, for one message, and for the last ack.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks while waiting for an answer.
const POLL: Duration = Duration::from_millis(2);
/// Taken from the socket at once.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Above the subscribers' thread on the same core, so that ticks leave when they are due.
const NICENESS: i32 = -15;

/// A publisher's connection: what is read and not taken yet stays here.
pub struct Link {
    stream: TcpStream,
    held: Vec<u8>,
    replies: Replies,
}

/// A connected publisher. It goes on numbering from one schedule to the next.
pub struct Publisher {
    link: Link,
    outlet: Box<dyn Outlet>,
    ticks: Ticks,
    broken: bool,
}

/// Why publishing ended early.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// TCP failed.
    #[error("the publisher's connection: {0}")]
    Io(#[from] io::Error),
    /// No upgrade.
    #[error("the publisher's connection: {0}")]
    Upgrade(#[from] UpgradeError),
    /// No frame.
    #[error("the publisher's connection: the server sent {0}")]
    Frame(#[from] FrameError),
    /// No HTTP.
    #[error("the publisher's connection: the server sent what is not HTTP: {0}")]
    Http(#[from] httparse::Error),
    /// The server closed it.
    #[error("the server closed the publisher's connection: {0}")]
    Closed(String),
    /// No answer within 10 s.
    #[error("the server does not answer the publisher; its first error: {0:?}")]
    Silent(Option<String>),
}

impl PublishError {
    /// By a close frame with this payload.
    pub fn closed(payload: &[u8]) -> Self {
        let reason = payload.get(2..).unwrap_or_default();
        Self::Closed(String::from_utf8_lossy(reason).into_owned())
    }
}

impl Link {
    /// A TCP connection.
    pub fn connected(server: SocketAddr) -> Result<Self, PublishError> {
        let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_nodelay(true)?;
        // BBR, the default of some hosts, keeps some eleven segments in flight on loopback, however
        // small. Servers that answer nothing acknowledge every 40 ms, and so a publisher of a
        // thousand messages a second would stand still most of the time, and every server would get
        // its ticks in heaps. Where the kernel refuses, `late` and p99 show it.
        let _ = rustix::net::sockopt::set_tcp_congestion(&stream, "cubic");
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            held: Vec::new(),
            replies: Replies::default(),
        })
    }

    /// A WebSocket at `path`.
    pub fn upgraded(
        server: SocketAddr,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Self, PublishError> {
        let mut link = Self::connected(server)?;
        let upgrade = Upgrade::new(&ServerUrl::from(server));
        link.send(upgrade.request(path, headers).as_bytes())?;
        let began = Instant::now();
        loop {
            link.read()?;
            if let Some(head_bytes) = upgrade.answer(&link.held)? {
                link.held.drain(..head_bytes);
                return Ok(link);
            }
            link.wait_since(began)?;
        }
    }

    /// Writes all of it.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), PublishError> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Waits for what counts as the answer to a flush.
    pub fn await_reply(&mut self, outlet: &mut dyn Outlet) -> Result<(), PublishError> {
        let flushed = self.replies.flushed;
        let began = Instant::now();
        loop {
            self.take(outlet)?;
            if self.replies.flushed > flushed {
                return Ok(());
            }
            self.wait_since(began)?;
        }
    }

    fn wait_since(&mut self, began: Instant) -> Result<(), PublishError> {
        if began.elapsed() > PATIENCE {
            return Err(PublishError::Silent(self.replies.first_error.take()));
        }
        thread::sleep(POLL);
        Ok(())
    }

    /// Takes what the server has said meanwhile, without waiting.
    fn take(&mut self, outlet: &mut dyn Outlet) -> Result<(), PublishError> {
        self.read()?;
        let used = outlet.read(&self.held, &mut self.replies)?;
        self.held.drain(..used);
        let answer = std::mem::take(&mut self.replies.answer);
        self.send(&answer)
    }

    /// Reads what is there.
    fn read(&mut self) -> Result<(), PublishError> {
        loop {
            let held = self.held.len();
            self.held.resize(held + READ_BYTES_MAX, 0);
            let read = recv(&self.stream, &mut self.held[held..], RecvFlags::DONTWAIT);
            let bytes = read.as_ref().map_or(0, |&(_, bytes)| bytes);
            self.held.truncate(held + bytes);
            match read {
                Ok((_, 0)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok((_, READ_BYTES_MAX)) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }
}

/// Makes this thread one that publishes when it is time.
pub fn be_punctual() {
    // The default slack of 50 µs would be part of every latency. Where the kernel refuses,
    // `late` shows it; and so with the priority.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
}

impl Publisher {
    /// Connects; ticks of `symbols` are numbered under `epoch`.
    pub fn connect(
        dialect: &dyn Dialect,
        server: SocketAddr,
        symbols: &Symbols,
        token: &str,
        epoch: u64,
    ) -> Result<Self, PublishError> {
        let (link, outlet) = dialect.publisher(server, symbols, token)?;
        Ok(Self {
            link,
            outlet,
            ticks: Ticks::new(symbols, epoch),
            broken: false,
        })
    }

    /// Ticks made so far, of all symbols in turn.
    pub fn made(&self) -> u64 {
        self.ticks.made()
    }

    /// Whether its connection is of no more use.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Publishes as `schedule` says, each tick with its intended time as `ts`, until the server
    /// has taken all of it. What ends it early is told as the first error.
    pub fn run(&mut self, clock: &Clock, schedule: &Schedule) -> Published {
        be_punctual();
        let accepted_before = self.link.replies.accepted;
        let made_before = self.made();
        let mut late = Latencies::new();
        let ended = self.send_all(clock, schedule, &mut late);
        let replies = &mut self.link.replies;
        if let Err(error) = ended {
            self.broken = true;
            replies.first_error.get_or_insert(error.to_string());
        }
        Published {
            ticks: self.ticks.made() - made_before,
            accepted: replies.accepted - accepted_before,
            first_error: replies.first_error.take(),
            late: late.quantiles(),
        }
    }

    fn send_all(
        &mut self,
        clock: &Clock,
        schedule: &Schedule,
        late: &mut Latencies,
    ) -> Result<(), PublishError> {
        let mut batch = Batch::default();
        let mut bytes = Vec::new();
        for slot in schedule.slots() {
            self.ticks.fill(&mut batch, slot.due_us, slot.ticks);
            bytes.clear();
            self.outlet.publish(&batch, &mut bytes);
            self.link.take(self.outlet.as_mut())?;
            let left = clock.until(slot.due_us);
            if !left.is_zero() {
                thread::sleep(left);
            }
            late.record(clock.now_us().saturating_sub(slot.due_us));
            self.link.send(&bytes)?;
        }
        bytes.clear();
        self.outlet.flush(&mut bytes);
        self.link.send(&bytes)?;
        self.link.await_reply(self.outlet.as_mut())
    }
}
