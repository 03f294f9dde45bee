//! The queue of one connection: ticks by reference, and frames of its own between them, in order.
//!
//! Ticks are many and frames are few. So ticks stand in one plain vector, which is as cheap to add
//! to, to compare and to empty as memory is, and each frame remembers which tick it stands before.
//! The vector is the connection's own, or the [`Log`] of an audience: then a tick stands there
//! once for all who get it, and the queue is a place in it.

use std::{cell::Ref, collections::VecDeque, ops::Deref, rc::Rc};

use super::{log::Log, outbox::Queued, pieces::OwnFrame};
use crate::tape::SymbolId;

/// Ticks taken that the vector still holds, above which it is moved together.
const TAKEN_MAX: u32 = 1_024;

/// What waits, oldest first.
#[derive(Default)]
pub struct Queue {
    /// From `taken` on.
    ticks: Ticks,
    #[expect(
        clippy::box_collection,
        reason = "most connections have none most of the time, and 24 bytes each add up"
    )]
    frames: Option<Box<VecDeque<Placed>>>,
    /// The index of the next tick. Indices of a log wrap.
    taken: u32,
    frame_bytes: u32,
}

/// Where the ticks stand.
enum Ticks {
    /// In a vector of the connection's own.
    Own(Vec<Queued>),
    /// In that of its audience.
    Shared {
        log: Rc<Log>,
        /// Whether the audience is to say when there is another tick.
        listens: bool,
    },
}

/// A frame, and the index of the tick that it stands before.
struct Placed {
    before: u32,
    frame: OwnFrame,
}

/// What comes next.
pub enum Entry {
    /// A tick.
    Tick(Queued),
    /// A frame, or several.
    Frame(OwnFrame),
}

