//! The tickwire fan-out engine.

pub mod client;
pub mod config;
pub mod market;
