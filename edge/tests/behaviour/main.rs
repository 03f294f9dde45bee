//! What clients of an edge see, with a real engine behind it.

mod account;
mod foreign;
mod harness;
mod limits;
mod outage;
mod pages;
mod poll;
mod processes;
mod resume;
mod session;
mod sse;
