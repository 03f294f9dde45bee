//! Ends of connections: politely with a close frame, or at once.

use rustix::net::Shutdown;
use tickwire_proto::{close::CloseReason, frame};

use super::{Floor, connection::Closing, deadlines::Release, encode, mark_dirty};
use crate::peer::goodbye::goodbye;

/// How long a closing connection may take to accept its last bytes and to close its own side, ms.
const CLOSE_WITHIN_MS: u64 = 3_000;

impl Floor {
    /// Says why and closes: what is queued is dropped, what a socket has begun to take is finished.
    pub(super) fn close(&mut self, index: u32, reason: CloseReason) {
        let mut last = Vec::new();
        frame::write_close(&mut last, reason.code(), reason.text());
        self.close_with(index, reason, &last);
    }

    /// Closes after the peer closed: its close has been echoed.
    pub(super) fn close_echoed(&mut self, index: u32) {
        self.close_with(index, CloseReason::Normal, &[]);
    }

    /// Sends `goodbye` behind all that is queued, then closes with 1001.
    pub(super) fn say_goodbye(&mut self, index: u32) {
        self.release_conflated(index, Release::All);
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        // What a lagging client is to get must not come behind the close frame.
        let format = connection.format;
        connection.outbox.settle_all(format, &mut self.rows);
        self.queue_cursor(index);
        let reason = CloseReason::Draining;
        let mut last = Vec::new();
        encode::write_json(&mut last, &goodbye(&self.config));
        frame::write_close(&mut last, reason.code(), reason.text());
        self.queue_frame(index, last);
        self.begin_closing(index, reason);
    }

    fn close_with(&mut self, index: u32, reason: CloseReason, last: &[u8]) {
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        if connection.closing.is_some() {
            return;
        }
        connection.outbox.abandon_queue();
        connection.outbox.control_mut().extend_from_slice(last);
        self.begin_closing(index, reason);
    }

    fn begin_closing(&mut self, index: u32, reason: CloseReason) {
        let by = self.now.after(CLOSE_WITHIN_MS);
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        connection.closing = Some(Box::new(Closing {
            reason,
            by,
            flushed: false,
        }));
        self.timers
            .arm(&mut connection.armed, by, index, connection.generation);
        mark_dirty(&mut self.dirty, connection, index);
        let drained = connection.outbox.is_empty() && connection.unsent.is_none();
        self.leave_everything(index);
        if drained {
            self.drained(index);
        }
    }

    /// Everything queued was handed to the kernel.
    pub(super) fn drained(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        let Some(closing) = &mut connection.closing else {
            return;
        };
        if !closing.flushed {
            closing.flushed = true;
            // The peer reads to the end and closes its side, which ends the connection; a close of
            // ours with bytes of the peer still unread would reset it and lose the close frame.
            if rustix::net::shutdown(&connection.socket, Shutdown::Write).is_err() {
                let reason = closing.reason;
                self.drop_connection(index, reason);
            }
        }
    }

    /// Ends the connection now.
    pub(super) fn drop_connection(&mut self, index: u32, reason: CloseReason) {
        self.leave_everything(index);
        let Some(connection) = self.connections.try_remove(index as usize) else {
            return;
        };
        self.tidying.postpone(self.now);
        self.reader.forget(&connection.socket);
        self.sends.unseat(index);
        self.desk
            .load
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        let reason = connection
            .closing
            .as_ref()
            .map_or(reason, |closing| closing.reason);
        self.metrics.connections.dec();
        self.metrics.closes(reason).inc();
        tracing::debug!(
            session = connection.slot.session(),
            reason = reason.label(),
            "closed"
        );
    }

    /// Takes the connection out of every table but that of connections.
    fn leave_everything(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        let members = connection.members.iter();
        let symbols: Vec<_> = members.map(|(symbol, _)| *symbol).collect();
        let joins: Vec<_> = connection.joins().chain(connection.replays()).collect();
        connection.under_way = None;
        let selectors = connection.selections.sorted();
        connection.conflated = None;
        for key in joins {
            self.joins.try_remove(key.0);
            self.runnable.retain(|own| *own != key);
        }
        for symbol in symbols {
            self.remove_member(index, symbol);
        }
        for (selector, _) in selectors {
            self.deselect(index, &selector);
        }
    }
}
