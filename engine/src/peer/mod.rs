//! What subscribers' and publishers' connections have in common.
//!
//! ```text
//!  bytes ──► inbound (tungstenite) ──► messages ──► conduct (rate, malformed) ──► request
//!  clock ──► liveness ──► heartbeat, ping, token expiry, closing
//! ```

pub mod conduct;
pub mod goodbye;
pub mod inbound;
pub mod liveness;
