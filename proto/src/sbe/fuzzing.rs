//! What the fuzz targets `sbe_message` and `host_entry` drive; ordinary tests run them on their seeds.

use super::{
    Decoder, decode_published,
    entry::{EntryWriter, Head, Item, decode_entry, decode_head},
    write_cursor, write_definition, write_feed, write_gap, write_heartbeat, write_published,
    write_tick,
};
use crate::{
    reply::Reply,
    symbol::Symbol,
    tick::{Identity, PublishedTick},
};

/// Reads `data` as a client and as the engine would, and writes again what came out of it.
///
/// # Panics
///
/// Where a reply or a tick does not survive its own bytes.
pub fn sbe_message(data: &[u8]) {
    let mut replies = Vec::new();
    // A message that breaks off still hands out what came before.
    let _ = Decoder::new().decode(data, |reply| replies.push(reply));
    assert_eq!(decoded(&encoded(&replies)), replies);

    let symbol = Symbol::parse("A").expect("a letter is a symbol");
    let _ = decode_published(data, |_, tick| {
        let Ok((id, raw)) = tick else { return };
        let identity = raw.seq.map(|seq| Identity { epoch: 1, seq });
        let mut again = Vec::new();
        write_published(
            &mut again,
            id,
            &PublishedTick {
                symbol,
                identity,
                ts_ns: raw.ts_ns,
                values: raw.values,
            },
        );
        decode_published(&again, |_, tick| assert_eq!(tick, Ok((id, raw))))
            .expect("our own bytes are SBE");
    });
}

/// Reads `data` as another host would, and writes again what came out of it.
///
/// # Panics
///
/// Where an entry does not survive its own bytes.
pub fn host_entry(data: &[u8]) {
    let first = decode_head(data);
    let Ok((head, items)) = decode_entry(data) else {
        return;
    };
    assert_eq!(first, Ok(head));
    let writer = written(&head, &items);
    assert_eq!(decode_entry(writer.bytes()), Ok((head, items)));
}

/// Writes an entry whose items name each symbol before they speak of it.
pub(super) fn written(head: &Head, items: &[Item]) -> EntryWriter {
    let mut writer = EntryWriter::default();
    writer.begin(head);
    let mut names: Vec<(Symbol, u64, u32)> = Vec::new();
    for item in items {
        // A gap has an epoch of its own, and a feed none.
        let last_of = |symbol: &Symbol| {
            let named = names.iter().rfind(|(name, ..)| name == symbol);
            named.expect("it was named").2
        };
        match item {
            Item::Carried(carried) => {
                names.push((carried.symbol, carried.epoch, writer.carry(carried)));
            }
            Item::Tick(tick) => {
                let its = (tick.symbol, tick.identity.epoch);
                let named = names.iter().rfind(|name| (name.0, name.1) == its);
                writer.tick(named.expect("it was named").2, tick);
            }
            Item::Gap(gap) => writer.gap(last_of(&gap.symbol), gap),
            Item::Feed { symbol, state } => writer.feed(last_of(symbol), *state),
        }
    }
    writer
}

/// Writes replies, each symbol and epoch under the id of its last definition.
fn encoded(replies: &[Reply]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut defined: Vec<(Symbol, u64)> = Vec::new();
    let id_of = |defined: &[(Symbol, u64)], symbol: Symbol, epoch: Option<u64>| {
        let named =
            |&(name, of): &(Symbol, u64)| name == symbol && epoch.is_none_or(|epoch| epoch == of);
        defined
            .iter()
            .rposition(named)
            .expect("a definition came first") as u32
    };
    for reply in replies {
        match reply {
            Reply::Start(start) => {
                write_definition(&mut out, defined.len() as u32, start);
                defined.push((start.symbol, start.epoch));
            }
            Reply::Tick(tick, marks) => {
                let id = id_of(&defined, tick.symbol, Some(tick.identity.epoch));
                write_tick(&mut out, id, tick, marks);
            }
            Reply::Gap(gap) => write_gap(&mut out, id_of(&defined, gap.symbol, None), gap),
            Reply::Feed { symbol, state } => {
                write_feed(&mut out, id_of(&defined, *symbol, None), *state);
            }
            Reply::Heartbeat { ts_us } => write_heartbeat(&mut out, ts_us * 1_000),
            Reply::Cursor(cursor) => write_cursor(&mut out, cursor),
            other => unreachable!("SBE has no {other:?}"),
        }
    }
    out
}

fn decoded(message: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    Decoder::new()
        .decode(message, |reply| replies.push(reply))
        .expect("our own bytes are SBE");
    replies
}