/// Ticks of a queue, to read.
pub enum View<'a> {
    /// From a vector of its own.
    Own(&'a [Queued]),
    /// From the log of an audience.
    Shared(Ref<'a, [Queued]>),
}

impl Default for Ticks {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl Deref for View<'_> {
    type Target = [Queued];

    #[inline]
    fn deref(&self) -> &[Queued] {
        match self {
            Self::Own(ticks) => ticks,
            Self::Shared(ticks) => ticks,
        }
    }
}

impl Queue {
    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.frames.is_none()
    }

    /// How many ticks wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.end().wrapping_sub(self.taken) as usize
    }

    /// The ticks that wait, in order.
    #[inline]
    pub fn ticks(&self) -> View<'_> {
        self.view(self.end())
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
    ///
    /// # Panics
    ///
    /// Where the ticks are those of an audience, which adds them itself.
    #[inline]
    pub fn push_tick(&mut self, tick: Queued) {
        self.own().push(tick);
    }

    /// Adds a frame behind everything that waits.
    pub fn push_frame(&mut self, frame: OwnFrame) {
        // Bounded far below 4 GiB by `queued_bytes_max` and by what one join hands over at once.
        self.frame_bytes += frame.bytes.len() as u32;
        let before = self.end();
        let frames = self.frames.get_or_insert_default();
        frames.push_back(Placed { before, frame });
    }

    /// Takes what comes next.
    pub fn pop(&mut self) -> Option<Entry> {
        if let Some(frames) = &mut self.frames
            && frames
                .front()
                .is_some_and(|placed| placed.before == self.taken)
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
        let tick = match &self.ticks {
            Ticks::Own(ticks) => *ticks.get(self.taken as usize)?,
            Ticks::Shared { log, .. } => log.tick(self.taken)?,
        };
        self.taken = self.taken.wrapping_add(1);
        self.tidy();
        Some(Entry::Tick(tick))
    }

    /// The ticks that come before the next frame, in order.
    #[inline]
    pub fn run(&self) -> View<'_> {
        let next = self.frames.as_ref().and_then(|frames| frames.front());
        self.view(next.map_or(self.end(), |placed| placed.before))
    }

    /// Takes the first `count` ticks of [`Queue::run`].
    #[inline]
    pub fn take_run(&mut self, count: usize) {
        debug_assert!(count <= self.run().len(), "a frame would lose its place");
        self.taken = self.taken.wrapping_add(count as u32);
        self.tidy();
    }

    /// Takes out the ticks behind the last frame.
    ///
    /// # Panics
    ///
    /// As [`Queue::push_tick`].
    pub fn take_tail(&mut self) -> Vec<Queued> {
        let last = self.frames.as_ref().and_then(|frames| frames.back());
        let from = last.map_or(self.taken, |placed| placed.before);
        let tail = self.own().split_off(from as usize);
        self.tidy();
        tail
    }

    /// Drops what is about a symbol.
    ///
    /// # Panics
    ///
    /// As [`Queue::push_tick`].
    pub fn forget(&mut self, symbol: SymbolId) {
        // How many ticks before each index stay.
        let ticks = self.own();
        let mut kept_before = Vec::with_capacity(ticks.len() + 1);
        let mut kept = 0;
        for tick in &*ticks {
            kept_before.push(kept);
            kept += u32::from(tick.stream.symbol() != symbol);
        }
        kept_before.push(kept);
        ticks.retain(|tick| tick.stream.symbol() != symbol);
        for placed in self.frames.iter_mut().flat_map(|frames| frames.iter_mut()) {
            placed.before = kept_before[placed.before as usize];
            self.frame_bytes -= placed.frame.bytes.len() as u32;
            placed.frame.forget(symbol);
            self.frame_bytes += placed.frame.bytes.len() as u32;
        }
        self.taken = kept_before[self.taken as usize];
        self.tidy();
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.frames = None;
        self.frame_bytes = 0;
        self.taken = self.end();
        self.tidy();
    }

    /// Gives back the memory that what waits does not need.
    pub fn rest(&mut self) {
        if let Ticks::Own(ticks) = &mut self.ticks {
            ticks.shrink_to_fit();
        }
    }

    /// How many ticks there is room for.
    pub fn capacity(&self) -> usize {
        match &self.ticks {
            Ticks::Own(ticks) => ticks.capacity(),
            Ticks::Shared { .. } => 0,
        }
    }

    /// The log of its audience.
    pub fn log(&self) -> Option<&Rc<Log>> {
        match &self.ticks {
            Ticks::Own(_) => None,
            Ticks::Shared { log, .. } => Some(log),
        }
    }

    /// From here on its ticks are those of `log`.
    ///
    /// # Panics
    ///
    /// Where anything waits.
    pub fn share(&mut self, log: Rc<Log>) {
        assert!(self.is_empty(), "what waits would be lost");
        self.taken = log.end();
        self.ticks = Ticks::Shared {
            log,
            listens: false,
        };
    }

    /// From here on its ticks are its own; those that wait are copied.
    pub fn unshare(&mut self) {
        if let Ticks::Shared { .. } = &self.ticks {
            let own = self.ticks().to_vec();
            for placed in self.frames.iter_mut().flat_map(|frames| frames.iter_mut()) {
                placed.before = placed.before.wrapping_sub(self.taken);
            }
            self.taken = 0;
            self.ticks = Ticks::Own(own);
        }
    }

    /// Asks to be told of its audience's next tick; the audience, unless it has been asked already.
    #[inline]
    pub fn listen(&mut self) -> Option<u32> {
        match &mut self.ticks {
            Ticks::Shared { log, listens } if !*listens => {
                *listens = true;
                Some(log.audience())
            }
            _ => None,
        }
    }

    /// Is told that `log` has another tick; whether it is that of its audience.
    #[inline]
    pub fn hear(&mut self, of: &Rc<Log>) -> bool {
        match &mut self.ticks {
            Ticks::Shared { log, listens } if Rc::ptr_eq(log, of) => {
                *listens = false;
                true
            }
            _ => false,
        }
    }

    #[inline]
    fn end(&self) -> u32 {
        match &self.ticks {
            Ticks::Own(ticks) => ticks.len() as u32,
            Ticks::Shared { log, .. } => log.end(),
        }
    }

    #[inline]
    fn view(&self, end: u32) -> View<'_> {
        match &self.ticks {
            Ticks::Own(ticks) => View::Own(&ticks[self.taken as usize..end as usize]),
            Ticks::Shared { log, .. } => View::Shared(log.ticks(self.taken, end)),
        }
    }

    #[inline]
    fn own(&mut self) -> &mut Vec<Queued> {
        match &mut self.ticks {
            Ticks::Own(ticks) => ticks,
            Ticks::Shared { .. } => panic!("who leaves an audience takes its ticks along first"),
        }
    }

    /// Moves what waits to the begin of the vector, where that costs less than it has saved.
    #[inline]
    fn tidy(&mut self) {
        let Ticks::Own(ticks) = &mut self.ticks else {
            return;
        };
        if self.taken as usize == ticks.len() && self.frames.is_none() {
            ticks.clear();
            self.taken = 0;
        } else if self.taken > TAKEN_MAX && 2 * self.taken as usize > ticks.len() {
            ticks.drain(..self.taken as usize);
            for placed in self.frames.iter_mut().flat_map(|frames| frames.iter_mut()) {
                placed.before -= self.taken;
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
    fn a_place_in_a_log_is_a_queue_and_who_leaves_takes_it_along() {
        let log = Rc::new(Log::new(3));
        log.push(tick(1, 0));
        let mut queue = Queue::default();
        queue.share(Rc::clone(&log));
        assert!(queue.is_empty(), "what was before is not its own");
        assert_eq!((queue.listen(), queue.listen()), (Some(3), None));
        assert!(!queue.hear(&Rc::new(Log::new(3))) && queue.hear(&log));
        for seq in 2..=4 {
            log.push(tick(seq, 0));
        }
        queue.push_frame(frame(5));
        log.push(tick(6, 0));
        assert!(matches!(queue.pop(), Some(Entry::Tick(first)) if first.seq == 2));
        let run: Vec<_> = queue.run().iter().map(|tick| tick.seq).collect();
        assert_eq!(run, [3, 4]);
        queue.take_run(1);
        log.forget_before(2);
        queue.unshare();
        log.push(tick(7, 0));
        queue.push_tick(tick(8, 0));
        let left: Vec<_> = std::iter::from_fn(|| queue.pop())
            .map(|entry| match entry {
                Entry::Tick(tick) => tick.seq,
                Entry::Frame(frame) => frame.bytes.len() as u64,
            })
            .collect();
        assert_eq!(left, [4, 5, 6, 8]);
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
        assert!(
            queue.capacity() < 4 * TAKEN_MAX as usize,
            "{}",
            queue.capacity()
        );
    }
}
