//! What waits for one client, between the hub, which fills it, and the client's own task, which
//! writes it out.
//!
//! ```text
//!  stream:   push ─► queue ─► take                   above `lag_soft_ticks`: late ─► queue, once that is empty
//!  conflate: push ─► late ── every `interval_ms` ─► queue ─► take
//! ```

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::{Duration, Instant},
};

use tickwire_proto::{reply::Gap, tick::Channels};

use super::{
    block::{Block, Item, What},
    late::{Late, Overtaken},
};

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// `lag_soft_ticks`.
    pub lag_soft_ticks: usize,
    /// `queued_bytes_max`.
    pub queued_bytes_max: usize,
}

/// One client's queue.
#[derive(Debug)]
pub struct Outbox {
    inner: Mutex<Inner>,
    bounds: Bounds,
    channels: Channels,
}

#[derive(Debug)]
struct Inner {
    queue: VecDeque<Item>,
    own_bytes: usize,
    late: Late,
    /// `conflate`: how often, and when next.
    interval: Option<Duration>,
    due: Instant,
    lagging: bool,
    /// More is to be fetched from the hub once the queue is empty.
    behind: bool,
    ended: bool,
    dropped: u64,
    waker: Option<Waker>,
    /// When the client last took something, or had taken everything.
    progress: Instant,
}

/// What a take came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Something: this many ticks.
    Some(u64),
    /// The hub has more: ask it.
    Behind,
    /// Nothing until then, or until something is pushed.
    Nothing(Option<Instant>),
    /// Nothing will ever come again.
    End,
}

impl Outbox {
    /// An empty one for `channels`; `interval` is that of `conflate`.
    pub fn new(bounds: Bounds, channels: Channels, interval: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            bounds,
            channels,
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                own_bytes: 0,
                late: Late::default(),
                interval,
                due: now,
                lagging: false,
                behind: false,
                ended: false,
                dropped: 0,
                waker: None,
                progress: now,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No panic can happen between two steps of a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event as it happens; the result is to be woken.
    pub fn push(&self, block: &Arc<Block>) -> Option<Waker> {
        self.push_bounded(block, self.bounds.lag_soft_ticks)
    }

    /// Adds an event of the past, which is fetched as the client takes it and no sign of a slow one.
    pub fn push_past(&self, block: &Arc<Block>) -> Option<Waker> {
        self.push_bounded(block, usize::MAX)
    }

    fn push_bounded(&self, block: &Arc<Block>, lag_soft_ticks: usize) -> Option<Waker> {
        let mut inner = self.lock();
        if inner.ended || !block.what.is_for(self.channels) {
            return None;
        }
        match block.what {
            What::Tick(_, identity) => {
                let overtaken = inner.overtaken(lag_soft_ticks);
                if let Some(overtaken) = overtaken {
                    let lost = inner.late.tick(Arc::clone(block), identity, overtaken);
                    inner.count_dropped(lost, overtaken);
                } else {
                    inner.add(Item::Shared(Arc::clone(block)));
                }
            }
            What::Gap(gap) => inner.push_gap(block, &gap),
            What::Feed(_) => {
                inner.settle(block);
                inner.add(Item::Shared(Arc::clone(block)));
            }
            What::Start(start) => {
                inner.settle(block);
                if self.channels == Channels::BOTH {
                    inner.add(Item::Shared(Arc::clone(block)));
                } else if let Some(own) = Item::start(&start, self.channels) {
                    inner.put(own);
                }
            }
        }
        inner.waker.take()
    }

    /// Adds what is this client's own.
    pub fn push_own(&self, item: Item) -> Option<Waker> {
        let mut inner = self.lock();
        if inner.ended {
            return None;
        }
        inner.put(item);
        inner.waker.take()
    }

    /// Adds a cursor, unless something before it is still held back.
    pub fn push_cursor(&self, item: Item) -> Option<Waker> {
        let mut inner = self.lock();
        if inner.ended || inner.behind || !inner.late.is_settled() {
            return None;
        }
        inner.add(item);
        inner.waker.take()
    }

    /// Says whether more is to be fetched from the hub.
    pub fn set_behind(&self, behind: bool) -> Option<Waker> {
        let mut inner = self.lock();
        inner.behind = behind;
        inner.waker.take()
    }

    /// Ends it: behind what is queued comes `last`, and nothing more.
    pub fn end(&self, last: Option<Item>) -> Option<Waker> {
        let mut inner = self.lock();
        if inner.ended {
            return None;
        }
        inner.behind = false;
        if let Some(last) = last {
            inner.put(last);
        }
        inner.ended = true;
        inner.waker.take()
    }

    /// Ends it at once, without what is queued: its client does not read.
    pub fn cut(&self, last: Option<Item>) -> Option<Waker> {
        let mut inner = self.lock();
        inner.queue.clear();
        inner.late = Late::default();
        inner.own_bytes = 0;
        drop(inner);
        self.end(last)
    }

    /// Whether nothing more will come.
    pub fn is_ended(&self) -> bool {
        self.lock().ended
    }

    /// Wakes its task, whatever there is.
    pub fn wake(&self) -> Option<Waker> {
        self.lock().waker.take()
    }

    /// Whether what is queued of this client's own is above the bound.
    pub fn is_over(&self) -> bool {
        let inner = self.lock();
        !inner.ended && inner.own_bytes > self.bounds.queued_bytes_max
    }

    /// Since when the client takes nothing although something is due; `None` where it does.
    pub fn stalled_since(&self) -> Option<Instant> {
        let inner = self.lock();
        (!inner.ended && !inner.queue.is_empty()).then_some(inner.progress)
    }

    /// How many items wait to be taken, those left out that are merely late.
    pub fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    /// Whether something waits that `is_news`, or nothing more will come; `waker` is woken when
    /// that may have changed.
    pub fn has_news(&self, waker: &Waker, is_news: impl Fn(&Item) -> bool) -> bool {
        let mut inner = self.lock();
        inner.waker = Some(waker.clone());
        inner.ended || !inner.late.is_empty() || inner.queue.iter().any(is_news)
    }

    /// Ticks that were dropped since the last call because the client was too slow.
    pub fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    /// Hands out items until `enough` says so, oldest first. `waker` is woken when there is more.
    pub fn take(
        &self,
        now: Instant,
        waker: Option<&Waker>,
        mut each: impl FnMut(Item) -> Enough,
    ) -> Taken {
        let mut inner = self.lock();
        let was_empty = inner.queue.is_empty();
        inner.bring_up(now);
        let mut taken = None;
        while let Some(item) = inner.queue.pop_front() {
            inner.own_bytes -= item.own_bytes();
            *taken.get_or_insert(0) += item.ticks();
            if each(item) == Enough::Yes {
                break;
            }
        }
        if taken.is_some() || was_empty {
            inner.progress = now;
        }
        if let Some(ticks) = taken {
            return Taken::Some(ticks);
        }
        if inner.behind {
            return Taken::Behind;
        }
        if inner.ended {
            return Taken::End;
        }
        inner.waker = waker.cloned();
        let waits = !inner.late.is_empty();
        Taken::Nothing(waits.then_some(inner.due))
    }

    /// The position of the first event that waits, where all that waits has one and they stand in
    /// order, as conflated ones do not.
    pub fn position(&self) -> Option<u64> {
        let inner = self.lock();
        if inner.interval.is_some() {
            return None;
        }
        let position = |item: &Item| match item {
            Item::Shared(block) | Item::Skipped(block, _) => block.position,
            _ => None,
        };
        let first = inner.queue.front().and_then(position);
        first.filter(|_| inner.queue.iter().all(|item| position(item).is_some()))
    }
}

/// Whether a taker has enough for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enough {
    /// It goes on.
    No,
    /// It stops behind this item.
    Yes,
}

