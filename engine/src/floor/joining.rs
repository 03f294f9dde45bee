//! Running joins: which one goes on, for how long, and what its end brings.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tickwire_proto::{
    cursor::Cursor,
    reply::{Reply, Start},
    tick::{Channel, Channels, FeedState, Marks},
    upgrade::Subprotocol,
};

use super::{
    Floor, encode,
    join::{Join, JoinKey, Progress, Purpose, Stage, Walk},
    pieces::Piece,
    rows::Account,
    selections::Options,
};
use crate::tape::{Position, SymbolId};

/// Bytes of own frames in an outbox above which a join waits for the socket to drain.
const QUEUED_BYTES_HIGH: usize = 64 * 1024;

/// What a slice of work left a join in.
#[derive(PartialEq, Eq)]
enum Outcome {
    Done,
    /// It waits for the socket.
    Blocked,
    /// It can go on in its next slice.
    Ready,
}

impl Floor {
    /// Adds a join behind those of its connection.
    pub(super) fn add_join(&mut self, join: Join) {
        let index = join.connection;
        let is_replay = join.replay_id().is_some();
        let key = JoinKey(self.joins.insert(join));
        let Some(connection) = self.connections.get_mut(index as usize) else {
            self.joins.remove(key.0);
            return;
        };
        let under_way = connection.under_way.get_or_insert_default();
        let runs = if is_replay {
            under_way.replays.push_back(key);
            under_way.replays.len() <= self.config.replays_per_connection
        } else {
            under_way.joins.push_back(key);
            under_way.joins.len() == 1
        };
        if runs {
            self.runnable.push_back(key);
        }
    }

    /// Gives the first `replays_max` joins that can go on their slices, within the turn's budget.
    ///
    /// Returns whether some are left that could go on.
    pub(super) fn run_joins(&mut self) -> bool {
        if self.runnable.is_empty() {
            return false;
        }
        let until = Instant::now() + Duration::from_micros(self.config.replay_us_per_turn);
        let mut at = 0;
        while !self.runnable.is_empty() {
            let under_way = self.runnable.len().min(self.config.replays_max);
            at %= under_way;
            match self.run_slice(self.runnable[at]) {
                Outcome::Done | Outcome::Blocked => {
                    self.runnable.remove(at);
                }
                Outcome::Ready => at += 1,
            }
            if Instant::now() >= until {
                break;
            }
        }
        !self.runnable.is_empty()
    }

    /// Lets the connection's waiting joins go on, since its socket has drained.
    pub(super) fn resume_joins(&mut self, index: u32) {
        let Some(connection) = self.connections.get(index as usize) else {
            return;
        };
        if connection.outbox.frame_bytes() >= QUEUED_BYTES_HIGH {
            return;
        }
        let replays = connection
            .replays()
            .take(self.config.replays_per_connection);
        for key in connection.joins().take(1).chain(replays) {
            if !self.runnable.contains(&key) {
                self.runnable.push_back(key);
            }
        }
    }

    /// One piece of one join.
    fn run_slice(&mut self, key: JoinKey) -> Outcome {
        let Some(mut join) = self.joins.try_remove(key.0) else {
            return Outcome::Done;
        };
        let index = join.connection;
        let Some(connection) = self.connection(index, join.generation) else {
            return Outcome::Done;
        };
        if connection.closing.is_some() {
            return Outcome::Done;
        }
        if connection.outbox.frame_bytes() >= QUEUED_BYTES_HIGH {
            self.put_back(key, join);
            return Outcome::Blocked;
        }
        let done = match join.purpose {
            Purpose::Subscribe { snapshot } => self.run_subscribe(&mut join, snapshot),
            Purpose::Resume(_) | Purpose::Replay { .. } => self.run_history(&mut join),
        };
        if done {
            self.finish(key, &join);
            return Outcome::Done;
        }
        self.put_back(key, join);
        Outcome::Ready
    }

    /// A join keeps its key while it is out for a slice: nothing is inserted meanwhile.
    fn put_back(&mut self, key: JoinKey, join: Join) {
        let returned = self.joins.insert(join);
        debug_assert_eq!(returned, key.0, "the slab hands out the place vacated last");
    }

