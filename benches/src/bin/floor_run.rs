//! A fixed small run of the real floor: its turns, on one thread, over recorded ticks, with sends
//! that reach nobody. `gate instructions` runs it under callgrind.
//!
//! Prints `{"ticks":N,"deliveries":D,"sends":S}`.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use tickwire_benches::{decimal, symbol};
use tickwire_engine::{Rehearsal, config::Config};
use tickwire_proto::{
    symbol::Symbol,
    tick::{Side, Values},
    upgrade::Subprotocol,
};

/// BTC-USDT trades and quotes, USD/JPY quotes.
const RECORDED: &str = include_str!("../../data/recorded-ticks.csv");
/// Ticks between two turns of `busy-json`: a floor that has fallen behind.
const TICKS_PER_BUSY_TURN: usize = 32;
/// Ticks between two turns of `skip`: what came while the floor slept.
const TICKS_PER_SKIPPING_TURN: usize = 256;

#[derive(Parser)]
struct Args {
    /// What the floor is given.
    #[arg(long)]
    case: Case,
    /// Ticks published, after the first few, which open the accounts.
    #[arg(long)]
    ticks: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// One symbol, 200 subscribers, a turn a tick.
    HotJson,
    /// The same in SBE.
    HotSbe,
    /// The same in JSON, 32 ticks a turn.
    BusyJson,
    /// One symbol, 200 subscribers with a latency budget of 20 ms, a turn a tick.
    DelayedJson,
    /// 500 subscribers of 10 of 250 symbols.
    WatchlistJson,
    /// The same in SBE.
    WatchlistSbe,
    /// One subscriber of one symbol, a turn a tick: what a quiet floor spends.
    LowJson,
    /// The same without batches: all sends of a turn at once.
    LowJsonAtOnce,
    /// Ticks of a symbol that nobody wants, 256 a turn.
    Skip,
}

impl Case {
    fn subprotocol(self) -> Subprotocol {
        match self {
            Self::HotSbe | Self::WatchlistSbe => Subprotocol::Sbe,
            _ => Subprotocol::Json,
        }
    }

    /// Symbols, subscribers, symbols of each.
    fn audience(self) -> (usize, usize, usize) {
        match self {
            Self::HotJson | Self::HotSbe | Self::BusyJson | Self::DelayedJson => (1, 200, 1),
            Self::WatchlistJson | Self::WatchlistSbe => (250, 500, 10),
            Self::LowJson | Self::LowJsonAtOnce | Self::Skip => (1, 1, 1),
        }
    }

    fn max_delay_ms(self) -> u32 {
        if self == Self::DelayedJson { 20 } else { 0 }
    }

    fn ticks_per_turn(self) -> usize {
        match self {
            Self::BusyJson => TICKS_PER_BUSY_TURN,
            Self::Skip => TICKS_PER_SKIPPING_TURN,
            _ => 1,
        }
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> std::io::Result<String> {
    let mut config = Config::default();
    if args.case == Case::LowJsonAtOnce {
        config.sends_per_turn = 4_096;
    }
    let mut rehearsal = Rehearsal::new(config)?;
    let (symbols, subscribers, each) = args.case.audience();
    let names: Vec<Symbol> = (0..symbols)
        .map(|at| symbol(&format!("S{at:04}")))
        .collect();
    let recorded = recorded();
    // Every symbol's first trade and quote open its accounts, before anybody is counted.
    for name in &names {
        for values in first_of_each_channel(&recorded) {
            rehearsal.publish(*name, 1, values)?;
        }
    }
    for subscriber in 0..subscribers {
        // Neighbours share some symbols, but no two the same ten.
        let own = (0..each).map(|at| names[(subscriber * 7 + at * 31) % symbols]);
        rehearsal.seat(args.case.subprotocol(), own, args.case.max_delay_ms())?;
    }
    while rehearsal.turn()? {}

    let (delivered, sends) = (rehearsal.delivered(), rehearsal.sends());
    let unwanted = symbol("UNWANTED");
    for tick in 0..args.ticks {
        let name = if args.case == Case::Skip {
            unwanted
        } else {
            names[tick % symbols]
        };
        let (ts_ns, values) = recorded[tick % recorded.len()];
        rehearsal.publish(name, ts_ns, values)?;
        if (tick + 1).is_multiple_of(args.case.ticks_per_turn()) {
            while rehearsal.turn()? {}
        }
    }
    while rehearsal.turn()? {}
    Ok(format!(
        r#"{{"ticks":{},"deliveries":{},"sends":{}}}"#,
        args.ticks,
        rehearsal.delivered() - delivered,
        rehearsal.sends() - sends,
    ))
}

/// ts,type,symbol,price,size,side,bid,`bid_size`,ask,`ask_size`; µs; no quotes, no escapes.
fn recorded() -> Vec<(u64, Values)> {
    RECORDED.lines().skip(1).map(row).collect()
}

fn row(line: &str) -> (u64, Values) {
    let cells: Vec<&str> = line.split(',').collect();
    let optional = |text: &str| (!text.is_empty()).then(|| decimal(text));
    let values = if cells[1] == "trade" {
        let side = match cells[5] {
            "buy" => Some(Side::Buy),
            "sell" => Some(Side::Sell),
            _ => None,
        };
        Values::trade(decimal(cells[3]), optional(cells[4]), side)
    } else {
        Values::quote(
            decimal(cells[6]),
            optional(cells[7]),
            decimal(cells[8]),
            optional(cells[9]),
        )
    };
    let ts_us: u64 = cells[0].parse().expect("the file holds microseconds");
    (ts_us * 1_000, values.expect("a recorded tick fits"))
}

fn first_of_each_channel(recorded: &[(u64, Values)]) -> Vec<Values> {
    let mut first: Vec<Values> = Vec::new();
    for (_, values) in recorded {
        if first.iter().all(|own| own.channel() != values.channel()) {
            first.push(*values);
        }
    }
    first
}
