//! The gate that regressions do not pass: `make gate`, or one half of it at a time.
//!
//! ```text
//! gate ratios         criterion's times, ours ÷ the obvious alternative   benches/ratios.toml
//! gate instructions   callgrind's counts per delivered tick               benches/instructions.toml
//! gate counts          the same counts, and a profile, for perf/REPORT.md
//! gate selftest       both, where the code has been made slow on purpose  benches/slowdowns/
//! ```
//!
//! Ratios hold on noisy machines and see what a step costs beside what one would use instead.
//! Instructions hold to a fraction of a percent and see what a whole floor does per tick. Neither
//! sees what the other does: caches and branches, or a reference that improves.
//!
//! Exit status: 0 where everything holds, 1 where something got worse (or, in the selftest, where a
//! slow-down went unnoticed), 2 where nothing could be judged.

mod callgrind;
mod cli;
mod error;
mod instructions;
mod judge;
mod kept;
mod profile;
mod ratios;
mod samples;
mod selftest;
mod slowdown;
mod workspace;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    cli::{Cli, Command},
    error::GateError,
    instructions::Instructions,
    judge::Findings,
    ratios::Ratios,
    workspace::Workspace,
};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            for finding in findings {
                eprintln!("gate: {finding}");
            }
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("gate: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> Result<Findings, GateError> {
    let workspace = Workspace::at(&cli.root)?;
    match cli.command {
        Command::Ratios {
            update: true,
            runs,
            step,
        } => Ratios::of(&workspace.root)?.update(&workspace, &step, runs),
        Command::Ratios { step, .. } => Ratios::of(&workspace.root)?.check(&workspace, &step),
        Command::Instructions { update: true, .. } => {
            Instructions::of(&workspace.root)?.update(&workspace)
        }
        Command::Instructions { case, .. } => {
            Instructions::of(&workspace.root)?.check(&workspace, &case)
        }
        Command::Counts { out } => Instructions::of(&workspace.root)?.write(&workspace, &out),
        Command::Selftest { slowdown } => selftest::run(&workspace, &slowdown),
    }
}
