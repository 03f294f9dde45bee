//! The SBE codec (FIX Simple Binary Encoding 1.0), schema `proto/schema/tickwire.xml`.
//!
//! ```text
//!  one binary WebSocket message
//!  ┌────────┬───────┬────────┬───────┬─ …
//!  │ header │ block │ header │ block │      back to back, little-endian, no groups, no var data
//!  └────────┴───────┴────────┴───────┴─ …
//! ```
//!
//! Writers append to a `Vec` and allocate nothing beyond its growth. Readers take longer blocks
//! of later versions and skip templates they do not know. A client reads with a [`Decoder`],
//! which remembers what each `symbolId` names; the engine reads publishers with
//! [`decode_published`].

mod decode;
mod encode;
pub mod entry;
pub(crate) mod fuzzing;
pub mod layout;
mod published;

#[cfg(test)]
mod tests;

pub use self::{
    decode::{DEFINITIONS_MAX, Decoder, SbeError},
    encode::{
        write_cursor, write_definition, write_feed, write_gap, write_heartbeat, write_published,
        write_tick,
    },
    published::{RawTick, TickRefusal, decode_published},
};
