//! The last message of a drain.

use rand::Rng as _;
use tickwire_proto::{close::CloseReason, reply::Reply};

use crate::config::Config;

/// The earliest time to come back after a drain, ms.
const EARLIEST_MS: u64 = 200;
/// The shortest span over which returns are spread, where a drain itself takes no time, ms.
const LATEST_MS_MIN: u64 = 1_000;

/// A `goodbye` with a time to come back of its own, so that the next process is not met by
/// everyone at once.
pub fn goodbye(config: &Config) -> Reply {
    let latest_ms = (config.drain_s * 1_000).max(LATEST_MS_MIN);
    Reply::Goodbye {
        reason: CloseReason::Draining.label().to_owned(),
        reconnect_after_ms: Some(rand::rng().random_range(EARLIEST_MS..=latest_ms)),
    }
}