    /// Takes a finished join off its connection's list and lets the next one run.
    fn finish(&mut self, key: JoinKey, join: &Join) {
        let config = Arc::clone(&self.config);
        let Some(connection) = self.connection(join.connection, join.generation) else {
            return;
        };
        connection.end_request(key);
        let next = if join.replay_id().is_some() {
            connection.replays().nth(config.replays_per_connection - 1)
        } else {
            connection.joins().next()
        };
        let joined_all = join.replay_id().is_none() && next.is_none();
        if joined_all {
            // The next cursor is news even where its position is that of the last: only now does
            // it hold for what was joined.
            connection.cursor = None;
        }
        if let Some(next) = next {
            self.runnable.push_back(next);
        }
        // None was sent meanwhile, so the first follows at once.
        if joined_all {
            self.queue_cursor(join.connection);
        }
    }

    /// The options under which the request still governs the symbol; `None` where a later request
    /// or a lost entitlement has taken it away.
    fn still_governs(&self, join: &Join, symbol: SymbolId) -> Option<Options> {
        let connection = self.connections.get(join.connection as usize)?;
        let name = self.rows.name(symbol);
        let (_, options) = connection
            .selections
            .governing(&name, connection.rights.symbols())?;
        (options.request == join.request).then_some(options)
    }

    /// Visits symbols until the piece is full: each is live as soon as it is visited.
    fn run_subscribe(&mut self, join: &mut Join, snapshot: bool) -> bool {
        let mut piece = Piece::default();
        let mut queued = 0;
        while join.visited < join.plan.len() {
            let symbol = join.plan[join.visited].0;
            join.visited += 1;
            let Some(options) = self.still_governs(join, symbol) else {
                continue;
            };
            self.end_membership(join.connection, symbol);
            let format = self.connections[join.connection as usize].format;
            let account = self.rows.account_at(symbol, self.at);
            self.write_opening(&mut piece.bytes, format, symbol, &account, options.channels);
            if snapshot {
                self.write_snapshot(&mut piece.bytes, format, symbol, &account, options.channels);
            }
            piece.about(symbol);
            self.become_member(join.connection, symbol, options);
            if piece.bytes.len() >= 16 * 1024 {
                queued += piece.bytes.len();
                self.queue_piece(join.connection, std::mem::take(&mut piece));
                if queued >= QUEUED_BYTES_HIGH {
                    break;
                }
            }
        }
        self.queue_piece(join.connection, piece);
        join.visited == join.plan.len()
    }

    /// Writes a symbol's `start`, and its `feed` where that is stale.
    pub(super) fn write_opening(
        &mut self,
        out: &mut Vec<u8>,
        format: Subprotocol,
        symbol: SymbolId,
        account: &Account,
        channels: Channels,
    ) {
        let start = Start {
            symbol: self.rows.name(symbol),
            epoch: account.epoch,
            trade: account.last_of(Channel::Trade, channels),
            quote: account.last_of(Channel::Quote, channels),
            replay: None,
        };
        let wire_id = self.rows.wire_id(symbol, account.epoch);
        let opens = start.trade.is_some() || start.quote.is_some();
        if !opens {
            return;
        }
        encode::write_start(out, format, &start, wire_id);
        if self.tape.feed(symbol) == Some(FeedState::Stale) {
            encode::write_feed(out, format, start.symbol, FeedState::Stale, wire_id);
        }
    }

    /// Writes the last tick of each channel, as of where the floor stands.
    fn write_snapshot(
        &mut self,
        out: &mut Vec<u8>,
        format: Subprotocol,
        symbol: SymbolId,
        account: &Account,
        channels: Channels,
    ) {
        let marks = Marks {
            snapshot: true,
            ..Marks::default()
        };
        let name = self.rows.name(symbol);
        for channel in channels.iter() {
            let newest = self.tape.newest_tick_before(symbol, channel, self.at);
            let Ok(Some(record)) = newest else { continue };
            if record.epoch == account.epoch {
                let wire_id = self.rows.wire_id(symbol, record.epoch);
                encode::write_tick(out, format, &record, &name, wire_id, &marks);
                self.metrics.snapshot_ticks.inc();
            }
        }
    }

