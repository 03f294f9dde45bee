//! Who of a crowd comes when: one after the other, or all of them, and again those who are turned
//! away.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use tickwire_proto::backoff::Backoff;

/// Clients, by their numbers from 0, in the order in which they come.
pub(super) struct Arrivals {
    began: Instant,
    /// Those who have not come yet.
    first: std::ops::Range<u64>,
    /// How many of them come in a second.
    per_s: f64,
    /// Who comes back, where anyone does.
    returning: Option<Returning>,
}

#[derive(Default)]
struct Returning {
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    backoffs: FxHashMap<u64, Backoff>,
}

impl Arrivals {
    /// Each of `clients` once, `per_s` a second.
    pub(super) fn once(clients: u32, per_s: u32) -> Self {
        Self {
            began: Instant::now(),
            first: 0..clients.into(),
            per_s: per_s.into(),
            returning: None,
        }
    }

    /// All of `clients`, who have just lost their connections, and each again until it is let in:
    /// after the [`Backoff`] of tickwire's clients.
    pub(super) fn returning(clients: u32) -> Self {
        let mut arrivals = Self {
            returning: Some(Returning::default()),
            ..Self::once(0, 0)
        };
        for client in 0..clients.into() {
            arrivals.turned_away(client, None);
        }
        arrivals
    }

    /// Who comes now, if anyone does.
    pub(super) fn next(&mut self) -> Option<u64> {
        let now = Instant::now();
        if let Some(Returning { due, .. }) = &mut self.returning {
            let &Reverse((at, client)) = due.peek()?;
            if at > now {
                return None;
            }
            due.pop();
            return Some(client);
        }
        let due = (now - self.began).as_secs_f64() * self.per_s;
        if self.first.start as f64 > due {
            return None;
        }
        self.first.next()
    }

    /// A client is not inside, or not any more. `at_least_s` is what the server asked it to wait.
    pub(super) fn turned_away(&mut self, client: u64, at_least_s: Option<u64>) {
        if let Some(Returning { due, backoffs }) = &mut self.returning {
            let backoff = backoffs
                .entry(client)
                .or_insert_with(|| Backoff::new(client));
            let wait_ms = backoff.failed(at_least_s.map(|seconds| seconds.saturating_mul(1_000)));
            let at = Instant::now() + Duration::from_millis(wait_ms);
            due.push(Reverse((at, client)));
        }
    }

    /// Whether nobody is to come any more, unless someone is turned away.
    pub(super) fn is_over(&self) -> bool {
        let returning = self.returning.as_ref();
        self.first.is_empty() && returning.is_none_or(|returning| returning.due.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_once_at_its_pace() {
        let mut arrivals = Arrivals::once(3, 1_000_000);
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(arrivals.next(), Some(0));
        arrivals.turned_away(0, None);
        assert_eq!((arrivals.next(), arrivals.next()), (Some(1), Some(2)));
        assert_eq!((arrivals.next(), arrivals.is_over()), (None, true));
        let mut slow = Arrivals::once(3, 1);
        assert_eq!((slow.next(), slow.next()), (Some(0), None));
        assert!(!slow.is_over());
    }

    #[test]
    fn who_is_turned_away_comes_back_later_and_not_before_it_may() {
        let mut arrivals = Arrivals::returning(100);
        assert_eq!(arrivals.next(), None, "all have just lost their connection");
        std::thread::sleep(Duration::from_millis(301));
        let mut came: Vec<u64> = std::iter::from_fn(|| arrivals.next()).collect();
        came.sort_unstable();
        assert_eq!(came, (0..100).collect::<Vec<_>>());
        assert!(arrivals.is_over());
        arrivals.turned_away(7, Some(3_600));
        arrivals.turned_away(8, None);
        std::thread::sleep(Duration::from_millis(601));
        assert_eq!((arrivals.next(), arrivals.next()), (Some(8), None));
        assert!(!arrivals.is_over());
    }
}
