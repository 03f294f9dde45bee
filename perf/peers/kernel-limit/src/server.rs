//! The loop: one thread, one epoll, edge-triggered.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::Errno,
    net::SendFlags,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use slab::Slab;
use socket2::{Domain, Socket, Type};

use crate::{
    fanout::{Fanout, Seat},
    frame, message,
    upgrade::{self, Role},
};

/// Key of the listener, which no connection reaches.
const LISTENER: u64 = u64::MAX;
/// Connections waiting to be accepted; the kernel has a bound of its own.
const BACKLOG: i32 = 4096;
/// Events taken at once.
const EVENTS_MAX: usize = 1024;
/// What a publisher's message is read into, bytes; larger ones make it grow.
const READ_BYTES: usize = 256 * 1024;

/// A connection that is read.
struct Talking {
    socket: OwnedFd,
    /// `None` before the upgrade.
    role: Option<Role>,
    /// What came and was not whole.
    input: Vec<u8>,
    ticks: u64,
    messages: u64,
}

enum Connection {
    Talking(Box<Talking>),
    /// A subscriber with its subscription; whatever it sends is ignored.
    Listening(Seat),
}

/// How a look at a connection ended.
enum Ended {
    /// It subscribed.
    Subscribed(Vec<u8>),
    /// It is over.
    Closed,
}

/// The server.
pub struct Server {
    epoll: OwnedFd,
    listener: Socket,
    connections: Slab<Connection>,
    fanout: Fanout,
    /// Read into by all, since whatever comes is nearly always whole.
    input: Vec<u8>,
}

/// Raises the limit of open files to the hard limit: one file per connection.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where that is denied, fewer connections are accepted.
    let _ = setrlimit(Resource::Nofile, raised);
}

impl Server {
    /// Listens on 127.0.0.1.
    pub fn bind(port: u16, fanout: Fanout) -> io::Result<Self> {
        let listener = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        listener.set_reuse_address(true)?;
        // Accepted sockets inherit it.
        listener.set_tcp_nodelay(true)?;
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        listener.listen(BACKLOG)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            connections: Slab::new(),
            fanout,
            input: Vec::with_capacity(READ_BYTES),
        })
    }

    /// Serves until the process is ended.
    ///
    /// # Errors
    ///
    /// If epoll itself fails.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let patience = self.fanout.patience().map(timespec);
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), patience.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    key => self.look_at(key as usize, event.flags),
                }
            }
            self.fanout.end_turn();
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        use rustix::net::{SocketFlags, accept_with};
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        loop {
            match accept_with(&self.listener, flags) {
                Ok(socket) => self.take_over(socket)?,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::MFILE | Errno::NFILE) => {
                    // Until some come back.
                    std::thread::sleep(Duration::from_millis(10));
                    return Ok(());
                }
                Err(_) => {}
            }
        }
    }

    fn take_over(&mut self, socket: OwnedFd) -> io::Result<()> {
        let entry = self.connections.vacant_entry();
        // OUT is told only after a send that was cut short, so it costs nothing before.
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(entry.key() as u64);
        epoll::add(&self.epoll, &socket, data, flags)?;
        entry.insert(Connection::Talking(Box::new(Talking {
            socket,
            role: None,
            input: Vec::new(),
            ticks: 0,
            messages: 0,
        })));
        Ok(())
    }

    fn look_at(&mut self, key: usize, flags: epoll::EventFlags) {
        // An event may be left of a connection that ended in this turn.
        match self.connections.get_mut(key) {
            None => {}
            Some(Connection::Talking(talking)) => {
                match talking.read(&mut self.input, &mut self.fanout) {
                    Ok(()) => {}
                    Err(Ended::Closed) => drop(self.connections.remove(key)),
                    Err(Ended::Subscribed(request)) => self.seat(key, &request),
                }
            }
            Some(&mut Connection::Listening(seat)) => {
                let (audience, member) = self.fanout.audience(seat);
                let socket = &audience.member(member).socket;
                if is_over(socket, &mut self.input) {
                    self.connections.remove(key);
                    self.leave(seat);
                } else if flags.contains(epoll::EventFlags::OUT) {
                    self.fanout.unblock(seat);
                }
            }
        }
    }

    /// Turns a connection into a listening one.
    fn seat(&mut self, key: usize, request: &[u8]) {
        let symbols = message::subscribe(request).unwrap_or_default();
        let Connection::Talking(talking) = self.connections.remove(key) else {
            unreachable!("only a talking connection subscribes")
        };
        // Before the seat is taken, so that no tick overtakes the ack.
        if send_text(&talking.socket, &subscribe_ack(request, &symbols)).is_err() {
            return;
        }
        let seat = self.fanout.join(&symbols, talking.socket, key);
        // The slab hands out the key that came back last.
        let again = self.connections.insert(Connection::Listening(seat));
        assert_eq!(again, key);
    }

    fn leave(&mut self, seat: Seat) {
        if let Some(moved) = self.fanout.leave(seat) {
            self.connections[moved] = Connection::Listening(seat);
        }
    }
}

