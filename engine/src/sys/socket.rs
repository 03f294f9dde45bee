//! A second view of a socket.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// Lets a publisher's task read from a socket that the event loop owns.
///
/// A duplicate would do the same safely, at the price of a second descriptor per connection, and
/// descriptors are what bounds how many clients a process serves.
#[derive(Debug)]
pub struct SocketView(RawFd);

impl SocketView {
    /// A view of `socket`, to be dropped together with it.
    pub fn of(socket: &impl AsRawFd) -> Self {
        Self(socket.as_raw_fd())
    }
}

impl AsFd for SocketView {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `borrow_raw` asks for a descriptor that stays open while it is borrowed. The one
        // user, a publisher's task, keeps view and socket as locals of one function, the view
        // declared later and so dropped first, and the borrow cannot outlive the view.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}
