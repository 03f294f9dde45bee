//! Ticks of a CSV file, a row each.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use tickwire_proto::{
    price::{Decimal, DecimalError},
    symbol::{Symbol, SymbolError},
    tick::{PublishedTick, Side, Values},
};

/// The columns, all of them and in this order; `ts` is in microseconds, empty means absent.
pub const COLUMNS: [&str; 10] = [
    "ts", "type", "symbol", "price", "size", "side", "bid", "bid_size", "ask", "ask_size",
];

/// A row that is no tick.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct BadRow {
    /// Its line in the file, from 1; the header is line 1.
    pub line: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// The ways in which a row is no tick.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{found} columns instead of {expected}", expected = COLUMNS.len())]
    Columns { found: usize },
    #[error("not UTF-8")]
    NotUtf8,
    #[error("`{column}` is missing")]
    Missing { column: &'static str },
    #[error("`{column}` has no place in a {kind}")]
    Misplaced {
        column: &'static str,
        kind: &'static str,
    },
    #[error("`ts` is `{0}`, not microseconds since 1970")]
    Ts(String),
    #[error("`type` is `{0}`, not trade or quote")]
    Type(String),
    #[error("`side` is `{0}`, not buy or sell")]
    Side(String),
    #[error("`symbol`: {0}")]
    Symbol(#[from] SymbolError),
    #[error("`{column}`: {error}")]
    Decimal {
        column: &'static str,
        error: DecimalError,
    },
    #[error("the values do not fit each other: {0}")]
    Values(DecimalError),
}

/// The file cannot be read, or is not such a file.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: the header is `{found}`, expected `{}`", path.display(), COLUMNS.join(","))]
    Header { path: PathBuf, found: String },
}

/// Reads a file row by row.
#[derive(Debug)]
pub struct Recording<R = File> {
    path: PathBuf,
    rows: csv::Reader<R>,
    row: csv::ByteRecord,
}

impl Recording {
    /// Opens a file and checks its header.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let file = File::open(path).map_err(|source| RecordingError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::read(path, file)
    }
}

impl<R: Read> Recording<R> {
    /// Reads from `source`, which errors call `path`.
    fn read(path: &Path, source: R) -> Result<Self, RecordingError> {
        let mut rows = csv::ReaderBuilder::new()
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(source);
        let header = rows.byte_headers().map_err(|error| io_error(path, error))?;
        if header
            .iter()
            .ne(COLUMNS.iter().map(|column| column.as_bytes()))
        {
            let found: Vec<_> = header.iter().map(String::from_utf8_lossy).collect();
            return Err(RecordingError::Header {
                path: path.to_owned(),
                found: found.join(","),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            rows,
            row: csv::ByteRecord::new(),
        })
    }

    /// The next row; `None` at the end. A bad row costs only itself.
    pub fn next(&mut self) -> Result<Option<Result<PublishedTick, BadRow>>, RecordingError> {
        if !self
            .rows
            .read_byte_record(&mut self.row)
            .map_err(|error| io_error(&self.path, error))?
        {
            return Ok(None);
        }
        let row = tick(&self.row).map_err(|fault| BadRow {
            line: self.line(),
            fault,
        });
        Ok(Some(row))
    }

    /// The line of the last row, from 1.
    pub fn line(&self) -> u64 {
        self.row.position().map_or(0, csv::Position::line)
    }

    /// How many bytes were read so far.
    pub fn bytes(&self) -> u64 {
        self.rows.position().byte()
    }
}

/// With `flexible`, reading bytes fails only where the file cannot be read.
fn io_error(path: &Path, error: csv::Error) -> RecordingError {
    RecordingError::Io {
        path: path.to_owned(),
        source: error.into(),
    }
}

fn tick(row: &csv::ByteRecord) -> Result<PublishedTick, Fault> {
    if row.len() != COLUMNS.len() {
        return Err(Fault::Columns { found: row.len() });
    }
    let mut cells = [""; COLUMNS.len()];
    for (cell, bytes) in cells.iter_mut().zip(row) {
        *cell = std::str::from_utf8(bytes).map_err(|_| Fault::NotUtf8)?;
    }
    let [ts, kind, symbol, ..] = cells;
    Ok(PublishedTick {
        symbol: Symbol::parse(symbol)?,
        identity: None,
        ts_ns: ts_ns(ts)?,
        values: match kind {
            "trade" => trade(&cells)?,
            "quote" => quote(&cells)?,
            other => return Err(Fault::Type(other.to_owned())),
        },
    })
}

fn trade(cells: &[&str; COLUMNS.len()]) -> Result<Values, Fault> {
    absent(cells, 6..10, "trade")?;
    let side = match cells[5] {
        "" => None,
        "buy" => Some(Side::Buy),
        "sell" => Some(Side::Sell),
        other => return Err(Fault::Side(other.to_owned())),
    };
    Values::trade(required(cells, 3)?, optional(cells, 4)?, side).map_err(Fault::Values)
}

fn quote(cells: &[&str; COLUMNS.len()]) -> Result<Values, Fault> {
    absent(cells, 3..6, "quote")?;
    Values::quote(
        required(cells, 6)?,
        optional(cells, 7)?,
        required(cells, 8)?,
        optional(cells, 9)?,
    )
    .map_err(Fault::Values)
}

fn absent(
    cells: &[&str; COLUMNS.len()],
    mut indices: std::ops::Range<usize>,
    kind: &'static str,
) -> Result<(), Fault> {
    match indices.find(|&index| !cells[index].is_empty()) {
        Some(index) => Err(Fault::Misplaced {
            column: COLUMNS[index],
            kind,
        }),
        None => Ok(()),
    }
}

fn required(cells: &[&str; COLUMNS.len()], index: usize) -> Result<Decimal, Fault> {
    optional(cells, index)?.ok_or(Fault::Missing {
        column: COLUMNS[index],
    })
}

fn optional(cells: &[&str; COLUMNS.len()], index: usize) -> Result<Option<Decimal>, Fault> {
    if cells[index].is_empty() {
        return Ok(None);
    }
    Decimal::parse(cells[index])
        .map(Some)
        .map_err(|error| Fault::Decimal {
            column: COLUMNS[index],
            error,
        })
}

fn ts_ns(cell: &str) -> Result<Option<u64>, Fault> {
    if cell.is_empty() {
        return Ok(None);
    }
    let ns = cell
        .parse::<u64>()
        .ok()
        .and_then(|us| us.checked_mul(1_000));
    ns.map(Some).ok_or_else(|| Fault::Ts(cell.to_owned()))
}

#[cfg(test)]
mod tests {
    use tickwire_proto::tick::Body;

