//! Sending: one write in flight per connection, all of a turn in one `io_uring_enter`.
//!
//! Each connection owns one future for its whole life, which waits for the next buffer and
//! writes it to the end, short writes resumed. The floor's turn polls these futures itself, with
//! wakers that only note the connection's index: no task per connection, no wake-up per send,
//! no allocation per send. A write is never dropped while it is in flight, except with its
//! connection.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use monoio::{buf::IoBuf, io::AsyncWriteRent, net::TcpStream};

thread_local! {
    /// Connections whose write has moved on since the last turn.
    static MOVED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    /// The floor's own task.
    static TURN: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// Makes completions on this thread wake `waker`.
pub fn wake_on_completion(waker: &Waker) {
    TURN.with_borrow_mut(|turn| {
        if !turn.as_ref().is_some_and(|own| own.will_wake(waker)) {
            *turn = Some(waker.clone());
        }
    });
}

/// Moves the indices of connections with completions to `into`.
pub fn take_completions(into: &mut Vec<u32>) {
    MOVED.with_borrow_mut(|moved| into.append(moved));
}

struct IndexWaker(u32);

impl Wake for IndexWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Only this thread's driver holds the waker, so the thread-local is the floor's.
        MOVED.with_borrow_mut(|moved| moved.push(self.0));
        TURN.with_borrow(|turn| {
            if let Some(turn) = turn {
                turn.wake_by_ref();
            }
        });
    }
}

/// A buffer on its way; shared where several connections get the same bytes.
pub type Buffer = Rc<Vec<u8>>;

/// Passes buffers in and outcomes out of the connection's future.
#[derive(Default)]
struct Slot {
    next: Cell<Option<Buffer>>,
    done: Cell<Option<io::Result<Buffer>>>,
    written: Cell<u64>,
}

/// The writing end of one connection.
pub struct Sender {
    slot: Rc<Slot>,
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
    busy: bool,
}

impl Sender {
    /// Takes over the socket of the connection at `index`.
    pub fn new(socket: TcpStream, index: u32) -> Self {
        let slot = Rc::new(Slot::default());
        Self {
            future: Box::pin(write_all(socket, Rc::clone(&slot))),
            slot,
            waker: Waker::from(Arc::new(IndexWaker(index))),
            busy: false,
        }
    }

    /// Whether a write is in flight.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Starts a write; returns its outcome where it is known at once (epoll).
    pub fn send(&mut self, buffer: Buffer) -> Option<io::Result<Buffer>> {
        debug_assert!(
            !self.busy,
            "one write in flight per connection keeps the bytes in order"
        );
        self.busy = true;
        self.slot.next.set(Some(buffer));
        self.progress()
    }

    /// Looks whether the write is complete.
    pub fn progress(&mut self) -> Option<io::Result<Buffer>> {
        if !self.busy {
            return None;
        }
        let _ = self
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker));
        let done = self.slot.done.take();
        self.busy = done.is_none();
        done
    }

    /// Bytes that the socket took since this was last asked.
    pub fn take_written(&self) -> u64 {
        self.slot.written.take()
    }
}

async fn write_all(mut socket: TcpStream, slot: Rc<Slot>) {
    loop {
        let mut buffer = poll_fn(|_| slot.next.take().map_or(Poll::Pending, Poll::Ready)).await;
        let mut written = 0;
        let outcome = loop {
            let (result, slice) = socket.write(buffer.slice(written..)).await;
            buffer = slice.into_inner();
            match result {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    written += bytes;
                    slot.written.set(slot.written.get() + bytes as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if written == buffer.len() {
                break Ok(buffer);
            }
        };
        slot.done.set(Some(outcome));
    }
}

/// Buffers that are free to be filled again.
#[derive(Default)]
pub struct Pool(Vec<Buffer>);

impl Pool {
    const BUFFERS_KEPT: usize = 4_096;
    const BYTES_KEPT: usize = 64 * 1024;

    /// An empty buffer.
    pub fn take(&mut self) -> Buffer {
        self.0.pop().unwrap_or_default()
    }

    /// Takes a buffer back, unless somebody else still reads it.
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