impl Talking {
    /// Reads all there is and takes what is whole.
    fn read(&mut self, input: &mut Vec<u8>, fanout: &mut Fanout) -> Result<(), Ended> {
        input.clear();
        input.append(&mut std::mem::take(&mut self.input));
        loop {
            input.reserve(READ_BYTES);
            let room = input.capacity() - input.len();
            match rustix::io::read(&self.socket, spare_capacity(input)) {
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => return Err(Ended::Closed),
                Ok(bytes) => {
                    let used = self.take(input, fanout)?;
                    input.drain(..used);
                    // A socket that gave less than it could has no more.
                    if bytes < room {
                        break;
                    }
                }
            }
        }
        self.input = input.as_slice().to_vec();
        Ok(())
    }

    /// Takes what is whole, and returns how many bytes that is.
    fn take(&mut self, input: &mut [u8], fanout: &mut Fanout) -> Result<usize, Ended> {
        let mut used = 0;
        loop {
            let rest = &mut input[used..];
            let Some(role) = self.role else {
                match upgrade::take(rest).map_err(|_| Ended::Closed)? {
                    None => return Ok(used),
                    Some(upgrade) => {
                        send_whole(&self.socket, upgrade.response.as_bytes())?;
                        self.role = Some(upgrade.role);
                        used += upgrade.bytes;
                    }
                }
                continue;
            };
            let Some(frame) = frame::take(rest).map_err(|_| Ended::Closed)? else {
                return Ok(used);
            };
            used += frame.bytes;
            match role {
                _ if !frame.is_text => {}
                Role::Publisher => self.publish(frame.payload, fanout)?,
                Role::Subscriber if message::subscribe(frame.payload).is_some() => {
                    return Err(Ended::Subscribed(frame.payload.to_vec()));
                }
                Role::Subscriber => {}
            }
        }
    }

    fn publish(&mut self, message: &[u8], fanout: &mut Fanout) -> Result<(), Ended> {
        if message::is_flush(message) {
            let ack = format!(
                r#"{{"type":"ack","id":{},"accepted":{},"rejected":0,"duplicates":0,"messages":{}}}"#,
                message::id(message),
                self.ticks,
                self.messages
            );
            return send_text(&self.socket, ack.as_bytes());
        }
        for object in message::objects(message) {
            if let Some(symbol) = message::symbol(object) {
                fanout.publish(symbol, object);
                self.ticks += 1;
            }
        }
        self.messages += 1;
        fanout.end_message();
        Ok(())
    }
}

fn subscribe_ack(request: &[u8], symbols: &[&[u8]]) -> Vec<u8> {
    let mut ack = format!(
        r#"{{"type":"ack","id":{},"op":"subscribe","symbols":["#,
        message::id(request)
    )
    .into_bytes();
    for (index, symbol) in symbols.iter().enumerate() {
        ack.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
        ack.extend_from_slice(symbol);
        ack.push(b'"');
    }
    ack.extend_from_slice(br#"],"rejected":[]}"#);
    ack
}

fn send_text(socket: &OwnedFd, text: &[u8]) -> Result<(), Ended> {
    let mut bytes = Vec::new();
    frame::write_text(&mut bytes, text);
    send_whole(socket, &bytes)
}

/// Answers find an empty send buffer, or a client that does not read: that is its end.
fn send_whole(socket: &OwnedFd, bytes: &[u8]) -> Result<(), Ended> {
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        _ => Err(Ended::Closed),
    }
}

/// Reads away what came, and tells whether the connection has ended.
fn is_over(socket: &OwnedFd, scratch: &mut Vec<u8>) -> bool {
    loop {
        scratch.clear();
        match rustix::io::read(socket, spare_capacity(scratch)) {
            Err(Errno::AGAIN) => return false,
            Ok(0) => return true,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec::try_from(duration).expect("windows are below a second")
}
