//! The tape: everything that happened, in one order, for everyone.
//!
//! ```text
//!              oldest                                            head
//!                │                                                │
//!  ring      ┄┄ [s][s][s][s][s][s][s][s][s][s][s][s][s][s][s][s] (w) ┄┄   slots, a seqlock each
//!                    └──────────────►next   previous◄──────┘                links of one channel
//!  hints         3  1  4  1  5  9  2  6  5  3  5  8  9  7  9  3           whose record is it
//!
//!  symbols   name │ feed │ interest │ per channel: base, the last 16 records
//! ```
//!
//! One [`Writer`] pushes; any number of readers follow, each with its own cursor, and never slow
//! it. A reader that was lapped knows it, and by how much. One structure serves three uses:
//!
//! - **live**: floors and bridge follow the head, passing over by the hints what they don't want;
//! - **history**: a resume walks a channel's links back to where a client stood, and forward again;
//! - **snapshot**: the symbol table keeps the last 16 records of each channel, so that a hot symbol
//!   cannot evict a quiet one's.
//!
//! Words are atomics read Relaxed between two looks at a stamp: a torn copy is discarded, not
//! undefined, and loom explores it all (`loom_tests.rs`, under `--cfg tickwire_loom`).

mod layout;
mod reader;
mod record;
mod slot;
mod storage;
mod symbols;
mod sync;
mod writer;

#[cfg(all(test, tickwire_loom))]
mod loom_tests;
#[cfg(all(test, not(tickwire_loom)))]
mod tests;

use std::{io, sync::Arc};

pub use self::{
    reader::Tape,
    record::{Event, Origin, Position, Record, SymbolId},
    writer::Writer,
};

/// How large a tape is, and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapeOptions {
    /// Records in the ring: a power of two, at least 2, of 132 bytes each once written.
    pub slots: usize,
    /// Symbols, 1 to 2³² − 1, some 4 KiB each once used.
    pub symbols_max: usize,
    /// The tape's name: no other tape, of this host or another, of this life or an earlier one,
    /// should have it.
    pub id: u64,
}

/// Why a tape could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapeError {
    /// `slots` is not a power of two from 2 on.
    #[error("tape_slots is {slots}, but must be a power of two, at least 2")]
    Slots {
        /// What was asked for.
        slots: usize,
    },
    /// `symbols_max` is 0 or more than a `u32` numbers.
    #[error("symbols_max is {symbols_max}, but must be 1 to 4294967295")]
    Symbols {
        /// What was asked for.
        symbols_max: usize,
    },
    /// The memory was refused.
    #[error(
        "no memory for {slots} tape slots and {symbols_max} symbols; lower tape_slots or symbols_max: {error}"
    )]
    Memory {
        /// What was asked for.
        slots: usize,
        /// What was asked for.
        symbols_max: usize,
        /// The kernel's answer.
        #[source]
        error: io::Error,
    },
}

/// The symbol table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {symbols_max} symbols of the tape are taken")]
pub struct SymbolsFull {
    /// The table's bound.
    pub symbols_max: usize,
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It was overwritten.
    #[error("lapped: the oldest record on the tape is at {}", oldest.0)]
    Lapped {
        /// The oldest position that can still be read; always past the one that was asked for.
        oldest: Position,
    },
    /// It was not written yet.
    #[error("nothing is written there yet")]
    NotYet,
}

/// Makes an empty tape and its one writer.
///
/// # Errors
///
/// See [`TapeError`].
pub fn create(options: TapeOptions) -> Result<(Writer, Arc<Tape>), TapeError> {
    let TapeOptions {
        slots, symbols_max, ..
    } = options;
    if slots < 2 || !slots.is_power_of_two() {
        return Err(TapeError::Slots { slots });
    }
    if symbols_max == 0 || u32::try_from(symbols_max).is_err() {
        return Err(TapeError::Symbols { symbols_max });
    }
    let tape = Tape::zeroed(&options).map_err(|error| TapeError::Memory {
        slots,
        symbols_max,
        error,
    })?;
    let tape = Arc::new(tape);
    Ok((Writer::new(Arc::clone(&tape)), tape))
}
