//! Reading what publishers send.

use super::{
    decode::{Block, SbeError, check_framing},
    layout::{NULL_U32, quote, tick, trade},
};
use crate::{
    code::ErrorCode,
    price::DecimalError,
    tick::{IDENTITY_MAX, Values},
};

/// The latest time that JSON can tell: 2⁵³ − 1 µs.
const TS_NS_MAX: u64 = IDENTITY_MAX * 1_000;

/// A published tick, but for the symbol and epoch that its declared id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawTick {
    /// The source's number, 1…2⁵³−1, or `None` to let the engine number it.
    pub seq: Option<u64>,
    /// The source's event time in nanoseconds, at most (2⁵³−1) × 1000, or `None` to let the
    /// engine stamp it.
    pub ts_ns: Option<u64>,
    /// Prices and sizes.
    pub values: Values,
}

/// Why one published tick was refused, by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {field}: {}", match code {
    ErrorCode::OutOfRange => "outside its range",
    _ => "not a value that publishers may set",
})]
pub struct TickRefusal {
    /// The id that the tick carries, whatever it may stand for.
    pub symbol_id: u32,
    /// `out_of_range` or `bad_tick`.
    pub code: ErrorCode,
    /// The field's name in the schema.
    pub field: &'static str,
}

/// Hands out every tick of a publisher's binary message, with its index from 0 and its id.
///
/// `skipped` and `replay` are empty as 0 or null: encoders differ in what they leave behind.
///
/// # Errors
///
/// See [`SbeError`]: the message as a whole is `bad_sbe`, and no tick of it was handed out.
pub fn decode_published(
    message: &[u8],
    mut each: impl FnMut(u32, Result<(u32, RawTick), TickRefusal>),
) -> Result<(), SbeError> {
    check_framing(message, |template| match template {
        trade::TEMPLATE_ID | quote::TEMPLATE_ID => Ok(()),
        _ => Err(SbeError::NotPublishable { template }),
    })?;
    let (mut at, mut index) = (0, 0);
    while let Some(block) = Block::next(message, &mut at) {
        let block = block?;
        let symbol_id = block.u32(tick::SYMBOL_ID);
        let tick = raw_tick(&block)
            .map(|tick| (symbol_id, tick))
            .map_err(|(code, field)| TickRefusal {
                symbol_id,
                code,
                field,
            });
        each(index, tick);
        index += 1;
    }
    Ok(())
}

fn raw_tick(block: &Block<'_>) -> Result<RawTick, (ErrorCode, &'static str)> {
    let bad = |field| (ErrorCode::BadTick, field);
    let out_of_range = |field| (ErrorCode::OutOfRange, field);
    if block.u8(tick::FLAGS) != 0 {
        return Err(bad("flags"));
    }
    let (skipped, replay) = block.skipped_and_replay();
    if !matches!(skipped, 0 | NULL_U32) {
        return Err(bad("skipped"));
    }
    if !matches!(replay, None | Some(0)) {
        return Err(bad("replay"));
    }
    let values = block.values().ok_or(bad("side"))?;
    let values = values.checked().map_err(|error| match error {
        DecimalError::OutOfRange => out_of_range("price or size"),
        _ => bad("price or size"),
    })?;
    let seq = block.optional_u64(tick::SEQ);
    if seq.is_some_and(|seq| !(1..=IDENTITY_MAX).contains(&seq)) {
        return Err(out_of_range("seq"));
    }
    let ts_ns = block.optional_u64(tick::TS);
    if ts_ns.is_some_and(|ts_ns| ts_ns > TS_NS_MAX) {
        return Err(out_of_range("ts"));
    }
    Ok(RawTick { seq, ts_ns, values })
}
