//! The command line: settings from flags, environment and file, as `tickwire serve` has them.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser;
use tickwire_edge::{Edge, config::Config};
use tickwire_engine::{
    config::{LogFormat, Setting, Sources, environment, to_toml},
    logging,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// Server-Sent Events and long poll for clients of a tickwire engine.
///
/// Each flag wins over the environment, and that over the file.
#[derive(Debug, Parser)]
#[command(name = "tickwire-edge", version, about)]
struct Args {
    /// TOML file with settings; `tickwire-edge.sample.toml` shows all of them.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the pages for clients [default: 127.0.0.1:9002].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address of `/metrics`, `/healthz` and `/readyz` [default: 127.0.0.1:9102].
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// An engine, such as `ws://127.0.0.1:9001/v1/ws`; may be repeated, and the next is used when
    /// one fails.
    #[arg(long, value_name = "URL")]
    upstream: Vec<String>,
    /// File with the token for the engines.
    #[arg(long, value_name = "FILE")]
    upstream_token_file: Option<String>,
    /// File with the HS256 secret of clients' tokens, at least 32 bytes.
    #[arg(long, value_name = "FILE")]
    jwt_hs256_file: Option<String>,
    /// Requests for ticks per second and IP, 0 for no limit.
    #[arg(long, value_name = "N")]
    per_ip_rate: Option<u32>,
    /// Requests for ticks that one IP may make at once.
    #[arg(long, value_name = "N")]
    per_ip_burst: Option<u32>,
    /// How log lines look.
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// Any key of the config file; may be repeated. The flags above win.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Setting>,
    /// Drain when standard input ends, as it does with a process that holds its other end.
    #[arg(long)]
    while_stdin: bool,
    /// Check the settings, print all of them as TOML, and end.
    #[arg(long)]
    check: bool,
}

/// Serves until a signal; 0 is fine, 1 a failure, 2 wrong usage.
pub fn run() -> ExitCode {
    let args = Args::parse();
    let config = match load(&args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("tickwire-edge: {error:#}");
            return ExitCode::from(2);
        }
    };
    let result = if args.check {
        print(&config)
    } else {
        serve(config, args.while_stdin)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tickwire-edge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(config: &Config) -> anyhow::Result<()> {
    let text = to_toml(config)?;
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        // Nobody reads it any more, as in `tickwire-edge --check | head -1`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to stdout"),
    }
}

fn serve(config: Config, while_stdin: bool) -> anyhow::Result<()> {
    logging::start(config.log_format, &config.log_level);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if config.threads > 0 {
        runtime.worker_threads(config.threads);
    }
    let runtime = runtime.enable_all().thread_name("tickwire-edge").build()?;
    runtime.block_on(async {
        let mut stop = Stop::new(while_stdin)?;
        tracing::info!(upstream = ?config.upstream.0, "waiting for an engine");
        let mut edge = tokio::select! {
            edge = Edge::start(config) => edge?,
            () = stop.asked() => return Ok(()),
        };
        tracing::info!(listen = %edge.listen_addr(), admin = %edge.admin_addr(), "serving");
        tokio::select! {
            error = edge.failed() => return Err(error.into()),
            () = stop.asked() => {}
        }
        tracing::info!("draining");
        let complete = tokio::select! {
            complete = edge.drain() => complete,
            // A second signal insists.
            () = stop.asked() => false,
        };
        if !complete {
            tracing::warn!("the drain did not end within `drain_s`; what was left is cut off");
        }
        Ok(())
    })
}

/// SIGINT and SIGTERM, and the end of standard input where that is to count.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    /// Told by the thread that reads; never, where none does.
    ended: mpsc::Receiver<()>,
    /// Kept where no thread has it, so that the channel stays open.
    _unread: Option<mpsc::Sender<()>>,
}

impl Stop {
    fn new(while_stdin: bool) -> io::Result<Self> {
        let (end, ended) = mpsc::channel(1);
        let unread = if while_stdin {
            std::thread::spawn(move || {
                // Whatever is said is of no interest, and an error is an end as well.
                let _ = io::copy(&mut io::stdin(), &mut io::sink());
                end.blocking_send(())
            });
            None
        } else {
            Some(end)
        };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            ended,
            _unread: unread,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            Some(()) = self.ended.recv() => {}
        }
    }
}

fn load(args: &Args) -> anyhow::Result<Config> {
    let sources = Sources {
        file: args.config.clone(),
        environment: environment(),
        flags: flags(args),
    };
    Ok(sources.load()?)
}

fn flags(args: &Args) -> Vec<Setting> {
    let upstream = (!args.upstream.is_empty()).then(|| args.upstream.join(","));
    let log_format = args
        .log_format
        .as_ref()
        .and_then(clap::ValueEnum::to_possible_value);
    let named = [
        ("listen", args.listen.map(|address| address.to_string())),
        ("admin", args.admin.map(|address| address.to_string())),
        ("upstream", upstream),
        ("upstream_token_file", args.upstream_token_file.clone()),
        ("jwt_hs256_file", args.jwt_hs256_file.clone()),
        ("per_ip_rate", args.per_ip_rate.map(|rate| rate.to_string())),
        (
            "per_ip_burst",
            args.per_ip_burst.map(|burst| burst.to_string()),
        ),
        (
            "log_format",
            log_format.map(|value| value.get_name().to_owned()),
        ),
    ];
    let named = named
        .into_iter()
        .filter_map(|(key, value)| Some(Setting::new(key, value?)));
    args.set.iter().cloned().chain(named).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_flag_reaches_its_key() {
        let line = "tickwire-edge --listen 127.0.0.1:1 --admin 127.0.0.1:2 --upstream ws://a \
                    --upstream ws://b --upstream-token-file t --jwt-hs256-file s --per-ip-rate 0 \
                    --per-ip-burst 9 --log-format json --set drain_s=4";
        let args = Args::try_parse_from(line.split_whitespace()).unwrap();
        let config = load(&args).unwrap();
        assert_eq!(config.listen.port(), 1);
        assert_eq!(config.admin.port(), 2);
        assert_eq!(config.upstream.0, ["ws://a", "ws://b"]);
        assert_eq!(config.upstream_token_file, Some("t".into()));
        assert_eq!(config.jwt_hs256_file, Some("s".into()));
        assert_eq!((config.per_ip_rate, config.per_ip_burst), (0, 9));
        assert_eq!((config.log_format, config.drain_s), (LogFormat::Json, 4));
    }
}
