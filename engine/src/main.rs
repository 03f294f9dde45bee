//! The binary `tickwire`.

mod cli;

use std::process::ExitCode;

// Floors and ingest allocate nothing per tick; what remains is connections coming and going on
// several threads, which mimalloc serves with less contention and less memory than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
