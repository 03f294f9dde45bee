//! The binary `tickwire-edge`.

mod cli;

use std::process::ExitCode;

// As in the engine: clients come and go on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
