//! The tickwire fan-out engine.

pub mod config;
