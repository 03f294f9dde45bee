//! What a session asks of the engine: which requests, how large, how fast, and which of them are
//! still without an answer.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::{
    code::ErrorCode,
    pattern::{Pattern, Selector},
    reply::{Accepted, Limits},
    request::{Op, Point, Request, Selection, Since, Subscribe},
    symbol::Symbol,
};

/// Operations that an engine takes at once (`ops_burst`).
const BURST_MILLIOPS: i64 = 20_000;
const MILLIOPS: i64 = 1_000;

/// Everything of a `subscribe` but its symbols and points: field names, options, a cursor of 64
/// bytes. Counted generously.
const ENVELOPE_BYTES: usize = 400;
/// Quotes and comma around a selector.
const SELECTOR_BYTES: usize = 3;
/// `"":{"epoch":,"trade":,"quote":},` and three numbers of up to 16 digits.
const POINT_BYTES: usize = 32 + 3 * 16;

/// Requests under way on one connection.
#[derive(Debug)]
pub(super) struct Requests {
    waiting: VecDeque<Request>,
    unanswered: HashMap<u32, Request>,
    /// `since` requests whose `replayed` is yet to come.
    replaying: HashSet<u32>,
    /// Whether the last of them has come, and nobody was told.
    resumed: bool,
    ops_per_s: i64,
    milliops: i64,
    filled_at_ms: u64,
}

impl Requests {
    pub(super) fn new(now_ms: u64, ops_per_s: u32, waiting: VecDeque<Request>) -> Self {
        let replaying = waiting
            .iter()
            .filter(|request| is_resume(request))
            .filter_map(|request| request.id);
        Self {
            replaying: replaying.collect(),
            resumed: false,
            waiting,
            unanswered: HashMap::new(),
            ops_per_s: i64::from(ops_per_s.max(1)),
            milliops: BURST_MILLIOPS,
            filled_at_ms: now_ms,
        }
    }

    /// Whether a cursor that comes now covers all that the session asked for: every request is
    /// on its way, and none is in the middle of its replay.
    pub(super) fn are_settled(&self) -> bool {
        self.waiting.is_empty() && self.replaying.is_empty()
    }

    /// The next request that the rate allows.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<Request> {
        self.refill(now_ms);
        if self.milliops < MILLIOPS {
            return None;
        }
        let request = self.waiting.pop_front()?;
        self.milliops -= MILLIOPS;
        if let Some(id) = request.id {
            self.unanswered.insert(id, request.clone());
        }
        Some(request)
    }

    /// Adds a request behind those that wait.
    pub(super) fn push(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    /// When [`Requests::next`] will have something; `None` while nothing waits.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let missing = (MILLIOPS - self.milliops).max(0);
        let wait_ms = (missing + self.ops_per_s - 1) / self.ops_per_s;
        (!self.waiting.is_empty()).then(|| self.filled_at_ms + wait_ms as u64)
    }

    fn refill(&mut self, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.filled_at_ms).min(86_400_000) as i64;
        self.milliops = BURST_MILLIOPS.min(self.milliops + elapsed_ms * self.ops_per_s);
        self.filled_at_ms = self.filled_at_ms.max(now_ms);
    }

    /// Takes note of an operation that the caller sends by itself.
    pub(super) fn spend(&mut self, now_ms: u64) {
        self.refill(now_ms);
        self.milliops -= MILLIOPS;
    }

    /// A request was acked.
    pub(super) fn answered(&mut self, id: u32) {
        self.unanswered.remove(&id);
    }

    /// What came of a `subscribe`: where nothing was taken, nothing will be replayed.
    pub(super) fn subscribed(&mut self, id: u32, accepted: &Accepted) {
        if accepted.symbols.is_empty() && accepted.patterns.is_empty() {
            self.replayed(id);
        }
    }

    /// `replayed` came, or never will.
    pub(super) fn replayed(&mut self, id: u32) {
        self.resumed |= self.replaying.remove(&id) && self.replaying.is_empty();
    }

    /// Whether the last resume of the connection has ended since this was asked last.
    pub(super) fn take_resumed(&mut self) -> bool {
        std::mem::take(&mut self.resumed)
    }

    /// Takes back the selectors of a subscription that waits at the end, to be asked for together
    /// with more.
    pub(super) fn take_last(&mut self) -> Vec<Selector> {
        match self.waiting.back_mut().map(|request| &mut request.op) {
            Some(Op::Subscribe(subscribe)) if subscribe.since.is_none() => {
                let selectors = std::mem::take(&mut subscribe.selection.selectors);
                self.waiting.pop_back();
                selectors
            }
            _ => Vec::new(),
        }
    }

    /// A request of the session failed. `true` where it will be tried again and is no matter of
    /// the caller's.
    pub(super) fn failed(&mut self, id: u32, code: ErrorCode, now_ms: u64) -> bool {
        let Some(mut request) = self.unanswered.remove(&id) else {
            return false;
        };
        match code {
            // Our count of the rate was wrong, so wait a second: insisting ends in a 4429.
            ErrorCode::RateLimited => {
                self.refill(now_ms);
                self.milliops = MILLIOPS - MILLIOPS * self.ops_per_s;
            }
            ErrorCode::BadCursor if drop_cursor(&mut request) => {}
            _ => {
                self.replayed(id);
                return false;
            }
        }
        if !is_resume(&request) {
            self.replayed(id);
        }
        self.waiting.push_front(request);
        true
    }
}

