//! Lanes: how publishers in this process reach ingest.
//!
//! A lane is a bounded queue with one writer. A full lane hands the tick back: waiting or
//! dropping is the publisher's choice.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crossbeam::queue::ArrayQueue;
use tickwire_proto::tick::PublishedTick;

use crate::bell::Bell;

/// The queue of one in-process publisher.
pub struct Lane {
    /// For logs.
    pub name: String,
    queue: ArrayQueue<PublishedTick>,
    bell: Arc<Bell>,
    closed: AtomicBool,
    counts: LaneCounts,
}

/// What became of a lane's ticks; written by ingest alone.
#[derive(Debug, Default)]
pub struct LaneCounts {
    /// Placed on the tape.
    pub accepted: AtomicU64,
    /// Refused.
    pub rejected: AtomicU64,
    /// Preceded by another copy.
    pub duplicates: AtomicU64,
}

impl Lane {
    /// A lane of `slots` ticks that rings ingest's `bell`.
    pub fn new(name: String, slots: usize, bell: Arc<Bell>) -> Arc<Self> {
        Arc::new(Self {
            name,
            queue: ArrayQueue::new(slots),
            bell,
            closed: AtomicBool::new(false),
            counts: LaneCounts::default(),
        })
    }

    /// Hands a tick in, or back where the lane is full.
    #[expect(
        clippy::result_large_err,
        reason = "handing the tick back is the point"
    )]
    pub fn push(&self, tick: PublishedTick) -> Result<(), PublishedTick> {
        self.queue.push(tick)?;
        self.bell.ring();
        Ok(())
    }

    /// Takes the oldest tick.
    pub fn take(&self) -> Option<PublishedTick> {
        self.queue.pop()
    }

    /// Ticks that wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The publisher is gone; what it handed in is still taken.
    pub fn close(&self) {
        // Release pairs with the Acquire in `is_finished`: who sees the flag sees every push.
        self.closed.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Whether the publisher is gone and everything was taken.
    pub fn is_finished(&self) -> bool {
        self.closed.load(Ordering::Acquire) && self.queue.is_empty()
    }

    /// What became of the ticks so far.
    pub fn counts(&self) -> &LaneCounts {
        &self.counts
    }
}
