//! When and how ticks are handed to the kernel.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::net::SendFlags;

use crate::{audience::Audience, directory::Directory, ring::SendRing};

/// When ticks go out.
#[derive(Clone, Copy)]
pub enum Pace {
    /// Each on its own, as it comes.
    Tick,
    /// Those of a publisher's message in one batch, a send each.
    Message,
    /// What came within the window in one batch, a send per connection.
    Window(Duration),
}

/// How sends reach the kernel.
pub enum Way {
    /// A system call each.
    Calls,
    /// A batch at a time.
    Ring(Box<SendRing>),
}

/// Where a connection sits.
#[derive(Clone, Copy)]
pub struct Seat {
    audience: usize,
    member: usize,
}

/// Everyone who listens, and what is on its way to them.
pub struct Fanout {
    directory: Directory,
    pace: Pace,
    way: Way,
    /// Audiences to be sent something.
    due: Vec<usize>,
    /// When that goes out, if there is a window.
    deadline: Option<Instant>,
    /// When the last batch began, until the sockets have been looked at again.
    batch_began: Option<Instant>,
    /// The sends of a batch, and what came of them: kept so that sending does not allocate.
    batch: Vec<Seat>,
    taken: Vec<usize>,
}

impl Fanout {
    /// Nobody listens yet.
    pub fn new(way: Way, pace: Pace) -> Self {
        Self {
            directory: Directory::default(),
            pace,
            way,
            due: Vec::new(),
            deadline: None,
            batch_began: None,
            batch: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Sends ticks of `symbols` to `socket` from now on.
    pub fn join(&mut self, symbols: &[&[u8]], socket: OwnedFd, connection: usize) -> Seat {
        let audience = self.directory.audience_of(symbols);
        let member = self.directory.audiences()[audience].join(socket, connection);
        Seat { audience, member }
    }

    /// Frees a seat and closes its socket. Returns who took the seat instead, if anyone did.
    pub fn leave(&mut self, seat: Seat) -> Option<usize> {
        self.directory.audiences()[seat.audience].leave(seat.member)
    }

    /// The audience of a seat, and the index of its member there.
    pub fn audience(&mut self, seat: Seat) -> (&mut Audience, usize) {
        (&mut self.directory.audiences()[seat.audience], seat.member)
    }

    /// Takes one tick.
    pub fn publish(&mut self, symbol: &[u8], object: &[u8]) {
        let own_sends = !matches!(self.pace, Pace::Window(_));
        let (listeners, audiences) = self.directory.listeners(symbol);
        // A second tick for the same connections is to be a send of its own, and a connection has
        // one send in a batch at most: else it could go on behind one that was cut short.
        if own_sends && listeners.iter().any(|&index| audiences[index].due) {
            self.send();
        }
        let (listeners, audiences) = self.directory.listeners(symbol);
        for &index in listeners {
            let audience = &mut audiences[index];
            audience.append(object);
            if !audience.due {
                audience.due = true;
                self.due.push(index);
            }
        }
        if let Pace::Tick = self.pace {
            self.send();
        }
        self.open_window();
    }

    /// The socket of a seat takes bytes again.
    pub fn unblock(&mut self, seat: Seat) {
        let audience = &mut self.directory.audiences()[seat.audience];
        audience.unblock(seat.member);
        if !audience.due {
            audience.due = true;
            self.due.push(seat.audience);
        }
        self.open_window();
    }

    /// The end of a publisher's message, or of a look at the sockets.
    pub fn end_message(&mut self) {
        if !matches!(self.pace, Pace::Window(_)) {
            self.send();
        }
    }

    /// Sends what is due by its window. Called after each look at the sockets.
    pub fn end_turn(&mut self) {
        self.batch_began = None;
        let Some(deadline) = self.deadline else {
            return self.end_message();
        };
        let now = Instant::now();
        if deadline <= now {
            self.send();
            self.deadline = None;
            self.batch_began = Some(now);
        }
    }

    /// How long the sockets may be waited for; `None`: for as long as nothing comes.
    pub fn patience(&self) -> Option<Duration> {
        if self.batch_began.is_some() {
            return Some(Duration::ZERO);
        }
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    fn open_window(&mut self) {
        if let (Pace::Window(window), None) = (self.pace, self.deadline) {
            // What is there right after a batch came while it was being sent: it has waited
            // already, and under load the next batch follows at once.
            let opened = self.batch_began.unwrap_or_else(Instant::now);
            self.deadline = Some(opened + window);
        }
    }

    /// Sends everything that is due.
    fn send(&mut self) {
        let audiences = self.directory.audiences();
        for &audience in &self.due {
            let waiting = audiences[audience].waiting();
            self.batch
                .extend(waiting.map(|member| Seat { audience, member }));
        }
        let batch_max = match &self.way {
            Way::Calls => 1,
            Way::Ring(ring) => ring.entries(),
        };
        for batch in self.batch.chunks(batch_max) {
            let outgoing = batch
                .iter()
                .map(|seat| audiences[seat.audience].outgoing(seat.member));
            match &mut self.way {
                Way::Ring(ring) => ring.send(outgoing, &mut self.taken),
                Way::Calls => {
                    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                    self.taken.clear();
                    self.taken.extend(outgoing.map(|(socket, bytes)| {
                        rustix::net::send(socket, bytes, flags).unwrap_or(0)
                    }));
                }
            }
            for (seat, &taken) in batch.iter().zip(&self.taken) {
                audiences[seat.audience].took(seat.member, taken);
            }
        }
        self.batch.clear();
        for audience in self.due.drain(..) {
            audiences[audience].due = false;
            audiences[audience].trim();
        }
    }
}
