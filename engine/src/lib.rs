//! The tickwire fan-out engine.

pub mod config;
pub mod tape;

mod sys;
