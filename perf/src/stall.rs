//! A further process whose subscribers stop reading for a while.

use std::{io, thread};

use serde::{Deserialize, Serialize};

use crate::{
    account::Counts,
    host,
    load::{Follows, Load, Pace, Plan},
    schedule::Clock,
    session::SessionError,
    ticks::Symbols,
    worker::{self, Contact, Worker},
};

/// Descriptors beside the sockets.
const OWN_DESCRIPTORS: u64 = 64;
/// Of each connection: what the kernel takes for a client that does not read is to be little.
const RECEIVE_BUFFER: usize = 8 * 1024;
const CONNECTS_PER_S: u32 = 1_000;
const IN_PROGRESS_MAX: usize = 64;

/// What the process is told.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Task {
    /// Whom it talks to.
    #[command(flatten)]
    pub contact: Contact,
    /// Symbols to subscribe to.
    #[arg(long)]
    pub symbols: u32,
    /// Connections.
    #[arg(long)]
    pub count: u32,
    /// When they stop reading, µs since 1970 UTC.
    #[arg(long)]
    pub silent_from_us: u64,
    /// When they read again.
    #[arg(long)]
    pub silent_to_us: u64,
    /// When they have read enough.
    #[arg(long)]
    pub until_us: u64,
}

/// What they received.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stalled {
    /// The account over all of them.
    pub counts: Counts,
    /// Connections lost.
    pub lost: u64,
    /// Why the first was lost.
    pub first_lost: Option<String>,
}

impl Task {
    /// Does it, and prints how it went.
    pub fn run(&self) -> Result<(), SessionError> {
        let dialect = self.contact.dialect()?;
        host::raise_descriptors(u64::from(self.count) + OWN_DESCRIPTORS)?;
        let signer = self.contact.signer()?;
        let all = Follows::Symbols((0..self.symbols).collect());
        let plan = Plan {
            server: self.contact.server,
            symbols: Symbols::numbered(self.symbols as usize),
            follows: vec![all; self.count as usize],
            // None that a publisher uses: accounts open where the server says.
            epoch: 0,
            pace: Pace {
                connects_per_s: CONNECTS_PER_S,
                in_progress_max: IN_PROGRESS_MAX,
                // The limits per IP are not what is looked at.
                sources: self.count,
            },
            receive_buffer: Some(RECEIVE_BUFFER),
        };
        let clock = Clock::start();
        let token = |index| signer.subscriber(&format!("slow-{index}"));
        let mut load = Load::connect(plan, dialect.as_ref(), clock, token)?;
        load.run_until(self.silent_from_us, |_| false)?;
        thread::sleep(clock.until(self.silent_to_us));
        load.run_until(self.until_us, |_| false)?;
        let tally = load.tally();
        worker::report(&Stalled {
            counts: tally.counts,
            lost: tally.lost,
            first_lost: tally.first_lost.as_ref().map(ToString::to_string),
        })?;
        Ok(())
    }

    /// Has another process do it.
    pub fn start(&self) -> io::Result<Worker> {
        Worker::start("stall", self.flags())
    }

    fn flags(&self) -> Vec<String> {
        self.contact.flags([
            ("--symbols", self.symbols.to_string()),
            ("--count", self.count.to_string()),
            ("--silent-from-us", self.silent_from_us.to_string()),
            ("--silent-to-us", self.silent_to_us.to_string()),
            ("--until-us", self.until_us.to_string()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_told_everything_by_its_flags() {
        let task = Task {
            contact: Contact::example(),
            symbols: 1,
            count: 100,
            silent_from_us: 1,
            silent_to_us: 2,
            until_us: 3,
        };
        assert_eq!(worker::told::<Task>(task.flags()), task);
    }
}
