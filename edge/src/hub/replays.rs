//! Resumes that the history does not reach: the engine replays them, `replays_max` at a time.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tickwire_proto::{
    code::ErrorCode,
    cursor::Cursor,
    json,
    reply::{Gap, GapReason, Reply, Start},
    request::{Replay, Selection, Since},
    symbol::Symbol,
    tick::{Channel, Identity, Marks, Tick},
};

use super::{
    Order, State, Wakers,
    block::{Block, Item, SymbolId, What, tick_json},
    client::{Beyond, Member, Phase},
};

/// Who waits for the engine, and whom it serves.
#[derive(Debug, Default)]
pub(super) struct Replays {
    queue: VecDeque<usize>,
    /// Whom each is for; nobody, where the client has left before the engine was done.
    by_id: HashMap<u32, Option<usize>>,
    /// Being served.
    running: usize,
    /// Bytes of those that are done and not taken by their clients yet, and of those under way.
    kept_bytes: usize,
}

impl Replays {
    pub(super) fn queue(&mut self, client: usize) {
        self.queue.push_back(client);
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many are under way.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// A client has taken what was kept for it.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.kept_bytes -= bytes;
    }
}

impl State {
    /// Asks the engine for as many as may be under way.
    pub(super) fn start_replays(&mut self) {
        while self.connected && self.replays.running < self.config.replays_max {
            let Some(key) = self.replays.queue.pop_front() else {
                return;
            };
            let Some(member) = self.clients.get_mut(key) else {
                continue;
            };
            let Phase::Queued { live_from } = member.phase else {
                continue;
            };
            member.phase = Phase::Replaying {
                live_from,
                id: None,
            };
            self.replays.running += 1;
            let selection = Selection {
                selectors: member.selectors.clone(),
                rejected: Vec::new(),
            };
            let since = Since {
                cursor: Some(member.cursor),
                points: Vec::new(),
            };
            self.orders.push(Order::Replay {
                client: key,
                session: member.session,
                replay: Replay {
                    selection,
                    channels: member.channels,
                    since,
                },
            });
        }
    }

    pub(super) fn replay_asked(&mut self, key: usize, session: u64, asked: Option<u32>) {
        let member = self.clients.get_mut(key);
        let member = member.filter(|member| member.session == session);
        let Some(asked) = asked else {
            self.replays.running = self.replays.running.saturating_sub(1);
            if let Some(member) = member {
                requeue(member, key, &mut self.replays.queue);
            }
            return;
        };
        // Whoever has left meanwhile is still being replayed for.
        let owner = member.and_then(|member| match &mut member.phase {
            Phase::Replaying { id, .. } => {
                *id = Some(asked);
                Some(key)
            }
            _ => None,
        });
        self.replays.by_id.insert(asked, owner);
    }

    /// The engine has gone: what it was replaying begins again with the next.
    pub(super) fn interrupt_replays(&mut self, wakers: &mut Wakers) {
        self.replays.by_id.clear();
        self.orders
            .retain(|order| !matches!(order, Order::Replay { .. }));
        self.replays.running = 0;
        for (key, member) in &mut self.clients {
            if matches!(member.phase, Phase::Replaying { .. }) {
                member.tell_beyond(wakers);
                member.is_repeated = true;
                requeue(member, key, &mut self.replays.queue);
            }
        }
    }

    /// A client has left.
    pub(super) fn abandon_replay(&mut self, key: usize, member: &Member) {
        self.replays.taken(member.kept_bytes);
        match member.phase {
            Phase::Queued { .. } => self.replays.queue.retain(|client| *client != key),
            // The engine goes on all the same.
            Phase::Replaying { id: Some(id), .. } => {
                self.replays.by_id.insert(id, None);
            }
            Phase::Replaying { id: None, .. } => self.withdraw_replay(member.session),
            _ => {}
        }
    }

