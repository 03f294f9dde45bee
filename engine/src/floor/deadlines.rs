//! What time brings: heartbeats, pings, expiry, conflation intervals, latency budgets, stalls.

use std::sync::Arc;

use tickwire_proto::{close::CloseReason, reply::Reply};

use super::{Floor, conflate::Conflated, connection_at, encode, mark_dirty, outbox::PING};
use crate::{clock::wall_ns, peer::liveness::Due};

/// Which of the held ticks go out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    /// Those whose interval is over.
    Due,
    /// All: the connection is about to end.
    All,
}

impl Floor {
    /// Carries out all that is due; returns whether anything was.
    pub(super) fn run_deadlines(&mut self) -> bool {
        let mut any = false;
        while let Some((deadline, index, generation)) = self.timers.pop_due(self.now) {
            any = true;
            let Some(connection) = self.connection(index, generation) else {
                continue;
            };
            if !connection.armed.fired(deadline) {
                continue;
            }
            self.run_due(index);
            let Some(connection) = connection_at(&mut self.connections, index, generation) else {
                continue;
            };
            let next = connection.deadline(&self.config);
            // Should a deadline ever stay due, it is looked at again a little later.
            let next = next.max(self.now.after(1));
            self.timers
                .arm(&mut connection.armed, next, index, generation);
        }
        any
    }

    /// Lets the flush serve whose latency budget is over; returns whether there were any.
    pub(super) fn end_holds(&mut self) -> bool {
        let idle = self.holds.skip_to(self.now) & self.audience_holds.skip_to(self.now);
        if idle {
            return false;
        }
        let mut due = std::mem::take(&mut self.held);
        self.audience_holds.take_due(self.now, &mut due);
        let mut any = !due.is_empty();
        for (audience, _) in due.drain(..) {
            self.end_audience_hold(audience);
        }
        self.holds.take_due(self.now, &mut due);
        any |= !due.is_empty();
        for (index, generation) in due.drain(..) {
            let now = self.now;
            let Some(connection) = connection_at(&mut self.connections, index, generation) else {
                continue;
            };
            // A hold that was ended by other means may have been followed by one that goes on.
            let is_over = connection.held_until().is_some_and(|until| now >= until);
            if is_over {
                mark_dirty(&mut self.dirty, connection, index);
            }
        }
        self.held = due;
        any
    }

    fn run_due(&mut self, index: u32) {
        let now = self.now;
        let config = Arc::clone(&self.config);
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        if let Some(closing) = connection.closing.as_deref().copied() {
            if now >= closing.by {
                self.drop_connection(index, closing.reason);
            }
            return;
        }
        if connection
            .stalled_since()
            .is_some_and(|since| now >= since.after(config.stall_s * 1_000))
        {
            self.close(index, CloseReason::SlowConsumer);
            return;
        }
        self.release_conflated(index, Release::Due);
        self.run_liveness(index);
    }

    /// Sends what `conflate` holds for the connection.
    pub(super) fn release_conflated(&mut self, index: u32, which: Release) {
        let now = self.now;
        let lag_soft_ticks = self.config.lag_soft_ticks;
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        let is_due = |conflation: &&mut Conflated| match which {
            Release::All => true,
            Release::Due => conflation.release_at().is_some_and(|at| now >= at),
        };
        let (mut released, mut dropped) = (0, 0);
        let conflated = connection.conflated.iter_mut();
        let conflated = conflated.flat_map(|conflated| conflated.values_mut());
        for conflation in conflated.filter(is_due) {
            for tick in conflation.release(now) {
                released += 1;
                self.metrics.conflated_ticks.inc_by(u64::from(tick.skipped));
                dropped += connection.outbox.push_tick(tick, lag_soft_ticks);
            }
        }
        self.metrics.dropped_ticks.inc_by(dropped);
        if released > 0 {
            mark_dirty(&mut self.dirty, connection, index);
        }
    }

    fn run_liveness(&mut self, index: u32) {
        while let Some(connection) = self.connections.get_mut(index as usize) {
            let Some(due) = connection.liveness.due(self.now, &self.config) else {
                return;
            };
            match due {
                Due::Heartbeat => {
                    connection.resting = true;
                    self.queue_cursor(index);
                    let mut frame = Vec::with_capacity(64);
                    encode::write_heartbeat(
                        &mut frame,
                        self.connections[index as usize].format,
                        wall_ns(),
                    );
                    self.queue_frame(index, frame);
                }
                Due::Ping => {
                    connection.outbox.control_mut().extend_from_slice(&PING);
                    mark_dirty(&mut self.dirty, connection, index);
                }
                Due::TokenExpiring => {
                    let in_s = connection.rights.exp.saturating_sub(crate::clock::wall_s());
                    encode::write_json(
                        connection.outbox.control_mut(),
                        &Reply::TokenExpiring { in_s },
                    );
                    mark_dirty(&mut self.dirty, connection, index);
                }
                Due::Close(reason) => {
                    self.close(index, reason);
                    return;
                }
            }
        }
    }
}
