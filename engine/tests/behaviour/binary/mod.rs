//! The binary `tickwire` as its users run it.

mod crash;
mod demo;
mod draining;
mod publishing;
mod recorded;
mod resume;
mod rolling;
mod serving;
mod silence;
mod takeover;
