//! The tape against a model, under load, and case by case.

mod cases;
mod model;
mod stress;

use std::sync::Arc;

use tickwire_proto::{
    symbol::Symbol,
    tick::{Body, Channel, Side, Values},
};

use super::{Event, SymbolId, Tape, TapeOptions, Writer, create};

/// A tape with `symbols` symbols already on it.
fn tape(slots: usize, symbols: u32) -> (Writer, Arc<Tape>) {
    let options = TapeOptions {
        slots,
        symbols_max: symbols as usize,
        id: 7,
    };
    let (mut writer, tape) = create(options).unwrap();
    for id in 0..symbols {
        let symbol = Symbol::parse(&format!("S{id}")).unwrap();
        assert_eq!(writer.intern(symbol), Ok(SymbolId(id)));
    }
    (writer, tape)
}

/// A tick whose every field follows from `seed`, so that a torn copy cannot go unnoticed.
fn tick(channel: Channel, seed: u64) -> Event {
    let mixed = |salt: u64| ((seed ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1) as i64;
    let body = match channel {
        Channel::Trade => Body::Trade {
            price: mixed(1),
            size: (!seed.is_multiple_of(3)).then(|| mixed(2)),
            side: [None, Some(Side::Buy), Some(Side::Sell)][(seed % 3) as usize],
        },
        Channel::Quote => Body::Quote {
            bid: mixed(3),
            bid_size: (!seed.is_multiple_of(5)).then(|| mixed(4)),
            ask: -mixed(5),
            ask_size: (!seed.is_multiple_of(7)).then(|| mixed(6)),
        },
    };
    let [price_exponent, size_exponent] = [-((seed % 19) as i8), -((seed / 19 % 19) as i8)];
    let values = Values {
        price_exponent,
        size_exponent,
        body,
    };
    Event::Tick {
        seq: seed + 1,
        ts_ns: mixed(7).cast_unsigned(),
        values,
    }
}
