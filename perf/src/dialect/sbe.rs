//! tickwire's binary messages (`proto/README.md`, SBE): little-endian blocks back to back, each
//! behind a header of `blockLength`, `templateId`, `schemaId`, `version`, all u16.

use super::{Channel, Event, LostReason, Tick};
use crate::ticks::Symbols;

const SCHEMA_ID: u16 = 29_804;
const HEADER_BYTES: usize = 8;
const FLAG_SNAPSHOT: u8 = 1;
const FLAG_REPLAY: u8 = 2;
const NULL_U32: u32 = u32::MAX;
const NULL_U64: u64 = u64::MAX;

/// What one connection's ids mean. An id names a symbol in one epoch.
#[derive(Debug, Default)]
pub(super) struct Sbe {
    /// By id; ids are small numbers.
    definitions: Vec<Option<Definition>>,
}

#[derive(Clone, Copy, Debug)]
struct Definition {
    symbol: Option<u32>,
    epoch: u64,
}

/// Ids above this are taken for a mistake instead of reserving memory for them.
const IDS_MAX: usize = 1 << 22;

/// A block, read by offset.
struct Block<'a>(&'a [u8]);

impl Block<'_> {
    fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(*self.0.get(at..)?.first_chunk()?))
    }

    fn u32(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.0.get(at..)?.first_chunk()?))
    }

    fn u64(&self, at: usize) -> Option<u64> {
        Some(u64::from_le_bytes(*self.0.get(at..)?.first_chunk()?))
    }
}

/// Null is `None`.
fn present(value: u64) -> Option<u64> {
    (value != NULL_U64).then_some(value)
}

impl Sbe {
    /// Takes one binary message.
    pub(super) fn take(
        &mut self,
        mut message: &[u8],
        symbols: &Symbols,
        each: &mut dyn FnMut(Event) -> Result<(), LostReason>,
    ) -> Result<(), LostReason> {
        while !message.is_empty() {
            let (template, block, rest) =
                split(message).ok_or_else(|| broken("a message that is cut short"))?;
            message = rest;
            let event = match template {
                1 => self.tick(&block, Channel::Trade, 40, 44),
                2 => self.tick(&block, Channel::Quote, 56, 60),
                3 => self.gap(&block),
                6 => self.definition(&block, symbols),
                // Feed, Heartbeat, Cursor, and what later versions bring.
                _ => continue,
            };
            each(event.ok_or_else(|| broken("a block that is too short, or an unknown id"))?)?;
        }
        Ok(())
    }

    fn tick(
        &self,
        block: &Block<'_>,
        channel: Channel,
        skipped_at: usize,
        replay_at: usize,
    ) -> Option<Event> {
        let definition = self.defined(block.u32(0)?)?;
        let flags = block.u8(4)?;
        let outside = flags & (FLAG_SNAPSHOT | FLAG_REPLAY) != 0;
        Some(Event::Tick(Tick {
            channel,
            symbol: definition.symbol,
            epoch: definition.epoch,
            seq: block.u64(8)?,
            ts_us: block.u64(16)? / 1_000,
            skipped: u64::from(block.u32(skipped_at)?),
            accounted: !outside && block.u32(replay_at)? == NULL_U32,
        }))
    }

    fn gap(&self, block: &Block<'_>) -> Option<Event> {
        let symbol = self.defined(block.u32(0)?)?.symbol;
        let channel = match block.u8(4)? {
            0 => Channel::Trade,
            1 => Channel::Quote,
            _ => return None,
        };
        let account = (symbol, channel, block.u64(8)?);
        let gap = Event::Gap(account, present(block.u64(16)?), present(block.u64(24)?));
        Some(if block.u32(32)? == NULL_U32 {
            gap
        } else {
            Event::Aside
        })
    }

    fn definition(&mut self, block: &Block<'_>, symbols: &Symbols) -> Option<Event> {
        let id = block.u32(0)? as usize;
        let epoch = block.u64(8)?;
        let last = [present(block.u64(16)?), present(block.u64(24)?)];
        let name = block.0.get(32..64)?;
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        if id >= IDS_MAX {
            return None;
        }
        if id >= self.definitions.len() {
            self.definitions.resize(id + 1, None);
        }
        let symbol = symbols.index(name);
        self.definitions[id] = Some(Definition { symbol, epoch });
        let start = Event::Start(symbol, epoch, last);
        Some(if block.u32(4)? == NULL_U32 {
            start
        } else {
            Event::Aside
        })
    }

    fn defined(&self, id: u32) -> Option<Definition> {
        *self.definitions.get(id as usize)?
    }
}

