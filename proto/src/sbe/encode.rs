//! Writing messages.

use std::io::Write as _;

use super::{
    entry::{Carried, Head},
    layout::{
        self, BLOCK_BYTES_MAX, FLAG_REPLAY, FLAG_SKIPPED, FLAG_SNAPSHOT, HEADER_BYTES, NULL_U8,
        NULL_U32, NULL_U64, SCHEMA_ID, VERSION,
    },
};
use crate::{
    cursor::Cursor,
    reply::{Gap, Start},
    tick::{Body, FeedState, Marks, PublishedTick, Tick, Values, optional_to_word},
};

/// One message being filled in; what is not put is 0.
struct Message {
    bytes: [u8; HEADER_BYTES + BLOCK_BYTES_MAX],
    end: usize,
}

impl Message {
    fn new(template: u16, block_bytes: usize) -> Self {
        let mut bytes = [0; HEADER_BYTES + BLOCK_BYTES_MAX];
        let words = [block_bytes as u16, template, SCHEMA_ID, VERSION];
        for (field, word) in bytes.chunks_exact_mut(2).zip(words) {
            field.copy_from_slice(&word.to_le_bytes());
        }
        Self {
            bytes,
            end: HEADER_BYTES + block_bytes,
        }
    }

    fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) {
        self.bytes[HEADER_BYTES + offset..HEADER_BYTES + offset + N].copy_from_slice(&bytes);
    }

    fn u32(&mut self, offset: usize, value: u32) {
        self.put(offset, value.to_le_bytes());
    }

    fn u64(&mut self, offset: usize, value: u64) {
        self.put(offset, value.to_le_bytes());
    }

    fn i64(&mut self, offset: usize, value: i64) {
        self.put(offset, value.to_le_bytes());
    }

    fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes[..self.end]);
    }
}

/// Appends a `Trade` or a `Quote` as it is delivered.
pub fn write_tick(out: &mut Vec<u8>, symbol_id: u32, tick: &Tick, marks: &Marks) {
    write_values(
        out,
        symbol_id,
        Some(tick.identity.seq),
        Some(tick.ts_ns),
        &tick.values,
        marks,
    );
}

/// Appends a `Trade` or a `Quote` as it is published; `id` is one that was declared for the
/// tick's symbol and epoch.
pub fn write_published(out: &mut Vec<u8>, id: u32, tick: &PublishedTick) {
    let seq = tick.identity.map(|identity| identity.seq);
    write_values(out, id, seq, tick.ts_ns, &tick.values, &Marks::default());
}

fn write_values(
    out: &mut Vec<u8>,
    symbol_id: u32,
    seq: Option<u64>,
    ts_ns: Option<u64>,
    values: &Values,
    marks: &Marks,
) {
    use layout::{quote, tick, trade};

    let replay = marks.replay.unwrap_or(NULL_U32);
    let mut message = match values.body {
        Body::Trade { price, size, side } => {
            let mut message = Message::new(trade::TEMPLATE_ID, trade::BLOCK_BYTES);
            message.put(trade::SIDE, [side.map_or(NULL_U8, |side| side as u8)]);
            message.i64(trade::PRICE, price);
            message.i64(trade::SIZE, optional_to_word(size));
            message.u32(trade::SKIPPED, marks.skipped);
            message.u32(trade::REPLAY, replay);
            message
        }
        Body::Quote {
            bid,
            bid_size,
            ask,
            ask_size,
        } => {
            let mut message = Message::new(quote::TEMPLATE_ID, quote::BLOCK_BYTES);
            message.i64(quote::BID, bid);
            message.i64(quote::BID_SIZE, optional_to_word(bid_size));
            message.i64(quote::ASK, ask);
            message.i64(quote::ASK_SIZE, optional_to_word(ask_size));
            message.u32(quote::SKIPPED, marks.skipped);
            message.u32(quote::REPLAY, replay);
            message
        }
    };
    message.u32(tick::SYMBOL_ID, symbol_id);
    message.put(tick::FLAGS, [flags(marks)]);
    message.put(tick::PRICE_EXP, values.price_exponent.to_le_bytes());
    message.put(tick::SIZE_EXP, values.size_exponent.to_le_bytes());
    message.u64(tick::SEQ, seq.unwrap_or(NULL_U64));
    message.u64(tick::TS, ts_ns.unwrap_or(NULL_U64));
    message.append_to(out);
}

fn flags(marks: &Marks) -> u8 {
    let snapshot = if marks.snapshot { FLAG_SNAPSHOT } else { 0 };
    let replay = if marks.replay.is_some() {
        FLAG_REPLAY
    } else {
        0
    };
    let skipped = if marks.skipped > 0 { FLAG_SKIPPED } else { 0 };
    snapshot | replay | skipped
}

/// Appends a `Gap`. `symbol_id` may name another epoch of the symbol than `gap.epoch`.
pub fn write_gap(out: &mut Vec<u8>, symbol_id: u32, gap: &Gap) {
    use layout::gap as at;

    let mut message = Message::new(at::TEMPLATE_ID, at::BLOCK_BYTES);
    message.u32(at::SYMBOL_ID, symbol_id);
    message.put(at::CHANNEL, [gap.channel as u8]);
    message.put(at::REASON, [gap.reason as u8]);
    message.u64(at::EPOCH, gap.epoch);
    message.u64(at::FROM, gap.from.unwrap_or(NULL_U64));
    message.u64(at::TO, gap.to.unwrap_or(NULL_U64));
    message.u32(at::REPLAY, gap.replay.unwrap_or(NULL_U32));
    message.append_to(out);
}

