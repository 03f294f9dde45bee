//! Other hosts as sources: what the bridge brings, in the order of each shard's stream.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use rustc_hash::{FxHashMap, FxHashSet};
use tickwire_proto::{
    sbe::entry::Item,
    symbol::Symbol,
    tick::{FeedState, PublishedTick},
};

use super::sequencer::{Refusal, Sequencer, SourceId, Verdict};
use crate::{
    bell::Bell,
    bridge::{Arrival, Shard},
    clock::Millis,
};

/// The queue from the bridge to ingest.
pub struct HostLane {
    queue: ArrayQueue<(Shard, Arrival)>,
    bell: Arc<Bell>,
}

impl HostLane {
    /// A queue of `slots` entries that rings ingest's `bell`.
    pub fn new(slots: usize, bell: Arc<Bell>) -> Arc<Self> {
        Arc::new(Self {
            queue: ArrayQueue::new(slots),
            bell,
        })
    }

    /// Hands an entry in, or back where the lane is full: Redis keeps what is not taken.
    pub fn push(&self, shard: Shard, arrival: Arrival) -> Result<(), Arrival> {
        self.queue
            .push((shard, arrival))
            .map_err(|(_, arrival)| arrival)?;
        self.bell.ring();
        Ok(())
    }

    /// Takes the oldest.
    pub fn take(&self) -> Option<(Shard, Arrival)> {
        self.queue.pop()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// What became of other hosts' ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounts {
    /// Placed on the tape, or held for arbitration.
    pub accepted: u64,
    /// Preceded by another copy.
    pub duplicates: u64,
    /// Of a lower epoch, or of a symbol for which there is no room.
    pub refused: u64,
}

/// The sources that other hosts are, one for each host and shard.
#[derive(Debug, Default)]
pub struct Hosts {
    sources: FxHashMap<(u64, u32), SourceId>,
    met: u64,
    counts: HostCounts,
}

impl Hosts {
    /// Enters what one entry says.
    pub fn take(
        &mut self,
        sequencer: &mut Sequencer,
        shard: Shard,
        arrival: Arrival,
        now: Millis,
        wall_ns: u64,
    ) {
        match arrival {
            Arrival::Silent { host } => {
                if let Some(source) = self.sources.remove(&(host, shard.number)) {
                    sequencer.leave(source, wall_ns);
                }
            }
            Arrival::Items {
                host,
                is_roll,
                items,
            } => {
                let source = self.source(host, shard);
                if is_roll {
                    withdraw_unnamed(sequencer, source, &items, wall_ns);
                }
                for item in &items {
                    let outcome = self.enter(sequencer, source, item, now, wall_ns);
                    self.counts.refused += u64::from(outcome.is_err());
                }
            }
        }
    }

    /// Counts since the start.
    pub fn counts(&self) -> HostCounts {
        self.counts
    }

    fn source(&mut self, host: u64, shard: Shard) -> SourceId {
        let met = &mut self.met;
        *self.sources.entry((host, shard.number)).or_insert_with(|| {
            *met += 1;
            SourceId::host(*met)
        })
    }

    fn enter(
        &mut self,
        sequencer: &mut Sequencer,
        source: SourceId,
        item: &Item,
        now: Millis,
        wall_ns: u64,
    ) -> Result<(), Refusal> {
        match item {
            Item::Carried(carried) => sequencer.carry(source, carried, now, wall_ns),
            Item::Gap(gap) => sequencer.declare_gap(source, gap, now, wall_ns),
            Item::Feed { symbol, state } => {
                if *state == FeedState::Stale {
                    sequencer.withdraw(source, *symbol, wall_ns);
                }
                Ok(())
            }
            Item::Tick(tick) => {
                let tick = PublishedTick {
                    symbol: tick.symbol,
                    identity: Some(tick.identity),
                    ts_ns: Some(tick.ts_ns),
                    values: tick.values,
                };
                match sequencer.submit(source, 0, &tick, now, wall_ns) {
                    Verdict::Accepted | Verdict::Held => self.counts.accepted += 1,
                    Verdict::Duplicate => self.counts.duplicates += 1,
                    Verdict::Refused(refusal) => return Err(refusal),
                }
                Ok(())
            }
        }
    }
}

/// A host that names all that it carries has nothing else any more.
fn withdraw_unnamed(sequencer: &mut Sequencer, source: SourceId, items: &[Item], wall_ns: u64) {
    let named: FxHashSet<Symbol> = items
        .iter()
        .filter_map(|item| match item {
            Item::Carried(carried) => Some(carried.symbol),
            _ => None,
        })
        .collect();
    for symbol in sequencer.symbols_of(source) {
        if !named.contains(&symbol) {
            sequencer.withdraw(source, symbol, wall_ns);
        }
    }
}

#[cfg(test)]
#[path = "hosts_tests.rs"]
mod tests;
