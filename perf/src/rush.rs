//! A further process for the crowd at the door, so that it takes no turns from those who measure.

use std::{io, net::Ipv4Addr, thread, time::Duration};

use crate::{
    host,
    load::{Rush, Since},
    schedule::Clock,
    ticks::Symbols,
    worker::{self, Contact, Worker},
};

/// Users that the crowd consists of.
const USERS: u32 = 256;
/// Descriptors beside the sockets.
const OWN_DESCRIPTORS: u64 = 64;

/// What the process is told.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Task {
    /// Whom it talks to.
    #[command(flatten)]
    pub contact: Contact,
    /// Symbols to subscribe to.
    #[arg(long)]
    pub symbols: u32,
    /// Clients.
    #[arg(long)]
    pub clients: u32,
    /// Connections at once.
    #[arg(long)]
    pub at_once: u32,
    /// New connections per second at most.
    #[arg(long)]
    pub per_s: u32,
    /// Whether they have all just lost their connections, and come back until they are let in.
    #[arg(long, action = clap::ArgAction::Set)]
    pub returns: bool,
    /// How long each stays once it is served, s.
    #[arg(long)]
    pub stay_s: f64,
    /// When it begins, µs since 1970 UTC.
    #[arg(long)]
    pub start_us: u64,
    /// When it ends at the latest.
    #[arg(long)]
    pub until_us: u64,
    /// The address of the first connection.
    #[arg(long)]
    pub first_source: Ipv4Addr,
    /// Addresses.
    #[arg(long)]
    pub sources: u32,
    /// What is asked for from the past.
    #[command(flatten)]
    pub since: Since,
}

impl Task {
    /// Does it, and prints how it went.
    pub fn run(&self) -> io::Result<()> {
        let dialect = self.contact.dialect()?;
        host::raise_descriptors(u64::from(self.at_once) + OWN_DESCRIPTORS)?;
        let signer = self.contact.signer()?;
        let tokens: Vec<String> = (0..USERS)
            .map(|user| signer.subscriber(&format!("crowd-{user}")))
            .collect();
        let rush = Rush {
            server: self.contact.server,
            symbols: Symbols::numbered(self.symbols as usize),
            clients: self.clients,
            at_once: self.at_once as usize,
            per_s: self.per_s,
            returns: self.returns,
            stay: Duration::from_secs_f64(self.stay_s),
            until_us: self.until_us,
            first_source: self.first_source,
            sources: self.sources,
            since: self.since,
        };
        let clock = Clock::start();
        thread::sleep(clock.until(self.start_us));
        let rushed = rush.run(dialect.as_ref(), clock, &tokens)?;
        worker::report(&rushed)
    }

    /// Has another process do it.
    pub fn start(&self) -> io::Result<Worker> {
        Worker::start("rush", self.flags())
    }

    fn flags(&self) -> Vec<String> {
        self.contact.flags([
            ("--symbols", self.symbols.to_string()),
            ("--clients", self.clients.to_string()),
            ("--at-once", self.at_once.to_string()),
            ("--per-s", self.per_s.to_string()),
            ("--returns", self.returns.to_string()),
            ("--stay-s", self.stay_s.to_string()),
            ("--start-us", self.start_us.to_string()),
            ("--until-us", self.until_us.to_string()),
            ("--first-source", self.first_source.to_string()),
            ("--sources", self.sources.to_string()),
            ("--epoch", self.since.epoch.to_string()),
            ("--from-us", self.since.from_us.to_string()),
            ("--from-seq", self.since.from_seq.to_string()),
            ("--rate", self.since.rate.to_string()),
            ("--away-s", self.since.away_s.to_string()),
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
            symbols: 10,
            clients: 20_000,
            at_once: 256,
            per_s: 1_000_000,
            returns: true,
            stay_s: 2.5,
            start_us: 1,
            until_us: 2,
            first_source: Ipv4Addr::new(127, 1, 0, 1),
            sources: 4_096,
            since: Since {
                epoch: 3,
                from_us: 4,
                from_seq: 5,
                rate: 2.5,
                away_s: 5.0,
            },
        };
        assert_eq!(worker::told::<Task>(task.flags()), task);
    }
}
