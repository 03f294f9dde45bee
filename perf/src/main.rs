//! `perf`: the load generator, its scenarios and their reports.
//!
//! ```text
//!  schedule ──► publisher thread ──/v1/publish──► server ──/v1/ws──► load (main thread, epoll)
//!                                                   │                  │ account, latency
//!                       /proc/PID ◄── host ◄────────┘                  ▼
//!                                      └──────► scenario ──► compare ──► report
//! ```
//!
//! `perf/README.md` says what is measured, and how.

mod account;
mod cli;
mod compare;
mod frame;
mod host;
mod latency;
mod load;
mod message;
mod paper;
mod publisher;
mod report;
#[allow(dead_code, reason = "the scenarios are being moved to it")]
mod run;
mod scenario;
mod schedule;
mod server;
mod token;
mod upgrade;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Cli::parse().run().unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}
