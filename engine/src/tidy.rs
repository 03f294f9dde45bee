//! Gives memory back to the system once connections have stopped coming and going.
//!
//! A connection's memory is allocated at the door and freed on a floor. Such memory comes back only
//! when the thread that allocated it looks, and what is free goes back to the system only while somebody
//! allocates: a process whose crowd has left would keep both until the next one comes.

use std::cell::Cell;

use crate::{clock::Millis, sys::heap};

/// How long nothing may have come or gone: memory that is needed again at once is better kept.
const QUIET_MS: u64 = 3_000;

/// One thread's part of it.
#[derive(Debug, Default)]
pub struct Tidying {
    due: Cell<Option<Millis>>,
}

impl Tidying {
    /// Something has come or gone at `now`.
    pub fn postpone(&self, now: Millis) {
        self.due.set(Some(now.after(QUIET_MS)));
    }

    /// When there is something to do, if there is.
    pub fn due(&self) -> Option<Millis> {
        self.due.get()
    }

    /// Does it if it is due, after `shrink` has made tables as small as what is in them; returns
    /// whether it was.
    pub fn run(&self, now: Millis, shrink: impl FnOnce()) -> bool {
        let is_due = self.due.get().is_some_and(|due| now >= due);
        if is_due {
            self.due.set(None);
            shrink();
            heap::give_back();
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_until_nothing_has_come_or_gone_for_a_while_and_is_done_once() {
        let tidying = Tidying::default();
        let run = |at| tidying.run(at, || {});
        assert!(!run(Millis::new(u64::MAX)), "nothing ever came");
        tidying.postpone(Millis::new(0));
        tidying.postpone(Millis::new(1_000));
        let due = Millis::new(1_000 + QUIET_MS);
        assert_eq!(tidying.due(), Some(due));
        assert!(!run(due.before(1)));
        assert!(run(due));
        assert!(!run(due), "done");
    }
}
