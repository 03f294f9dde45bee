//! Commands and their flags.

use std::{error::Error, io, path::PathBuf, process::ExitCode, time::SystemTime};

use clap::{Args, Parser, Subcommand};

use crate::{
    abuse,
    compare::{Compare, write_secret},
    contender::{self, Contender, Stage},
    dialect::{self, Dialect},
    hold, host,
    load::Pace,
    peer,
    process::Tree,
    report::Report,
    run::Run,
    rush,
    scenario::{Arena, RoundCount, Scenario, Settings},
    session::Target,
    stall, summary,
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
    #[command(flatten)]
    Play(Play),
    /// Plays scenarios against many servers in turn, and leaves a file for each run.
    Compare(CompareCommand),
    /// Lists the servers that can be started.
    Servers(Servers),
    /// Writes REPORT.md and its plots from the files of one comparison.
    Report(Report),
    /// Holds connections as part of another process's run.
    #[command(hide = true)]
    Hold(hold::Task),
    /// Is the crowd of another process's storm.
    #[command(hide = true)]
    Rush(rush::Task),
    /// Is those who stop reading in another process's run.
    #[command(hide = true)]
    Stall(stall::Task),
    /// Says what no client should in another process's run.
    #[command(hide = true)]
    Abuse(abuse::Task),
}

/// One scenario against one server.
#[derive(Subcommand)]
enum Play {
    /// Many subscribers of one symbol.
    Hot(PlayCommand),
    /// Subscribers of ten symbols each, popularity after Zipf.
    Watchlist(PlayCommand),
    /// Few subscribers of everything.
    Firehose(PlayCommand),
    /// A rate that rises to fifty times the mean for two seconds.
    Burst(PlayCommand),
    /// Silent connections: what they cost in memory.
    Idle(PlayCommand),
    /// A low rate, to one subscriber and to many.
    Latency(PlayCommand),
    /// tickwire with one floor and with more.
    Scale(PlayCommand),
    /// `hot` at rising rates, to the highest that is sustained.
    RampHot(PlayCommand),
    /// `watchlist` at rising rates, to the highest that is sustained.
    RampWatchlist(PlayCommand),
    /// Everyone comes back at once, at 20 and at 50 ticks per second, from many addresses and from one.
    Storm(PlayCommand),
    /// Some subscribers stop reading for a while, and then for longer than they may.
    Slow(PlayCommand),
    /// Clients that come and go for minutes: whether anything of them stays behind.
    Churn(PlayCommand),
    /// All of that at once for twenty minutes, with bad input beside it.
    Soak(PlayCommand),
    /// Server-Sent Events to many subscribers of one symbol.
    Sse(PlayCommand),
    /// Hosts that share ticks through Redis: whether all comes everywhere, and how much later.
    Hosts(PlayCommand),
    /// The most ticks that go through one Redis, and what each costs.
    Bridge(PlayCommand),
}

/// Other figures than the scenario's own.
#[derive(Args)]
struct Figures {
    /// Subscriber connections.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    subscribers: Option<u32>,
    /// Ticks per second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Length of the measured window, s.
    #[arg(long, value_parser = seconds)]
    duration: Option<f64>,
    /// Ticks flow this long before the window, s.
    #[arg(long, value_parser = seconds)]
    warmup: Option<f64>,
    /// New connections per second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connects_per_s: Option<u32>,
    /// Connections being set up at once.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    in_progress_max: Option<u32>,
    /// Source addresses from 127.0.0.1 upwards; 0 leaves the choice to the kernel. Each has some
    /// 28,000 ports.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1 << 16))]
    sources: Option<u32>,
    /// Connections of one process; `idle` starts further processes for more.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    process_max: Option<u32>,
    /// How long a ramp may go on, s.
    #[arg(long, value_parser = seconds)]
    ramp: Option<f64>,
    /// Counts system calls as well, in a window of its own (hot, watchlist, firehose, sse).
    #[arg(long)]
    syscalls: bool,
}

/// What can be started, and on which cores.
#[derive(Args)]
struct Servers {
    /// Tickwire's binary; by default the one beside this program.
    #[arg(long)]
    tickwire: Option<PathBuf>,
    /// A further argument for it, such as --tickwire-arg=--idle=spin; may be repeated.
    #[arg(long = "tickwire-arg", allow_hyphen_values = true)]
    tickwire_args: Vec<String>,
    /// The folder of the other servers.
    #[arg(long, default_value = "perf/peers")]
    peers: PathBuf,
}

/// Who gets which core.
#[derive(Args)]
struct Cores {
    /// The core for each server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core for the generator; by default the first other one.
    #[arg(long)]
    generator_core: Option<usize>,
}

