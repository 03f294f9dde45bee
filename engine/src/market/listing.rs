//! What is listed: names, price grids and lots.

use tickwire_proto::symbol::Symbol;

/// A symbol and the shape of its prices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing {
    pub(super) symbol: Symbol,
    /// Opening price, in price steps.
    pub(super) open: i64,
    /// Exponent of one price step.
    pub(super) price_exponent: i8,
    /// Typical spread, in price steps.
    pub(super) spread: i64,
    /// Smallest size, as a mantissa.
    pub(super) lot: i64,
    /// Exponent of sizes.
    pub(super) size_exponent: i8,
}

/// Price grid, spread and lots that a kind of instrument has in common.
#[derive(Clone, Copy)]
struct Kind {
    price_exponent: i8,
    spread: i64,
    lot: i64,
    size_exponent: i8,
}

/// Cents and round lots of 100.
const EQUITY: Kind = Kind {
    price_exponent: -2,
    spread: 1,
    lot: 100,
    size_exponent: 0,
};
/// Cents and ten-thousandths of a coin.
const CRYPTO: Kind = Kind {
    price_exponent: -2,
    spread: 4,
    lot: 1,
    size_exponent: -4,
};
/// Fine prices of cheap coins, whole-coin lots with one decimal.
const TOKEN: Kind = Kind {
    price_exponent: -5,
    spread: 2,
    lot: 5,
    size_exponent: -1,
};
/// Tenths of a pip, lots of 100,000.
const CURRENCY: Kind = Kind {
    price_exponent: -5,
    spread: 3,
    lot: 100_000,
    size_exponent: 0,
};
/// As [`CURRENCY`], where a unit is some hundred of the other.
const YEN: Kind = Kind {
    price_exponent: -3,
    spread: 4,
    lot: 100_000,
    size_exponent: 0,
};

/// Name, opening price in steps, kind; the busiest first.
const KNOWN: [(&str, i64, Kind); 50] = [
    ("BTC-USDT", 9_714_250, CRYPTO),
    ("AAPL", 22_987, EQUITY),
    ("EUR/USD", 104_210, CURRENCY),
    ("NVDA", 14_195, EQUITY),
    ("ETH-USDT", 331_840, CRYPTO),
    ("TSLA", 35_256, EQUITY),
    ("USD/JPY", 154_762, YEN),
    ("SPY", 59_551, EQUITY),
    ("SOL-USDT", 25_417, CRYPTO),
    ("MSFT", 41_700, EQUITY),
    ("AMZN", 19_712, EQUITY),
    ("GBP/USD", 125_310, CURRENCY),
    ("QQQ", 50_597, EQUITY),
    ("META", 55_914, EQUITY),
    ("DOGE-USDT", 40_215, TOKEN),
    ("XRP-USDT", 141_730, TOKEN),
    ("AMD", 13_835, EQUITY),
    ("GOOGL", 16_457, EQUITY),
    ("USD/CHF", 89_370, CURRENCY),
    ("PLTR", 6_435, EQUITY),
    ("BNB-USDT", 64_215, CRYPTO),
    ("INTC", 2_450, EQUITY),
    ("AUD/USD", 65_020, CURRENCY),
    ("JPM", 24_855, EQUITY),
    ("ADA-USDT", 98_540, TOKEN),
    ("NFLX", 89_779, EQUITY),
    ("USD/CAD", 139_780, CURRENCY),
    ("BAC", 4_700, EQUITY),
    ("LTC-USDT", 9_012, CRYPTO),
    ("AVGO", 16_423, EQUITY),
    ("EUR/GBP", 83_150, CURRENCY),
    ("XOM", 12_161, EQUITY),
    ("AVAX-USDT", 4_205, CRYPTO),
    ("EUR/JPY", 161_270, YEN),
    ("DIS", 11_565, EQUITY),
    ("LINK-USDT", 1_531, CRYPTO),
    ("BA", 14_929, EQUITY),
    ("NZD/USD", 58_340, CURRENCY),
    ("KO", 6_392, EQUITY),
    ("WMT", 9_044, EQUITY),
    ("DOT-USDT", 581_200, TOKEN),
    ("V", 30_992, EQUITY),
    ("BCH-USDT", 48_635, CRYPTO),
    ("PFE", 2_565, EQUITY),
    ("EUR/CHF", 93_120, CURRENCY),
    ("COST", 96_408, EQUITY),
    ("GBP/JPY", 193_950, YEN),
    ("IBM", 22_297, EQUITY),
    ("ETC-USDT", 2_641, CRYPTO),
    ("UNH", 59_082, EQUITY),
];

/// The listing of a rank, from 0; past the known names they are simulated equities.
pub(super) fn listing(rank: usize) -> Listing {
    let known = KNOWN
        .get(rank)
        .map(|&(name, open, kind)| (name.to_owned(), open, kind));
    let (name, open, kind) = known.unwrap_or_else(|| {
        // Prices from 5.00 up, spread over the range by the golden ratio's multiples.
        let open = 500 + (rank as i64 * 61_803) % 40_000;
        (format!("SIM{:05}", rank + 1), open, EQUITY)
    });
    let Kind {
        price_exponent,
        spread,
        lot,
        size_exponent,
    } = kind;
    let symbol =
        Symbol::parse(&name).expect("the names above are symbols, and so is SIM with a number");
    Listing {
        symbol,
        open,
        price_exponent,
        spread,
        lot,
        size_exponent,
    }
}
