//! JSON: every message of `tickwire.v1.json`, both ways (`proto/README.md`, "Requests" to
//! "Publishing").
//!
//! ```text
//!            engine                                          client, publisher
//!  Reply::write_json, write_tick ──────────────────────────► Reply::from_json
//!  Request::from_json            ◄────────────────────────── Request::to_json
//!  PublishParser                 ◄────────────────────────── PublishedTick::write_json
//! ```
//!
//! What goes out per tick is written by hand and allocates nothing. What comes in is trusted in
//! nothing: requests name every field that they do not understand, ticks are refused one by one.
//! Replies are read leniently, since a newer engine may say more than this version knows.

mod decode;
mod decode_ack;
mod object;
mod publish;
mod publish_tick;
mod reply;
mod request;
mod request_fields;
mod request_text;
mod tick;

pub use decode::DecodeError;
pub use publish::{Message, PublishParser, TickError};
pub use reply::{write_cursor, write_feed, write_gap, write_heartbeat, write_start};
pub use tick::write_tick;
