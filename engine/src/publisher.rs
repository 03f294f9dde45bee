//! Publishing from within the process.

use std::sync::{Arc, atomic::Ordering};

use tickwire_proto::tick::PublishedTick;

use crate::ingest::Lane;

/// A source of ticks in this process.
///
/// Ticks go through a bounded lane to the ingest thread, without a system call while that is
/// awake. Dropping the publisher ends the source: symbols that it was the last source of become
/// stale, after everything it handed in.
pub struct Publisher {
    lane: Arc<Lane>,
}

/// What became of a publisher's ticks so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublisherCounts {
    /// Placed on the tape.
    pub accepted: u64,
    /// Refused.
    pub rejected: u64,
    /// Preceded by another copy.
    pub duplicates: u64,
}

/// A tick could not be handed in.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum PublishError {
    /// The lane is full (`lane_slots`): ingest is behind. Here is the tick, to wait or to drop.
    #[error("the publisher's lane is full")]
    Full(PublishedTick),
}

impl Publisher {
    pub(crate) fn new(lane: Arc<Lane>) -> Self {
        Self { lane }
    }

    /// Hands a tick in.
    ///
    /// # Errors
    ///
    /// [`PublishError::Full`] with the tick, where the lane is full.
    #[expect(
        clippy::result_large_err,
        reason = "handing the tick back is the point"
    )]
    pub fn publish(&mut self, tick: PublishedTick) -> Result<(), PublishError> {
        self.lane.push(tick).map_err(PublishError::Full)
    }

    /// What became of the ticks that ingest has taken.
    pub fn counts(&self) -> PublisherCounts {
        let counts = self.lane.counts();
        PublisherCounts {
            accepted: counts.accepted.load(Ordering::Relaxed),
            rejected: counts.rejected.load(Ordering::Relaxed),
            duplicates: counts.duplicates.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.lane.close();
    }
}
