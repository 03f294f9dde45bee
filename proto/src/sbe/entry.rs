//! What hosts tell each other: one entry of a bridge's stream.
//!
//! ```text
//!  HostEntry │ HostSymbol │ Trade │ Quote │ HostSymbol │ HostEpoch │ Gap │ Feed │ …
//!  who, n-th │ what the ids that follow name, in which epoch, and what was placed before
//! ```
//!
//! An entry stands by itself: its `symbolId`s are named in it, before they are used. A host numbers its
//! entries without holes, so whoever reads them knows whether one is missing; what was in it shows in
//! the `trade` and `quote` of the symbols that are named next.

use super::{
    SbeError, decode,
    decode::Block,
    encode,
    layout::{self, FLAG_ASKS, FLAG_HEARS, FLAG_ROLL},
};
use crate::{
    reply::{Gap, Reply},
    symbol::Symbol,
    tick::{FeedState, Marks, Tick},
};

/// Who numbers a symbol's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Numbering {
    /// Its publishers.
    Source = 0,
    /// The host that they publish to.
    Host = 1,
}

/// Begins an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Who wrote it: the name of its tape, drawn at its start, which its cursors carry as well.
    pub host: u64,
    /// Which of its entries in this stream it is, from 1.
    pub number: u64,
    /// How many shards the host spreads symbols over: all have to do alike.
    pub shards: u32,
    /// Whether the entry names every symbol of its shard that the host has publishers of.
    pub is_roll: bool,
    /// Whether the host asks the others for their rolls.
    pub asks: bool,
    /// Whether the host has read this stream to its end: it has what the others sent up to now.
    pub hears: bool,
    /// When it was complete, nanoseconds since 1970 UTC by the host's clock.
    pub sent_ns: u64,
}

/// A symbol that the host has publishers of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The symbol.
    pub symbol: Symbol,
    /// Who numbers it.
    pub numbering: Numbering,
    /// The epoch of what follows.
    pub epoch: u64,
    /// The last seq that the host has accounted for in each channel of that epoch, before this.
    pub placed: [Option<u64>; 2],
    /// The first seq that it has of each channel of that epoch; `None` for 1.
    pub base: [Option<u64>; 2],
    /// How the epoch before that one ended, if the host had one.
    pub before: Option<Ended>,
}

/// An epoch of a symbol that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub epoch: u64,
    /// The last seq that the host has of each of its channels.
    pub placed: [Option<u64>; 2],
}

impl Carried {
    /// Whether an epoch that begins with 1, and with nothing before it, is not all there is to say.
    fn has_past(&self) -> bool {
        self.before.is_some() || self.base.iter().any(Option::is_some)
    }
}

/// What an entry says behind its head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item {
    /// The symbol of what follows; by itself, that the host carries it.
    Carried(Carried),
    /// A tick of its publishers.
    Tick(Tick),
    /// Ticks that will not come from this host; both ends are known.
    Gap(Gap),
    /// Whether the host has publishers of the symbol.
    Feed {
        /// The symbol.
        symbol: Symbol,
        /// Live while it has.
        state: FeedState,
    },
}

/// Why an entry cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// It is no SBE of this schema.
    #[error(transparent)]
    Sbe(#[from] SbeError),
    /// It does not begin with a `HostEntry`, or has two.
    #[error("a host's entry begins with one HostEntry")]
    NoHead,
    /// A message that hosts do not send each other, or a mark that only clients get.
    #[error("template {template} says what hosts do not tell each other")]
    Foreign {
        /// `templateId`.
        template: u16,
    },
}

/// Writes one entry.
#[derive(Debug, Default)]
pub struct EntryWriter {
    bytes: Vec<u8>,
    next_id: u32,
}

impl EntryWriter {
    /// An entry without items, over whatever was written before.
    pub fn begin(&mut self, head: &Head) {
        self.bytes.clear();
        self.next_id = 0;
        encode::write_host_entry(&mut self.bytes, head);
    }

    /// Says of the entry, now that it is complete, when it was and whether the host
    /// [hears](Head::hears) the others.
    pub fn stamp(&mut self, sent_ns: u64, hears: bool) {
        encode::stamp_host_entry(&mut self.bytes, sent_ns, hears);
    }

    /// Names a symbol; its id in this entry.
    pub fn carry(&mut self, carried: &Carried) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        encode::write_host_symbol(&mut self.bytes, id, carried);
        if carried.has_past() {
            encode::write_host_epoch(&mut self.bytes, id, carried);
        }
        id
    }

    /// Adds a tick of the symbol and epoch that `id` names.
    pub fn tick(&mut self, id: u32, tick: &Tick) {
        encode::write_tick(&mut self.bytes, id, tick, &Marks::default());
    }

    /// Adds a gap of the symbol that `id` names.
    pub fn gap(&mut self, id: u32, gap: &Gap) {
        encode::write_gap(&mut self.bytes, id, gap);
    }

    /// Adds a change of what the host carries.
    pub fn feed(&mut self, id: u32, state: FeedState) {
        encode::write_feed(&mut self.bytes, id, state);
    }

    /// How long the entry is so far, bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no symbol was named.
    pub fn is_empty(&self) -> bool {
        self.next_id == 0
    }

    /// The entry.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads an entry; of one that is at fault anywhere, nothing is used.
