//! What ingest tells the bridge: how far the tape has come since there was something to send.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{bell::Bell, tape::Position};

/// Other hosts' records that the bridge need not look at as they come: each look takes some time from
/// the threads beside it. A tick of this host's waits for a look at no more than these.
const OTHERS_AT_ONCE: u64 = 2_048;
/// And no more than this part of what the bridge may be behind, the rest being for what comes at once.
const PART_OF_BACKLOG: u64 = 8;

/// Written by ingest, read by the bridge.
#[derive(Debug)]
pub struct News {
    bell: Arc<Bell>,
    /// Where the tape ended when the bridge was last told.
    end: AtomicU64,
    others_at_once: u64,
}

impl News {
    /// None yet, for a bridge that may be `backlog` records behind.
    ///
    /// # Errors
    ///
    /// Where the system has no descriptor left.
    pub fn new(backlog: usize) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            bell: Bell::new()?,
            end: AtomicU64::new(0),
            others_at_once: OTHERS_AT_ONCE.min(backlog as u64 / PART_OF_BACKLOG),
        }))
    }

    /// The tape has come to `head`; wakes the bridge where something of this host's publishers is among
    /// that, or much of others'.
    pub fn tell(&self, head: Position, is_own: bool) {
        let others = head.0 - self.end.load(Ordering::Relaxed);
        if is_own || others >= self.others_at_once {
            // With the records before it.
            self.end.store(head.0, Ordering::Release);
            self.bell.ring();
        }
    }

    /// How far the bridge has to look. Announce sleep on the bell before the last look.
    pub fn end(&self) -> Position {
        Position(self.end.load(Ordering::Acquire))
    }

    /// Rung with each news.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_records_are_news_only_when_they_are_many() {
        let news = News::new(1_024).unwrap();
        for (head, is_own, end) in [
            (1, false, 0),
            (2, true, 2),
            (129, false, 2),
            (130, false, 130),
            (130, false, 130),
            (131, true, 131),
        ] {
            news.tell(Position(head), is_own);
            assert_eq!(news.end(), Position(end), "at {head}");
        }
    }
}
