//! Polls: what a client gets in one answer, and where the next goes on.
//!
//! A poll is a client like any other that leaves after its first batch. Where the batch is cut in
//! the history the next poll finds its place by position. Where it is cut in what only this client
//! was told, snapshots or an engine's replay, the client is parked for the next poll to take over.

use std::{
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use tickwire_proto::cursor::{EdgeCursor, EdgePosition};

use super::{
    Hub, State, Wakers,
    block::{Item, What},
    client::{Client, Phase},
    outbox::{Enough, Taken},
};

/// Objects in one answer at most.
pub const TICKS_MAX: usize = 1_000;
/// How long a parked client waits for its next poll.
const PARKED: Duration = Duration::from_secs(60);
/// Marks positions that are names of parked clients.
const IS_PARKED: u64 = 1 << 63;

/// One answer.
#[derive(Debug)]
pub struct Collected {
    /// Where the next poll goes on: behind exactly this.
    pub cursor: EdgeCursor,
    /// JSON objects with commas between them.
    pub ticks: Vec<u8>,
    /// How many of them are ticks.
    pub count: u64,
    /// Whether there is more at once.
    pub more: bool,
}

/// A poll under way.
#[derive(Debug)]
pub struct Collector(Client);

impl Hub {
    /// Takes over the client that a cut poll has parked under this cursor.
    pub fn unpark(self: &Arc<Self>, cursor: &EdgeCursor) -> Option<Collector> {
        let own = cursor.own?;
        let mut state = self.lock();
        if own.edge != state.edge {
            return None;
        }
        let (key, _) = state.parked.remove(&own.position)?;
        let outbox = Arc::clone(&state.clients.get(key)?.outbox);
        Some(Collector(Client::new(Arc::clone(self), key, outbox)))
    }
}

impl Collector {
    /// A poll of a client that has just joined.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// Whether there is an answer at once: something that is news to the client, or as much as an
    /// answer holds. Otherwise `waker` is woken when that may have changed.
    pub fn is_ready(&self, waker: &Waker) -> bool {
        let is_news = |item: &Item| match item {
            Item::Shared(block) | Item::Skipped(block, _) => !matches!(block.what, What::Start(_)),
            Item::Own { event, .. } => !matches!(*event, "ack" | "start" | "replayed"),
            Item::Cursor(_) => false,
        };
        let has_arrived = self.advance();
        let outbox = self.0.outbox();
        let has_news = outbox.has_news(waker, is_news);
        has_arrived && has_news || outbox.waiting() >= TICKS_MAX
    }

    /// Whether the client has everything that is known to it, with what it was subscribed to having
    /// begun.
    pub fn is_complete(&self) -> bool {
        let has_arrived = self.advance();
        let state = self.0.hub().lock();
        let Some(member) = self.0.key().and_then(|key| state.clients.get(key)) else {
            return true;
        };
        let begun = |selector| state.union.is_settled(selector);
        has_arrived && (!state.connected || member.selectors.iter().all(begun))
    }

    /// Fetches what comes next, up to an answer's worth; whether the client gets what comes now.
    fn advance(&self) -> bool {
        let mut wakers = Wakers::default();
        let mut state = self.0.hub().lock();
        let arrived = self
            .0
            .key()
            .is_none_or(|key| state.advance(key, &mut wakers));
        self.0.hub().announce(&state);
        arrived
    }

    /// The answer: what has come so far.
    pub fn collect(self) -> Collected {
        let mut wakers = Wakers::default();
        let hub = Arc::clone(self.0.hub());
        let mut state = hub.lock();
        let Some(key) = self.0.key() else {
            return state.nothing();
        };
        let has_arrived = state.advance(key, &mut wakers);
        if !has_arrived && self.0.outbox().waiting() < TICKS_MAX {
            return state.not_yet(key);
        }
        let (mut ticks, mut items, mut count) = (Vec::new(), 0, 0);
        loop {
            let taken = self.0.outbox().take(Instant::now(), None, |item| {
                if items > 0 {
                    ticks.push(b',');
                }
                item.write_json(&mut ticks);
                items += 1;
                if items == TICKS_MAX {
                    Enough::Yes
                } else {
                    Enough::No
                }
            });
            match taken {
                Taken::Some(taken) => count += taken,
                _ => break,
            }
            if items == TICKS_MAX {
                break;
            }
        }
        let (cursor, more) = state.next_poll(key);
        let is_parked = cursor.own.is_some_and(|own| own.position & IS_PARKED != 0);
        drop(state);
        if is_parked {
            self.0.let_go();
        }
        Collected {
            cursor,
            ticks,
            count,
            more,
        }
    }
}

impl State {
    /// As [`Collector::advance`].
    fn advance(&mut self, key: usize, wakers: &mut Wakers) -> bool {
        loop {
            let Some(member) = self.clients.get(key) else {
                return true;
            };
            let is_full = member.outbox.waiting() >= TICKS_MAX;
            match member.phase {
                Phase::Live => return true,
                Phase::Queued { .. } | Phase::Replaying { .. } => return false,
                _ if is_full => return false,
                _ => self.fetch(key, wakers),
            }
        }
    }

    fn nothing(&self) -> Collected {
        Collected {
            cursor: self.cursor_at(self.history.head()),
            ticks: Vec::new(),
            count: 0,
            more: false,
        }
    }

    /// The answer to a client whose replay has not come in time: it asks again.
    fn not_yet(&self, key: usize) -> Collected {
        let cursor = self.clients.get(key).map(|member| EdgeCursor {
            engine: member.cursor,
            own: None,
        });
        let nothing = self.nothing();
        Collected {
            cursor: cursor.unwrap_or(nothing.cursor),
            ..nothing
        }
    }

    /// Where the next poll of a client goes on, and whether there is more for it already.
    fn next_poll(&mut self, key: usize) -> (EdgeCursor, bool) {
        let head = self.history.head();
        let Some(member) = self.clients.get(key) else {
            return (self.cursor_at(head), false);
        };
        let waits = member.outbox.waiting() > 0;
        let position = match member.phase {
            Phase::Live if !waits => Some(head),
            Phase::CatchingUp { at } if !waits => Some(at),
            Phase::Live | Phase::CatchingUp { .. } => member.outbox.position(),
            _ => None,
        };
        if let Some(position) = position {
            return (self.cursor_at(position), position < head);
        }
        if self.parked.len() >= self.config.polls_max {
            // Without a place it begins again: nothing is lost, but much comes twice.
            let engine = member.cursor;
            return (EdgeCursor { engine, own: None }, true);
        }
        self.parked_ever += 1;
        let name = self.parked_ever | IS_PARKED;
        self.parked.insert(name, (key, Instant::now() + PARKED));
        let own = EdgePosition {
            edge: self.edge,
            position: name,
        };
        let cursor = EdgeCursor {
            engine: member.cursor,
            own: Some(own),
        };
        (cursor, true)
    }
}
