//! Resumes that the history does not reach: the engine replays them, `replays_max` at a time.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tickwire_proto::{
    code::ErrorCode,
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
    by_id: HashMap<u32, usize>,
    /// Being served, or on their way from here to a client.
    running: usize,
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

    /// A client has taken all that was replayed for it.
    pub(super) fn finished(&mut self) {
        self.running -= 1;
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
                bytes: 0,
                beyond: HashMap::new(),
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
        let Some(member) = member.filter(|member| member.session == session) else {
            return;
        };
        let Phase::Replaying { live_from, id, .. } = &mut member.phase else {
            return;
        };
        if let Some(asked) = asked {
            *id = Some(asked);
            self.replays.by_id.insert(asked, key);
        } else {
            let live_from = *live_from;
            member.phase = Phase::Queued { live_from };
            self.replays.running -= 1;
            self.replays.queue.push_front(key);
        }
    }

    /// The engine has gone: what it was replaying begins again with the next.
    pub(super) fn interrupt_replays(&mut self) {
        self.replays.by_id.clear();
        self.orders
            .retain(|order| !matches!(order, Order::Replay { .. }));
        for (key, member) in &mut self.clients {
            if let Phase::Replaying { live_from, .. } = member.phase {
                member.phase = Phase::Queued { live_from };
                self.replays.running -= 1;
                self.replays.queue.push_front(key);
            }
        }
    }

    /// A client has left in this phase.
    pub(super) fn abandon_replay(&mut self, key: usize, phase: &Phase) {
        match phase {
            Phase::Queued { .. } => self.replays.queue.retain(|client| *client != key),
            Phase::Replaying { id, .. } => {
                if let Some(id) = id {
                    self.replays.by_id.remove(id);
                }
                self.replays.running -= 1;
                self.start_replays();
            }
            Phase::Replayed { .. } => {
                self.replays.running -= 1;
                self.start_replays();
            }
            Phase::Joining(_) | Phase::CatchingUp { .. } | Phase::Live => {}
        }
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
                    let bytes_max = self.config.replay_bytes_max;
                    self.clients[key].replayed_tick(symbol, tick, bytes_max, wakers);
                }
            }
            Reply::Gap(gap) => {
                if let Some((key, symbol)) = self.place_of_replay(gap.replay, gap.symbol) {
                    self.clients[key].replayed_gap(symbol, gap, wakers);
                }
            }
            Reply::Replayed { id: Some(id), .. } => self.replay_ends(*id, wakers),
            _ => {}
        }
    }

    fn place_of_replay(&mut self, id: Option<u32>, name: Symbol) -> Option<(usize, SymbolId)> {
        let key = *self.replays.by_id.get(&id?)?;
        let symbol = self.symbols.enter(name);
        if symbol.is_none() {
            self.metrics.symbols_refused.inc();
        }
        Some((key, symbol?))
    }

    fn replay_ends(&mut self, id: u32, wakers: &mut Wakers) {
        let Some(key) = self.replays.by_id.remove(&id) else {
            return;
        };
        let member = &mut self.clients[key];
        let Phase::Replaying {
            live_from, beyond, ..
        } = &mut member.phase
        else {
            return;
        };
        for ((_, channel), beyond) in beyond.drain() {
            let Beyond {
                name,
                epoch,
                from,
                to,
            } = beyond;
            let gap = Gap {
                symbol: name,
                channel,
                epoch,
                from: Some(from),
                to: Some(to),
                reason: GapReason::History,
                replay: None,
            };
            wakers.add(member.outbox.push_own(Item::gap(&gap)));
        }
        member.phase = Phase::Replayed {
            live_from: *live_from,
        };
        wakers.add(member.outbox.set_behind(true));
    }

    /// Whether a refusal is that of a replay; it is tried again where the engine was only busy.
    pub(super) fn replay_refused(&mut self, id: u32, code: ErrorCode, wakers: &mut Wakers) -> bool {
        let Some(&key) = self.replays.by_id.get(&id) else {
            return false;
        };
        if code == ErrorCode::TooManyReplays {
            self.replays.by_id.remove(&id);
            let session = self.clients[key].session;
            self.replay_asked(key, session, None);
        } else {
            tracing::warn!(%code, "the engine refuses a replay: its client goes on without");
            self.replay_ends(id, wakers);
        }
        true
    }
}

impl Member {
    fn replayed_start(&mut self, symbol: SymbolId, start: &Start, wakers: &mut Wakers) {
        let start = Start {
            replay: None,
            ..*start
        };
        self.note_start(symbol, &start);
        for (channel, seq) in [(Channel::Trade, start.trade), (Channel::Quote, start.quote)] {
            if let Some(seq) = seq {
                let epoch = start.epoch;
                self.raise_floor(symbol, channel, Identity { epoch, seq });
            }
        }
        if let Some(start) = Item::start(&start, self.channels) {
            wakers.add(self.outbox.push_own(start));
        }
    }

    fn replayed_tick(
        &mut self,
        symbol: SymbolId,
        tick: &Tick,
        bytes_max: usize,
        wakers: &mut Wakers,
    ) {
        let channel = tick.values.channel();
        let Identity { epoch, seq } = tick.identity;
        // Told already, where the engine has begun again.
        if !self.raise_floor(symbol, channel, tick.identity) {
            return;
        }
        let json = tick_json(tick, &Marks::default());
        let Phase::Replaying { bytes, beyond, .. } = &mut self.phase else {
            return;
        };
        *bytes += json.len();
        if *bytes > bytes_max {
            let range = beyond.entry((symbol, channel)).or_insert(Beyond {
                name: tick.symbol,
                epoch,
                from: seq,
                to: seq,
            });
            range.to = seq;
            return;
        }
        let block = Block {
            position: None,
            symbol,
            name: tick.symbol,
            what: What::Tick(channel, tick.identity),
            json,
        };
        self.open(&block, channel, epoch, Some(seq), wakers);
        wakers.add(self.outbox.push_past(&Arc::new(block)));
    }

    fn replayed_gap(&mut self, symbol: SymbolId, gap: &Gap, wakers: &mut Wakers) {
        let gap = Gap {
            replay: None,
            ..*gap
        };
        // What is lost from the begin is told behind a `start` that stands at its end already.
        if let Some(seq) = gap.to {
            let epoch = gap.epoch;
            self.raise_floor(symbol, gap.channel, Identity { epoch, seq });
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
