//! Commands and their flags.

use std::{error::Error, io, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    compare::Compare,
    host,
    paper::Paper,
    report::{Report, TABLE_HEAD},
    scenario::{Hot, Target},
    token::Signer,
    upgrade::ServerUrl,
};

/// Measures tickwire, and the servers that it is compared with.
#[derive(Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Many subscribers of one symbol, against a server that runs already.
    Hot(HotCommand),
    /// The same against tickwire and a plain tokio-tungstenite server, in pairs; starts both.
    Compare(CompareCommand),
    /// Writes REPORT.md and its plots from the files of one comparison.
    Report(Paper),
}

#[derive(Args)]
struct Shape {
    /// Subscriber connections.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    subscribers: u32,
    /// Ticks per second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Length of the measured window, s.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    duration: u32,
    /// Ticks flow this long before the window, s.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    warmup: u32,
    /// New connections per second.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connects_per_s: u32,
    /// Connections being set up at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    in_progress_max: u32,
    /// Source addresses from 127.0.0.1 upwards; 0 leaves the choice to the kernel. Each has some
    /// 28,000 ports.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1 << 16))]
    sources: u32,
    /// The symbol.
    #[arg(long, default_value = "AAPL")]
    symbol: String,
    /// Writes the result there as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct HotCommand {
    #[command(flatten)]
    shape: Shape,
    /// The server, as ws://host:port.
    #[arg(long)]
    server: ServerUrl,
    /// Its process, for CPU and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// File with the HS256 secret that it verifies tokens with.
    #[arg(long)]
    secret: PathBuf,
    /// The core for the generator; by default it shares all of them with the server.
    #[arg(long)]
    generator_core: Option<usize>,
}

#[derive(Args)]
struct CompareCommand {
    #[command(flatten)]
    shape: Shape,
    /// Pairs of runs.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pairs: u32,
    /// The core for each server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core for the generator; by default the first other one.
    #[arg(long)]
    generator_core: Option<usize>,
    /// Tickwire's binary; by default the one beside this program.
    #[arg(long)]
    tickwire: Option<PathBuf>,
    /// A further argument for it, such as --tickwire-arg=--idle=spin; may be repeated.
    #[arg(long = "tickwire-arg", allow_hyphen_values = true)]
    tickwire_args: Vec<String>,
    /// The other server's binary; by default the one beside this program.
    #[arg(long)]
    peer: Option<PathBuf>,
    /// Bytes of its read buffer per connection; tungstenite's own default is 131072, and it
    /// recommends less for small messages.
    #[arg(long, default_value_t = 4_096)]
    peer_read_buffer: u32,
}

impl Cli {
    /// Runs the command. Failure also where a run was measured but is worthless.
    pub fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let sound = match self.command {
            Command::Hot(hot) => hot.run()?,
            Command::Compare(compare) => compare.run()?,
            Command::Report(paper) => paper.write()?,
        };
        Ok(if sound {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl HotCommand {
    fn run(self) -> Result<bool, Box<dyn Error>> {
        if let Some(core) = self.generator_core {
            host::confine_self(&[core])?;
        }
        let signer = Signer::from_file(&self.secret)?;
        let target = Target {
            name: self.server.authority.clone(),
            server: self.server,
            pid: self.pid,
        };
        let measured = self.shape.hot().run(&target, &signer)?;
        println!("{TABLE_HEAD}\n{}", measured.row());
        let faults = measured.faults();
        for fault in &faults {
            println!("\n{fault}");
        }
        write(self.shape.out, "hot", Vec::new(), measured)?;
        Ok(faults.is_empty())
    }
}

impl CompareCommand {
    fn run(self) -> Result<bool, Box<dyn Error>> {
        let compare = Compare {
            hot: self.shape.hot(),
            pairs: self.pairs,
            server_core: self.server_core,
            generator_cores: vec![generator_core(self.generator_core, self.server_core)?],
            tickwire: beside(self.tickwire, "tickwire")?,
            tickwire_args: self.tickwire_args,
            peer: beside(self.peer, "tickwire-peer-tokio-tungstenite")?,
            peer_read_buffer: self.peer_read_buffer,
        };
        let comparison = compare.run(|text| println!("{text}"))?;
        println!("{}", comparison.to_markdown());
        let sound = comparison.is_sound();
        write(self.shape.out, "compare", compare.versions(), comparison)?;
        Ok(sound)
    }
}

impl Shape {
    fn hot(&self) -> Hot {
        Hot {
            symbol: self.symbol.clone(),
            subscribers: self.subscribers as usize,
            rate: self.rate,
            warmup_s: self.warmup,
            duration_s: self.duration,
            connects_per_s: self.connects_per_s,
            in_progress_max: self.in_progress_max as usize,
            sources: self.sources,
        }
    }
}

fn generator_core(asked: Option<usize>, server_core: usize) -> io::Result<usize> {
    let core = match asked {
        Some(core) => Some(core),
        None => host::own_cores()?
            .into_iter()
            .find(|&core| core != server_core),
    };
    core.ok_or_else(|| io::Error::other("a comparison needs a second core for the generator"))
}

fn beside(asked: Option<PathBuf>, name: &str) -> io::Result<PathBuf> {
    match asked {
        Some(path) => Ok(path),
        None => Ok(std::env::current_exe()?.with_file_name(name)),
    }
}

fn write<T: serde::Serialize>(
    out: Option<PathBuf>,
    scenario: &'static str,
    versions: Vec<String>,
    result: T,
) -> io::Result<()> {
    match out {
        Some(path) => Report::new(scenario, versions, result).write(&path),
        None => Ok(()),
    }
}