impl Inner {
    fn add(&mut self, item: Item) {
        if self.queue.is_empty() {
            self.progress = Instant::now();
        }
        self.queue.push_back(item);
    }

    /// How ticks are conflated at the moment, if they are.
    fn overtaken(&mut self, lag_soft_ticks: usize) -> Option<Overtaken> {
        if self.interval.is_some() {
            return Some(Overtaken::Skipped);
        }
        // Other items count as well: they are few.
        self.lagging |= self.queue.len() >= lag_soft_ticks;
        self.lagging.then_some(Overtaken::Lost)
    }

    fn count_dropped(&mut self, ticks: u64, overtaken: Overtaken) {
        if overtaken == Overtaken::Lost {
            self.dropped += ticks;
        }
    }

    fn push_gap(&mut self, block: &Arc<Block>, gap: &Gap) {
        let overtaken = match self.interval {
            Some(_) => Overtaken::Skipped,
            None => Overtaken::Lost,
        };
        if self.late.has(block.symbol, gap.channel) {
            let lost = self.late.gap(Arc::clone(block), gap, overtaken);
            self.count_dropped(lost, overtaken);
        } else {
            self.add(Item::Shared(Arc::clone(block)));
        }
    }

    /// What is late of a symbol stands before its next `start` or `feed`.
    fn settle(&mut self, block: &Block) {
        let mut late = std::mem::take(&mut self.late);
        late.settle(block.symbol, |item| self.put(item));
        self.late = late;
    }

    fn put(&mut self, item: Item) {
        self.own_bytes += item.own_bytes();
        self.add(item);
    }

