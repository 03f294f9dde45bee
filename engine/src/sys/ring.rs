//! Sends in batches: one `io_uring_enter` for all of them (`io_uring_enter(2)`, `IORING_OP_SEND`).

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    rc::Rc,
};

use io_uring::{
    IoUring, opcode,
    types::{Fd, Fixed},
};
use rustix::net::SendFlags;

/// A ring for sends alone. No send waits: what a socket does not take at once is told as such.
pub struct SendRing {
    ring: IoUring,
    /// What requests point to, until `complete` has seen all of them end.
    pushed: Vec<Rc<Vec<u8>>>,
    results: Vec<i32>,
    /// Which sockets the kernel has at hand, by their seat.
    seated: Vec<bool>,
    seats: u32,
}

impl SendRing {
    /// A ring of the calling thread, which takes up to `entries` sends in a batch, and seats up to
    /// `seats` sockets, or none where the kernel has no seats.
    ///
    /// # Errors
    ///
    /// Where the system denies io_uring.
    pub fn new(entries: u32, seats: u32) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        // One thread uses it, and asks for its completions itself. Without `SUBMIT_ALL` a request
        // that the kernel rejects would end the batch.
        builder
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_submit_all();
        // Kernels before 6.0 know not all of them.
        let ring = builder.build(entries).or_else(|_| IoUring::new(entries))?;
        let registered = ring.submitter().register_files_sparse(seats);
        let seats = registered.map_or(0, |()| seats);
        Ok(Self {
            ring,
            pushed: Vec::with_capacity(entries as usize),
            results: Vec::with_capacity(entries as usize),
            seated: Vec::new(),
            seats,
        })
    }

    /// Registers a socket (`IORING_REGISTER_FILES_UPDATE`), so that its sends need not look it up.
    /// Where that fails they do.
    ///
    /// The kernel keeps the socket open until [`SendRing::unseat`].
    pub fn seat(&mut self, seat: u32, socket: BorrowedFd<'_>) {
        let place = seat as usize;
        if seat >= self.seats {
            return;
        }
        if self.seated.len() <= place {
            self.seated.resize(place + 1, false);
        }
        let submitter = self.ring.submitter();
        let updated = submitter.register_files_update(seat, &[socket.as_raw_fd()]);
        self.seated[place] = matches!(updated, Ok(1));
    }

    /// Ends what [`SendRing::seat`] began.
    pub fn unseat(&mut self, seat: u32) {
        const NOBODY: i32 = -1;
        let Some(seated) = self.seated.get_mut(seat as usize) else {
            return;
        };
        if std::mem::take(seated) {
            let submitter = self.ring.submitter();
            let updated = submitter.register_files_update(seat, &[NOBODY]);
            debug_assert!(matches!(updated, Ok(1)), "the seat was taken: {updated:?}");
        }
    }

    /// Adds a send of `bytes` from `from` on to the batch, to `socket`, which has `seat` if it has any.
    ///
    /// # Panics
    ///
    /// If the batch holds `entries` sends already, or `from` lies behind the bytes.
    pub fn push(&mut self, seat: u32, socket: BorrowedFd<'_>, bytes: Rc<Vec<u8>>, from: usize) {
        let rest = &bytes[from..];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let (start, length) = (rest.as_ptr(), u32::try_from(rest.len()));
        let length = length.expect("a send is far below 4 GiB");
        let send = if self.seated.get(seat as usize).is_some_and(|seated| *seated) {
            opcode::Send::new(Fixed(seat), start, length)
        } else {
            opcode::Send::new(Fd(socket.as_raw_fd()), start, length)
        };
        let entry = send
            .flags(flags.bits() as i32)
            .build()
            .user_data(self.pushed.len() as u64);
        // SAFETY: the request points to `rest`, which lives in `bytes`. `pushed` keeps that buffer,
        // and keeps it unchanged since nobody can have a `&mut Vec` while it is shared, until
        // `complete` has seen the request's completion; after an error it is kept for good.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("the caller counts what it pushes");
        self.pushed.push(bytes);
    }

    /// Sends the batch and tells of each, in the order of pushing, what the socket took of it,
    /// bytes. [`io::ErrorKind::WouldBlock`] says that it took nothing.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses the ring itself; the ring is of no further use then.
    pub fn complete(&mut self, mut each: impl FnMut(io::Result<usize>)) -> io::Result<()> {
        let count = self.pushed.len();
        self.results.clear();
        self.results.resize(count, 0);
        let mut completed = 0;
        while completed < count {
            match self.ring.submit_and_wait(count - completed) {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    // Which requests the kernel has begun is unknown.
                    std::mem::forget(std::mem::take(&mut self.pushed));
                    return Err(error);
                }
            }
            for completion in self.ring.completion() {
                self.results[completion.user_data() as usize] = completion.result();
                completed += 1;
            }
        }
        self.pushed.clear();
        for &result in &self.results {
            let taken = usize::try_from(result);
            each(taken.map_err(|_| io::Error::from_raw_os_error(-result)));
        }
        Ok(())
    }
}

