//! Memberships: which connection is live on which symbol.

use tickwire_proto::{request::Mode, tick::Channel};

use super::{
    Floor, conflate::Conflated, join::JoinKey, mark_dirty, pieces::Piece, rows::Subscriber,
    selections::Options,
};
use crate::tape::SymbolId;

impl Floor {
    /// Makes the connection live on a symbol as of where the floor stands.
    pub(super) fn become_member(&mut self, index: u32, symbol: SymbolId, options: Options) {
        self.leave_audience(index);
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        let subscriber = Subscriber {
            connection: index,
            channels: options.channels,
            conflate: options.mode != Mode::Stream,
        };
        if let Mode::Conflate { interval_ms } = options.mode {
            connection
                .conflated
                .get_or_insert_default()
                .insert(symbol, Conflated::new(interval_ms));
        }
        let at = self.rows.join(symbol, subscriber, self.at);
        connection.members.insert(symbol, at);
        self.metrics.subscriptions.inc();
    }

    /// Ends the connection's membership after sending what is held for it.
    pub(super) fn end_membership(&mut self, index: u32, symbol: SymbolId) {
        let lag_soft_ticks = self.config.lag_soft_ticks;
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        if let Some(mut conflation) = connection.end_conflation(symbol) {
            for tick in conflation.release(self.now) {
                connection.outbox.push_tick(tick, lag_soft_ticks);
            }
        }
        if connection.outbox.is_lagging() {
            connection
                .outbox
                .settle(symbol, connection.format, &mut self.rows);
        }
        mark_dirty(&mut self.dirty, connection, index);
        self.remove_member(index, symbol);
    }

    /// Ends the connection's membership and drops what is queued or held of the symbol, since the
    /// client may no longer see it.
    pub(super) fn revoke_membership(&mut self, index: u32, symbol: SymbolId) {
        self.leave_audience(index);
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        connection.end_conflation(symbol);
        connection.outbox.forget(symbol);
        let joins: Vec<_> = connection.joins().chain(connection.replays()).collect();
        self.forget_joined(&joins, symbol);
        self.remove_member(index, symbol);
    }

    /// Leaves a symbol out of the requests under way.
    pub(super) fn forget_joined(&mut self, joins: &[JoinKey], symbol: SymbolId) {
        for key in joins {
            if let Some(join) = self.joins.get_mut(key.0) {
                join.forget(symbol);
            }
        }
    }

    pub(super) fn remove_member(&mut self, index: u32, symbol: SymbolId) {
        self.leave_audience(index);
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        let Some(at) = connection.members.remove(&symbol) else {
            return;
        };
        self.metrics.subscriptions.dec();
        self.leave_row(symbol, at);
    }

    /// Strikes a symbol's subscriber at `at` off; who moves into its place learns it.
    pub(super) fn leave_row(&mut self, symbol: SymbolId, at: u32) {
        let moved = self.rows.leave(symbol, at);
        if let Some(moved) = moved.and_then(|index| self.connections.get_mut(index as usize)) {
            moved.members.insert(symbol, at);
        }
    }

    /// Puts a symbol under whatever subscription governs it now, after the one that did has gone:
    /// the next takes over with a `start` and without a snapshot.
    pub(super) fn regovern(&mut self, index: u32, symbol: SymbolId) {
        let name = self.rows.name(symbol);
        let Some(connection) = self.connections.get(index as usize) else {
            return;
        };
        let governing = connection
            .selections
            .governing(&name, connection.rights.symbols());
        self.end_membership(index, symbol);
        if let Some((_, options)) = governing {
            self.start_live(index, symbol, options);
        }
    }

    /// Sends a `start` and goes live at once, without a snapshot.
    pub(super) fn start_live(&mut self, index: u32, symbol: SymbolId, options: Options) {
        let account = self.rows.account_at(symbol, self.at);
        let mut piece = Piece::default();
        let Some(connection) = self.connections.get(index as usize) else {
            return;
        };
        let (format, channels) = (connection.format, options.channels);
        if Channel::BOTH
            .into_iter()
            .any(|channel| account.last_of(channel, channels).is_some())
        {
            self.write_opening(&mut piece.bytes, format, symbol, &account, channels);
            piece.about(symbol);
        }
        self.queue_piece(index, piece);
        self.become_member(index, symbol, options);
    }

    /// Queues frames of the connection's own, unless there are none.
    pub(super) fn queue_piece(&mut self, index: u32, piece: Piece) {
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return;
        };
        if !piece.bytes.is_empty() {
            connection.outbox.push_piece(piece);
            mark_dirty(&mut self.dirty, connection, index);
        }
    }

    /// Queues a frame that is about no symbol.
    pub(super) fn queue_frame(&mut self, index: u32, frame: Vec<u8>) {
        self.queue_piece(index, Piece::of_nobody(frame));
    }
}