    use super::*;

    const HEADER: &str = "ts,type,symbol,price,size,side,bid,bid_size,ask,ask_size\n";

    fn rows(text: &str) -> Vec<Result<PublishedTick, BadRow>> {
        let mut recording = Recording::read(Path::new("test.csv"), text.as_bytes()).unwrap();
        std::iter::from_fn(|| recording.next().unwrap()).collect()
    }

    fn fault(row: &str) -> String {
        rows(&format!("{HEADER}{row}\n"))
            .remove(0)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn trades_and_quotes_are_read_with_absent_cells() {
        let rows = rows(&format!(
            "{HEADER}1610064000278000,trade,BTC-USDT,39432.48,0.000263,sell,,,,\n\
             ,quote,USD/JPY,,,,86.65,,86.728,\n",
        ));
        let trade = rows[0].as_ref().unwrap();
        assert_eq!(trade.symbol.as_str(), "BTC-USDT");
        assert_eq!(trade.ts_ns, Some(1_610_064_000_278_000_000));
        assert_eq!(
            trade.values.body,
            Body::Trade {
                price: 3_943_248,
                size: Some(263),
                side: Some(Side::Sell)
            },
        );
        let quote = rows[1].as_ref().unwrap();
        assert_eq!(quote.ts_ns, None);
        assert_eq!(
            quote.values.body,
            Body::Quote {
                bid: 86_650,
                bid_size: None,
                ask: 86_728,
                ask_size: None
            },
        );
    }

    #[test]
    fn a_bad_row_is_named_by_its_line_and_costs_only_itself() {
        let rows = rows(&format!(
            "{HEADER}1,trade,A,1,,,,,,\n2,trade,A,1e5,,,,,,\n\n3,trade,A,2,,,,,,\n"
        ));
        assert!(rows[0].is_ok() && rows[2].is_ok());
        assert_eq!(
            rows[1].as_ref().unwrap_err().to_string(),
            "line 3: `price`: not a plain decimal at byte 1"
        );
    }

    #[test]
    fn every_fault_names_its_column() {
        for (row, expected) in [
            ("1,trade,A,1,,", "line 2: 6 columns instead of 10"),
            (
                "x,trade,A,1,,,,,,",
                "line 2: `ts` is `x`, not microseconds since 1970",
            ),
            (
                "1,candle,A,1,,,,,,",
                "line 2: `type` is `candle`, not trade or quote",
            ),
            (
                "1,trade,,1,,,,,,",
                "line 2: `symbol`: a symbol has at least one byte",
            ),
            ("1,trade,A,,,,,,,", "line 2: `price` is missing"),
            (
                "1,trade,A,1,,up,,,,",
                "line 2: `side` is `up`, not buy or sell",
            ),
            (
                "1,trade,A,1,,,2,,,",
                "line 2: `bid` has no place in a trade",
            ),
            ("1,quote,A,,,,1,,,", "line 2: `ask` is missing"),
            (
                "1,quote,A,1,,,1,,2,",
                "line 2: `price` has no place in a quote",
            ),
        ] {
            assert_eq!(fault(row), expected, "{row}");
        }
        assert!(fault("1,trade,A,1,-5,,,,,").contains("do not fit each other"));
    }

    #[test]
    fn another_header_is_refused() {
        for text in [
            "",
            "ts,type\n",
            "ts,type,symbol,size,price,side,bid,bid_size,ask,ask_size\n",
        ] {
            let error = Recording::read(Path::new("test.csv"), text.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("test.csv: the header is `"), "{error}");
        }
    }
}
