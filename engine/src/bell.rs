//! Waking a thread that sleeps in its event loop, and posting things to it.
//!
//! A [`Bell`] is an eventfd and a flag that says whether its owner sleeps, so that ringing a
//! thread that is awake costs one atomic swap and no system call. A [`Mailbox`] is a bounded queue
//! with a bell.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
};

use crossbeam::queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};

/// Wakes one sleeping thread; shared by everyone who may have to.
#[derive(Debug)]
pub struct Bell {
    asleep: AtomicBool,
    event: OwnedFd,
}

impl Bell {
    /// A bell whose owner is awake.
    pub fn new() -> io::Result<Arc<Self>> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Self {
            asleep: AtomicBool::new(false),
            event,
        }))
    }

    /// Wakes the owner if it sleeps. Call it after what it should see has been stored.
    pub fn ring(&self) {
        // Pairs with the fence in `doze`: either the owner's last look sees what was stored
        // before this fence, or this swap sees its flag.
        fence(Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            // The counter cannot overflow: a ring happens once per sleep. A full counter would
            // still be readable, which is all that matters.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// Announces sleep. The owner must look once more for work after this, and call
    /// [`Bell::rouse`] if there is some.
    pub fn doze(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back.
    pub fn rouse(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// A handle that an event loop can wait on; build it on the thread that waits.
    pub fn listener(&self) -> io::Result<Listener> {
        let descriptor = self.event.as_fd().try_clone_to_owned()?;
        Readiness::new(descriptor).map(Listener)
    }
}

impl AsFd for Bell {
    /// For an event loop of another kind than [`Bell::listener`]'s.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// The waiting end of a [`Bell`].
pub struct Listener(Readiness);

impl Listener {
    /// Waits for the next ring.
    pub async fn rung(&self) -> io::Result<()> {
        self.0.readable().await?;
        let mut count = [0; 8];
        match rustix::io::read(&self.0.descriptor, &mut count) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits for any descriptor to become readable, on `io_uring` as on epoll.
///
/// monoio offers readiness only on its sockets. A poll request does not care what kind of file
/// it watches, so the descriptor is dressed as one.
pub struct Readiness {
    descriptor: OwnedFd,
    watched: monoio::net::UnixStream,
}

impl Readiness {
    /// Watches `descriptor`, which stays open for as long as this lives.
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let watched = UnixStream::from(descriptor.try_clone()?);
        Ok(Self {
            descriptor,
            watched: monoio::net::UnixStream::from_std(watched)?,
        })
    }

    /// Waits until a read would not block.
    pub async fn readable(&self) -> io::Result<()> {
        self.watched.readable(false).await
    }

    /// What is watched.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Stops watching, and gives the descriptor back.
    pub fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }
}

/// A bounded queue into a thread that sleeps in its event loop.
pub struct Mailbox<T> {
    queue: ArrayQueue<T>,
    bell: Arc<Bell>,
}

impl<T> Mailbox<T> {
    /// A mailbox of `capacity` letters that rings `bell`.
    pub fn new(capacity: usize, bell: Arc<Bell>) -> Arc<Self> {
        Arc::new(Self {
            queue: ArrayQueue::new(capacity),
            bell,
        })
    }

    /// Posts a letter, or hands it back where the box is full.
    pub fn post(&self, letter: T) -> Result<(), T> {
        self.queue.push(letter)?;
        self.bell.ring();
        Ok(())
    }

    /// Takes the oldest letter.
    pub fn take(&self) -> Option<T> {
        self.queue.pop()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many letters wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// The bell that it rings.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }
}
