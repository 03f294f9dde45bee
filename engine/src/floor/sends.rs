//! Sending: what a turn flushes goes to the kernel as one batch, in one `io_uring_enter`.
//!
//! No send waits. A socket takes its bytes at once, or some of them, or none: then the rest stays
//! with the connection as [`Unsent`] until the socket is writable, and nothing else is sent to it
//! meanwhile, which keeps the bytes in order. A connection that keeps up has nothing here at all.

use std::{io, os::fd::BorrowedFd, rc::Rc};

use rustix::{
    net::SendFlags,
    process::{Resource, getrlimit},
};

use crate::{clock::Millis, sys::ring::SendRing, threads::Driver};

/// A buffer on its way, with frames back to back; connections that get the same share it.
pub type Buffer = Rc<Vec<u8>>;

/// Something to send.
pub struct Send {
    /// The bytes, and how many of them the socket has taken already.
    buffer: Buffer,
    from: usize,
    /// Since when the socket has taken nothing of them, if it was tried before.
    stalled_since: Option<Millis>,
    /// Whether there is nothing to see to once it is taken whole.
    is_settled: bool,
}

impl Send {
    /// A send of `buffer`; see [`Connection::is_settled`](super::connection::Connection::is_settled).
    pub fn new(buffer: Buffer, is_settled: bool) -> Self {
        Self {
            buffer,
            from: 0,
            stalled_since: None,
            is_settled,
        }
    }
}

/// What a socket has not taken yet.
pub struct Unsent {
    buffer: Buffer,
    from: usize,
    /// Since when the socket has taken nothing.
    pub stalled_since: Millis,
    /// Whether the socket said that it takes more.
    pub writable: bool,
}

impl From<Unsent> for Send {
    fn from(unsent: Unsent) -> Self {
        Self {
            buffer: unsent.buffer,
            from: unsent.from,
            stalled_since: Some(unsent.stalled_since),
            is_settled: false,
        }
    }
}

/// A send, tried or about to be.
pub struct Tried {
    /// The connection's index.
    pub connection: u32,
    send: Send,
    /// What the socket took of it, bytes.
    taken: io::Result<usize>,
}

/// What became of a send.
pub enum Sent {
    /// All of it was taken.
    All {
        /// To be used again.
        buffer: Buffer,
        /// Whether there is nothing to see to.
        is_settled: bool,
    },
    /// The socket is full; this is left.
    Part(Unsent),
    /// The connection is dead.
    Failed,
}

