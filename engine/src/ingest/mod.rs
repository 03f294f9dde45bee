//! Ingest: the one thread that numbers, arbitrates, stamps, and writes the tape.
//!
//! ```text
//!  publisher's socket ── socket ──┐
//!                                 ├──► sequencer (numbering, arbitration) ──► tape ──► floors' bells
//!  in-process publisher ── lane ──┤
//!  other hosts, by the bridge ────┘
//! ```
//!
//! All sources meet on this thread, so the order of the tape is the order for everyone, and no
//! publisher has to compare-and-swap with another.

mod arbitration;
mod hosts;
mod lane;
mod numbering;
mod publisher;
mod sequencer;
mod settlement;
mod symbol_state;
mod thread;

pub use hosts::{HostCounts, HostLane, Hosts};
pub use lane::{Lane, LaneCounts};
pub use sequencer::{Sequencer, SequencerCounts, SequencerOptions, SourceId};
pub use thread::{BridgeEnds, IngestSetup, Letter, run};
