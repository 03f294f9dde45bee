//! tickwire's edge, as a library: Server-Sent Events and long poll for clients that cannot or should not
//! hold a WebSocket.
//!
//! ```text
//!  engine ──ws, SBE──► upstream ──► hub: history, symbols, union ──► outbox of each client
//!                                    ▲                                  │
//!                                    │ join, resume                     ▼
//!                                   http: /v1/sse, /v1/poll, /v1/session, /v1/admit ──► clients
//! ```
//!
//! An edge is a client of the engine among others, by the public protocol, and scales by itself: any
//! number of them may follow the same engines. Tokens are verified by the engine's own code
//! ([`tickwire_engine::door`]).
//!
//! What is bounded, by which key of [`config::Config`], and what happens at the bound stands beside
//! each key.

#![forbid(unsafe_code)]

mod admin;
pub mod config;
mod edge;
pub mod http;
pub mod hub;
mod listen;
pub mod metrics;
mod upstream;

pub use edge::{Edge, StartError};
