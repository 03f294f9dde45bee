//! The top of one symbol's book: where its quotes and trades come from.
//!
//! Prices are whole steps of the symbol's grid, so that nothing is ever rounded; floating point
//! only draws chances.

use rand::{Rng as _, rngs::StdRng};
use tickwire_proto::tick::{Body, Side, Values};

use super::listing::Listing;

/// One tick in six is a trade: some five quotes to a trade.
const TRADE: f64 = 1.0 / 6.0;
/// How strongly a trade's side repeats the last one's: large orders come in pieces.
const SAME_SIDE: f64 = 0.65;
/// How often a trade takes all of what is shown.
const SWEEP: f64 = 0.2;
/// How much of its last volatility a book keeps per quote; the rest is new.
const PERSISTENCE: f64 = 0.97;
/// How much the logarithm of volatility changes per quote.
const SHOCK: f64 = 0.25;
/// Typical size of a price move per quote, in spreads.
const MOVE: f64 = 0.35;
/// How strongly the price is drawn back to its opening, per quote.
const REVERSION: f64 = 0.002;
/// Most lots shown at a price, or traded at once.
const LOTS_MAX: i64 = 500;

/// Best bid and ask with their sizes, and what decides how they move.
#[derive(Clone, Debug)]
pub(super) struct Book {
    listing: Listing,
    bid: i64,
    ask: i64,
    bid_lots: i64,
    ask_lots: i64,
    last_side: Side,
    /// Natural logarithm of volatility, around 0; its slow wandering makes moves come in clusters.
    log_volatility: f64,
    /// The part of a step that the price has moved but not shown.
    remainder: f64,
}

impl Book {
    /// The book at the market's opening.
    pub(super) fn open(listing: &Listing, random: &mut StdRng) -> Self {
        Self {
            listing: *listing,
            bid: listing.open,
            ask: listing.open + listing.spread,
            bid_lots: lots(random),
            ask_lots: lots(random),
            last_side: Side::Buy,
            log_volatility: 0.0,
            remainder: 0.0,
        }
    }

    /// The next tick: a trade against what is shown, or a new quote.
    pub(super) fn next(&mut self, random: &mut StdRng) -> Values {
        let exhausted = self.bid_lots == 0 || self.ask_lots == 0;
        let body = if !exhausted && random.random_bool(TRADE) {
            self.trade(random)
        } else {
            self.quote(random)
        };
        Values {
            price_exponent: self.listing.price_exponent,
            size_exponent: self.listing.size_exponent,
            body,
        }
    }

    fn trade(&mut self, random: &mut StdRng) -> Body {
        let side = if random.random_bool(SAME_SIDE) {
            self.last_side
        } else {
            other(self.last_side)
        };
        self.last_side = side;
        let (price, shown) = match side {
            Side::Buy => (self.ask, &mut self.ask_lots),
            Side::Sell => (self.bid, &mut self.bid_lots),
        };
        let taken = if random.random_bool(SWEEP) {
            *shown
        } else {
            lots(random).min(*shown)
        };
        *shown -= taken;
        Body::Trade {
            price,
            size: Some(taken * self.listing.lot),
            side: Some(side),
        }
    }

    fn quote(&mut self, random: &mut StdRng) -> Body {
        // A side that was traded away gives way by at least one step.
        let pressure = i64::from(self.ask_lots == 0) - i64::from(self.bid_lots == 0);
        self.log_volatility = PERSISTENCE * self.log_volatility + SHOCK * bell(random);
        let volatility = self.log_volatility.exp();
        let step = self.drift(volatility, random) + pressure;
        let middle = self.bid + step;
        // Market makers step back when prices run.
        let extra =
            (volatility * random.random::<f64>() * self.listing.spread as f64).min(20.0) as i64;
        // Half and double the opening are far away; they only keep prices positive for ever.
        self.bid = middle.clamp(self.listing.open / 2, self.listing.open * 2);
        self.ask = self.bid + self.listing.spread + extra;
        (self.bid_lots, self.ask_lots) = (lots(random), lots(random));
        Body::Quote {
            bid: self.bid,
            bid_size: Some(self.bid_lots * self.listing.lot),
            ask: self.ask,
            ask_size: Some(self.ask_lots * self.listing.lot),
        }
    }

    /// The move of the price in whole steps; what is less than one is kept for the next.
    fn drift(&mut self, volatility: f64, random: &mut StdRng) -> i64 {
        let pull = REVERSION * (self.listing.open - self.bid) as f64;
        let wanted =
            self.remainder + pull + MOVE * self.listing.spread as f64 * volatility * bell(random);
        let steps = wanted.round();
        self.remainder = wanted - steps;
        steps as i64
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Buy => Side::Sell,
        Side::Sell => Side::Buy,
    }
}

/// A number of lots, 1 to [`LOTS_MAX`]: mostly few, now and then many.
fn lots(random: &mut StdRng) -> i64 {
    let heavy = 1.0 / (1.0 - random.random::<f64>()).powf(0.8);
    (heavy * random.random_range(1.0..4.0)).min(LOTS_MAX as f64) as i64
}

/// A bell-shaped number with mean 0 and variance 1: the sum of four uniform ones, cheap, and never
/// far out.
fn bell(random: &mut StdRng) -> f64 {
    let sum: f64 = (0..4).map(|_| random.random::<f64>()).sum();
    // Four uniform numbers sum up to mean 2 and variance 4/12.
    (sum - 2.0) * f64::sqrt(3.0)
}
