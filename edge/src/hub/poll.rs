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

use tickwire_proto::{
    cursor::{EdgeCursor, EdgePosition},
    pattern::Selector,
};

use super::{
    Hub, Request, State, Wakers,
    block::{Item, What},
    client::{Client, Phase},
    outbox::{Enough, Taken},
    symbols,
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
    /// Takes over the client that a cut poll has parked under this cursor, if the same user asks for
    /// the same again.
    pub fn unpark(self: &Arc<Self>, request: &Request) -> Option<Collector> {
        let own = request.cursor?.own?;
        let mut state = self.lock();
        if own.edge != state.edge {
            return None;
        }
        let (key, _) = *state.parked.get(&own.position)?;
        // By what the token allows now.
        let selectors = state.judge(request).selectors;
        let subscribe = &request.subscribe;
        let member = state.clients.get_mut(key)?;
        let is_same = member.sub == request.grant.sub
            && member.selectors == selectors
            && member.channels == subscribe.channels
            && member.mode == subscribe.mode;
        if !is_same {
            return None;
        }
        let outbox = Arc::clone(&member.outbox);
        state.parked.remove(&own.position);
        Some(Collector(Client::new(Arc::clone(self), key, outbox)))
    }
}

/// How far a client could be brought.
enum Step {
    /// It gets what comes now.
    Arrived,
    /// It waits for the engine, or has an answer's worth.
    Waits,
    /// There is more to fetch.
    More,
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
            Item::Own { event, .. } => !matches!(*event, "ack" | "start"),
            Item::Cursor(_) => false,
        };
        let outbox = self.0.outbox();
        // The waker is left there before anything is looked at, so that nothing is missed.
        outbox.has_news(waker, is_news);
        let has_arrived = self.advance();
        has_arrived && outbox.has_news(waker, is_news)
            || outbox.waiting() >= TICKS_MAX
            || self.0.hub().lock().draining
    }

    /// Whether the client has everything that is known to it, with what it was subscribed to having
    /// begun.
    pub fn is_complete(&self) -> bool {
        let has_arrived = self.advance();
        let state = self.0.hub().lock();
        let Some(member) = self.0.key().and_then(|key| state.clients.get(key)) else {
            return true;
        };
        let begun = |selector| state.has_begun(selector);
        has_arrived && (!state.connected || member.selectors.iter().all(begun))
    }

    /// Fetches what comes next, up to an answer's worth; whether the client gets what comes now.
    fn advance(&self) -> bool {
        let Some(key) = self.0.key() else {
            return true;
        };
        loop {
            let mut wakers = Wakers::default();
            // Ticks go on between two steps.
            let mut state = self.0.hub().lock();
            let step = state.step(key, &mut wakers);
            self.0.hub().announce(&state);
            match step {
                Step::Arrived => return true,
                Step::Waits => return false,
                Step::More => {}
            }
        }
    }

    /// The answer: what has come so far.
    pub fn collect(self) -> Collected {
        let has_arrived = self.advance();
        let hub = Arc::clone(self.0.hub());
        let mut state = hub.lock();
        let Some(key) = self.0.key() else {
            return state.nothing();
        };
        let (mut ticks, mut items, mut count) = (Vec::new(), 0, 0);
        // A replay that is not complete is answered as a whole, or cut where it is too long.
        while (has_arrived || self.0.outbox().waiting() >= TICKS_MAX) && items < TICKS_MAX {
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
        }
        let (cursor, more) = state.next_poll(key, items > 0);
        drop(state);
        if cursor.own.is_some_and(|own| own.position & IS_PARKED != 0) {
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
    /// Fetches once for a client.
    fn step(&mut self, key: usize, wakers: &mut Wakers) -> Step {
        let Some(member) = self.clients.get(key) else {
            return Step::Arrived;
        };
        let is_full = member.outbox.waiting() >= TICKS_MAX;
        match member.phase {
            Phase::Live => Step::Arrived,
            Phase::Queued { .. } | Phase::Replaying { .. } => Step::Waits,
            _ if is_full => Step::Waits,
            _ => {
                self.fetch(key, wakers);
                Step::More
            }
        }
    }

    /// Whether all that is known of what a selector delivers has come. The engine's next cursor says so
    /// of anything; of a single symbol it shows earlier.
    fn has_begun(&self, selector: &Selector) -> bool {
        let has_come = |state: &symbols::State| {
            let mut channels = state.last.iter().zip(&state.latest);
            state.live && channels.all(|(last, latest)| last.is_none() || latest.is_some())
        };
        let symbol = match selector {
            Selector::Symbol(name) => self.symbols.id(name),
            Selector::Pattern(_) => None,
        };
        symbol.is_some_and(|symbol| has_come(self.symbols.get(symbol)))
            || self.union.is_settled(selector)
    }

    fn nothing(&self) -> Collected {
        Collected {
            cursor: self.cursor_at(self.history.head()),
            ticks: Vec::new(),
            count: 0,
            more: false,
        }
    }

    /// Where the next poll of a client goes on, and whether there is more for it already. `answered`
    /// says whether it was given anything.
    fn next_poll(&mut self, key: usize, answered: bool) -> (EdgeCursor, bool) {
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
        let engine = member.cursor;
        if self.parked.len() >= self.config.polls_max || self.draining {
            // Without a place it begins again: nothing is lost, but much comes twice.
            return (EdgeCursor { engine, own: None }, answered);
        }
        // By chance, so that nobody can name another's.
        let name = rand::random::<u64>() | IS_PARKED;
        self.parked.insert(name, (key, Instant::now() + PARKED));
        let own = EdgePosition {
            edge: self.edge,
            position: name,
        };
        let cursor = EdgeCursor {
            engine,
            own: Some(own),
        };
        (cursor, answered)
    }
}
