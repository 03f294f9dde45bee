//! The tickwire fan-out engine, as a library: start an [`Engine`], get a [`Publisher`].
//!
//! ```text
//!  publisher's socket ──┐                                   ┌─ floor 0 ── its subscribers' sockets
//!                       ├─► ingest ── the one writer ──► tape
//!  in-process publisher ┘                                   └─ floor 1 ── …
//!  new socket ──► door: limits, upgrade, JWT ──► placement ──► the floor, or ingest
//! ```
//!
//! An engine with ticks from within the process:
//!
//! ```rust
//! use tickwire_engine::{Engine, config::Config};
//! use tickwire_proto::{
//!     price::Decimal,
//!     symbol::Symbol,
//!     tick::{PublishedTick, Side, Values},
//! };
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let config = Config {
//!         listen: "127.0.0.1:0".parse()?,
//!         admin: "127.0.0.1:0".parse()?,
//!         ..Config::default()
//!     };
//!     let engine = Engine::start_with_secret(config, b"a secret of at least thirty-two bytes")?;
//!     println!("ws://{}/v1/ws", engine.listen_addr());
//!
//!     let price = Decimal::parse("187.23")?;
//!     let size = Decimal::parse("100")?;
//!     let mut publisher = engine.publisher("my feed")?;
//!     publisher.publish(PublishedTick {
//!         symbol: Symbol::parse("AAPL")?,
//!         identity: None, // the engine numbers it
//!         ts_ns: None,    // and stamps it
//!         values: Values::trade(price, Some(size), Some(Side::Buy))?,
//!     })?;
//!
//!     // Subscribers get what is queued for them, a goodbye, and 1001.
//!     drop(publisher);
//!     assert!(engine.drain(), "not within drain_s");
//!     Ok(())
//! }
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
//! | other hosts' entries | bridge | ingest | `bridge_lane_slots` | they wait in Redis |
//! | other hosts' clocks | bridge | floors | `bridge_hosts_max` | who was silent for longest is forgotten |
//! | in-band tokens | floors, ingest | door | `auth_queue_max` | `rate_limited` |

pub mod admin;
mod bell;
pub mod bridge;
pub mod client;
pub mod clock;
pub mod config;
pub mod door;
mod engine;
mod few;
mod floor;
pub mod ingest;
pub mod listeners;
pub mod logging;
pub mod market;
pub mod metrics;
mod peer;
mod placement;
mod publisher;
mod sys;
pub mod system;
pub mod takeover;
pub mod tape;
pub mod threads;
mod tidy;

pub use engine::{Engine, StartError};
pub use floor::Rehearsal;
pub use publisher::{PublishError, Publisher, PublisherCounts};
