//! Flushing: what the turn queued becomes one write per connection.

use std::rc::Rc;

use tickwire_proto::close::CloseReason;

use super::{Floor, connection::Connection, encode, outbox::Assembly};
use crate::clock::Millis;

/// Shortest time between two cursors to one connection, ms.
const CURSOR_INTERVAL_MS: u64 = 1_000;

impl Floor {
    /// Starts a write for every connection that has something to send and none in flight.
    pub(super) fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            self.flush_connection(index);
        }
        // Marked again while flushing: by a write that was complete at once.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
        self.shared.clear();
    }

    fn flush_connection(&mut self, index: u32) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        connection.dirty = false;
        // Asked before whether a write is in flight: a client that reads nothing keeps one there.
        let over = connection.outbox.own_bytes() > self.config.queued_bytes_max;
        if over && connection.closing.is_none() {
            connection.outbox.control.clear();
            self.close(index, CloseReason::SlowConsumer);
            return;
        }
        if connection.outbox.is_empty() {
            // What was held is gone, with its entitlement: a hold of nothing would never end.
            connection.held_since = None;
        }
        if connection.sender.is_busy() || connection.outbox.is_empty() {
            return;
        }
        if connection.closing.is_none() && Self::holds(connection, now, self.config.hold_bytes_max)
        {
            let due = connection.deadline(&self.config);
            self.timers
                .arm(&mut connection.armed, due, index, connection.generation);
            if connection.outbox.control.is_empty() {
                return;
            }
            self.send_control(index);
            return;
        }
        self.append_cursor(index);
        self.send(index);
    }

    /// Whether the client's latency budget lets its ticks wait for more.
    fn holds(connection: &mut Connection, now: Millis, hold_bytes_max: usize) -> bool {
        // A tick is some 150 bytes in JSON; near enough for a bound on how much may wait.
        const TICK_BYTES: usize = 160;
        if connection.max_delay_ms == 0 || connection.outbox.is_control_only() {
            connection.held_since = None;
            return false;
        }
        let bytes = connection.outbox.frame_bytes() + connection.outbox.ticks() * TICK_BYTES;
        let since = *connection.held_since.get_or_insert(now);
        let holds = bytes < hold_bytes_max && now < since.after(u64::from(connection.max_delay_ms));
        if !holds {
            connection.held_since = None;
        }
        holds
    }

    /// Adds a cursor behind the ticks, at most one a second.
    fn append_cursor(&mut self, index: u32) {
        let connection = &self.connections[index as usize];
        let is_due = |(_, sent_at)| self.now.since(sent_at) >= CURSOR_INTERVAL_MS;
        if connection.closing.is_none()
            && !connection.outbox.is_control_only()
            && connection.cursor.is_none_or(is_due)
        {
            self.queue_cursor(index);
        }
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
        Rc::make_mut(&mut buffer).append(&mut connection.outbox.control);
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
        self.metrics.delivered_ticks.inc_by(assembled.ticks);
        self.metrics.dropped_ticks.inc_by(assembled.lost);
        self.start_write(index, buffer);
    }

    fn start_write(&mut self, index: u32, buffer: Rc<Vec<u8>>) {
        let connection = &mut self.connections[index as usize];
        if buffer.is_empty() {
            self.pool.give_back(buffer);
            return;
        }
        self.metrics.sends.inc();
        self.metrics.sent_bytes.inc_by(buffer.len() as u64);
        match connection.sender.send(buffer) {
            Some(outcome) => self.written(index, outcome),
            None => self.watch_for_stall(index),
        }
    }

    /// A write is under way: unless it moves, the connection is closed after `stall_s`.
    fn watch_for_stall(&mut self, index: u32) {
        let now = self.now;
        let connection = &mut self.connections[index as usize];
        if connection.stalled_since.is_none() {
            connection.stalled_since = Some(now);
            let due = connection.deadline(&self.config);
            self.timers
                .arm(&mut connection.armed, due, index, connection.generation);
        }
    }

    /// Looks after the writes that completed since the last turn.
    pub(super) fn take_completions(&mut self) -> bool {
        super::sender::take_completions(&mut self.moved);
        let moved = std::mem::take(&mut self.moved);
        let any = !moved.is_empty();
        for index in &moved {
            let Some(connection) = self.connections.get_mut(*index as usize) else {
                continue;
            };
            let outcome = connection.sender.progress();
            if connection.sender.take_written() > 0 {
                connection.stalled_since = connection.sender.is_busy().then_some(self.now);
            }
            if let Some(outcome) = outcome {
                self.written(*index, outcome);
            }
        }
        self.moved = moved;
        self.moved.clear();
        any
    }

    /// A write ended: the next may begin.
    fn written(&mut self, index: u32, outcome: std::io::Result<Rc<Vec<u8>>>) {
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        connection.stalled_since = None;
        match outcome {
            Ok(buffer) => {
                self.pool.give_back(buffer);
                if connection.outbox.is_empty() {
                    self.drained(index);
                } else {
                    super::mark_dirty(&mut self.dirty, connection, index);
                }
                self.resume_joins(index);
            }
            Err(_) => self.drop_connection(index, CloseReason::PeerGone),
        }
    }
}