    /// Takes an order back that has not been carried out.
    fn withdraw_replay(&mut self, own: u64) {
        let before = self.orders.len();
        self.orders
            .retain(|order| !matches!(order, Order::Replay { session, .. } if *session == own));
        self.replays.running -= before - self.orders.len();
        self.start_replays();
    }

    /// Takes an answer of the engine; those that no client waits for any more are dropped.
    pub(super) fn replayed(&mut self, reply: &Reply, wakers: &mut Wakers) {
        match reply {
            Reply::Start(start) => {
                if let Some((key, symbol)) = self.place_of_replay(start.replay, start.symbol) {
                    self.clients[key].replayed_start(symbol, start, wakers);
                }
            }
            Reply::Tick(tick, marks) => {
                if let Some((key, symbol)) = self.place_of_replay(marks.replay, tick.symbol) {
                    let one_max = self.config.replay_bytes_max;
                    let all_max = one_max.saturating_mul(self.config.replays_max);
                    let member = &mut self.clients[key];
                    let room = one_max
                        .saturating_sub(member.kept_bytes)
                        .min(all_max.saturating_sub(self.replays.kept_bytes));
                    self.replays.kept_bytes += member.replayed_tick(symbol, tick, room, wakers);
                }
            }
            Reply::Gap(gap) => {
                if let Some((key, symbol)) = self.place_of_replay(gap.replay, gap.symbol) {
                    self.clients[key].replayed_gap(symbol, gap, wakers);
                }
            }
            Reply::Replayed {
                id: Some(id),
                cursor,
            } => self.replay_ends(*id, *cursor, wakers),
            _ => {}
        }
    }

    fn place_of_replay(&mut self, id: Option<u32>, name: Symbol) -> Option<(usize, SymbolId)> {
        let key = (*self.replays.by_id.get(&id?)?)?;
        let symbol = self.symbols.enter(name);
        if symbol.is_none() {
            self.metrics.symbols_refused.inc();
        }
        Some((key, symbol?))
    }

    fn replay_ends(&mut self, id: u32, cursor: Option<Cursor>, wakers: &mut Wakers) {
        let Some(owner) = self.replays.by_id.remove(&id) else {
            return;
        };
        self.replays.running -= 1;
        if let Some(key) = owner {
            let member = &mut self.clients[key];
            member.tell_beyond(wakers);
            member.cursor = cursor.unwrap_or(member.cursor);
            if let Phase::Replaying { live_from, .. } = member.phase {
                member.phase = Phase::Replayed { live_from };
                wakers.add(member.outbox.set_behind(true));
            }
        }
        self.start_replays();
    }

    /// Whether a refusal is that of a replay; it is tried again where the engine was only busy.
    pub(super) fn replay_refused(&mut self, id: u32, code: ErrorCode, wakers: &mut Wakers) -> bool {
        let Some(&owner) = self.replays.by_id.get(&id) else {
            return false;
        };
        let Some(key) = owner.filter(|_| code == ErrorCode::TooManyReplays) else {
            tracing::warn!(%code, "the engine refuses a replay: its client goes on without");
            self.metrics.upstream_refused.inc();
            self.replay_ends(id, None, wakers);
            return true;
        };
        // Tried again with the next beat of the house, or when another is done.
        self.replays.by_id.remove(&id);
        self.replays.running -= 1;
        requeue(&mut self.clients[key], key, &mut self.replays.queue);
        true
    }
}

/// Puts a client in front of those that wait.
fn requeue(member: &mut Member, key: usize, queue: &mut VecDeque<usize>) {
    if let Phase::Replaying { live_from, .. } = member.phase {
        member.phase = Phase::Queued { live_from };
        queue.push_front(key);
    }
}

impl Member {
    fn replayed_start(&mut self, symbol: SymbolId, start: &Start, wakers: &mut Wakers) {
        let epoch = start.epoch;
        let mut fresh = |channel: Channel, seq: Option<u64>| {
            self.tell_beyond_of(symbol, channel, wakers);
            // A replay that begins again stands before what was told, and so does its start.
            seq.filter(|&seq| self.raise_floor(symbol, channel, Identity { epoch, seq }))
        };
        let start = Start {
            trade: fresh(Channel::Trade, start.trade),
            quote: fresh(Channel::Quote, start.quote),
            replay: None,
            ..*start
        };
        self.note_start(symbol, &start);
        if let Some(start) = Item::start(&start, self.channels) {
            wakers.add(self.outbox.push_own(start));
        }
    }

