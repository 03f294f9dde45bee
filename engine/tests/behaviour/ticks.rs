//! Ticks as a file holds them and as clients see them, reduced to what must agree.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A tick's symbol, kind and values; decimals are in their shortest form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub symbol: String,
    pub kind: String,
    /// `price`, `size`, `side`, or `bid`, `bid_size`, `ask`, `ask_size`.
    pub values: Vec<Option<String>>,
    /// Microseconds, where the file gives them.
    pub ts: Option<u64>,
}

/// The ticks of the tests' own file.
pub fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ticks.csv")
}

/// Reads a file as `tickwire publish` takes it.
pub fn read(path: &Path) -> Vec<Told> {
    let mut rows = csv::Reader::from_path(path).expect("the file is there");
    rows.records()
        .map(|row| told(&row.expect("a row")))
        .collect()
}

fn told(row: &csv::StringRecord) -> Told {
    let cell = |index: usize| Some(row[index].to_owned()).filter(|cell| !cell.is_empty());
    let number = |index: usize| cell(index).map(|text| shortest(&text));
    let values = match &row[1] {
        "trade" => vec![number(3), number(4), cell(5)],
        "quote" => vec![number(6), number(7), number(8), number(9)],
        other => panic!("{other} is no kind of tick"),
    };
    Told {
        symbol: row[2].to_owned(),
        kind: row[1].to_owned(),
        values,
        ts: cell(0).map(|ts| ts.parse().expect("microseconds")),
    }
}

/// The same of a tick on the wire.
pub fn delivered(tick: &Value) -> Told {
    let text = |key: &str| tick[key].as_str().map(str::to_owned);
    let number = |key: &str| tick[key].as_str().map(shortest);
    let kind = text("type").expect("a type");
    let values = if kind == "trade" {
        vec![number("price"), number("size"), text("side")]
    } else {
        ["bid", "bid_size", "ask", "ask_size"].map(number).to_vec()
    };
    Told {
        symbol: text("symbol").expect("a symbol"),
        kind,
        values,
        ts: tick["ts"].as_u64(),
    }
}

/// Whether a message is a tick.
pub fn is_tick(message: &Value) -> bool {
    message["type"] == "trade" || message["type"] == "quote"
}

/// Checks what was delivered against the file, tick by tick.
pub fn assert_equal(delivered: &[Told], file: &[Told]) {
    assert_eq!(delivered.len(), file.len());
    for (delivered, told) in delivered.iter().zip(file) {
        let ts = told.ts.or(delivered.ts);
        assert_eq!(delivered, &Told { ts, ..told.clone() });
    }
}

/// A decimal without zeros that do not change its value.
pub fn shortest(text: &str) -> String {
    if !text.contains('.') {
        return text.to_owned();
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