/// Template, block and rest of the first SBE message.
fn split(message: &[u8]) -> Option<(u16, Block<'_>, &[u8])> {
    let header = Block(message.get(..HEADER_BYTES)?);
    let block_bytes = usize::from(header.u16(0)?);
    if header.u16(4)? != SCHEMA_ID {
        return None;
    }
    let end = HEADER_BYTES + block_bytes;
    let block = message.get(HEADER_BYTES..end)?;
    Some((header.u16(2)?, Block(block), &message[end..]))
}

fn broken(what: &str) -> LostReason {
    LostReason::NotAMessage(format!("SBE: {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(block_bytes: u16, template: u16) -> Vec<u8> {
        [block_bytes, template, SCHEMA_ID, 0]
            .iter()
            .flat_map(|field| field.to_le_bytes())
            .collect()
    }

    fn definition(id: u32, epoch: u64, trade: u64, name: &str) -> Vec<u8> {
        let mut bytes = header(64, 6);
        bytes.extend(id.to_le_bytes());
        bytes.extend(NULL_U32.to_le_bytes());
        bytes.extend(epoch.to_le_bytes());
        bytes.extend(trade.to_le_bytes());
        bytes.extend(NULL_U64.to_le_bytes());
        let mut padded = [0; 32];
        padded[..name.len()].copy_from_slice(name.as_bytes());
        bytes.extend(padded);
        bytes
    }

    fn trade(id: u32, flags: u8, seq: u64, ts_ns: u64, skipped: u32) -> Vec<u8> {
        let mut bytes = header(48, 1);
        bytes.extend(id.to_le_bytes());
        bytes.extend([flags, 0, 0xfe, 0]);
        bytes.extend(seq.to_le_bytes());
        bytes.extend(ts_ns.to_le_bytes());
        bytes.extend(18_723_i64.to_le_bytes());
        bytes.extend(100_i64.to_le_bytes());
        bytes.extend(skipped.to_le_bytes());
        bytes.extend(NULL_U32.to_le_bytes());
        bytes
    }

    fn gap(id: u32, epoch: u64, from: u64, to: u64) -> Vec<u8> {
        let mut bytes = header(40, 3);
        bytes.extend(id.to_le_bytes());
        bytes.extend([0, 0, 0, 0]);
        for field in [epoch, from, to] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(NULL_U32.to_le_bytes());
        bytes.extend(NULL_U32.to_le_bytes());
        bytes
    }

    fn take(sbe: &mut Sbe, message: &[u8]) -> Result<Vec<Event>, LostReason> {
        let symbols = Symbols::numbered(10);
        let mut events = Vec::new();
        let mut each = |event| {
            events.push(event);
            Ok(())
        };
        sbe.take(message, &symbols, &mut each)?;
        Ok(events)
    }

    #[test]
    fn several_blocks_in_one_message_are_all_taken() {
        let unheard_of = [header(3, 99), vec![1, 2, 3]].concat();
        let message = [
            definition(5, 7, 41, "S0003"),
            unheard_of,
            trade(5, 0, 42, 1_763_776_800_000_123_000, 0),
            gap(5, 7, 43, NULL_U64),
            trade(5, FLAG_SNAPSHOT, 42, 1_000, 2),
        ]
        .concat();
        let tick = Tick {
            channel: Channel::Trade,
            symbol: Some(3),
            epoch: 7,
            seq: 42,
            ts_us: 1_763_776_800_000_123,
            skipped: 0,
            accounted: true,
        };
        let snapshot = Tick {
            ts_us: 1,
            skipped: 2,
            accounted: false,
            ..tick
        };
        let expected = [
            Event::Start(Some(3), 7, [Some(41), None]),
            Event::Tick(tick),
            Event::Gap((Some(3), Channel::Trade, 7), Some(43), None),
            Event::Tick(snapshot),
        ];
        assert_eq!(take(&mut Sbe::default(), &message).unwrap(), expected);
    }

    #[test]
    fn what_is_not_of_the_schema_is_refused() {
        let mut sbe = Sbe::default();
        take(&mut sbe, &definition(1, 1, 0, "S0001")).unwrap();
        let sound = trade(1, 0, 1, 1, 0);
        assert!(take(&mut sbe, &sound).is_ok());
        for cut in 1..sound.len() {
            assert!(take(&mut sbe, &sound[..cut]).is_err(), "{cut}");
        }
        let mut foreign = sound.clone();
        foreign[4] ^= 1;
        assert!(take(&mut sbe, &foreign).is_err(), "another schema");
        assert!(
            take(&mut sbe, &trade(2, 0, 1, 1, 0)).is_err(),
            "an unknown id"
        );
        assert!(take(&mut sbe, &definition(u32::MAX, 1, 0, "S0001")).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            template in 0..8_u16,
            block in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let message = [header(block.len() as u16, template), block].concat();
            let _ = take(&mut Sbe::default(), &message);
        }
    }
}
