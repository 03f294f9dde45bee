//! Deadlines of connections: one entry each in a heap, however many things are due.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::clock::Millis;

/// When to look at which connection.
#[derive(Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Millis, u32, u32)>>,
}

/// A connection's own view of its entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Armed(Option<Millis>);

impl Timers {
    /// Makes sure that the connection is looked at by `deadline`.
    ///
    /// A later deadline than the armed one costs nothing: the earlier entry fires, finds nothing
    /// due, and is armed again.
    pub fn arm(&mut self, armed: &mut Armed, deadline: Millis, connection: u32, generation: u32) {
        if armed.0.is_none_or(|earlier| deadline < earlier) {
            armed.0 = Some(deadline);
            self.heap.push(Reverse((deadline, connection, generation)));
        }
    }

    /// The next entry that is due, as (deadline, connection, generation).
    pub fn pop_due(&mut self, now: Millis) -> Option<(Millis, u32, u32)> {
        let Reverse((deadline, ..)) = *self.heap.peek()?;
        if deadline > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Keeps no more room than there are entries.
    pub fn shrink(&mut self) {
        self.heap.shrink_to_fit();
    }

    /// How many entries there are, those overtaken by earlier ones included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// When the next entry is due.
    pub fn next(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse((deadline, ..))| *deadline)
    }
}

impl Armed {
    /// Whether an entry that fired is the one that counts; an older one was overtaken.
    pub fn fired(&mut self, deadline: Millis) -> bool {
        let current = self.0 == Some(deadline);
        if current {
            self.0 = None;
        }
        current
    }
}