impl Tried {
    /// What became of it, as seen at `now`.
    pub fn outcome(self, now: Millis) -> Sent {
        let Send {
            buffer,
            from,
            stalled_since,
            is_settled,
        } = self.send;
        let taken = match self.taken {
            Ok(taken) => taken,
            Err(error) if is_full(&error) => 0,
            Err(_) => return Sent::Failed,
        };
        if from + taken == buffer.len() {
            return Sent::All { buffer, is_settled };
        }
        let stalled_since = stalled_since.filter(|_| taken == 0);
        Sent::Part(Unsent {
            buffer,
            from: from + taken,
            stalled_since: stalled_since.unwrap_or(now),
            writable: false,
        })
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// The way to the kernel.
enum Way {
    /// A batch at a time.
    Ring(Box<SendRing>),
    /// A system call each, where io_uring is denied.
    Calls,
    /// Not at all: everything is taken at once.
    Nowhere,
}

/// Sockets that the kernel keeps at hand for one ring (`IORING_MAX_FIXED_FILES`).
const SEATS_MAX: u64 = 1 << 20;
/// Bytes of a batch that lie between their assembly and the kernel's copy: half of a core's own
/// cache, so that the kernel still finds them there.
const BATCH_BYTES: usize = 512 * 1024;

/// The sends of one floor.
pub struct Sends {
    way: Way,
    /// What was pushed; its outcome is known at once where there is no ring.
    batch: Vec<Tried>,
    batch_max: usize,
    /// Of buffers that no two sends of the batch share.
    batch_bytes: usize,
}

impl Sends {
    /// The best way that `driver` allows, for at most `batch_max` sends in a batch to at most
    /// `connections_max` connections.
    ///
    /// # Errors
    ///
    /// Where the system denies the ring.
    pub fn new(driver: Driver, batch_max: usize, connections_max: usize) -> io::Result<Self> {
        let way = match driver {
            Driver::Uring => {
                // The kernel takes no more seats than the process may have descriptors.
                let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(SEATS_MAX);
                let seats = SEATS_MAX.min(descriptors).min(connections_max as u64);
                Way::Ring(Box::new(SendRing::new(batch_max as u32, seats as u32)?))
            }
            Driver::Epoll => Way::Calls,
        };
        Ok(Self::by(way, batch_max))
    }

    /// Sends that reach nobody: to count what a floor spends without the kernel.
    pub fn nowhere(batch_max: usize) -> Self {
        Self::by(Way::Nowhere, batch_max)
    }

    fn by(way: Way, batch_max: usize) -> Self {
        Self {
            way,
            batch: Vec::with_capacity(batch_max),
            batch_max,
            batch_bytes: 0,
        }
    }

    /// Prepares for sends to a connection.
    pub fn seat(&mut self, connection: u32, socket: BorrowedFd<'_>) {
        if let Way::Ring(ring) = &mut self.way {
            ring.seat(connection, socket);
        }
    }

    /// Forgets a connection, whose socket stays open otherwise.
    pub fn unseat(&mut self, connection: u32) {
        if let Way::Ring(ring) = &mut self.way {
            ring.unseat(connection);
        }
    }

    /// Whether the batch is to be completed.
    pub fn is_full(&self) -> bool {
        self.batch.len() == self.batch_max || self.batch_bytes >= BATCH_BYTES
    }

    /// How many sends it has.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Adds a send, at most one per connection and batch.
    pub fn push(&mut self, connection: u32, socket: BorrowedFd<'_>, send: Send) {
        if Rc::strong_count(&send.buffer) == 1 {
            self.batch_bytes += send.buffer.len() - send.from;
        }
        let taken = match &mut self.way {
            Way::Ring(ring) => {
                ring.push(connection, socket, Rc::clone(&send.buffer), send.from);
                Ok(0)
            }
            Way::Calls => {
                let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                rustix::net::send(socket, &send.buffer[send.from..], flags).map_err(Into::into)
            }
            Way::Nowhere => Ok(send.buffer.len() - send.from),
        };
        self.batch.push(Tried {
            connection,
            send,
            taken,
        });
    }

    /// Sends the batch, and appends what became of it to `tried`.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses the ring itself.
    pub fn complete(&mut self, tried: &mut Vec<Tried>) -> io::Result<()> {
        if let Way::Ring(ring) = &mut self.way {
            let mut batch = self.batch.iter_mut();
            ring.complete(|taken| {
                if let Some(tried) = batch.next() {
                    tried.taken = taken;
                }
            })?;
        }
        self.batch_bytes = 0;
        tried.append(&mut self.batch);
        Ok(())
    }
}

/// Buffers between two sends, so that sending does not allocate.
#[derive(Default)]
pub struct Pool {
    buffers: Vec<Buffer>,
    /// What all of them have room for, bytes.
    bytes: usize,
}

impl Pool {
    /// Buffers kept: those of a batch, by default.
    const BUFFERS_KEPT: usize = 1_024;
    /// Room that all of them may have, bytes.
    const BYTES_KEPT: usize = 4 << 20;

    /// An empty buffer.
    pub fn take(&mut self) -> Buffer {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Takes a buffer back once nobody else has it.
    pub fn give_back(&mut self, mut buffer: Buffer) {
        let bytes = self.bytes + buffer.capacity();
        if self.buffers.len() == Self::BUFFERS_KEPT || bytes > Self::BYTES_KEPT {
            return;
        }
        if let Some(own) = Rc::get_mut(&mut buffer) {
            own.clear();
            self.bytes = bytes;
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_keeps_what_a_batch_needs_and_no_more() {
        let mut pool = Pool::default();
        for _ in 0..2 * Pool::BUFFERS_KEPT {
            pool.give_back(Rc::new(Vec::with_capacity(64)));
        }
        assert_eq!(pool.buffers.len(), Pool::BUFFERS_KEPT);
        let kept = pool.take();
        assert!(kept.is_empty() && kept.capacity() >= 64);
        let other = Rc::clone(&kept);
        pool.give_back(kept);
        assert_eq!(pool.buffers.len(), Pool::BUFFERS_KEPT - 1, "it is in use");
        pool.give_back(other);
        while !pool.buffers.is_empty() {
            pool.take();
        }
        assert_eq!(pool.bytes, 0);
        pool.give_back(Rc::new(Vec::with_capacity(Pool::BYTES_KEPT + 1)));
        assert!(pool.buffers.is_empty());
    }
}
