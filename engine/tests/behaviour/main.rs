//! Behaviour of a whole engine, seen through its public face only.
//!
//! With `TICKWIRE_TEST_DENY_URING=1` every engine is started under a seccomp filter that denies
//! io_uring, so that the same tests hold for the epoll fallback.

mod flow;
mod harness;
mod ledger;
mod resume;
mod subscriptions;