fn is_resume(request: &Request) -> bool {
    matches!(&request.op, Op::Subscribe(Subscribe { since: Some(_), .. }))
}

/// Takes the cursor out of a request, leaving the points; `false` where it had none.
fn drop_cursor(request: &mut Request) -> bool {
    let Op::Subscribe(subscribe) = &mut request.op else {
        return false;
    };
    let had_cursor = subscribe
        .since
        .as_mut()
        .is_some_and(|since| since.cursor.take().is_some());
    if subscribe
        .since
        .as_ref()
        .is_some_and(|since| since.points.is_empty())
    {
        subscribe.since = None;
    }
    had_cursor
}

/// Cuts subscriptions into requests that fit the connection's limits.
///
/// Every selector becomes part of one request, with the points of the symbols that it governs. A
/// pattern whose points do not fit one message goes by the cursor alone; without a cursor it
/// keeps what fits, and the engine replays the other symbols from their base, which costs
/// repeats but loses nothing. What has neither cursor nor points starts afresh.
pub(super) fn plan(
    template: &Subscribe,
    points: impl Iterator<Item = (Symbol, Point)>,
    limits: &Limits,
) -> Vec<Subscribe> {
    let cursor = template.since.as_ref().and_then(|since| since.cursor);
    let room_bytes = (limits.message_bytes as usize).saturating_sub(ENVELOPE_BYTES);
    let selectors = &template.selection.selectors;
    let mut governed = by_governor(selectors, points);
    let mut fresh = Batches::new(room_bytes, limits.symbols);
    let mut resumed = Batches::new(room_bytes, limits.symbols);
    for &selector in selectors {
        let mut own = governed.remove(&selector).unwrap_or_default();
        if own.is_empty() && cursor.is_none() {
            fresh.add(selector, own);
            continue;
        }
        let own_room_bytes = room_bytes.saturating_sub(selector_bytes(&selector));
        if points_bytes(&own) > own_room_bytes {
            let kept = if cursor.is_some() {
                0
            } else {
                points_that_fit(&own, own_room_bytes)
            };
            own.truncate(kept);
        }
        resumed.add(selector, own);
    }
    let request = |(selectors, since): (Vec<Selector>, Option<Since>)| Subscribe {
        selection: Selection {
            selectors,
            rejected: Vec::new(),
        },
        since,
        ..template.clone()
    };
    let fresh = fresh.done.into_iter().map(|batch| (batch.selectors, None));
    let resumed = resumed.done.into_iter().map(|batch| {
        (
            batch.selectors,
            Some(Since {
                cursor,
                points: batch.points,
            }),
        )
    });
    fresh.chain(resumed).map(request).collect()
}

