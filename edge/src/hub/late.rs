//! Conflation: the latest tick of each symbol and channel, for clients that asked for no more or
//! that do not keep up.

use std::{collections::HashMap, sync::Arc};

use tickwire_proto::{
    reply::{Gap, GapReason},
    symbol::Symbol,
    tick::{Channel, Identity},
};

use super::block::{Block, Item, SymbolId, What};

/// What becomes of ticks that a later one overtakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overtaken {
    /// The client asked for that: the next tick's `skipped` counts them.
    Skipped,
    /// The client is too slow: a `gap` names them.
    Lost,
}

/// The latest of each symbol and channel, in the order in which they became late.
#[derive(Debug, Default)]
pub struct Late {
    slots: Vec<Slot>,
    by_key: HashMap<(SymbolId, Channel), usize>,
}

#[derive(Debug)]
struct Slot {
    symbol: SymbolId,
    name: Symbol,
    channel: Channel,
    epoch: u64,
    /// Overtaken and lost, or named by a gap meanwhile: first and last seq.
    lost: Option<(u64, u64)>,
    /// Gaps of the account itself, which stand before `latest`.
    gaps: Vec<Arc<Block>>,
    /// The gap that ends the epoch, which stands behind all that is lost of it.
    closing: Option<Arc<Block>>,
    skipped: u32,
    latest: Option<(u64, Arc<Block>)>,
}

impl Late {
    /// Whether nothing is due.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(Slot::is_empty)
    }

    /// Whether nothing is due, and no tick is owed that would tell what was skipped.
    pub fn is_settled(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes a tick; how many others it has overtaken for good.
    pub fn tick(&mut self, block: Arc<Block>, identity: Identity, overtaken: Overtaken) -> u64 {
        let What::Tick(channel, _) = block.what else {
            return 0;
        };
        let slot = self.slot(&block, channel, identity.epoch);
        let before = slot.latest.replace((identity.seq, block));
        before.map_or(0, |(seq, _)| slot.overtake(seq, overtaken))
    }

    /// Takes a gap; how many ticks it has overtaken for good.
    pub fn gap(&mut self, block: Arc<Block>, gap: &Gap, overtaken: Overtaken) -> u64 {
        let slot = self.slot(&block, gap.channel, gap.epoch);
        let before = slot.latest.take();
        let count = before.map_or(0, |(seq, _)| slot.overtake(seq, overtaken));
        match (&mut slot.lost, gap.to) {
            // It follows what is lost without a tick between them, so it is named along.
            (Some((_, last)), Some(to)) => *last = to.max(*last),
            (None, Some(_)) => slot.gaps.push(block),
            (_, None) => slot.closing = Some(block),
        }
        count
    }

    /// Whether a gap of this symbol and channel would stand behind something late.
    pub fn has(&self, symbol: SymbolId, channel: Channel) -> bool {
        self.by_key.contains_key(&(symbol, channel))
    }

    /// Hands out everything about one symbol: what follows must not overtake it.
    pub fn settle(&mut self, symbol: SymbolId, mut each: impl FnMut(Item)) {
        for slot in self.slots.iter_mut().filter(|slot| slot.symbol == symbol) {
            slot.hand_out(&mut each);
        }
    }

    /// Hands out everything. What was skipped without a tick to tell it waits for the next.
    pub fn hand_out(&mut self, mut each: impl FnMut(Item)) {
        for slot in &mut self.slots {
            slot.hand_out(&mut each);
        }
        self.slots.retain(|slot| slot.skipped > 0);
        self.by_key = self
            .slots
            .iter()
            .enumerate()
            .map(|(at, slot)| ((slot.symbol, slot.channel), at))
            .collect();
    }

    fn slot(&mut self, block: &Block, channel: Channel, epoch: u64) -> &mut Slot {
        let slots = &mut self.slots;
        let at = *self
            .by_key
            .entry((block.symbol, channel))
            .or_insert_with(|| {
                slots.push(Slot {
                    symbol: block.symbol,
                    name: block.name,
                    channel,
                    epoch,
                    lost: None,
                    gaps: Vec::new(),
                    closing: None,
                    skipped: 0,
                    latest: None,
                });
                slots.len() - 1
            });
        let slot = &mut slots[at];
        if slot.epoch != epoch {
            // What was skipped of an epoch that has ended no tick can tell any more.
            slot.skipped = 0;
            slot.epoch = epoch;
        }
        slot
    }
}

impl Slot {
    fn is_empty(&self) -> bool {
        self.latest.is_none()
            && self.lost.is_none()
            && self.gaps.is_empty()
            && self.closing.is_none()
    }