    /// Carries a resume or a replay on by one piece; true once it is complete.
    fn run_history(&mut self, join: &mut Join) -> bool {
        let mut piece = Piece::default();
        if join.visited == 0 && matches!(join.stage, Stage::Visit) {
            join.mark = self.at;
            if let Purpose::Replay { named, .. } = &join.purpose {
                join.plan = self.plan_entitled(join.connection, named);
            }
        }
        let mut done = false;
        while piece.bytes.len() < 16 * 1024 && !done {
            if matches!(join.stage, Stage::Visit) {
                if let Some((symbol, _)) = join.plan.get(join.visited) {
                    self.enter_symbol(join, *symbol);
                    continue;
                }
                if join.replay_id().is_some() {
                    done = true;
                } else {
                    join.stage = Stage::Follow(join.mark);
                }
            }
            let format = self.connections[join.connection as usize].format;
            let mut walk = Walk {
                tape: &self.tape,
                rows: &mut self.rows,
                format,
                out: &mut piece,
                ticks: 0,
                floor_at: self.at,
            };
            let progress = if done {
                Progress::Reached
            } else {
                join.step(&mut walk)
            };
            if progress == Progress::Reached {
                join.end(&mut walk);
                done = true;
            }
            self.metrics.replayed_ticks.inc_by(walk.ticks);
        }
        if done {
            self.write_replayed(join, &mut piece.bytes);
            piece.about_nobody();
        }
        self.queue_piece(join.connection, piece);
        if done && join.replay_id().is_none() {
            self.go_live(join);
        }
        done
    }

    /// Begins a symbol's walk, or passes over it where the request no longer governs it.
    fn enter_symbol(&mut self, join: &mut Join, symbol: SymbolId) {
        if join.replay_id().is_none() {
            if self.still_governs(join, symbol).is_none() {
                join.plan.remove(join.visited);
                return;
            }
            // What the client held before ends here; its account goes on from its own point.
            self.end_membership(join.connection, symbol);
        }
        join.enter(&self.tape, &self.rows);
    }

    fn write_replayed(&self, join: &Join, out: &mut Vec<u8>) {
        let cursor = join.replay_id().map(|_| self.cursor_at(join.mark));
        encode::write_json(
            out,
            &Reply::Replayed {
                id: join.id,
                cursor,
            },
        );
    }

    /// The symbols of a `since` go live together, where the floor stands.
    ///
    /// What a later request has taken over meanwhile goes live under the options of this one, until
    /// that request visits it: so its account goes on without a hole.
    fn go_live(&mut self, join: &Join) {
        let own = Options {
            channels: join.channels,
            mode: join.mode,
            request: join.request,
        };
        for (symbol, _) in &join.plan {
            let governed = self.still_governs(join, *symbol);
            let queued = || {
                self.is_being_joined(join.connection, *symbol)
                    .then_some(own)
            };
            if let Some(options) = governed.or_else(queued) {
                self.end_membership(join.connection, *symbol);
                self.become_member(join.connection, *symbol, options);
                self.begin_interval(join.connection, *symbol);
            }
        }
    }

    /// The replay's latest tick has just gone out: the first live one waits its interval.
    fn begin_interval(&mut self, index: u32, symbol: SymbolId) {
        let now = self.now;
        if let Some(connection) = self.connections.get_mut(index as usize)
            && let Some(conflation) = connection.conflation(symbol)
        {
            conflation.begin_interval(now);
        }
    }

    /// A cursor for a position that the floor has reached.
    ///
    /// Its time is that of the record which stands there, where the floor has gone beyond it: a
    /// held tick may be a minute old, and another host goes by the time alone.
    pub(super) fn cursor_at(&self, position: Position) -> Cursor {
        let behind = (position < self.at).then(|| self.tape.read(position));
        let admitted_ns = match behind {
            Some(Ok(record)) => record.admitted_ns,
            _ => self.admitted_ns,
        };
        Cursor {
            tape: self.tape.id(),
            position: position.0,
            admitted_ns,
        }
    }
}