/// Whether `io_uring_enter(2)` wants to be called again.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, ResourceBusy, WouldBlock};
    matches!(error.kind(), Interrupted | ResourceBusy | WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::fd::AsFd, os::unix::net::UnixStream};

    use super::*;

    fn ring(entries: u32) -> SendRing {
        SendRing::new(entries, 2).expect("these tests need io_uring")
    }

    #[test]
    fn a_batch_goes_out_and_comes_back_in_order() {
        let mut ring = ring(4);
        let bytes = Rc::new(b"0123456789".to_vec());
        let mut pairs: Vec<_> = (0..4).map(|_| UnixStream::pair().unwrap()).collect();
        for (from, (socket, _)) in pairs.iter().enumerate() {
            ring.push(from as u32, socket.as_fd(), Rc::clone(&bytes), from);
        }
        let mut taken = Vec::new();
        ring.complete(|result| taken.push(result.unwrap())).unwrap();
        assert_eq!(taken, [10, 9, 8, 7]);
        assert_eq!(Rc::strong_count(&bytes), 1, "no buffer is kept");
        for (from, (socket, peer)) in pairs.drain(..).enumerate() {
            drop(socket);
            let mut received = Vec::new();
            (&peer).read_to_end(&mut received).unwrap();
            assert_eq!(received, bytes[from..]);
        }
    }

    #[test]
    fn a_full_socket_a_short_send_and_a_dead_peer_cost_nobody_else() {
        let mut ring = ring(8);
        let (full, _reader) = UnixStream::pair().unwrap();
        let (dead, gone) = UnixStream::pair().unwrap();
        let (sound, mut peer) = UnixStream::pair().unwrap();
        drop(gone);
        let large = Rc::new(vec![7; 4 << 20]);
        let mut results = Vec::new();
        for _ in 0..2 {
            ring.push(0, full.as_fd(), Rc::clone(&large), 0);
        }
        ring.push(1, dead.as_fd(), Rc::clone(&large), 0);
        ring.push(2, sound.as_fd(), Rc::new(b"tick".to_vec()), 0);
        ring.complete(|result| results.push(result.map_err(|error| error.kind())))
            .unwrap();
        assert!(matches!(results[0], Ok(taken) if 0 < taken && taken < large.len()));
        assert_eq!(results[1], Err(io::ErrorKind::WouldBlock));
        assert_eq!(results[2], Err(io::ErrorKind::BrokenPipe));
        assert_eq!(results[3], Ok(4));
        let mut received = [0; 4];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"tick");
    }

    #[test]
    fn a_seat_serves_one_socket_after_another_and_keeps_none_open() {
        let mut ring = ring(1);
        for round in 0..3u8 {
            let (socket, mut peer) = UnixStream::pair().unwrap();
            // A socket that is kept open would never end.
            peer.set_read_timeout(Some(std::time::Duration::from_secs(5)))
                .unwrap();
            ring.seat(1, socket.as_fd());
            assert!(ring.seated[1], "kernels from 5.19 on have seats");
            ring.push(1, socket.as_fd(), Rc::new(vec![round]), 0);
            ring.complete(|result| assert_eq!(result.unwrap(), 1))
                .unwrap();
            ring.unseat(1);
            drop(socket);
            let mut received = Vec::new();
            peer.read_to_end(&mut received).unwrap();
            assert_eq!(received, [round]);
        }
        let (socket, _peer) = UnixStream::pair().unwrap();
        ring.seat(2, socket.as_fd());
        assert!(ring.seated.len() < 3, "there are two");
        ring.unseat(2);
    }

    #[test]
    fn a_ring_is_used_batch_after_batch() {
        let mut ring = ring(2);
        let (socket, mut peer) = UnixStream::pair().unwrap();
        for round in 0..100u8 {
            ring.push(0, socket.as_fd(), Rc::new(vec![round]), 0);
            ring.complete(|result| assert_eq!(result.unwrap(), 1))
                .unwrap();
            let mut received = [0];
            peer.read_exact(&mut received).unwrap();
            assert_eq!(received, [round]);
        }
        ring.complete(|_| unreachable!("nothing was pushed"))
            .unwrap();
    }
}