///
/// # Errors
///
/// See [`EntryError`].
pub fn decode_entry(bytes: &[u8]) -> Result<(Head, Vec<Item>), EntryError> {
    decode::check_framing(bytes, |_| Ok(()))?;
    let mut at = 0;
    let head = next_head(bytes, &mut at)?;
    let mut names = decode::Decoder::new();
    let mut items = Vec::new();
    while let Some(block) = Block::next(bytes, &mut at) {
        let block = block?;
        if block.template == layout::host_epoch::TEMPLATE_ID {
            add_past(&block, &names, &mut items)?;
        } else {
            items.extend(item(&mut names, &block)?);
        }
    }
    Ok((head, items))
}

/// Reads who wrote an entry, and nothing of what it says.
///
/// # Errors
///
/// See [`EntryError`]; what stands behind the head is not looked at.
pub fn decode_head(bytes: &[u8]) -> Result<Head, EntryError> {
    next_head(bytes, &mut 0)
}

fn next_head(bytes: &[u8], position: &mut usize) -> Result<Head, EntryError> {
    use layout::host_entry as at;

    let block = Block::next(bytes, position).ok_or(EntryError::NoHead)??;
    if block.template != at::TEMPLATE_ID {
        return Err(EntryError::NoHead);
    }
    let flags = block.u8(at::FLAGS);
    Ok(Head {
        host: block.u64(at::HOST),
        number: block.u64(at::NUMBER),
        shards: block.u32(at::SHARDS),
        is_roll: flags & FLAG_ROLL != 0,
        asks: flags & FLAG_ASKS != 0,
        hears: flags & FLAG_HEARS != 0,
        sent_ns: block.u64(at::SENT),
    })
}

/// One item; `None` for a template of a later version.
fn item(names: &mut decode::Decoder, block: &Block<'_>) -> Result<Option<Item>, EntryError> {
    let foreign = EntryError::Foreign {
        template: block.template,
    };
    match block.template {
        layout::host_entry::TEMPLATE_ID => return Err(EntryError::NoHead),
        layout::host_symbol::TEMPLATE_ID => {
            let carried = carried(block)?;
            let id = block.u32(layout::host_symbol::SYMBOL_ID);
            names.name(id, carried.symbol, carried.epoch)?;
            return Ok(Some(Item::Carried(carried)));
        }
        layout::definition::TEMPLATE_ID
        | layout::heartbeat::TEMPLATE_ID
        | layout::cursor::TEMPLATE_ID => return Err(foreign),
        _ => {}
    }
    Ok(match names.reply(block)? {
        Some(Reply::Tick(tick, marks)) if marks == Marks::default() => Some(Item::Tick(tick)),
        Some(Reply::Gap(gap)) if gap.from.and(gap.to).is_some() && gap.replay.is_none() => {
            Some(Item::Gap(gap))
        }
        Some(Reply::Feed { symbol, state }) => Some(Item::Feed { symbol, state }),
        Some(_) => return Err(foreign),
        None => None,
    })
}

fn carried(block: &Block<'_>) -> Result<Carried, SbeError> {
    use layout::host_symbol as at;

    Ok(Carried {
        symbol: Symbol::from_padded(block.array(at::NAME))?,
        numbering: match block.u8(at::NUMBERING) {
            0 => Numbering::Source,
            1 => Numbering::Host,
            _ => return Err(SbeError::BadValue { field: "numbering" }),
        },
        epoch: block.u64(at::EPOCH),
        placed: [block.optional_u64(at::TRADE), block.optional_u64(at::QUOTE)],
        base: [None; 2],
        before: None,
    })
}

/// Adds what a `HostEpoch` says to the name that stands right before it.
fn add_past(
    block: &Block<'_>,
    names: &decode::Decoder,
    items: &mut [Item],
) -> Result<(), EntryError> {
    use layout::host_epoch as at;

    let id = block.u32(at::SYMBOL_ID);
    let (symbol, epoch) = names.defined(id)?;
    let Some(Item::Carried(carried)) = items.last_mut() else {
        return Err(SbeError::UndefinedSymbol { id }.into());
    };
    if (carried.symbol, carried.epoch) != (symbol, epoch) {
        return Err(SbeError::UndefinedSymbol { id }.into());
    }
    carried.base = [at::BASE_TRADE, at::BASE_QUOTE].map(|field| block.optional_u64(field));
    carried.before = block.optional_u64(at::BEFORE).map(|epoch| Ended {
        epoch,
        placed: [at::TRADE, at::QUOTE].map(|field| block.optional_u64(field)),
    });
    Ok(())
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
