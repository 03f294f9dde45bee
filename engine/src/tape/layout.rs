//! The tape's memory, word by word.
//!
//! A slot, and an entry of a symbol's table of recent records; 16 words, 128 bytes:
//!
//! ```text
//! word  0  stamp         0 never written; 2p + 1 being written, 2p + 2 complete, of position p
//!       1  next          position + 1 of the record after it in its channel; 0 for none yet
//!       2  what          kind u8 | detail u8 | price exponent i8 | size exponent i8 | symbol u32,
//!                        the kind lowest, with 0x80 where the record comes from another host; the
//!                  detail is a side, a gap's reason or a feed state
//!       3  seq           or a gap's `from`
//!       4  ts_ns         or a gap's `to`
//!       5  epoch
//!       6  admitted_ns
//!       7  previous      position + 1 of the record before it in its channel; 0 for none
//! ----------------------------------------------------------------------------- next cache line
//!       8  price         or bid
//!       9  size          or bid size; null is −2⁶³, as in SBE
//!      10  ask
//!      11  ask size
//!      12  reserved (4)
//! ```
//!
//! A symbol's head; 16 words, 128 bytes. The first line changes rarely, the second with each push:
//!
//! ```text
//! word  0  name (4)      NUL-padded, native byte order
//!       4  feed          0 never heard of, 1 stale, 2 live
//!       5  interest      bit f: floor f has a subscriber
//!       6  carried       0 nobody here publishes it, 1 its publishers number it, 2 the engine does;
//!                        four times that, what it was before
//!       7  reserved
//! ----------------------------------------------------------------------------- next cache line
//!       8  count         records in the trade channel, ever; entry (count − 1) mod 16 is the newest
//!       9  last          position + 1 of the newest; 0 for none
//!      10  base epoch    0 for none, 2⁶⁴ − 1 while it changes
//!      11  base seq
//!      12  count, last, base epoch, base seq of the quote channel
//! ```
//!
//! Every word is in native byte order: the memory never leaves the process.

use super::sync::AtomicU64;

/// Words of a slot.
pub const SLOT_WORDS: usize = 16;
/// A slot.
pub type SlotWords = [AtomicU64; SLOT_WORDS];

pub const STAMP: usize = 0;
pub const NEXT: usize = 1;
/// First word of the record itself.
pub const PAYLOAD: usize = 2;

/// Words of a record, all but its position, which is the stamp.
pub const PAYLOAD_WORDS: usize = 10;
/// A record as it lies in a slot, copied out.
pub type Payload = [u64; PAYLOAD_WORDS];

/// Words of a symbol's head.
pub const HEAD_WORDS: usize = 16;
/// A symbol's head.
pub type HeadWords = [AtomicU64; HEAD_WORDS];

pub const NAME: usize = 0;
pub const NAME_WORDS: usize = tickwire_proto::symbol::SYMBOL_BYTES_MAX / 8;
pub const FEED: usize = 4;
pub const INTEREST: usize = 5;
pub const CARRIED: usize = 6;
/// First word of the trade channel; the quote channel follows.
pub const CHANNEL: usize = 8;
pub const CHANNEL_WORDS: usize = 4;
pub const COUNT: usize = 0;
pub const LAST: usize = 1;
pub const BASE_EPOCH: usize = 2;
pub const BASE_SEQ: usize = 3;

/// Records of each channel that the symbol table keeps, however far the ring has moved on.
///
/// One under loom, so that a model laps it with every push.
pub const RECENT: usize = if cfg!(tickwire_loom) { 1 } else { 16 };
/// A symbol's recent records, by channel.
pub type RecentWords = [[SlotWords; RECENT]; 2];

// Two cache lines, the pair that x86 prefetches together: no two slots share one.
const _: () = assert!(SLOT_WORDS * 8 == 128);
const _: () = assert!(HEAD_WORDS * 8 == 128);
const _: () = assert!(PAYLOAD + PAYLOAD_WORDS <= SLOT_WORDS);
// The entry of a record is its count modulo the entries.
const _: () = assert!(RECENT.is_power_of_two());
const _: () = assert!(NAME + NAME_WORDS <= FEED && CARRIED < CHANNEL);
const _: () = assert!(CHANNEL + 2 * CHANNEL_WORDS <= HEAD_WORDS);
