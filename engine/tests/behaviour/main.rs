//! Behaviour of a whole engine, seen through its public face only.
//!
//! With `TICKWIRE_TEST_DENY_URING=1` every engine is started under a seccomp filter that denies
//! io_uring, so that the same tests hold for the epoll fallback.

mod arbitration;
mod bad_input;
mod binary;
mod conflate;
mod delay;
mod flow;
mod foreign;
mod harness;
mod ledger;
mod liveness;
mod overrun;
mod process;
mod publishers;
mod resume;
mod slow_consumer;
mod subscriptions;
mod ticks;
mod tokens;
mod upgrade;
mod wire;
