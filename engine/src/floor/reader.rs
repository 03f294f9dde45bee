//! Readiness of every connection of the floor, through one epoll set that io_uring watches as a
//! single descriptor; and receiving.
//!
//! Subscribers hardly ever send. Watching them costs a floor nothing while they are silent: no
//! task, no buffer, no request in flight each; one shared buffer serves whoever speaks.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    net::RecvFlags,
};

use crate::bell::Readiness;

/// Connections asked for at once; the rest stay ready.
const EVENTS_MAX: usize = 256;
/// Bytes read from one connection per turn.
const READ_BYTES: usize = 64 * 1024;

/// What a subscriber may do by itself: speak, or go.
const SPEAKS: EventFlags = EventFlags::IN.union(EventFlags::RDHUP);

/// The floor's epoll set and its read buffer.
pub struct Reader {
    set: OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Box<[u8]>,
}

/// A connection whose socket has something to say.
#[derive(Clone, Copy)]
pub struct Ready {
    /// Its index.
    pub index: u32,
    /// Its generation.
    pub generation: u32,
    /// A read would not block.
    pub readable: bool,
    /// The socket takes more. Told only where [`Reader::watch_writable`] asks for it.
    pub writable: bool,
}

/// What a read brought.
pub enum Read<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// Nothing just now.
    Nothing,
    /// The peer will send no more.
    End,
}

impl Reader {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            set: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        })
    }

    /// What the event loop waits on.
    pub fn readiness(&self) -> io::Result<Readiness> {
        Readiness::new(self.set.as_fd().try_clone_to_owned()?)
    }

    /// Watches a socket on behalf of the connection at `index`.
    pub fn watch(&self, socket: &impl AsFd, index: u32, generation: u32) -> io::Result<()> {
        Ok(epoll::add(
            &self.set,
            socket,
            data(index, generation),
            SPEAKS,
        )?)
    }

    /// Has the set tell, or no longer tell, when a socket that was full takes more.
    pub fn watch_writable(
        &self,
        socket: &impl AsFd,
        index: u32,
        generation: u32,
        wanted: bool,
    ) -> io::Result<()> {
        let flags = if wanted {
            SPEAKS | EventFlags::OUT
        } else {
            SPEAKS
        };
        Ok(epoll::modify(
            &self.set,
            socket,
            data(index, generation),
            flags,
        )?)
    }

    /// Stops watching a socket, before it is closed.
    pub fn forget(&self, socket: &impl AsFd) {
        // It fails only where the socket was never watched, which leaves nothing to undo.
        let _ = epoll::delete(&self.set, socket);
    }

    /// Appends the connections that are ready for something.
    pub fn ready(&mut self, into: &mut VecDeque<Ready>) -> io::Result<()> {
        self.events.clear();
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match epoll::wait(
            &self.set,
            rustix::buffer::spare_capacity(&mut self.events),
            Some(&now),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let (data, flags) = (event.data.u64(), event.flags);
            into.push_back(Ready {
                index: data as u32,
                generation: (data >> 32) as u32,
                // A dead socket is found out by reading it.
                readable: flags.intersects(SPEAKS | EventFlags::ERR | EventFlags::HUP),
                writable: flags.contains(EventFlags::OUT),
            });
        }
        Ok(())
    }

    /// Reads once from a socket.
    pub fn read(&mut self, socket: &impl AsFd) -> io::Result<Read<'_>> {
        match rustix::net::recv(socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Ok(Read::End),
            Ok((_, bytes)) => Ok(Read::Bytes(&self.buffer[..bytes])),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Read::Nothing),
            Err(error) => Err(error.into()),
        }
    }
}

fn data(index: u32, generation: u32) -> EventData {
    EventData::new_u64(u64::from(generation) << 32 | u64::from(index))
}