    /// Moves what is late into the queue, where its time has come.
    fn bring_up(&mut self, now: Instant) {
        if self.late.is_empty() {
            return;
        }
        let is_due = match self.interval {
            Some(interval) => {
                let is_due = now >= self.due;
                if is_due {
                    self.due = now + interval;
                }
                is_due
            }
            // Back to the full stream: the client has caught up.
            None => self.queue.is_empty(),
        };
        if is_due || self.ended {
            let mut late = std::mem::take(&mut self.late);
            late.hand_out(|item| self.put(item));
            self.late = late;
            self.lagging = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use tickwire_proto::{
        symbol::Symbol,
        tick::{Channel, Identity},
    };

    use super::*;
    use crate::hub::block::SymbolId;

    const BOUNDS: Bounds = Bounds {
        lag_soft_ticks: 3,
        queued_bytes_max: 100,
    };

    fn tick(seq: u64) -> Arc<Block> {
        let identity = Identity { epoch: 1, seq };
        Arc::new(Block {
            position: Some(seq),
            symbol: SymbolId(0),
            name: Symbol::parse("A").unwrap(),
            what: What::Tick(Channel::Trade, identity),
            json: format!("{{\"seq\":{seq}}}").into_bytes().into(),
        })
    }

    fn own(text: &str) -> Item {
        Item::Own {
            event: "x",
            json: text.as_bytes().into(),
        }
    }

    /// Everything that can be taken at `now`, as JSON.
    fn all(outbox: &Outbox, now: Instant) -> Vec<String> {
        let mut told = Vec::new();
        outbox.take(now, None, |item| {
            let mut json = Vec::new();
            item.write_json(&mut json);
            told.push(String::from_utf8(json).unwrap());
            Enough::No
        });
        told
    }

    #[test]
    fn a_client_that_keeps_up_gets_everything_in_order() {
        let outbox = Outbox::new(BOUNDS, Channels::BOTH, None);
        let now = Instant::now();
        outbox.push(&tick(1));
        outbox.push_own(own("{}"));
        outbox.push(&tick(2));
        assert_eq!(all(&outbox, now), [r#"{"seq":1}"#, "{}", r#"{"seq":2}"#]);
        assert_eq!(outbox.take(now, None, |_| Enough::No), Taken::Nothing(None));
    }

    #[test]
    fn the_past_is_never_too_much() {
        let outbox = Outbox::new(BOUNDS, Channels::BOTH, None);
        for seq in 1..=9 {
            outbox.push_past(&tick(seq));
        }
        assert_eq!(outbox.position(), Some(1));
        assert_eq!(all(&outbox, Instant::now()).len(), 9);
        outbox.push(&tick(10));
        outbox.push_own(own("{}"));
        assert_eq!(outbox.position(), None);
    }

    #[test]
    fn other_channels_are_nothing() {
        let outbox = Outbox::new(BOUNDS, Channel::Quote.into(), None);
        outbox.push(&tick(1));
        assert_eq!(outbox.waiting(), 0);
    }

    #[test]
    fn above_the_soft_bound_the_latest_comes_once_the_queue_is_empty() {
        let outbox = Outbox::new(BOUNDS, Channels::BOTH, None);
        let now = Instant::now();
        for seq in 1..=9 {
            outbox.push(&tick(seq));
        }
        assert_eq!(all(&outbox, now).len(), 3);
        let rest = all(&outbox, now);
        assert!(
            rest[0].contains(r#""from":4,"to":8,"reason":"slow_consumer""#),
            "{rest:?}"
        );
        assert_eq!(rest[1..], [r#"{"seq":9}"#]);
        assert_eq!(outbox.take_dropped(), 5);
        outbox.push(&tick(10));
        assert_eq!(all(&outbox, now), [r#"{"seq":10}"#]);
    }

    #[test]
    fn conflated_ticks_come_at_once_and_then_once_an_interval() {
        let interval = Duration::from_millis(250);
        let outbox = Outbox::new(BOUNDS, Channels::BOTH, Some(interval));
        let now = Instant::now() + Duration::from_millis(1);
        outbox.push(&tick(1));
        assert_eq!(all(&outbox, now), [r#"{"seq":1}"#]);
        for seq in 2..=5 {
            outbox.push(&tick(seq));
        }
        let due = now + interval;
        let nothing = outbox.take(now, None, |_| Enough::No);
        assert_eq!(nothing, Taken::Nothing(Some(due)));
        // A cursor would say more than what has been told.
        outbox.push_cursor(own(""));
        assert_eq!(outbox.waiting(), 0);
        assert_eq!(all(&outbox, due), [r#"{"seq":5,"skipped":3}"#]);
    }

    #[test]
    fn the_end_comes_behind_what_is_queued_unless_it_is_cut() {
        let now = Instant::now();
        for cut in [false, true] {
            let outbox = Outbox::new(BOUNDS, Channels::BOTH, None);
            outbox.push(&tick(1));
            if cut {
                outbox.cut(Some(own("bye")));
            } else {
                outbox.end(Some(own("bye")));
            }
            outbox.push(&tick(2));
            let told = all(&outbox, now);
            assert_eq!(told.last().unwrap(), "bye");
            assert_eq!(told.len(), if cut { 1 } else { 2 });
            assert_eq!(outbox.take(now, None, |_| Enough::No), Taken::End);
        }
    }

    #[test]
    fn a_client_that_takes_nothing_is_known() {
        let outbox = Outbox::new(BOUNDS, Channels::BOTH, None);
        assert_eq!(outbox.stalled_since(), None);
        outbox.push_own(own(&"x".repeat(101)));
        assert!(outbox.is_over());
        assert!(outbox.stalled_since().is_some());
        all(&outbox, Instant::now());
        assert!(!outbox.is_over());
        assert_eq!(outbox.stalled_since(), None);
    }
}
