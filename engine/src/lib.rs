//! The tickwire fan-out engine, as a library: start an [`Engine`], get a [`Publisher`].
//!
//! ```text
//!  publisher's socket ──┐                                   ┌─ floor 0 ── its subscribers' sockets
//!                       ├─► ingest ── the one writer ──► tape
//!  in-process publisher ┘                                   └─ floor 1 ── …
//!  new socket ──► door: limits, upgrade, JWT ──► placement ──► the floor, or ingest
//! ```
//!
//! What crosses threads:
//!
//! | what | written by | read by | bound | at the bound |
//! | --- | --- | --- | --- | --- |
//! | [`tape`] | ingest | floors, anyone | `tape_slots` | the oldest is overwritten; a lapped reader knows by how much |
//! | table of symbols | ingest | floors | `symbols_max` | the tick is refused, `out_of_range` |
//! | interest masks | floors | ingest | 64 floors | config refuses more |
//! | a floor's letters | door, desk | the floor | `handover_queue_max` | 503 |
//! | ingest's letters | door, desk | ingest | `handover_queue_max` | 503 |
//! | a publisher's lane | its thread | ingest | `lane_slots` | the tick is handed back |
//! | in-band tokens | floors, ingest | door | `auth_queue_max` | `rate_limited` |

pub mod admin;
mod bell;
pub mod client;
pub mod clock;
pub mod config;
pub mod door;
mod engine;
mod floor;
pub mod ingest;
pub mod market;
pub mod metrics;
mod peer;
mod placement;
mod publisher;
mod sys;
pub mod tape;
pub mod threads;

pub use engine::{Engine, StartError};
pub use publisher::{PublishError, Publisher, PublisherCounts};