/// Appends a `Feed`.
pub fn write_feed(out: &mut Vec<u8>, symbol_id: u32, state: FeedState) {
    let mut message = Message::new(layout::feed::TEMPLATE_ID, layout::feed::BLOCK_BYTES);
    message.u32(layout::feed::SYMBOL_ID, symbol_id);
    message.put(layout::feed::STATE, [state as u8]);
    message.append_to(out);
}

/// Appends a `Heartbeat`; `ts_ns` is the engine's clock, nanoseconds since 1970 UTC.
pub fn write_heartbeat(out: &mut Vec<u8>, ts_ns: u64) {
    let mut message = Message::new(
        layout::heartbeat::TEMPLATE_ID,
        layout::heartbeat::BLOCK_BYTES,
    );
    message.u64(layout::heartbeat::TS, ts_ns);
    message.append_to(out);
}

/// Appends a `SymbolDefinition`: a `start` that also says what `symbol_id` names.
pub fn write_definition(out: &mut Vec<u8>, symbol_id: u32, start: &Start) {
    use layout::definition as at;

    let mut message = Message::new(at::TEMPLATE_ID, at::BLOCK_BYTES);
    message.u32(at::SYMBOL_ID, symbol_id);
    message.u32(at::REPLAY, start.replay.unwrap_or(NULL_U32));
    message.u64(at::EPOCH, start.epoch);
    message.u64(at::TRADE, start.trade.unwrap_or(NULL_U64));
    message.u64(at::QUOTE, start.quote.unwrap_or(NULL_U64));
    message.put(at::NAME, *start.symbol.padded());
    message.append_to(out);
}

/// Appends a `HostEntry`.
pub(super) fn write_host_entry(out: &mut Vec<u8>, head: &Head) {
    use layout::host_entry as at;

    let roll = if head.is_roll { layout::FLAG_ROLL } else { 0 };
    let asks = if head.asks { layout::FLAG_ASKS } else { 0 };
    let begin = out.len();
    let mut message = Message::new(at::TEMPLATE_ID, at::BLOCK_BYTES);
    message.u64(at::HOST, head.host);
    message.u64(at::NUMBER, head.number);
    message.put(at::FLAGS, [roll | asks]);
    message.u32(at::SHARDS, head.shards);
    message.append_to(out);
    stamp_host_entry(&mut out[begin..], head.sent_ns, head.hears);
}

/// Writes into a `HostEntry`, with which `entry` begins, what is known only at its end.
pub(super) fn stamp_host_entry(entry: &mut [u8], sent_ns: u64, hears: bool) {
    use layout::host_entry as at;

    let block = &mut entry[HEADER_BYTES..HEADER_BYTES + at::BLOCK_BYTES];
    block[at::SENT..at::SENT + 8].copy_from_slice(&sent_ns.to_le_bytes());
    if hears {
        block[at::FLAGS] |= layout::FLAG_HEARS;
    } else {
        block[at::FLAGS] &= !layout::FLAG_HEARS;
    }
}

/// Appends a `HostSymbol`.
pub(super) fn write_host_symbol(out: &mut Vec<u8>, symbol_id: u32, carried: &Carried) {
    use layout::host_symbol as at;

    let [trade, quote] = carried.placed.map(|seq| seq.unwrap_or(NULL_U64));
    let mut message = Message::new(at::TEMPLATE_ID, at::BLOCK_BYTES);
    message.u32(at::SYMBOL_ID, symbol_id);
    message.put(at::NUMBERING, [carried.numbering as u8]);
    message.u64(at::EPOCH, carried.epoch);
    message.u64(at::TRADE, trade);
    message.u64(at::QUOTE, quote);
    message.put(at::NAME, *carried.symbol.padded());
    message.append_to(out);
}

/// Appends a `HostEpoch`.
pub(super) fn write_host_epoch(out: &mut Vec<u8>, symbol_id: u32, carried: &Carried) {
    use layout::host_epoch as at;

    let before = carried.before;
    let [trade, quote] = before.map_or([None; 2], |before| before.placed);
    let mut message = Message::new(at::TEMPLATE_ID, at::BLOCK_BYTES);
    message.u32(at::SYMBOL_ID, symbol_id);
    let fields = [
        (at::BASE_TRADE, carried.base[0]),
        (at::BASE_QUOTE, carried.base[1]),
        (at::BEFORE, before.map(|before| before.epoch)),
        (at::TRADE, trade),
        (at::QUOTE, quote),
    ];
    for (field, value) in fields {
        message.u64(field, value.unwrap_or(NULL_U64));
    }
    message.append_to(out);
}

/// Appends a `Cursor`.
pub fn write_cursor(out: &mut Vec<u8>, cursor: &Cursor) {
    let mut message = Message::new(layout::cursor::TEMPLATE_ID, layout::cursor::BLOCK_BYTES);
    let mut text = &mut message.bytes[HEADER_BYTES + layout::cursor::CURSOR..];
    write!(text, "{cursor}").expect("a cursor has at most 64 bytes");
    message.append_to(out);
}
