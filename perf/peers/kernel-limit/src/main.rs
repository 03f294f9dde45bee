//! The kernel's own limit: sends ticks to the subscribers of their symbols, and does nothing else.
//!
//! One thread waits on epoll, cuts what a publisher sends into tick objects, and hands each finished
//! frame to the kernel, in one of the ways that `README.md` lists. What a server takes beyond the
//! figures of this program is its own.

mod audience;
mod directory;
mod fanout;
mod frame;
mod message;
mod ring;
mod server;
mod upgrade;

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};

use crate::{
    fanout::{Fanout, Pace, Way},
    ring::SendRing,
    server::Server,
};

/// Sends that one `io_uring_enter` takes.
const RING_ENTRIES: u32 = 4096;

/// Command line.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// Port on 127.0.0.1 to listen on.
    #[arg(long)]
    port: u16,
    /// Ignored: tokens are not verified.
    #[arg(long)]
    secret: Option<PathBuf>,
    /// Ignored: nothing is written.
    #[arg(long)]
    workdir: Option<PathBuf>,
    /// How sends reach the kernel.
    #[arg(long, value_enum, default_value_t = Sends::Uring)]
    sends: Sends,
    /// Gather what comes within so many milliseconds into one send per connection.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    window_ms: Option<u64>,
}

/// How sends reach the kernel.
#[derive(Clone, Copy, ValueEnum)]
enum Sends {
    /// `send(2)` for each, as ticks come.
    Calls,
    /// A batch of `IORING_OP_SEND` for each message of the publisher.
    Uring,
}

fn main() -> ExitCode {
    match start(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<(), Box<dyn Error>> {
    let way = match args.sends {
        Sends::Calls => Way::Calls,
        Sends::Uring => Way::Ring(Box::new(SendRing::new(RING_ENTRIES)?)),
    };
    let pace = match (args.window_ms, args.sends) {
        (Some(window_ms), _) => Pace::Window(Duration::from_millis(window_ms)),
        (None, Sends::Calls) => Pace::Tick,
        (None, Sends::Uring) => Pace::Message,
    };
    server::raise_file_limit();
    Server::bind(args.port, Fanout::new(way, pace))?.run()?;
    Ok(())
}