    /// Takes a tick if there is `room` for it, bytes; how many it takes.
    fn replayed_tick(
        &mut self,
        symbol: SymbolId,
        tick: &Tick,
        room: usize,
        wakers: &mut Wakers,
    ) -> usize {
        let channel = tick.values.channel();
        let Identity { epoch, seq } = tick.identity;
        // Told already, where the engine has begun again.
        if !self.raise_floor(symbol, channel, tick.identity) {
            return 0;
        }
        let json = tick_json(tick, &Marks::default());
        let bytes = json.len();
        if bytes > room {
            let other_epoch = self
                .beyond
                .get(&(symbol, channel))
                .is_some_and(|beyond| beyond.epoch != epoch);
            if other_epoch {
                self.tell_beyond_of(symbol, channel, wakers);
            }
            let beyond = self.beyond.entry((symbol, channel)).or_insert(Beyond {
                name: tick.symbol,
                epoch,
                from: seq,
                to: seq,
            });
            beyond.to = seq;
            return 0;
        }
        self.tell_beyond_of(symbol, channel, wakers);
        let block = Block {
            position: None,
            symbol,
            name: tick.symbol,
            what: What::Tick(channel, tick.identity),
            json,
        };
        self.open(&block, channel, epoch, Some(seq), wakers);
        wakers.add(self.outbox.push_past(&Arc::new(block)));
        self.kept_bytes += bytes;
        bytes
    }

    fn replayed_gap(&mut self, symbol: SymbolId, gap: &Gap, wakers: &mut Wakers) {
        let gap = Gap {
            replay: None,
            ..*gap
        };
        self.tell_beyond_of(symbol, gap.channel, wakers);
        let is_new = gap.to.is_none_or(|seq| {
            let epoch = gap.epoch;
            self.raise_floor(symbol, gap.channel, Identity { epoch, seq })
        });
        // What is lost from the begin is told behind a `start` that stands at its end already.
        if !is_new && self.is_repeated {
            return;
        }
        let mut json = Vec::with_capacity(128);
        json::write_gap(&mut json, &gap);
        let block = Block {
            position: None,
            symbol,
            name: gap.symbol,
            what: What::Gap(gap),
            json: json.into(),
        };
        wakers.add(self.outbox.push_past(&Arc::new(block)));
    }

    /// Tells what of a replay was too much to keep.
    fn tell_beyond(&mut self, wakers: &mut Wakers) {
        let keys: Vec<(SymbolId, Channel)> = self.beyond.keys().copied().collect();
        for (symbol, channel) in keys {
            self.tell_beyond_of(symbol, channel, wakers);
        }
    }

    fn tell_beyond_of(&mut self, symbol: SymbolId, channel: Channel, wakers: &mut Wakers) {
        let Some(beyond) = self.beyond.remove(&(symbol, channel)) else {
            return;
        };
        let gap = Gap {
            symbol: beyond.name,
            channel,
            epoch: beyond.epoch,
            from: Some(beyond.from),
            to: Some(beyond.to),
            reason: GapReason::History,
            replay: None,
        };
        wakers.add(self.outbox.push_own(Item::gap(&gap)));
    }

    /// Takes note of what the replay has told; `false` where it had told that before.
    fn raise_floor(&mut self, symbol: SymbolId, channel: Channel, identity: Identity) -> bool {
        let floor = self.floor.entry((symbol, channel));
        let mut is_new = false;
        let floor = floor.or_insert_with(|| {
            is_new = true;
            identity
        });
        if identity > *floor {
            *floor = identity;
            is_new = true;
        }
        is_new
    }
}
