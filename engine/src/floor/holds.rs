//! Holds of latency budgets: who is to be sent to when `max_delay_ms` is over.
//!
//! Every connection with a budget begins a hold with nearly every send, far too often for the heap
//! of the other deadlines. A budget is at most a second, so a ring of buckets, one a millisecond, has
//! a place for each.

use tickwire_proto::request::MAX_DELAY_MS_MAX;

use crate::clock::Millis;

/// Buckets: more than the largest budget has milliseconds.
const BUCKETS: usize = 1_024;
const _: () = assert!(BUCKETS > MAX_DELAY_MS_MAX as usize + 1);

/// Entries that an empty bucket keeps room for.
const KEPT: usize = 64;

/// A ring of buckets of (connection, generation), or of audiences.
pub struct Holds {
    buckets: Vec<Vec<(u32, u32)>>,
    /// Everything up to here was handed out.
    done: Millis,
    count: usize,
}

impl Default for Holds {
    fn default() -> Self {
        Self {
            buckets: vec![Vec::new(); BUCKETS],
            done: Millis::default(),
            count: 0,
        }
    }
}

impl Holds {
    /// Adds a hold of a connection until `due`, at most the largest budget behind what was last taken.
    pub fn add(&mut self, due: Millis, connection: u32, generation: u32) {
        // One that is due already goes out with the next millisecond.
        let due = due.max(self.done.after(1));
        self.buckets[bucket(due)].push((connection, generation));
        self.count += 1;
    }

    /// Where nobody is held, nobody is due at `now`; whether that is so.
    #[inline]
    pub fn skip_to(&mut self, now: Millis) -> bool {
        let nobody = self.count == 0;
        if nobody {
            self.done = self.done.max(now);
        }
        nobody
    }

    /// Moves who is due at `now` to `into`.
    pub fn take_due(&mut self, now: Millis, into: &mut Vec<(u32, u32)>) {
        let passed = now.since(self.done).min(BUCKETS as u64);
        if self.count > 0 {
            for ms in 1..=passed {
                let bucket = &mut self.buckets[bucket(self.done.after(ms))];
                into.append(bucket);
                // A popular symbol fills one bucket with all its followers, and each time another.
                if bucket.capacity() > KEPT {
                    *bucket = Vec::new();
                }
            }
            self.count -= into.len();
        }
        self.done = self.done.max(now);
    }

    /// When the next is due.
    pub fn next(&self) -> Option<Millis> {
        (1..=BUCKETS as u64)
            .take_while(|_| self.count > 0)
            .map(|ms| self.done.after(ms))
            .find(|due| !self.buckets[bucket(*due)].is_empty())
    }
}

fn bucket(due: Millis) -> usize {
    due.ms() as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_hold_ends_in_its_millisecond(steps in prop::collection::vec((0..1_500_u64, 0..4_usize, 0..=1_000_u64), 0..60)) {
            let mut holds = Holds::default();
            let mut model: Vec<(Millis, u32)> = Vec::new();
            let (mut now, mut number) = (Millis::default(), 0);
            for (passed, count, delay_ms) in steps {
                now = now.after(passed);
                let mut due = Vec::new();
                holds.take_due(now, &mut due);
                let mut due: Vec<u32> = due.into_iter().map(|(connection, _)| connection).collect();
                due.sort_unstable();
                let expected: Vec<u32> = model.iter().filter(|(at, _)| *at <= now).map(|(_, own)| *own).collect();
                prop_assert_eq!(due, expected);
                model.retain(|(at, _)| *at > now);
                for _ in 0..count {
                    let at = now.after(delay_ms.max(1));
                    holds.add(at, number, 0);
                    model.push((at, number));
                    number += 1;
                }
                prop_assert_eq!(holds.next(), model.iter().map(|(at, _)| *at).min());
            }
        }
    }
}