#[derive(Args)]
struct PlayCommand {
    /// The server to start, by the name that `servers` lists.
    #[arg(long, default_value = "tickwire", conflicts_with = "server")]
    server_name: String,
    /// A server that runs already, as ws://host:port.
    #[arg(long, requires = "secret")]
    server: Option<ServerUrl>,
    /// Its process, for CPU and memory.
    #[arg(long, requires = "server")]
    pid: Option<u32>,
    /// File with the HS256 secret that it verifies tokens with.
    #[arg(long, requires = "server")]
    secret: Option<PathBuf>,
    /// How it is talked to: tickwire, tickwire-sbe, tickwire-sse, socketio, nchan, nchan-sse, nats.
    #[arg(long, default_value = "tickwire", requires = "server")]
    dialect: String,
    /// The latency budget that subscribers ask tickwire for.
    #[arg(long, requires = "server")]
    max_delay_ms: Option<u32>,
    /// A folder for the file of the run.
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    figures: Figures,
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    cores: Cores,
}

#[derive(Args)]
struct CompareCommand {
    /// Fewer servers, shorter runs: a quarter of an hour at most.
    #[arg(long)]
    quick: bool,
    /// The scenarios; by default all of them, and the first four where it is to be quick.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// The servers, by the names that `servers` lists; by default all.
    #[arg(long = "servers", value_delimiter = ',')]
    names: Vec<String>,
    /// Rounds of every scenario; by default as many as each needs.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: Option<u32>,
    /// The folder for the files of the runs; by default perf/results/ and today's date. What is
    /// there already is not run again.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where the report goes; by default REPORT.md beside the files of the runs.
    #[arg(long)]
    report: Option<PathBuf>,
    /// The peers are installed already.
    #[arg(long)]
    no_install: bool,
    #[command(flatten)]
    figures: Figures,
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    cores: Cores,
}

