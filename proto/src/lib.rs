//! The tickwire protocol: domain types, codecs and the client's session, without I/O or clock.
//!
//! ```text
//!  publisher ── PublishedTick ──► json / sbe ──► engine ──► json / sbe ──► Reply ── Session ──► client
//!  client ───── Request ────────► json ────────► engine
//!  upgrade head ► upgrade::Query, Subprotocol
//! ```
//!
//! `proto/README.md` is the contract in prose; `proto/schema/tickwire.xml` is the SBE schema.

#![forbid(unsafe_code)]

pub mod backoff;
pub mod claims;
pub mod close;
pub mod code;
pub mod cursor;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod json;
pub mod pattern;
pub mod price;
pub mod reply;
pub mod request;
pub mod sbe;
pub mod session;
pub mod symbol;
mod text;
pub mod tick;
pub mod upgrade;
