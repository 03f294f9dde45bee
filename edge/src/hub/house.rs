//! What is looked after once a second: cursors, tokens, clients that do not read, and subscriptions
//! that nobody needs any more.

use std::time::{Duration, Instant};

use tickwire_proto::{close::CloseReason, reply::Reply};

use super::{Hub, Order, State, Wakers, block::Item, filter::Filter};

/// How long a client that was cut off may take to go before its socket is closed.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// How often clients get a cursor while nothing of theirs comes, in seconds.
const QUIET_BEATS: u32 = 5;

impl Hub {
    /// Looks after everything that changes slowly, at `now_s` seconds since 1970 UTC.
    pub fn keep_house(&self, now: Instant, now_s: u64) {
        let mut wakers = Wakers::default();
        let mut state = self.lock();
        state.tell_cursors(&mut wakers);
        state.look_at_clients(now, now_s, &mut wakers);
        state.age(now);
        state.start_replays();
        state.show();
        self.announce(&state);
    }

    /// Sends everyone away; `within` is the time over which they are to come back.
    pub fn drain(&self, within: Duration) {
        let mut wakers = Wakers::default();
        let mut state = self.lock();
        state.draining = true;
        // Those that were cut begin elsewhere, and those that wait are answered as they stand.
        let parked: Vec<usize> = state
            .parked
            .drain()
            .map(|(_, (client, _))| client)
            .collect();
        for client in parked {
            state.leave(client);
        }
        let cursor = state.cursor_at(state.history.head());
        let has_cursor = !state.cursors.is_empty();
        for (_, member) in &state.clients {
            if member.is_poll {
                wakers.add(member.outbox.wake());
                continue;
            }
            if has_cursor && member.takes_cursors() {
                wakers.add(member.outbox.push_cursor(Item::Cursor(cursor)));
            }
            let after_ms = rand::random_range(0..=within.as_millis() as u64);
            let goodbye = Item::goodbye(CloseReason::Draining.label(), Some(after_ms));
            state.metrics.ended(CloseReason::Draining);
            wakers.add(member.outbox.end(Some(goodbye)));
        }
    }

    /// Ends the stream with this session: a newer one of the same user takes its place.
    pub fn replace(&self, session: u64) {
        let mut wakers = Wakers::default();
        let state = self.lock();
        let goodbye = Item::goodbye(CloseReason::Replaced.label(), None);
        for (_, member) in &state.clients {
            if member.session == session {
                state.metrics.ended(CloseReason::Replaced);
                wakers.add(member.outbox.end(Some(goodbye.clone())));
            }
        }
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.lock().clients.len()
    }

    /// Whether the engine has been reached, and is now.
    pub fn is_connected(&self) -> bool {
        self.lock().connected
    }
}

impl State {
    /// Gives everyone who has everything up to now the cursor that says so.
    fn tell_cursors(&mut self, wakers: &mut Wakers) {
        self.told_beats_ago += 1;
        if self.cursors.is_empty() {
            return;
        }
        let cursor = self.cursor_at(self.history.head());
        let has_moved = self.told.is_none_or(|told| told.own != cursor.own);
        // Where nothing of this edge's has come, the engine's position moves all the same: whoever
        // goes on elsewhere is to find it in that history.
        let is_old = self.told != Some(cursor) && self.told_beats_ago >= QUIET_BEATS;
        if !has_moved && !is_old {
            return;
        }
        (self.told, self.told_beats_ago) = (Some(cursor), 0);
        for (_, member) in &self.clients {
            if member.takes_cursors() {
                wakers.add(member.outbox.push_cursor(Item::Cursor(cursor)));
            }
        }
    }

    fn look_at_clients(&mut self, now: Instant, now_s: u64, wakers: &mut Wakers) {
        let config = &self.config;
        let stall = Duration::from_secs(config.stall_s);
        for (_, member) in &mut self.clients {
            let outbox = &member.outbox;
            self.metrics.dropped_ticks.inc_by(outbox.take_dropped());
            // A poll is short, and a parked one takes nothing.
            if member.is_poll {
                continue;
            }
            if outbox.is_ended() {
                let is_stuck = member
                    .cut_at
                    .is_some_and(|cut| now.saturating_duration_since(cut) >= GONE_WITHIN);
                if let Some(socket) = member.socket.take_if(|_| is_stuck) {
                    socket.shutdown();
                }
                continue;
            }
            let is_stalled = outbox
                .stalled_since()
                .is_some_and(|since| now.saturating_duration_since(since) >= stall);
            if is_stalled || outbox.is_over() {
                self.metrics.ended(CloseReason::SlowConsumer);
                member.cut_at = Some(now);
                let goodbye = Item::goodbye(CloseReason::SlowConsumer.label(), None);
                wakers.add(outbox.cut(Some(goodbye)));
            } else if now_s >= member.exp.saturating_add(config.token_grace_s) {
                self.metrics.ended(CloseReason::TokenExpired);
                let goodbye = Item::goodbye(CloseReason::TokenExpired.label(), None);
                wakers.add(outbox.end(Some(goodbye)));
            } else if !member.told_expiring
                && now_s.saturating_add(config.token_expiring_s) >= member.exp
            {
                member.told_expiring = true;
                let in_s = member.exp.saturating_sub(now_s);
                let expiring = Item::reply("token_expiring", &Reply::TokenExpiring { in_s });
                wakers.add(outbox.push_own(expiring));
            }
        }
    }

    fn age(&mut self, now: Instant) {
        let expired = self.parked.extract_if(|_, (_, until)| now >= *until);
        let expired: Vec<usize> = expired.map(|(_, (client, _))| client).collect();
        for client in expired {
            self.leave(client);
        }
        let linger = Duration::from_secs(self.config.linger_s);
        let idle = self.union.age(now, linger);
        if idle.is_empty() {
            return;
        }
        let (theirs, others): (Filter, Filter) = (idle.iter().collect(), self.union.filter());
        for state in self.symbols.iter_mut() {
            if state.live && theirs.matches(&state.name) && !others.matches(&state.name) {
                state.close();
            }
        }
        self.orders.push(Order::Unsubscribe(idle));
    }

    fn show(&self) {
        let metrics = &self.metrics;
        metrics.clients.set(self.clients.len() as i64);
        metrics
            .history
            .set((self.history.head() - self.history.tail()) as i64);
        metrics.symbols.set(self.symbols.len() as i64);
        metrics.union.set(self.union.len() as i64);
        metrics.replays_waiting.set(self.replays.waiting() as i64);
        metrics.replays.set(self.replays.running() as i64);
        metrics.parked.set(self.parked.len() as i64);
    }
}
