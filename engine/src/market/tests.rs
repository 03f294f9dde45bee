use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use tickwire_proto::tick::{Body, Channel};

use super::*;

const LONG: usize = 100_000;

fn ticks(market: &mut Market, count: usize) -> Vec<(Duration, PublishedTick)> {
    (0..count).map(|_| market.next()).collect()
}

/// How many ticks fall into each of successive windows.
fn counts(market: &mut Market, window: Duration, windows: usize) -> Vec<f64> {
    let mut counts = vec![0.0; windows];
    let mut now = Duration::ZERO;
    loop {
        now += market.next().0;
        let index = (now.as_nanos() / window.as_nanos()) as usize;
        match counts.get_mut(index) {
            Some(count) => *count += 1.0,
            None => return counts,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn bid_stays_below_ask_and_trades_stay_within_the_quote(seed: u64, symbols in 1usize..200) {
        let mut quotes: HashMap<Symbol, (i64, i64)> = HashMap::new();
        for (_, tick) in ticks(&mut Market::new(seed, symbols, 1_000.0), 2_000) {
            prop_assert_eq!(tick.values.checked(), Ok(tick.values));
            match tick.values.body {
                Body::Quote { bid, bid_size, ask, ask_size } => {
                    prop_assert!(0 < bid && bid < ask, "{:?}", tick);
                    prop_assert!(bid_size > Some(0) && ask_size > Some(0), "{:?}", tick);
                    quotes.insert(tick.symbol, (bid, ask));
                }
                Body::Trade { price, size, .. } => {
                    prop_assert!(size > Some(0), "{:?}", tick);
                    if let Some((bid, ask)) = quotes.get(&tick.symbol) {
                        prop_assert!((*bid..=*ask).contains(&price), "{:?}", tick);
                    }
                }
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_ticks() {
    let run = |seed| ticks(&mut Market::new(seed, 50, 5_000.0), 1_000);
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn the_rate_is_kept_over_long_runs() {
    for rate in [50.0, 5_000.0, 1_000_000.0] {
        let elapsed: Duration = ticks(&mut Market::new(3, 50, rate), LONG)
            .iter()
            .map(|(delay, _)| *delay)
            .sum();
        let measured = LONG as f64 / elapsed.as_secs_f64();
        assert!((measured / rate - 1.0).abs() < 0.1, "{rate}: {measured}");
    }
}

#[test]
fn ticks_come_in_bursts() {
    // Independent arrivals would have variance = mean.
    let counts = counts(
        &mut Market::new(5, 50, 1_000.0),
        Duration::from_millis(500),
        400,
    );
    let mean = counts.iter().sum::<f64>() / counts.len() as f64;
    let variance = counts
        .iter()
        .map(|count| (count - mean).powi(2))
        .sum::<f64>()
        / counts.len() as f64;
    assert!(
        variance / mean > 3.0,
        "index of dispersion {}",
        variance / mean
    );
}

#[test]
fn there_are_some_five_quotes_to_a_trade() {
    let ticks = ticks(&mut Market::new(1, 50, 1_000.0), LONG);
    let trades = ticks
        .iter()
        .filter(|(_, tick)| tick.values.channel() == Channel::Trade)
        .count();
    let ratio = (LONG - trades) as f64 / trades as f64;
    assert!((4.0..6.5).contains(&ratio), "{ratio}");
}

#[test]
fn few_symbols_make_most_ticks_and_all_take_part() {
    let mut market = Market::new(1, 50, 1_000.0);
    let mut per_symbol: HashMap<Symbol, usize> = HashMap::new();
    for (_, tick) in ticks(&mut market, LONG) {
        *per_symbol.entry(tick.symbol).or_default() += 1;
    }
    let share = |rank: usize| per_symbol[&market.symbols()[rank]] as f64 / LONG as f64;
    assert!(
        share(0) > 0.18 && share(0) > 5.0 * share(9),
        "{} {}",
        share(0),
        share(9)
    );
    assert_eq!(per_symbol.len(), 50);
}

#[test]
fn large_moves_follow_large_moves() {
    let mut market = Market::new(9, 1, 1_000.0);
    let mut bids = Vec::new();
    for (_, tick) in ticks(&mut market, 30_000) {
        if let Body::Quote { bid, .. } = tick.values.body {
            bids.push(bid as f64);
        }
    }
    let moves: Vec<f64> = bids
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).abs())
        .collect();
    let mean = moves.iter().sum::<f64>() / moves.len() as f64;
    let variance = moves.iter().map(|size| (size - mean).powi(2)).sum::<f64>();
    let lagged: f64 = moves
        .windows(6)
        .map(|run| (run[0] - mean) * (run[5] - mean))
        .sum();
    assert!(
        lagged / variance > 0.1,
        "autocorrelation {}",
        lagged / variance
    );
}

#[test]
fn names_are_unique_however_many() {
    let market = Market::new(1, 1_000, 1.0);
    assert_eq!(market.symbols().iter().collect::<HashSet<_>>().len(), 1_000);
    assert_eq!(Market::new(1, 0, 1.0).symbols().len(), 1);
}
