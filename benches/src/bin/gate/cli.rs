//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Holds the hot path to the figures that are kept in the repository.
#[derive(Debug, Parser)]
#[command(name = "gate")]
pub struct Cli {
    /// The workspace's folder.
    #[arg(long, default_value = ".")]
    pub root: PathBuf,
    #[command(subcommand)]
    pub command: Command,
}

/// What to hold, or to keep anew.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Times of hot steps, each as a ratio to the obvious alternative's.
    Ratios {
        /// Only this step; may be given again.
        #[arg(long)]
        step: Vec<String>,
        /// Keep what is measured now instead of judging it.
        #[arg(long)]
        update: bool,
        /// Runs whose median is kept.
        #[arg(long, default_value_t = 5, requires = "update", value_parser = clap::value_parser!(u32).range(1..=99))]
        runs: u32,
    },
    /// Instructions per delivered tick, under callgrind.
    Instructions {
        /// Only this case; may be given again.
        // Counts of two compilers cannot stand in one file, so `--update` does all cases.
        #[arg(long, conflicts_with = "update")]
        case: Vec<String>,
        /// Keep what is counted now instead of judging it.
        #[arg(long)]
        update: bool,
    },
    /// Writes instructions.json and profile.json, for the report of a comparison.
    Counts {
        /// The folder with the files of the comparison.
        #[arg(long)]
        out: PathBuf,
    },
    /// Whether the gate stops code that was made slow on purpose.
    Selftest {
        /// Only this slow-down; may be given again.
        #[arg(long)]
        slowdown: Vec<String>,
    },
}
