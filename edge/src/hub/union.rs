//! What all clients together follow: the edge's own subscriptions at the engine.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tickwire_proto::pattern::Selector;

use super::filter::Filter;

/// Symbols and patterns, and how many clients each has.
#[derive(Debug)]
pub struct Union {
    entries: HashMap<Selector, Entry>,
    most: usize,
}

#[derive(Debug)]
struct Entry {
    clients: usize,
    /// When the last one left.
    idle_since: Instant,
    /// From which position of the history on nothing of it is missing; `None` until the engine has
    /// confirmed it.
    covered_from: Option<u64>,
    /// Whether all that it begins with has come as well: snapshots of what is known, if anything is.
    settled: bool,
}

impl Union {
    /// An empty one of at most `most` symbols and patterns.
    pub fn new(most: usize) -> Self {
        Self {
            entries: HashMap::new(),
            most,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many more there may be, where the engine takes `engine_most` of them.
    pub fn room(&self, engine_most: usize) -> usize {
        self.most
            .min(engine_most)
            .saturating_sub(self.entries.len())
    }

    /// How many of `selectors` it has not yet.
    pub fn missing(&self, selectors: &[Selector]) -> usize {
        let missing = |selector: &&Selector| !self.entries.contains_key(selector);
        selectors.iter().filter(missing).count()
    }

    /// A client follows it; `true` where it is the first, and the engine is to be told.
    pub fn enter(&mut self, selector: Selector) -> bool {
        let mut is_new = false;
        let entry = self.entries.entry(selector).or_insert_with(|| {
            is_new = true;
            Entry {
                clients: 0,
                idle_since: Instant::now(),
                covered_from: None,
                settled: false,
            }
        });
        entry.clients += 1;
        is_new
    }

    /// A client follows it no more.
    pub fn leave(&mut self, selector: &Selector, now: Instant) {
        if let Some(entry) = self.entries.get_mut(selector) {
            entry.clients -= 1;
            entry.idle_since = now;
        }
    }

    /// Takes out what nobody has followed for `linger`.
    pub fn age(&mut self, now: Instant, linger: Duration) -> Vec<Selector> {
        let is_idle = |entry: &Entry| {
            entry.clients == 0 && now.saturating_duration_since(entry.idle_since) >= linger
        };
        let idle = self.entries.iter().filter(|(_, entry)| is_idle(entry));
        let idle: Vec<Selector> = idle.map(|(selector, _)| *selector).collect();
        for selector in &idle {
            self.entries.remove(selector);
        }
        idle
    }

    /// The engine has confirmed it, at this position of the history.
    pub fn confirm(&mut self, selector: &Selector, position: u64) {
        if let Some(entry) = self.entries.get_mut(selector) {
            entry.covered_from.get_or_insert(position);
        }
    }

    /// The engine knows nothing of it yet.
    pub fn settle_pending(&mut self, selector: &Selector) {
        if let Some(entry) = self.entries.get_mut(selector) {
            entry.settled = true;
        }
    }

    /// Everything that was confirmed has come with its snapshots.
    pub fn settle(&mut self) {
        for entry in self.entries.values_mut() {
            entry.settled |= entry.covered_from.is_some();
        }
    }

    /// All of it.
    pub fn filter(&self) -> Filter {
        self.entries.keys().collect()
    }

    /// Whether what `selector` begins with is complete.
    pub fn is_settled(&self, selector: &Selector) -> bool {
        self.covering(selector).any(|entry| entry.settled)
    }

    /// Whether nothing that `selector` delivers is missing in the history from `position` on.
    pub fn covers(&self, selector: &Selector, position: u64) -> bool {
        self.covering(selector)
            .any(|entry| entry.covered_from.is_some_and(|from| from <= position))
    }

    fn covering(&self, selector: &Selector) -> impl Iterator<Item = &Entry> {
        // Its own entry is nearly always the one, and found without a search.
        let own = self.entries.get(selector);
        let wider = self
            .entries
            .iter()
            .filter(|(other, _)| matches!(other, Selector::Pattern(_)) && other.covers(selector));
        own.into_iter().chain(wider.map(|(_, entry)| entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> Selector {
        Selector::parse(text).unwrap()
    }

    #[test]
    fn the_first_client_subscribes_and_the_last_lingers() {
        let mut union = Union::new(2);
        let (a, b) = (selector("A"), selector("B*"));
        assert!(union.enter(a) && !union.enter(a) && union.enter(b));
        assert_eq!((union.room(9), union.missing(&[a, selector("C")])), (0, 1));
        let (now, linger) = (Instant::now(), Duration::from_secs(60));
        union.leave(&a, now);
        assert_eq!(union.age(now + linger, linger), []);
        union.leave(&a, now);
        assert_eq!(union.age(now + linger / 2, linger), []);
        // Whoever comes back in time keeps it.
        assert!(!union.enter(a));
        assert_eq!(union.age(now + linger, linger), []);
        union.leave(&a, now);
        assert_eq!(union.age(now + linger, linger), [a]);
        assert!(union.enter(a));
    }

    #[test]
    fn what_is_covered_depends_on_when_it_was_confirmed() {
        let mut union = Union::new(9);
        let (one, all) = (selector("B1"), selector("B*"));
        union.enter(one);
        union.enter(all);
        assert!(!union.covers(&one, 100));
        union.confirm(&one, 50);
        union.confirm(&one, 70);
        assert!(union.covers(&one, 50) && !union.covers(&one, 49));
        // A wider subscription covers it as well, but not the other way around.
        union.confirm(&all, 20);
        assert!(union.covers(&one, 20) && !union.covers(&selector("C"), 99));
        assert!(!union.is_settled(&one));
        union.settle();
        assert!(union.is_settled(&one));
    }
}
