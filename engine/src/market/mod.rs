//! A synthetic market: endless trades and quotes with the shape of real ones.
//!
//! What makes real feeds hard is kept, since it decides latency: ticks come in bursts (`arrivals`),
//! a few symbols make most of them (`popularity`), and prices move in clusters on a grid with a
//! spread (`book`). It is seeded: the same seed gives the same ticks.
//!
//! ```
//! use tickwire_engine::market::Market;
//!
//! let mut market = Market::new(1, 50, 10_000.0);
//! let (delay, tick) = market.next();
//! println!("after {delay:?}: {}", tick.symbol);
//! ```

mod arrivals;
mod book;
mod listing;
mod popularity;

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tickwire_proto::{symbol::Symbol, tick::PublishedTick};

use arrivals::Arrivals;
use book::Book;
use popularity::Popularity;

/// Most symbols of one market.
pub const SYMBOLS_MAX: usize = 100_000;

/// How often a tick follows one of the same symbol, beyond what popularity makes likely: a burst
/// is mostly about one symbol.
const SAME_SYMBOL: f64 = 0.4;

/// An endless, seeded source of ticks.
#[derive(Clone, Debug)]
pub struct Market {
    random: StdRng,
    arrivals: Arrivals,
    popularity: Popularity,
    symbols: Vec<Symbol>,
    books: Vec<Book>,
    last: usize,
}

impl Market {
    /// A market of `symbols` symbols (1–[`SYMBOLS_MAX`], clamped) with `rate` ticks per second on
    /// average over all of them (at least one in a thousand seconds).
    ///
    /// The first 50 symbols are well-known names, the rest is `SIM00051` and so on. Ticks come in
    /// bursts, so that single seconds lie above and below `rate`.
    pub fn new(seed: u64, symbols: usize, rate: f64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let listings: Vec<_> = (0..symbols.clamp(1, SYMBOLS_MAX))
            .map(listing::listing)
            .collect();
        Self {
            arrivals: Arrivals::new(rate.max(0.001)),
            popularity: Popularity::new(listings.len()),
            symbols: listings.iter().map(|listing| listing.symbol).collect(),
            books: listings
                .iter()
                .map(|listing| Book::open(listing, &mut random))
                .collect(),
            last: 0,
            random,
        }
    }

    /// The symbols, the busiest first.
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// The next tick, and how long after the one before it comes.
    ///
    /// It has neither identity nor time; who publishes it decides about both.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, so there is no `Option` to look into"
    )]
    pub fn next(&mut self) -> (Duration, PublishedTick) {
        let delay = self.arrivals.next(&mut self.random);
        if !self.random.random_bool(SAME_SYMBOL) {
            self.last = self.popularity.draw(&mut self.random);
        }
        let tick = PublishedTick {
            symbol: self.symbols[self.last],
            identity: None,
            ts_ns: None,
            values: self.books[self.last].next(&mut self.random),
        };
        (delay, tick)
    }
}

#[cfg(test)]
mod tests;
