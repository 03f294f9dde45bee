//! Where every field stands. All numbers are little-endian; offsets count from the block, which
//! follows the header.
//!
//! ```text
//! header      0            2            4          6         8
//!             │blockLength │ templateId │ schemaId │ version │
//!
//! Trade       0        4     5    6        7       8   16 24    32   40      44     48
//!             │symbolId│flags│side│priceExp│sizeExp│seq│ts│price│size│skipped│replay│
//!
//! Quote       0        4     5    6        7       8   16 24  32      40  48      56      60     64
//!             │symbolId│flags│  0 │priceExp│sizeExp│seq│ts│bid│bidSize│ask│askSize│skipped│replay│
//!
//! Gap         0        4       5      6   8     16   24 32     36  40
//!             │symbolId│channel│reason│ 0 │epoch│from│to│replay│ 0 │
//!
//! Feed        0        4     5   8
//!             │symbolId│state│ 0 │
//!
//! Heartbeat   0  8
//!             │ts│
//!
//! Definition  0        4      8     16    24    32              64
//!             │symbolId│replay│epoch│trade│quote│name, NUL-padded│
//!
//! Cursor      0                  64
//!             │cursor, NUL-padded│
//!
//! HostEntry   0    8      16    17 20     24   32
//!             │host│number│flags│0 │shards│sent│
//!
//! HostSymbol  0        4         5 8     16    24    32              64
//!             │symbolId│numbering│0│epoch│trade│quote│name, NUL-padded│
//!
//! HostEpoch   0        4 8         16        24     32    40    48
//!             │symbolId│0│baseTrade│baseQuote│before│trade│quote│
//! ```
//!
//! The last three stand only in what hosts tell each other ([`super::entry`]), never on a WebSocket.
//!
//! Every 8-byte field of a block stands on a multiple of 8, and every message is a multiple of 8
//! long, so that a tool may read a stream of them in place.

use crate::{cursor::CURSOR_BYTES_MAX, symbol::SYMBOL_BYTES_MAX};

/// `schemaId` of every message.
pub const SCHEMA_ID: u16 = 29_804;
/// `version` that is written; readers take any.
pub const VERSION: u16 = 0;

/// Bytes before each block.
pub const HEADER_BYTES: usize = 8;
/// The longest block of this version.
pub const BLOCK_BYTES_MAX: usize = 64;

/// "No value" of a u8.
pub const NULL_U8: u8 = u8::MAX;
/// "No value" of a u32.
pub const NULL_U32: u32 = u32::MAX;
/// "No value" of a u64.
pub const NULL_U64: u64 = u64::MAX;

/// `flags`: the tick is a snapshot.
pub const FLAG_SNAPSHOT: u8 = 1;
/// `flags`: the tick answers a `replay`.
pub const FLAG_REPLAY: u8 = 2;
/// `flags`: `skipped` is above 0.
pub const FLAG_SKIPPED: u8 = 4;

/// Offsets in the header.
pub mod header {
    /// u16, bytes of the block that follows.
    pub const BLOCK_LENGTH: usize = 0;
    /// u16.
    pub const TEMPLATE_ID: usize = 2;
    /// u16, [`super::SCHEMA_ID`].
    pub const SCHEMA_ID: usize = 4;
    /// u16.
    pub const VERSION: usize = 6;
}

/// What a `Trade` and a `Quote` begin with.
pub mod tick {
    /// u32.
    pub const SYMBOL_ID: usize = 0;
    /// u8, a sum of `FLAG_…`.
    pub const FLAGS: usize = 4;
    /// i8, −18…0.
    pub const PRICE_EXP: usize = 6;
    /// i8, −18…0.
    pub const SIZE_EXP: usize = 7;
    /// u64; null: the engine numbers.
    pub const SEQ: usize = 8;
    /// u64, nanoseconds since 1970 UTC; null: the engine stamps.
    pub const TS: usize = 16;
}

/// Offsets in a `Trade`, beyond those of [`tick`].
pub mod trade {
    /// The template's number.
    pub const TEMPLATE_ID: u16 = 1;
    /// Its size.
    pub const BLOCK_BYTES: usize = 48;
    /// u8: 0 buy, 1 sell; null: not known.
    pub const SIDE: usize = 5;
    /// i64.
    pub const PRICE: usize = 24;
    /// i64 or null.
    pub const SIZE: usize = 32;
    /// u32, 0 for none.
    pub const SKIPPED: usize = 40;
    /// u32 or null.
    pub const REPLAY: usize = 44;
}

