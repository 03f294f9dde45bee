//! Sending: what a turn flushes goes to the kernel as one batch, in one `io_uring_enter`.
//!
//! No send waits. A socket takes its bytes at once, or some of them, or none: then the rest stays
//! with the connection as [`Unsent`] until the socket is writable, and nothing else is sent to it
//! meanwhile, which keeps the bytes in order. A connection that keeps up has nothing here at all.

use std::{io, os::fd::BorrowedFd, rc::Rc};

use rustix::net::SendFlags;

use crate::{sys::ring::SendRing, threads::Driver};

/// A buffer on its way, with frames back to back; connections that get the same share it.
pub type Buffer = Rc<Vec<u8>>;

/// What a socket has not taken yet.
pub struct Unsent {
    buffer: Buffer,
    from: usize,
    /// Whether the socket said that it takes more.
    pub writable: bool,
}

impl Unsent {
    /// The buffer, and how much of it was taken, bytes.
    pub fn into_parts(self) -> (Buffer, usize) {
        (self.buffer, self.from)
    }
}

/// A send, tried or about to be.
pub struct Tried {
    /// The connection's index.
    pub connection: u32,
    /// What was to be sent, from where on.
    buffer: Buffer,
    from: usize,
    /// What the socket took of it, bytes.
    taken: io::Result<usize>,
}

/// What became of a send.
pub enum Sent {
    /// All of it was taken; the buffer comes back.
    All(Buffer),
    /// The socket is full; `progress` says whether it took anything.
    Part {
        /// What is left.
        unsent: Unsent,
        /// Whether the socket took anything.
        progress: bool,
    },
    /// The connection is dead.
    Failed,
}

impl Tried {
    /// What became of it.
    pub fn outcome(self) -> Sent {
        let Self {
            buffer,
            from,
            taken,
            ..
        } = self;
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) if is_full(&error) => 0,
            Err(_) => return Sent::Failed,
        };
        if from + taken == buffer.len() {
            return Sent::All(buffer);
        }
        let unsent = Unsent {
            buffer,
            from: from + taken,
            writable: false,
        };
        Sent::Part {
            unsent,
            progress: taken > 0,
        }
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

/// The sends of one floor.
pub struct Sends {
    way: Way,
    /// What was pushed; its outcome is known at once where there is no ring.
    batch: Vec<Tried>,
    batch_max: usize,
}

impl Sends {
    /// The best way that `driver` allows, for at most `batch_max` sends in a batch.
    ///
    /// # Errors
    ///
    /// Where the system denies the ring.
    pub fn new(driver: Driver, batch_max: usize) -> io::Result<Self> {
        let way = match driver {
            Driver::Uring => Way::Ring(Box::new(SendRing::new(batch_max as u32)?)),
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
        }
    }

    /// Whether the batch takes no more.
    pub fn is_full(&self) -> bool {
        self.batch.len() == self.batch_max
    }

    /// Adds a send of `buffer` from `from` on, at most one per connection and batch.
    pub fn push(&mut self, connection: u32, socket: BorrowedFd<'_>, buffer: Buffer, from: usize) {
        let taken = match &mut self.way {
            Way::Ring(ring) => {
                ring.push(socket, Rc::clone(&buffer), from);
                Ok(0)
            }
            Way::Calls => {
                let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                rustix::net::send(socket, &buffer[from..], flags).map_err(Into::into)
            }
            Way::Nowhere => Ok(buffer.len() - from),
        };
        self.batch.push(Tried {
            connection,
            buffer,
            from,
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
        tried.append(&mut self.batch);
        Ok(())
    }
}

/// Buffers between two sends, so that sending does not allocate.
#[derive(Default)]
pub struct Pool(Vec<Buffer>);

impl Pool {
    /// Buffers kept: those of a batch, by default.
    const BUFFERS_KEPT: usize = 256;
    /// Largest buffer kept.
    const BYTES_KEPT: usize = 32 * 1024;

    /// An empty buffer.
    pub fn take(&mut self) -> Buffer {
        self.0.pop().unwrap_or_default()
    }

    /// Takes a buffer back once nobody else has it.
    pub fn give_back(&mut self, mut buffer: Buffer) {
        if self.0.len() == Self::BUFFERS_KEPT || buffer.capacity() > Self::BYTES_KEPT {
            return;
        }
        if let Some(bytes) = Rc::get_mut(&mut buffer) {
            bytes.clear();
            self.0.push(buffer);
        }
    }
}
