//! Why nothing could be judged.

use std::{io, path::PathBuf};

use thiserror::Error;

/// What keeps the gate from a judgement. A regression is none of these: it is a finding.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GateError {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A TOML file of the gate is not what it has to be.
    #[error("{}: {source}", path.display())]
    Toml {
        /// Which.
        path: PathBuf,
        /// Why.
        source: toml_edit::de::Error,
    },
    /// What a program wrote is not the JSON that it has to write.
    #[error("{from}: {source}")]
    Json {
        /// The program, or the file that it wrote.
        from: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A program could not be started.
    #[error("{program}: {source}{}", remedy(program, source))]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program failed.
    #[error("{command}: {status}\n{stderr}")]
    Failed {
        /// What was called.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// A program ended well and left out what it was called for.
    #[error("{program} did not report {what}")]
    Silent {
        /// Which.
        program: String,
        /// What is missing.
        what: String,
    },
    /// A name on the command line or in a file that stands nowhere.
    #[error("no {kind} is called {name:?}; there are {}", known.join(", "))]
    Unknown {
        /// Step, case or slow-down.
        kind: &'static str,
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// A step or case for which no figure was kept yet.
    #[error("{name}: no figure is kept yet; --update keeps one")]
    NothingKept {
        /// The step or case.
        name: String,
    },
    /// Twice the ticks did not lead to more: what is counted is not what was meant.
    #[error("{case}: no more {what} for twice the ticks, {short} and {long}")]
    NotGrowing {
        /// The case.
        case: String,
        /// Of what.
        what: &'static str,
        /// The run's count.
        short: u64,
        /// The count of a run of twice its length.
        long: u64,
    },
    /// Counts of another architecture say nothing about this one.
    #[error("instructions are kept for {kept}, and this is {host}: they cannot be compared")]
    OtherHost {
        /// The target triple of the kept counts.
        kept: String,
        /// This machine's.
        host: String,
    },
    /// The line that a slow-down follows is no longer there, or there twice.
    #[error("{}: the slow-down's line stands there {found} times, not once:\n{after}", path.display())]
    Mark {
        /// The file.
        path: PathBuf,
        /// The line.
        after: String,
        /// How often it stands there.
        found: usize,
    },
}

/// What to do where a program is not there.
fn remedy(program: &str, source: &io::Error) -> &'static str {
    if program == "valgrind" && source.kind() == io::ErrorKind::NotFound {
        "; on Debian or Ubuntu: apt-get install valgrind"
    } else {
        ""
    }
}
