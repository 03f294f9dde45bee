//! The tickwire fan-out engine.

pub mod bell;
pub mod clock;
pub mod config;
pub mod door;
