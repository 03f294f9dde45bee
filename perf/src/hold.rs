//! Further processes that only hold connections: one may have no more than its limit of files.
//!
//! A worker connects, says so in a line, and holds on until its standard input ends. Then it says
//! how many connections it has lost.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    host,
    load::{Load, Plan},
    scenario::Settings,
    schedule::Clock,
    session::SessionError,
    worker::Contact,
};

const CONNECTED: &str = "connected";
/// Descriptors beside the sockets.
const OWN_DESCRIPTORS: u64 = 64;
/// How often the end of standard input is looked for.
const TURN_US: u64 = 100_000;

/// What a worker is told.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Task {
    /// Whom it talks to.
    #[command(flatten)]
    pub contact: Contact,
    /// The number of its first connection, of all.
    #[arg(long)]
    pub first: u32,
    /// Its connections.
    #[arg(long)]
    pub count: u32,
    /// Source addresses.
    #[arg(long)]
    pub sources: u32,
}

/// A worker, from outside.
pub struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Task {
    /// Does it: `settings` are those of the scenario that it is part of.
    pub fn run(&self, settings: &Settings) -> Result<(), SessionError> {
        let dialect = self.contact.dialect()?;
        host::raise_descriptors(u64::from(self.count) + OWN_DESCRIPTORS)?;
        let signer = self.contact.signer()?;
        let all = Settings {
            subscribers: self.first + self.count,
            ..*settings
        };
        let mut audience = all.audience();
        let plan = Plan {
            server: self.contact.server,
            symbols: audience.symbols,
            follows: audience.follows.split_off(self.first as usize),
            epoch: 1,
            pace: crate::load::Pace {
                sources: self.sources,
                ..audience.pace
            },
            receive_buffer: None,
        };
        let clock = Clock::start();
        let mut load = Load::connect(plan, dialect.as_ref(), clock, |index| {
            signer.subscriber(&format!("perf-{}", self.first as usize + index))
        })?;
        println!("{CONNECTED}");
        io::stdout().flush()?;
        let ended = thread::spawn(|| io::stdin().read_to_end(&mut Vec::new()));
        while !ended.is_finished() {
            load.run_until(clock.now_us() + TURN_US, |_| false)?;
        }
        println!("{}", load.tally().lost);
        Ok(())
    }

    /// Has another process do it; returns once it is connected.
    pub fn start(&self) -> io::Result<Worker> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("hold")
            .args(self.flags())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("a worker without pipes");
        let mut worker = Worker {
            stdin: Some(child.stdin.take().ok_or_else(missing)?),
            stdout: BufReader::new(child.stdout.take().ok_or_else(missing)?),
            child,
        };
        if worker.line()? != CONNECTED {
            return Err(io::Error::other("a worker could not connect"));
        }
        Ok(worker)
    }

    fn flags(&self) -> Vec<String> {
        self.contact.flags([
            ("--first", self.first.to_string()),
            ("--count", self.count.to_string()),
            ("--sources", self.sources.to_string()),
        ])
    }
}

impl Worker {
    /// Ends it; how many connections it has lost.
    pub fn end(mut self) -> io::Result<u64> {
        self.stdin = None;
        let lost = self.line()?;
        self.child.wait()?;
        lost.parse()
            .map_err(|_| io::Error::other(format!("a worker said {lost:?}")))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stdin = None;
        // It ends by itself within a turn; should it not, it must not outlive the run.
        thread::sleep(Duration::from_millis(1));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_told_everything_by_its_flags() {
        let task = Task {
            contact: Contact::example(),
            first: 19_000,
            count: 7,
            sources: 2,
        };
        assert_eq!(crate::worker::told::<Task>(task.flags()), task);
    }
}
