//! `perf`: the load generator, its scenarios and their reports.
//!
//! ```text
//!  schedule, ticks ──► publisher thread ──► server ──► load (main thread, epoll)
//!                           └── dialect ──┘    │   └── dialect ──┘ │ reference, account, latency
//!                                              │                  ▼
//!                    contender, peer ──► server, process ──► session ──► scenario ──► run ──► report
//!                                                                           └── compare
//! ```
//!
//! `perf/README.md` says what is measured, and how.

mod abuse;
mod account;
mod body;
mod cli;
mod compare;
mod contender;
mod dialect;
mod echo;
mod event_stream;
mod frame;
mod hold;
mod host;
mod http;
mod latency;
mod load;
mod peer;
mod process;
mod publisher;
mod redis;
mod reference;
mod report;
mod run;
mod rush;
mod scenario;
mod schedule;
mod server;
mod session;
mod stall;
mod summary;
mod syscalls;
mod ticks;
mod token;
mod upgrade;
mod worker;
mod zipf;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Cli::parse().run().unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}