impl Cli {
    /// Runs the command. Failure also where something was measured but is worthless.
    pub fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let sound = match self.command {
            Command::Play(play) => play.run()?,
            Command::Compare(compare) => compare.run()?,
            Command::Servers(servers) => servers.list()?,
            Command::Report(report) => report.write()?,
            Command::Abuse(task) => {
                task.run()?;
                true
            }
            Command::Rush(task) => {
                task.run()?;
                true
            }
            Command::Stall(task) => {
                task.run()?;
                true
            }
            Command::Hold(task) => {
                task.run(&Scenario::Idle.settings(false))?;
                true
            }
        };
        Ok(if sound {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Play {
    fn run(self) -> Result<bool, Box<dyn Error>> {
        match self {
            Self::Hot(command) => command.run(Scenario::Hot),
            Self::Watchlist(command) => command.run(Scenario::Watchlist),
            Self::Firehose(command) => command.run(Scenario::Firehose),
            Self::Burst(command) => command.run(Scenario::Burst),
            Self::Idle(command) => command.run(Scenario::Idle),
            Self::Latency(command) => command.run(Scenario::Latency),
            Self::Scale(command) => command.run(Scenario::Scale),
            Self::RampHot(command) => command.run(Scenario::RampHot),
            Self::RampWatchlist(command) => command.run(Scenario::RampWatchlist),
            Self::Storm(command) => command.run(Scenario::Storm),
            Self::Slow(command) => command.run(Scenario::Slow),
            Self::Churn(command) => command.run(Scenario::Churn),
            Self::Soak(command) => command.run(Scenario::Soak),
            Self::Sse(command) => command.run(Scenario::Sse),
            Self::Hosts(command) => command.run(Scenario::Hosts),
            Self::Bridge(command) => command.run(Scenario::Bridge),
        }
    }
}

impl PlayCommand {
    fn run(self, scenario: Scenario) -> Result<bool, Box<dyn Error>> {
        let settings = self.figures.over(scenario.settings(false));
        let name = scenario.name();
        let mut run;
        if let (Some(server), Some(secret)) = (&self.server, &self.secret) {
            if let Some(core) = self.cores.generator_core {
                host::confine_self(&[core])?;
            }
            let dialect = self.dialect()?;
            let arena = Arena::Running(Target {
                dialect: dialect.as_ref(),
                server: server.address,
                tree: self.pid.map(Tree::of),
            });
            run = Run::new(&name, "running", &server.authority, 1);
            run.play(scenario, &settings, &arena, &Signer::from_file(secret)?);
        } else {
            let contender = one(self.servers.contenders()?, &self.server_name)?;
            let folder = tempfile::tempdir()?;
            let stage = Stage {
                secret: write_secret(folder.path())?,
                folder: folder.path().to_owned(),
                server_core: self.cores.server_core,
            };
            let core = self.cores.generator()?;
            host::confine_self(&[core])?;
            let dialect = contender.dialect()?;
            let arena = Arena::Started {
                contender: &contender,
                stage: &stage,
                dialect: dialect.as_ref(),
            };
            run = Run::new(&name, &contender.name, &contender.title, 1);
            run.versions = contender.versions();
            run.layout = contender.layout(stage.server_core, core);
            let signer = Signer::from_file(&stage.secret)?;
            run.play(scenario, &settings, &arena, &signer);
        }
        println!("{}", summary::of_run(&run));
        if let Some(out) = &self.out {
            run.write(out)?;
        }
        Ok(run.faults.is_empty())
    }

    fn dialect(&self) -> io::Result<Box<dyn Dialect>> {
        match &self.dialect[..] {
            "tickwire" => Ok(dialect::tickwire(false, self.max_delay_ms)),
            "tickwire-sbe" => Ok(dialect::tickwire(true, self.max_delay_ms)),
            name => dialect::named(name)
                .ok_or_else(|| io::Error::other(format!("there is no dialect {name}"))),
        }
    }
}

impl CompareCommand {
    fn run(self) -> Result<bool, Box<dyn Error>> {
        let plays = Scenario::all(self.quick).into_iter();
        let plays =
            plays.filter(|play| self.scenarios.is_empty() || self.scenarios.contains(&play.0));
        let out = self.out.clone().unwrap_or_else(|| {
            let now = humantime::format_rfc3339(SystemTime::now()).to_string();
            PathBuf::from("perf/results").join(&now[.."2026-01-01".len()])
        });
        let compare = Compare {
            plays: plays
                .map(|(scenario, rounds)| {
                    let settings = self.figures.over(scenario.settings(self.quick));
                    (
                        scenario,
                        settings,
                        self.rounds.map_or(rounds, RoundCount::each),
                    )
                })
                .collect(),
            contenders: self.contenders()?,
            quick: self.quick && self.names.is_empty(),
            server_core: self.cores.server_core,
            generator_core: self.cores.generator()?,
            out: out.clone(),
            install: !self.no_install,
        };
        let sound = compare.run()?;
        let report = Report {
            out: self.report.unwrap_or_else(|| out.join("REPORT.md")),
            from: out,
            notes: None,
        };
        println!("{}", report.out.display());
        Ok(report.write()? && sound)
    }

    fn contenders(&self) -> io::Result<Vec<Contender>> {
        let mut contenders = self.servers.contenders()?;
        if self.names.is_empty() {
            contenders.retain(|contender| !self.quick || contender.is_quick());
            return Ok(contenders);
        }
        let chosen = self.names.iter();
        chosen.map(|name| one(contenders.clone(), name)).collect()
    }
}

impl Servers {
    fn contenders(&self) -> io::Result<Vec<Contender>> {
        let binary = match &self.tickwire {
            // A path without a folder would be looked for elsewhere.
            Some(path) => path.canonicalize()?,
            None => std::env::current_exe()?.with_file_name("tickwire"),
        };
        let mut contenders = contender::tickwire(&binary, &self.tickwire_args);
        contenders.push(contender::edge(&binary, &self.tickwire_args));
        contenders.extend(contender::of_peers(&peer::discover(&self.peers)?));
        Ok(contenders)
    }

    fn list(&self) -> io::Result<bool> {
        for Contender { name, title, .. } in self.contenders()? {
            println!("{name:<28} {title}");
        }
        Ok(true)
    }
}

impl Cores {
    fn generator(&self) -> io::Result<usize> {
        let core = match self.generator_core {
            Some(core) => Some(core),
            None => host::own_cores()?
                .into_iter()
                .find(|&core| core != self.server_core),
        };
        core.ok_or_else(|| io::Error::other("the generator needs a core beside the server's"))
    }
}

impl Figures {
    fn over(&self, settings: Settings) -> Settings {
        Settings {
            subscribers: self.subscribers.unwrap_or(settings.subscribers),
            rate: self.rate.unwrap_or(settings.rate),
            duration_s: self.duration.unwrap_or(settings.duration_s),
            warmup_s: self.warmup.unwrap_or(settings.warmup_s),
            pace: Pace {
                connects_per_s: self.connects_per_s.unwrap_or(settings.pace.connects_per_s),
                in_progress_max: self
                    .in_progress_max
                    .map_or(settings.pace.in_progress_max, |max| max as usize),
                sources: self.sources.unwrap_or(settings.pace.sources),
            },
            process_max: self.process_max.unwrap_or(settings.process_max),
            ramp_s: self.ramp.unwrap_or(settings.ramp_s),
            syscalls: self.syscalls,
            ..settings
        }
    }
}

fn one(contenders: Vec<Contender>, name: &str) -> io::Result<Contender> {
    let mut named = contenders
        .into_iter()
        .filter(|contender| contender.name == name);
    named.next().ok_or_else(|| {
        io::Error::other(format!(
            "there is no server {name}; `tickwire-perf servers` lists them"
        ))
    })
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    if (0.0..=86_400.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("0 to 86400 seconds".to_owned())
    }
}