/// Offsets in a `Quote`, beyond those of [`tick`].
pub mod quote {
    /// The template's number.
    pub const TEMPLATE_ID: u16 = 2;
    /// Its size.
    pub const BLOCK_BYTES: usize = 64;
    /// i64.
    pub const BID: usize = 24;
    /// i64 or null.
    pub const BID_SIZE: usize = 32;
    /// i64.
    pub const ASK: usize = 40;
    /// i64 or null.
    pub const ASK_SIZE: usize = 48;
    /// u32, 0 for none.
    pub const SKIPPED: usize = 56;
    /// u32 or null.
    pub const REPLAY: usize = 60;
}

/// Offsets in a `Gap`.
pub mod gap {
    /// The template's number.
    pub const TEMPLATE_ID: u16 = 3;
    /// Its size.
    pub const BLOCK_BYTES: usize = 40;
    /// u32.
    pub const SYMBOL_ID: usize = 0;
    /// u8, [`crate::tick::Channel`].
    pub const CHANNEL: usize = 4;
    /// u8, [`crate::reply::GapReason`].
    pub const REASON: usize = 5;
    /// u64; may differ from the epoch that the id names.
    pub const EPOCH: usize = 8;
    /// u64 or null.
    pub const FROM: usize = 16;
    /// u64 or null.
    pub const TO: usize = 24;
    /// u32 or null.
    pub const REPLAY: usize = 32;
}

/// Offsets in a `Feed`.
pub mod feed {
    /// The template's number.
    pub const TEMPLATE_ID: u16 = 4;
    /// Its size.
    pub const BLOCK_BYTES: usize = 8;
    /// u32.
    pub const SYMBOL_ID: usize = 0;
    /// u8, [`crate::tick::FeedState`].
    pub const STATE: usize = 4;
}

/// Offsets in a `Heartbeat`.
pub mod heartbeat {
    /// The template's number.
    pub const TEMPLATE_ID: u16 = 5;
    /// Its size.
    pub const BLOCK_BYTES: usize = 8;
    /// u64, nanoseconds since 1970 UTC.
    pub const TS: usize = 0;
}

/// Offsets in a `SymbolDefinition`.
pub mod definition {
    /// The template's number.
    pub const TEMPLATE_ID: u16 = 6;
    /// Its size.
    pub const BLOCK_BYTES: usize = 64;
    /// u32.
    pub const SYMBOL_ID: usize = 0;
    /// u32 or null.
    pub const REPLAY: usize = 4;
    /// u64.
    pub const EPOCH: usize = 8;
    /// u64 or null.
    pub const TRADE: usize = 16;
    /// u64 or null.
    pub const QUOTE: usize = 24;
    /// Text, NUL-padded to 32 bytes.
    pub const NAME: usize = 32;
}

/// Offsets in a `Cursor`.
pub mod cursor {
    /// The template's number.
    pub const TEMPLATE_ID: u16 = 7;
    /// Its size.
    pub const BLOCK_BYTES: usize = 64;
    /// Text, NUL-padded to 64 bytes.
    pub const CURSOR: usize = 0;
}

/// `flags` of a `HostEntry`: it names every symbol of its shard that the host carries.
pub const FLAG_ROLL: u8 = 1;
/// `flags` of a `HostEntry`: the host asks the others for their rolls.
pub const FLAG_ASKS: u8 = 2;
/// In `flags` of a `HostEntry`: the host has read the stream to its end.
pub const FLAG_HEARS: u8 = 4;

/// Offsets in a `HostEntry`.
pub mod host_entry {
    /// The template's number.
    pub const TEMPLATE_ID: u16 = 8;
    /// Its size.
    pub const BLOCK_BYTES: usize = 32;
    /// u64.
    pub const HOST: usize = 0;
    /// u64, from 1.
    pub const NUMBER: usize = 8;
    /// u8, a sum of `FLAG_ROLL`, `FLAG_ASKS` and `FLAG_HEARS`.
    pub const FLAGS: usize = 16;
    /// u32.
    pub const SHARDS: usize = 20;
    /// u64, nanoseconds since 1970 UTC.
    pub const SENT: usize = 24;
}

