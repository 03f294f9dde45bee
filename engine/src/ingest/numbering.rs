//! Who numbers a symbol: its publishers, this engine, or the engine of another host; and in which epoch.

use tickwire_proto::{code::ErrorCode, sbe::entry, tick::IDENTITY_MAX};

use super::{
    sequencer::{Refusal, SourceId},
    symbol_state::SymbolState,
};
use crate::tape::Origin;

/// Who numbers a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbering {
    /// This engine.
    Engine,
    /// Its publishers, here and on other hosts.
    Source,
    /// The engine of another host.
    Elsewhere,
}

impl Numbering {
    /// What this host's publishers make other hosts know of a symbol; nothing where another host has taken
    /// it over, whoever still sends it here.
    pub(super) fn told(state: &SymbolState) -> Option<entry::Numbering> {
        if state.here != state.numbering {
            return None;
        }
        match state.here? {
            Self::Engine => Some(entry::Numbering::Host),
            Self::Source => Some(entry::Numbering::Source),
            Self::Elsewhere => None,
        }
    }
}

/// Whether two hosts number a symbol at once.
pub(super) fn is_contest(state: &SymbolState, numbering: Numbering) -> bool {
    numbering == Numbering::Elsewhere
        && state.numbering == Some(Numbering::Engine)
        && state.has_source(Origin::Here)
}

/// Whether `source` may number a symbol as it does, beside its live sources. Between hosts the
/// epoch decides.
pub(super) fn check_numbering(
    state: &SymbolState,
    source: SourceId,
    numbering: Numbering,
    start_ms: u64,
) -> Result<(), Refusal> {
    if !source.is_here() {
        return Ok(());
    }
    // What a host brought that has left binds nobody any more.
    let known = if state.has_source(Origin::Elsewhere) {
        state.numbering
    } else {
        state.here
    };
    match known {
        Some(Numbering::Elsewhere) if numbering == Numbering::Engine => {
            // Who started later takes over; the other one waits until that host has it no longer.
            if start_ms > state.epoch {
                Ok(())
            } else {
                Err(Refusal {
                    code: ErrorCode::NotOwner,
                    message: "another host numbers the symbol",
                })
            }
        }
        Some(known) if known != numbering => Err(Refusal {
            code: ErrorCode::MixedNumbering,
            message: "the symbol's live sources number it the other way",
        }),
        _ => Ok(()),
    }
}

/// The epoch under which the engine numbers a symbol: drawn at the engine's start, and anew
/// after source-numbered ticks; kept over publishers' reconnects.
pub(super) fn engine_epoch(
    state: &SymbolState,
    start_ms: u64,
    now_ms: u64,
) -> Result<u64, Refusal> {
    let epoch = match state.numbering {
        Some(Numbering::Engine) if !state.is_contested => state.epoch,
        Some(Numbering::Elsewhere) if start_ms > state.epoch => start_ms,
        Some(_) => now_ms.max(state.epoch + 1),
        None => start_ms,
    };
    if epoch > IDENTITY_MAX {
        return Err(Refusal {
            code: ErrorCode::OutOfRange,
            message: "no epoch is left above the source's",
        });
    }
    Ok(epoch)
}
