//! The ticks that are published: one JSON object each, numbered here, so that no server has to.
//!
//! `{"type":"trade","symbol":"S0001","epoch":1763776800000,"seq":42,"ts":1763776800000123,"price":"187.23","size":"100","side":"buy"}`
//!
//! Everything but `seq` and `ts` is written once and copied, so that 20,000 ticks a second are no
//! load.

use std::{ops::Range, sync::Arc};

use rustc_hash::FxHashMap;

/// Prices, sizes and sides repeat after this many ticks of all symbols together.
const TAILS: u64 = 970;

/// The symbols of a run, known to both sides by their index.
#[derive(Clone, Debug)]
pub struct Symbols(Arc<Table>);

#[derive(Debug)]
struct Table {
    names: Vec<String>,
    indices: FxHashMap<Box<[u8]>, u32>,
}

/// Makes ticks of all symbols in turn.
#[derive(Debug)]
pub struct Ticks {
    heads: Vec<Vec<u8>>,
    tails: Vec<Vec<u8>>,
    seqs: Vec<u64>,
    made: u64,
}

/// The ticks of one slot, as objects without anything around them.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    ticks: Vec<(u32, Range<usize>)>,
}

impl Symbols {
    /// As listed; the index of a symbol is its place.
    pub fn new(names: Vec<String>) -> Self {
        let indexed = names.iter().zip(0..);
        let indices = indexed.map(|(name, index)| (name.as_bytes().into(), index));
        Self(Arc::new(Table {
            indices: indices.collect(),
            names,
        }))
    }

    /// `S0000`, `S0001`, …
    pub fn numbered(count: usize) -> Self {
        Self::new((0..count).map(|number| format!("S{number:04}")).collect())
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.names.len()
    }

    /// The name at `index`.
    pub fn name(&self, index: u32) -> &str {
        &self.0.names[index as usize]
    }

    /// All names, by index.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// The index of `name`; `None` if the run has no such symbol.
    pub fn index(&self, name: &[u8]) -> Option<u32> {
        self.0.indices.get(name).copied()
    }
}

impl Ticks {
    /// Ticks of `symbols` under `epoch`, each symbol's first being number 1.
    pub fn new(symbols: &Symbols, epoch: u64) -> Self {
        let head = |name| format!(r#"{{"type":"trade","symbol":"{name}","epoch":{epoch},"seq":"#);
        Self {
            heads: symbols
                .names()
                .iter()
                .map(|name| head(name).into())
                .collect(),
            tails: (0..TAILS).map(tail).collect(),
            seqs: vec![0; symbols.len()],
            made: 0,
        }
    }

    /// How many were made.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Makes the next `count` ticks, intended for `due_us`.
    pub fn fill(&mut self, batch: &mut Batch, due_us: u64, count: u32) {
        batch.bytes.clear();
        batch.ticks.clear();
        let mut digits = itoa::Buffer::new();
        let ts = digits.format(due_us).to_owned();
        for _ in 0..count {
            let symbol = (self.made % self.seqs.len() as u64) as usize;
            self.seqs[symbol] += 1;
            let from = batch.bytes.len();
            batch.bytes.extend_from_slice(&self.heads[symbol]);
            let seq = digits.format(self.seqs[symbol]);
            batch.bytes.extend_from_slice(seq.as_bytes());
            batch.bytes.extend_from_slice(br#","ts":"#);
            batch.bytes.extend_from_slice(ts.as_bytes());
            batch
                .bytes
                .extend_from_slice(&self.tails[(self.made % TAILS) as usize]);
            batch.ticks.push((symbol as u32, from..batch.bytes.len()));
            self.made += 1;
        }
    }
}

impl Batch {
    /// How many ticks.
    pub fn len(&self) -> usize {
        self.ticks.len()
    }

    /// Each tick's symbol and object.
    pub fn objects(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let ticks = self.ticks.iter();
        ticks.map(|(symbol, range)| (*symbol, &self.bytes[range.clone()]))
    }

    /// Appends the objects with commas between them.
    pub fn write_list(&self, out: &mut Vec<u8>) {
        for (place, (_, object)) in self.objects().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            out.extend_from_slice(object);
        }
    }
}

fn tail(number: u64) -> Vec<u8> {
    let cents = 18_700 + number % 97;
    let side = if number.is_multiple_of(2) {
        "buy"
    } else {
        "sell"
    };
    let (whole, part, size) = (cents / 100, cents % 100, 100 + number % 500);
    format!(r#","price":"{whole}.{part:02}","size":"{size}","side":"{side}"}}"#).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_have_the_agreed_layout() {
        let symbols = Symbols::numbered(2);
        let mut ticks = Ticks::new(&symbols, 1_763_776_800_000);
        let mut batch = Batch::default();
        ticks.fill(&mut batch, 1_763_776_800_000_123, 3);
        let objects: Vec<(u32, &str)> = batch
            .objects()
            .map(|(symbol, object)| (symbol, std::str::from_utf8(object).unwrap()))
            .collect();
        let expected = r#"{"type":"trade","symbol":"S0000","epoch":1763776800000,"seq":2,"ts":1763776800000123,"price":"187.02","size":"102","side":"buy"}"#;
        assert_eq!(objects[2], (0, expected));
        assert_eq!(objects[1].0, 1);
        assert!(objects[1].1.contains(r#""seq":1,"#), "{}", objects[1].1);
        assert!(
            objects
                .iter()
                .all(|(_, text)| (105..135).contains(&text.len()))
        );
    }

    #[test]
    fn seqs_have_no_hole_over_batches() {
        let symbols = Symbols::numbered(3);
        let mut ticks = Ticks::new(&symbols, 1);
        let mut batch = Batch::default();
        let mut seqs = vec![Vec::new(); 3];
        for count in [1, 4, 2, 5] {
            ticks.fill(&mut batch, 9, count);
            assert_eq!(batch.len(), count as usize);
            for (symbol, object) in batch.objects() {
                let value: serde_json::Value = serde_json::from_slice(object).unwrap();
                assert_eq!(value["symbol"], symbols.name(symbol));
                seqs[symbol as usize].push(value["seq"].as_u64().unwrap());
            }
        }
        assert_eq!(seqs, [vec![1, 2, 3, 4], vec![1, 2, 3, 4], vec![1, 2, 3, 4]]);
        assert_eq!(ticks.made(), 12);
    }

    #[test]
    fn a_list_is_json() {
        let mut ticks = Ticks::new(&Symbols::numbered(2), 1);
        let mut batch = Batch::default();
        ticks.fill(&mut batch, 1, 2);
        let mut text = vec![b'['];
        batch.write_list(&mut text);
        text.push(b']');
        let list: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
        assert_eq!(list.len(), 2);
    }

    #[test]
    fn names_and_indices_lead_to_each_other() {
        let symbols = Symbols::numbered(1_000);
        assert_eq!(symbols.index(b"S0417"), Some(417));
        assert_eq!(symbols.name(417), "S0417");
        assert_eq!(symbols.index(b"AAPL"), None);
    }
}
