//! Behaviour of a whole engine, seen through its public face only.
//!
//! With `TICKWIRE_TEST_DENY_URING=1` every engine is started under a seccomp filter that denies
//! io_uring, so that the same tests hold for the epoll fallback.

#![allow(clippy::float_cmp, reason = "counters and gauges are whole numbers")]

mod arbitration;
mod bad_input;
mod binary;
mod bridge;
mod churn;
mod conflate;
mod cursors;
mod delay;
mod entitlement;
mod flow;
mod foreign;
mod half_open;
mod harness;
mod hosts;
mod ledger;
mod liveness;
mod many_floors;
mod overrun;
mod process;
mod publishers;
mod replacing;
mod replay;
mod resume;
mod slow_consumer;
mod subscriptions;
mod ticks;
mod tokens;
mod upgrade;
mod wire;
mod wire_sbe;