/// Offsets in a `HostSymbol`.
pub mod host_symbol {
    /// The template's number.
    pub const TEMPLATE_ID: u16 = 9;
    /// Its size.
    pub const BLOCK_BYTES: usize = 64;
    /// u32.
    pub const SYMBOL_ID: usize = 0;
    /// u8, [`super::super::entry::Numbering`].
    pub const NUMBERING: usize = 4;
    /// u64.
    pub const EPOCH: usize = 8;
    /// u64 or null.
    pub const TRADE: usize = 16;
    /// u64 or null.
    pub const QUOTE: usize = 24;
    /// Text, NUL-padded to 32 bytes.
    pub const NAME: usize = 32;
}

/// Offsets in a `HostEpoch`.
pub mod host_epoch {
    /// The template's number.
    pub const TEMPLATE_ID: u16 = 10;
    /// Its size.
    pub const BLOCK_BYTES: usize = 48;
    /// u32.
    pub const SYMBOL_ID: usize = 0;
    /// u64 or null.
    pub const BASE_TRADE: usize = 8;
    /// u64 or null.
    pub const BASE_QUOTE: usize = 16;
    /// u64 or null.
    pub const BEFORE: usize = 24;
    /// u64 or null.
    pub const TRADE: usize = 32;
    /// u64 or null.
    pub const QUOTE: usize = 40;
}

const _: () = {
    assert!(header::VERSION + 2 == HEADER_BYTES);
    assert!(tick::TS + 8 == trade::PRICE && tick::TS + 8 == quote::BID);
    assert!(trade::REPLAY + 4 == trade::BLOCK_BYTES);
    assert!(quote::REPLAY + 4 == quote::BLOCK_BYTES);
    assert!(gap::REPLAY + 8 == gap::BLOCK_BYTES);
    assert!(feed::STATE + 4 == feed::BLOCK_BYTES);
    assert!(heartbeat::TS + 8 == heartbeat::BLOCK_BYTES);
    assert!(definition::NAME + SYMBOL_BYTES_MAX == definition::BLOCK_BYTES);
    assert!(cursor::CURSOR + CURSOR_BYTES_MAX == cursor::BLOCK_BYTES);
    assert!(host_entry::SENT + 8 == host_entry::BLOCK_BYTES);
    assert!(host_symbol::NAME + SYMBOL_BYTES_MAX == host_symbol::BLOCK_BYTES);
    assert!(host_epoch::QUOTE + 8 == host_epoch::BLOCK_BYTES);
    let blocks = [
        trade::BLOCK_BYTES,
        quote::BLOCK_BYTES,
        gap::BLOCK_BYTES,
        feed::BLOCK_BYTES,
        heartbeat::BLOCK_BYTES,
        definition::BLOCK_BYTES,
        cursor::BLOCK_BYTES,
        host_entry::BLOCK_BYTES,
        host_symbol::BLOCK_BYTES,
        host_epoch::BLOCK_BYTES,
    ];
    let mut at = 0;
    while at < blocks.len() {
        assert!(blocks[at].is_multiple_of(8) && blocks[at] <= BLOCK_BYTES_MAX);
        at += 1;
    }
};

/// The size of a template's block in this version; `None` for templates that it does not know.
pub(super) fn block_bytes(template: u16) -> Option<usize> {
    Some(match template {
        trade::TEMPLATE_ID => trade::BLOCK_BYTES,
        quote::TEMPLATE_ID => quote::BLOCK_BYTES,
        gap::TEMPLATE_ID => gap::BLOCK_BYTES,
        feed::TEMPLATE_ID => feed::BLOCK_BYTES,
        heartbeat::TEMPLATE_ID => heartbeat::BLOCK_BYTES,
        definition::TEMPLATE_ID => definition::BLOCK_BYTES,
        cursor::TEMPLATE_ID => cursor::BLOCK_BYTES,
        host_entry::TEMPLATE_ID => host_entry::BLOCK_BYTES,
        host_symbol::TEMPLATE_ID => host_symbol::BLOCK_BYTES,
        host_epoch::TEMPLATE_ID => host_epoch::BLOCK_BYTES,
        _ => return None,
    })
}
