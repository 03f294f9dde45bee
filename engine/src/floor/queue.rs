//! The queue of one connection: ticks by reference, and frames of its own between them, in order.
//!
//! Ticks are many and frames are few. So ticks stand in one plain vector, which is as cheap to add
//! to, to compare and to empty as memory is, and each frame remembers how many ticks it follows.

use std::collections::VecDeque;

use super::{outbox::Queued, pieces::OwnFrame};
use crate::tape::SymbolId;

/// Ticks taken that the vector still holds, above which it is moved together.
const TAKEN_MAX: usize = 1_024;

/// What waits, oldest first.
#[derive(Default)]
pub struct Queue {
    /// From `taken` on.
    ticks: Vec<Queued>,
    #[expect(
        clippy::box_collection,
        reason = "most connections have none most of the time, and 24 bytes each add up"
    )]
    frames: Option<Box<VecDeque<Placed>>>,
    taken: u32,
    frame_bytes: u32,
}

/// A frame, and the index of the tick that it stands before.
struct Placed {
    before: usize,
    frame: OwnFrame,
}

/// What comes next.
pub enum Entry {
    /// A tick.
    Tick(Queued),
    /// A frame, or several.
    Frame(OwnFrame),
}

impl Queue {
    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ticks.is_empty() && self.frames.is_none()
    }

    /// The ticks that wait, in order.
    #[inline]
    pub fn ticks(&self) -> &[Queued] {
        &self.ticks[self.taken as usize..]
    }

    /// Bytes of the frames that wait.
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes as usize
    }

    /// Whether frames wait as well.
    pub fn has_frames(&self) -> bool {
        self.frames.is_some()
    }

    /// Adds a tick.
    #[inline]
    pub fn push_tick(&mut self, tick: Queued) {
        self.ticks.push(tick);
    }

    /// Adds a frame behind everything that waits.
    pub fn push_frame(&mut self, frame: OwnFrame) {
        // Bounded far below 4 GiB by `queued_bytes_max` and by what one join hands over at once.
        self.frame_bytes += frame.bytes.len() as u32;
        let before = self.ticks.len();
        let frames = self.frames.get_or_insert_default();
        frames.push_back(Placed { before, frame });
    }

    /// Takes what comes next.
    pub fn pop(&mut self) -> Option<Entry> {
        let taken = self.taken as usize;
        if let Some(frames) = &mut self.frames
            && frames.front().is_some_and(|placed| placed.before == taken)
        {
            let placed = frames.pop_front();
            if frames.is_empty() {
                self.frames = None;
            }
            self.tidy();
            return placed.map(|placed| {
                self.frame_bytes -= placed.frame.bytes.len() as u32;
                Entry::Frame(placed.frame)
            });
        }
        let tick = *self.ticks.get(taken)?;
        self.taken += 1;
        self.tidy();
        Some(Entry::Tick(tick))
    }

    /// The ticks that come before the next frame, in order.
    #[inline]
    pub fn run(&self) -> &[Queued] {
        let next = self.frames.as_ref().and_then(|frames| frames.front());
        let end = next.map_or(self.ticks.len(), |placed| placed.before);
        &self.ticks[self.taken as usize..end]
    }

    /// Takes the first `count` ticks of [`Queue::run`].
    #[inline]
    pub fn take_run(&mut self, count: usize) {
        debug_assert!(count <= self.run().len(), "a frame would lose its place");
        self.taken += count as u32;
        self.tidy();
    }

    /// Takes out the ticks behind the last frame.
    pub fn take_tail(&mut self) -> Vec<Queued> {
        let last = self.frames.as_ref().and_then(|frames| frames.back());
        let from = last.map_or(self.taken as usize, |placed| placed.before);
        let tail = self.ticks.split_off(from);
        self.tidy();
        tail
    }

    /// Drops what is about a symbol.
    pub fn forget(&mut self, symbol: SymbolId) {
        // How many ticks before each index stay.
        let mut kept_before = Vec::with_capacity(self.ticks.len() + 1);
        let mut kept = 0;
        for tick in &self.ticks {
            kept_before.push(kept);
            kept += usize::from(tick.stream.symbol() != symbol);
        }
        kept_before.push(kept);
        for placed in self.frames.iter_mut().flat_map(|frames| frames.iter_mut()) {
            placed.before = kept_before[placed.before];
            self.frame_bytes -= placed.frame.bytes.len() as u32;
            placed.frame.forget(symbol);
            self.frame_bytes += placed.frame.bytes.len() as u32;
        }
        self.taken = kept_before[self.taken as usize] as u32;
        self.ticks.retain(|tick| tick.stream.symbol() != symbol);
        self.tidy();
    }

    /// Gives back the memory that what waits does not need.
    pub fn rest(&mut self) {
        self.ticks.shrink_to_fit();
    }

    /// How many ticks there is room for.
    pub fn capacity(&self) -> usize {
        self.ticks.capacity()
    }

    /// Moves what waits to the begin of the vector, where that costs less than it has saved.
    #[inline]
    fn tidy(&mut self) {
        if self.taken as usize == self.ticks.len() && self.frames.is_none() {
            self.ticks.clear();
            self.taken = 0;
        } else {
            self.move_together();
        }
    }

    fn move_together(&mut self) {
        let taken = self.taken as usize;
        if taken > TAKEN_MAX && 2 * taken > self.ticks.len() {
            self.ticks.drain(..taken);
            for placed in self.frames.iter_mut().flat_map(|frames| frames.iter_mut()) {
                placed.before -= taken;
            }
            self.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tickwire_proto::tick::Channel;

    use super::*;
    use crate::{floor::stream::Stream, tape::Position};

    fn tick(seq: u64, symbol: u32) -> Queued {
        Queued {
            position: Position(seq),
            stream: Stream::new(SymbolId(symbol), Channel::Trade),
            epoch: 1,
            seq,
            skipped: 0,
        }
    }

    #[derive(Clone, Debug, PartialEq)]
    enum Model {
        Tick(Queued),
        Frame(u64),
    }

    /// Frames are told apart by their length.
    fn frame(number: u64) -> OwnFrame {
        OwnFrame::about(SymbolId(u32::MAX), vec![0; number as usize].into())
    }

    proptest! {
        #[test]
        fn it_behaves_as_one_queue(ops in prop::collection::vec((0..40_u8, 0..4_u32), 0..6_000)) {
            let mut queue = Queue::default();
            let mut model: VecDeque<Model> = VecDeque::new();
            for (number, (op, symbol)) in (0_u64..).zip(ops) {
                match op {
                    0 => {
                        queue.push_frame(frame(number));
                        model.push_back(Model::Frame(number));
                    }
                    1 => {
                        queue.forget(SymbolId(symbol));
                        model.retain(|entry| !matches!(entry, Model::Tick(tick) if tick.stream.symbol().0 == symbol));
                    }
                    2 if symbol == 0 => {
                        let tail = model.iter().rev().take_while(|entry| matches!(entry, Model::Tick(_))).count();
                        let tail = model.split_off(model.len() - tail);
                        let tail: Vec<_> = tail.into_iter().map(|entry| match entry {
                            Model::Tick(tick) => tick,
                            Model::Frame(_) => unreachable!("the tail holds ticks"),
                        }).collect();
                        prop_assert_eq!(queue.take_tail(), tail);
                    }
                    3 => {
                        let run = model.iter().take_while(|entry| matches!(entry, Model::Tick(_))).count();
                        prop_assert_eq!(queue.run().len(), run);
                        let count = run.min(symbol as usize);
                        queue.take_run(count);
                        model.drain(..count);
                    }
                    4..=18 => {
                        let popped = queue.pop().map(|entry| match entry {
                            Entry::Tick(tick) => Model::Tick(tick),
                            Entry::Frame(frame) => Model::Frame(frame.bytes.len() as u64),
                        });
                        prop_assert_eq!(popped, model.pop_front());
                    }
                    _ => {
                        queue.push_tick(tick(number, symbol));
                        model.push_back(Model::Tick(tick(number, symbol)));
                    }
                }
                let ticks = model.iter().filter(|entry| matches!(entry, Model::Tick(_))).count();
                let bytes: u64 = model.iter().map(|entry| if let Model::Frame(number) = entry { *number } else { 0 }).sum();
                prop_assert_eq!(queue.frame_bytes() as u64, bytes);
                prop_assert_eq!(queue.ticks().len(), ticks);
                prop_assert_eq!(queue.has_frames(), ticks < model.len());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn a_long_queue_that_never_empties_does_not_grow() {
        let mut queue = Queue::default();
        for seq in 0..100_000 {
            queue.push_tick(tick(seq, 0));
            if seq >= 10 {
                queue.pop();
            }
        }
        assert!(queue.capacity() < 4 * TAKEN_MAX, "{}", queue.capacity());
    }
}
