//! Sends in batches: one `io_uring_enter(2)` for all of them. The only unsafe code here.

#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use io_uring::{IoUring, opcode, types::Fd};
use rustix::net::SendFlags;

/// Bytes for a socket.
pub type Outgoing<'a> = (BorrowedFd<'a>, &'a [u8]);

/// A ring for sends alone.
pub struct SendRing {
    ring: IoUring,
    entries: usize,
}

impl SendRing {
    /// A ring of the calling thread, which takes up to `entries` sends in a batch.
    ///
    /// # Errors
    ///
    /// Where the system denies io_uring.
    pub fn new(entries: u32) -> io::Result<Self> {
        let ring = IoUring::builder()
            // One thread uses it, and asks for its completions itself.
            .setup_single_issuer()
            .setup_defer_taskrun()
            // A request that the kernel rejects must not end the batch.
            .setup_submit_all()
            .build(entries)
            .map_err(|error| io::Error::new(error.kind(), format!("io_uring: {error}")))?;
        Ok(Self {
            ring,
            entries: entries as usize,
        })
    }

    /// Largest batch.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Sends a batch and leaves in `taken` what each socket took of it at once, bytes: 0 where it was
    /// full or dead.
    ///
    /// # Panics
    ///
    /// If the batch is larger than the ring. The process ends then, as it does where the kernel
    /// refuses the ring itself.
    pub fn send<'a>(&mut self, batch: impl Iterator<Item = Outgoing<'a>>, taken: &mut Vec<usize>) {
        let in_flight = AbortOnUnwind;
        taken.clear();
        let mut queue = self.ring.submission();
        for (socket, bytes) in batch {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let entry = opcode::Send::new(
                Fd(socket.as_raw_fd()),
                bytes.as_ptr(),
                u32::try_from(bytes.len()).expect("a backlog is far below 4 GiB"),
            )
            .flags(flags.bits() as i32)
            .build()
            .user_data(taken.len() as u64);
            // SAFETY: `entry` points to `bytes` and names `socket`, both borrowed for `'a`, which
            // outlives this call. The call does not end before the kernel has completed the
            // request: it returns only after as many completions as requests, and it does not
            // unwind, since `in_flight` ends the process instead.
            let pushed = unsafe { queue.push(&entry) };
            pushed.expect("a batch fits into the ring");
            taken.push(0);
        }
        drop(queue);
        let mut outstanding = taken.len();
        while outstanding > 0 {
            match self.ring.submit_and_wait(outstanding) {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => panic!("io_uring_enter: {error}"),
            }
            for completion in self.ring.completion() {
                taken[completion.user_data() as usize] =
                    usize::try_from(completion.result()).unwrap_or(0);
                outstanding -= 1;
            }
        }
        std::mem::forget(in_flight);
    }
}

/// Whether `io_uring_enter(2)` wants to be called again.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, ResourceBusy, WouldBlock};
    matches!(error.kind(), Interrupted | ResourceBusy | WouldBlock)
}

/// Stands for requests that point to borrowed memory: unwinding past them would free it under the
/// kernel's eyes.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::fd::AsFd, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn each_send_is_told_what_its_socket_took() {
        let mut ring = SendRing::new(4).unwrap();
        let (full, _reader) = UnixStream::pair().unwrap();
        let (dead, gone) = UnixStream::pair().unwrap();
        let (sound, mut peer) = UnixStream::pair().unwrap();
        drop(gone);
        let large = vec![7; 4 << 20];
        let mut taken = Vec::new();
        for round in 0..100u8 {
            let tick = [round; 4];
            let batch: [Outgoing; 3] = [
                (full.as_fd(), &large),
                (dead.as_fd(), &large),
                (sound.as_fd(), &tick),
            ];
            ring.send(batch.into_iter(), &mut taken);
            let expected_full = if round == 0 { 1..large.len() } else { 0..1 };
            assert!(expected_full.contains(&taken[0]), "{taken:?}");
            assert_eq!(taken[1..], [0, 4]);
            let mut received = [0; 4];
            peer.read_exact(&mut received).unwrap();
            assert_eq!(received, tick);
        }
    }
}