/// Cuts a list of subscriptions to end into requests that fit the connection's limits.
pub(super) fn plan_end(selectors: Vec<Selector>, limits: &Limits) -> Vec<Selection> {
    let room_bytes = (limits.message_bytes as usize).saturating_sub(ENVELOPE_BYTES);
    let mut batches = Batches::new(room_bytes, limits.symbols);
    for selector in selectors {
        batches.add(selector, Vec::new());
    }
    let selection = |batch: Batch| Selection {
        selectors: batch.selectors,
        rejected: Vec::new(),
    };
    batches.done.into_iter().map(selection).collect()
}

/// Sorts points by the selector that governs their symbol: its own, else the longest pattern.
fn by_governor(
    selectors: &[Selector],
    points: impl Iterator<Item = (Symbol, Point)>,
) -> HashMap<Selector, Vec<(Symbol, Point)>> {
    let exact: HashSet<Symbol> = selectors
        .iter()
        .filter_map(|selector| match selector {
            Selector::Symbol(symbol) => Some(*symbol),
            Selector::Pattern(_) => None,
        })
        .collect();
    let mut patterns: Vec<Pattern> = selectors
        .iter()
        .filter_map(|selector| match selector {
            Selector::Symbol(_) => None,
            Selector::Pattern(pattern) => Some(*pattern),
        })
        .collect();
    patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.prefix().len()));
    let mut governed: HashMap<Selector, Vec<(Symbol, Point)>> = HashMap::new();
    for (symbol, point) in points {
        let governor = if exact.contains(&symbol) {
            Some(Selector::Symbol(symbol))
        } else {
            patterns
                .iter()
                .find(|pattern| pattern.matches(&symbol))
                .copied()
                .map(Selector::Pattern)
        };
        if let Some(governor) = governor {
            governed.entry(governor).or_default().push((symbol, point));
        }
    }
    governed
}

fn selector_bytes(selector: &Selector) -> usize {
    SELECTOR_BYTES
        + match selector {
            Selector::Symbol(symbol) => symbol.as_bytes().len(),
            Selector::Pattern(pattern) => pattern.prefix().len() + 1,
        }
}

fn points_bytes(points: &[(Symbol, Point)]) -> usize {
    points.iter().map(point_bytes).sum()
}

fn point_bytes((symbol, _): &(Symbol, Point)) -> usize {
    POINT_BYTES + symbol.as_bytes().len()
}

fn points_that_fit(points: &[(Symbol, Point)], room_bytes: usize) -> usize {
    let ends = points.iter().scan(0, |end_bytes, point| {
        *end_bytes += point_bytes(point);
        Some(*end_bytes)
    });
    ends.take_while(|&end_bytes| end_bytes <= room_bytes)
        .count()
}

/// Requests being filled one after the other.
struct Batches {
    room_bytes: usize,
    symbols_max: usize,
    done: Vec<Batch>,
}

#[derive(Default)]
struct Batch {
    bytes: usize,
    selectors: Vec<Selector>,
    points: Vec<(Symbol, Point)>,
}

impl Batches {
    fn new(room_bytes: usize, symbols_max: u32) -> Self {
        Self {
            room_bytes,
            symbols_max: symbols_max.max(1) as usize,
            done: Vec::new(),
        }
    }

    fn add(&mut self, selector: Selector, points: Vec<(Symbol, Point)>) {
        let bytes = selector_bytes(&selector) + points_bytes(&points);
        let fits = self.done.last().is_some_and(|batch| {
            batch.bytes + bytes <= self.room_bytes && batch.selectors.len() < self.symbols_max
        });
        if !fits {
            self.done.push(Batch::default());
        }
        if let Some(batch) = self.done.last_mut() {
            batch.bytes += bytes;
            batch.selectors.push(selector);
            batch.points.extend(points);
        }
    }
}
