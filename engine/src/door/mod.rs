//! The door.
pub mod auth;
pub mod keys;
