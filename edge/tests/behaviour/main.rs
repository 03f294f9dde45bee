//! What clients of an edge see, with a real engine behind it.

mod account;
mod harness;
mod limits;
mod outage;
mod pages;
mod poll;
mod resume;
mod session;
mod sse;
