//! The command line: one module a command, and what they share.

mod demo;
mod format;
mod publish;
mod serve;
mod stop;
mod subscribe;
mod token;
mod token_source;

use std::{
    error::Error,
    fmt,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// A high-frequency tick fan-out engine over WebSocket.
#[derive(Debug, Parser)]
#[command(name = "tickwire", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the engine.
    Serve(Box<serve::Args>),
    /// Run an engine with a synthetic market in it, and print a token to look at it.
    Demo(demo::Args),
    /// Make a token (HS256), for tests and for services that share the secret.
    Token(token::Args),
    /// Publish ticks from a CSV file or a synthetic market.
    Publish(publish::Args),
    /// Subscribe and print what comes, one JSON object a line.
    Subscribe(subscribe::Args),
}

/// The command line asks for something that cannot be; exit code 2, like clap's own errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// An error with its causes, in one line, but for causes that the error's own text ends with.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            cause = error.source();
        }
        Ok(())
    }
}

/// Prints a line, or several, on stdout. `println!` would panic where nobody reads it any more, as
/// in `tickwire serve --check | head -1`; that is no failure of ours.
fn say(text: impl fmt::Display) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(()),
    }
}

/// Runs the command; 0 is fine, 1 a failure, 2 wrong usage.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Publish(args) => publish::run(&args),
        Command::Subscribe(args) => subscribe::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tickwire: {}", Chain(error.as_ref()));
            if error.is::<UsageError>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn publish_takes_a_file_or_a_synthetic_market_but_not_both() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("tickwire publish --url ws://a --file f --speed 10 --repeat 2").is_ok());
        assert!(parse("tickwire publish --url ws://a --synthetic --symbols 500 --rate 50000 --duration 60s").is_ok());
        assert!(parse("tickwire publish --url ws://a").is_err());
        assert!(parse("tickwire publish --url ws://a --file f --synthetic").is_err());
        assert!(parse("tickwire publish --url ws://a --file f --speed 0").is_err());
        assert!(parse("tickwire publish --url ws://a --synthetic --speed max").is_err());
    }

    #[test]
    fn subscribe_needs_an_interval_only_to_conflate() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        let base = "tickwire subscribe --url ws://a --symbols BTC-*,AAPL";
        assert!(parse(base).is_ok());
        assert!(
            parse(&format!(
                "{base} --mode conflate --interval-ms 500 --channels trade"
            ))
            .is_ok()
        );
        assert!(parse(&format!("{base} --mode conflate --interval-ms 5")).is_err());
        assert!(parse("tickwire subscribe --url ws://a --symbols A*B").is_err());
    }
}
