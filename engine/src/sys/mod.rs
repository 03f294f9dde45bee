//! The only place where `unsafe` is allowed; every function here is safe to call.

#![allow(unsafe_code)]

pub mod heap;
// Loom and Miri cannot map memory; there the tape lives on the heap.
#[cfg(not(any(tickwire_loom, miri)))]
pub mod map;
pub mod ring;
pub mod socket;