    fn overtake(&mut self, seq: u64, overtaken: Overtaken) -> u64 {
        match overtaken {
            Overtaken::Skipped => self.skipped = self.skipped.saturating_add(1),
            Overtaken::Lost => {
                self.lost = Some(self.lost.map_or((seq, seq), |(first, _)| (first, seq)));
            }
        }
        1
    }

    fn hand_out(&mut self, each: &mut impl FnMut(Item)) {
        for gap in self.gaps.drain(..) {
            each(Item::Shared(gap));
        }
        if let Some((first, last)) = self.lost.take() {
            each(Item::gap(&Gap {
                symbol: self.name,
                channel: self.channel,
                epoch: self.epoch,
                from: Some(first),
                to: Some(last),
                reason: GapReason::SlowConsumer,
                replay: None,
            }));
        }
        if let Some(closing) = self.closing.take() {
            each(Item::Shared(closing));
        }
        if let Some((_, block)) = self.latest.take() {
            each(match std::mem::take(&mut self.skipped) {
                0 => Item::Shared(block),
                skipped => Item::Skipped(block, skipped),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol() -> Symbol {
        Symbol::parse("A").unwrap()
    }

    fn block(what: What) -> Arc<Block> {
        Arc::new(Block {
            position: Some(0),
            symbol: SymbolId(0),
            name: symbol(),
            what,
            json: Box::from(*b"{}"),
        })
    }

    fn tick(late: &mut Late, seq: u64, overtaken: Overtaken) {
        let identity = Identity { epoch: 1, seq };
        let block = block(What::Tick(Channel::Trade, identity));
        late.tick(block, identity, overtaken);
    }

    fn gap(late: &mut Late, from: u64, to: u64, overtaken: Overtaken) {
        let gap = Gap {
            symbol: symbol(),
            channel: Channel::Trade,
            epoch: 1,
            from: Some(from),
            to: Some(to),
            reason: GapReason::Source,
            replay: None,
        };
        late.gap(block(What::Gap(gap)), &gap, overtaken);
    }

    /// What is handed out, in short.
    fn told(late: &mut Late) -> Vec<String> {
        let mut told = Vec::new();
        late.hand_out(|item| {
            told.push(match item {
                Item::Shared(block) => match block.what {
                    What::Tick(_, identity) => identity.seq.to_string(),
                    What::Gap(gap) => format!("{}-{}", gap.from.unwrap(), gap.to.unwrap()),
                    What::Start(_) | What::Feed(_) => unreachable!(),
                },
                Item::Skipped(block, skipped) => match block.what {
                    What::Tick(_, identity) => format!("{} after {skipped}", identity.seq),
                    _ => unreachable!(),
                },
                Item::Own { json, .. } => {
                    let gap: serde_json::Value = serde_json::from_slice(&json).unwrap();
                    format!("lost {}-{}", gap["from"], gap["to"])
                }
                Item::Cursor(_) => unreachable!(),
            });
        });
        told
    }

    #[test]
    fn the_slow_get_the_latest_and_a_gap_that_adds_up() {
        let mut late = Late::default();
        for seq in 5..=8 {
            tick(&mut late, seq, Overtaken::Lost);
        }
        assert_eq!(told(&mut late), ["lost 5-7", "8"]);
        assert!(late.is_empty());
        tick(&mut late, 9, Overtaken::Lost);
        gap(&mut late, 10, 12, Overtaken::Lost);
        assert_eq!(told(&mut late), ["lost 9-12"]);
        gap(&mut late, 13, 14, Overtaken::Lost);
        tick(&mut late, 15, Overtaken::Lost);
        tick(&mut late, 16, Overtaken::Lost);
        assert_eq!(told(&mut late), ["13-14", "lost 15-15", "16"]);
    }

    #[test]
    fn whoever_asked_for_the_latest_is_told_how_many_it_stands_for() {
        let mut late = Late::default();
        for seq in 5..=8 {
            tick(&mut late, seq, Overtaken::Skipped);
        }
        assert_eq!(told(&mut late), ["8 after 3"]);
        tick(&mut late, 9, Overtaken::Skipped);
        gap(&mut late, 10, 12, Overtaken::Skipped);
        // The tick before the gap has no other to be told with yet.
        assert_eq!(told(&mut late), ["10-12"]);
        assert!(late.is_empty());
        tick(&mut late, 13, Overtaken::Skipped);
        assert_eq!(told(&mut late), ["13 after 1"]);
    }
}
