//! `tickwire publish`: a recording or a synthetic market, over `/v1/publish`.
//!
//! ```text
//!  source (recording, synthetic) ── Timed ──► batch ──► account ──► link ──► engine
//!                                                         ▲          │
//!                                                         └─── ack ──┘
//! ```

mod account;
mod link;
mod message;
mod progress;
mod publisher;
mod recording;
mod source;

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use tickwire_engine::{
    client::Target,
    market::{Market, SYMBOLS_MAX},
};
use tickwire_proto::upgrade::{Endpoint, Subprotocol};

use super::{
    UsageError,
    format::Format,
    say,
    stop::Stop,
    token_source::{TokenArgs, TokenSource},
};
use account::Summary;
use message::Ids;
use progress::Progress;
use publisher::Publisher;
use source::{Replay, Replaying, Source, Speed, Synthetic};

/// Flags of `tickwire publish`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["file", "synthetic"]))]
pub struct Args {
    /// The engine, such as `ws://127.0.0.1:9001`; `/v1/publish` is added where there is no path.
    #[arg(long)]
    url: String,
    #[command(flatten)]
    token: TokenArgs,
    /// How ticks are written.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Exit with 1 at the first bad row, and if any tick was rejected.
    #[arg(long)]
    strict: bool,

    /// CSV file with the columns `ts,type,symbol,price,size,side,bid,bid_size,ask,ask_size`;
    /// `ts` in microseconds, empty means absent.
    #[arg(long, help_heading = "Recordings")]
    file: Option<PathBuf>,
    /// How many times as fast as recorded, or `max`.
    #[arg(
        long,
        default_value = "1",
        conflicts_with = "synthetic",
        help_heading = "Recordings"
    )]
    speed: Speed,
    /// How often the file is played; event times go on by the file's span.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        conflicts_with = "synthetic",
        help_heading = "Recordings"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Longest pause between two ticks as recorded: nights and weekends are cut to it.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        conflicts_with = "synthetic"
    )]
    #[arg(value_parser = humantime::parse_duration, help_heading = "Recordings")]
    pause_max: Duration,

    /// Publish a synthetic market instead of a file.
    #[arg(long, help_heading = "Synthetic market")]
    synthetic: bool,
    /// Number of symbols.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        conflicts_with = "file",
        help_heading = "Synthetic market"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=SYMBOLS_MAX as i64))]
    symbols: u32,
    /// Ticks per second on average, over all symbols.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000,
        conflicts_with = "file",
        help_heading = "Synthetic market"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    rate: u32,
    /// How long [default: until a signal].
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "file")]
    #[arg(help_heading = "Synthetic market")]
    duration: Option<Duration>,
    /// The same seed gives the same ticks [default: another one each time].
    #[arg(long, conflicts_with = "file", help_heading = "Synthetic market")]
    seed: Option<u64>,
}

/// Publishes to the end of the source or until a signal, and prints the summary.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let target = Target::parse(&args.url)
        .map_err(|error| UsageError(error.to_string()))?
        .or_path(Endpoint::Publish.path());
    let token = TokenSource::open(&args.token)?;
    let stop = Stop::on_signals()?;
    let mut source = source(args)?;
    let subprotocol = Subprotocol::from(args.format);
    let ids = match subprotocol {
        Subprotocol::Json => Ids::default(),
        Subprotocol::Sbe => Ids::new(&source.symbols()?),
    };
    let mut publisher = Publisher::connect(target, token, subprotocol, stop, ids)?;
    let progress = Progress::on_stderr(source.progress(Duration::ZERO).is_some());
    let result = publisher.run(&mut source, args.strict, &progress);
    progress.clear();
    let summary = Summary {
        account: publisher.account(),
        elapsed: publisher.elapsed(),
        reconnects: publisher.reconnects(),
        rows_skipped: publisher.rows_skipped(),
    };
    let said = say(summary);
    let rejected = publisher.account().counts().rejected;
    publisher.close();
    result.and(said)?;
    ensure!(
        !args.strict || rejected == 0,
        "{rejected} ticks were rejected"
    );
    Ok(())
}

fn source(args: &Args) -> anyhow::Result<Source> {
    if let Some(path) = &args.file {
        let how = Replaying {
            speed: args.speed,
            passes: args.repeat,
            pause_max: args.pause_max,
        };
        return Ok(Source::Replay(Box::new(Replay::open(path, how)?)));
    }
    let seed = args.seed.unwrap_or_else(rand::random);
    let market = Market::new(seed, args.symbols as usize, f64::from(args.rate));
    Ok(Source::Synthetic(Box::new(Synthetic::new(
        market,
        args.duration,
    ))))
}
