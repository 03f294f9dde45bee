//! Flushing: what is queued becomes one send per connection, a batch of sends at a time.

use std::{io, os::fd::AsFd, rc::Rc};

use tickwire_proto::close::CloseReason;

use super::{
    Floor,
    connection::Connection,
    connection_at, encode,
    outbox::Assembly,
    sends::{Buffer, Send, Sent, Unsent},
};
use crate::clock::Millis;

/// Shortest time between two cursors to one connection, ms.
const CURSOR_INTERVAL_MS: u64 = 1_000;

impl Floor {
    /// Sends to connections that have something for them, who waits longest first, at most
    /// `sends_per_turn`.
    ///
    /// Who has to wait for the next turn gets what comes meanwhile in the same send: so a floor
    /// sends at once while it keeps up, and gathers more per send the more there is to do.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses the ring.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut completed = 0;
        // Marked again on the way, a connection is served in the next turn: two sends of one
        // connection in the same batch could not know whether the first was taken whole.
        for _ in 0..self.dirty.len() {
            let Some((index, generation)) = self.dirty.pop_front() else {
                break;
            };
            self.flush_connection(index, generation);
            if completed + self.sends.len() >= self.config.sends_per_turn {
                break;
            }
            if self.sends.is_full() {
                completed += self.sends.len();
                self.complete_sends()?;
            }
        }
        self.complete_sends()
    }

    fn flush_connection(&mut self, index: u32, generation: u32) {
        let now = self.now;
        let Some(connection) = connection_at(&mut self.connections, index, generation) else {
            return;
        };
        connection.dirty = false;
        connection.holding = false;
        if let Some(audience) = connection.outbox.listen() {
            self.audiences.listen(audience, (index, generation));
        }
        // Asked before whether the socket is full: that of a client that reads nothing always is.
        let over = connection.outbox.own_bytes() > self.config.queued_bytes_max;
        if over && connection.closing.is_none() {
            connection.outbox.control_mut().clear();
            self.close(index, CloseReason::SlowConsumer);
            return;
        }
        let is_empty = connection.outbox.is_empty();
        if is_empty {
            // What was held is gone, with its entitlement: a hold of nothing would never end.
            connection.held_since = None;
        }
        if let Some(unsent) = connection.unsent.take_if(|unsent| unsent.writable) {
            self.sends
                .push(index, connection.socket.as_fd(), (*unsent).into());
            return;
        }
        if connection.unsent.is_some() || is_empty {
            return;
        }
        let was_held = connection.held_since.is_some();
        if connection.closing.is_none() && Self::holds(connection, now, self.config.hold_bytes_max)
        {
            connection.holding = true;
            if !was_held && let Some(until) = connection.held_until() {
                self.holds.add(until, index, connection.generation);
            }
            if connection.outbox.control().is_empty() {
                return;
            }
            self.send_control(index);
            return;
        }
        if Self::is_cursor_due(connection, now) {
            self.queue_cursor(index);
        }
        self.send(index);
        let connection = &self.connections[index as usize];
        if connection.seeks_audience && connection.outbox.is_empty() {
            self.find_audience(index);
        }
    }

    /// Whether the client's latency budget lets its ticks wait for more.
    fn holds(connection: &mut Connection, now: Millis, hold_bytes_max: usize) -> bool {
        // An audience waits before it tells its members.
        let is_told = connection.max_delay_ms == 0 || connection.outbox.audience().is_some();
        if is_told || connection.outbox.is_control_only() {
            connection.held_since = None;
            return false;
        }
        connection.held_since.get_or_insert(now);
        let in_time = connection.held_until().is_some_and(|until| now < until);
        let holds = connection.outbox.waiting_bytes() < hold_bytes_max && in_time;
        if !holds {
            connection.held_since = None;
        }
        holds
    }

    /// Whether a cursor may follow the ticks: at most one a second.
    fn is_cursor_due(connection: &Connection, now: Millis) -> bool {
        let is_due = |(_, sent_at)| now.since(sent_at) >= CURSOR_INTERVAL_MS;
        connection.cursor.is_none_or(is_due)
            && connection.closing.is_none()
            && !connection.outbox.is_control_only()
    }

    /// Queues a cursor where one holds and says more than the last.
    pub(super) fn queue_cursor(&mut self, index: u32) {
        let (floor_at, now) = (self.at, self.now);
        let connection = &mut self.connections[index as usize];
        let position = connection.cursor_position(floor_at);
        let unfinished = connection.is_joining() || connection.outbox.is_lagging();
        let says_more = connection.cursor.is_none_or(|(last, _)| position > last);
        if unfinished || !says_more || connection.selections.len() == 0 {
            return;
        }
        connection.cursor = Some((position, now));
        let format = connection.format;
        let mut frame = Vec::with_capacity(80);
        encode::write_cursor(&mut frame, format, &self.cursor_at(position));
        self.queue_frame(index, frame);
    }

    fn send_control(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        connection.liveness.sent(self.now);
        let mut buffer = self.pool.take();
        connection.outbox.take_control(Rc::make_mut(&mut buffer));
        self.start_write(index, buffer);
    }

    fn send(&mut self, index: u32) {
        let now = self.now;
        let connection = &mut self.connections[index as usize];
        if !connection.outbox.is_ping_only() {
            connection.liveness.sent(now);
        }
        let mut assembly = Assembly {
            format: connection.format,
            encoder: &mut self.encoder,
            rows: &mut self.rows,
            tape: &self.tape,
            bytes_max: self.config.send_bytes_max,
        };
        let pool = &mut self.pool;
        let shared =
            connection
                .outbox
                .assemble_shared(&mut self.shared, || pool.take(), &mut assembly);
        let (buffer, assembled) = shared.unwrap_or_else(|| {
            let mut buffer = pool.take();
            let assembled = connection
                .outbox
                .assemble(Rc::make_mut(&mut buffer), &mut assembly);
            (buffer, assembled)
        });
        self.counts.delivered_ticks += assembled.ticks;
        self.counts.dropped_ticks += assembled.lost;
        self.start_write(index, buffer);
    }

    fn start_write(&mut self, index: u32, buffer: Buffer) {
        let connection = &mut self.connections[index as usize];
        if buffer.is_empty() {
            self.pool.give_back(buffer);
            return;
        }
        self.counts.sends += 1;
        self.counts.sent_bytes += buffer.len() as u64;
        let send = Send::new(buffer, connection.is_settled());
        self.sends.push(index, connection.socket.as_fd(), send);
    }

    /// Hands the batch to the kernel, and looks what became of each send.
    fn complete_sends(&mut self) -> io::Result<()> {
        self.shared.clear();
        let mut tried = std::mem::take(&mut self.tried);
        self.sends.complete(&mut tried)?;
        for sent in tried.drain(..) {
            let index = sent.connection;
            match sent.outcome(self.now) {
                Sent::All { buffer, is_settled } => {
                    self.pool.give_back(buffer);
                    if !is_settled {
                        self.sent(index);
                    }
                }
                Sent::Part(unsent) => self.wait_for_room(index, unsent),
                Sent::Failed => self.drop_connection(index, CloseReason::PeerGone),
            }
        }
        self.tried = tried;
        Ok(())
    }

    /// A send was taken whole: the next may follow.
    fn sent(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        if connection.outbox.is_empty() {
            if std::mem::take(&mut connection.resting) {
                connection.outbox.rest();
            }
            self.drained(index);
        } else {
            super::mark_dirty(&mut self.dirty, connection, index);
        }
        self.resume_joins(index);
    }

    /// The socket is full: unless it takes more, the connection is closed after `stall_s`.
    fn wait_for_room(&mut self, index: u32, unsent: Unsent) {
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        debug_assert!(connection.unsent.is_none(), "one send at a time");
        connection.unsent = Some(Box::new(unsent));
        let generation = connection.generation;
        let due = connection.deadline(&self.config);
        self.timers
            .arm(&mut connection.armed, due, index, generation);
        let watched = self
            .reader
            .watch_writable(&connection.socket, index, generation, true);
        if watched.is_err() {
            self.drop_connection(index, CloseReason::PeerGone);
        }
    }

    /// A socket that was full takes more.
    pub(super) fn take_writable(&mut self, index: u32, generation: u32) {
        let Some(connection) = connection_at(&mut self.connections, index, generation) else {
            return;
        };
        if let Some(unsent) = &mut connection.unsent {
            unsent.writable = true;
            super::mark_dirty(&mut self.dirty, connection, index);
        }
        let watched = self
            .reader
            .watch_writable(&connection.socket, index, generation, false);
        if watched.is_err() {
            self.drop_connection(index, CloseReason::PeerGone);
        }
    }
}
