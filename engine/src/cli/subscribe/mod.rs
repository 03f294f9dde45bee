//! `tickwire subscribe`: prints what comes, or measures it.

mod client;
mod output;
mod stats;

use clap::ValueEnum;
use tickwire_engine::client::Target;
use tickwire_proto::{
    pattern::Selector,
    request::{INTERVAL_MS, INTERVAL_MS_DEFAULT, MAX_DELAY_MS_MAX, Mode},
    session::Options,
    tick::{Channel, Channels},
    upgrade::{Endpoint, Subprotocol},
};

use super::{
    UsageError,
    format::Format,
    stop::Stop,
    token_source::{TokenArgs, TokenSource},
};
use client::Client;
use output::Output;

/// Flags of `tickwire subscribe`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The engine, such as `ws://127.0.0.1:9001`; `/v1/ws` is added where there is no path.
    #[arg(long)]
    url: String,
    #[command(flatten)]
    token: TokenArgs,
    /// Symbols and prefix patterns, with commas, such as `BTC-*,AAPL`.
    #[arg(long, required = true, value_delimiter = ',', value_parser = Selector::parse)]
    symbols: Vec<Selector>,
    /// Trades, quotes or both, with commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [ChannelArg::Trade, ChannelArg::Quote])]
    channels: Vec<ChannelArg>,
    /// Every tick, or the latest per interval.
    #[arg(long, value_enum, default_value_t = ModeArg::Stream)]
    mode: ModeArg,
    /// The interval of `--mode conflate`.
    #[arg(long, value_name = "MS", default_value_t = INTERVAL_MS_DEFAULT)]
    #[arg(value_parser = clap::value_parser!(u32).range(i64::from(*INTERVAL_MS.start())..=i64::from(*INTERVAL_MS.end())))]
    interval_ms: u32,
    /// Do not begin with the last trade and quote of each symbol.
    #[arg(long)]
    no_snapshot: bool,
    /// How long the engine may hold ticks to send them together.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_DELAY_MS_MAX)))]
    max_delay_ms: u32,
    /// How ticks travel; they are printed as JSON either way.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Instead of ticks print rate, age and losses, once a second.
    #[arg(long)]
    stats: bool,
    /// End after so many ticks.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ChannelArg {
    Trade,
    Quote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModeArg {
    Stream,
    Conflate,
}

/// Subscribes until a signal, the count, a closed pipe, or a close that says to stay away.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let target = Target::parse(&args.url)
        .map_err(|error| UsageError(error.to_string()))?
        .or_path(Endpoint::Subscribe.path());
    let token = TokenSource::open(&args.token)?;
    let stop = Stop::on_signals()?;
    let output = if args.stats {
        Output::stats()
    } else {
        Output::lines()
    };
    Client::new(
        target,
        token,
        Subprotocol::from(args.format),
        stop,
        options(args),
        output,
        args.count,
    )
    .run()
}

fn options(args: &Args) -> Options {
    Options {
        selectors: args.symbols.clone(),
        channels: args
            .channels
            .iter()
            .fold(Channels::NONE, |channels, channel| {
                channels.with(match channel {
                    ChannelArg::Trade => Channel::Trade,
                    ChannelArg::Quote => Channel::Quote,
                })
            }),
        mode: match args.mode {
            ModeArg::Stream => Mode::Stream,
            ModeArg::Conflate => Mode::Conflate {
                interval_ms: args.interval_ms,
            },
        },
        snapshot: !args.no_snapshot,
        max_delay_ms: args.max_delay_ms,
        cursor: None,
        seed: rand::random(),
    }
}
