//! One slot: a seqlock over plain words, written by one thread and read by any number.
//!
//! The protocol is Boehm's ("Can seqlocks get along with programming language memory models?",
//! MSPC 2012): all words are atomics, so a torn copy is not undefined, only discarded.

use std::cmp::Ordering::{Equal, Greater, Less};

use super::{
    layout::{NEXT, PAYLOAD, STAMP},
    record::{Position, position_to_word, word_to_position},
    sync::{AtomicU64, Ordering, fence},
};

/// Larger positions than a tape can ever reach; clients' cursors may name them all the same.
const POSITIONS_MAX: u64 = 1 << 62;

/// A slot of the ring, or an entry of a symbol's recent records.
///
/// It is stamp, link, and a payload of any number of words, so that a model can be a small one.
#[derive(Clone, Copy)]
pub struct Slot<'a>(pub &'a [AtomicU64]);

/// Why a slot does not hold the wanted position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// It still holds an earlier one, or is about to be completed.
    NotYet,
    /// It holds, or is about to hold, the later position `by`.
    Overwritten { by: Position },
}

impl<'a> Slot<'a> {
    /// Replaces the record. Only the tape's one writer calls this.
    pub fn write<const N: usize>(self, position: Position, payload: &[u64; N]) {
        self.stamp().store(writing(position), Ordering::Relaxed);
        // Release pairs with the Acquire fence in `copy_if`: a reader that caught any word stored
        // below also sees the stamp stored above, or a later one, and discards its copy.
        fence(Ordering::Release);
        for (word, value) in self.0[PAYLOAD..].iter().zip(payload) {
            word.store(*value, Ordering::Relaxed);
        }
        self.0[NEXT].store(0, Ordering::Relaxed);
        // Release pairs with the Acquire load in `copy_if`: whoever sees this stamp sees the words.
        self.stamp().store(complete(position), Ordering::Release);
    }

    /// Copies the record out, if the slot holds `position`.
    pub fn read<const N: usize>(self, position: Position) -> Result<[u64; N], Missed> {
        self.copy_if(position, || self.payload())
    }

    /// Copies out whatever record the slot holds; `None` while it is empty or being written.
    pub fn read_any<const N: usize>(self) -> Option<(Position, [u64; N])> {
        // Relaxed: a guess, which `read` checks.
        let position = held_by(self.stamp().load(Ordering::Relaxed))?;
        Some((position, self.read(position).ok()?))
    }

    /// Links the slot's record to the one after it in its channel. Only the tape's one writer
    /// calls this, and only while the slot holds the record that is meant.
    pub fn set_next(self, next: Position) {
        // Release pairs with the Acquire load in `next`: whoever follows the link finds its target
        // complete.
        self.0[NEXT].store(position_to_word(Some(next)), Ordering::Release);
    }

    /// The forward link of the record at `position`, if the slot holds it.
    pub fn next(self, position: Position) -> Result<Option<Position>, Missed> {
        // Acquire pairs with the Release store in `set_next`.
        self.copy_if(position, || {
            word_to_position(self.0[NEXT].load(Ordering::Acquire))
        })
    }

    /// The result of `copy`, if the slot held `position` from before it to after it.
    fn copy_if<R>(self, position: Position, copy: impl FnOnce() -> R) -> Result<R, Missed> {
        if position.0 >= POSITIONS_MAX {
            return Err(Missed::NotYet);
        }
        // Acquire pairs with the Release store that ends `write`.
        check(self.stamp().load(Ordering::Acquire), position)?;
        let copied = copy();
        // Acquire pairs with the Release fence in `write`: had one of the loads in `copy` caught a
        // word of a later record, the load below would see that record's stamp.
        fence(Ordering::Acquire);
        check(self.stamp().load(Ordering::Relaxed), position)?;
        Ok(copied)
    }

    fn payload<const N: usize>(self) -> [u64; N] {
        let mut payload = [0; N];
        for (value, word) in payload.iter_mut().zip(&self.0[PAYLOAD..]) {
            // Relaxed: ordered by the two looks at the stamp in `copy_if`.
            *value = word.load(Ordering::Relaxed);
        }
        payload
    }

    fn stamp(self) -> &'a AtomicU64 {
        &self.0[STAMP]
    }
}

fn writing(position: Position) -> u64 {
    2 * position.0 + 1
}

fn complete(position: Position) -> u64 {
    2 * position.0 + 2
}

/// The position of the complete record that `stamp` stands for.
fn held_by(stamp: u64) -> Option<Position> {
    (stamp != 0 && stamp.is_multiple_of(2)).then(|| Position(stamp / 2 - 1))
}

fn check(stamp: u64, wanted: Position) -> Result<(), Missed> {
    match stamp.cmp(&complete(wanted)) {
        Less => Err(Missed::NotYet),
        Equal => Ok(()),
        Greater => Err(Missed::Overwritten {
            by: Position((stamp - 1) / 2),
        }),
    }
}
