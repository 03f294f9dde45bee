//! Connections that get the same bytes, and how far each of them is.
//!
//! ```text
//!   base              member              member, member, …
//!   │ frame │ frame │ frame │ frame │ frame │ frame │
//!   └── bytes, kept from the slowest member on ─────┘ end
//! ```
//!
//! A member is a position in the shared bytes. Whatever it is sent starts there, so that a short
//! send cannot break its stream.

use std::os::fd::{AsFd, OwnedFd};

use crate::{frame, ring::Outgoing};

/// Bytes that a member may be behind; whoever is further behind is cut off.
const BEHIND_BYTES_MAX: u64 = 64 << 20;

/// A subscriber.
pub struct Member {
    /// Where its bytes go.
    pub socket: OwnedFd,
    /// Its key in the server's table.
    pub connection: usize,
    /// The next byte it gets.
    position: u64,
    /// Whether its socket took less than it was given: epoll tells when it takes more.
    blocked: bool,
}

/// Connections with the same symbols.
#[derive(Default)]
pub struct Audience {
    members: Vec<Member>,
    bytes: Vec<u8>,
    base: u64,
    /// Whether something is to be sent.
    pub due: bool,
}

impl Audience {
    /// Takes a subscriber in, who gets what comes from now on, and returns its index.
    pub fn join(&mut self, socket: OwnedFd, connection: usize) -> usize {
        self.members.push(Member {
            socket,
            connection,
            position: self.end(),
            blocked: false,
        });
        self.members.len() - 1
    }

    /// Lets a subscriber go; the last one takes its index.
    ///
    /// Returns the key of the one that moved.
    pub fn leave(&mut self, index: usize) -> Option<usize> {
        self.members.swap_remove(index);
        self.members.get(index).map(|moved| moved.connection)
    }

    /// The subscriber at `index`.
    pub fn member(&self, index: usize) -> &Member {
        &self.members[index]
    }

    /// Appends a frame with `object`.
    pub fn append(&mut self, object: &[u8]) {
        if !self.members.is_empty() {
            frame::write_text(&mut self.bytes, object);
        }
    }

    /// The member's socket takes bytes again.
    pub fn unblock(&mut self, index: usize) {
        self.members[index].blocked = false;
    }

    /// Indices of those that are to be sent something.
    pub fn waiting(&self) -> impl Iterator<Item = usize> {
        let end = self.end();
        let waiting = move |member: &Member| !member.blocked && member.position < end;
        let members = self.members.iter().enumerate();
        members.filter_map(move |(index, member)| waiting(member).then_some(index))
    }

    /// All that the member lacks.
    pub fn outgoing(&self, index: usize) -> Outgoing<'_> {
        let member = &self.members[index];
        let from = (member.position - self.base) as usize;
        (member.socket.as_fd(), &self.bytes[from..])
    }

    /// The member's socket took so many bytes of what it lacks.
    pub fn took(&mut self, index: usize, bytes: usize) {
        let end = self.end();
        let member = &mut self.members[index];
        member.position += bytes as u64;
        // Dead sockets count as full ones: epoll tells of both.
        member.blocked = member.position < end;
    }

    /// Forgets what every member has.
    pub fn trim(&mut self) {
        let end = self.end();
        let positions = self.members.iter().map(|member| member.position);
        let slowest = positions.min().unwrap_or(end);
        let sent = (slowest - self.base) as usize;
        // Moving the rest to the front pays once it is the smaller part.
        if sent > self.bytes.len() / 2 || sent == self.bytes.len() {
            self.bytes.drain(..sent);
            self.base = slowest;
        }
        if end - slowest > BEHIND_BYTES_MAX {
            self.cut_off_slow(end);
        }
    }

    fn cut_off_slow(&mut self, end: u64) {
        for member in &mut self.members {
            if end - member.position > BEHIND_BYTES_MAX {
                // epoll tells of the end, and the connection leaves as any other.
                let _ = rustix::net::shutdown(&member.socket, rustix::net::Shutdown::Both);
                member.position = end;
            }
        }
    }

    fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }
}
